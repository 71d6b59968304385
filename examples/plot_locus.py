"""Draw one locus of a probability track with intervals beneath it, as a genome browser would.

python examples/plot_locus.py TRACK.bw chr:start-end OUT.png [NAME=FILE.bed ...] [--threshold P]
"""

from __future__ import annotations

import argparse

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pyBigWig

from zflipon.genome.interval_files import read_bed
from zflipon.genome.intervals import parse_region

PURPLE = "#4a1486"
COLOURS = [PURPLE, "#1b7837", "0.6"]


def main() -> None:
    """Read the arguments and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("track", help="bigWig of probabilities")
    parser.add_argument("region", help="chr:start-end, 1-based")
    parser.add_argument("out", help="PNG or SVG")
    parser.add_argument("beds", nargs="*", metavar="NAME=FILE.bed", help="intervals to draw beneath")
    parser.add_argument("--threshold", type=float, help="draw a line, and the calls at it")
    arguments = parser.parse_args()

    with pyBigWig.open(arguments.track) as track:
        lengths = track.chroms()
        contig, start, end = parse_region(arguments.region, lengths)
        values = np.array(track.values(contig, start, end))
    rows = [pair.split("=", 1) for pair in arguments.beds]
    intervals = [(name, read_bed(path, lengths).get(contig, np.empty((0, 2)))) for name, path in rows]

    height = 1.8 + 0.28 * len(intervals)
    figure, (upper, lower) = plt.subplots(
        2,
        1,
        figsize=(9, height),
        sharex=True,
        height_ratios=[1.6, 0.05 + 0.3 * len(intervals)],
        layout="constrained",
    )
    upper.fill_between(np.arange(start, end) + 0.5, values, step="mid", color=PURPLE, linewidth=0)
    if arguments.threshold:
        upper.axhline(arguments.threshold, color="0.5", linewidth=0.8, linestyle="--")
        upper.annotate(
            f" called from {arguments.threshold:g}",
            (end, arguments.threshold),
            fontsize=7,
            color="0.4",
            va="center",
        )
    upper.set_ylim(0, 1)
    upper.set_ylabel("P(Z-DNA)")
    upper.spines[["top", "right"]].set_visible(False)
    for row, (_, found) in enumerate(intervals):
        for low, high in found:
            if low < end and high > start:
                lower.broken_barh(
                    [(low, high - low)], (row - 0.32, 0.64), color=COLOURS[min(row, len(COLOURS) - 1)]
                )
    lower.set_yticks(range(len(intervals)), [name for name, _ in intervals])
    lower.set_ylim(len(intervals) - 0.4, -0.6)
    lower.set_xlim(start, end)
    lower.spines[["top", "right", "left"]].set_visible(False)
    lower.tick_params(axis="y", length=0)
    lower.xaxis.set_major_formatter(lambda position, _: f"{position:,.0f}")
    lower.set_xlabel(f"{contig} (bases)")
    figure.savefig(arguments.out, dpi=160)


if __name__ == "__main__":
    main()
