"""Interval arithmetic on contigs: sorted half-open arrays, masks, and region strings.

Interval files are read in `zflipon.genome.interval_files`. The 1-based closed form that users type
(``chr1:1,001-2,000``) is converted in `parse_region` and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from zflipon.errors import InputError, format_names
from zflipon.genome.names import resolve_contig

Intervals = dict[str, np.ndarray]
"""Contig → int64 array of shape (n, 2): 0-based half-open, sorted by start, then end."""

_REGION = re.compile(r"(.+):([0-9,]{1,24})(?:-([0-9,]{1,24})?)?", re.ASCII | re.DOTALL)


def parse_region(text: str, lengths: Mapping[str, int]) -> tuple[str, int, int]:
    """Parse a region: ``chr``, ``chr:start`` or ``chr:start-end`` (1-based, closed, commas allowed).

    Parameters
    ----------
    text : str
        If a contig has this whole name, the contig is meant, since names may contain ``:``.
    lengths : mapping of str to int
        The genome's contigs and their lengths.

    Returns
    -------
    contig, start, end : str, int, int
        0-based half-open.

    Raises
    ------
    InputError
        If the contig is unknown or the range is outside of it.

    Examples
    --------
    >>> parse_region("chr1:1,001-2,000", {"chr1": 5000})
    ('chr1', 1000, 2000)
    """
    if text in lengths:
        return text, 0, lengths[text]
    match = _REGION.fullmatch(text)
    contig = resolve_contig(text if match is None else match[1], lengths)
    if match is None and contig in lengths:
        return contig, 0, lengths[contig]
    if match is None or contig not in lengths:
        raise InputError(
            f"region {text!r}: no such contig; expected NAME or NAME:START-END with a name of the genome "
            f"({format_names(lengths)})"
        )
    length = lengths[contig]
    first = int(match[2].replace(",", "") or 0)
    last = int(match[3].replace(",", "") or 0) if match[3] else length
    if not 1 <= first <= last <= length:
        raise InputError(f"region {text!r}: expected 1 ≤ start ≤ end ≤ {length}, the length of {contig}")
    return contig, first - 1, last


def merge(intervals: np.ndarray, gap: int = 0) -> np.ndarray:
    """Merge sorted intervals that overlap, touch, or are at most `gap` bases apart.

    Parameters
    ----------
    intervals : numpy.ndarray
        int64, shape (n, 2), sorted by start.
    gap : int
        Bases.

    Examples
    --------
    >>> merge(np.array([[0, 3], [2, 5], [6, 8]])).tolist()
    [[0, 5], [6, 8]]
    """
    if len(intervals) == 0:
        return np.empty((0, 2), dtype=np.int64)
    max_ends = np.maximum.accumulate(intervals[:, 1])
    first = np.flatnonzero(np.r_[True, intervals[1:, 0] > max_ends[:-1] + gap])
    last = np.r_[first[1:], len(intervals)] - 1
    return np.stack([intervals[first, 0], max_ends[last]], axis=1)


def merge_by_contig(intervals: Intervals, lengths: Mapping[str, int]) -> Intervals:
    """Merge the intervals of some contigs, and drop empty intervals and contigs without any.

    Parameters
    ----------
    intervals : Intervals
    lengths : mapping of str to int
        The contigs to keep.
    """
    merged = {contig: merge(intervals[contig]) for contig in lengths if contig in intervals}
    nonempty = {contig: rows[rows[:, 1] > rows[:, 0]] for contig, rows in merged.items()}
    return {contig: rows for contig, rows in nonempty.items() if len(rows)}


def count_covered(intervals: np.ndarray | None, edges: np.ndarray) -> np.ndarray:
    """Count the bases between consecutive edges that intervals cover.

    Parameters
    ----------
    intervals : numpy.ndarray or None
        int64, shape (n, 2), sorted, disjoint, none empty.
    edges : numpy.ndarray
        Sorted positions, shape (m,).

    Returns
    -------
    numpy.ndarray
        int64, shape (max(m - 1, 0),).

    Examples
    --------
    >>> count_covered(np.array([[2, 5], [8, 9]]), np.array([0, 4, 10])).tolist()
    [2, 2]
    """
    if intervals is None or not len(intervals):
        return np.zeros(max(len(edges) - 1, 0), dtype=np.int64)
    # covered bases up to each start and end, interpolated at the edges
    after = np.cumsum(np.diff(intervals))
    before = after - np.diff(intervals).ravel()
    up_to_edges = np.interp(edges, intervals.ravel(), np.stack([before, after], axis=1).ravel())
    return np.diff(up_to_edges).astype(np.int64)


def complement(intervals: np.ndarray | None, length: int) -> np.ndarray:
    """Return the parts of a contig outside of sorted, disjoint intervals: int64, shape (n, 2).

    Examples
    --------
    >>> complement(np.array([[2, 5]]), 9).tolist()
    [[0, 2], [5, 9]]
    """
    inner = intervals.ravel() if intervals is not None else []
    edges = np.r_[0, inner, length].astype(np.int64).reshape(-1, 2)
    return edges[edges[:, 1] > edges[:, 0]]


def intersect(one: np.ndarray | None, other: np.ndarray | None) -> np.ndarray:
    """Return the parts that are in both of two lists of sorted, disjoint intervals: int64, shape (n, 2).

    Examples
    --------
    >>> intersect(np.array([[0, 4], [6, 9]]), np.array([[3, 7]])).tolist()
    [[3, 4], [6, 7]]
    """
    if one is None or other is None or not len(one) or not len(other):
        return np.empty((0, 2), dtype=np.int64)
    edges = np.union1d(one, other)
    inside = (count_covered(one, edges) > 0) & (count_covered(other, edges) > 0)
    return merge(np.stack([edges[:-1], edges[1:]], axis=1)[inside])


def interval_mask(intervals: np.ndarray | None, start: int, end: int) -> np.ndarray:
    """Return which bases of ``[start, end)`` sorted intervals cover.

    Parameters
    ----------
    intervals : numpy.ndarray or None
        int64, shape (n, 2), sorted by start; they may overlap.
    start, end : int

    Returns
    -------
    numpy.ndarray
        bool, shape (end - start,).
    """
    return merged_interval_mask(None if intervals is None else merge(intervals), start, end)


def merged_interval_mask(merged: np.ndarray | None, start: int, end: int) -> np.ndarray:
    """Return what `interval_mask` does, for intervals that are merged already."""
    mask = np.zeros(end - start, dtype=bool)
    if merged is not None and len(merged):
        for low, high in find_overlapping(merged, start, end):
            mask[max(low - start, 0) : high - start] = True
    return mask


def contains_positions(merged: np.ndarray | None, positions: np.ndarray) -> np.ndarray:
    """Return which positions are in merged intervals: bool, of the shape of `positions`."""
    if merged is None or not len(merged):
        return np.zeros(positions.shape, dtype=bool)
    candidate = np.searchsorted(merged[:, 0], positions, side="right") - 1
    return (candidate >= 0) & (positions < merged[candidate, 1])


def overlap_mask(merged: np.ndarray | None, intervals: np.ndarray) -> np.ndarray:
    """Return which intervals share a base with sorted and disjoint ones.

    Parameters
    ----------
    merged : numpy.ndarray or None
        int64, shape (m, 2), sorted, disjoint.
    intervals : numpy.ndarray
        int64, shape (n, 2), none empty.

    Returns
    -------
    numpy.ndarray
        bool, shape (n,).

    Examples
    --------
    >>> overlap_mask(np.array([[2, 5]]), np.array([[0, 2], [4, 9]])).tolist()
    [False, True]
    """
    if merged is None or not len(merged):
        return np.zeros(len(intervals), dtype=bool)
    first = np.searchsorted(merged[:, 1], intervals[:, 0], side="right")
    return first < np.searchsorted(merged[:, 0], intervals[:, 1], side="left")


def find_overlapping(merged: np.ndarray, start: int, end: int) -> np.ndarray:
    """Return the intervals, of sorted and disjoint ones, that overlap ``[start, end)``."""
    first = np.searchsorted(merged[:, 1], start, side="right")
    last = np.searchsorted(merged[:, 0], end, side="left")
    return merged[first:last]


def complete_runs(start: int, end: int, mask: np.ndarray) -> tuple[int, int]:
    """Extend a range so that no run of true values crosses its ends.

    Parameters
    ----------
    start, end : int
        Of a range of at least one position.
    mask : numpy.ndarray
        bool, shape (positions,).

    Examples
    --------
    >>> complete_runs(2, 4, np.array([False, True, True, True, True, True, False]))
    (1, 6)
    """
    if mask[start]:
        start -= _leading_trues(mask[:start][::-1])
    if mask[end - 1]:
        end += _leading_trues(mask[end:])
    return start, end


def _leading_trues(values: np.ndarray) -> int:
    return int(np.argmin(np.append(values, False)))
