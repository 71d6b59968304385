"""The equilibrium of a window: partition sums over its runs of Z-DNA, and the delta linking at which half has flipped.

Assignments of conformations are chosen in `zflipon.energetics.assignment`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from zflipon.energetics.energies import (
    DINUCLEOTIDE_LIMIT,
    ENERGY_OFFSET,
    JUNCTION_TWIST,
    JUNCTIONS,
    RT,
    SUPERHELIX,
    TURN_TWIST,
)

MIN_LINKING, MAX_LINKING = 10.0, 50.0
"""Bounds of delta linking; a solution above the upper one is reported as `MAX_LINKING`."""

_FIRST_GUESS = 30.0
"""Where Newton's method starts: the mean delta linking of random DNA is 29.65."""


def run_sums(assignment: Tensor, factors: list[Tensor], dinucleotides: int, starts: int) -> list[Tensor]:
    """Return the summed Boltzmann factors of a window's runs of 1, 2, … dinucleotides.

    Parameters
    ----------
    assignment : Tensor
        Shape (…, starts): see `zflipon.energetics.assignment`.
    factors : list of Tensor
        Anti–syn, alternating and syn–anti Boltzmann factors of the dinucleotide at each base.
    dinucleotides : int
        Length of the windows.
    starts : int
        Number of windows.
    """
    single = []
    before = None
    for k in range(dinucleotides):
        stay_as, alternate, stay_sa = (factor[..., 2 * k : 2 * k + starts] for factor in factors)
        syn_anti = (assignment & (1 << (DINUCLEOTIDE_LIMIT - 1 - k))) != 0
        factor = torch.where(syn_anti, stay_sa, stay_as)
        single.append(factor if before is None else torch.where(syn_anti == before, factor, alternate))
        before = syn_anti
    product, sums = list(single), []
    for size in range(1, dinucleotides + 1):
        total = product[0]
        for other in product[1:]:
            total = total + other
        sums.append(total)
        product = [run * added for run, added in zip(product, single[size:], strict=False)]
    return sums


def run_sums_by_length(assignments: Tensor, factors: Sequence[Tensor], min_dinucleotides: int) -> Tensor:
    """Return what `run_sums` does for windows of several lengths at once.

    Parameters
    ----------
    assignments : Tensor
        Shape (lengths, n): cheapest assignment of each window and length.
    factors : sequence of Tensor
        Anti–syn, alternating and syn–anti factors: shape (longest, n).
    min_dinucleotides : int
        The shortest length.

    Returns
    -------
    Tensor
        Shape (longest, lengths, n): by the run's dinucleotides; 0 for runs that are longer than the window.
    """
    stay_as, alternate, stay_sa = factors
    longest, device = len(stay_as), stay_as.device
    place = torch.arange(longest, device=device)[:, None, None]
    syn_anti = (assignments >> (DINUCLEOTIDE_LIMIT - 1 - place)) & 1 != 0
    factor = torch.where(syn_anti, stay_sa[:, None], stay_as[:, None])
    factor[1:] = torch.where(syn_anti[1:] == syn_anti[:-1], factor[1:], alternate[1:, None])
    lengths = torch.arange(min_dinucleotides, longest + 1, device=device)[:, None]
    factor = factor.masked_fill(place >= lengths, 0)  # no run passes the end of its window
    product = sums = torch.zeros_like(factor)
    for dinucleotide in factor:  # `product` holds the runs that end here, the longest last
        product = torch.cat([dinucleotide[None], product[:-1] * dinucleotide])
        sums = sums + product
    return sums


def solve_delta_linking(sums: Sequence[Tensor] | Tensor, lengths: Sequence[int]) -> Tensor:
    """Return the delta linking at which the expected twist taken up is half of the largest possible.

    A run of i dinucleotides takes up the twist t = 2 b + i a (b: `JUNCTION_TWIST`, a: `TURN_TWIST`) and has the weight
    s exp(K (L − t)²) at the linking difference L, where s is its summed Boltzmann factor; no run at all has the weight
    exp(K L² + σ). With h = a n / 2, the expected twist is h where Σ weight (t − h) = h × weight of no run. Divided by
    exp(K L²), the terms are powers of exp(−2 K a L). The terms of runs too short for a positive factor t − h are moved
    to the other side. The logarithms of both sides are nearly straight lines, so that Newton's method needs few steps.

    Parameters
    ----------
    sums : sequence of Tensor
        Summed Boltzmann factors of the runs of 1, 2, … dinucleotides: of windows of one length, in any shape, or of
        several lengths in rows, 0 for runs that are longer than the window.
    lengths : sequence of int
        Dinucleotides of the windows; one number, or one for each row.

    Returns
    -------
    Tensor
        Of the shape and type of one of `sums`.
    """
    system = _System(sums, lengths)
    steps = [4 if n <= 8 else 6 for n in lengths]  # the error is then below 1e-5
    linking = torch.full_like(sums[0], _FIRST_GUESS)
    for step in range(max(steps)):
        excess, slope = system.excess(linking)
        updated = linking - excess / slope
        if step < min(steps):
            linking = updated
        else:
            linking = torch.where(system.mask([step < n for n in steps]), updated, linking)
    return linking.clamp(MIN_LINKING, MAX_LINKING)


