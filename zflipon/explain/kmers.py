"""What called regions are made of: k-mers held against shuffled sequence, and the classes of Z-forming DNA.

A shuffle keeps each region's dinucleotides to the last count (Altschul & Erickson, Mol Biol Evol 2:526, 1985), so
that a k-mer is enriched only by its order, and not because the region is rich in CG. A k-mer and its reverse complement
count as one, since a region has no strand.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from itertools import pairwise

import numpy as np

from zflipon.errors import InputError, ZfliponError
from zflipon.explain.table_files import aligned
from zflipon.genome.alphabet import NUCLEOTIDES, UNKNOWN_BASE, base_codes
from zflipon.genome.fasta import Genome

LONGEST_KMER = 10

COLUMNS = ("kmer", "observed", "expected", "spread", "fold", "z", "p", "q")
"""Of the table of k-mers."""

CLASSES = ("(CG)n", "(TG)n/(CA)n", "(TA)n", "mixed alternating", "not alternating")
"""Classes of a region; see `classify`."""

_STRETCH, _PURE = 8, 0.75
_LETTERS = np.array(list(NUCLEOTIDES))
_PURINE = np.array([True, False, True, False, False])


@dataclass(frozen=True)
class Kmer:
    """One k-mer and its reverse complement.

    Attributes
    ----------
    kmer : str
        The lesser of the two, by the alphabet.
    observed : int
        Occurrences in the regions.
    expected, spread : float
        Mean and standard deviation of its occurrences in the shuffles.
    fold : float
        Observed over expected, one added to both.
    z : float
        Standard scores above the expected.
    p, q : float
        One-sided, by the normal law, and after Benjamini & Hochberg.
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
class Composition:
    """What regions are made of.

    Attributes
    ----------
    sequences : sequence of numpy.ndarray
        Nucleotide codes of the regions.
    kmers : list of Kmer
    """

    sequences: Sequence[np.ndarray]
    kmers: list[Kmer]

    def about(self) -> dict[str, object]:
        """Return what the table tells above its columns: regions, classes, share of alternating steps."""
        kinds = Counter(map(classify, self.sequences))
        shares = [alternation(codes) for codes in self.sequences]
        return {
            "number of regions": len(self.sequences),
            "classes": ", ".join(f"{kind} {kinds[kind]}" for kind in CLASSES if kinds[kind]),
            "alternating purine-pyrimidine steps, mean": f"{np.nanmean(shares):.4f}",
        }

    def rows(self) -> list[tuple]:
        """Return the rows of the table, the most enriched first."""
        return [astuple(each) for each in self.kmers]

    def told(self, top: int) -> str:
        """Return the first rows and the classes, for people."""
        rows = [
            [row.kmer, f"{row.observed:,}", f"{row.expected:,.1f}", f"{row.fold:.2f}", f"{row.q:.2g}"]
            for row in self.kmers[:top]
        ]
        lines = [f"{key}: {value}" for key, value in self.about().items()]
        return "\n".join(
            [*lines, "", aligned(("k-mer", "observed", "expected", "fold", "q"), rows, ("k-mer",))]
        )


