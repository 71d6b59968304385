"""Composition of sequence in windows: tetranucleotide counts, and the statistics that distinguish genomes.

The statistics are compared with those of training data in `zflipon.models.domain`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zflipon.genome.alphabet import UNKNOWN_BASE, base_codes_uint8

COMPOSITION_WINDOW = 50_000
"""Tetranucleotides of a window; enough to count each to about 7 %."""

MAX_COUNTED_BASES = 200_000_000
"""Bases of a genome of which the composition is counted; of a larger one, evenly spaced windows are counted."""

TETRANUCLEOTIDES = 256

DINUCLEOTIDES = ("AA", "AC", "AG", "AT", "CA", "CC", "CG", "GA", "GC", "TA")
"""Dinucleotides that represent themselves and their reverse complement."""

_PSEUDOCOUNT = 1.0
_LETTERS = "ACGT"
_FIRST, _SECOND = (np.array([_LETTERS.index(pair[place]) for pair in DINUCLEOTIDES]) for place in (0, 1))
_DIGITS = np.stack([np.arange(TETRANUCLEOTIDES) >> shift & 3 for shift in (6, 4, 2, 0)], axis=1)
_REVERSE_COMPLEMENT = (3 - _DIGITS[:, ::-1]) @ np.array([64, 16, 4, 1])


class CompositionCounter:
    """Counts tetranucleotides in consecutive windows of the sequence that it gets, whatever contigs it is from.

    Short contigs fill a window together, so that a fragmented assembly has the windows of a complete one.

    Parameters
    ----------
    total_bases : int
        Bases that will be added. If these are more than `MAX_COUNTED_BASES`, only a part of each chunk is counted.

    Examples
    --------
    >>> counter = CompositionCounter()
    >>> counter.add("ACGT" * 30_000)
    >>> counter.windows().shape, int(counter.windows()[0].sum())
    ((2, 256), 50000)
    """

    def __init__(self, total_bases: int = 0):
        self._stride = COMPOSITION_WINDOW * max(1, -(-total_bases // MAX_COUNTED_BASES))
        self._windows: list[np.ndarray] = []
        self._open = np.zeros(TETRANUCLEOTIDES, dtype=np.int64)
        self._count = 0  # tetranucleotides in the open window

    def add(self, sequence: str) -> None:
        """Count the next part of the genome, upper-case. Tetranucleotides with an unknown base do not count."""
        for start in range(0, len(sequence), self._stride):
            part = sequence[start : start + COMPOSITION_WINDOW + 3]
            self._add_indices(tetranucleotide_indices(part))

    def _add_indices(self, indices: np.ndarray) -> None:
        while len(indices):
            taken = indices[: COMPOSITION_WINDOW - self._count]
            self._open += np.bincount(taken, minlength=TETRANUCLEOTIDES)
            self._count += len(taken)
            indices = indices[len(taken) :]
            if self._count == COMPOSITION_WINDOW:
                self._windows.append(self._open.astype(np.uint16))
                self._open[:] = 0
                self._count = 0

    def windows(self) -> np.ndarray:
        """Return the counts in the complete windows: int64, shape (windows, 256), for ``AAAA`` to ``TTTT``."""
        return np.array(self._windows, dtype=np.int64).reshape(-1, TETRANUCLEOTIDES)


def tetranucleotide_indices(sequence: str) -> np.ndarray:
    """Return the index of each tetranucleotide of known bases: uint8, 0 for AAAA to 255 for TTTT.

    Examples
    --------
    >>> tetranucleotide_indices("AAAACNACGT").tolist()
    [0, 1, 27]
    """
    codes = base_codes_uint8(sequence)
    if len(codes) < 4:
        return np.empty(0, dtype=np.uint8)
    indices = codes[:-3] << 6 | codes[1:-2] << 4 | codes[2:-1] << 2 | codes[3:]
    unknown = codes == UNKNOWN_BASE
    if not unknown.any():
        return indices
    return indices[~(unknown[:-3] | unknown[1:-2] | unknown[2:-1] | unknown[3:])]


@dataclass(frozen=True)
class Composition:
    """Statistics of windows, the same for both strands.

    Attributes
    ----------
    gc : numpy.ndarray
        float64, shape (windows,): GC fraction.
    ratios : numpy.ndarray
        float64, shape (windows, 10): log of observed / expected frequency of `DINUCLEOTIDES`, expected from the
        frequencies of the bases (Karlin & Burge, Trends Genet 11:283, 1995).
    frequencies : numpy.ndarray
        float64, shape (windows, 256): of the tetranucleotides.
    residuals : numpy.ndarray
        float64, shape (windows, 256): log of observed / expected frequency of the tetranucleotides, expected from
        the frequencies of the dinucleotides.
    """

    gc: np.ndarray
    ratios: np.ndarray
    frequencies: np.ndarray
    residuals: np.ndarray


def composition_of(windows: np.ndarray) -> Composition:
    """Return the statistics of tetranucleotide counts, shape (windows, 256)."""
    counts = windows + windows[:, _REVERSE_COMPLEMENT] + _PSEUDOCOUNT
    frequencies = counts / counts.sum(axis=1, keepdims=True)
    four = frequencies.reshape(-1, 4, 4, 4, 4)
    two = four.sum(axis=(3, 4))
    one = two.sum(axis=2)
    ratios = np.log(two / (one[:, :, None] * one[:, None, :]))
    chain = two[:, :, :, None, None] * two[:, None, :, :, None] * two[:, None, None, :, :]
    expected = chain / (one[:, None, :, None, None] * one[:, None, None, :, None])
    residuals = np.log(four / expected).reshape(-1, TETRANUCLEOTIDES)
    return Composition(one[:, 1] + one[:, 2], ratios[:, _FIRST, _SECOND], frequencies, residuals)
