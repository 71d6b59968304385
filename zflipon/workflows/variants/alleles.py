"""Alleles → pairs of windows, with the reference and with the alternative, and what stands against what."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zflipon.genome.fasta import Genome
from zflipon.workflows.variants.windows import Around, Geometry, surroundings

REASONS = {
    "ref_mismatch": "REF is not what the FASTA has there",
    "symbolic": "symbolic allele or breakend",
    "spanning_deletion": "the allele *",
    "not_acgt": "letters other than A, C, G and T",
    "too_long": "longer than the longest allele that is scored",
    "off_contig": "contig or position that the FASTA lacks",
}
"""Why an allele has no scores, as ``ZF_WHY`` tells it → in words."""


@dataclass(frozen=True)
class Pair:
    """An allele's windows and how their bases are laid against each other.

    Attributes
    ----------
    windows : tuple of (int, int, int)
        For each offset: start on the contig, number of the reference's sequence, and of the alternative's.
    low, high : int
        Bases of the reference that are compared.
    start : int
        First base of the allele.
    split : int
        Where bases stand that only one allele has.
    grown : int
        Bases by which the alternative allele is longer.
    unknown : numpy.ndarray
        bool, shape (high - low,): N, which has no probability.
    """

    windows: tuple[tuple[int, int, int], ...]
    low: int
    high: int
    start: int
    split: int
    grown: int
    unknown: np.ndarray


class Pool:
    """Alleles that are scored together; equal windows are read once.

    Parameters
    ----------
    genome : Genome
    geometry : Geometry

    Attributes
    ----------
    sequences : list of str
        Windows that are to be read.
    places : list of (str, int)
        Contig and start of each.
    pairs : list of Pair or str
        For each allele its windows, or why it has none: one of `REASONS`.
    """

    def __init__(self, genome: Genome, geometry: Geometry):
        self._genome, self._geometry = genome, geometry
        self._numbers: dict[tuple[str, int, str], int] = {}
        self._cores: list[list[int]] = []
        self.sequences: list[str] = []
        self.places: list[tuple[str, int]] = []
        self.pairs: list[Pair | str] = []

    @property
    def cores(self) -> np.ndarray:
        """Bases of each sequence that are wanted: int64, shape (sequences, 2)."""
        return np.array(self._cores, dtype=np.int64).reshape(-1, 2)

    def add(self, contig: str, start: int, ref: str, alt: str) -> None:
        """Take an allele.

        Parameters
        ----------
        contig : str
        start : int
            0-based.
        ref, alt : str
            As the VCF has them.
        """
        ref, alt = ref.upper(), alt.upper()
        self.pairs.append(self._unfit(contig, start, ref, alt) or self._pair(contig, start, ref, alt))

    def _unfit(self, contig: str, start: int, ref: str, alt: str) -> str:
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

    def _pair(self, contig: str, start: int, ref: str, alt: str) -> Pair:
        shape, end, grown = self._geometry, start + len(ref), len(alt) - len(ref)
        around = surroundings(self._genome, contig, start, end, shape)
        places = shape.places(start + max(len(ref), len(alt)) // 2, around, grown)
        low, high = shape.compared(start, end, around, places, grown)
        windows = []
        for first in places:
            before, after = self._texts(around, first, start, ref, alt)
            own = self._number(contig, first, before, low - first, high - first)
            other = self._number(contig, first, after, low - first, high + grown - first)
            windows.append((first, own, other))
        letters = around.text[low - around.start : high - around.start].encode()
        unknown = np.frombuffer(letters, dtype=np.uint8) == ord("N")
        return Pair(tuple(windows), low, high, start, start + shared(ref, alt), grown, unknown)

    def _texts(self, around: Around, first: int, start: int, ref: str, alt: str) -> tuple[str, str]:
        """Return the window that starts at `first`, with the reference and with the alternative allele."""
        text, at = around.text[first - around.start :], start - first
        size = self._geometry.window
        return text[:size], (text[:at] + alt + text[at + len(ref) :])[:size]

    def _number(self, contig: str, first: int, sequence: str, low: int, high: int) -> int:
        """Return the window's number, new or known, and widen what is wanted of it."""
        number = self._numbers.setdefault((contig, first, sequence), len(self.sequences))
        if number == len(self.sequences):
            self.sequences.append(sequence)
            self.places.append((contig, first))
            self._cores.append([low, high])
        core = self._cores[number]
        core[0], core[1] = min(core[0], low), max(core[1], high)
        return number


def shared(ref: str, alt: str) -> int:
    """Return after how many bases of the alleles those stand that only one of them has."""
    prefix = _alike(ref, alt)
    ref, alt = ref[prefix:], alt[prefix:]
    suffix = _alike(ref[::-1], alt[::-1])
    return prefix + min(len(ref), len(alt)) - suffix


def _alike(one: str, other: str) -> int:
    """Return how many letters two texts share at their beginning."""
    return next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
