"""The rule by which published Z-HUNT maps of human Z-DNA call intervals.

The maps were not made by "every window above a score". The rule here was inferred by comparing scores with the maps;
their authors do not describe it. Windows are scored as in `zflipon.energetics.zhunt`, except that the assignment of
conformations leaves out the first dinucleotide's own energy.
"""

from __future__ import annotations

import math
from collections import Counter
from threading import Lock

import torch
from torch import Tensor
from torch.nn import functional as F

from zflipon.energetics.assignment import cheapest_assignments
from zflipon.energetics.energies import (
    DINUCLEOTIDE_LIMIT,
    boltzmann_factors,
    dinucleotide_classes,
    dinucleotide_numbers,
    energy_tables,
)
from zflipon.energetics.equilibrium import MAX_LINKING, run_sums_by_length, solve_delta_linking
from zflipon.energetics.zhunt import (
    CHUNK_STARTS,
    MIN_DINUCLEOTIDES,
    linking_at_score,
    log_z_score,
    window_linking,
)
from zflipon.genome.alphabet import PADDING_BASE

CALL_CUTOFF = 700.0
"""Least Z-score of the best window at the start of a call."""

SEED_CUTOFF = 420.0
"""Least Z-score of the shortest window at the start of a call."""

CALL_EXTENSION = 2
"""Bases by which calls pass the end of their windows."""

_TABLE_BASES = 1 << 20
"""Bases after which a table of all shortest windows is computed: fewer are faster one by one."""

SEED_LINKING = linking_at_score(SEED_CUTOFF)
"""Delta linking of the shortest window at `SEED_CUTOFF`."""

_ROUNDING = 1e-3
"""Delta linking by which a window may exceed `SEED_LINKING` and its rounded score still reach the cutoff."""

_table_lock, _bases_scored = Lock(), Counter()
_tables: dict[tuple[torch.dtype, torch.device], Tensor | None] = {}


