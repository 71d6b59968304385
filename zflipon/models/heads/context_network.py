"""The context network: one-hot bases → states of 32-bp and 128-bp bins, by strided and dilated convolutions.

It learns chromatin tracks before it sees a label, the way DeepSEA (Zhou and Troyanskaya 2015) and Basenji (Kelley et
al. 2018) do. `zflipon.models.heads.wide_context` makes it the context of the base head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FINE_BIN, COARSE_BIN = 32, 128
"""Bases per state of the two resolutions."""

_STEM_KERNEL, _STEM_STRIDE, _KERNEL, _POOL = 17, 2, 5, 4


class ContextStates(NamedTuple):
    """What the context network returns.

    Attributes
    ----------
    fine : Tensor
        float, shape (batch, bases / `FINE_BIN`, width).
    coarse : Tensor
        float, shape (batch, bases / `COARSE_BIN`, width).
    """

    fine: Tensor
    coarse: Tensor


class Convolution(nn.Conv2d):
    """Convolution along the sequence that keeps its length (at stride 1).

    The layout is (batch, channels, 1, length) in channels-last memory: on CPUs it is up to ten times faster than
    `torch.nn.Conv1d` (``benchmarks/context_network.py``).
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int = 1, stride: int = 1):
        super().__init__(
            inputs,
            outputs,
            (1, kernel),
            stride=(1, stride),
            padding=(0, dilation * (kernel - 1) // 2),
            dilation=(1, dilation),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs, 1, length) to (batch, outputs, 1, length / stride).

        Three bases wide, on one sequence, it is a matrix product of shifted inputs. With a dilation, in float32, that
        is twice as fast (``benchmarks/context_network.py``).
        """
        if self.kernel_size[1] != 3 or self.stride[1] != 1 or len(x) > 1:
            return super().forward(x)
        length, dilation = x.shape[-1], self.dilation[1]
        padded = F.pad(x, (dilation, dilation))
        shifted = torch.cat([padded[..., i * dilation : i * dilation + length] for i in range(3)], dim=1)
        rows = shifted.squeeze(2).transpose(1, 2)
        weight = self.weight.squeeze(2).permute(0, 2, 1).flatten(1)
        return F.linear(rows, weight, self.bias).transpose(1, 2).unsqueeze(2)


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of (batch, channels, 1, length)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised tensor, of the same shape and memory layout."""
        # weights follow the dtype of the activations: under autocast these are narrower
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        return F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, weight, bias, self.eps).permute(
            0, 3, 1, 2
        )


class ResidualBlock(nn.Module):
    """Normalise, convolve, rectify, and add to the input."""

    def __init__(self, width: int, kernel: int, dilation: int = 1, dropout: float = 0.0):
        super().__init__()
        self.norm = ChannelNorm(width)
        self.convolution = Convolution(width, width, kernel, dilation)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, width, 1, length) to the same shape."""
        return x + self.dropout(F.relu(self.convolution(self.norm(x)), inplace=True))


class ContextNetwork(nn.Module):
    """Convolutions from single bases to 128-bp bins.

    Parameters
    ----------
    widths : sequence of int
        Channels at 2 bp, at 8 bp, and at 32 bp and above.
    dilations : sequence of int
        Dilation of each residual block at 128 bp; three bins per kernel.
    blocks : sequence of int
        Residual blocks at 2 bp, 8 bp and 32 bp. A block at 2 bp costs as much as all blocks above it.
    dropout : float
        Share of channels that is dropped in each 128-bp block during training.
    """

    def __init__(
        self,
        widths: Sequence[int] = (128, 160, 224),
        dilations: Sequence[int] = (1, 2, 4, 8, 16, 1, 2, 4),
        blocks: Sequence[int] = (0, 1, 2),
        dropout: float = 0.1,
    ):
        super().__init__()
        base, middle, wide = widths
        at_2, at_8, at_32 = blocks
        self.width = wide
        self.stem = Convolution(4, base, _STEM_KERNEL, stride=_STEM_STRIDE)
        self.blocks_2 = _residual_blocks(at_2, base)
        self.to_8 = nn.Sequential(ChannelNorm(base), Convolution(base, middle, _KERNEL))
        self.blocks_8 = _residual_blocks(at_8, middle)
        self.to_32 = nn.Sequential(ChannelNorm(middle), Convolution(middle, wide, _KERNEL))
        self.blocks_32 = _residual_blocks(at_32, wide)
        self.to_128 = nn.Sequential(ChannelNorm(wide), Convolution(wide, wide, _KERNEL))
        self.blocks_128 = nn.Sequential(
            *(ResidualBlock(wide, 3, dilation, dropout) for dilation in dilations)
        )
        self.norm = ChannelNorm(wide)

    def forward(self, bases: Tensor) -> ContextStates:
        """Return the states of both resolutions.

        Parameters
        ----------
        bases : Tensor
            float, shape (batch, bases, 4): one-hot; 0 at N and outside the sequence. The number of bases is a multiple
            of `COARSE_BIN`.
        """
        x = bases.contiguous().transpose(1, 2).unsqueeze(2)  # channels last
        x = self.stem(x)
        if not self.blocks_2:
            # the same as the other order, on a quarter of the states
            x = F.relu(F.max_pool2d(x, (1, _POOL)), inplace=True)
        else:
            x = F.max_pool2d(self.blocks_2(F.relu(x)), (1, _POOL))
        x = F.max_pool2d(self.blocks_8(F.relu(self.to_8(x), inplace=True)), (1, _POOL))
        fine = self.blocks_32(F.relu(self.to_32(x), inplace=True))
        x = F.max_pool2d(fine, (1, _POOL))
        coarse = self.norm(self.blocks_128(F.relu(self.to_128(x), inplace=True)))
        return ContextStates(fine.squeeze(2).transpose(1, 2), coarse.squeeze(2).transpose(1, 2))


def _residual_blocks(count: int, width: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(width, _KERNEL) for _ in range(count)))


class TrackReadout(nn.Module):
    """States of 128-bp bins → logit that each chromatin track covers each bin; used in training only.

    Parameters
    ----------
    width : int
        Of the states.
    tracks : int
    dropout : float
        Share of states that is dropped during training.
    """

    def __init__(self, width: int, tracks: int, dropout: float = 0.2):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(width, tracks)
        with torch.no_grad():
            self.output.weight.mul_(0.3)  # the first steps learn the tracks' coverage, which the bias holds

    def forward(self, coarse: Tensor) -> Tensor:
        """Map states (batch, bases / `COARSE_BIN`, width) to float logits (batch, bases / `COARSE_BIN`, tracks)."""
        return self.output(self.dropout(coarse))
