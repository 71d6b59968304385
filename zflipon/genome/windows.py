"""Contig stretches → windows, and the core of each: pure arithmetic.

A model reads a window; only the bases of its *core*, which lie at least a
margin away from the window's edges, are decided from it. Neighbouring cores
touch, so every base is decided once. At the ends of a stretch the core reaches
to the edge, and the last window is moved inward so that it is full.
"""

from __future__ import annotations

import numpy as np

WINDOW_DTYPE = np.dtype(
    [("start", np.int64), ("end", np.int64), ("core_start", np.int64), ("core_end", np.int64)]
)
"""One window: what is read, ``[start, end)``, and what is decided, ``[core_start, core_end)``."""


def tile_windows(
    start: int, end: int, window: int, margin: int, first: int = 0, last: int | None = None
) -> np.ndarray:
    """Tile the stretch ``[start, end)`` of a contig.

    Parameters
    ----------
    start, end : int
        Bases, 0-based half-open.
    window : int
        Bases a model reads at once.
    margin : int
        Bases of context on either side of a core that has a neighbour there; less than half of `window`.
    first, last : int, optional
        Return windows ``[first, last)`` of all, from 0 on.

    Returns
    -------
    numpy.ndarray
        `WINDOW_DTYPE`, shape (n,). The cores partition the stretch in order.
        A stretch no longer than `window` is one window, all of it core.

    Raises
    ------
    ValueError
        If `margin` leaves no core.
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
    """Return the windows whose cores hold a base of ``[start, end)``; cores must be in order."""
    first = np.searchsorted(windows["core_end"], start, side="right")
    last = np.searchsorted(windows["core_start"], end, side="left")
    return windows[first:last]
