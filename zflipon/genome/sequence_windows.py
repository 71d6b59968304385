"""Windows of one sequence, on either strand, as strings or as a matrix of nucleotide codes.

The sequence is encoded once, and windows are copied from it on demand, because windows overlap and may be read on both
strands. The coordinates of the windows of a contig come from `zflipon.genome.windows`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import overload

import numpy as np

from zflipon.genome.alphabet import PADDING_BASE, UNKNOWN_BASE, base_codes_uint8, reverse_complement

_COMPLEMENT = np.array([3, 2, 1, 0, UNKNOWN_BASE, PADDING_BASE], dtype=np.uint8)


class SequenceWindows(Sequence[str]):
    """Windows of a sequence, in any order. They may overlap.

    Parameters
    ----------
    text : str
        The sequence, upper case.
    starts, ends : numpy.ndarray
        int64, shape (windows,): 0-based half-open.
    is_reverse : numpy.ndarray, optional
        bool, shape (windows,): windows that are read as their reverse complement. Default: none.
    """

    def __init__(self, text: str, starts: np.ndarray, ends: np.ndarray, is_reverse: np.ndarray | None = None):
        self.text = text
        self.starts, self.ends = starts, ends
        self.is_reverse = np.zeros(len(starts), dtype=bool) if is_reverse is None else is_reverse

    @classmethod
    def from_sequences(cls, sequences: Sequence[str]) -> SequenceWindows:
        """Make one window of each sequence, in any case. A `SequenceWindows` is returned as it is."""
        if isinstance(sequences, SequenceWindows):
            return sequences
        ends = np.cumsum([len(sequence) for sequence in sequences], dtype=np.int64)
        starts = np.concatenate([np.zeros(1, dtype=np.int64), ends])[: len(ends)]
        return cls("".join(sequences).upper(), starts, ends)

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, index: int | np.integer) -> str: ...

    @overload
    def __getitem__(self, index: slice | np.ndarray) -> SequenceWindows: ...

    def __getitem__(self, index: int | np.integer | slice | np.ndarray) -> str | SequenceWindows:
        """Return one window as a string, or several as `SequenceWindows`."""
        if not isinstance(index, int | np.integer):
            selected = SequenceWindows(
                self.text, self.starts[index], self.ends[index], self.is_reverse[index]
            )
            selected.__dict__["_encoded"] = self._encoded
            return selected
        letters = self.text[self.starts[index] : self.ends[index]]
        return reverse_complement(letters) if self.is_reverse[index] else letters

    @property
    def widths(self) -> np.ndarray:
        """Bases of each window: int64, shape (windows,)."""
        return self.ends - self.starts

    def reverse_complement(self) -> SequenceWindows:
        """Return the same windows, each read on the opposite strand."""
        return SequenceWindows(self.text, self.starts, self.ends, ~self.is_reverse)

    def with_reverse_complement(self) -> SequenceWindows:
        """Return all windows, followed by all windows read on the opposite strand."""
        is_reverse = np.concatenate([self.is_reverse, ~self.is_reverse])
        return SequenceWindows(self.text, np.tile(self.starts, 2), np.tile(self.ends, 2), is_reverse)

    def to_codes(self) -> np.ndarray:
        """Return nucleotide codes: uint8, shape (windows, longest), `PADDING_BASE` after the end of a window."""
        widths = self.widths
        longest = int(widths.max(initial=0))
        if not longest:
            return np.empty((len(self), 0), dtype=np.uint8)
        codes, reverse_end = self._encoded
        rows = np.lib.stride_tricks.sliding_window_view(codes, longest)
        matrix = rows[np.where(self.is_reverse, reverse_end - self.ends, self.starts)]
        if (widths < longest).any():
            matrix[np.arange(longest) >= widths[:, None]] = PADDING_BASE
        return matrix

    @cached_property
    def _encoded(self) -> tuple[np.ndarray, int]:
        """Return the codes of both strands in one array, and the end of the reverse strand in it.

        Each strand is followed by padding of the longest window's width. The reverse strand is left out if no window
        needs it.
        """
        codes = base_codes_uint8(self.text)
        padding = np.full(self.widths.max(initial=0), PADDING_BASE, dtype=np.uint8)
        if not self.is_reverse.any():
            return np.concatenate([codes, padding]), 0
        reverse = _COMPLEMENT[codes[::-1]]
        return np.concatenate([codes, padding, reverse, padding]), 2 * len(codes) + len(padding)
