"""Tables of k-mer log-odds, and their means around bins of the context.

Tables are counted and fitted in `zflipon.training`; here they are only read.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init

from zflipon.errors import ModelError
from zflipon.genome.alphabet import NUCLEOTIDES
from zflipon.models.heads.bin_context import BIN_SIZE

KMER_RADII = (64, 256, 512)
"""Bases on either side of a bin over which k-mer log-odds are averaged, one table each; multiples of `BIN_SIZE`."""

MAX_KMER = 10
"""Longest k-mer: each further base makes the tables four times larger."""


class KmerTables(nn.Module):
    """Log-odds of every k-mer, one table for each of `KMER_RADII`; 0 until a readout is fitted.

    Parameters
    ----------
    k : int
        Bases of a k-mer, 1 to `MAX_KMER`.

    Raises
    ------
    ModelError
        If `k` is out of range.
    """

    log_odds: Tensor

    def __init__(self, k: int):
        super().__init__()
        if not 1 <= k <= MAX_KMER:
            raise ModelError(f"kmer_size must be from 1 to {MAX_KMER}, or 0 for no k-mer tables; not {k}")
        self.k = k
        self.register_buffer("log_odds", torch.zeros(len(KMER_RADII), len(NUCLEOTIDES) ** k))

    def reset_parameters(self) -> None:
        """Set all log-odds to 0."""
        init.zeros_(self.log_odds)

    def forward(self, bases: Tensor) -> Tensor:
        """Return the log-odds of the k-mer around each base: float, shape (batch, radii, bases)."""
        return kmer_values(bases, self.log_odds, self.k)


def kmer_indices(bases: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Encode k-mers of nucleotide codes as base-4 numbers, the first letter most significant.

    Parameters
    ----------
    bases : Tensor
        int64, shape (batch, bases).
    k : int

    Returns
    -------
    index : Tensor
        int64, shape (batch, bases - k + 1): number of the k-mer that starts at each base.
    valid : Tensor
        bool, same shape: False if the k-mer contains N or padding; its index is then meaningless.

    Examples
    --------
    >>> import torch
    >>> index, valid = kmer_indices(torch.tensor([[0, 1, 2, 3]]), 2)  # ACGT: AC, CG, GT
    >>> index.tolist(), valid.all().item()
    ([[1, 6, 11]], True)
    """
    count = bases.shape[1] - k + 1
    index = torch.zeros_like(bases[:, :count])
    valid = torch.ones_like(index, dtype=torch.bool)
    for offset in range(k):
        letter = bases[:, offset : offset + count]
        index = len(NUCLEOTIDES) * index + letter.clamp(max=len(NUCLEOTIDES) - 1)
        valid &= letter < len(NUCLEOTIDES)
    return index, valid


def reverse_complement_indices(k: int) -> np.ndarray:
    """Return the index of the reverse complement of each k-mer: int64, shape (4^k,)."""
    letters = len(NUCLEOTIDES)
    index, reverse = np.arange(letters**k), 0
    for _ in range(k):
        reverse = reverse * letters + (letters - 1 - index % letters)
        index = index // letters
    return reverse


def dinucleotide_classes(k: int) -> np.ndarray:
    """Return which dinucleotide is in the middle of each k-mer; reverse complements are one class.

    Parameters
    ----------
    k : int

    Returns
    -------
    numpy.ndarray
        float64, shape (classes, 4^k): 10 classes, or none if k is 1. Values are 1, 0, or 0.5 if a k-mer and its reverse
        complement are of different classes, which happens if k is odd.
    """
    letters = len(NUCLEOTIDES)
    if k < 2:
        return np.empty((0, letters**k))
    after = k - 1 - (k - 1) // 2
    middle = np.arange(letters**k) // letters ** (after - 1) % letters**2
    middle = np.minimum(middle, reverse_complement_indices(2)[middle])
    classes = (middle == np.unique(middle)[:, None]).astype(np.float64)
    return (classes + classes[:, reverse_complement_indices(k)]) / 2


def kmer_values(bases: Tensor, tables: Tensor, k: int) -> Tensor:
    """Look up the k-mer around each base in some tables.

    Parameters
    ----------
    bases : Tensor
        int64, shape (batch, bases).
    tables : Tensor
        float, shape (tables, 4^k), indexed by `kmer_indices`.
    k : int

    Returns
    -------
    Tensor
        float, shape (batch, tables, bases): the value of a k-mer is at its middle base, left of the middle if k is
        even; 0 where no valid k-mer is centred.
    """
    index, valid = kmer_indices(bases, k)
    values = torch.where(valid, tables[:, index], 0.0).transpose(0, 1)
    left = (k - 1) // 2
    return F.pad(values, (left, k - 1 - left))


def mean_around_bins(values: Tensor, mask: Tensor, radius: int) -> Tensor:
    """Average values of bases over the surroundings of each bin.

    Parameters
    ----------
    values : Tensor
        float, shape (batch, channels, bases); 0 at padding.
    mask : Tensor
        Shape (batch, 1, bases): 0 at padding, which does not count.
    radius : int
        Bases on either side of a bin; a multiple of `BIN_SIZE`.

    Returns
    -------
    Tensor
        float32, shape (batch, bins, channels).
    """
    bins = radius // BIN_SIZE
    sums, counts = (
        F.avg_pool1d(F.avg_pool1d(each.float(), BIN_SIZE), 2 * bins + 1, stride=1, padding=bins)
        for each in (values, mask)
    )
    return (sums / counts.clamp(min=1e-6)).transpose(1, 2)


def append_kmer_means(context: Tensor, kmers: Tensor | None, mask: Tensor) -> Tensor:
    """Append the mean k-mer log-odds around each bin to its context.

    Parameters
    ----------
    context : Tensor
        float, shape (batch, bins, channels).
    kmers : Tensor or None
        float, shape (batch, radii, bases), see `KmerTables`; None: nothing is appended.
    mask : Tensor
        Shape (batch, 1, bases): 0 at padding.

    Returns
    -------
    Tensor
        float, shape (batch, bins, channels + radii).
    """
    if kmers is None:
        return context
    means = [mean_around_bins(kmers[:, [i]], mask, radius) for i, radius in enumerate(KMER_RADII)]
    return torch.cat([context, *(mean.to(context.dtype) for mean in means)], dim=-1)
