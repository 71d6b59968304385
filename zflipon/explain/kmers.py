"""k-mers that are enriched in called regions compared with shuffled sequence.

A shuffle keeps the dinucleotide counts of each region (Altschul & Erickson, Mol Biol Evol 2:526, 1985), so that a
region that is merely rich in CG enriches no k-mer. A k-mer and its reverse complement count as one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass

import numpy as np

from zflipon.errors import InputError, ZfliponError
from zflipon.explain.table_files import align_columns
from zflipon.genome.alphabet import NUCLEOTIDES, UNKNOWN_BASE, base_codes
from zflipon.genome.alternation import CLASSES, alternation, classify
from zflipon.genome.fasta import Genome
from zflipon.genome.shuffles import known_runs, shuffle_dinucleotides

SHORTEST_KMER = 3
"""A shuffle keeps the counts of shorter k-mers."""

LONGEST_KMER = 10
"""Counts are arrays of 4^k entries."""

COLUMNS = ("kmer", "observed", "expected", "spread", "fold", "z", "p", "q")
"""Columns of the table; the fields of `KmerEnrichment`."""

_LETTERS = np.array(list(NUCLEOTIDES))


@dataclass(frozen=True)
class KmerEnrichment:
    """Observed and expected counts of a k-mer and its reverse complement.

    Attributes
    ----------
    kmer : str
        The first of the two in alphabetical order.
    observed : int
        Occurrences in the regions.
    expected, spread : float
        Mean and standard deviation of the occurrences in the shuffles.
    fold : float
        (observed + 1) / (expected + 1).
    z : float
        Standard score of the observed count.
    p, q : float
        One-sided p-value of `z` under the normal distribution; the same after Benjamini & Hochberg.
    """

    kmer: str
    observed: int
    expected: float
    spread: float
    fold: float
    z: float
    p: float
    q: float


@dataclass(frozen=True)
class RegionComposition:
    """Classes and k-mers of regions.

    Attributes
    ----------
    sequences : sequence of numpy.ndarray
        Nucleotide codes of each region.
    kmers : list of KmerEnrichment
    """

    sequences: Sequence[np.ndarray]
    kmers: list[KmerEnrichment]

    def header(self) -> dict[str, object]:
        """Return number of regions, classes and share of alternating steps, for the header of the CSV file."""
        counts = Counter(map(classify, self.sequences))
        shares = [alternation(codes) for codes in self.sequences]
        return {
            "number of regions": len(self.sequences),
            "classes": ", ".join(f"{name} {counts[name]}" for name in CLASSES if counts[name]),
            "alternating purine-pyrimidine steps, mean": f"{np.nanmean(shares):.4f}",
        }

    def rows(self) -> list[tuple]:
        """Return the rows of `COLUMNS`, the most enriched first."""
        return [astuple(kmer) for kmer in self.kmers]

    def to_text(self, count: int) -> str:
        """Return the header and the first `count` rows as text for the console."""
        rows = [
            [row.kmer, f"{row.observed:,}", f"{row.expected:,.1f}", f"{row.fold:.2f}", f"{row.q:.2g}"]
            for row in self.kmers[:count]
        ]
        lines = [f"{key}: {value}" for key, value in self.header().items()]
        table = align_columns(("k-mer", "observed", "expected", "fold", "q"), rows, ("k-mer",))
        return "\n".join([*lines, "", table])


def region_codes(genome: Genome, regions: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Return the nucleotide codes of regions: int64 arrays of shape (bases,).

    Regions of N only are left out.

    Raises
    ------
    InputError
        If there is no region with sequence.
    """
    codes = [
        base_codes(genome.fetch(contig, int(start), int(end)))
        for contig, intervals in regions.items()
        for start, end in intervals
    ]
    codes = [each for each in codes if (each != UNKNOWN_BASE).any()]
    if not codes:
        raise InputError("the regions hold no sequence (A, C, G, T); check that they belong to this genome")
    return codes


