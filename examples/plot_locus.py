"""Draw one region of a probability track with intervals below it, like a genome browser.

python examples/plot_locus.py TRACK.bw chr:start-end OUT.png [NAME=FILE.bed ...] [--threshold P]
"""

from __future__ import annotations

import argparse

import numpy as np

from zflipon.genome.interval_files import read_bed
from zflipon.genome.intervals import parse_region
from zflipon.plots import (
    LABEL_COLOUR,
    NEUTRAL_COLOUR,
    SIGNAL_COLOUR,
    draw_intervals,
    draw_signal,
    figure_style,
    new_figure,
    position_axis,
    save_figure,
)
from zflipon.tracks.bigwig import BigWig

INTERVAL_COLOURS = (SIGNAL_COLOUR, LABEL_COLOUR, NEUTRAL_COLOUR)
"""Colours of the first, the second and all further rows of intervals."""


def main() -> None:
    """Read the arguments and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("track", help="bigWig of probabilities")
    parser.add_argument("region", help="chr:start-end, 1-based")
    parser.add_argument("out", help="figure to write: .png, .svg or .pdf")
    parser.add_argument("beds", nargs="*", metavar="NAME=FILE.bed", help="intervals to draw below the track")
    parser.add_argument("--threshold", type=float, help="draw a line at the threshold of calls")
    arguments = parser.parse_args()

    with BigWig(arguments.track) as track:
        contig, start, end = parse_region(arguments.region, track.lengths)
        values = track.values(contig, start, end)
        named_files = [pair.split("=", 1) for pair in arguments.beds]
        intervals = {
            name: read_bed(path, track.lengths).get(contig, np.empty((0, 2))) for name, path in named_files
        }

    with figure_style():
        figure = new_figure(9, 1.8 + 0.3 * len(intervals))
        axes = figure.subplots(
            1 + len(intervals), 1, sharex=True, squeeze=False, height_ratios=[4, *[0.8] * len(intervals)]
        )[:, 0]
        draw_signal(axes[0], values, start)
        if arguments.threshold:
            axes[0].axhline(arguments.threshold, color=NEUTRAL_COLOUR, linewidth=0.8, linestyle="--")
            axes[0].set_title(
                f"dashed line: threshold of calls, {arguments.threshold:g}", loc="right", fontsize=8
            )
        axes[0].set_ylim(0, 1)
        axes[0].set_ylabel("probability")
        for row, (name, rows) in enumerate(intervals.items()):
            overlapping = rows[(rows[:, 0] < end) & (rows[:, 1] > start)]
            colour = INTERVAL_COLOURS[min(row, len(INTERVAL_COLOURS) - 1)]
            draw_intervals(axes[1 + row], overlapping, colour)
            axes[1 + row].set_ylabel(name, rotation=0, ha="right", va="center")
        for above in axes[:-1]:  # one axis of positions is enough
            above.tick_params(bottom=False)
            above.spines["bottom"].set_visible(above is axes[0])
        position_axis(axes[-1], contig, start, end)
        save_figure(figure, arguments.out)


if __name__ == "__main__":
    main()
