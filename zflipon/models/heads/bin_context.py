"""The context of the base-resolution head: sequence motifs and token states, in bins of 16 bases.

The factors that are computed from the context are in `zflipon.models.heads.base_resolution`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zflipon.genome.alphabet import NUCLEOTIDES, PADDING_BASE

BIN_SIZE = 16
"""Bases of one bin, the resolution of the context."""

_STEP = 4
"""Bases of one step between motifs and bins; a bin has four."""

_MOTIF_WIDTH = 15
"""Bases that the first convolution covers."""

_MOTIF_PAIR_WIDTH = 7
"""Steps that the second convolution covers."""


class BinContext(nn.Module):
    """Describes the surroundings of each bin by motifs and token states, through dilated convolutions.

    Parameters
    ----------
    hidden_size : int
        Width of the token states.
    channels : int
        Width of the context.
    dilations : sequence of int
        One residual convolution over three bins for each.
    dropout : float
        Fraction of channels dropped in training.
    """

    def __init__(self, hidden_size: int, channels: int, dilations: Sequence[int], dropout: float):
        super().__init__()
        self.channels = channels
        self.motifs = nn.Conv1d(len(NUCLEOTIDES), channels, _MOTIF_WIDTH, padding=_MOTIF_WIDTH // 2)
        self.motif_norm = nn.LayerNorm(channels)
        self.motif_pairs = nn.Conv1d(channels, channels, _MOTIF_PAIR_WIDTH, padding=_MOTIF_PAIR_WIDTH // 2)
        self.token_norm = nn.LayerNorm(hidden_size)
        self.token_projection = nn.Linear(hidden_size, channels)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in dilations)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(channels, channels, 3, padding=dilation, dilation=dilation) for dilation in dilations
        )
        self.output_norm = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, one_hot: Tensor, states: Tensor, base_tokens: Tensor, mask: Tensor) -> Tensor:
        """Compute the context of each bin.

        Parameters
        ----------
        one_hot : Tensor
            float, shape (batch, 4, bases), of whole bins.
        states : Tensor
            float, shape (batch, tokens, hidden_size).
        base_tokens : Tensor
            int64, shape (batch, bases): index of each base's token.
        mask : Tensor
            bool, shape (batch, 1, bases): False at padding.

        Returns
        -------
        Tensor
            float, shape (batch, bins, channels).
        """
        bin_mask = mask[..., ::BIN_SIZE].transpose(1, 2)
        x = self._motifs(one_hot, mask) + self._tokens(states, base_tokens, mask)
        x = x * bin_mask
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            y = convolution((norm(x) * bin_mask).transpose(1, 2)).transpose(1, 2)
            x = x + self.dropout(F.gelu(y)) * bin_mask
        return self.output_norm(x)

    def _motifs(self, one_hot: Tensor, mask: Tensor) -> Tensor:
        """Return motifs and pairs of motifs, pooled over bins: (batch, bins, channels)."""
        step_mask = mask[..., ::_STEP].transpose(1, 2)
        motifs = F.gelu(F.max_pool1d(self.motifs(one_hot) * mask, _STEP)).transpose(1, 2)
        pairs = self.motif_pairs((self.motif_norm(motifs) * step_mask).transpose(1, 2)).transpose(1, 2)
        pairs = (pairs * step_mask).transpose(1, 2)
        return F.gelu(F.max_pool1d(pairs, BIN_SIZE // _STEP)).transpose(1, 2)

    def _tokens(self, states: Tensor, base_tokens: Tensor, mask: Tensor) -> Tensor:
        """Return the mean token state of each bin, sampled at the middle of each step: (batch, bins, channels)."""
        tokens = self.token_projection(self.token_norm(states))
        middle = slice(_STEP // 2, None, _STEP)
        index = base_tokens[:, middle].unsqueeze(-1).expand(-1, -1, tokens.shape[-1])
        tokens = tokens.gather(1, index) * mask[..., middle].transpose(1, 2)
        return tokens.unflatten(1, (-1, BIN_SIZE // _STEP)).mean(2)


def pad_to_bins(bases: Tensor, base_tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Pad sequences to whole bins; the padding is masked everywhere, so results do not depend on it.

    Parameters
    ----------
    bases, base_tokens : Tensor
        int64, shape (batch, bases).

    Returns
    -------
    bases, base_tokens : Tensor
        The same, their length a multiple of `BIN_SIZE`.
    """
    missing = -bases.shape[1] % BIN_SIZE
    if not missing:
        return bases, base_tokens  # padding by 0 would copy them
    return F.pad(bases, (0, missing), value=PADDING_BASE), F.pad(base_tokens, (0, missing))


def interpolate_bins(values: Tensor, mask: Tensor, needed: slice | None = None) -> Tensor:
    """Interpolate linearly between the middles of bins; constant before the first and after the last middle.

    Parameters
    ----------
    values : Tensor
        float, shape (batch, bins, channels).
    mask : Tensor
        bool, shape (batch, 1, bases): False at padding.
    needed : slice, optional
        The bases that are returned: whole bins. Default: all.

    Returns
    -------
    Tensor
        float, shape (batch, channels, bases).
    """
    needed = needed or slice(0, mask.shape[-1])
    low, high = max(0, needed.start // BIN_SIZE - 1), needed.stop // BIN_SIZE + 1  # with their neighbours
    values, is_base = values[:, low:high], mask[:, 0, low * BIN_SIZE : high * BIN_SIZE : BIN_SIZE]
    last_bin = (is_base.sum(1, keepdim=True) - 1).clamp(min=0)
    index = torch.arange(values.shape[1], device=values.device).unsqueeze(0).minimum(last_bin)
    values = values.gather(1, index.unsqueeze(-1).expand(-1, -1, values.shape[-1])).transpose(1, 2)
    whole = F.interpolate(values, scale_factor=BIN_SIZE, mode="linear")
    return whole[..., needed.start - low * BIN_SIZE :][..., : needed.stop - needed.start]