def kmer_enrichment(
    sequences: Sequence[np.ndarray],
    k: int,
    shuffles: int = 50,
    seed: int = 42,
    progress: Callable[[int], object] = lambda shuffles: None,
) -> list[KmerEnrichment]:
    """Compare the k-mer counts of sequences with those of dinucleotide-preserving shuffles.

    Parameters
    ----------
    sequences : sequence of numpy.ndarray
        int64 nucleotide codes; a k-mer with an unknown base does not count.
    k : int
        `SHORTEST_KMER` to `LONGEST_KMER`.
    shuffles : int
        Shuffles of each sequence, at least 2.
    seed : int
    progress : callable
        Called with 1 after each shuffle of all sequences.

    Returns
    -------
    list of KmerEnrichment
        k-mers that occur in the sequences or in a shuffle, by ascending q, then by descending z.

    Raises
    ------
    ZfliponError
        If `k` or `shuffles` is out of range.
    """
    if not SHORTEST_KMER <= k <= LONGEST_KMER:
        raise ZfliponError(
            f"k-mers of {k} bases: expected {SHORTEST_KMER} to {LONGEST_KMER}; a shuffle keeps the counts of shorter "
            "k-mers"
        )
    if shuffles < 2:
        raise ZfliponError(f"{shuffles} shuffles: expected at least 2, for a standard deviation")
    rng = np.random.default_rng(seed)
    canonical = _canonical_indices(k)
    observed = _count_kmers(sequences, k, canonical)
    runs = [codes[start:end] for codes in sequences for start, end in known_runs(codes)]
    total, squares = np.zeros(len(observed)), np.zeros(len(observed))
    for _ in range(shuffles):
        counts = _count_kmers([shuffle_dinucleotides(run, rng) for run in runs], k, canonical)
        total += counts
        squares += counts.astype(float) ** 2
        progress(1)
    expected = total / shuffles
    spread = np.sqrt(np.maximum(squares - shuffles * expected**2, 0) / (shuffles - 1))
    return _enrichment_table(observed, expected, spread, k)


def _canonical_indices(k: int) -> np.ndarray:
    """Return, for the index of each k-mer, the smaller of it and the index of its reverse complement."""
    index = np.arange(4**k)
    complement, rest = np.zeros_like(index), index
    for _ in range(k):
        complement, rest = complement * 4 + 3 - rest % 4, rest // 4
    return np.minimum(index, complement)


def _count_kmers(sequences: Sequence[np.ndarray], k: int, canonical: np.ndarray) -> np.ndarray:
    """Count k-mers at their canonical index: int64, shape (4^k,)."""
    gap = np.array([UNKNOWN_BASE])  # no k-mer spans two sequences
    codes = np.concatenate([part for each in sequences for part in (each, gap)])
    if len(codes) < k:
        return np.zeros(4**k, dtype=np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(codes, k)
    windows = windows[(windows != UNKNOWN_BASE).all(axis=1)]
    return np.bincount(canonical[windows @ (4 ** np.arange(k - 1, -1, -1))], minlength=4**k)


def _enrichment_table(
    observed: np.ndarray, expected: np.ndarray, spread: np.ndarray, k: int
) -> list[KmerEnrichment]:
    indices = np.flatnonzero((observed > 0) | (expected > 0))
    # a few shuffles may agree by chance: no count is less variable than a Poisson count
    scale = np.maximum(spread, np.sqrt(np.maximum(expected, 1)))[indices]
    z = (observed - expected)[indices] / scale
    p = np.array([math.erfc(value / math.sqrt(2)) / 2 for value in z])
    rows = [
        KmerEnrichment(
            kmer="".join(_LETTERS[(index // 4 ** np.arange(k - 1, -1, -1)) % 4]),
            observed=int(observed[index]),
            expected=float(expected[index]),
            spread=float(spread[index]),
            fold=float((observed[index] + 1) / (expected[index] + 1)),
            z=float(z[row]),
            p=float(p[row]),
            q=float(q),
        )
        for row, (index, q) in enumerate(zip(indices, benjamini_hochberg(p), strict=True))
    ]
    return sorted(rows, key=lambda row: (row.q, -row.z, row.kmer))


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Return the q-values of p-values, of the same shape (Benjamini & Hochberg, J R Stat Soc B 57:289, 1995)."""
    order = np.argsort(p)[::-1]
    ranked = p[order] * len(p) / np.arange(len(p), 0, -1)
    q = np.empty_like(p)
    q[order] = np.minimum(np.minimum.accumulate(ranked), 1.0)
    return q
