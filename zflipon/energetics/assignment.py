"""The cheapest assignment of conformations: for each dinucleotide of a window, anti–syn or syn–anti.

An assignment is an integer with a bit for each dinucleotide, the highest (of `DINUCLEOTIDE_LIMIT` bits) for the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from zflipon.energetics.energies import DINUCLEOTIDE_LIMIT


def cheapest_assignments(
    energies: Iterable[Sequence[Tensor]], syn_anti_bit: int, free_first: bool = False
) -> Iterator[Tensor]:
    """Yield the cheapest assignment of windows of 1, 2, … dinucleotides.

    Energies are shifted above the assignment's bits, so that the minimum of such keys is the cheapest assignment and,
    among equally cheap ones, the smallest integer.

    Parameters
    ----------
    energies : iterable of sequences of Tensor
        For one dinucleotide after the other: anti–syn, alternating and syn–anti energies.
    syn_anti_bit : int
        1: bits are set at syn–anti; 0: bits are set at anti–syn.
    free_first : bool
        Leave out the first dinucleotide's own energy.
    """
    anti_syn: Tensor | None = None
    syn_anti: Tensor | None = None
    for k, dinucleotide in enumerate(energies):
        stay_as, alternate, stay_sa = (energy << DINUCLEOTIDE_LIMIT for energy in dinucleotide)
        bits = [1 << (DINUCLEOTIDE_LIMIT - 1 - k) if bit else 0 for bit in (1 - syn_anti_bit, syn_anti_bit)]
        if anti_syn is None or syn_anti is None:
            own = 0 if free_first else 1
            anti_syn, syn_anti = own * stay_as + bits[0], own * stay_sa + bits[1]
        else:
            anti_syn, syn_anti = (
                torch.minimum(anti_syn + stay_as, syn_anti + alternate) + bits[0],
                torch.minimum(anti_syn + alternate, syn_anti + stay_sa) + bits[1],
            )
        yield torch.minimum(anti_syn, syn_anti) & ((1 << DINUCLEOTIDE_LIMIT) - 1)


def reference_assignment(steps: list[Tensor], positions: tuple[Tensor, ...], dinucleotides: int) -> Tensor:
    """Return the assignment that the program Z-HUNT takes where several are equally cheap.

    The program adds an anti–syn energy to a 32-bit sum, subtracts it again and adds the syn–anti energy; a later
    assignment replaces an earlier one only if its sum is smaller, rounding included. Only the cheapest assignments are
    followed here, from dinucleotide to dinucleotide.

    Parameters
    ----------
    steps : list of Tensor
        Anti–syn, alternating and syn–anti energies of the dinucleotide at each base.
    positions : tuple of Tensor
        Indices of the windows' first bases.
    dinucleotides : int
        Length of the windows.
    """
    windows = [
        [step[(*positions[:-1], positions[-1] + 2 * k)] for step in steps] for k in range(dinucleotides)
    ]
    remaining = _remaining_energies(windows)
    stay_as, _, stay_sa = windows[0]
    least = torch.minimum(stay_as + remaining[0][0], stay_sa + remaining[0][1])
    window = torch.arange(len(least), device=least.device)  # of each assignment that is followed
    state, bits, spent = torch.zeros_like(window), torch.zeros_like(window), torch.zeros_like(least)
    total = torch.zeros(len(window), dtype=torch.float32, device=window.device)
    for k, (energies, after) in enumerate(zip(windows, remaining, strict=True)):
        stay_as, alternate, stay_sa = (energy[window] for energy in energies)
        if k:
            stay_as, stay_sa = (
                torch.where(state == 1, alternate, stay_as),
                torch.where(state == 1, stay_sa, alternate),
            )
        with_as = total + _kcal(stay_as).float()
        with_sa = ((with_as - _kcal(stay_as).float()).double() + _kcal(stay_sa)).float()
        window, total = torch.cat([window, window]), torch.cat([with_as, with_sa])
        spent = torch.cat([spent + stay_as, spent + stay_sa])
        state = torch.cat([torch.zeros_like(state), torch.ones_like(state)])
        bits = torch.cat([bits, bits]) | (state << (DINUCLEOTIDE_LIMIT - 1 - k))
        cheapest = spent + after[state, window] == least[window]
        window, total, spent, state, bits = (
            column[cheapest] for column in (window, total, spent, state, bits)
        )
    smallest = torch.full((len(least),), torch.inf, device=window.device)
    smallest = smallest.scatter_reduce(0, window, total, "amin")
    bits = torch.where(total == smallest[window], bits, 1 << DINUCLEOTIDE_LIMIT)
    first = torch.full((len(least),), 1 << DINUCLEOTIDE_LIMIT, device=window.device)
    return first.scatter_reduce(0, window, bits, "amin").to(steps[0].dtype)


def _remaining_energies(windows: list[list[Tensor]]) -> list[Tensor]:
    """Return the least energy of all dinucleotides after each one, by its state: shape (2, windows)."""
    first = windows[0][0]
    remaining = [torch.zeros((2, len(first)), dtype=first.dtype, device=first.device)]
    for stay_as, alternate, stay_sa in windows[:0:-1]:
        after = remaining[0]
        after_as = torch.minimum(stay_as + after[0], alternate + after[1])
        after_sa = torch.minimum(alternate + after[0], stay_sa + after[1])
        remaining.insert(0, torch.stack([after_as, after_sa]))
    return remaining


def _kcal(energy: Tensor) -> Tensor:
    return energy.double() / 100
