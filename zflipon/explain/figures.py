"""The figures of ``zflipon explain``: the logo of a motif and the panels of a locus.

Computes nothing; the data are in `zflipon.explain.motif` and `zflipon.explain.locus`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zflipon.explain.locus import LocusExplanation, LocusTrack
from zflipon.explain.motif import information_content
from zflipon.genome.alphabet import NUCLEOTIDES, base_codes
from zflipon.plots import (
    BLACK,
    DIVERGING_COLOURS,
    NEUTRAL_COLOUR,
    SIGNAL_COLOUR,
    draw_intervals,
    draw_letters,
    draw_signal,
    figure_style,
    hide_spines,
    new_figure,
    position_axis,
    save_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_OMICS_TRACKS = 12
"""Omics tracks that are drawn: those with the largest contributions."""

_OUTLINE = "0.3"
_TOKEN_COLOURS = ("0.82", "0.93")


def draw_motif_logo(matrix: np.ndarray, path: Path) -> None:
    """Draw the sequence logo of a motif.

    Parameters
    ----------
    matrix : numpy.ndarray
        float64, shape (4, width): share of each letter at each position.
    path : Path
        .png, .svg or .pdf.

    Raises
    ------
    MissingExtraError
        If matplotlib or logomaker is not installed.
    OutputError
        If the file cannot be written.
    """
    width = matrix.shape[1]
    with figure_style():
        figure = new_figure(max(3.0, 0.35 * width + 1), 2.0)
        axes = figure.subplots()
        draw_letters(axes, information_content(matrix), 0.5)
        axes.set_ylim(0, 2)
        axes.set_xticks(range(1, width + 1))
        axes.set_xlabel("position (bp)")
        axes.set_ylabel("information (bits)")
        save_figure(figure, path)


def draw_locus(locus: LocusExplanation, path: Path) -> None:
    """Draw the explanation of a locus, one panel below the other.

    Parameters
    ----------
    locus : LocusExplanation
    path : Path
        .png, .svg or .pdf.

    Raises
    ------
    MissingExtraError
        If matplotlib or logomaker is not installed.
    OutputError
        If the extension is unknown, or the file cannot be written.
    """
    bases = locus.end - locus.start
    omics = locus.omics[:_MAX_OMICS_TRACKS]
    heights = [1.4, 1.6, 0.5, 1.0, *(0.35 if track.values is None else 0.8 for track in locus.tracks)]
    if omics:
        heights.append(0.5 + 0.13 * len(omics))
    with figure_style():
        figure = new_figure(max(7.0, min(24.0, 1.8 + 0.11 * bases)), 0.9 + 1.15 * sum(heights))
        panels = list(figure.subplots(len(heights), 1, height_ratios=heights))
        if omics:
            _draw_omics(panels.pop(), omics)
        probability, attribution, tokens, effects, *tracks = panels
        _draw_probability(probability, locus)
        _draw_attribution(attribution, locus)
        _draw_tokens(tokens, locus)
        _draw_effects(effects, locus)
        for axes, track in zip(tracks, locus.tracks, strict=True):
            _draw_track(axes, track, locus.start)
        for axes in panels:
            position_axis(axes, locus.contig, locus.start, locus.end, ticks=max(6, bases // 12))
            if axes is not panels[-1]:
                axes.tick_params(labelbottom=False)
                axes.set_xlabel("")
        figure.align_ylabels(panels)
        save_figure(figure, path)


def _draw_probability(axes: Axes, locus: LocusExplanation) -> None:
    draw_signal(axes, locus.probability, locus.start)
    axes.axhline(locus.threshold, color=NEUTRAL_COLOUR, linewidth=0.8, linestyle="--")
    axes.set_ylim(0, 1)
    axes.set_ylabel("P(Z-DNA)")


def _draw_attribution(axes: Axes, locus: LocusExplanation) -> None:
    heights = np.zeros((len(NUCLEOTIDES), locus.end - locus.start))
    codes = base_codes(locus.sequence)
    known = np.flatnonzero((codes < len(NUCLEOTIDES)) & ~np.isnan(locus.attribution))
    heights[codes[known], known] = locus.attribution[known]
    draw_letters(axes, heights, locus.start)
    axes.set_ylabel("attribution\n(log-odds)")


def _draw_tokens(axes: Axes, locus: LocusExplanation) -> None:
    from matplotlib.patches import Rectangle

    for number, (start, end) in enumerate(locus.tokens):
        colour = _TOKEN_COLOURS[number % 2]
        axes.add_patch(Rectangle((start, 0.15), end - start, 0.7, fc=colour, ec=_OUTLINE, lw=0.6))
        letters = locus.sequence[max(0, start - locus.start) : end - locus.start]
        centre = (max(start, locus.start) + min(end, locus.end)) / 2
        axes.text(
            centre, 0.5, letters, ha="center", va="center", fontsize=5.5, family="monospace", clip_on=True
        )
    axes.set_ylim(0, 1)
    _label_row(axes, "tokens")


def _draw_effects(axes: Axes, locus: LocusExplanation) -> None:
    largest = float(np.nanmax(np.abs(locus.effects))) or 1.0
    image = axes.imshow(
        locus.effects,
        aspect="auto",
        cmap=DIVERGING_COLOURS,
        vmin=-largest,
        vmax=largest,
        interpolation="nearest",
        extent=(locus.start, locus.end, len(NUCLEOTIDES), 0),
    )
    codes = base_codes(locus.sequence)
    known = np.flatnonzero(codes < len(NUCLEOTIDES))
    axes.plot(locus.start + known + 0.5, codes[known] + 0.5, ".", color=BLACK, markersize=1.6)  # reference
    axes.set_yticks([0.5, 1.5, 2.5, 3.5], list(NUCLEOTIDES))
    axes.set_ylabel("replaced by")
    scale = axes.figure.colorbar(image, cax=axes.inset_axes((1.01, 0.0, 0.012, 1.0)))
    scale.set_label("change of P", fontsize=7)
    scale.ax.tick_params(labelsize=6)


def _draw_track(axes: Axes, track: LocusTrack, start: int) -> None:
    if track.values is not None:
        draw_signal(axes, track.values, start, NEUTRAL_COLOUR)
        axes.set_ylabel(track.name)
    elif track.intervals is not None:
        draw_intervals(axes, track.intervals)
        _label_row(axes, track.name)


def _draw_omics(axes: Axes, contributions: Sequence[tuple[str, float]]) -> None:
    names, values = zip(*contributions, strict=True)
    colours = [SIGNAL_COLOUR if value > 0 else NEUTRAL_COLOUR for value in values]
    axes.barh(names, values, color=colours, height=0.7)
    axes.invert_yaxis()
    axes.axvline(0, color=BLACK, linewidth=0.6)
    axes.tick_params(axis="y", labelsize=7, length=0)
    axes.set_xlabel("attribution of omics tracks (log-odds)")


def _label_row(axes: Axes, name: str) -> None:
    """Write the name of a panel without a y axis to its left."""
    axes.set_yticks([])
    axes.set_ylabel(name, rotation=0, ha="right", va="center")
    hide_spines(axes, left=True)
