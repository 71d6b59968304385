"""Probabilities of pairs of windows → scores of alleles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zflipon.inference.predictor import Predictor
from zflipon.workflows.variants.alleles import AlleleBatch, AllelePair

_NUMBERS = ("gain", "loss", "sum", "pos", "ref", "alt", "spread")

SCORE_FIELDS = (*_NUMBERS, "why")
"""Names of the fields of `SCORE_DTYPE`."""

SCORE_DTYPE = np.dtype([(name, np.float64) for name in _NUMBERS] + [("why", "U20")])
"""Scores of one allele; NaN if it is not scored, and then ``why`` is one of `SKIP_REASONS`."""


def window_features(predictor: Predictor, batch: AlleleBatch) -> list[np.ndarray] | None:
    """Return the omics tracks in the windows of a batch; None for a model that reads no tracks.

    Both alleles get the tracks of the reference.
    """
    if predictor.features is None:
        return None
    by_window: dict[tuple[str, int, int], np.ndarray] = {}
    features = []
    for (contig, start), sequence in zip(batch.positions, batch.sequences, strict=True):
        window = contig, start, len(sequence)
        if window not in by_window:
            bounds = np.array([(start, start + len(sequence))], dtype=np.int64)
            (by_window[window],) = predictor.features.windows(contig, bounds, predictor.module.view)
        features.append(by_window[window])
    return features


def score_alleles(pairs: Sequence[AllelePair | str], probabilities: Sequence[np.ndarray]) -> np.ndarray:
    """Return the scores of alleles.

    Parameters
    ----------
    pairs : sequence of AllelePair or str
        `AlleleBatch.pairs`.
    probabilities : sequence of numpy.ndarray
        Base probabilities of `AlleleBatch.sequences`.

    Returns
    -------
    numpy.ndarray
        `SCORE_DTYPE`, shape (pairs,).
    """
    scores = np.zeros(len(pairs), dtype=SCORE_DTYPE)
    for row, pair in zip(scores, pairs, strict=True):
        if isinstance(pair, str):
            row["why"] = pair
            numbers = [np.nan] * len(_NUMBERS)
        else:
            numbers = score_pair(pair, probabilities)
        for name, number in zip(_NUMBERS, numbers, strict=False):
            row[name] = number
    return scores


def score_pair(pair: AllelePair, probabilities: Sequence[np.ndarray]) -> tuple[float, ...]:
    """Return the numbers of `SCORE_DTYPE` for one allele, in its order."""
    aligned = [
        align_alleles(
            pair,
            probabilities[reference][pair.low - first : pair.high - first],
            probabilities[alternative][pair.low - first : pair.high + pair.length_change - first],
        )
        for first, reference, alternative in pair.windows
    ]
    before, after = np.array(aligned, dtype=np.float64).transpose(1, 0, 2)
    changes = after - before
    mean = changes.mean(axis=0)
    largest = int(np.nanargmax(np.abs(mean)))
    return (
        max(0.0, float(np.nanmax(mean))),
        min(0.0, float(np.nanmin(mean))),
        float(np.nansum(mean)),
        (_reference_base(pair, largest) if mean[largest] else pair.start) + 1,
        float(np.nanmax(before.mean(axis=0))),
        float(np.nanmax(after.mean(axis=0))),
        float(changes[:, largest].std()) if len(changes) > 1 else np.nan,
    )


def align_alleles(pair: AllelePair, before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Align the probabilities of both alleles base by base. A base that one allele lacks has probability 0 there."""
    at = pair.split - pair.low
    absent = np.zeros(abs(pair.length_change), dtype=before.dtype)
    before = np.where(pair.unknown, np.nan, before)
    unknown = pair.unknown
    if pair.length_change > 0:
        before = np.concatenate([before[:at], absent, before[at:]])
        unknown = np.concatenate([unknown[:at], absent > 0, unknown[at:]])
    elif pair.length_change < 0:
        after = np.concatenate([after[:at], absent, after[at:]])
    return before, np.where(unknown, np.nan, after)


def _reference_base(pair: AllelePair, column: int) -> int:
    """Return the reference position of a column of the alignment; an inserted base has that of the base before it."""
    position = pair.low + column
    if position < pair.split:
        return position
    return max(
        position - max(0, pair.length_change), pair.split - (pair.length_change > position - pair.split)
    )
