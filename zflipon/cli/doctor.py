"""``zflipon doctor``: whether all is there and agrees, and how fast it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict

import click

from zflipon.cli.options import limit_threads, model_option, threads_option

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
def doctor(model, threads, as_json) -> None:
    """Look at this installation: versions, devices, whether a model is whole, agreement and speed.

    A reference sequence goes through the CPU in float32, and through every other device and precision that there is;
    the speed of each says how long a human genome would take. The exit status is 1 if anything is broken or disagrees.
    """
    limit_threads(threads)
    from zflipon.doctor import examine

    found = examine(model, threads)
    if as_json:
        trials = [{**asdict(trial), "agrees": trial.agrees} for trial in found.trials]
        click.echo(json.dumps({**asdict(found), "trials": trials}, indent=1))
    else:
        click.echo("\n".join(_lines(found)))
    if found.problems:
        raise SystemExit(1)


def _lines(found) -> Iterator[str]:
    from zflipon.doctor import EXTRAS, HUMAN

    yield from _pairs(found.machine)
    yield from _pairs({name: told or "not installed" for name, told in found.packages.items()})
    missing = "not installed: pip install 'zflipon[{}]'"
    yield from _pairs({name: told or missing.format(EXTRAS[name]) for name, told in found.extras.items()})
    yield from _pairs({"devices": ", ".join(found.devices)})
    if found.model:
        told = found.model
        yield ""
        yield from _pairs({
            "model": f"{told['name']} ({told['family']}, {told['parameters']:,} parameters), whole",
            "sha256": told["sha256"] or "",
        })  # fmt: skip
    for trial in found.trials:
        where = f"{trial.device} {trial.precision}"
        if trial.problem:
            yield f"{where:<20}  failed: {trial.problem}"
            continue
        verdict = "agrees" if trial.agrees else "DISAGREES"
        yield (
            f"{where:<20}  {verdict} (largest difference {trial.difference:.4f}, {100 * trial.alike:.2f} % of bases "
            f"called alike); {trial.speed / 1000:,.0f} kb a second, hg38 in {_time(HUMAN / trial.speed)}"
        )
    yield ""
    yield from (f"problem: {problem}" for problem in found.problems)
    if not found.problems:
        yield "all is well"


def _pairs(facts: dict[str, str]) -> Iterator[str]:
    yield from (f"{name:<20}  {text}" for name, text in facts.items())


def _time(seconds: float) -> str:
    """Write a duration as people say it."""
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
