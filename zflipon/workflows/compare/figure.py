"""The figure of a comparison: a Venn diagram of two or three sets, or the sizes of intersections of more sets.

Style and saving are in `zflipon.plots`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zflipon.plots import (
    BLACK,
    GRID_COLOUR,
    NEUTRAL_COLOUR,
    PALETTE,
    SIGNAL_COLOUR,
    figure_style,
    new_figure,
    save_figure,
)
from zflipon.workflows.compare.run import Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_INTERSECTIONS = 20
"""Intersections that the figure shows, the largest ones."""

MAX_POINTS = 20_000
"""Loci that the scatter plot shows: those with the largest changes."""

_CIRCLES = {
    2: [(-0.5, 0.0), (0.5, 0.0)],
    3: [(-0.52, 0.3), (0.52, 0.3), (0.0, -0.6)],
}
"""Number of sets → centres of circles of radius 1."""

_PLACES = {
    2: {(1, 0): (-0.95, 0), (0, 1): (0.95, 0), (1, 1): (0, 0)},
    3: {
        (1, 0, 0): (-0.95, 0.5), (0, 1, 0): (0.95, 0.5), (0, 0, 1): (0, -1.05), (1, 1, 0): (0, 0.65),
        (1, 0, 1): (-0.6, -0.3), (0, 1, 1): (0.6, -0.3), (1, 1, 1): (0, 0.02),
    },
}  # fmt: skip
"""Which sets have the loci → where their number is written."""


def plot_comparison(comparison: Comparison, path: str | Path) -> None:
    """Draw the shared loci of sets, and the values of two sets in each locus; save as PNG, SVG or PDF."""
    counts = intersection_counts(comparison.members)
    number = len(comparison.names)
    with figure_style():
        if number in _CIRCLES:
            figure = new_figure(8.4 if number == 2 else 4.4, 3.8)
            axes = figure.subplots(1, 2 if number == 2 else 1, squeeze=False)[0]
            _draw_venn(axes[0], comparison.names, counts)
            if number == 2:
                _draw_values(axes[1], comparison)
        else:
            shown = min(len(counts), MAX_INTERSECTIONS)
            figure = new_figure(2.6 + 0.34 * shown, 2.6 + 0.28 * number)
            top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[2.2, 0.28 * number])
            _draw_intersections(top, bottom, comparison.names, counts)
        save_figure(figure, path)


def intersection_counts(members: np.ndarray) -> dict[tuple[int, ...], int]:
    """Count the loci of each combination of sets, the largest count first.

    Parameters
    ----------
    members : numpy.ndarray
        bool, shape (loci, sets).

    Examples
    --------
    >>> intersection_counts(np.array([[True, False], [True, True], [True, True]]))
    {(1, 1): 2, (1, 0): 1}
    """
    rows, counts = np.unique(members.astype(int), axis=0, return_counts=True)
    found = {tuple(row): int(count) for row, count in zip(rows.tolist(), counts, strict=True) if any(row)}
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _draw_venn(axes: Axes, names: Sequence[str], counts: dict[tuple[int, ...], int]) -> None:
    from matplotlib.patches import Circle

    centres = _CIRCLES[len(names)]
    for colour, centre in zip(PALETTE, centres, strict=False):
        axes.add_patch(Circle(centre, 1, facecolor=colour, alpha=0.25, linewidth=0))
        axes.add_patch(Circle(centre, 1, fill=False, edgecolor=colour))
    for members, (x, y) in _PLACES[len(names)].items():
        axes.text(x, y, f"{counts.get(members, 0):,}", ha="center", va="center", color=BLACK)
    for number, (name, (x, y)) in enumerate(zip(names, centres, strict=True)):
        total = sum(count for members, count in counts.items() if members[number])
        below = len(names) == 3 and number == 2
        axes.text(
            x + (0 if below else np.sign(x) * 0.35), y + (-1.08 if below else 1.08), f"{name}\n{total:,} loci",
            ha="center", va="top" if below else "bottom", color=PALETTE[number], parse_math=False,
        )  # fmt: skip
    axes.set_xlim(-1.9, 1.9)
    axes.set_ylim(-2.2 if len(names) == 3 else -1.2, 1.8)
    axes.set_aspect("equal")
    axes.axis("off")


def _draw_values(axes: Axes, comparison: Comparison) -> None:
    """Draw the values of two sets in each locus."""
    first, second = comparison.names
    table = comparison.loci.iloc[:MAX_POINTS]
    x, y = (np.nan_to_num(table[name].to_numpy(dtype=float)) for name in (first, second))
    shared = (table["sets"] == 2).to_numpy()
    for chosen, colour, label in ((shared, SIGNAL_COLOUR, "both"), (~shared, PALETTE[1], "one of them")):
        axes.scatter(x[chosen], y[chosen], s=5, color=colour, alpha=0.4, linewidths=0, label=label)
    axes.plot([0, 1], [0, 1], transform=axes.transAxes, color=NEUTRAL_COLOUR, linewidth=0.8, linestyle="--")
    highest = max(1.0, float(x.max(initial=0)), float(y.max(initial=0)))
    lowest = min(0.0, float(x.min(initial=0)), float(y.min(initial=0)))
    margin = 0.03 * (highest - lowest)
    axes.set_xlim(lowest - margin, highest + margin)
    axes.set_ylim(lowest - margin, highest + margin)
    axes.set_aspect("equal")
    axes.set_xlabel(first, parse_math=False)
    axes.set_ylabel(second, parse_math=False)
    axes.set_title("highest value in each locus")
    axes.legend(title="called in", loc="upper left", bbox_to_anchor=(1.01, 1), markerscale=2)


def _draw_intersections(
    top: Axes, bottom: Axes, names: Sequence[str], counts: dict[tuple[int, ...], int]
) -> None:
    shown = list(counts.items())[:MAX_INTERSECTIONS]
    columns = np.arange(len(shown))
    bars = top.bar(columns, [count for _, count in shown], color=SIGNAL_COLOUR, width=0.65)
    top.bar_label(bars, [f"{count:,}" for _, count in shown], fontsize=6, padding=1, rotation=90)
    top.set_ylabel("loci")
    top.margins(y=0.18)
    top.tick_params(axis="x", length=0, labelbottom=False)
    for column, (members, _) in enumerate(shown):
        present = np.flatnonzero(members)
        absent = np.flatnonzero(np.logical_not(members))
        bottom.scatter(np.full(len(absent), column), absent, s=22, color=GRID_COLOUR)
        bottom.scatter(np.full(len(present), column), present, s=22, color=SIGNAL_COLOUR)
        bottom.plot([column, column], [present.min(), present.max()], color=SIGNAL_COLOUR, linewidth=1.2)
    bottom.set_yticks(range(len(names)), list(names), parse_math=False)
    bottom.set_ylim(len(names) - 0.5, -0.5)
    bottom.set_xlim(-0.6, max(len(shown), 1) - 0.4)
    bottom.tick_params(length=0)
    bottom.spines[["left", "bottom"]].set_visible(False)
    bottom.set_xticks([])
