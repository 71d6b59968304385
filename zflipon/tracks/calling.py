"""Quantized base probabilities of a contig → runs of equal value → called intervals.

Probabilities are stored as they are written, as whole multiples of ``10 ** -PROBABILITY_DECIMALS``. Calls, bigWig and
bedGraph therefore agree on which bases pass the threshold, and a base takes two bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from zflipon.config import PROBABILITY_DECIMALS

SCALE = 10**PROBABILITY_DECIMALS
"""Quantized value of probability 1."""

NO_VALUE = 65535
"""Quantized value of a base without a probability, such as a base in a gap of N."""

CALL_DTYPE = np.dtype([("start", np.int64), ("end", np.int64), ("mean", np.float64), ("max", np.float64)])
"""One call: ``[start, end)`` and the mean and highest probability of its bases."""

_BLOCK = 1 << 20
"""Bases that are processed together."""

_RUN_DTYPE = np.dtype(
    [("start", np.int64), ("end", np.int64), ("called", bool), ("total", np.int64), ("peak", np.int64)]
)


class LazyChunks(Sequence):
    """Chunks of a contig that are read each time they are accessed, so that memory does not grow with the contig.

    Parameters
    ----------
    bounds : sequence of (int, int)
        Start and end of each chunk, in order and disjoint.
    read : callable
        ``read(number)`` returns the quantized values of a chunk: uint16, shape (bases,).
    """

    def __init__(self, bounds: Sequence[tuple[int, int]], read: Callable[[int], np.ndarray]):
        self.bounds, self._read = bounds, read

    def __len__(self) -> int:
        return len(self.bounds)

    def __getitem__(self, number: int) -> tuple[int, np.ndarray]:
        return self.bounds[number][0], self._read(number)


@dataclass(frozen=True)
class ContigTrack:
    """The probabilities of one contig.

    Attributes
    ----------
    contig : str
    chunks : sequence of (int, numpy.ndarray)
        Start and quantized values of consecutive bases, uint16 of shape (n,); `LazyChunks` for a contig that need not
        fit into memory. In order and disjoint; chunks may touch, and the results do not depend on where the contig is
        cut. Other bases have no value.

    Raises
    ------
    ValueError
        If chunks overlap or are out of order.
    """

    contig: str
    chunks: Sequence[tuple[int, np.ndarray]]

    def __post_init__(self) -> None:
        """Check that chunks are in order and disjoint."""
        previous_end = 0
        for start, end in self._bounds:
            if start < previous_end:
                raise ValueError(
                    f"{self.contig}: a chunk starts at {start}, before the end of the previous one ({previous_end})"
                )
            previous_end = end

    @property
    def end(self) -> int:
        """End of the last chunk."""
        return self._bounds[-1][1] if self.chunks else 0

    @property
    def _bounds(self) -> Sequence[tuple[int, int]]:
        if isinstance(self.chunks, LazyChunks):
            return self.chunks.bounds
        return [(start, start + len(values)) for start, values in self.chunks]


def quantize(probabilities: np.ndarray) -> np.ndarray:
    """Round probabilities to the precision that is written.

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
    """Return quantized values as probabilities: float32, same shape, NaN where there is no value."""
    return np.where(values == NO_VALUE, np.float32(np.nan), values / np.float32(SCALE)).astype(np.float32)


def is_called(probabilities: np.ndarray, threshold: float) -> np.ndarray:
    """Return which bases reach a threshold as written: bool, of the shape of `probabilities`; False at NaN."""
    return np.rint(probabilities * SCALE) >= quantized_threshold(threshold)


