"""Fit the domain of a model to its training sequence: composition, sketch and, from tracks, scores.

Inputs are compared with it in `zflipon.workflows.domain`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from zflipon.errors import InputError, ModelError
from zflipon.genome.composition import COMPOSITION_WINDOW, CompositionCounter, composition_of
from zflipon.genome.fasta import Genome
from zflipon.genome.sketch import encode_sketch, merge_sketches, sketch_sequence
from zflipon.models.domain import Domain, ScoreDomain, gc_terms
from zflipon.models.files import CONFIG, CheckpointFiles
from zflipon.tracks.atomic import atomic_file
from zflipon.tracks.bigwig import BigWig
from zflipon.tracks.calling import quantize
from zflipon.tracks.score_windows import ScoreCounter
from zflipon.training.dataset import TrainingData

MIN_WINDOWS = 100
"""Windows from which a covariance of ten values is estimated."""

USUAL = (0.01, 0.99)
"""Quantiles of the training windows between which a value is usual."""

GC_SLACK = 0.03
"""GC fraction outside of the training windows that is still usual; GC varies more than its small sample shows."""

SCORE_SLACK = 2.0
"""Factor by which a share of scores may be outside of the quantiles of the training windows."""

_KEPT_SHARE = 0.98
"""Share of the windows that the fit keeps; satellites and other outliers are left out."""

_FIT_ROUNDS = 4
_RIDGE = 1e-4
_READ_BASES = 1 << 22


def read_domain(
    sources: Iterable[tuple[Genome, Sequence[str]]],
    tracks: Iterable[str | Path] = (),
    threshold: float = 0.5,
    progress: Callable[[int], object] = lambda bases: None,
) -> Domain | None:
    """Read training contigs and fit a domain.

    Parameters
    ----------
    sources : iterable of (Genome, sequence of str)
        Genomes, and the training contigs in each.
    tracks : iterable of str or Path
        bigWig files of the model on natural sequence of the training genome, for the usual scores.
    threshold : float
        Score from which a base of these tracks is called.
    progress : callable
        Called with the number of bases that were just read.

    Returns
    -------
    Domain or None
        None if there are less than `MIN_WINDOWS` windows of sequence.
    """
    counter, sketches = CompositionCounter(), []
    for genome, contigs in sources:
        for contig in contigs:
            length = genome.length(contig)
            for start in range(0, length, _READ_BASES):
                sequence = genome.fetch(contig, start, min(start + _READ_BASES, length))
                counter.add(sequence)
                sketches.append(sketch_sequence(sequence))
                progress(len(sequence))
    windows = counter.windows()
    if len(windows) < MIN_WINDOWS:
        return None
    return fit_domain(windows, merge_sketches(sketches), fit_scores(tracks, threshold))


def domain_of(training_data: TrainingData) -> Domain | None:
    """Return the domain of a model by its training contigs; None without a genome or with too little sequence."""
    if training_data.genome is None:
        return None
    return read_domain([(training_data.genome, list(training_data.contigs["train"]))])


def fit_domain(windows: np.ndarray, sketch: np.ndarray, scores: ScoreDomain | None = None) -> Domain:
    """Fit a domain to the tetranucleotide counts of training windows.

    Parameters
    ----------
    windows : numpy.ndarray
        int64, shape (windows, 256).
    sketch : numpy.ndarray
        Sketch of the training sequence.
    scores : ScoreDomain, optional

    Raises
    ------
    InputError
        If there are less than `MIN_WINDOWS` windows.
    """
    if len(windows) < MIN_WINDOWS:
        raise InputError(
            f"{len(windows)} windows of {COMPOSITION_WINDOW:,} bases: expected at least {MIN_WINDOWS}; give more "
            "contigs"
        )
    composition = composition_of(windows)
    terms, kept = gc_terms(composition.gc), np.ones(len(windows), dtype=bool)
    for _ in range(_FIT_ROUNDS):
        coefficients, *_ = np.linalg.lstsq(terms[kept], composition.ratios[kept], rcond=None)
        residuals = composition.ratios - terms @ coefficients
        covariance = np.cov(residuals[kept].T) + _RIDGE * np.eye(residuals.shape[1])
        precision = np.linalg.inv(covariance)
        squares = np.einsum("ni,ij,nj->n", residuals, precision, residuals)
        kept = squares <= np.quantile(squares, _KEPT_SHARE)
    low, high = composition.gc.min() - GC_SLACK, composition.gc.max() + GC_SLACK
    unlimited = Domain(
        windows=len(windows),
        gc=(_round(max(0.0, low)), _round(min(1.0, high))),
        ratios=_rounded_rows(coefficients.T),
        precision=_rounded_rows(precision),
        kmers=tuple(map(_round, np.median(composition.residuals, axis=0))),
        max_distance=np.finfo(float).max.item(),
        min_kmer_score=-np.finfo(float).max.item(),
        sketch=encode_sketch(sketch),
        scores=scores,
    )
    comparison = unlimited.compare(windows)
    return replace(
        unlimited,
        max_distance=_round(float(np.quantile(comparison.distance, USUAL[1]))),
        min_kmer_score=_round(float(np.quantile(comparison.kmer_score, USUAL[0]))),
    )


def fit_scores(tracks: Iterable[str | Path], threshold: float) -> ScoreDomain | None:
    """Return the usual scores in bigWig files of a model; None without a window of long contigs."""
    counter = ScoreCounter(threshold)
    for path in tracks:
        with BigWig(path) as track:
            for contig, length in track.lengths.items():
                for start in range(0, length, _READ_BASES):
                    values = track.values(contig, start, min(start + _READ_BASES, length))
                    counter.add(quantize(values), length)
    shares = counter.shares()
    if not len(shares):
        return None
    low, high = np.quantile(shares, USUAL, axis=0)
    low, high = low / SCORE_SLACK, np.minimum(high * SCORE_SLACK, 1)
    called, weak = ((_round(low[column]), _round(high[column])) for column in (0, 1))
    return ScoreDomain(len(shares), called, weak)


def write_domain(files: CheckpointFiles, domain: Domain) -> None:
    """Write a domain into the metadata of a checkpoint; its weights stay as they are.

    Raises
    ------
    ModelError
        If the checkpoint has no metadata of zflipon.
    OutputError
        If the config cannot be written.
    """
    path = files.folder / CONFIG
    if not isinstance(files.config.get("zflipon"), dict):
        raise ModelError(
            f"{path}: has no metadata of zflipon; write a checkpoint with them: zflipon models convert"
        )
    metadata = {**files.config["zflipon"], "domain": asdict(domain)}
    content = json.dumps({**files.config, "zflipon": metadata}, indent=2, sort_keys=True)
    with atomic_file(path) as part:
        part.write_text(content + "\n", encoding="utf-8")


def _round(value: float) -> float:
    """Return a number with five significant digits, so that a config stays readable."""
    return float(f"{value:.5g}")


def _rounded_rows(rows: np.ndarray) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(map(_round, row)) for row in rows.tolist())
