"""Intervals on contigs: BED files and region strings in, sorted half-open arrays out.

The 1-based closed form that users type (``chr1:1,001-2,000``) is converted here
and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from zflipon.errors import InputError, format_names

Intervals = dict[str, np.ndarray]
"""Contig → int64 array of shape (n, 2): 0-based half-open, sorted by start, then end."""


def parse_region(text: str, lengths: Mapping[str, int]) -> tuple[str, int, int]:
    """Parse ``chr``, ``chr:start`` or ``chr:start-end`` (1-based, closed, commas allowed).

    Returns
    -------
    contig, start, end : str, int, int
        0-based half-open. A contig whose whole name is `text` wins, since names may hold ``:``.

    Raises
    ------
    InputError
        If there is no such contig or the range leaves it.
    """
    if text in lengths:
        return text, 0, lengths[text]
    match = re.fullmatch(r"(.+):([\d,]+)(?:-([\d,]+)?)?", text)
    if match is None or match[1] not in lengths:
        raise InputError(
            f"region {text!r}: no such contig; expected NAME or NAME:START-END with a name of the genome "
            f"({format_names(lengths)})"
        )
    contig, length = match[1], lengths[match[1]]
    first = int(match[2].replace(",", "") or 0)
    last = int(match[3].replace(",", "") or 0) if match[3] else length
    if not 1 <= first <= last <= length:
        raise InputError(f"region {text!r}: expected 1 ≤ start ≤ end ≤ {length}, the length of {contig}")
    return contig, first - 1, last


def merge(intervals: np.ndarray, gap: int = 0) -> np.ndarray:
    """Join sorted intervals that overlap, touch, or lie at most `gap` bases apart.

    Parameters
    ----------
    intervals : numpy.ndarray
        int64, shape (n, 2), sorted by start.
    gap : int
        Bases.
    """
    if len(intervals) == 0:
        return np.empty((0, 2), dtype=np.int64)
    reach = np.maximum.accumulate(intervals[:, 1])
    first = np.flatnonzero(np.r_[True, intervals[1:, 0] > reach[:-1] + gap])
    last = np.r_[first[1:], len(intervals)] - 1
    return np.stack([intervals[first, 0], reach[last]], axis=1)


def count_covered(intervals: np.ndarray | None, edges: np.ndarray) -> np.ndarray:
    """Count the bases between neighbouring edges that disjoint intervals cover.

    Parameters
    ----------
    intervals : numpy.ndarray or None
        int64, shape (n, 2), sorted, none empty.
    edges : numpy.ndarray
        Sorted positions, shape (m,).

    Returns
    -------
    numpy.ndarray
        int64, shape (max(m - 1, 0),).
    """
    if intervals is None or not len(intervals):
        return np.zeros(max(len(edges) - 1, 0), dtype=np.int64)
    after = np.cumsum(np.diff(intervals))
    before = after - np.diff(intervals).ravel()
    reached = np.interp(edges, intervals.ravel(), np.stack([before, after], axis=1).ravel())
    return np.diff(reached).astype(np.int64)


def merge_by_contig(intervals: Intervals, lengths: Mapping[str, int]) -> Intervals:
    """Keep the chosen contigs; join intervals that overlap or touch; drop empty ones."""
    joined = {contig: merge(intervals[contig]) for contig in lengths if contig in intervals}
    solid = {contig: runs[runs[:, 1] > runs[:, 0]] for contig, runs in joined.items()}
    return {contig: runs for contig, runs in solid.items() if len(runs)}


def interval_mask(intervals: np.ndarray | None, start: int, end: int) -> np.ndarray:
    """Mark the bases of ``[start, end)`` that sorted intervals cover.

    Returns
    -------
    numpy.ndarray
        bool, shape (end - start,).
    """
    return merged_interval_mask(None if intervals is None else merge(intervals), start, end)


def merged_interval_mask(merged: np.ndarray | None, start: int, end: int) -> np.ndarray:
    """Do what `fill` does, of intervals that are merged already."""
    covered = np.zeros(end - start, dtype=bool)
    if merged is not None and len(merged):
        for low, high in find_overlapping(merged, start, end):
            covered[max(low - start, 0) : high - start] = True
    return covered


def contains_positions(merged: np.ndarray | None, places: np.ndarray) -> np.ndarray:
    """Tell which places lie in merged intervals: bool, of the places' shape."""
    if merged is None or not len(merged):
        return np.zeros(places.shape, dtype=bool)
    before = np.searchsorted(merged[:, 0], places, side="right") - 1
    return (before >= 0) & (places < merged[before, 1])


def find_overlapping(merged: np.ndarray, start: int, end: int) -> np.ndarray:
    """Return those of sorted, disjoint intervals that touch ``[start, end)``."""
    first = np.searchsorted(merged[:, 1], start, side="right")
    last = np.searchsorted(merged[:, 0], end, side="left")
    return merged[first:last]
