"""Measure how fast Z-HUNT runs: bases a second on one core, on a GPU, and by the reference program if given.

python benchmarks/zhunt_speed.py [--bases 1000000] [--program ./zhunt] [--program-bases 50000]

The program is called as ``zhunt WINDOW MIN MAX FILE``, all three in dinucleotides, as in its usage message.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from zflipon.energetics import zhunt


def main() -> None:
    """Time random DNA and print the rates and their ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bases", type=int, default=1_000_000)
    parser.add_argument("--program")
    parser.add_argument("--program-bases", type=int, default=50_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sequence = "".join(np.random.default_rng(1).choice(list("ACGT"), arguments.bases))
    rates = {"one core": rate(lambda: zhunt.scores(sequence), len(sequence))}
    if torch.cuda.is_available():
        zhunt.scores(sequence[:1000], device="cuda")  # start the GPU
        rates["GPU"] = rate(lambda: zhunt.scores(sequence, device="cuda"), len(sequence))
    reference = (
        program_rate(arguments.program, sequence[: arguments.program_bases]) if arguments.program else None
    )
    if reference:
        print(f"reference program: {reference / 1e6:.3f} Mb/s")
    for name, speed in rates.items():
        comparison = f", {speed / reference:.1f} x the program" if reference else ""
        print(f"{name}: {speed / 1e6:.2f} Mb/s{comparison}")


def rate(run, bases: int) -> float:
    """Return the bases a second that a call processes."""
    started = time.perf_counter()
    run()
    return bases / (time.perf_counter() - started)


def program_rate(program: str, sequence: str) -> float:
    """Return the bases a second of the reference program, including its start and output."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sequence.txt"
        path.write_text("\n".join(sequence[at : at + 60] for at in range(0, len(sequence), 60)))
        most, least = zhunt.MAX_DINUCLEOTIDES, zhunt.MIN_DINUCLEOTIDES
        command = [str(Path(program).resolve()), str(most), str(least), str(most), str(path)]
        return rate(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL), len(sequence))


if __name__ == "__main__":
    main()