def region_codes(genome: Genome, regions: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Return the nucleotide codes of regions: int64 arrays of shape (bases,).

    Raises
    ------
    InputError
        If there are no regions, or none of them has sequence.
    """
    found = [
        base_codes(genome.fetch(contig, int(start), int(end)))
        for contig, rows in regions.items()
        for start, end in rows
    ]
    found = [codes for codes in found if (codes != UNKNOWN_BASE).any()]
    if not found:
        raise InputError("the regions hold no sequence (A, C, G, T); are they of this genome?")
    return found


def enrichment(
    sequences: Sequence[np.ndarray],
    k: int,
    shuffles: int = 50,
    seed: int = 42,
    progress: Callable[[int], None] = lambda rounds: None,
) -> list[Kmer]:
    """Hold the k-mers of sequences against shuffles of them that keep dinucleotides.

    Parameters
    ----------
    sequences : sequence of numpy.ndarray
        int64 nucleotide codes; a k-mer with an unknown base does not count.
    k : int
        3 to `LONGEST_KMER`: shorter ones are what a shuffle keeps.
    shuffles : int
        At least 2.
    seed : int
    progress : callable
        Called with 1 after each shuffle of all sequences.

    Returns
    -------
    list of Kmer
        Those that occur or are expected at all, by q, then by z, best first.

    Raises
    ------
    ZfliponError
        If `k` or `shuffles` is out of range.
    """
    if not 3 <= k <= LONGEST_KMER:
        raise ZfliponError(f"k-mers of {k} bases; expected 3 to {LONGEST_KMER}: a shuffle keeps shorter ones")
    if shuffles < 2:
        raise ZfliponError(f"{shuffles} shuffles tell no spread; expected 2 or more")
    rng = np.random.default_rng(seed)
    canonical = _canonical(k)
    observed = _counts(sequences, k, canonical)
    runs = [run.tolist() for codes in sequences for run in _known_runs(codes)]
    total, squares = np.zeros(len(observed)), np.zeros(len(observed))
    for _ in range(shuffles):
        counts = _counts([np.array(shuffled(run, rng)) for run in runs], k, canonical)
        total += counts
        squares += counts.astype(float) ** 2
        progress(1)
    expected = total / shuffles
    spread = np.sqrt(np.maximum(squares - shuffles * expected**2, 0) / (shuffles - 1))
    return _tested(observed, expected, spread, k)


def shuffled(codes: Sequence[int], rng: np.random.Generator) -> list[int]:
    """Return a random sequence with the same dinucleotides, first and last base; all such are equally likely.

    Altschul & Erickson (1985): the last step away from each letter is drawn such that these steps lead to the last
    letter; the other steps are shuffled.

    Parameters
    ----------
    codes : sequence of int
    rng : numpy.random.Generator
    """
    if len(codes) < 4:
        return list(codes)
    steps: dict[int, list[int]] = {}
    for one, other in pairwise(codes):
        steps.setdefault(one, []).append(other)
    end = codes[-1]
    while True:
        last = {
            letter: after[int(rng.integers(len(after)))] for letter, after in steps.items() if letter != end
        }
        if all(_leads(letter, end, last) for letter in last):
            break
    for letter, after in steps.items():
        if letter in last:
            after.remove(last[letter])
        rng.shuffle(after)
        if letter in last:
            after.append(last[letter])
    walk, place = [codes[0]], dict.fromkeys(steps, 0)
    while len(walk) < len(codes):
        letter = walk[-1]
        walk.append(steps[letter][place[letter]])
        place[letter] += 1
    return walk


def alternation(codes: np.ndarray) -> float:
    """Return the share of steps from a purine to a pyrimidine or back; NaN where no step has two known bases."""
    known = codes != UNKNOWN_BASE
    both = known[:-1] & known[1:]
    if not both.any():
        return math.nan
    purine = _PURINE[codes]
    return float((purine[:-1] != purine[1:])[both].mean())


def classify(codes: np.ndarray) -> str:
    """Return the class of a region, one of `CLASSES`, by its longest stretch of alternating steps.

    A stretch of less than eight bases makes it not alternating. Where three of four steps of the stretch are of
    one kind (CG/GC; TG, GT, CA, AC; TA/AT), they name the class, else it is mixed.
    """
    stretch = _alternating_stretch(codes)
    if len(stretch) < _STRETCH:
        return CLASSES[-1]
    strong = np.isin(stretch, (1, 2)).astype(int)
    for name, count in zip(CLASSES, (2, 1, 0), strict=False):
        if (strong[:-1] + strong[1:] == count).mean() >= _PURE:
            return name
    return CLASSES[-2]


def _alternating_stretch(codes: np.ndarray) -> np.ndarray:
    """Return the longest part whose every step goes from a purine to a pyrimidine or back."""
    purine, known = _PURINE[codes], codes != UNKNOWN_BASE
    step = (purine[:-1] != purine[1:]) & known[:-1] & known[1:]
    edges = np.flatnonzero(np.diff(np.concatenate([[False], step, [False]]).astype(int))).reshape(-1, 2)
    if not len(edges):
        return codes[:0]
    start, end = edges[np.argmax(edges[:, 1] - edges[:, 0])]
    return codes[start : end + 1]


def _leads(letter: int, end: int, last: Mapping[int, int]) -> bool:
    for _ in range(len(last) + 1):
        if letter == end:
            return True
        letter = last.get(letter, letter)
    return False


def _known_runs(codes: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the stretches without an unknown base."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], codes != UNKNOWN_BASE, [False]]).astype(int)))
    for start, end in edges.reshape(-1, 2):
        yield codes[start:end]


def _canonical(k: int) -> np.ndarray:
    """Return, for each k-mer's index, that of the lesser of itself and its reverse complement."""
    index = np.arange(4**k)
    turned, rest = np.zeros_like(index), index
    for _ in range(k):
        turned, rest = turned * 4 + 3 - rest % 4, rest // 4
    return np.minimum(index, turned)


def _counts(sequences: Sequence[np.ndarray], k: int, canonical: np.ndarray) -> np.ndarray:
    """Count k-mers: int64, shape (4^k,), at the index of the canonical one."""
    # unknown bases between sequences keep k-mers from reaching over
    gap = np.array([UNKNOWN_BASE])
    joined = np.concatenate([part for codes in sequences for part in (codes, gap)])
    if len(joined) < k:
        return np.zeros(4**k, dtype=np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(joined, k)
    windows = windows[(windows != UNKNOWN_BASE).all(axis=1)]
    return np.bincount(canonical[windows @ (4 ** np.arange(k - 1, -1, -1))], minlength=4**k)


def _tested(observed: np.ndarray, expected: np.ndarray, spread: np.ndarray, k: int) -> list[Kmer]:
    """Return the table, with p by the normal law and q by Benjamini & Hochberg (1995)."""
    chosen = np.flatnonzero((observed > 0) | (expected > 0))
    # a few shuffles may agree by chance: no count is known better than a Poisson's
    scale = np.maximum(spread, np.sqrt(np.maximum(expected, 1)))[chosen]
    z = (observed - expected)[chosen] / scale
    p = np.array([math.erfc(value / math.sqrt(2)) / 2 for value in z])
    rows = [
        Kmer(
            "".join(_LETTERS[(index // 4 ** np.arange(k - 1, -1, -1)) % 4]),
            int(observed[index]),
            float(expected[index]),
            float(spread[index]),
            float((observed[index] + 1) / (expected[index] + 1)),
            float(z[place]),
            float(p[place]),
            float(q),
        )
        for place, (index, q) in enumerate(zip(chosen, false_discovery(p), strict=True))
    ]
    return sorted(rows, key=lambda row: (row.q, -row.z, row.kmer))


def false_discovery(p: np.ndarray) -> np.ndarray:
    """Return the q-values of p-values (Benjamini & Hochberg, J R Stat Soc B 57:289, 1995), of the same shape."""
    order = np.argsort(p)[::-1]
    ranked = p[order] * len(p) / np.arange(len(p), 0, -1)
    q = np.empty_like(p)
    q[order] = np.minimum(np.minimum.accumulate(ranked), 1.0)
    return q
