"""The first factor of the base head: which bases can form Z-DNA, from the nearest bases and their Z-HUNT energies.

The second factor, and the product, are in `zflipon.models.heads.base_resolution`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zflipon.genome.alphabet import NUCLEOTIDES, PADDING_BASE
from zflipon.models.heads.base_inputs import BaseInputs, one_hot
from zflipon.models.structure import Structure

CAN_FORM_PRIOR = -5.0
"""Log-odds from which the factor starts: few bases can form Z-DNA. From even odds, the first training steps would only
learn this frequency."""

FAR_FROM_CALLS = -15.0
"""Log-odds of bases that are far from every Z-HUNT call, if a head has a ``call_distance``."""

_LENGTH_STEP = 1024
"""Bases near calls are padded to multiples of this: convolutions prepare themselves for each new length."""


class FirstFactor(nn.Module):
    """Convolutions over single bases and their Z-HUNT energies.

    Parameters
    ----------
    channels : int
        Width of the convolutions.
    kernel : int
        Bases that each of them covers; odd.
    dilations : sequence of int
        One residual convolution for each.
    zhunt : sequence of int
        Dinucleotides of the shortest and longest Z-HUNT window; empty: Z-HUNT is not used.
    call_distance : int or None
        Bases farther than this from every Z-HUNT call have the log-odds `FAR_FROM_CALLS`; None: learnt ones.
    structure : Structure
        The structure whose energetics are read.
    """

    def __init__(
        self,
        channels: int,
        kernel: int,
        dilations: Sequence[int],
        zhunt: Sequence[int],
        call_distance: int | None,
        structure: Structure,
    ):
        super().__init__()
        self.zhunt, self.structure, self.call_distance = tuple(zhunt), structure, call_distance
        width = len(NUCLEOTIDES) + (structure.energetics_channels if zhunt else 0)
        self.entry = nn.Conv1d(width, channels, kernel, padding=kernel // 2)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel, padding=dilation * (kernel // 2), dilation=dilation)
            for dilation in dilations
        )
        self.reach = kernel // 2 * (1 + sum(dilations))  # bases on either side that the first factor reads
        self.can_form = nn.Linear(channels, 1)

    @property
    def first_factor_reach(self) -> int:
        """Bases on either side that decide about `first_factor` of a base."""
        return self.reach + (self.structure.energetics_reach(*self.zhunt) if self.zhunt else 0)

    def can_form_logit(self, bases: Tensor) -> Tensor:
        """Return the first factor, which needs no tokens: float32 log-odds, shape (batch, bases)."""
        return self.candidates(bases)[0]

    def first_factor(self, bases: Tensor) -> Tensor:
        """Return the first factor, and which bases are inside a Z-HUNT call, as one tensor.

        Parameters
        ----------
        bases : Tensor
            int64, shape (batch, bases): nucleotide codes.

        Returns
        -------
        Tensor
            float32, shape (batch, 2, bases): log-odds, and 1 inside a call.
        """
        find_calls = self.structure.candidate_calls
        if self.zhunt and self.call_distance is not None and find_calls is not None:
            in_call = find_calls(bases, *self.zhunt)
            can_form = self._can_form_near_calls(bases, in_call, self.call_distance)
        else:
            can_form, in_call = self.candidates(bases)
        return torch.stack([can_form, torch.zeros_like(can_form) if in_call is None else in_call.float()], 1)

    def _can_form_near_calls(self, bases: Tensor, in_call: Tensor, distance: int) -> Tensor:
        """Return the first factor, computed from the bases near calls: these are few.

        The bases in reach of a call, of all rows, are read as one sequence. What others are next to them there changes
        no base within `distance` of a call.
        """
        reach = distance + self.first_factor_reach
        # with padding between the rows, so that none is in reach of another
        bases_of_rows, calls_of_rows = (
            F.pad(bases, (0, reach), value=PADDING_BASE),
            F.pad(in_call, (0, reach)),
        )
        result = torch.full_like(bases_of_rows, FAR_FROM_CALLS, dtype=torch.float32)
        places = _within(calls_of_rows.flatten()[None], reach)[0].nonzero()[:, 0]
        if len(places):
            padding = (0, -len(places) % _LENGTH_STEP)
            near = F.pad(bases_of_rows.flatten()[places], padding, value=PADDING_BASE)[None]
            states = self._near_bases(
                self._one_hot(near), self._zhunt(near)[0], (near != PADDING_BASE).unsqueeze(1)
            )
            logits = self._can_form(states, F.pad(calls_of_rows.flatten()[places], padding)[None])
            result.view(-1)[places] = logits[0, : len(places)].float()
        return result[:, : bases.shape[1]]

    def candidates(self, bases: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the first factor, and which bases are inside a Z-HUNT call.

        Parameters
        ----------
        bases : Tensor
            int64, shape (batch, bases): nucleotide codes.

        Returns
        -------
        can_form_logit : Tensor
            float32, shape (batch, bases).
        in_call : Tensor or None
            bool, same shape; None for a head without Z-HUNT.
        """
        channels, in_call = self._zhunt(bases)
        near = self._near_bases(self._one_hot(bases), channels, (bases != PADDING_BASE).unsqueeze(1))
        return self._can_form(near, in_call).float(), in_call

    def _zhunt(self, bases: Tensor) -> tuple[Tensor | None, Tensor | None]:
        return self.structure.energetics(bases, *self.zhunt) if self.zhunt else (None, None)

    def _one_hot(self, bases: Tensor) -> Tensor:
        return one_hot(bases).to(self.entry.weight.dtype)

    def _can_form(self, near: Tensor, in_call: Tensor | None) -> Tensor:
        logits = self.can_form(near.transpose(1, 2)).squeeze(-1) + CAN_FORM_PRIOR
        distance = self.call_distance
        if distance is None or in_call is None:
            return logits
        return torch.where(_within(in_call, distance), logits, FAR_FROM_CALLS)

    def _can_form_in_core(self, core: tuple[int, int], inputs: BaseInputs, mask: Tensor) -> Tensor:
        """Return the first factor within a core, computed from the bases in reach: float, shape (batch, bases)."""
        length = mask.shape[-1]
        start, end = max(0, core[0] - self.reach), min(length, core[1] + self.reach)
        zhunt = None if inputs.zhunt is None else inputs.zhunt[..., start:end]
        in_call = None if inputs.in_call is None else inputs.in_call[..., start:end]
        if inputs.one_hot is None:
            raise ValueError("the base head needs one_hot in base_inputs")
        near = self._near_bases(inputs.one_hot[..., start:end], zhunt, mask[..., start:end])
        return F.pad(self._can_form(near, in_call), (start, length - end), value=CAN_FORM_PRIOR)

    def _near_bases(self, letters: Tensor, zhunt: Tensor | None, mask: Tensor) -> Tensor:
        """Run the convolutions over single bases: float, shape (batch, channels, bases)."""
        x = letters if zhunt is None else torch.cat([letters, zhunt.to(letters.dtype)], dim=1)
        x = x.unsqueeze(2).contiguous(memory_format=torch.channels_last)
        mask = mask.unsqueeze(2)
        x = F.gelu(_convolve(self.entry, x)) * mask
        for convolution in self.convolutions:
            x = x + F.gelu(_convolve(cast(nn.Conv1d, convolution), x)) * mask
        return x.squeeze(2)


def _within(marked: Tensor, distance: int) -> Tensor:
    """Return which bases are at most `distance` away from a marked one: bool, shape (batch, bases)."""
    total = marked.cumsum(1, dtype=torch.int32)
    total = torch.cat([total, total[:, -1:].expand(-1, distance)], dim=1)
    return total[:, distance:] > F.pad(total, (distance + 1, 0))[:, : marked.shape[1]]


def _convolve(layer: nn.Conv1d, x: Tensor) -> Tensor:
    """Apply a `torch.nn.Conv1d` to (batch, channels, 1, bases) in channels-last memory.

    On CPUs it is several times faster so; see ``benchmarks/context_network.py``.
    """
    padding, dilation = (0, int(layer.padding[0])), (1, *layer.dilation)
    return F.conv2d(x, layer.weight.unsqueeze(2), layer.bias, (1, 1), padding, dilation)
