"""Z-HUNT: how readily each part of a sequence flips to Z-DNA, by thermodynamics.

The model of Ho, Ellison, Quigley & Rich (EMBO J. 5:2737, 1986) with the statistics of
Schroth, Chou & Ho (J. Biol. Chem. 267:11846, 1992), as the program Z-HUNT computes it. For a
start position and a number of dinucleotides:

1. Each dinucleotide is anti–syn or syn–anti; the assignment with the least B→Z energy is taken.
2. A partition function weighs every run of Z-DNA inside the window against no run at all, in a
   circle whose linking number is reduced by some amount.
3. The *delta linking* is the reduction at which half of the window's twist is taken up. The
   smaller it is, the more readily the window flips.
4. The *Z-score* is the number of random bases among which one window does as well.

All positions are computed at once, in torch, on any device. This is own code because the reference
program is slower: ``benchmarks/zhunt_speed.py`` measures both. The rule of published maps is in
`zflipon.energetics.published`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import repeat

import numpy as np
import torch
from torch import Tensor

from zflipon.energetics.assignment import cheapest_assignments, reference_assignment
from zflipon.energetics.energies import (
    DINUCLEOTIDE_LIMIT,
    boltzmann_factors,
    dinucleotide_numbers,
    energy_tables,
)
from zflipon.energetics.equilibrium import MAX_LINKING, run_sums, solve_delta_linking
from zflipon.errors import ZfliponError
from zflipon.genome.alphabet import UNKNOWN_BASE, base_codes

MIN_DINUCLEOTIDES, MAX_DINUCLEOTIDES = 6, 8
"""Default window lengths."""

MEAN_LINKING, SD_LINKING = 29.6537135, 2.71997
"""Mean and standard deviation of delta linking in random DNA."""

CHUNK_STARTS = {"cpu": 1 << 15, "cuda": 1 << 21}
"""Start positions that are computed together, by device type: on a CPU the work then fits its cache."""


def scores(
    sequence: str,
    min_dinucleotides: int = MIN_DINUCLEOTIDES,
    max_dinucleotides: int = MAX_DINUCLEOTIDES,
    wrap: bool = False,
    device: str = "cpu",
) -> tuple[np.ndarray, np.ndarray]:
    """Return the Z-score of each start position, and the length of the window that has it.

    Parameters
    ----------
    sequence : str
        DNA, upper or lower case. Any letter but A, C, G and T counts as N, which has a medium energy.
    min_dinucleotides, max_dinucleotides : int
        Lengths of the windows, in dinucleotides, up to 12.
    wrap : bool
        Whether the sequence is circular. In a linear sequence, positions near the end have only the windows that
        fit, and a score and a length of 0 where none does.
    device : str
        A torch device.

    Returns
    -------
    score : numpy.ndarray
        float64, shape (bases,): Z-score of the best window.
    length : numpy.ndarray
        int64, shape (bases,): bases of that window.

    Raises
    ------
    ZfliponError
        If the lengths are invalid.

    Notes
    -----
    The reference program finds delta linking by bisection to 0.001; its Z-scores differ from these by up to 0.2 %.

    Examples
    --------
    >>> score, length = scores("CG" * 8)
    >>> bool(score[0] > 100_000), int(length[0])
    (True, 16)
    """
    linking, length = delta_linking(sequence, min_dinucleotides, max_dinucleotides, wrap, device)
    return np.where(length > 0, z_score(linking), 0.0), length


def delta_linking(
    sequence: str,
    min_dinucleotides: int = MIN_DINUCLEOTIDES,
    max_dinucleotides: int = MAX_DINUCLEOTIDES,
    wrap: bool = False,
    device: str = "cpu",
) -> tuple[np.ndarray, np.ndarray]:
    """Return the least delta linking of each start position and the length of its window; see `scores`."""
    _check_lengths(min_dinucleotides, max_dinucleotides)
    longest = 2 * max_dinucleotides
    codes = torch.from_numpy(base_codes(sequence.upper()))
    if wrap and len(codes):
        continuation = codes[torch.arange(longest) % len(codes)]
    else:  # windows that reach into it are discarded below
        continuation = torch.full((longest,), UNKNOWN_BASE)
    codes = torch.cat([codes, continuation])
    best = np.full(len(sequence), MAX_LINKING)
    length = np.zeros(len(sequence), dtype=np.int64)
    size = CHUNK_STARTS.get(torch.device(device).type, CHUNK_STARTS["cpu"])
    for first in range(0, len(sequence), size):
        part = codes[first : first + size + longest - 1].to(device)
        chunk = slice(first, first + size)
        positions = np.arange(len(sequence))[chunk]
        for dinucleotides, linking in window_linking(
            part, min_dinucleotides, max_dinucleotides, as_program=True
        ):
            value = linking[: len(positions)].cpu().numpy()
            fits = wrap | (positions + 2 * dinucleotides <= len(sequence))
            better = fits & ((value < best[chunk]) | (length[chunk] == 0))
            best[chunk][better] = value[better]
            length[chunk][better] = 2 * dinucleotides
    return best, length


def window_linking(
    codes: Tensor,
    min_dinucleotides: int,
    max_dinucleotides: int,
    dtype: torch.dtype = torch.float64,
    as_program: bool = False,
    free_first: bool = False,
) -> Iterator[tuple[int, Tensor]]:
    """Yield, for each window length, the delta linking of the window at each start position.

    Parameters
    ----------
    codes : Tensor
        int64, shape (…, bases): see `zflipon.genome.alphabet.base_codes`.
    min_dinucleotides, max_dinucleotides : int
    dtype : torch.dtype
        Of the arithmetic.
    as_program : bool
        Among assignments of equal energy, take the one that the program takes, whose 32-bit sums are rounded.
        Otherwise take the first one, which is faster.
    free_first : bool
        Choose the assignment without the first dinucleotide's own energy, as published maps do; `as_program` is
        then ignored.

    Yields
    ------
    dinucleotides : int
    linking : Tensor
        Of type `dtype`, shape (…, bases − 2 × max_dinucleotides + 1).
    """
    tables = energy_tables(codes.device)
    numbers = dinucleotide_numbers(codes)
    starts = codes.shape[-1] - 2 * max_dinucleotides + 1
    steps = [table[numbers] for table in tables]
    factors = [boltzmann_factors(table, dtype)[numbers] for table in tables]
    by_dinucleotide = [
        [step[..., 2 * k : 2 * k + starts] for step in steps] for k in range(max_dinucleotides)
    ]
    first = cheapest_assignments(by_dinucleotide, 1, free_first)
    as_program &= not free_first
    last = cheapest_assignments(by_dinucleotide, 0) if as_program else repeat(None)
    for dinucleotides, lowest, highest in zip(range(1, max_dinucleotides + 1), first, last, strict=False):
        if dinucleotides < min_dinucleotides:
            continue
        if highest is not None:
            used_bits = (1 << DINUCLEOTIDE_LIMIT) - (1 << (DINUCLEOTIDE_LIMIT - dinucleotides))
            tied = torch.nonzero(lowest != (~highest & used_bits), as_tuple=True)
            lowest[tied] = reference_assignment(steps, tied, dinucleotides)
        sums = run_sums(lowest, factors, dinucleotides, starts)
        yield dinucleotides, solve_delta_linking(sums, (dinucleotides,))


def z_score(linking: np.ndarray) -> np.ndarray:
    """Return the Z-scores of delta linkings.

    With the tail of the normal distribution fitted to random DNA: 1 / tail below its mean, the tail itself above.
    """
    return log_z_score(torch.from_numpy(np.asarray(linking, dtype=np.float64))).exp().numpy()


def log_z_score(linking: Tensor) -> Tensor:
    """Return the natural logarithms of the Z-scores of delta linkings, of the same type and shape."""
    deviation = (linking - MEAN_LINKING) / SD_LINKING
    tail = torch.special.log_ndtr(-deviation.abs())
    return torch.where(deviation > 0, tail, -tail)


def linking_at_score(score: float) -> float:
    """Return the largest delta linking with at least this Z-score.

    Examples
    --------
    >>> round(linking_at_score(700), 2)
    21.54
    """
    low, high = 0.0, 30.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        reaches = log_z_score(torch.tensor(middle, dtype=torch.float64)) >= math.log(score)
        low, high = (middle, high) if reaches else (low, middle)
    return low


def _check_lengths(least: int, most: int) -> None:
    if not 1 <= least <= most <= DINUCLEOTIDE_LIMIT:
        raise ZfliponError(
            f"windows of {least} to {most} dinucleotides; expected 1 <= least <= most <= {DINUCLEOTIDE_LIMIT}"
        )