class _System:
    """The equation that `solve_delta_linking` solves, as a difference of logarithms and its derivative."""

    _rate, _junction_rate = (-2 * SUPERHELIX * twist for twist in (TURN_TWIST, 2 * JUNCTION_TWIST))
    _offset = ENERGY_OFFSET / (100 * RT)

    def __init__(self, sums: Sequence[Tensor] | Tensor, lengths: Sequence[int]):
        self._dtype, self._device = sums[0].dtype, sums[0].device
        halves = [TURN_TWIST / 2 * n for n in lengths]
        twists = [2 * JUNCTION_TWIST + size * TURN_TWIST for size in range(1, len(sums) + 1)]
        self._short = [
            sum(twist < half for twist in twists) for half in halves
        ]  # runs with a negative factor
        self._no_run = [half * math.exp(JUNCTIONS) for half in halves]
        # each term, and its derivative by the logarithm of the power
        self._terms = [
            torch.stack([term, term * (i + 1)])
            for i, term in enumerate(
                total
                * self.by_row([(twist - half) * math.exp(SUPERHELIX * twist * twist) for half in halves])
                for total, twist in zip(sums, twists, strict=True)
            )
        ]
        self._uneven = range(
            min(self._short), max(self._short)
        )  # on the one side in some rows, on the other in others

    def by_row(self, numbers: Sequence[float]) -> float | Tensor:
        """Return a number for each row: shape (rows, 1), or the number itself if there is one row."""
        return numbers[0] if len(numbers) == 1 else _column(tuple(numbers), self._dtype, self._device)

    def mask(self, flags: Sequence[bool]) -> Tensor:
        """Return a flag for each row: bool, shape (rows, 1)."""
        return _column(tuple(flags), torch.bool, self._device)

    def excess(self, linking: Tensor) -> tuple[Tensor, Tensor]:
        """Return the difference of the sides' logarithms at a delta linking, and its derivative."""
        power = torch.exp(self._rate * linking - self._offset)
        value, slope = self._long_runs(power)
        excess = (
            torch.log(value)
            + self.by_row([self._junction_rate + short * self._rate for short in self._short]) * linking
        )
        excess = excess - self.by_row([short * self._offset for short in self._short])
        slope = self._rate * slope / value + self._junction_rate
        if not max(self._short):
            return excess - self.by_row([math.log(weight) for weight in self._no_run]), slope
        less, less_slope = self._short_runs(power)
        junction = torch.exp(self._junction_rate * linking)
        against = self.by_row(self._no_run) - less * junction
        slope = slope + (self._rate * less_slope + self._junction_rate * less) * junction / against
        return excess - torch.log(against), slope

    def _long_runs(self, power: Tensor) -> Tensor:
        """Return the sum of the positive terms and its derivative, by Horner's method: shape (2, …)."""
        total = self._terms[-1]
        for i in reversed(range(min(self._short), len(self._terms) - 1)):
            longer = total * power + self._terms[i]
            is_long = [short <= i for short in self._short]
            total = torch.where(self.mask(is_long), longer, total) if i in self._uneven else longer
        return total * power

    def _short_runs(self, power: Tensor) -> Tensor:
        """Return the sum of the negative terms and its derivative, by Horner's method: shape (2, …)."""
        total = 0
        for i in reversed(range(max(self._short))):
            term = self._terms[i]
            if i in self._uneven:
                term = term * self.by_row([float(i < short) for short in self._short])
            total = total * power + term
        return total * power


@lru_cache(maxsize=256)
def _column(numbers: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(numbers, dtype=dtype, device=device)[:, None]
