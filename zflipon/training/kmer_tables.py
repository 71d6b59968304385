"""K-mer log-odds of repeats and tracks, counted on the training contigs, and classes of k-mers.

Whether a candidate is labelled depends on its surroundings: on repeats, chromatin marks and bound factors. A model must
not read the lower-case letters that mark repeats, because the same sequence occurs in either case, and without omics
tracks it sees sequence alone. K-mer tables are a substitute for both. A thousand labels cannot teach what tens of
millions of bases under forty tracks contain, but they can weight forty tables (`zflipon.training.readout`).
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
from zflipon.models.heads.kmers import dinucleotide_classes, kmer_indices, reverse_complement_indices

PSEUDO_COUNT = 4.0
"""Average k-mers that are added to the counts of each k-mer, so that rare k-mers have log-odds close to 0."""

_CHUNK_BASES = 1 << 20


def kmer_tables(
    genome: Genome,
    contigs: Mapping[str, int],
    tracks: Sequence[Intervals],
    size: int,
    classes: np.ndarray | None = None,
) -> np.ndarray:
    """Count the log-odds of k-mers in repeats and tracks.

    Parameters
    ----------
    genome : Genome
        Soft-masked.
    contigs : mapping of str to int
        Contigs to count on, with their lengths.
    tracks : sequence of Intervals
        Merged.
    size : int
        k.
    classes : numpy.ndarray, optional
        float64, shape (classes, 4^k): classes of k-mers, by default those of their middle dinucleotides.

    Returns
    -------
    numpy.ndarray
        float32, shape (1 + classes + tracks, 4^k), in the order of
        `zflipon.models.heads.kmers.kmer_indices`; equal for a k-mer and its reverse complement. The first row has
        the log-odds that the middle base of the k-mer is soft-masked, minus those of any base. The rows of the
        classes follow, minus their means over the genome. The last rows have the log-odds of the
        tracks; they are 0 for a track that covers no base or all bases.

    Raises
    ------
    RecipeError
        If the contigs are not soft-masked.
    """
    require_soft_masked(genome, contigs)
    classes = dinucleotide_classes(size) if classes is None else classes
    inside = np.zeros((1 + len(tracks), len(NUCLEOTIDES) ** size))
    total = np.zeros(len(NUCLEOTIDES) ** size)
    for kmers, masks in _kmers_and_masks(genome, contigs, tracks, size):
        total += np.bincount(kmers, minlength=len(total))
        for row, mask in zip(inside, masks, strict=True):
            row += np.bincount(kmers[mask], minlength=len(total))
    reverse = reverse_complement_indices(size)
    inside, total = inside + inside[:, reverse], total + total[reverse]
    average = (inside.sum(1) / total.sum())[:, None]
    informative = (average > 0) & (average < 1)
    average = np.where(informative, average, 0.5)
    positives = inside + PSEUDO_COUNT * average
    negatives = total - inside + PSEUDO_COUNT * (1 - average)
    odds = np.where(informative, np.log(positives / negatives) - np.log(average / (1 - average)), 0)
    centred = classes - (classes * total).sum(1, keepdims=True) / total.sum()
    return np.concatenate([odds[:1], centred, odds[1:]]).astype(np.float32)


def require_soft_masked(genome: Genome, contigs: Mapping[str, int]) -> None:
    """Check that the contigs contain upper-case and lower-case letters.

    Raises
    ------
    RecipeError
        If they do not.
    """
    cases = set()
    for contig, length in contigs.items():
        for start in range(0, length, _CHUNK_BASES):
            mask = genome.soft_masked(contig, start, min(length, start + _CHUNK_BASES))
            cases.update(np.unique(mask).tolist())
            if len(cases) == 2:
                return
    raise RecipeError(
        f"model.base_head.kmer_size: the training contigs of {genome.path} are all in upper case or all in lower case; "
        "expected a soft-masked FASTA with repeats in lower case. Use one, or --set model.base_head.kmer_size=0"
    )


def _kmers_and_masks(
    genome: Genome, contigs: Mapping[str, int], tracks: Sequence[Intervals], size: int
) -> Iterator[tuple[np.ndarray, Iterator[np.ndarray]]]:
    """Yield the numbers of k-mers without N, and whether the middle of each is soft-masked, and in each track."""
    for contig, length in contigs.items():
        for start in range(0, length, _CHUNK_BASES):
            end = min(length, start + _CHUNK_BASES + size - 1)
            if end - start < size:
                continue
            codes = torch.from_numpy(base_codes(genome.fetch(contig, start, end)))[None]
            numbers, complete = (each[0].numpy() for each in kmer_indices(codes, size))
            first = start + (size - 1) // 2
            span = first, first + len(numbers)
            in_tracks = (merged_interval_mask(track.get(contig), *span)[complete] for track in tracks)
            masked = genome.soft_masked(contig, *span)[complete]
            yield numbers[complete], chain([masked], in_tracks)
