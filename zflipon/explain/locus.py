"""One picture of a locus: the call, the bases and tokens that made it, what each substitution would change, and tracks.

All panels share the bases of the region. The probability is that of the track; attributions are those of the calls
in it; tokens and substitutions are of one window in whose middle the region lies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from zflipon.config import Selection
from zflipon.errors import InputError
from zflipon.explain.attribution import Attribution, Attributor
from zflipon.explain.logo import check_picture, draw_letters, new_figure
from zflipon.explain.mutagenesis import around, mutagenesis
from zflipon.explain.token_tables import attribution_track
from zflipon.genome.alphabet import NUCLEOTIDES, base_codes
from zflipon.genome.fasta import Genome
from zflipon.genome.interval_files import read_bed
from zflipon.genome.shards import make_plan
from zflipon.inference.genome_scan import predict_windows
from zflipon.inference.predictor import Predictor
from zflipon.tracks.atomic import atomic_file
from zflipon.tracks.bigwig import BigWig
from zflipon.tracks.registry import BIGWIG

_PURPLE, _GREY = "#4a1486", "0.45"
_TOO_WIDE = 400
_MOST_OMICS = 12
"""Tracks that are drawn, those of which most is taken."""


@dataclass(frozen=True)
class Beneath:
    """A track beneath the model's own panels.

    Attributes
    ----------
    name : str
    intervals : numpy.ndarray or None
        int64, shape (n, 2), of a BED file.
    values : numpy.ndarray or None
        float64, shape (bases,), of a bigWig.
    """

    name: str
    intervals: np.ndarray | None = None
    values: np.ndarray | None = None


@dataclass(frozen=True)
class Locus:
    """What is known of a region.

    Attributes
    ----------
    contig : str
    start, end : int
    sequence : str
    threshold : float
    probability : numpy.ndarray
        float32, shape (bases,); NaN where there is none.
    attribution : numpy.ndarray
        float64, shape (bases,); NaN where there is none.
    effects : numpy.ndarray
        float32, shape (4, bases): `zflipon.explain.mutagenesis.mutagenesis`.
    tokens : list of (int, int)
        Bases of each token that touches the region, `[start, end)`.
    target : numpy.ndarray
        bool, shape (bases,): the bases that effects and attributions are of.
    beneath : list of Beneath
    omics : list of (str, float)
        Name of each omics track that the model reads, and what it takes from it: log-odds, the farthest from 0 first.
    """

    contig: str
    start: int
    end: int
    sequence: str
    threshold: float
    probability: np.ndarray
    attribution: np.ndarray
    effects: np.ndarray
    tokens: list[tuple[int, int]]
    target: np.ndarray
    beneath: list[Beneath] = field(default_factory=list)
    omics: list[tuple[str, float]] = field(default_factory=list)


def survey(
    predictor: Predictor,
    attributor: Attributor,
    genome: Genome,
    region: tuple[str, int, int],
    threshold: float | None = None,
    tracks: Sequence[tuple[str, Path]] = (),
    progress=lambda sequences: None,
) -> Locus:
    """Find all that the picture shows.

    The called bases are explained; where none is called, all bases of the region.

    Parameters
    ----------
    predictor : Predictor
    attributor : Attributor
        Of the same model.
    genome : Genome
    region : (str, int, int)
        Contig, start and end, 0-based half-open; at most 400 bases, or letters could not be told apart.
    threshold : float, optional
        Of a call; the model's own by default.
    tracks : sequence of (str, Path)
        Name and file, BED or bigWig.
    progress : callable
        Told how many sequences have just been read.

    Raises
    ------
    InputError
        If the region is too wide or has no sequence, or a track cannot be read.
    """
    contig, start, end = region
    if end - start > _TOO_WIDE:
        raise InputError(
            f"{contig}:{start + 1}-{end}: {end - start} bases; a picture shows {_TOO_WIDE} at most"
        )
    beneath = [_beneath(name, Path(path), genome, region) for name, path in tracks]
    metadata = predictor.metadata
    selection = Selection(regions=(f"{contig}:{start + 1}-{end}",))
    probability = np.full(end - start, np.nan, dtype=np.float32)
    for shard in make_plan(genome, selection, metadata.window, metadata.margin).shards:
        found = predict_windows(predictor, genome, contig, shard.windows)
        first = int(shard.windows["core_start"][0])
        probability[shard.start - start : shard.end - start] = found[shard.start - first : shard.end - first]
    if np.isnan(probability).all():
        raise InputError(f"{contig}:{start + 1}-{end}: holds no sequence that can be read; all of it is N")
    cutoff = metadata.threshold if threshold is None else threshold
    target = probability >= cutoff
    every_base = not target.any()
    if every_base:
        target = ~np.isnan(probability)
    pieces, found = attribution_track(attributor, genome, selection, cutoff, every_base)
    attribution = np.full(end - start, np.nan)
    for first, values in pieces[contig]:
        attribution[first - start : first - start + len(values)] = values
    effects = mutagenesis(predictor, genome, contig, start, end, target, progress)
    return Locus(
        contig, start, end, genome.fetch(contig, start, end), cutoff, probability, attribution, effects,
        _tokens(predictor, genome, region), target, beneath, omics_shares(attributor, [one for _, one in found]),
    )  # fmt: skip


def omics_shares(attributor: Attributor, attributions: Sequence[Attribution]) -> list[tuple[str, float]]:
    """Return what the mean of some attributions takes from each omics track that is there, the most first."""
    tracks = attributor.features
    if tracks is None:
        return []
    shares = np.mean([one.tracks.sum(1, dtype=np.float64) for one in attributions], axis=0)
    rows = [
        (feature.name, float(share))
        for feature, share, there in zip(tracks.features, shares, tracks.present, strict=True)
        if there
    ]
    return sorted(rows, key=lambda row: -abs(row[1]))


def draw(locus: Locus, path: Path) -> None:
    """Draw a locus.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    OutputError
        If the extension is unknown, or the file cannot be written.
    """
    check_picture(path)
    bases = locus.end - locus.start
    rows = [1.4, 1.6, 0.5, 1.0, *(0.35 if each.values is None else 0.8 for each in locus.beneath)]
    shown = locus.omics[:_MOST_OMICS]
    heights = [*rows, 0.5 + 0.13 * len(shown)] if shown else rows
    figure = new_figure(max(7.0, min(24.0, 1.8 + 0.11 * bases)), 0.9 + sum(heights) * 1.15)
    panels = list(figure.subplots(len(heights), 1, height_ratios=heights))
    if shown:
        _draw_omics(panels.pop(), shown)
    for axes in panels[:-1]:
        axes.sharex(panels[-1])
        axes.tick_params(labelbottom=False)
    _draw_probability(panels[0], locus)
    _draw_attribution(panels[1], locus)
    _draw_tokens(panels[2], locus)
    _draw_effects(figure, panels[3], locus)
    for axes, each in zip(panels[4:], locus.beneath, strict=True):
        _draw_beneath(axes, each, locus)
    panels[-1].set_xlim(locus.start, locus.end)
    panels[-1].set_xlabel(f"{locus.contig} (position, bases)")
    # the name of a base is its 1-based position, and stands under its middle
    panels[-1].xaxis.set_major_formatter(lambda place, _: f"{int(place) + 1:,}")
    step = max(5, 5 * round(bases / 40))
    panels[-1].set_xticks([place + 0.5 for place in range(locus.start, locus.end) if (place + 1) % step == 0])
    figure.align_ylabels(panels)
    figure.tight_layout()
    with atomic_file(path) as part:
        figure.savefig(part, dpi=200)


def _tokens(predictor: Predictor, genome: Genome, region: tuple[str, int, int]) -> list[tuple[int, int]]:
    contig, start, end = region
    text, inside = around(genome, contig, start, end, predictor.metadata.window)
    (tokens,) = predictor.tokenizer.encode([text])
    ends = np.cumsum(tokens.lengths) + start - inside
    spans = zip((ends - tokens.lengths).tolist(), ends.tolist(), strict=True)
    return [(low, high) for low, high in spans if low < high and low < end and high > start]


def _beneath(name: str, path: Path, genome: Genome, region: tuple[str, int, int]) -> Beneath:
    contig, start, end = region
    if BIGWIG.matches(path):
        with BigWig(path) as file:
            values = file.values(contig, start, end)
        return Beneath(name, values=values)
    found: Mapping[str, np.ndarray] = read_bed(path, genome.lengths, name)
    rows = found.get(contig, np.empty((0, 2), dtype=np.int64))
    return Beneath(name, intervals=rows[(rows[:, 0] < end) & (rows[:, 1] > start)])


def _draw_probability(axes, locus: Locus) -> None:
    edges = np.arange(locus.start, locus.end + 1)
    axes.stairs(np.nan_to_num(locus.probability), edges, fill=True, color=_PURPLE)
    axes.axhline(locus.threshold, color=_GREY, lw=0.8, ls="--")
    axes.set_ylim(0, 1)
    axes.set_ylabel("P(Z-DNA)")
    _plain(axes)


def _draw_attribution(axes, locus: Locus) -> None:
    heights = np.zeros((len(NUCLEOTIDES), locus.end - locus.start))
    codes = base_codes(locus.sequence)
    known = np.flatnonzero((codes < len(NUCLEOTIDES)) & ~np.isnan(locus.attribution))
    heights[codes[known], known] = locus.attribution[known]
    draw_letters(axes, heights, locus.start)
    low, high = min(0.0, heights.min()), max(0.0, heights.max())
    room = 0.05 * ((high - low) or 1)
    axes.set_ylim(low - room, high + room)
    axes.axhline(0, color="black", lw=0.6)
    axes.set_ylabel("attribution\n(log-odds)")
    _plain(axes)


def _draw_tokens(axes, locus: Locus) -> None:
    from matplotlib.patches import Rectangle

    for number, (low, high) in enumerate(locus.tokens):
        axes.add_patch(
            Rectangle((low, 0.15), high - low, 0.7, fc="0.93" if number % 2 else "0.82", ec="0.3", lw=0.6)
        )
        inner = locus.sequence[max(0, low - locus.start) : high - locus.start]
        middle = (max(low, locus.start) + min(high, locus.end)) / 2
        axes.text(
            middle, 0.5, inner, ha="center", va="center", fontsize=5.5, family="monospace", clip_on=True
        )
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.set_ylabel("tokens", rotation=0, ha="right", va="center")
    _plain(axes, left=False)


def _draw_effects(figure, axes, locus: Locus) -> None:
    most = float(np.nanmax(np.abs(locus.effects))) or 1.0
    picture = axes.imshow(
        locus.effects, aspect="auto", cmap="RdBu_r", vmin=-most, vmax=most, interpolation="nearest",
        extent=(locus.start, locus.end, len(NUCLEOTIDES), 0),
    )  # fmt: skip
    codes = base_codes(locus.sequence)
    known = np.flatnonzero(codes < len(NUCLEOTIDES))
    axes.plot(locus.start + known + 0.5, codes[known] + 0.5, ".", color="black", ms=1.6)  # what is there
    axes.set_yticks([0.5, 1.5, 2.5, 3.5], list(NUCLEOTIDES))
    axes.set_ylabel("replaced by")
    inset = axes.inset_axes((1.01, 0.0, 0.012, 1.0))
    bar = figure.colorbar(picture, cax=inset)
    bar.set_label("change of P", fontsize=7)
    bar.ax.tick_params(labelsize=6)


def _draw_beneath(axes, each: Beneath, locus: Locus) -> None:
    if each.values is not None:
        axes.stairs(np.nan_to_num(each.values), np.arange(locus.start, locus.end + 1), fill=True, color=_GREY)
        axes.set_ylabel(each.name)
        _plain(axes)
        return
    for low, high in each.intervals.tolist():
        axes.axvspan(low, high, 0.15, 0.85, color=_GREY, lw=0)
    axes.set_yticks([])
    axes.set_ylabel(each.name, rotation=0, ha="right", va="center")
    _plain(axes, left=False)


def _draw_omics(axes, shown: Sequence[tuple[str, float]]) -> None:
    names, shares = zip(*shown, strict=True)
    axes.barh(names, shares, color=[_PURPLE if share > 0 else _GREY for share in shares], height=0.7)
    axes.invert_yaxis()
    axes.axvline(0, color="black", lw=0.6)
    axes.tick_params(axis="y", labelsize=7, length=0)
    axes.set_xlabel("from omics tracks (log-odds)")
    _plain(axes)


def _plain(axes, left: bool = True) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines["left"].set_visible(left)