def iterate_runs(track: ContigTrack) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield the runs of consecutive bases with equal value, in order, many at a time.

    Bases without a value are left out. Runs continue across chunks that touch.

    Yields
    ------
    starts, ends, values : numpy.ndarray
        int64, int64 and uint16, shape (n,), n at most about a million.
    """
    # the last run of a block, which may continue in the next one
    last = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.uint16))
    for start, values in _blocks(track.chunks):
        first = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])
        starts, ends, values = start + first, start + np.r_[first[1:], len(values)], values[first]
        if len(last[0]) and last[1][0] == starts[0] and last[2][0] == values[0]:
            starts[0] = last[0][0]
        else:
            starts, ends, values = (
                np.r_[old, new] for old, new in zip(last, (starts, ends, values), strict=True)
            )
        last = (starts[-1:], ends[-1:], values[-1:])
        yield from _drop_missing(starts[:-1], ends[:-1], values[:-1])
    yield from _drop_missing(*last)


def call_track(track: ContigTrack, threshold: float, min_length: int, merge_gap: int) -> np.ndarray:
    """Call the intervals of a contig whose bases reach a threshold.

    A base is called if its probability *as written* is at least `threshold`, so 0.500 passes 0.5. A base without a
    value is in no call, and calls on either side of such a base are never merged.

    Parameters
    ----------
    track : ContigTrack
    threshold : float
        Probability.
    min_length : int
        Bases; shorter calls are dropped, after merging.
    merge_gap : int
        Bases; calls at most this far apart are merged, and the bases between them count in the mean.

    Returns
    -------
    numpy.ndarray
        `CALL_DTYPE`, shape (n,), in order.
    """
    table = _threshold_runs(track, threshold)
    bases, total = np.cumsum(table["end"] - table["start"]), np.cumsum(table["total"])
    called = np.flatnonzero(table["called"])
    if not len(called):
        return np.empty(0, dtype=CALL_DTYPE)
    gap = table["start"][called[1:]] - table["end"][called[:-1]]
    with_value = bases[called[1:] - 1] - bases[called[:-1]]  # between two runs of called bases
    separate = np.flatnonzero((gap > merge_gap) | (gap != with_value))
    first_runs = np.r_[0, separate + 1]
    first, last = called[first_runs], called[np.r_[separate, len(called) - 1]]
    calls = np.empty(len(first), dtype=CALL_DTYPE)
    calls["start"], calls["end"] = table["start"][first], table["end"][last]
    length = calls["end"] - calls["start"]
    calls["mean"] = (total[last] - total[first] + table["total"][first]) / length / SCALE
    calls["max"] = np.maximum.reduceat(table["peak"][called], first_runs) / SCALE
    return calls[length >= min_length]


def call_summits(track: ContigTrack, calls: np.ndarray) -> np.ndarray:
    """Return the position of the highest probability of each call: the middle of its first run with that value.

    Parameters
    ----------
    track : ContigTrack
    calls : numpy.ndarray
        `CALL_DTYPE`, shape (n,): calls of the track, in order.

    Returns
    -------
    numpy.ndarray
        int64, shape (n,), 0-based.
    """
    summits = np.full(len(calls), -1, dtype=np.int64)
    highest = np.rint(calls["max"] * SCALE).astype(np.int64)
    for starts, ends, values in iterate_runs(track):  # no run crosses the border of a call
        call = np.searchsorted(calls["end"], starts, side="right")
        inside = np.flatnonzero(call < len(calls))
        inside = inside[calls["start"][call[inside]] <= starts[inside]]
        inside = inside[values[inside] == highest[call[inside]]]
        numbers, first = np.unique(call[inside], return_index=True)
        first, numbers = first[summits[numbers] < 0], numbers[summits[numbers] < 0]
        summits[numbers] = (starts[inside[first]] + ends[inside[first]] - 1) // 2
    return summits


def call_regions(
    values: np.ndarray, start: int, threshold: float, min_length: int, merge_gap: int
) -> np.ndarray:
    """Call intervals among consecutive bases; see `call_track`.

    Parameters
    ----------
    values : numpy.ndarray
        uint16, shape (n,): quantized values of the bases from `start` on.
    start : int
        Position of the first base.
    """
    return call_track(ContigTrack("", [(start, values)]), threshold, min_length, merge_gap)


def _blocks(chunks: Sequence[tuple[int, np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
    for start, values in chunks:
        for offset in range(0, len(values), _BLOCK):
            yield start + offset, np.asarray(values[offset : offset + _BLOCK])


def _drop_missing(starts: np.ndarray, ends: np.ndarray, values: np.ndarray) -> Iterator[tuple]:
    has_value = values != NO_VALUE
    if has_value.all():
        has_value = slice(None)
    if len(values[has_value]):
        yield starts[has_value], ends[has_value], values[has_value]


def quantized_threshold(threshold: float) -> int:
    """Return the smallest quantized value whose probability reaches the threshold."""
    level = int(np.ceil(threshold * SCALE))
    return level - 1 if (level - 1) / SCALE >= threshold else level  # 0.07 * 100 is 7.000000000000001


def _threshold_runs(track: ContigTrack, threshold: float) -> np.ndarray:
    """Return alternating runs of called and other bases, with the sum and peak of their values: `_RUN_DTYPE`.

    A run may be divided at the border of two blocks; its parts touch, so that `call_track` merges them.
    """
    level = quantized_threshold(threshold)
    tables = [np.empty(0, dtype=_RUN_DTYPE)]
    for starts, ends, values in iterate_runs(track):
        called = values >= level
        first = np.flatnonzero(np.r_[True, (called[1:] != called[:-1]) | (starts[1:] != ends[:-1])])
        table = np.empty(len(first), dtype=_RUN_DTYPE)
        table["start"], table["end"] = starts[first], ends[np.r_[first[1:], len(ends)] - 1]
        table["called"] = called[first]
        table["total"] = np.add.reduceat(values * (ends - starts), first)
        table["peak"] = np.maximum.reduceat(values, first)
        tables.append(table)
    return np.concatenate(tables)
