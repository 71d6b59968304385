"""The figures of ``zflipon explain``: the logo of a motif and the panels of a locus.

Computes nothing; the data are in `zflipon.explain.motif` and `zflipon.explain.locus`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zflipon.errors import format_count
from zflipon.explain.locus import LocusExplanation, LocusTrack
from zflipon.explain.motif import Motif, information_content
from zflipon.genome.alphabet import NUCLEOTIDES, base_codes
from zflipon.plots import (
    BLACK,
    BLUE,
    DIVERGING_COLOURS,
    LABEL_COLOUR,
    NEUTRAL_COLOUR,
    SIGNAL_COLOUR,
    base_pairs,
    draw_intervals,
    draw_letters,
    draw_signal,
    figure_style,
    hide_spines,
    new_figure,
    position_axis,
    round_step,
    save_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAX_OMICS_TRACKS = 12
"""Omics tracks that are drawn: those with the largest contributions."""

MAX_TOKENIZED_BASES = 150
"""Longest region whose tokens are drawn; those of a longer one would be too narrow to read."""

LEAST_EFFECT = 0.05
"""Change of the probability that gets the strongest colours if no substitution has a larger one."""

OUTLIER_RATIO = 2.0
"""A letter is clipped at this multiple of the third highest one."""

_MARGIN, _WIDTH_OF_BASE, _WIDTH_OF_DIGIT = 1.8, 0.11, 0.075  # inches
_SMALLEST_WIDTH, _LARGEST_WIDTH = 7.0, 24.0
_OUTLINE = "0.3"
_TOKEN_COLOURS = ("0.82", "0.93")


def draw_motif_logo(motif: Motif, path: Path) -> None:
    """Draw the sequence logo of a motif, corrected for the small number of sites.

    Parameters
    ----------
    motif : Motif
    path : Path
        .png, .svg or .pdf.

    Raises
    ------
    MissingExtraError
        If matplotlib or logomaker is not installed.
    OutputError
        If the file cannot be written.
    """
    width = motif.matrix.shape[1]
    with figure_style():
        figure = new_figure(max(3.0, 0.35 * width + 1), 2.2)
        axes = figure.subplots()
        draw_letters(axes, information_content(motif.matrix, motif.sites), 0.5)
        axes.set_ylim(0, 2)
        axes.set_xticks(range(1, width + 1))
        axes.set_xlabel("position (bp)")
        axes.set_ylabel("information (bits)")
        axes.set_title(format_count(motif.sites, "site"), loc="right", fontsize=8)
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
    with figure_style():
        save_figure(locus_figure(locus), path)


def locus_figure(locus: LocusExplanation) -> Figure:
    """Return the figure of a locus; call it inside `zflipon.plots.figure_style`."""
    bases = locus.end - locus.start
    omics = locus.omics[:_MAX_OMICS_TRACKS]
    has_tokens = bases <= MAX_TOKENIZED_BASES
    heights = [1.4, 1.6, *([0.5] if has_tokens else []), 1.0]
    heights += [0.35 if track.values is None else 0.8 for track in locus.tracks]
    if omics:
        heights.append(0.5 + 0.13 * len(omics))
    width = max(_SMALLEST_WIDTH, min(_LARGEST_WIDTH, _MARGIN + _WIDTH_OF_BASE * bases))
    figure = new_figure(width, 1.1 + 1.15 * sum(heights))
    panels = list(figure.subplots(len(heights), 1, height_ratios=heights))
    if omics:
        _draw_omics(panels.pop(), omics)
    drawn = iter(panels)
    _draw_probability(next(drawn), locus)
    _draw_attribution(next(drawn), locus)
    if has_tokens:
        _draw_tokens(next(drawn), locus)
    _draw_effects(next(drawn), locus)
    for axes, track in zip(drawn, locus.tracks, strict=True):
        _draw_track(axes, track, locus)
    ticks = int((width - _MARGIN) / (_WIDTH_OF_DIGIT * len(f"{locus.end:,}") + 0.25))
    for axes in panels:
        position_axis(axes, locus.contig, locus.start, locus.end, ticks)
        if axes is not panels[-1]:
            axes.tick_params(bottom=False, labelbottom=False)
            axes.spines["bottom"].set_visible(bool(axes.spines["left"].get_visible()))
            axes.set_xlabel("")
    figure.align_ylabels(panels)
    return figure


def _draw_probability(axes: Axes, locus: LocusExplanation) -> None:
    draw_signal(axes, locus.probability, locus.start)
    axes.axhline(locus.threshold, color=NEUTRAL_COLOUR, linewidth=0.8, linestyle="--")
    axes.annotate(
        f"threshold {locus.threshold:g}", (1, locus.threshold), (-2, 2), xycoords=("axes fraction", "data"),
        textcoords="offset points", ha="right", fontsize=7, color=NEUTRAL_COLOUR,
    )  # fmt: skip
    axes.set_ylim(0, 1)
    axes.set_ylabel("probability")
    names = (f"{locus.contig}:{locus.start + 1:,}-{locus.end:,}", locus.assembly, locus.model)
    axes.set_title(", ".join(filter(None, names)), loc="left", fontsize=9, parse_math=False)
    _draw_scale_bar(axes, locus)


def _draw_scale_bar(axes: Axes, locus: LocusExplanation) -> None:
    """Draw a bar of a round number of bases above the right end of the axes."""
    length = round_step(locus.end - locus.start, 8)
    place = {"transform": axes.get_xaxis_transform(), "clip_on": False}
    axes.plot([locus.end - length, locus.end], [1.04, 1.04], color=BLACK, linewidth=2, **place)
    axes.text(locus.end - length / 2, 1.07, base_pairs(length), ha="center", va="bottom", fontsize=7, **place)


def _draw_attribution(axes: Axes, locus: LocusExplanation) -> None:
    heights = np.zeros((len(NUCLEOTIDES), locus.end - locus.start))
    codes = base_codes(locus.sequence)
    known = np.flatnonzero((codes < len(NUCLEOTIDES)) & ~np.isnan(locus.attribution))
    values = locus.attribution[known]
    limit = outlier_limit(values)
    heights[codes[known], known] = values.clip(-limit, limit)
    draw_letters(axes, heights, locus.start)
    for position, value in zip(known.tolist(), values.tolist(), strict=True):
        if abs(value) > limit:  # a clipped letter: an arrow, and its height as text
            side = 1 if value > 0 else -1
            axes.annotate(
                f"{value:.2g}", (locus.start + position + 0.5, side * limit), (0, side * 10),
                textcoords="offset points", ha="center", va="bottom" if side > 0 else "top", fontsize=6,
                arrowprops={"arrowstyle": "<-", "shrinkA": 0, "shrinkB": 0, "linewidth": 0.8},
            )  # fmt: skip
    axes.set_ylabel("attribution\n(log-odds)")


def outlier_limit(values: np.ndarray) -> float:
    """Return the height at which letters are clipped, so that one or two outliers do not flatten the rest.

    Examples
    --------
    >>> outlier_limit(np.array([0.1, 9.0, -0.5, 0.4])), outlier_limit(np.array([9.0, 0.1]))
    (0.8, inf)
    """
    largest = np.sort(np.abs(values))[::-1]
    return OUTLIER_RATIO * float(largest[2]) if len(largest) > 2 and largest[2] > 0 else float("inf")


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
    largest = max(LEAST_EFFECT, float(np.nan_to_num(np.abs(locus.effects)).max()))
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
    axes.plot(locus.start + known + 0.5, codes[known] + 0.5, ".", color=BLACK, markersize=1.6)
    axes.set_title("dot: base of the reference", loc="right", fontsize=7, pad=2)
    axes.set_yticks([0.5, 1.5, 2.5, 3.5], list(NUCLEOTIDES))
    axes.set_ylabel("replaced by")
    scale = axes.figure.colorbar(image, cax=axes.inset_axes((1.01, 0.0, 0.012, 1.0)))
    scale.set_label("change of\nprobability", fontsize=7)
    scale.ax.tick_params(labelsize=6)


def _draw_track(axes: Axes, track: LocusTrack, locus: LocusExplanation) -> None:
    """Draw a track in the colour of its kind: blue for values, green for intervals."""
    if track.values is not None:
        draw_signal(axes, track.values, locus.start, BLUE)
        axes.set_ylabel(track.name, parse_math=False)
    elif track.intervals is not None:
        draw_intervals(axes, track.intervals, LABEL_COLOUR)
        if not len(track.intervals):
            axes.text(
                0.5, 0.5, "none in this region", ha="center", va="center", fontsize=7, color=NEUTRAL_COLOUR,
                transform=axes.transAxes,
            )  # fmt: skip
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
    axes.set_ylabel(name, rotation=0, ha="right", va="center", parse_math=False)
    hide_spines(axes, left=True)