def published_call_starts(
    codes: Tensor,
    least: int = MIN_DINUCLEOTIDES,
    most: int = DINUCLEOTIDE_LIMIT,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return by how much each start exceeds the cutoffs of published calls, and where its call ends.

    A call starts where the shortest window has a Z-score of at least `SEED_CUTOFF` and the best one of `CALL_CUTOFF`.

    Parameters
    ----------
    codes : Tensor
        int64, shape (batch, bases): see `zflipon.genome.alphabet.base_codes`; `PADDING_BASE` after the end of a
        sequence.
    least, most : int
        Dinucleotides of the shortest and of the longest windows.
    dtype : torch.dtype
        Of the arithmetic.

    Returns
    -------
    shortest : Tensor
        Of type `dtype`, shape (batch, bases): delta linking of the shortest window; `MAX_LINKING` where it passes the
        end.
    excess : Tensor
        The same type and shape: log of score over cutoff, the smaller of the two. A call starts where it is at least
        0. Where the shortest window is below its cutoff, its own.
    end : Tensor
        int64, shape (batch, bases): `CALL_EXTENSION` bases after the best window.
    """
    shortest = shortest_window_linking(codes, least, dtype)
    excess = log_z_score(shortest) - math.log(SEED_CUTOFF)
    length = torch.full_like(codes, 2 * least)
    rows, starts = torch.nonzero(excess >= 0, as_tuple=True)  # about one start in a hundred
    seeds = rows, starts
    best, length[seeds] = best_windows(codes, seeds, shortest[seeds], least, most)
    excess[seeds] = torch.minimum(log_z_score(best) - math.log(CALL_CUTOFF), excess[seeds])
    positions = torch.arange(codes.shape[-1], device=codes.device)
    return shortest, excess, positions + length + CALL_EXTENSION


def published_calls(
    codes: Tensor,
    least: int = MIN_DINUCLEOTIDES,
    most: int = DINUCLEOTIDE_LIMIT,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return which bases are inside a published call: `call_mask` of `published_call_starts`, several times as fast.

    Scores are computed only where the shortest window may reach its cutoff. Parameters are those of
    `published_call_starts`.

    Returns
    -------
    Tensor
        bool, shape (batch, bases); false at padding.
    """
    shortest = shortest_window_linking(codes, least, dtype)
    rows, starts = torch.nonzero(shortest <= SEED_LINKING + _ROUNDING, as_tuple=True)
    linking = shortest[rows, starts]
    best, length = best_windows(codes, (rows, starts), linking, least, most)
    is_start = log_z_score(linking) >= math.log(SEED_CUTOFF)
    is_start &= log_z_score(best) >= math.log(CALL_CUTOFF)
    rows, starts = rows[is_start], starts[is_start]
    ends = starts + length[is_start] + CALL_EXTENSION
    if len(starts):  # a call reaches at most to the next start
        same_row = F.pad(rows[1:] == rows[:-1], (0, 1))
        ends = torch.where(same_row, torch.minimum(ends, F.pad(starts[1:], (0, 1))), ends)
    inside = torch.zeros_like(codes, dtype=torch.bool)
    bases = starts[:, None] + torch.arange(2 * most + CALL_EXTENSION, device=codes.device)
    covered = bases < ends.clamp(max=codes.shape[-1])[:, None]
    inside[rows[:, None].expand_as(bases)[covered], bases[covered]] = True
    return inside & (codes != PADDING_BASE)


def shortest_window_linking(codes: Tensor, least: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the delta linking of the shortest window at each start.

    Parameters and result are those of `published_call_starts`.
    """
    size = codes.shape[-1]
    padded = F.pad(codes, (0, 2 * least - 1), value=PADDING_BASE)
    table = _linking_table(dtype, codes.device, codes.numel()) if least == MIN_DINUCLEOTIDES else None
    if table is None:
        ((_, shortest),) = window_linking(padded, least, least, dtype, free_first=True)
    else:
        shortest = table.index_select(0, _table_entries(padded, size).flatten()).view(codes.shape)
    return shortest.masked_fill(padded[:, 2 * least - 1 : 2 * least - 1 + size] == PADDING_BASE, MAX_LINKING)


def best_windows(
    codes: Tensor, seeds: tuple[Tensor, Tensor], shortest: Tensor, least: int, most: int
) -> tuple[Tensor, Tensor]:
    """Return delta linking and length of the best window at some starts.

    Parameters
    ----------
    codes : Tensor
        int64, shape (batch, bases).
    seeds : (Tensor, Tensor)
        int64, shape (n,): rows and starts.
    shortest : Tensor
        Shape (n,): `shortest_window_linking` at these starts.
    least, most : int
        Dinucleotides of the shortest and of the longest windows.

    Returns
    -------
    linking : Tensor
        Of the type of `shortest`, shape (n,).
    length : Tensor
        int64, shape (n,): bases. Of equally good windows the shortest.
    """
    windows = F.pad(codes, (0, 2 * most - 1), value=PADDING_BASE).unfold(1, 2 * most, 1)[seeds]
    if not len(windows):
        return shortest, torch.full_like(seeds[0], 2 * least)
    dinucleotides = dinucleotide_numbers(windows)[:, ::2].T
    linking = _linking_by_length(dinucleotides, least, shortest.dtype)
    last = torch.arange(2 * least - 1, 2 * most, 2, device=codes.device)
    linking = linking.masked_fill(windows[:, last].T == PADDING_BASE, MAX_LINKING)
    linking = torch.cat([shortest[None], linking])
    return linking.amin(dim=0), 2 * (least + linking.argmin(dim=0) - 1).clamp(min=least)


def call_mask(starts: Tensor, ends: Tensor) -> Tensor:
    """Return which bases are in a call: those that the call of the last start before them reaches.

    A call ends where the window of its last start does, even if an earlier window reached further: published calls do.

    Parameters
    ----------
    starts : Tensor
        bool, shape (batch, bases).
    ends : Tensor
        int64, shape (batch, bases): one past the last base of the call that begins there.

    Returns
    -------
    Tensor
        bool, shape (batch, bases).
    """
    positions = torch.arange(starts.shape[-1], device=starts.device)
    last = positions.where(starts, -1).cummax(dim=-1).values
    return (last >= 0) & (positions < ends.gather(-1, last.clamp(min=0)))


def _linking_by_length(dinucleotides: Tensor, least: int, dtype: torch.dtype) -> Tensor:
    """Return the delta linking of windows at all lengths from `least` on.

    Parameters
    ----------
    dinucleotides : Tensor
        int64, shape (most, n): numbers of the windows' dinucleotides.
    least : int
    dtype : torch.dtype

    Returns
    -------
    Tensor
        Of type `dtype`, shape (most − least + 1, n).
    """
    most = len(dinucleotides)
    tables = energy_tables(dinucleotides.device)
    steps = [table[dinucleotides] for table in tables]
    factors = [boltzmann_factors(table, dtype)[dinucleotides] for table in tables]
    assignments = [*cheapest_assignments(zip(*steps, strict=True), 1, free_first=True)]
    sums = run_sums_by_length(torch.stack(assignments[least - 1 :]), factors, least)
    return solve_delta_linking(sums, range(least, most + 1))


def _table_entries(codes: Tensor, starts: int) -> Tensor:
    """Return the entry of `_compute_table` for the window at each start: int32, shape (…, starts)."""
    class_of, representative = dinucleotide_classes(codes.device)
    one = class_of[dinucleotide_numbers(codes)]
    # numbers of two dinucleotides, which a window has three of
    two = one[..., :-2] * len(representative) + one[..., 2:]
    first, second, third = (two[..., place : place + starts] for place in (0, 4, 8))
    return (first * len(representative) ** 2 + second) * len(representative) ** 2 + third


def _linking_table(dtype: torch.dtype, device: torch.device, bases: int) -> Tensor | None:
    """Return the table of all windows of `MIN_DINUCLEOTIDES`; None while it is not computed."""
    key = dtype, device
    with _table_lock:
        _bases_scored[key] += bases
        if key in _tables or _bases_scored[key] <= _TABLE_BASES:
            return _tables.get(key)
        _tables[key] = None  # other threads do not wait: they score windows one by one meanwhile
    try:
        _tables[key] = _compute_table(dtype, device)
    except BaseException:
        del _tables[key]
        raise
    return _tables[key]


@torch.inference_mode()
def _compute_table(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the delta linking of every window of `MIN_DINUCLEOTIDES`, by the classes of its dinucleotides."""
    _, representative = dinucleotide_classes(device)
    powers = len(representative) ** torch.arange(MIN_DINUCLEOTIDES, device=device).flip(0)[:, None]
    entries = torch.arange(len(representative) ** MIN_DINUCLEOTIDES, device=device)
    parts = entries.split(CHUNK_STARTS.get(device.type, CHUNK_STARTS["cpu"]))
    return torch.cat(
        [
            _linking_by_length(
                representative[part // powers % len(representative)], MIN_DINUCLEOTIDES, dtype
            )[0]
            for part in parts
        ]
    )
