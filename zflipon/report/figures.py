"""Figures of the HTML report as inline SVG: histograms, the calls along the contigs, and their density by contig.

Style and SVG output are in `zflipon.plots`; tables of the report are in `zflipon.report.page`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from zflipon.plots import (
    GRID_COLOUR,
    NEUTRAL_COLOUR,
    SIGNAL_COLOUR,
    base_pairs,
    figure_style,
    figure_svg,
    new_figure,
    round_step,
)

BINS = 400
"""Bins of the longest contig in `calls_along_contigs`."""

SMALLEST_BIN = 100
"""Bases."""

NAME_LENGTH = 24
"""Characters of a contig name that a figure shows."""


def histogram(
    name: str, counts: Sequence[int], edges: Sequence[float], x_label: str, y_label: str, log: bool = False
) -> str:
    """Return a histogram as an ``<svg>`` element.

    Parameters
    ----------
    name : str
        Identifier of the element, unique on the page.
    counts : sequence of int
    edges : sequence of float
        One more than there are counts.
    x_label, y_label : str
    log : bool
        Logarithmic y axis; linear below 1, so that 0 is on it.
    """
    with figure_style():
        figure = new_figure(4.9, 2.1)
        axes = figure.subplots()
        axes.stairs(counts, edges, fill=True, color=SIGNAL_COLOUR)
        axes.set_xlim(edges[0], edges[-1])
        if log:
            axes.set_yscale("symlog", linthresh=1)
        else:
            axes.locator_params(axis="y", integer=True)
        axes.set_ylim(0, max(1, max(counts, default=1)) * (2 if log else 1.05))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        return figure_svg(figure, name, f"Histogram: {y_label} by {x_label}")


def bin_counts(
    lengths: Mapping[str, int], calls: Mapping[str, np.ndarray]
) -> tuple[int, dict[str, np.ndarray]]:
    """Count calls in bins along contigs.

    Parameters
    ----------
    lengths : mapping of str to int
        The contigs to count on, at least one.
    calls : mapping of str to numpy.ndarray
        Contig → `zflipon.tracks.calling.CALL_DTYPE`; contigs may be absent.

    Returns
    -------
    size : int
        Bases of a bin: 1, 2 or 5 times a power of ten, such that the longest contig has at most `BINS` bins.
    counts : dict of str to numpy.ndarray
        Contig → number of calls whose middle is in each bin, int64, shape (bins,).
    """
    size = max(round_step(max(lengths.values()), BINS), SMALLEST_BIN)
    counts = {}
    for contig, length in lengths.items():
        rows = calls.get(contig)
        middles = (rows["start"] + rows["end"]) // 2 if rows is not None else np.empty(0, np.int64)
        counts[contig] = np.bincount(middles // size, minlength=-(-length // size))
    return size, counts


def density_by_contig(
    name: str, contigs: Sequence[str], calls: np.ndarray, bases: np.ndarray, mean: float
) -> str:
    """Return calls per Mb of contigs, with 95 % intervals of a Poisson count, as an ``<svg>`` element.

    Parameters
    ----------
    name : str
        Identifier of the element, unique on the page.
    contigs : sequence of str
        From left to right.
    calls, bases : numpy.ndarray
        int64, shape (contigs,).
    mean : float
        Calls per Mb of all contigs, drawn as a line.
    """
    valid = bases > 0
    scale = 1e6 / np.where(valid, bases, 1)
    density, (low, high) = calls * scale, poisson_limits(calls) * scale
    places = np.arange(len(contigs))
    with figure_style():
        figure = new_figure(10, 2.3)
        axes = figure.subplots()
        errors = [(density - low)[valid], (high - density)[valid]]
        axes.errorbar(
            places[valid], density[valid], yerr=errors, fmt="o", color=SIGNAL_COLOUR, capsize=2, markersize=4
        )
        axes.axhline(mean, color=NEUTRAL_COLOUR, linewidth=0.8, linestyle="--")
        axes.set_ylim(bottom=0)
        axes.set_xlim(-0.6, len(contigs) - 0.4)
        rotation = 0 if len(contigs) <= 8 else 60
        axes.set_xticks(
            places, [shorten(contig) for contig in contigs], rotation=rotation, parse_math=False,
            ha="right" if rotation else "center", rotation_mode="anchor" if rotation else "default",
        )  # fmt: skip
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        axes.set_ylabel("calls per Mb")
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        return figure_svg(figure, name, "Calls per Mb by contig")


def poisson_limits(counts: np.ndarray) -> np.ndarray:
    """Return the 95 % limits of the means of Poisson counts, by Byar's approximation: shape (2, n).

    Examples
    --------
    >>> poisson_limits(np.array([0, 10])).round(2).tolist()
    [[0.0, 4.79], [3.67, 18.39]]
    """
    above = counts + 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        low = counts * (1 - 1 / (9.0 * counts) - 1.96 / (3 * np.sqrt(counts))) ** 3
    high = above * (1 - 1 / (9 * above) + 1.96 / (3 * np.sqrt(above))) ** 3
    return np.stack([np.where(counts > 0, low, 0), high])


def shorten(contig: str) -> str:
    """Return a contig's name with at most `NAME_LENGTH` characters."""
    return contig if len(contig) <= NAME_LENGTH else contig[: NAME_LENGTH - 1] + "…"


def calls_along_contigs(
    name: str, lengths: Mapping[str, int], counts: Mapping[str, np.ndarray], size: int
) -> str:
    """Return the number of calls along contigs as an ``<svg>`` element: a row for each contig, all on one scale.

    Parameters
    ----------
    name : str
        Identifier of the element, unique on the page.
    lengths : mapping of str to int
        Contigs to draw.
    counts : mapping of str to numpy.ndarray
        As `bin_counts` returns them.
    size : int
        Bases of a bin.
    """
    highest = max(1, *(int(row.max(initial=0)) for row in counts.values()))
    longest = max(lengths.values())
    with figure_style():
        figure = new_figure(10, 0.7 + 0.26 * len(lengths))
        axes = figure.subplots()
        for row, (contig, length) in enumerate(lengths.items()):
            edges = np.minimum(np.arange(len(counts[contig]) + 1) * size, length)
            axes.plot([0, length], [row, row], color=GRID_COLOUR, linewidth=0.8)
            heights = row - 0.85 * counts[contig] / highest
            axes.stairs(heights, edges, baseline=row, fill=True, color=SIGNAL_COLOUR)
        axes.set_yticks(range(len(lengths)), [shorten(contig) for contig in lengths], parse_math=False)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(lengths) - 0.6, -1)
        axes.set_xlim(0, longest)
        ticks = range(0, longest + 1, round_step(longest, 8))
        axes.set_xticks(ticks, [base_pairs(tick) if tick else "0" for tick in ticks])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("position")
        return figure_svg(figure, name, "Number of calls along the contigs")
