"""Inputs of single nucleotides: one-hot letters, Z-HUNT's energies and calls, k-mer log-odds.

Token states are not here; they come from the encoder of a family.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from zflipon.energetics.published import call_mask, published_call_starts
from zflipon.genome.alphabet import NUCLEOTIDES, PADDING_BASE

ZHUNT_CHANNELS = 5
"""Channels that `zhunt_features` returns."""

_TYPICAL_LINKING = 26.0
"""Delta linking above which a window is no easier to turn than most DNA; its readiness is 0."""

_LINKING_SCALE = 3.0
"""Divides the readiness, so that it is of the order of one."""


class BaseInputs(NamedTuple):
    """Inputs of single nucleotides, padded to whole bins.

    Attributes
    ----------
    one_hot : Tensor or None
        float, shape (batch, 4, bases): one-hot letters; 0 at N and at padding. None if the model takes letters from
        its token embeddings.
    zhunt : Tensor or None
        float, shape (batch, `ZHUNT_CHANNELS`, bases), see `zhunt_features`; None for a model without Z-HUNT.
    in_call : Tensor or None
        bool, shape (batch, bases): inside a Z-HUNT call.
    kmers : Tensor or None
        float, shape (batch, `len(KMER_RADII)`, bases): log-odds of the k-mer around each base.
    """

    one_hot: Tensor | None
    zhunt: Tensor | None
    in_call: Tensor | None
    kmers: Tensor | None = None


def one_hot(bases: Tensor) -> Tensor:
    """Return one-hot letters of nucleotide codes: float32, shape (batch, 4, bases); 0 at N and at padding."""
    letters = torch.arange(len(NUCLEOTIDES), device=bases.device)
    return (bases.unsqueeze(-1) == letters).float().transpose(1, 2)


@torch.no_grad()
def zhunt_features(bases: Tensor, min_dinucleotides: int, max_dinucleotides: int) -> tuple[Tensor, Tensor]:
    """Compute Z-HUNT's energies as input channels, and the calls that published maps would have.

    Parameters
    ----------
    bases : Tensor
        int64, shape (batch, bases).
    min_dinucleotides, max_dinucleotides : int
        Shortest and longest window.

    Returns
    -------
    channels : Tensor
        float32, shape (batch, `ZHUNT_CHANNELS`, bases):

        0. readiness of the shortest window that starts at this base: 0 for typical DNA, higher for lower delta linking;
        1. maximum readiness of the shortest windows that cover this base;
        2. log score above the call cutoff of a window that starts at this base, 0 below the cutoff;
        3. 1 at the start of a call;
        4. 1 inside a call.
    in_call : Tensor
        bool, shape (batch, bases): inside a call.
    """
    shortest, excess, ends = published_call_starts(bases, min_dinucleotides, max_dinucleotides)
    size, starts = 2 * min_dinucleotides, excess >= 0
    readiness = (_TYPICAL_LINKING - shortest).clamp(min=0) / _LINKING_SCALE
    covering = F.max_pool1d(F.pad(readiness, (size - 1, 0)).unsqueeze(1), size, 1).squeeze(1)
    # a call reaches past its window, but not into padding: results would depend on the other rows of the batch
    in_call = call_mask(starts, ends) & (bases != PADDING_BASE)
    channels = [readiness, covering, excess.clamp(min=0), starts.float(), in_call.float()]
    return torch.stack(channels, dim=1), in_call
