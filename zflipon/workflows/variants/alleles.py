"""Alleles → pairs of windows, one with the reference and one with the alternative allele."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zflipon.genome.fasta import Genome
from zflipon.workflows.variants.windows import Geometry, LocalSequence, read_local_sequence

SKIP_REASONS = {
    "ref_mismatch": "REF differs from the FASTA",
    "symbolic": "symbolic allele or breakend",
    "spanning_deletion": "the allele *",
    "not_acgt": "letters other than A, C, G and T",
    "too_long": "longer than the longest allele that is scored",
    "off_contig": "contig or position that is not in the FASTA",
}
"""Code of a reason why an allele is not scored, as in ``ZF_WHY`` → explanation."""


@dataclass(frozen=True)
class AllelePair:
    """The windows of one allele, and how bases of reference and alternative correspond.

    Attributes
    ----------
    windows : tuple of (int, int, int)
        For each offset: start on the contig, index of the reference sequence, index of the alternative sequence.
    low, high : int
        Reference bases that are compared: ``[low, high)``.
    start : int
        First base of the allele.
    ref_length : int
        Bases of the reference allele.
    split : int
        Reference position where bases that only one allele has are inserted into the alignment.
    length_change : int
        Bases by which the alternative allele is longer; negative if it is shorter.
    unknown : numpy.ndarray
        bool, shape (high - low,): True at N, which has no probability.
    """

    windows: tuple[tuple[int, int, int], ...]
    low: int
    high: int
    start: int
    ref_length: int
    split: int
    length_change: int
    unknown: np.ndarray


class AlleleBatch:
    """Alleles that are scored together. Equal windows are predicted once.

    Parameters
    ----------
    genome : Genome
    geometry : Geometry

    Attributes
    ----------
    sequences : list of str
        Windows to predict.
    positions : list of (str, int)
        Contig and start of each window.
    pairs : list of AllelePair or str
        For each allele its windows, or the reason why it has none, of `SKIP_REASONS`.
    """

    def __init__(self, genome: Genome, geometry: Geometry):
        self._genome, self._geometry = genome, geometry
        self._indices: dict[tuple[str, int, str], int] = {}
        self._cores: list[list[int]] = []
        self.sequences: list[str] = []
        self.positions: list[tuple[str, int]] = []
        self.pairs: list[AllelePair | str] = []

    @property
    def cores(self) -> np.ndarray:
        """Bases of each sequence whose probability is needed: int64, shape (sequences, 2)."""
        return np.array(self._cores, dtype=np.int64).reshape(-1, 2)

    def add(self, contig: str, start: int, ref: str, alt: str) -> None:
        """Add an allele.

        Parameters
        ----------
        contig : str
        start : int
            0-based.
        ref, alt : str
            As in the VCF.
        """
        ref, alt = ref.upper(), alt.upper()
        reason = self._skip_reason(contig, start, ref, alt)
        self.pairs.append(reason or self._make_pair(contig, start, ref, alt))

    def _skip_reason(self, contig: str, start: int, ref: str, alt: str) -> str:
        """Return why an allele cannot be scored, or an empty string."""
        if not 0 <= start <= start + len(ref) <= self._genome.lengths.get(contig, -1):
            return "off_contig"
        if alt == "*":
            return "spanning_deletion"
        if not alt.isalpha():
            return "symbolic"
        if self._genome.fetch(contig, start, start + len(ref)) != ref:
            return "ref_mismatch"
        if set(ref + alt) - set("ACGT"):
            return "not_acgt"
        return "too_long" if max(len(ref), len(alt)) > self._geometry.longest else ""

    def _make_pair(self, contig: str, start: int, ref: str, alt: str) -> AllelePair:
        geometry, end, change = self._geometry, start + len(ref), len(alt) - len(ref)
        local = read_local_sequence(self._genome, contig, start, end, geometry)
        starts = geometry.window_starts(start + max(len(ref), len(alt)) // 2, local, change)
        low, high = geometry.compared_range(start, end, local, starts, change)
        windows = []
        for first in starts:
            before, after = self._window_texts(local, first, start, ref, alt)
            reference = self._index(contig, first, before, low - first, high - first)
            alternative = self._index(contig, first, after, low - first, high + change - first)
            windows.append((first, reference, alternative))
        letters = local.text[low - local.start : high - local.start].encode()
        unknown = np.frombuffer(letters, dtype=np.uint8) == ord("N")
        split = start + insertion_point(ref, alt)
        return AllelePair(tuple(windows), low, high, start, len(ref), split, change, unknown)

    def _window_texts(
        self, local: LocalSequence, first: int, start: int, ref: str, alt: str
    ) -> tuple[str, str]:
        """Return the window that starts at `first`, with the reference and with the alternative allele."""
        text, at = local.text[first - local.start :], start - first
        size = self._geometry.window
        return text[:size], (text[:at] + alt + text[at + len(ref) :])[:size]

    def _index(self, contig: str, first: int, sequence: str, low: int, high: int) -> int:
        """Return the index of a window, adding it if it is new; extend its core to ``[low, high)``."""
        index = self._indices.setdefault((contig, first, sequence), len(self.sequences))
        if index == len(self.sequences):
            self.sequences.append(sequence)
            self.positions.append((contig, first))
            self._cores.append([low, high])
        core = self._cores[index]
        core[0], core[1] = min(core[0], low), max(core[1], high)
        return index


def insertion_point(ref: str, alt: str) -> int:
    """Return the offset in both alleles at which the bases that only one of them has begin.

    The common prefix and suffix are aligned, and so are the remaining bases from the left.

    Examples
    --------
    >>> insertion_point("A", "AT"), insertion_point("CAT", "CT"), insertion_point("AC", "GTT")
    (1, 1, 2)
    """
    prefix = _common_prefix(ref, alt)
    ref, alt = ref[prefix:], alt[prefix:]
    suffix = _common_prefix(ref[::-1], alt[::-1])
    return prefix + min(len(ref), len(alt)) - suffix


def _common_prefix(one: str, other: str) -> int:
    """Return the length of the longest common prefix."""
    return next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
