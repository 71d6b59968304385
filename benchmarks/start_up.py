"""Processor time of the start of a command, with Python's default search for unreachable objects and with ours.

python benchmarks/start_up.py [--rounds 5]

Each start imports the modules of ``zflipon annotate``. The two kinds alternate; printed are medians.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from resource import RUSAGE_CHILDREN, getrusage
from statistics import median

SETTINGS = {
    "Python's default": "",
    "as in zflipon.cli": "from zflipon.cli.memory import collect_garbage_rarely; collect_garbage_rarely(); ",
}
"""Name of a setting → code that runs first."""

IMPORTS = "import zflipon.workflows.annotate, zflipon.models.adapters"


def main() -> None:
    """Start Python with both settings in turn, and print the medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in SETTINGS}
    for _ in range(rounds + 1):
        for name, first in SETTINGS.items():
            times[name].append(_measure(first + IMPORTS))
    for name, pairs in times.items():
        processor, wall = (
            median(column) for column in zip(*pairs[1:], strict=True)
        )  # the first one reads the disk
        print(f"{name:20} {processor:6.2f} CPU-seconds {wall:6.2f} seconds")


def _measure(code: str) -> tuple[float, float]:
    """Return processor and wall time of a new Python process."""
    before, started = getrusage(RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    after = getrusage(RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used, time.perf_counter() - started


if __name__ == "__main__":
    main()
