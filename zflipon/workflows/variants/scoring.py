"""Probabilities of both alleles → scores: changes of bases, and calls that are lost and gained.

Alleles of one shape are scored together. Which windows are predicted is in `zflipon.workflows.variants.alleles`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zflipon.config import CallConfig
from zflipon.inference.predictor import Predictor
from zflipon.workflows.variants.alleles import AlleleBatch, AllelePair
from zflipon.workflows.variants.called_intervals import MAX_LISTED_CALLS, compare_calls

SCORE_DECIMALS = 4
"""Decimals of scores in output files."""

NEAR_BASES = 16
"""Bases on either side of an allele that count as near it."""

_ALLELES_AT_ONCE = 64

NUMBERS = ("gain", "loss", "sum", "pos", "distance", "ref", "alt", "lost", "gained", "spread")
"""Scores of an allele that are numbers."""

SCORE_DTYPE = np.dtype(
    [(name, np.float64) for name in NUMBERS]
    + [(name, np.int64, (MAX_LISTED_CALLS, 2)) for name in ("ref_calls", "alt_calls")]
    + [("why", "U20")]
)
"""Scores of one allele. Numbers are NaN if it is not scored, and then ``why`` is one of `SKIP_REASONS`. ``pos`` is
1-based. Calls are 0-based half-open intervals of the reference, -1 after the last one."""


@dataclass(frozen=True)
class AlleleShape:
    """What alleles have in common that are scored together. All numbers are bases.

    Attributes
    ----------
    width : int
        Reference bases that are compared.
    start : int
        The first base of the allele, counted from the first base that is compared.
    ref_length : int
        Bases of the reference allele.
    split : int
        Where the bases that only one allele has begin, counted from the first base that is compared.
    length_change : int
        Bases by which the alternative allele is longer; negative if it is shorter.
    """

    width: int
    start: int
    ref_length: int
    split: int
    length_change: int

    def reference_offsets(self) -> np.ndarray:
        """Return the reference base of each column of the alignment; an inserted base has that of the base before."""
        inserted = max(0, self.length_change)
        offsets = np.arange(self.width + inserted)
        offsets[self.split + inserted :] -= inserted
        offsets[self.split : self.split + inserted] = self.split - 1
        return offsets.clip(min=0)

    def alternative_offsets(self) -> np.ndarray:
        """Return the reference base of each base of the alternative sequence."""
        offsets = self.reference_offsets()
        return np.delete(offsets, slice(self.split, self.split + max(0, -self.length_change)))


def missing_scores(count: int, why: Sequence[str] | str = "") -> np.ndarray:
    """Return `SCORE_DTYPE` of alleles that are not scored: shape (count,)."""
    scores = np.zeros(count, dtype=SCORE_DTYPE)
    for name in NUMBERS:
        scores[name] = np.nan
    scores["ref_calls"] = scores["alt_calls"] = -1
    scores["why"] = why
    return scores


def score_shape(
    shape: AlleleShape,
    low: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    unknown: np.ndarray,
    calls: CallConfig,
) -> np.ndarray:
    """Return the scores of alleles of one shape.

    Parameters
    ----------
    shape : AlleleShape
    low : numpy.ndarray
        int64, shape (alleles,): first base of the reference that is compared.
    before : numpy.ndarray
        float, shape (offsets, alleles, width): probabilities with the reference at each offset of the window.
    after : numpy.ndarray
        The same with the alternative allele: shape (offsets, alleles, width + length change).
    unknown : numpy.ndarray
        bool, shape (alleles, width): True at N, which has no probability.
    calls : CallConfig
        With a threshold.

    Returns
    -------
    numpy.ndarray
        `SCORE_DTYPE`, shape (alleles,).
    """
    scores = missing_scores(len(low))
    reference, alternative = before.mean(axis=0), after.mean(axis=0)
    has_unknown = bool(unknown.any())
    if has_unknown:
        reference = np.where(unknown, 0, reference)
        alternative = np.where(_unknown_after(shape, unknown), 0, alternative)
    changes = _changes(shape, reference, alternative)
    offsets = shape.reference_offsets()
    distances = signed_distance(offsets, shape.start, shape.ref_length)
    largest = _largest_change(changes, distances)
    rows = np.arange(len(low))
    is_changed = np.abs(changes[rows, largest]) >= 0.5 * 10.0**-SCORE_DECIMALS
    scores["gain"] = changes.max(axis=1).clip(min=0)
    scores["loss"] = changes.min(axis=1).clip(max=0)
    scores["sum"] = changes.sum(axis=1, dtype=np.float64)
    scores["pos"] = low + np.where(is_changed, offsets[largest], shape.start) + 1
    scores["distance"] = np.where(is_changed, distances[largest], 0)
    near = slice(max(0, shape.start - NEAR_BASES), shape.start + shape.ref_length + NEAR_BASES)
    scores["ref"] = reference[:, near].max(axis=1)
    near_alternative = slice(near.start, max(near.start + 1, near.stop + shape.length_change))
    scores["alt"] = alternative[:, near_alternative].max(axis=1)
    if len(before) > 1:
        by_offset = np.stack([_changes(shape, one, other) for one, other in zip(before, after, strict=True)])
        scores["spread"] = by_offset[:, rows, largest].std(axis=0)
    compare_calls(
        scores,
        low,
        reference,
        alternative,
        (shape.start, shape.ref_length),
        shape.alternative_offsets(),
        calls,
    )
    return scores


def signed_distance(positions: np.ndarray, start: int, length: int) -> np.ndarray:
    """Return the distance of positions from the allele ``[start, start + length)``: 0 inside, negative before."""
    return np.minimum(positions - start, 0) + np.maximum(positions - (start + length - 1), 0)


def score_alleles(
    pairs: Sequence[AllelePair | str], probabilities: Sequence[np.ndarray], calls: CallConfig
) -> np.ndarray:
    """Return the scores of alleles.

    Parameters
    ----------
    pairs : sequence of AllelePair or str
        `AlleleBatch.pairs`.
    probabilities : sequence of numpy.ndarray
        Base probabilities of `AlleleBatch.sequences`.
    calls : CallConfig
        With a threshold.

    Returns
    -------
    numpy.ndarray
        `SCORE_DTYPE`, shape (pairs,).
    """
    scores = missing_scores(len(pairs))
    by_shape: dict[AlleleShape, list[int]] = {}
    for index, pair in enumerate(pairs):
        if isinstance(pair, str):
            scores["why"][index] = pair
        else:
            by_shape.setdefault(_shape_of(pair), []).append(index)
    for shape, indices in by_shape.items():
        for first in range(0, len(indices), _ALLELES_AT_ONCE):
            part = indices[first : first + _ALLELES_AT_ONCE]
            members = [pair for pair in (pairs[index] for index in part) if not isinstance(pair, str)]
            scores[part] = _score_pairs(shape, members, probabilities, calls)
    return scores


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


def _shape_of(pair: AllelePair) -> AlleleShape:
    return AlleleShape(
        pair.high - pair.low,
        pair.start - pair.low,
        pair.ref_length,
        pair.split - pair.low,
        pair.length_change,
    )


def _score_pairs(
    shape: AlleleShape,
    pairs: Sequence[AllelePair],
    probabilities: Sequence[np.ndarray],
    calls: CallConfig,
) -> np.ndarray:
    """Return the scores of alleles of one shape."""
    low, unknown = np.array([pair.low for pair in pairs]), np.array([pair.unknown for pair in pairs])
    before, after = [], []
    for windows in zip(*(pair.windows for pair in pairs), strict=True):  # one window of each allele
        starts = [pair.low - first for pair, (first, _, _) in zip(pairs, windows, strict=True)]
        for rows, width, index in ((before, shape.width, 1), (after, shape.width + shape.length_change, 2)):
            sources = (probabilities[window[index]] for window in windows)
            rows.append(
                [source[start : start + width] for source, start in zip(sources, starts, strict=True)]
            )
    return score_shape(shape, low, np.array(before), np.array(after), unknown, calls)


def _unknown_after(shape: AlleleShape, unknown: np.ndarray) -> np.ndarray:
    """Return the unknown bases of the alternative sequences: bool, shape (alleles, width + length change)."""
    at, change = shape.split, shape.length_change
    if change > 0:
        return np.concatenate(
            [unknown[:, :at], np.zeros((len(unknown), change), bool), unknown[:, at:]], axis=1
        )
    return np.delete(unknown, slice(at, at - change), axis=1)


def _changes(shape: AlleleShape, reference: np.ndarray, alternative: np.ndarray) -> np.ndarray:
    """Return the change of each column of the alignment. A base that one allele lacks has probability 0 there."""
    at, change = shape.split, shape.length_change
    absent = np.zeros((len(reference), abs(change)), dtype=reference.dtype)
    if change > 0:
        reference = np.concatenate([reference[:, :at], absent, reference[:, at:]], axis=1)
    elif change < 0:
        alternative = np.concatenate([alternative[:, :at], absent, alternative[:, at:]], axis=1)
    return alternative - reference


def _largest_change(changes: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Return the column of the largest change, as written, of each row; of equal changes that nearest the allele."""
    sizes = np.rint(np.abs(changes) * 10**SCORE_DECIMALS)
    nearest_first = np.argsort(np.abs(distances), kind="stable")
    return nearest_first[sizes[:, nearest_first].argmax(axis=1)]
