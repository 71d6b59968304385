"""``zflipon doctor``: whether all is there and agrees, and how fast it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict

import click

from zflipon.cli.options import limit_threads, model_option, quiet_option, threads_option

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
    """Look at this installation: versions, devices, whether a model is whole, agreement and speed.

    A reference sequence goes through the CPU in float32, and through every other device and precision that there is;
    the speed of each says how long a human genome would take. The exit status is 1 if anything is broken or disagrees.
    """
    limit_threads(threads)
    from zflipon.workflows.environment import look

    environment, found = look(), None
    problems = list(environment.problems)
    if not problems:  # else there is nothing to compute with
        from zflipon.workflows.doctor import examine

        found = examine(model, threads, quiet)
        problems += found.problems
    if as_json:
        click.echo(json.dumps({**asdict(environment), **_plain(found), "problems": problems}, indent=1))
    else:
        click.echo("\n".join([*_installed(environment), *_examined(found), "", *_verdict(problems)]))
    if problems:
        raise SystemExit(1)


def _plain(found) -> dict:
    if found is None:
        return {}
    trials = [{**asdict(trial), "agrees": trial.agrees} for trial in found.trials]
    return {**asdict(found), "trials": trials}


def _installed(environment) -> Iterator[str]:
    from zflipon.workflows.environment import EXTRAS

    yield from _pairs(environment.machine)
    yield from _pairs({name: told or "not installed" for name, told in environment.packages.items()})
    missing = "not installed; if you want it: pip install 'zflipon[{}]'"
    yield from _pairs({
        name: told or missing.format(EXTRAS[name]) for name, told in environment.extras.items()
    })  # fmt: skip


def _examined(found) -> Iterator[str]:
    if found is None:
        return
    yield from _pairs(found.devices)
    if found.model:
        yield ""
        yield from _pairs(_model(found.model))
    yield from (_trial(trial) for trial in found.trials)
    if any(trial.default for trial in found.trials):
        yield "* what a run takes on this device by itself"


def _model(told: dict) -> dict[str, str]:
    recorded = (
        "as recorded when they were saved" if told["sha256_recorded"] else "no record to hold it against"
    )
    facts = {
        "model": f"{told['name']} ({told['family']}) in {told['folder']}",
        "weights": f"whole: {told['parameters']:,} parameters in {told['tensors']} tensors",
        "sha256": f"{told['sha256']} ({recorded})",
        "tokenizer": f"there: {told['tokens']:,} tokens",
    }
    if "called" in told:
        facts["reference"] = f"{told['called']:,} bases called"
    return facts


def _trial(trial) -> str:
    from zflipon.workflows.doctor import HUMAN

    where = f"{trial.device} {trial.precision}{'*' if trial.default else ''}"
    if trial.problem:
        return f"{where:<20}  failed: {trial.problem}"
    verdict = "agrees" if trial.agrees else "DISAGREES"
    return (
        f"{where:<20}  {verdict} (largest difference {trial.difference:.4f}, {100 * trial.alike:.2f} % of bases "
        f"called alike); {_speed(trial.speed)}, hg38 in {_time(HUMAN / trial.speed)}"
    )


def _verdict(problems: list[str]) -> Iterator[str]:
    yield from (f"problem: {problem}" for problem in problems)
    if not problems:
        yield "all is well"


def _pairs(facts: dict[str, str]) -> Iterator[str]:
    yield from (f"{name:<20}  {text}" for name, text in facts.items())


def _speed(bases: float) -> str:
    return f"{bases / 1e6:,.1f} Mb a second" if bases >= 1e6 else f"{bases / 1000:,.3g} kb a second"


def _time(seconds: float) -> str:
    """Write a duration as people say it."""
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
