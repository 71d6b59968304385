"""Where the windows of a group of tasks lie in their joined text, and which bases of their cores need the model."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from zflipon.genome.intervals import interval_mask


class TextWindows(NamedTuple):
    """Windows in a text, whose cores touch one another within a task. All arrays are int64, shape (windows,).

    Attributes
    ----------
    starts, ends : numpy.ndarray
        Of the windows, in the text.
    core_starts, core_ends : numpy.ndarray
        Of their cores, in the text.
    first_bases : numpy.ndarray
        Index of the first base of each core among the bases of all cores.
    """

    starts: np.ndarray
    ends: np.ndarray
    core_starts: np.ndarray
    core_ends: np.ndarray
    first_bases: np.ndarray

    @classmethod
    def place(cls, windows: np.ndarray, shifts: np.ndarray) -> TextWindows:
        """Return windows of `zflipon.genome.windows.WINDOW_DTYPE`, moved by `shifts` from their contigs to the text."""
        names = ("start", "end", "core_start", "core_end")
        starts, ends, core_starts, core_ends = (windows[name] + shifts for name in names)
        sizes = core_ends - core_starts
        return cls(starts, ends, core_starts, core_ends, np.cumsum(sizes) - sizes)

    @property
    def core_sizes(self) -> np.ndarray:
        """Bases of each core."""
        return self.core_ends - self.core_starts

    @property
    def cores(self) -> np.ndarray:
        """The range of each core in its window: int64, shape (windows, 2)."""
        return np.stack([self.core_starts - self.starts, self.core_ends - self.starts], axis=1)

    def select(self, rows: np.ndarray) -> TextWindows:
        """Return some of the windows."""
        return TextWindows(*(values[rows] for values in self))

    def narrow(self, needs_model: np.ndarray) -> TextWindows:
        """Return the windows with cores from their first to their last base that needs the model.

        Parameters
        ----------
        needs_model : numpy.ndarray
            bool, shape (bases of all cores,). A core without such a base is not narrowed.

        Examples
        --------
        >>> window = TextWindows(*(np.array([number]) for number in (0, 20, 5, 15, 0)))
        >>> window.narrow(np.isin(np.arange(10), [2, 6])).cores.tolist()
        [[7, 12]]
        """
        places = np.flatnonzero(needs_model)
        first = np.searchsorted(places, self.first_bases)
        last = np.searchsorted(places, self.first_bases + self.core_sizes) - 1
        some, places = first <= last, np.append(places, 0)
        before = np.where(some, places[first] - self.first_bases, 0)
        after = np.where(some, self.first_bases + self.core_sizes - 1 - places[last], 0)
        return self._replace(
            core_starts=self.core_starts + before,
            core_ends=self.core_ends - after,
            first_bases=self.first_bases + before,
        )

    def core_mask(self, bases: int) -> np.ndarray:
        """Return which bases are in the cores, of all `bases` that cores had at first: bool, shape (bases,)."""
        ranges = np.stack([self.first_bases, self.first_bases + self.core_sizes], axis=1)
        return interval_mask(ranges, 0, bases)
