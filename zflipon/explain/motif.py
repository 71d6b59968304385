"""The motif that sites have in common: sites are cut out of a genome, aligned, and summarised as a matrix of shares.

The picture of it, a sequence logo, is in `zflipon.explain.figures`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zflipon.errors import InputError
from zflipon.genome.alphabet import UNKNOWN_BASE, base_codes
from zflipon.genome.fasta import Genome
from zflipon.tracks.bigwig import BigWig

_MAX_ROUNDS = 20
"""Rounds of the alignment from one seed; most converge in fewer."""

_SEEDS = 60
"""Subsequences from which the alignment starts, since the result depends on the start."""

_PSEUDOCOUNT = 0.25


@dataclass(frozen=True)
class Motif:
    """The motif that aligned sites have in common.

    Attributes
    ----------
    matrix : numpy.ndarray
        float64, shape (4, width): share of each letter at each position; columns sum to 1.
    sites : int
        Number of aligned sites.
    """

    matrix: np.ndarray
    sites: int


def find_sites(
    genome: Genome,
    regions: Mapping[str, np.ndarray],
    count: int,
    width: int,
    attributions: Path | None = None,
) -> list[np.ndarray]:
    """Return the sequences from which a motif is built.

    Parameters
    ----------
    genome : Genome
    regions : mapping of str to numpy.ndarray
        int64, shape (n, 2), by contig.
    count : int
        Largest number of sites: those with the highest attributions, or the first regions.
    width : int
        Bases of the motif.
    attributions : Path, optional
        bigWig. A site is then the highest attribution of a region with `width` bases on either side; without
        attributions, it is a region with ``width // 2`` bases on either side.

    Returns
    -------
    list of numpy.ndarray
        int64 nucleotide codes.

    Raises
    ------
    InputError
        If the bigWig cannot be read, or has no value in any region.
    """
    intervals = [(contig, int(start), int(end)) for contig, rows in regions.items() for start, end in rows]
    flank = width // 2
    if attributions is not None:
        intervals = [(contig, peak, peak + 1) for contig, peak in _find_peaks(intervals, attributions)]
        flank = width
    return [
        base_codes(genome.fetch(contig, max(0, start - flank), min(genome.length(contig), end + flank)))
        for contig, start, end in intervals[:count]
    ]


def _find_peaks(intervals: Sequence[tuple[str, int, int]], attributions: Path) -> list[tuple[str, int]]:
    """Return the position of the highest attribution of each interval, by descending attribution."""
    peaks = []
    with BigWig(attributions) as file:
        for contig, start, end in intervals:
            values = file.values(contig, start, end)
            if not np.isnan(values).all():
                offset = int(np.nanargmax(values))
                peaks.append((values[offset], contig, start + offset))
    if not peaks:
        raise InputError(
            f"{attributions}: no value in any of the regions; give the attributions of these regions"
        )
    return [(contig, position) for _, contig, position in sorted(peaks, key=lambda peak: -peak[0])]


def align_sites(sites: Sequence[np.ndarray], width: int) -> Motif:
    """Align sites without gaps, on either strand.

    Each site contributes the subsequence that fits the current matrix best; the matrix is then computed anew from
    these, until they no longer change (hard expectation-maximisation; Lawrence & Reilly, Proteins 7:41, 1990).

    Parameters
    ----------
    sites : sequence of numpy.ndarray
        int64 nucleotide codes, shape (bases,) each. Sites shorter than `width` are left out.
    width : int
        Bases of the motif.

    Returns
    -------
    Motif

    Raises
    ------
    InputError
        If no site is long enough.
    """
    candidates = [_subsequences(site, width) for site in sites if len(site) >= width]
    if not candidates:
        raise InputError(f"no site has the {width} bases of the logo; use a smaller --width")
    table = np.concatenate(candidates)
    first_of_site = np.cumsum([0, *map(len, candidates[:-1])])
    seeds = np.linspace(0, len(table) - 1, min(_SEEDS, len(table))).astype(int)
    results = [_refine(table, first_of_site, _share_matrix(table[seed : seed + 1])) for seed in seeds]
    matrix, _ = max(results, key=lambda result: result[1])
    return Motif(matrix, len(candidates))


def information_content(matrix: np.ndarray, sites: int | None = None) -> np.ndarray:
    """Return the height of each letter in bits: share × (2 − entropy of the position − correction).

    The correction for few sites, 3 / (2 ln 2 · sites), is the expected information of positions without any; a
    position with less gets no letters. Schneider & Stephens, Nucleic Acids Res 18:6097 (1990); Schneider et al., J Mol
    Biol 188:415 (1986).

    Parameters
    ----------
    matrix : numpy.ndarray
        float64, shape (4, width).
    sites : int, optional
        Number of sites from which the shares were counted; None makes no correction.

    Examples
    --------
    >>> matrix = np.array([[1.0, 0.25], [0, 0.25], [0, 0.25], [0, 0.25]])
    >>> information_content(matrix).sum(axis=0).round(3).tolist()
    [2.0, 0.0]
    >>> information_content(matrix, sites=10).sum(axis=0).round(3).tolist()
    [1.784, 0.0]
    """
    entropy = -(matrix * np.log2(np.maximum(matrix, 1e-12))).sum(axis=0)
    correction = 0.0 if sites is None else (len(matrix) - 1) / (2 * np.log(2) * sites)
    return matrix * np.maximum(2 - entropy - correction, 0)


def _refine(table: np.ndarray, first_of_site: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, float]:
    """Iterate from one matrix.

    Parameters
    ----------
    table : numpy.ndarray
        int64, shape (subsequences, width): the subsequences of all sites, one site after the other.
    first_of_site : numpy.ndarray
        Row at which each site begins.
    matrix : numpy.ndarray

    Returns
    -------
    matrix : numpy.ndarray
    score : float
        Log-likelihood ratio, in bits, of the chosen subsequences under the matrix and under equal letter frequencies.
    """
    width, previous, score = table.shape[1], None, 0.0
    sizes = np.diff(np.append(first_of_site, len(table)))
    for _ in range(_MAX_ROUNDS):
        unknown = np.zeros((1, width))  # an unknown base is neutral
        weights = np.concatenate([np.log2(matrix / 0.25), unknown])
        scores = weights[table, np.arange(width)].sum(axis=1)
        best = np.maximum.reduceat(scores, first_of_site)
        hits = np.flatnonzero(scores == np.repeat(best, sizes))
        site_of_hit = np.searchsorted(first_of_site, hits, side="right")
        chosen = hits[np.unique(site_of_hit, return_index=True)[1]]
        matrix, score = _share_matrix(table[chosen]), float(best.sum())
        if previous is not None and np.array_equal(chosen, previous):
            break
        previous = chosen
    return matrix, score


def _subsequences(site: np.ndarray, width: int) -> np.ndarray:
    """Return all subsequences of one width: those of the site, then those of its reverse complement."""
    reverse = np.where(site == UNKNOWN_BASE, UNKNOWN_BASE, 3 - site)[::-1]
    return np.concatenate(
        [np.lib.stride_tricks.sliding_window_view(strand, width) for strand in (site, reverse)]
    )


def _share_matrix(subsequences: np.ndarray) -> np.ndarray:
    """Return the share of each letter at each position, with a pseudocount."""
    counts = np.stack([(subsequences == code).sum(axis=0) for code in range(4)]) + _PSEUDOCOUNT
    return counts / counts.sum(axis=0)
