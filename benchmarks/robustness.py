"""Try to break zflipon: damaged inputs, kills, failing writes, hostile pickles, names and requests.

    python benchmarks/robustness.py                         # all: 60 damaged inputs of each kind and 60 kills
    python benchmarks/robustness.py --only inputs --cases 500 --class FASTA --keep faults
    python benchmarks/robustness.py --only kills --kills 1000

Prints a row for each class: cases that were tried, were fine, and are faults. Fine are a message of one line with a
status other than 0 (refused), the result of the clean input (same), and another result that follows from the damaged
input (other). Faults are tracebacks, signals, more than 60 s of CPU, more than 4 GB, damaged or temporary files that
stay, and a wrong result without a message. The status is 1 if there is a fault. tests/robustness/ has the harness.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # children are forks: threads of their parent would be missing
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from robustness import attacks, runner
from robustness.fuzzing import fuzz
from robustness.inputs import CLASSES
from robustness.kills import kill_runs
from robustness.reports import Report


def main() -> int:
    """Run the chosen parts, print their reports, and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = ("inputs", "kills", "writes", "pickles", "names", "requests")
    parser.add_argument("--only", nargs="*", choices=parts, default=parts)
    parser.add_argument("--cases", type=int, default=60, help="damaged inputs of each class")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the first damaged input, and of the kills"
    )
    parser.add_argument("--kills", type=int, default=60, help="kills in all")
    parser.add_argument("--class", dest="classes", nargs="*", help="kinds of input, by name; all by default")
    parser.add_argument("--keep", type=Path, help="folder for the damaged inputs that are faults")
    options = parser.parse_args()
    classes = [kind for kind in CLASSES if not options.classes or kind.name in options.classes]
    runner.preload()

    def show(line: str) -> None:
        print(line, flush=True)

    runs = {
        "inputs": lambda: fuzz(classes, options.cases, options.seed, options.keep, show),
        "writes": lambda: (
            report for run in (attacks.limited_writes, attacks.full_disk) for report in run(show=show)
        ),
        "pickles": lambda: attacks.pickles(show),
        "names": lambda: attacks.injections(show),
        "requests": lambda: attacks.requests(show=show),
        "kills": lambda: kill_runs(options.kills, seed=options.seed, show=show),
    }
    total = Report("all")
    print(Report.HEADER, flush=True)
    for name, run in runs.items():
        for report in run() if name in options.only else ():
            print(report, flush=True)
            for field in ("tried", "refused", "same", "other"):
                setattr(total, field, getattr(total, field) + getattr(report, field))
            total.faults += report.faults
    print(total)
    return int(bool(total.faults))


if __name__ == "__main__":
    raise SystemExit(main())
