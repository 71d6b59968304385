"""Compare zflipon's bigWig writer with pyBigWig: time, peak memory and size of the file.

Two tracks: one long contig with short runs, as Z-HUNT gives, and many contigs with few entries. Each is written in a
separate process.

    python benchmarks/bigwig_writing.py --bases 40000000 --contigs 1000 10000 100000
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyBigWig

from zflipon.tracks.bigwig_writer import BigWigWriter

CHUNK = 1 << 20
"""Bases of one call of a writer."""

Runs = tuple[str, np.ndarray, np.ndarray, np.ndarray]


def long_track(bases: int) -> Iterator[Runs]:
    """Yield runs of 1 to 8 bases with values of three decimals."""
    rng, start = np.random.default_rng(0), 0
    while start < bases:
        ends = start + np.cumsum(rng.integers(1, 9, CHUNK // 5))
        ends = ends[ends <= bases]
        if not len(ends):
            return
        yield "chr1", np.r_[start, ends[:-1]], ends, rng.integers(0, 1000, len(ends)) / 1000
        start = int(ends[-1])


def many_tracks(contigs: int) -> Iterator[Runs]:
    """Yield ten runs on each contig."""
    starts, rng = np.arange(0, 1000, 100), np.random.default_rng(0)
    for number in range(contigs):
        yield f"contig_{number}", starts, starts + 50, rng.integers(0, 1000, len(starts)) / 1000


def write_with_zflipon(path: str, lengths: dict[str, int], runs: Iterator[Runs]) -> None:
    """Write with `zflipon.tracks.bigwig_writer`."""
    writer = BigWigWriter(Path(path), lengths)
    for contig, starts, ends, values in runs:
        writer.add_runs(contig, starts, ends, values)
    writer.finish()
    writer.release()


def write_with_pybigwig(path: str, lengths: dict[str, int], runs: Iterator[Runs]) -> None:
    """Write with pyBigWig."""
    with pyBigWig.open(path, "w") as file:
        file.addHeader(list(lengths.items()))
        for contig, starts, ends, values in runs:
            file.addEntries([contig] * len(starts), starts, ends=ends, values=values)


def measure(write, lengths: dict[str, int], runs: Iterator[Runs]) -> str:
    """Run a writer in a child process and return its time, memory and size of file."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "a.bw")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        child = os.fork()
        if child == 0:
            write(path, lengths, runs)
            os._exit(0)
        started = time.perf_counter()
        _, status, usage = os.wait4(child, 0)
        seconds, cpu = time.perf_counter() - started, usage.ru_utime + usage.ru_stime
        if status:
            return f"failed (status {status})"
        size = os.path.getsize(path)
    added = max(0, usage.ru_maxrss - before) / 1024
    return f"{cpu:8.1f} s CPU {seconds:8.1f} s {added:8.0f} MB of memory {size / 1e6:8.1f} MB file"


def main() -> None:
    """Print one line for each writer and track."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bases", type=int, nargs="*", default=[10_000_000, 40_000_000])
    parser.add_argument("--contigs", type=int, nargs="*", default=[1000, 10_000])
    options = parser.parse_args()
    writers = {"zflipon": write_with_zflipon, "pyBigWig": write_with_pybigwig}
    for bases in options.bases:
        for name, write in writers.items():
            print(
                f"{bases:11,} bases   {name:9}",
                measure(write, {"chr1": bases}, long_track(bases)),
                flush=True,
            )
    for contigs in options.contigs:
        lengths = {f"contig_{number}": 1000 for number in range(contigs)}
        for name, write in writers.items():
            print(
                f"{contigs:11,} contigs {name:9}", measure(write, lengths, many_tracks(contigs)), flush=True
            )


if __name__ == "__main__":
    main()
