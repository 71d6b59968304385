"""Calls of both alleles: which are lost and gained, and the intervals of those that differ."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from zflipon.config import CallConfig
from zflipon.tracks.calling import is_called

MAX_LISTED_CALLS = 4
"""Calls of one allele whose intervals are listed: the nearest ones."""


class _Runs(NamedTuple):
    """Calls of several sequences, by sequence and start: int64 arrays of shape (calls,)."""

    row: np.ndarray
    start: np.ndarray
    end: np.ndarray


def compare_calls(
    scores: np.ndarray,
    low: np.ndarray,
    reference: np.ndarray,
    alternative: np.ndarray,
    allele: tuple[int, int],
    alternative_offsets: np.ndarray,
    calls: CallConfig,
) -> None:
    """Fill in the fields of `SCORE_DTYPE` about calls.

    A call is lost if no base of it is in a call of the alternative sequence, and gained the other way round.

    Parameters
    ----------
    scores : numpy.ndarray
        `SCORE_DTYPE`, shape (alleles,).
    low : numpy.ndarray
        int64, shape (alleles,): position of the first base that is compared.
    reference, alternative : numpy.ndarray
        float, shape (alleles, bases): probabilities.
    allele : (int, int)
        First base and length of the reference allele, counted from the first base that is compared.
    alternative_offsets : numpy.ndarray
        int64: the reference base of each base of the alternative sequence.
    calls : CallConfig
        With a threshold. Calls are not merged.
    """
    before = _find_runs(reference, calls)
    after = _find_runs(alternative, calls)
    after = _Runs(after.row, alternative_offsets[after.start], alternative_offsets[after.end - 1] + 1)
    is_kept, same_before = _match(before, after)
    is_old, same_after = _match(after, before)
    scores["lost"] = np.bincount(before.row[~is_kept], minlength=len(low))
    scores["gained"] = np.bincount(after.row[~is_old], minlength=len(low))
    for name, runs, is_same in (("ref_calls", before, same_before), ("alt_calls", after, same_after)):
        touches = (runs.start < allele[0] + allele[1]) & (runs.end > allele[0])
        listed = touches | ~is_same
        _list_runs(scores[name], low, _Runs(*(column[listed] for column in runs)), allele)


def _find_runs(probabilities: np.ndarray, calls: CallConfig) -> _Runs:
    if calls.threshold is None:
        raise ValueError("calls need a threshold")
    called = is_called(probabilities, calls.threshold)
    if not called.any():
        nothing = np.empty(0, dtype=np.int64)
        return _Runs(nothing, nothing, nothing)
    changes = np.diff(called, axis=1, prepend=False, append=False)
    rows, columns = np.nonzero(changes)
    row, start, end = rows[::2], columns[::2], columns[1::2]
    is_long = end - start >= calls.min_length
    return _Runs(row[is_long], start[is_long], end[is_long])


def _match(runs: _Runs, others: _Runs) -> tuple[np.ndarray, np.ndarray]:
    """Return which runs overlap one of the other runs, and which are equal to one: bool, shape (runs,)."""
    if not len(others.row) or not len(runs.row):
        nothing = np.zeros(len(runs.row), dtype=bool)
        return nothing, nothing
    stride = 1 + max(int(runs.end.max()), int(others.end.max()))
    # the first other run that ends after the start of a run
    index = np.searchsorted(others.row * stride + others.end, runs.row * stride + runs.start, side="right")
    exists = index < len(others.row)
    index = np.where(exists, index, 0)
    overlaps = exists & (others.row[index] == runs.row) & (others.start[index] < runs.end)
    return overlaps, overlaps & (others.start[index] == runs.start) & (others.end[index] == runs.end)


def _list_runs(target: np.ndarray, low: np.ndarray, runs: _Runs, allele: tuple[int, int]) -> None:
    """Write the intervals of the runs nearest the allele, in order, into an array of shape (alleles, …, 2)."""
    distance = np.maximum(0, np.maximum(allele[0] - runs.end + 1, runs.start - (allele[0] + allele[1] - 1)))
    order = np.lexsort((distance, runs.row))
    rank = np.arange(len(order)) - np.searchsorted(runs.row, runs.row[order])
    nearest = np.sort(order[rank < MAX_LISTED_CALLS])  # runs are in order of row and start
    row = runs.row[nearest]
    place = np.arange(len(nearest)) - np.searchsorted(row, row)
    target[row, place, 0] = low[row] + runs.start[nearest]
    target[row, place, 1] = low[row] + runs.end[nearest]
