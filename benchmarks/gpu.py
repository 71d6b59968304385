"""Everything that is to be learned about a GPU, with one command in less than nine minutes.

    python benchmarks/gpu.py [--output gpu.json] [--genome GENOME.fa] [--device auto] [--parts speed kernels …]
        [--minutes 9] [--model compact] [--large dnabert2-117m]

Parts, the most important ones first (`benchmarks/gpu_parts.py`): versions and matrix rate; speed of both models, alone
and from FASTA to bigWig, as a share of the matrix rate; bytes of two runs; early exit; agreement with float32 on the
CPU; waits of the host; slowest kernels; training; attributions; compiled models. Without a genome, random DNA is read.

Each part runs in its own process, so that a crash, a lack of memory or a part that hangs costs no other part. Figures
are saved in the JSON file as they come. The table has a verdict where there is a goal. Exit status 1: a part failed or
a goal is not reached.

--quick uses tiny sizes, with which --device cpu takes a minute: it shows that all parts run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

PARTS = (
    "environment",
    "speed",
    "same_bytes",
    "early_exit",
    "doctor",
    "host_waits",
    "kernels",
    "training",
    "attributions",
    "compiled",
)
"""Parts in the order in which they run; the functions are in `gpu_parts`."""

MAX_SECONDS = {"speed": 150, "doctor": 90, "compiled": 120}
"""Part → seconds after which it is stopped."""

DEFAULT_MAX_SECONDS = 60

RANDOM_BASES = 100_000_000
"""Bases of the random DNA; in quick mode `QUICK_BASES`."""

QUICK_BASES = 30_000

FAILURE, MEMORY = "failed", "peak memory, GiB"
"""Names of figures that each part has beside its own: the reason of a failure, and the memory of the GPU."""


class Goal(NamedTuple):
    """A figure that should reach a value.

    Attributes
    ----------
    part : str
    ending : str
        End of the figure's name.
    model : str
        Beginning of the figure's name: ``'model'`` or ``'large'`` for the two models, or empty.
    least : float or bool
        A flag must be equal.
    """

    part: str
    ending: str
    model: str
    least: float | bool


GOALS = (
    Goal("speed", "FASTA to bigWig, Mb/s", "model", 25.0),
    Goal("speed", "share of the matrix rate", "large", 0.45),
    Goal("same_bytes", "two runs", "", True),
    Goal("doctor", "agrees", "", True),
)
"""Goals on one H200. With early exit, no base may be written differently."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts, save the figures and print the table; return the exit status."""
    options = parse(arguments)
    if options.part:
        print(json.dumps(run_part(options)))
        return 0
    with tempfile.TemporaryDirectory(prefix="gpu-") as scratch:
        options.scratch = options.scratch or Path(scratch)
        figures = run_parts(options)
    rows = list(table_rows(figures, options))
    print_table(rows)
    return int(any(row[3] in (FAILURE, "below the goal") for row in rows))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("gpu.json"))
    parser.add_argument("--genome", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--model", default="compact")
    parser.add_argument("--large", default="dnabert2-117m")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--minutes", type=float, default=9.0, help="parts that do not fit are left out")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--same-process", action="store_true", help="run all parts in this process")
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--part", help=argparse.SUPPRESS)  # set in the process of a part
    return parser.parse_args(arguments)


def run_parts(options: argparse.Namespace) -> dict[str, dict]:
    """Run all parts and save the figures after each of them.

    Returns
    -------
    dict
        Part → name of a figure → value. A part that failed has the figure `FAILURE`.
    """
    started = time.monotonic()
    if options.genome is None:
        from gpu_setup import GENOME, write_genome

        write_genome(options.scratch / GENOME, QUICK_BASES if options.quick else RANDOM_BASES)
    figures: dict[str, dict] = {}
    for name in options.parts:
        left = 60 * options.minutes - (time.monotonic() - started)
        limit = min(left, MAX_SECONDS.get(name, DEFAULT_MAX_SECONDS))
        print(f"{name} …", file=sys.stderr, flush=True)
        before = time.monotonic()
        if left < 10:
            figures[name] = {FAILURE: "no time left"}
        elif options.same_process:
            figures[name] = run_part(argparse.Namespace(**{**vars(options), "part": name}))
        else:
            figures[name] = run_in_process(options, name, limit)
        figures[name]["seconds"] = round(time.monotonic() - before, 1)
        save(options, figures)
    return figures


