"""Everything that explains the calls of one short region: probability, attributions, tokens, substitutions, tracks.

The figure of it is in `zflipon.explain.figures`. Probability and attributions are those of the tracks; tokens and
substitutions are those of one window with the region at its centre.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from zflipon.config import Selection
from zflipon.errors import InputError
from zflipon.explain.attribution import Attribution
from zflipon.explain.attribution_track import attribution_track
from zflipon.explain.call_rules import call_threshold
from zflipon.explain.integrated_gradients import IntegratedGradientsExplainer
from zflipon.explain.mutagenesis import centered_window, mutagenesis
from zflipon.genome.assemblies import assembly_name
from zflipon.genome.fasta import Genome
from zflipon.genome.interval_files import read_bed
from zflipon.genome.shards import make_plan
from zflipon.inference.genome_scan import predict_windows
from zflipon.inference.predictor import Predictor
from zflipon.tracks.bigwig import BigWig
from zflipon.tracks.registry import BIGWIG

MAX_BASES = 400
"""Longest region; the letters of a longer one would be too small to read."""

Region = tuple[str, int, int]
"""Contig, start and end: 0-based half-open."""


@dataclass(frozen=True)
class LocusTrack:
    """An additional track of the user.

    Attributes
    ----------
    name : str
    intervals : numpy.ndarray or None
        int64, shape (n, 2): those of a BED file that overlap the region.
    values : numpy.ndarray or None
        float32, shape (bases,): those of a bigWig file, NaN where it has none.
    """

    name: str
    intervals: np.ndarray | None = None
    values: np.ndarray | None = None


@dataclass(frozen=True)
class LocusExplanation:
    """Explanation of the calls of a region.

    Attributes
    ----------
    contig : str
    start, end : int
    sequence : str
    threshold : float
    probability : numpy.ndarray
        float32, shape (bases,); NaN at N.
    attribution : numpy.ndarray
        float64, shape (bases,); NaN where no explained window reaches.
    effects : numpy.ndarray
        float32, shape (4, bases): see `zflipon.explain.mutagenesis.mutagenesis`.
    tokens : list of (int, int)
        Start and end of each token that overlaps the region.
    target : numpy.ndarray
        bool, shape (bases,): the bases that are explained.
    tracks : list of LocusTrack
    omics : list of (str, float)
        Attribution of each omics track that the model reads, in log-odds, by descending absolute value.
    model, assembly : str
        Names of the model and of the assembly, for the title of the figure.
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
    tracks: list[LocusTrack] = field(default_factory=list)
    omics: list[tuple[str, float]] = field(default_factory=list)
    model: str = ""
    assembly: str = ""


def explain_locus(
    predictor: Predictor,
    explainer: IntegratedGradientsExplainer,
    genome: Genome,
    region: Region,
    threshold: float | None = None,
    tracks: Sequence[tuple[str, Path]] = (),
    progress: Callable[[int, int], object] = lambda sequences, total: None,
) -> LocusExplanation:
    """Explain the called bases of a region; if no base is called, all bases.

    Parameters
    ----------
    predictor : Predictor
    explainer : IntegratedGradientsExplainer
        Of the same model.
    genome : Genome
    region : (str, int, int)
        Contig, start and end, 0-based half-open; at most `MAX_BASES`.
    threshold : float, optional
        Probability from which a base is called; the threshold of the model by default.
    tracks : sequence of (str, Path)
        Name and file (BED or bigWig) of additional tracks.
    progress : callable
        Called with the number of sequences that were just predicted and the number of all sequences.

    Raises
    ------
    InputError
        If the region is too wide or holds no sequence, or if a track cannot be read.
    """
    contig, start, end = region
    if end - start > MAX_BASES:
        raise InputError(
            f"{contig}:{start + 1}-{end}: {end - start} bases; a figure shows at most {MAX_BASES}, use a shorter region"
        )
    locus_tracks = [_read_track(name, Path(path), genome, region) for name, path in tracks]
    selection = Selection(regions=(f"{contig}:{start + 1}-{end}",))
    probability = _predict_region(predictor, genome, region, selection)
    cutoff = call_threshold(predictor.metadata, threshold)
    called = probability >= cutoff
    target = called if called.any() else ~np.isnan(probability)
    values, attributions = attribution_track(explainer, genome, selection, cutoff, not called.any())
    attribution = np.full(end - start, np.nan)
    for first, segment in values[contig]:
        attribution[first - start : first - start + len(segment)] = segment
    return LocusExplanation(
        contig,
        start,
        end,
        genome.fetch(contig, start, end),
        cutoff,
        probability,
        attribution,
        mutagenesis(predictor, genome, contig, start, end, target, progress),
        _overlapping_tokens(predictor, genome, region),
        target,
        locus_tracks,
        omics_contributions(explainer, [each for _, each in attributions]),
        predictor.name,
        assembly_name(genome.lengths) or genome.path.name,
    )


def omics_contributions(
    explainer: IntegratedGradientsExplainer, attributions: Sequence[Attribution]
) -> list[tuple[str, float]]:
    """Return the mean attribution of each omics track that is given, by descending absolute value."""
    tracks = explainer.features
    if tracks is None:
        return []
    means = np.mean(
        [each.tracks.sum(1, dtype=np.float64) for each in attributions if each.tracks is not None], axis=0
    )
    rows = [
        (feature.name, float(mean))
        for feature, mean, is_present in zip(tracks.features, means, tracks.present, strict=True)
        if is_present
    ]
    return sorted(rows, key=lambda row: -abs(row[1]))


def _predict_region(predictor: Predictor, genome: Genome, region: Region, selection: Selection) -> np.ndarray:
    """Return the probabilities of a region as its track has them: float32, NaN at N."""
    contig, start, end = region
    metadata = predictor.metadata
    probability = np.full(end - start, np.nan, dtype=np.float32)
    for span in make_plan(genome, selection, metadata.window, metadata.margin).spans:
        values = predict_windows(predictor, genome, contig, span.windows)
        first = int(span.windows["core_start"][0])
        probability[span.start - start : span.end - start] = values[span.start - first : span.end - first]
    if np.isnan(probability).all():
        raise InputError(f"{contig}:{start + 1}-{end}: the region holds no sequence, only N")
    return probability


def _overlapping_tokens(predictor: Predictor, genome: Genome, region: Region) -> list[tuple[int, int]]:
    contig, start, end = region
    sequence, offset = centered_window(genome, contig, start, end, predictor.metadata.window)
    (tokens,) = predictor.tokenizer.encode([sequence])
    ends = np.cumsum(tokens.lengths) + start - offset
    spans = zip((ends - tokens.lengths).tolist(), ends.tolist(), strict=True)
    return [(low, high) for low, high in spans if low < high and low < end and high > start]


def _read_track(name: str, path: Path, genome: Genome, region: Region) -> LocusTrack:
    contig, start, end = region
    if BIGWIG.matches(path):
        with BigWig(path) as file:
            return LocusTrack(name, values=file.values(contig, start, end))
    intervals = read_bed(path, genome.lengths, name).get(contig, np.empty((0, 2), dtype=np.int64))
    return LocusTrack(name, intervals=intervals[(intervals[:, 0] < end) & (intervals[:, 1] > start)])
