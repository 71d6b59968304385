"""The context network on a sequence with one substituted base: only states that the substitution changes are computed.

A substitution changes a few states at 2 bp, a few more at each coarser resolution, and many only in the dilated blocks
at 128 bp. All other states are those of the reference. Results are those of `ContextNetwork`, up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zflipon.models.heads.context_network import ContextNetwork, Convolution, ResidualBlock

_POOL = 4  # states that `ContextNetwork` pools between resolutions


class Patch(NamedTuple):
    """Consecutive states of each of several sequences.

    Attributes
    ----------
    values : Tensor
        float, shape (sequences, positions, channels).
    start : numpy.ndarray
        int64, shape (sequences,): position of the first state; all states of a sequence from it on are consecutive.
    """

    values: Tensor
    start: np.ndarray


class SubstitutedStates(NamedTuple):
    """States that substitutions change; all others are those of the reference.

    Attributes
    ----------
    fine, coarse : Patch
        At `FINE_BIN` and at `COARSE_BIN`. The coarse states may lack bins outside of those that are needed.
    """

    fine: Patch
    coarse: Patch


@dataclass(frozen=True)
class _Layer:
    """Norm, convolution, rectifier, and maybe the sum with the input."""

    norm: nn.Module | None
    convolution: Convolution
    is_residual: bool

    @property
    def flank(self) -> int:
        """States on either side of an input that it changes."""
        return self.convolution.dilation[1] * (self.convolution.kernel_size[1] - 1) // 2


@dataclass(frozen=True)
class _Reference:
    """States of the reference at a layer: its inputs, and what its convolution reads; shape (positions, channels)."""

    inputs: Tensor
    normalised: Tensor


class SubstitutedNetwork:
    """A context network with its states for one reference sequence.

    Parameters
    ----------
    network : ContextNetwork
    letters : Tensor
        float, shape (bases, 4): one-hot reference, whose length is a multiple of `COARSE_BIN`.

    Attributes
    ----------
    fine, coarse : Tensor
        States of the reference, as `ContextNetwork` returns them: shape (bins, width).
    """

    def __init__(self, network: ContextNetwork, letters: Tensor):
        self._letters, self._norm = letters, network.norm
        self._stages = [
            [_Layer(None, network.stem, False), *_blocks(network.blocks_2)],
            [_transition(network.to_8), *_blocks(network.blocks_8)],
            [_transition(network.to_32), *_blocks(network.blocks_32)],
            [_transition(network.to_128), *_blocks(network.blocks_128)],
        ]
        self._references: list[list[_Reference]] = []
        self._outputs: list[Tensor] = []
        x = letters.T[None, :, None, :]
        for number, stage in enumerate(self._stages):
            x = F.max_pool2d(x, (1, _POOL)) if number else x
            self._references.append([])
            for layer in stage:
                normalised = x if layer.norm is None else layer.norm(x)
                self._references[-1].append(_Reference(_rows_of(x), _rows_of(normalised)))
                y = F.relu(layer.convolution(normalised))
                x = x + y if layer.is_residual else y
            self._outputs.append(_rows_of(x))
        self.fine, self.coarse = self._outputs[2], _rows_of(self._norm(x))
        self._weights = [[_matrix(layer.convolution) for layer in stage] for stage in self._stages]

    def substitute(
        self, positions: np.ndarray, letters: Tensor, needed: tuple[int, int]
    ) -> SubstitutedStates:
        """Return the states that substitutions change.

        Parameters
        ----------
        positions : numpy.ndarray
            int64, shape (substitutions,): the substituted base of each sequence.
        letters : Tensor
            float, shape (substitutions, 4): one-hot, the new base.
        needed : (int, int)
            First and last + 1 coarse bin whose states are needed.
        """
        patch = self._substitute_stem(positions, letters)
        fine = patch
        for number, stage in enumerate(self._stages):
            if number:
                patch = self._pool(patch, self._outputs[number - 1])
            ranges = list(_needed_ranges(stage, needed)) if number == len(self._stages) - 1 else None
            for index in range(0 if number else 1, len(stage)):
                patch = self._convolve(patch, number, index, None if ranges is None else ranges[index])
            fine = patch if number == 2 else fine
        coarse = self._norm(patch.values.transpose(1, 2).unsqueeze(2)).squeeze(2).transpose(1, 2)
        return SubstitutedStates(fine, Patch(coarse, patch.start))

    def _substitute_stem(self, positions: np.ndarray, letters: Tensor) -> Patch:
        stem = self._stages[0][0].convolution
        kernel, stride = stem.kernel_size[1], stem.stride[1]
        padding = int(stem.padding[1])  # torch types it as a number or text
        first = -((kernel - 1 - padding - positions) // stride)  # the first output that reads the position
        count = (kernel - 1) // stride + 1
        start = first * stride - padding
        rows = gather_rows(self._letters, start, (count - 1) * stride + kernel)
        rows[torch.arange(len(rows)), torch.from_numpy(positions - start)] = letters
        columns = [rows[:, i : i + (count - 1) * stride + 1 : stride] for i in range(kernel)]
        values = F.relu(F.linear(torch.cat(columns, dim=2), self._weights[0][0], stem.bias))
        return Patch(values, first)

    def _convolve(self, patch: Patch, stage: int, index: int, needed: tuple[int, int] | None) -> Patch:
        """Apply one layer: the patch grows on both sides, within the needed range."""
        layer, reference = self._stages[stage][index], self._references[stage][index]
        low, high = -layer.flank, patch.values.shape[1] + layer.flank
        if needed is not None:
            low = max(low, needed[0] - int(patch.start.max()))
            high = max(low + 1, min(high, needed[1] - int(patch.start.min())))
        values = patch.values
        if layer.norm is not None:
            values = layer.norm(values.transpose(1, 2).unsqueeze(2)).squeeze(2).transpose(1, 2)
        start = patch.start + low
        inputs = gather_rows(reference.normalised, start - layer.flank, high - low + 2 * layer.flank)
        inside = _inside(patch.start, values.shape[1], len(reference.normalised), inputs)
        _insert(inputs, values * inside, layer.flank - low)
        dilation, count = layer.convolution.dilation[1], layer.convolution.kernel_size[1]
        columns = [inputs[:, i * dilation : i * dilation + high - low] for i in range(count)]
        weights, bias = self._weights[stage][index], layer.convolution.bias
        output = F.relu(F.linear(torch.cat(columns, dim=2), weights, bias))
        if layer.is_residual:
            before = gather_rows(reference.inputs, start, high - low)
            _insert(before, patch.values, -low)
            output = before + output
        return Patch(output, start)

    def _pool(self, patch: Patch, reference: Tensor) -> Patch:
        """Return the maxima of each `_POOL` states that hold one of the patch."""
        values, start = patch.values, patch.start // _POOL
        count = -(-(values.shape[1] + _POOL - 1) // _POOL)
        rows = gather_rows(reference, start * _POOL, count * _POOL)
        columns = torch.from_numpy(patch.start - start * _POOL)[:, None] + torch.arange(values.shape[1])
        rows[torch.arange(len(rows))[:, None], columns] = values.to(rows.dtype)
        return Patch(rows.unflatten(1, (count, _POOL)).amax(2), start)


def gather_rows(reference: Tensor, start: np.ndarray, count: int) -> Tensor:
    """Return `count` consecutive rows of a tensor for each start, 0 outside of it.

    Parameters
    ----------
    reference : Tensor
        Shape (positions, ...).
    start : numpy.ndarray
        int64, shape (n,); may be negative.
    count : int

    Returns
    -------
    Tensor
        Shape (n, count, ...).
    """
    index = start[:, None] + np.arange(count)
    inside = (index >= 0) & (index < len(reference))
    rows = reference[torch.from_numpy(index.clip(0, len(reference) - 1)).to(reference.device)]
    if not inside.all():
        rows[torch.from_numpy(~inside).to(reference.device)] = 0
    return rows


def _blocks(blocks: nn.Sequential) -> Iterator[_Layer]:
    for block in blocks:
        if not isinstance(block, ResidualBlock):
            raise TypeError(f"expected a ResidualBlock, found {type(block).__name__}")
        yield _Layer(block.norm, block.convolution, True)


def _transition(layers: nn.Sequential) -> _Layer:
    norm, convolution = layers
    if not isinstance(convolution, Convolution):
        raise TypeError(f"expected a Convolution, found {type(convolution).__name__}")
    return _Layer(norm, convolution, False)


def _rows_of(x: Tensor) -> Tensor:
    """Return (1, channels, 1, length) as (length, channels)."""
    return x[0, :, 0].T.contiguous()


def _matrix(convolution: Convolution) -> Tensor:
    """Return the weights of a convolution as a matrix over the concatenated inputs of an output."""
    return convolution.weight.squeeze(2).permute(0, 2, 1).flatten(1)


def _needed_ranges(stage: list[_Layer], needed: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Yield the positions that each layer's output must have, so that the last one's are complete."""
    for index in range(len(stage)):
        flank = sum(layer.flank for layer in stage[index + 1 :])
        yield needed[0] - flank, needed[1] + flank


def _inside(start: np.ndarray, count: int, length: int, like: Tensor) -> Tensor:
    """Return 1 for positions of a patch inside the sequence and 0 outside: shape (n, count, 1)."""
    index = start[:, None] + np.arange(count)
    inside = torch.from_numpy((index >= 0) & (index < length))
    return inside.unsqueeze(2).to(like.device, like.dtype)


def _insert(rows: Tensor, values: Tensor, offset: int) -> None:
    """Write a patch into rows of the reference, as far as they overlap."""
    low, high = max(0, offset), min(rows.shape[1], offset + values.shape[1])
    if low < high:
        rows[:, low:high] = values[:, low - offset : high - offset].to(rows.dtype)
