"""``zflipon doctor``: check the installation, a model, and every device.

The checks are in `zflipon.workflows.environment` and `zflipon.workflows.doctor`; here they are printed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from zflipon.cli.options import limit_threads, model_option, print_line, quiet_option, threads_option

if TYPE_CHECKING:
    from zflipon.workflows.doctor import Report, Trial
    from zflipon.workflows.environment import Environment

EPILOG = """\b
Examples:
  zflipon doctor
  zflipon doctor --model runs/dnabert2
  zflipon doctor --json > doctor.json
"""


@click.command(epilog=EPILOG)
@model_option
@threads_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@quiet_option
def doctor(model, threads, as_json, quiet) -> None:
    """Check the installation, a model and every device.

    Prints the versions of all packages, verifies the files of the model, predicts reference sequences on each device
    in each precision, and compares the results with float32 on the CPU. The measured speed of each device is also
    given as the time for a human genome. The exit status is 1 if there is any problem.
    """
    limit_threads(threads)
    from zflipon.workflows.environment import inspect_environment

    environment, report = inspect_environment(), None
    problems = list(environment.problems)
    if not problems:  # the model cannot be run without its packages
        report = _check_model(model, threads, quiet)
        problems += report.problems
    if as_json:
        print_line(json.dumps({**asdict(environment), **_to_dict(report), "problems": problems}, indent=1))
    else:
        lines = [*_environment_lines(environment), *_report_lines(report), "", *_verdict_lines(problems)]
        print_line("\n".join(lines))
    if problems:
        raise SystemExit(1)


def _check_model(model: str, threads: int | None, quiet: bool) -> Report:
    from zflipon.progress import progress_bar, progress_callback
    from zflipon.workflows.doctor import check_model

    with progress_bar("trials", quiet=quiet) as bar:
        return check_model(model, threads, progress_callback(bar))


def _to_dict(report: Report | None) -> dict:
    if report is None:
        return {}
    trials = [{**asdict(trial), "agrees": trial.agrees} for trial in report.trials]
    return {**asdict(report), "trials": trials}


def _environment_lines(environment: Environment) -> Iterator[str]:
    from zflipon.workflows.environment import EXTRAS

    yield from _pairs(environment.machine)
    yield from _pairs({name: version or "not installed" for name, version in environment.packages.items()})
    yield from _pairs({
        name: version or f"not installed; optional: pip install 'zflipon[{EXTRAS[name]}]'"
        for name, version in environment.extras.items()
    })  # fmt: skip


def _report_lines(report: Report | None) -> Iterator[str]:
    if report is None:
        return
    yield from _pairs(report.devices)
    if report.model:
        yield ""
        yield from _pairs(_model_facts(report.model))
    yield from (_trial_line(trial) for trial in report.trials)
    if any(trial.default for trial in report.trials):
        yield "* chosen by --precision auto on this device"


def _model_facts(model: dict) -> dict[str, str]:
    recorded = (
        "as recorded in its config.json" if model["sha256_recorded"] else "not recorded, so not verified"
    )
    facts = {
        "model": f"{model['name']} ({model['family']}) in {model['folder']}",
        "weights": f"complete: {model['parameters']:,} parameters in {model['tensors']} tensors",
        "sha256": f"{model['sha256']} ({recorded})",
        "tokenizer": f"complete: {model['tokens']:,} tokens",
    }
    if "called" in model:
        facts["reference"] = f"{model['called']:,} bases called"
    return facts


def _trial_line(trial: Trial) -> str:
    from zflipon.workflows.doctor import HUMAN_GENOME_BASES

    where = f"{trial.device} {trial.precision}{'*' if trial.default else ''}"
    if trial.problem or trial.speed is None or trial.difference is None or trial.alike is None:
        return f"{where:<20}  failed: {trial.problem}"
    verdict = "agrees" if trial.agrees else "DISAGREES"
    return (
        f"{where:<20}  {verdict} (largest difference {trial.difference:.4f}, same call for {100 * trial.alike:.2f} % "
        f"of bases); {_format_speed(trial.speed)}, hg38 in {_format_duration(HUMAN_GENOME_BASES / trial.speed)}"
    )


def _verdict_lines(problems: list[str]) -> Iterator[str]:
    yield from (f"problem: {problem}" for problem in problems)
    if not problems:
        yield "no problems found"


def _pairs(facts: dict[str, str]) -> Iterator[str]:
    yield from (f"{name:<20}  {text}" for name, text in facts.items())


def _format_speed(bases: float) -> str:
    return f"{bases / 1e6:,.1f} Mb/s" if bases >= 1e6 else f"{bases / 1000:,.3g} kb/s"


def _format_duration(seconds: float) -> str:
    """Return a duration in its largest fitting unit."""
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
