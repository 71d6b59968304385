"""Soft-masked bases → by which words of sequence repeats are told.

What surrounds a call tells whether it flips, and whether that is made of repeats is worth telling. Genomes say so by
lower-case letters; but a model may not read these, since the same sequence comes in either case. So repeats are told
by their words: each has the log-odds of being soft-masked, on the contigs that train.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from zflipon.errors import RecipeError
from zflipon.genome import NUCLEOTIDES, Genome, base_codes
from zflipon.models.heads import words

_PIECE = 1 << 20
_RARE = 4.0
"""Words like most that are counted beside each, so that one seen a few times tells little."""


def repeat_words(genome: Genome, contigs: Mapping[str, int], size: int) -> np.ndarray:
    """Return by how much each word speaks for a repeat.

    Parameters
    ----------
    genome : Genome
        Soft-masked.
    contigs : mapping of str to int
        Contigs to count on, with their lengths.
    size : int
        Bases of a word.

    Returns
    -------
    numpy.ndarray
        float32, shape (4^size,), by the numbers of `zflipon.models.heads.words`: log-odds that the base in the
        middle of a word is soft-masked, less those of any base; the same for a word and its reverse complement.

    Raises
    ------
    RecipeError
        If nothing, or everything, is soft-masked.
    """
    counts = np.zeros((2, len(NUCLEOTIDES) ** size))
    for contig, length in contigs.items():
        for start in range(0, length, _PIECE):
            end = min(length, start + _PIECE + size - 1)
            if end - start < size:
                continue
            codes = torch.from_numpy(base_codes(genome.fetch(contig, start, end)))[None]
            index, whole = (each[0].numpy() for each in words(codes, size))
            middles = genome.soft_masked(contig, start, end)[(size - 1) // 2 :][: len(index)]
            for masked in (False, True):
                chosen = index[whole & (middles == masked)]
                counts[int(masked)] += np.bincount(chosen, minlength=counts.shape[1])
    total = counts.sum(1)
    if not total.all():
        raise RecipeError(
            f"model.base_head.repeats: {genome.path} has no repeats in lower case on the training contigs, or nothing "
            "else; take a soft-masked FASTA, or --set model.base_head.repeats=0"
        )
    counts += counts[:, _turned(size)]
    usual = total / total.sum()
    free, masked = counts + _RARE * usual[:, None]
    return (np.log(masked / free) - np.log(usual[1] / usual[0])).astype(np.float32)


def _turned(size: int) -> np.ndarray:
    """Return the number of each word's reverse complement: int64, shape (4^size,)."""
    letters = len(NUCLEOTIDES)
    number, turned = np.arange(letters**size), 0
    for _ in range(size):
        turned = turned * letters + (letters - 1 - number % letters)
        number = number // letters
    return turned
