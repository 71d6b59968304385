"""The figure of the gene context: enrichment of features, distance to the nearest TSS, classes by feature.

Style and saving are in `zflipon.plots`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from zflipon.genome.alternation import CLASSES
from zflipon.plots import (
    NEUTRAL_COLOUR,
    PALETTE,
    SIGNAL_COLOUR,
    figure_style,
    figure_svg,
    new_figure,
    save_figure,
)
from zflipon.workflows.genes.features import FEATURES
from zflipon.workflows.genes.run import GeneReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TSS_RANGE = 10_000
"""Largest distance from a TSS that the figure shows, in bases."""

_BINS = 80


def plot_genes(report: GeneReport, path: str | Path) -> None:
    """Draw the gene context of calls, and save it as PNG, SVG or PDF.

    Parameters
    ----------
    report : GeneReport
    path : str or Path
        Replaced if it exists.
    """
    with figure_style():
        save_figure(_draw(report), path)


def gene_figure_svg(report: GeneReport, name: str) -> str:
    """Return the figure of `plot_genes` as an ``<svg>`` element; `name` is its identifier on the page."""
    with figure_style():
        description = "Enrichment of features, distance from the nearest TSS, and classes by feature"
        return figure_svg(_draw(report), name, description)


def _draw(report: GeneReport) -> Figure:
    with_classes = "class" in report.calls
    figure = new_figure(10.5 if with_classes else 7.2, 3.1)
    axes = figure.subplots(1, 3 if with_classes else 2)
    _draw_enrichment(axes[0], report.enrichment)
    _draw_distances(axes[1], report.calls["tss_distance"])
    if with_classes:
        _draw_classes(axes[2], report.calls)
    return figure


def _draw_enrichment(axes: Axes, table: pd.DataFrame) -> None:
    rows = np.arange(len(table))
    fold = table["fold"].to_numpy(dtype=float)
    valid = np.isfinite(fold) & (fold > 0)
    low = np.maximum(table["fold_low"].to_numpy(dtype=float)[valid], fold[valid] / 100)
    high = table["fold_high"].to_numpy(dtype=float)[valid]
    axes.errorbar(
        fold[valid], rows[valid], xerr=np.maximum([fold[valid] - low, high - fold[valid]], 0),
        fmt="o", color=SIGNAL_COLOUR, capsize=2.5, markersize=5,
    )  # fmt: skip
    axes.axvline(1, color=NEUTRAL_COLOUR, linewidth=0.8, linestyle="--")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    numbers = zip(table["feature"], table["observed"], strict=True)
    labels = [f"{feature} ({number:,})" for feature, number in numbers]
    axes.set_yticks(rows, labels)
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.set_xlabel("fold over shuffled positions (95 % interval)")
    axes.set_title("features of calls (number)")


def _draw_distances(axes: Axes, distances: pd.Series) -> None:
    values = distances.dropna().to_numpy(dtype=np.int64)
    near = values[np.abs(values) <= TSS_RANGE]
    counts, edges = np.histogram(near, bins=_BINS, range=(-TSS_RANGE, TSS_RANGE))
    axes.stairs(counts, edges / 1000, fill=True, color=SIGNAL_COLOUR)
    axes.axvline(0, color=NEUTRAL_COLOUR, linewidth=0.8, linestyle="--")
    axes.set_xlim(-TSS_RANGE / 1000, TSS_RANGE / 1000)
    axes.set_xlabel("distance from the nearest TSS (kb)")
    axes.set_ylabel("calls")
    axes.set_title(f"{len(near):,} of {len(distances):,} calls")


def _draw_classes(axes: Axes, calls: pd.DataFrame) -> None:
    counts = pd.crosstab(calls["feature"], calls["class"])
    counts = counts.reindex(index=list(FEATURES), columns=list(CLASSES), fill_value=0)
    shares = counts.div(counts.sum(axis=1).replace(0, 1), axis=0)
    left = np.zeros(len(FEATURES))
    for number, name in enumerate(CLASSES):
        width = shares[name].to_numpy()
        axes.barh(np.arange(len(FEATURES)), width, left=left, color=PALETTE[number], label=name, height=0.7)
        left += width
    axes.set_yticks(np.arange(len(FEATURES)), list(FEATURES))
    axes.set_ylim(len(FEATURES) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of calls")
    axes.set_title("class of the sequence")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, handlelength=1, columnspacing=1)
