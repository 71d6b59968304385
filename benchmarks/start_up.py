"""Time of the start and end of a command, with Python's default search for unreachable objects and with ours.

python benchmarks/start_up.py [--rounds 5]

Each start imports the modules of ``zflipon annotate``. The kinds alternate; printed are medians.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from resource import RUSAGE_CHILDREN, getrusage
from statistics import median

IMPORTS = "import zflipon.workflows.annotate, zflipon.models.adapters\n"
START = "from zflipon.cli import memory\nmemory.collect_garbage_rarely()\n"
END = "memory.end_without_collection()\n"

SETTINGS = {
    "Python's default": IMPORTS,
    "rarely at the start": START + IMPORTS,
    "and not at the end": START + IMPORTS + END,
}
"""Name of a setting → program."""


def main() -> None:
    """Start Python with each setting in turn, and print the medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in SETTINGS}
    for _ in range(rounds + 1):
        for name, program in SETTINGS.items():
            times[name].append(_measure(program))
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
