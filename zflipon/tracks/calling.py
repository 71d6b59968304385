"""Probabilities of a contig's bases → runs of equal value → called intervals.

Inside the program a probability is kept as it is written, a whole number of
steps of ``10 ** -PROBABILITY_DECIMALS``, so that calls, bigWig and bedGraph agree on which
bases pass the threshold, and a contig takes two bytes a base.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from zflipon.config import PROBABILITY_DECIMALS

SCALE = 10**PROBABILITY_DECIMALS
"""The stored value of probability 1."""

NO_VALUE = 65535
"""The stored value of a base that no model has decided, such as one in a gap of N."""

CALL_DTYPE = np.dtype([("start", np.int64), ("end", np.int64), ("mean", np.float64), ("max", np.float64)])
"""One call: ``[start, end)`` and the mean and highest probability of its bases."""

_BLOCK = 1 << 20
_CLASS_DTYPE = np.dtype(
    [("start", np.int64), ("end", np.int64), ("called", bool), ("total", np.int64), ("peak", np.int64)]
)


@dataclass(frozen=True)
class ContigTrack:
    """The probabilities of one contig.

    Attributes
    ----------
    contig : str
    chunks : sequence of (int, numpy.ndarray)
        Start of a piece and the stored values of its consecutive bases, uint16
        of shape (n,), possibly memory-mapped. In order, disjoint; pieces may
        touch, and where they cut the contig makes no difference. Bases in no
        piece have no value.

    Raises
    ------
    ValueError
        If pieces overlap or are out of order.
    """

    contig: str
    chunks: Sequence[tuple[int, np.ndarray]]

    def __post_init__(self) -> None:
        """Check the pieces."""
        reach = 0
        for start, values in self.chunks:
            if start < reach:
                raise ValueError(
                    f"{self.contig}: a piece starts at {start}, before the end of the last ({reach})"
                )
            reach = start + len(values)

    @property
    def end(self) -> int:
        """End of the last piece."""
        return self.chunks[-1][0] + len(self.chunks[-1][1]) if self.chunks else 0


def quantize(probabilities: np.ndarray) -> np.ndarray:
    """Round probabilities to the written precision.

    Parameters
    ----------
    probabilities : numpy.ndarray
        Floating, any shape, in [0, 1]; NaN where there is no value.

    Returns
    -------
    numpy.ndarray
        uint16, same shape: 0 … `SCALE`, or `NO_VALUE`.
    """
    values = np.full(probabilities.shape, NO_VALUE, dtype=np.uint16)
    known = ~np.isnan(probabilities)
    values[known] = np.rint(probabilities[known] * SCALE)
    return values


def dequantize(values: np.ndarray) -> np.ndarray:
    """Return stored values as probabilities: float32, same shape, NaN where there is no value."""
    return np.where(values == NO_VALUE, np.float32(np.nan), values / np.float32(SCALE)).astype(np.float32)


def iterate_runs(track: ContigTrack) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield the longest runs of consecutive bases with equal value, in order, many at a time.

    Bases without a value are left out; runs go on across pieces that touch.

    Yields
    ------
    starts, ends, values : numpy.ndarray
        int64, int64 and uint16, shape (n,). At most about a million runs.
    """
    held = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.uint16))  # it may not end here
    for start, values in _blocks(track.chunks):
        first = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])
        starts, ends, values = start + first, start + np.r_[first[1:], len(values)], values[first]
        if len(held[0]) and held[1][0] == starts[0] and held[2][0] == values[0]:
            starts[0] = held[0][0]
        else:
            starts, ends, values = (
                np.r_[old, new] for old, new in zip(held, (starts, ends, values), strict=True)
            )
        held = (starts[-1:], ends[-1:], values[-1:])
        yield from _valued(starts[:-1], ends[:-1], values[:-1])
    yield from _valued(*held)


def call_track(track: ContigTrack, threshold: float, min_length: int, merge_gap: int) -> np.ndarray:
    """Call the intervals of a contig whose bases reach a threshold.

    A base is called if its probability *as written* is at least `threshold`, so
    0.500 passes 0.5. A base without a value belongs to no call, and calls on
    either side of one are never joined, however large `merge_gap` is.

    Parameters
    ----------
    track : ContigTrack
    threshold : float
        Probability.
    min_length : int
        Bases; shorter calls are dropped, after joining.
    merge_gap : int
        Bases; calls at most this far apart are joined, and the bases between
        them count in the mean.

    Returns
    -------
    numpy.ndarray
        `CALL_DTYPE`, shape (n,), in order.
    """
    table = _classes(track, threshold)
    covered, total = np.cumsum(table["end"] - table["start"]), np.cumsum(table["total"])
    called = np.flatnonzero(table["called"])
    if not len(called):
        return np.empty(0, dtype=CALL_DTYPE)
    gap = table["start"][called[1:]] - table["end"][called[:-1]]
    known = covered[called[1:] - 1] - covered[called[:-1]]  # bases with a value between two calls
    cut = np.flatnonzero((gap > merge_gap) | (gap != known))
    opening = np.r_[0, cut + 1]
    first, last = called[opening], called[np.r_[cut, len(called) - 1]]
    calls = np.empty(len(first), dtype=CALL_DTYPE)
    calls["start"], calls["end"] = table["start"][first], table["end"][last]
    length = calls["end"] - calls["start"]
    calls["mean"] = (total[last] - total[first] + table["total"][first]) / length / SCALE
    calls["max"] = np.maximum.reduceat(table["peak"][called], opening) / SCALE
    return calls[length >= min_length]


def call_regions(
    values: np.ndarray, start: int, threshold: float, min_length: int, merge_gap: int
) -> np.ndarray:
    """Call intervals among consecutive bases; see `call_track`.

    Parameters
    ----------
    values : numpy.ndarray
        uint16, shape (n,): stored values of the bases from `start` on.
    start : int
        Position of the first base.
    """
    return call_track(ContigTrack("", [(start, values)]), threshold, min_length, merge_gap)


def _blocks(pieces: Sequence[tuple[int, np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
    for start, values in pieces:
        for offset in range(0, len(values), _BLOCK):
            yield start + offset, np.asarray(values[offset : offset + _BLOCK])


def _valued(starts: np.ndarray, ends: np.ndarray, values: np.ndarray) -> Iterator[tuple]:
    known = values != NO_VALUE
    if known.all():
        known = slice(None)
    if len(values[known]):
        yield starts[known], ends[known], values[known]


def _level(threshold: float) -> int:
    """Return the least stored value whose probability reaches the threshold."""
    level = int(np.ceil(threshold * SCALE))
    return level - 1 if (level - 1) / SCALE >= threshold else level  # 0.07 * 100 is 7.000000000000001


def _classes(track: ContigTrack, threshold: float) -> np.ndarray:
    """Tell runs of called bases from runs of others, with the sum and peak of their values.

    Runs may be cut at block borders: the parts touch, which joins them again.
    """
    level = _level(threshold)
    tables = [np.empty(0, dtype=_CLASS_DTYPE)]
    for starts, ends, values in iterate_runs(track):
        called = values >= level
        first = np.flatnonzero(np.r_[True, (called[1:] != called[:-1]) | (starts[1:] != ends[:-1])])
        table = np.empty(len(first), dtype=_CLASS_DTYPE)
        table["start"], table["end"] = starts[first], ends[np.r_[first[1:], len(ends)] - 1]
        table["called"] = called[first]
        table["total"] = np.add.reduceat(values * (ends - starts), first)
        table["peak"] = np.maximum.reduceat(values, first)
        tables.append(table)
    return np.concatenate(tables)
