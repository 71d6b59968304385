"""Soft-masked bases, tracks and pairs of letters → what words of sequence speak for.

What surrounds a call tells whether it flips: whether it is made of repeats, whether chromatin marks and factors lie
there. Genomes say the first by lower-case letters, but a model may not read these, since the same sequence comes in
either case; and no track is given where a model reads sequence alone. So both are told by words: each word has the
log-odds of lying in a repeat, and in each track, counted on the contigs that train. A thousand labels cannot teach
what tens of millions of bases under forty tracks say, but they can weigh forty tables. What sequence is made of is told
the same way, by which two letters a word has in its middle.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

import numpy as np
import torch

from zflipon.errors import RecipeError
from zflipon.genome.alphabet import NUCLEOTIDES, base_codes
from zflipon.genome.fasta import Genome
from zflipon.genome.intervals import Intervals, merged_interval_mask
from zflipon.models.heads.base_resolution import words

_PIECE = 1 << 20
_RARE = 4.0
"""Words like most that are counted beside each, so that one seen a few times tells little."""


def word_tables(
    genome: Genome, contigs: Mapping[str, int], tracks: Sequence[Intervals], size: int
) -> np.ndarray:
    """Return by how much each word speaks for a repeat, for each pair of letters, and for each track.

    Parameters
    ----------
    genome : Genome
        Soft-masked.
    contigs : mapping of str to int
        Contigs to count on, with their lengths.
    tracks : sequence of Intervals
        Merged.
    size : int
        Bases of a word.

    Returns
    -------
    numpy.ndarray
        float32, shape (1 + pairs + tracks, 4^size), by the numbers of `zflipon.models.heads.base_resolution.words`; the same for a word
        and its reverse complement. First log-odds that the base in the middle of a word is soft-masked, less those of
        any base; then, for each of `letter_pairs`, whether it is in the middle, less the share of words that have it
        there; then log-odds as the first for each track, 0 of one without a base, or with all.

    Raises
    ------
    RecipeError
        As `require_soft_masked`.
    """
    require_soft_masked(genome, contigs)
    inside = np.zeros((1 + len(tracks), len(NUCLEOTIDES) ** size))
    every = np.zeros(len(NUCLEOTIDES) ** size)
    for index, marks in _pieces(genome, contigs, tracks, size):
        every += np.bincount(index, minlength=len(every))
        for row, mark in zip(inside, marks, strict=True):
            row += np.bincount(index[mark], minlength=len(every))
    turned = _turned(size)
    inside, every = inside + inside[:, turned], every + every[turned]
    usual = (inside.sum(1) / every.sum())[:, None]
    known = (usual > 0) & (usual < 1)
    usual = np.where(known, usual, 0.5)
    within, without = inside + _RARE * usual, every - inside + _RARE * (1 - usual)
    odds = np.where(known, np.log(within / without) - np.log(usual / (1 - usual)), 0)
    pairs = letter_pairs(size)
    pairs = pairs - (pairs * every).sum(1, keepdims=True) / every.sum()
    return np.concatenate([odds[:1], pairs, odds[1:]]).astype(np.float32)


def require_soft_masked(genome: Genome, contigs: Mapping[str, int]) -> None:
    """Refuse contigs of which nothing, or everything, is soft-masked; others are read no further than need be.

    Raises
    ------
    RecipeError
        If they tell no repeats.
    """
    found = set()
    for contig, length in contigs.items():
        for start in range(0, length, _PIECE):
            found.update(np.unique(genome.soft_masked(contig, start, min(length, start + _PIECE))).tolist())
            if len(found) == 2:
                return
    raise RecipeError(
        f"model.base_head.words: {genome.path} has no repeats in lower case on the training contigs, or nothing "
        "else; take a soft-masked FASTA, or --set model.base_head.words=0"
    )


def _pieces(
    genome: Genome, contigs: Mapping[str, int], tracks: Sequence[Intervals], size: int
) -> Iterator[tuple[np.ndarray, Iterator[np.ndarray]]]:
    """Yield the numbers of whole words, and whether the middle of each is soft-masked, and in each track."""
    for contig, length in contigs.items():
        for start in range(0, length, _PIECE):
            end = min(length, start + _PIECE + size - 1)
            if end - start < size:
                continue
            codes = torch.from_numpy(base_codes(genome.fetch(contig, start, end)))[None]
            index, whole = (each[0].numpy() for each in words(codes, size))
            first = start + (size - 1) // 2
            place = first, first + len(index)
            covered = (merged_interval_mask(track.get(contig), *place)[whole] for track in tracks)
            masked = genome.soft_masked(contig, *place)[whole]
            yield index[whole], chain([masked], covered)


def letter_pairs(size: int) -> np.ndarray:
    """Return which pair of letters each word has in its middle, a pair and its reverse complement being one.

    Returns
    -------
    numpy.ndarray
        float64, shape (pairs, 4^size): 10 pairs, or none of words of one letter; 0, 1 or, where a word and its reverse
        complement differ in it, as words of an odd size do, 0.5.
    """
    letters = len(NUCLEOTIDES)
    if size < 2:
        return np.empty((0, letters**size))
    after = size - 1 - (size - 1) // 2
    pair = np.arange(letters**size) // letters ** (after - 1) % letters**2
    pair = np.minimum(pair, _turned(2)[pair])
    found = (pair == np.unique(pair)[:, None]).astype(np.float64)
    return (found + found[:, _turned(size)]) / 2


def _turned(size: int) -> np.ndarray:
    """Return the number of each word's reverse complement: int64, shape (4^size,)."""
    letters = len(NUCLEOTIDES)
    number, turned = np.arange(letters**size), 0
    for _ in range(size):
        turned = turned * letters + (letters - 1 - number % letters)
        number = number // letters
    return turned
