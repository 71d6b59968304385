"""Overlapping windows of a segment, and the core of each: arithmetic only.

A model reads a window, but only the bases of its *core* are decided from it: those at least a margin away from the
window's edges. Consecutive cores touch, so every base is decided exactly once. At the ends of a segment the core
reaches the edge, and the last window is moved inward so that it has full width.
"""

from __future__ import annotations

import numpy as np

WINDOW_DTYPE = np.dtype(
    [("start", np.int64), ("end", np.int64), ("core_start", np.int64), ("core_end", np.int64)]
)
"""One window: the model reads ``[start, end)`` and decides ``[core_start, core_end)``."""


def tile_windows(
    start: int, end: int, window: int, margin: int, first: int = 0, last: int | None = None
) -> np.ndarray:
    """Return the windows of the segment ``[start, end)`` of a contig.

    Parameters
    ----------
    start, end : int
        Bases, 0-based half-open.
    window : int
        Bases that a model reads at once.
    margin : int
        Bases of context on each side of a core that is followed by another one; less than half of `window`.
    first, last : int, optional
        Return only the windows ``[first, last)``.

    Returns
    -------
    numpy.ndarray
        `WINDOW_DTYPE`, shape (n,). The cores partition the segment in order. A segment no longer than `window` is one
        window, all of it core.

    Raises
    ------
    ValueError
        If `margin` leaves no core.

    Examples
    --------
    >>> tile_windows(0, 21, window=10, margin=2).tolist()
    [(0, 10, 0, 8), (6, 16, 8, 14), (11, 21, 14, 21)]
    """
    if not 0 <= 2 * margin < window:
        raise ValueError(f"a margin of {margin} leaves no core in a window of {window}")
    length = end - start
    if length <= 0:
        return np.empty(0, dtype=WINDOW_DTYPE)
    stride = window - 2 * margin
    count = 1 + max(0, -(-(length - window) // stride))
    index = np.arange(count, dtype=np.int64)[first:last]
    regular = start + stride * index
    windows = np.empty(len(index), dtype=WINDOW_DTYPE)
    windows["start"] = np.minimum(regular, max(start, end - window))
    windows["end"] = np.minimum(windows["start"] + window, end)
    windows["core_start"] = np.where(index == 0, start, regular + margin)
    windows["core_end"] = np.where(index == count - 1, end, regular + stride + margin)
    return windows


def find_windows(windows: np.ndarray, start: int, end: int) -> np.ndarray:
    """Return the windows whose cores overlap ``[start, end)``; the cores must be in order."""
    first = np.searchsorted(windows["core_end"], start, side="right")
    last = np.searchsorted(windows["core_start"], end, side="left")
    return windows[first:last]