def run_in_process(options: argparse.Namespace, name: str, limit: float) -> dict[str, Any]:
    """Run a part in a process and return its figures, or why it failed."""
    command = [sys.executable, __file__, "--part", name, "--scratch", options.scratch]
    command += ["--device", options.device, "--model", options.model, "--large", options.large]
    command += ["--genome", options.genome] if options.genome else []
    command += ["--quick"] if options.quick else []
    try:
        result = subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, timeout=limit
        )
    except subprocess.TimeoutExpired:
        return {FAILURE: f"stopped after {limit:.0f} s"}
    lines = result.stdout.strip().splitlines()
    if result.returncode or not lines:
        errors = result.stderr.strip().splitlines() or [f"exit status {result.returncode}"]
        return {FAILURE: errors[-1]}
    return json.loads(lines[-1])


def run_part(options: argparse.Namespace) -> dict[str, Any]:
    """Run a part in this process and return its figures, or why it failed."""
    import torch
    from gpu_parts import PARTS as FUNCTIONS
    from gpu_setup import Setup

    setup = Setup(
        options.device, options.scratch, options.model, options.large, options.genome, options.quick
    )
    try:
        figures: dict[str, Any] = dict(FUNCTIONS[options.part](setup))
    except Exception as error:  # whatever a part raises, the others run
        return {FAILURE: f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
    if setup.torch_device.type == "cuda":
        figures[MEMORY] = torch.cuda.max_memory_allocated(setup.torch_device) / 2**30
    return figures


def save(options: argparse.Namespace, figures: dict[str, dict]) -> None:
    """Write all figures so far."""
    settings = {name: str(getattr(options, name)) for name in ("device", "model", "large", "genome", "quick")}
    part = options.output.with_name(options.output.name + ".part")
    part.write_text(json.dumps({"settings": settings, "parts": figures}, indent=1, ensure_ascii=False) + "\n")
    part.replace(options.output)


def table_rows(figures: dict[str, dict], options: argparse.Namespace) -> Iterator[tuple[str, str, str, str]]:
    """Yield part, figure, value and verdict of each figure."""
    for part, values in figures.items():
        for name, value in values.items():
            text = f"{value:.4g}" if isinstance(value, float) else str(value)
            yield part, name, text, verdict(part, name, value, options)


def verdict(part: str, name: str, value: Any, options: argparse.Namespace) -> str:
    """Return whether a figure reaches its goal; empty if it has no goal. Quick mode has goals of correctness only."""
    if name == FAILURE:
        return FAILURE
    if part == "early_exit" and name.endswith("bases written differently"):
        return "ok" if value == 0 else "below the goal"
    for goal in GOALS:
        model = {"model": options.model, "large": options.large}.get(goal.model, "")
        if goal.part != part or not name.endswith(goal.ending) or not name.startswith(model):
            continue
        is_flag = isinstance(goal.least, bool)
        if options.quick and not is_flag:
            return ""
        return "ok" if (value == goal.least if is_flag else value >= goal.least) else "below the goal"
    return ""


def print_table(rows: Sequence[tuple[str, str, str, str]]) -> None:
    """Print rows as a Markdown table."""
    print("| part | figure | value | goal |\n|---|---|---|---|")
    for part, name, value, reached in rows:
        print(f"| {part} | {name.replace('|', '/')} | {value} | {reached} |")


if __name__ == "__main__":
    sys.exit(main())
