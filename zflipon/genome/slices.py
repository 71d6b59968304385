"""Parts of a text, read on either strand: as strings, or as nucleotide codes side by side.

Windows overlap and are read twice where both strands are. So their letters are turned into codes once for all, and
copied, many windows at a time, only when they are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from zflipon.genome.alphabet import PADDING_BASE, UNKNOWN_BASE, base_codes_uint8, reverse_complement

_OPPOSITE = np.array([3, 2, 1, 0, UNKNOWN_BASE, PADDING_BASE], dtype=np.uint8)


class SequenceWindows(Sequence[str]):
    """Parts of a text, in any order; they may overlap.

    Parameters
    ----------
    text : str
        Upper case.
    starts, ends : numpy.ndarray
        int64, shape (n,): of each part.
    turned : numpy.ndarray, optional
        bool, shape (n,): which are read on the other strand, as their reverse complement; none by default.
    """

    def __init__(self, text: str, starts: np.ndarray, ends: np.ndarray, turned: np.ndarray | None = None):
        self.text = text
        self.starts, self.ends = starts, ends
        self.turned = np.zeros(len(starts), dtype=bool) if turned is None else turned

    @classmethod
    def of(cls, sequences: Sequence[str]) -> SequenceWindows:
        """Lay sequences, of any case, one after the other."""
        if isinstance(sequences, SequenceWindows):
            return sequences
        ends = np.cumsum([len(sequence) for sequence in sequences], dtype=np.int64)
        starts = np.concatenate([np.zeros(1, dtype=np.int64), ends])[: len(ends)]
        return cls("".join(sequences).upper(), starts, ends)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, which: int | slice | np.ndarray) -> str | SequenceWindows:
        """Return one as a string, or some of them."""
        if not isinstance(which, int | np.integer):
            part = SequenceWindows(self.text, self.starts[which], self.ends[which], self.turned[which])
            part.__dict__["_strands"] = self._strands
            return part
        letters = self.text[self.starts[which] : self.ends[which]]
        return reverse_complement(letters) if self.turned[which] else letters

    @property
    def widths(self) -> np.ndarray:
        """Bases of each: int64, shape (n,)."""
        return self.ends - self.starts

    def other_strand(self) -> SequenceWindows:
        """Return them as they are read on the other strand."""
        return SequenceWindows(self.text, self.starts, self.ends, ~self.turned)

    def on_both_strands(self) -> SequenceWindows:
        """Return all of them, and then all of them as they are read on the other strand."""
        turned = np.concatenate([self.turned, ~self.turned])
        return SequenceWindows(self.text, np.tile(self.starts, 2), np.tile(self.ends, 2), turned)

    def codes(self) -> np.ndarray:
        """Return nucleotide codes: uint8, shape (n, longest), `PADDING_BASE` beyond the end of each."""
        widths = self.widths
        longest = int(widths.max(initial=0))
        if not longest:
            return np.empty((len(self), 0), dtype=np.uint8)
        letters, other = self._strands
        rows = np.lib.stride_tricks.sliding_window_view(letters, longest)
        codes = rows[np.where(self.turned, other - self.ends, self.starts)]
        if (widths < longest).any():
            codes[np.arange(longest) >= widths[:, None]] = PADDING_BASE
        return codes

    @cached_property
    def _strands(self) -> tuple[np.ndarray, int]:
        """The codes of both strands, each with room behind it for the longest part, and the end of the other one."""
        codes = base_codes_uint8(self.text)
        beyond = np.full(self.widths.max(initial=0), PADDING_BASE, dtype=np.uint8)
        if not self.turned.any():
            return np.concatenate([codes, beyond]), 0
        other = _OPPOSITE[codes[::-1]]
        return np.concatenate([codes, beyond, other, beyond]), 2 * len(codes) + len(beyond)
