"""How many bases and calls a track has at every threshold, counted in one pass.

Merging calls is a morphological closing of the scores, and dropping short calls is an opening. After both, the bases
from a threshold on are exactly those in the calls of `zflipon.tracks.calling.call_track` at this threshold.
"""

from __future__ import annotations

import numpy as np

from zflipon.tracks.calling import SCALE

LEVELS = SCALE + 1
"""Thresholds 0, 0.001, …, 1, as quantized values."""

BLOCK_BASES = 1_000_000
"""Bases of a block of the bootstrap."""

COLUMNS = ("bases", "labelled", "calls")
"""Counts at a threshold: called bases, labelled ones among them, and calls."""


def opened_scores(values: np.ndarray, min_length: int, merge_gap: int) -> np.ndarray:
    """Return the highest threshold at which each base is in a call.

    Parameters
    ----------
    values : numpy.ndarray
        uint16, shape (bases,): quantized scores of consecutive bases, 0 without a score.
    min_length, merge_gap : int
        As in `zflipon.config.CallConfig`.

    Returns
    -------
    numpy.ndarray
        uint16, shape (bases,).

    Examples
    --------
    >>> opened_scores(np.array([0, 5, 3, 9, 0, 2], dtype=np.uint16), min_length=2, merge_gap=0).tolist()
    [0, 3, 3, 3, 0, 0]
    >>> opened_scores(np.array([0, 5, 3, 9, 0, 2], dtype=np.uint16), min_length=1, merge_gap=1).tolist()
    [0, 5, 5, 9, 2, 2]
    """
    bases = len(values)
    closed = _slide(np.minimum, _slide(np.maximum, np.pad(values, merge_gap), merge_gap + 1), merge_gap + 1)
    width = min(max(1, min_length), bases + 1)
    padded = np.pad(closed[:bases], width - 1)
    return _slide(np.maximum, _slide(np.minimum, padded, width), width)[:bases]


def _slide(merge: np.ufunc, values: np.ndarray, width: int) -> np.ndarray:
    """Return the minimum or maximum of `width` consecutive values, from each value on that has enough."""
    result, size = values, 1
    while size < width:  # windows of any width are the union of two windows of known results
        step = min(size, width - size)
        result = merge(result[: len(result) - step], result[step:])
        size += step
    return result


class ThresholdTally:
    """Counts of a track at every threshold, in blocks of the genome.

    Parameters
    ----------
    min_length, merge_gap : int
        As in `zflipon.config.CallConfig`.
    """

    def __init__(self, min_length: int, merge_gap: int):
        self._min_length, self._merge_gap = min_length, merge_gap
        self._blocks: dict[tuple[str, int], np.ndarray] = {}
        self._waiting: tuple[str, int, np.ndarray, np.ndarray] | None = None

    def add(self, contig: str, start: int, values: np.ndarray, labels: np.ndarray | None = None) -> None:
        """Count the next bases of a contig.

        Parameters
        ----------
        contig : str
        start : int
            Position of the first base; chunks of a contig come in order.
        values : numpy.ndarray
            uint16, shape (bases,): quantized scores, 0 without a score.
        labels : numpy.ndarray, optional
            bool, shape (bases,).
        """
        labels = np.zeros(len(values), dtype=bool) if labels is None else labels
        if self._waiting is not None:
            before, first, old_values, old_labels = self._waiting
            self._waiting = None
            if before == contig and first + len(old_values) == start:
                start, values = first, np.concatenate([old_values, values])
                labels = np.concatenate([old_labels, labels])
            else:
                self._count(before, first, old_values, old_labels)
        cut = self._last_cut(values)
        if cut:
            self._count(contig, start, values[:cut], labels[:cut])
        self._waiting = contig, start + cut, values[cut:], labels[cut:]

    def _last_cut(self, values: np.ndarray) -> int:
        """Return the end of the last gap that no call crosses at any threshold, 0 without one."""
        gap = self._merge_gap + 1
        if len(values) < gap:
            return 0
        quiet = np.flatnonzero(_slide(np.maximum, values, gap) == 0)
        return int(quiet[-1]) + gap if len(quiet) else 0

    def _count(self, contig: str, start: int, values: np.ndarray, labels: np.ndarray) -> None:
        if not len(values):
            return
        scores = opened_scores(values, self._min_length, self._merge_gap).astype(np.int64)
        before = np.r_[0, scores[:-1]]
        begins = np.flatnonzero(scores > before)
        for number in range(start // BLOCK_BASES, (start + len(scores) - 1) // BLOCK_BASES + 1):
            inside = slice(max(0, number * BLOCK_BASES - start), max(0, (number + 1) * BLOCK_BASES - start))
            counts = self._blocks.setdefault((contig, number), np.zeros((3, LEVELS), dtype=np.int64))
            counts[0] += np.bincount(scores[inside], minlength=LEVELS)
            counts[1] += np.bincount(scores[inside][labels[inside]], minlength=LEVELS)
            own = begins[np.searchsorted(begins, inside.start) : np.searchsorted(begins, inside.stop)]
            counts[2] += np.bincount(scores[own], minlength=LEVELS) - np.bincount(
                before[own], minlength=LEVELS
            )

    def blocks(self) -> np.ndarray:
        """Return the counts of each block at each threshold.

        Returns
        -------
        numpy.ndarray
            int64, shape (blocks, 3, 1001): `COLUMNS` of the bases whose score is at least 0, 0.001, …, 1.
        """
        if self._waiting is not None:
            self._count(*self._waiting)
            self._waiting = None
        counts = np.array([self._blocks[key] for key in sorted(self._blocks)], dtype=np.int64)
        return counts.reshape(-1, 3, LEVELS)[:, :, ::-1].cumsum(axis=2)[:, :, ::-1]
