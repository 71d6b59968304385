"""Z-HUNT: how readily each stretch of a sequence turns into Z-DNA, by thermodynamics.

The model of Ho, Ellison, Quigley & Rich (EMBO J. 5:2737, 1986) with the statistics of
Schroth, Chou & Ho (J. Biol. Chem. 267:11846, 1992), as the program Z-HUNT computes it. For a
start position and a number of dinucleotides:

1. each dinucleotide is anti–syn or syn–anti; the assignment of least B→Z energy is taken;
2. a partition function weighs every stretch of Z-DNA inside the window against none at all,
   in a circle whose linking number is short by some amount;
3. the *delta linking* at which half of the window's twist has gone is looked for: the
   smaller it is, the more readily the window turns;
4. the *Z-score* is the number of random bases among which one window does as well.

All positions are computed at once, in torch, on whatever device the sequence lies.

Published maps of human Z-DNA were made by another rule than "every window above a score"; `published_starts` and
`inside_calls` hold what it was found to be, from the maps themselves.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import repeat
from threading import Lock

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from zflipon.errors import ZfliponError
from zflipon.genome.alphabet import PADDING_BASE, UNKNOWN_BASE, base_codes

MIN_DINUCLEOTIDES, MAX_DINUCLEOTIDES = 6, 8
"""Window lengths looked at where nothing is said."""

DINUCLEOTIDE_LIMIT = 12
"""Dinucleotides of the longest window that can be asked for."""

CALL_CUTOFF, SEED_CUTOFF = 700.0, 420.0
"""Z-scores of published calls: of the best window at a start, and of the shortest one there."""

CALL_EXTENSION = 2
"""Bases by which published calls pass a window's end."""

MIN_LINKING, MAX_LINKING = 10.0, 50.0
"""Delta linking is looked for from here to there; what lies beyond is given as `HIGHEST`."""

# B→Z energies, hundredths of kcal/mol, of anti–syn dinucleotides by first base (row) and second, ACGT. Those of
# syn–anti ones are the transpose; where the assignment turns over, only the number of G and C counts.
_ANTI_SYN = ((440, 520, 340, 620), (140, 240, 66, 340), (330, 420, 240, 520), (250, 330, 140, 440))
_TURN = (620, 520, 400)
_UNKNOWN = 426  # of a dinucleotide with an N

_RT = 0.59004  # kcal/mol
_SCALE = 300  # taken off each energy and put back in the end: products then fit 32-bit numbers
_TURN_TWIST, _JUNCTION_TWIST = 0.357, 0.4  # turns, of a dinucleotide that flips and of each B–Z junction
_SUPERHELIX = -1100 / 4363  # energy of a linking difference, over RT
_JUNCTIONS = 16.94800353  # energy of two junctions, 10 kcal/mol, over RT
_MEAN, _SPREAD = 29.6537135, 2.71997  # of delta linking in random DNA

_FIRST_GUESS = 30.0

_WORTH = 1 << 23
"""Bases whose shortest windows cost more time one by one than do all that there are, once and for all."""

_making, _asked = Lock(), Counter()

_CHUNK = {"cpu": 1 << 15, "cuda": 1 << 21}
"""Start positions at a time: on a CPU what they need stays in its cache."""


def scores(
    sequence: str,
    min_dinucleotides: int = MIN_DINUCLEOTIDES,
    max_dinucleotides: int = MAX_DINUCLEOTIDES,
    wrap: bool = False,
    device: str = "cpu",
) -> tuple[np.ndarray, np.ndarray]:
    """Return the Z-score of each start position, and how long the window is that has it.

    Parameters
    ----------
    sequence : str
        DNA, upper or lower case. Any letter but A, C, G and T is an N, of middling energy.
    min_dinucleotides, max_dinucleotides : int
        Lengths of the windows, in dinucleotides, up to `LONGEST`.
    wrap : bool
        Whether the sequence is a circle. Otherwise positions near the end have the windows that
        still fit, and a score and a length of 0 where none does.
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
        If the lengths are none.

    Notes
    -----
    The reference program halves the interval of delta linking to 0.001, by which its Z-scores are up to
    0.2 % off these.
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
    """Return the least delta linking of each start position and its window's length; see `scores`."""
    _check(min_dinucleotides, max_dinucleotides)
    longest = 2 * max_dinucleotides
    codes = torch.from_numpy(base_codes(sequence.upper()))
    # an end that does not wrap is filled with N; windows that reach into it are taken out below
    end = codes[torch.arange(longest) % max(1, len(codes))] if wrap and len(codes) else None
    codes = torch.cat([codes, torch.full((longest,), UNKNOWN_BASE) if end is None else end])
    best = np.full(len(sequence), MAX_LINKING)
    length = np.zeros(len(sequence), dtype=np.int64)
    size = _CHUNK.get(torch.device(device).type, _CHUNK["cpu"])
    for first in range(0, len(sequence), size):
        part = codes[first : first + size + longest - 1].to(device)
        here = slice(first, first + size)
        places = np.arange(len(sequence))[here]
        for dinucleotides, found in window_linking(
            part, min_dinucleotides, max_dinucleotides, as_program=True
        ):
            value = found[: len(places)].cpu().numpy()
            fits = wrap | (places + 2 * dinucleotides <= len(sequence))
            better = fits & ((value < best[here]) | (length[here] == 0))
            best[here][better] = value[better]
            length[here][better] = 2 * dinucleotides
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
        int64, shape (…, bases): codes of `zflipon.genome.alphabet.base_codes`.
    min_dinucleotides, max_dinucleotides : int
    dtype : torch.dtype
        Of the arithmetic.
    as_program : bool
        Among assignments of one energy, take that which rounding makes least in the program, whose
        running sum is a 32-bit number; else the first in its order, which is quicker.
    free_first : bool
        Choose the assignment without the first dinucleotide's own energy, as in the published maps; ties are settled
        by order then.

    Yields
    ------
    dinucleotides : int
    linking : Tensor
        Of that type, shape (…, bases − 2 × max_dinucleotides + 1).
    """
    energies = _energies(codes.device)
    pairs = _pairs(codes)
    starts = codes.shape[-1] - 2 * max_dinucleotides + 1
    steps = [table[pairs] for table in energies]
    factors = [_boltzmann(table, dtype)[pairs] for table in energies]
    along = [[step[..., 2 * k : 2 * k + starts] for step in steps] for k in range(max_dinucleotides)]
    first = _assignments(along, 1, free_first)
    as_program &= not free_first
    last = _assignments(along, 0) if as_program else repeat(None)
    for dinucleotides, lowest, highest in zip(range(1, max_dinucleotides + 1), first, last, strict=False):
        if dinucleotides < min_dinucleotides:
            continue
        if highest is not None:
            used = (1 << DINUCLEOTIDE_LIMIT) - (1 << (DINUCLEOTIDE_LIMIT - dinucleotides))
            tied = torch.nonzero(lowest != (~highest & used), as_tuple=True)
            lowest[tied] = _program_choice(steps, tied, dinucleotides)
        sums = _stretches(lowest, factors, dinucleotides, starts)
        yield dinucleotides, _solve(sums, (dinucleotides,))


def published_call_starts(
    codes: Tensor,
    least: int = MIN_DINUCLEOTIDES,
    most: int = DINUCLEOTIDE_LIMIT,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return how far each start is above what published calls ask for, and the end of the call that begins there.

    A start counts if its shortest window has a Z-score of `SEED` and its best one of `CUTOFF`. This rule was
    found by comparing scores with published calls; its authors do not tell it.

    Parameters
    ----------
    codes : Tensor
        int64, shape (batch, bases): codes of `zflipon.genome.alphabet.base_codes`; above `UNKNOWN_BASE` beyond a sequence's end.
    least, most : int
        Dinucleotides of the shortest and of the longest windows.
    dtype : torch.dtype
        Of the arithmetic.

    Returns
    -------
    shortest : Tensor
        Of that type, shape (batch, bases): delta linking of the shortest window; `HIGHEST` where it passes the end.
    excess : Tensor
        Of that type and shape: logarithm of score over what is asked, the lesser of the two; from 0 on a start
        counts. Where the shortest window has too little, its own.
    end : Tensor
        int64, shape (batch, bases): `FURTHER` bases beyond the best window.
    """
    shortest = shortest_window_linking(codes, least, dtype)
    excess = log_z_score(shortest) - math.log(SEED_CUTOFF)
    length = torch.full_like(codes, 2 * least)
    # hardly one start in a hundred gets this far
    seeds = torch.nonzero(excess >= 0, as_tuple=True)
    best, length[seeds] = best_windows(codes, seeds, shortest[seeds], least, most)
    excess[seeds] = torch.minimum(log_z_score(best) - math.log(CALL_CUTOFF), excess[seeds])
    places = torch.arange(codes.shape[-1], device=codes.device)
    return shortest, excess, places + length + CALL_EXTENSION


def shortest_window_linking(codes: Tensor, least: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the delta linking of the shortest window at each start, by the rule of published calls.

    Parameters and result are those of `published_starts`.
    """
    size = codes.shape[-1]
    padded = F.pad(codes, (0, 2 * least - 1), value=PADDING_BASE)
    table = _table(dtype, codes.device, codes.numel()) if least == MIN_DINUCLEOTIDES else None
    if table is None:
        ((_, shortest),) = window_linking(padded, least, least, dtype, free_first=True)
    else:
        shortest = table.index_select(0, _numbers(padded, size).flatten()).view(codes.shape)
    return shortest.masked_fill(padded[:, 2 * least - 1 : 2 * least - 1 + size] == PADDING_BASE, MAX_LINKING)


def best_windows(
    codes: Tensor, seeds: tuple[Tensor, Tensor], shortest: Tensor, least: int, most: int
) -> tuple[Tensor, Tensor]:
    """Return delta linking and length of the best window at some starts, by the rule of published calls.

    Parameters
    ----------
    codes : Tensor
        int64, shape (batch, bases).
    seeds : (Tensor, Tensor)
        int64, shape (n,): rows and starts.
    shortest : Tensor
        Shape (n,): `shortest_linking` there.
    least, most : int

    Returns
    -------
    linking : Tensor
        Of `shortest`'s type, shape (n,).
    length : Tensor
        int64, shape (n,): bases.
    """
    windows = F.pad(codes, (0, 2 * most - 1), value=PADDING_BASE).unfold(1, 2 * most, 1)[seeds]
    if not len(windows):
        return shortest, torch.full_like(seeds[0], 2 * least)
    linking = _every_length(windows, least, most, shortest.dtype)
    last = torch.arange(2 * least - 1, 2 * most, 2, device=codes.device)
    linking = linking.masked_fill(windows[:, last].T == PADDING_BASE, MAX_LINKING)
    linking = torch.cat([shortest[None], linking])
    # of equal ones the first, which is shorter
    return linking.amin(dim=0), 2 * (least + linking.argmin(dim=0) - 1).clamp(min=least)


def call_mask(starts: Tensor, ends: Tensor) -> Tensor:
    """Tell which bases lie in a call: those that the last start before them reaches.

    So a call ends where the last of its windows does, even where an earlier one reached further: published calls do.

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
    places = torch.arange(starts.shape[-1], device=starts.device)
    last = places.where(starts, -1).cummax(dim=-1).values
    return (last >= 0) & (places < ends.gather(-1, last.clamp(min=0)))


def z_score(linking: np.ndarray) -> np.ndarray:
    """Return the Z-scores of delta linkings: one over the tail of the normal fit, below its mean; the tail above."""
    return log_z_score(torch.from_numpy(np.asarray(linking, dtype=np.float64))).exp().numpy()


def log_z_score(linking: Tensor) -> Tensor:
    """Return the natural logarithm of the Z-scores of delta linkings, of their type and shape."""
    deviation = (linking - _MEAN) / _SPREAD
    tail = torch.special.log_ndtr(-deviation.abs())
    return torch.where(deviation > 0, tail, -tail)


def _check(least: int, most: int) -> None:
    if not 1 <= least <= most <= DINUCLEOTIDE_LIMIT:
        raise ZfliponError(
            f"windows of {least} to {most} dinucleotides; expected 1 <= least <= most <= {DINUCLEOTIDE_LIMIT}"
        )


@lru_cache
def _energies(device: torch.device) -> list[Tensor]:
    """Return the energies of dinucleotides, 5 × first + second code: anti–syn, turned over, syn–anti; int32, (25,)."""
    anti_syn = torch.full((5, 5), _UNKNOWN, dtype=torch.int32)
    turn = anti_syn.clone()
    anti_syn[:4, :4] = torch.tensor(_ANTI_SYN, dtype=torch.int32)
    strong = torch.tensor([0, 1, 1, 0])
    turn[:4, :4] = torch.tensor(_TURN, dtype=torch.int32)[strong[:, None] + strong]
    return [table.flatten().to(device) for table in (anti_syn, turn, anti_syn.T.contiguous())]


def _boltzmann(energies: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the Boltzmann factors of energies, but for `_SCALE`."""
    return torch.exp((energies.to(dtype) - _SCALE) / (-100 * _RT))


def _assignments(
    energies: Iterable[Sequence[Tensor]], syn_anti_bit: int, free_first: bool = False
) -> Iterator[Tensor]:
    """Yield the cheapest assignment of windows of 1, 2, … dinucleotides: a bit for each, the first one's highest.

    Energies are, for one dinucleotide after the other, those of staying anti–syn, of turning over and of staying
    syn–anti. Their sums lie above `LONGEST` bits, so that the least of such keys is the cheapest assignment and, among
    equals, the one with the least bits. Bits are 1 at syn–anti, or at anti–syn where `syn_anti_bit` is 0.
    """
    anti_syn = syn_anti = None
    for k, each in enumerate(energies):
        stay_as, turn, stay_sa = (energy << DINUCLEOTIDE_LIMIT for energy in each)
        bits = [1 << (DINUCLEOTIDE_LIMIT - 1 - k) if bit else 0 for bit in (1 - syn_anti_bit, syn_anti_bit)]
        if anti_syn is None:
            own = 0 if free_first else 1
            anti_syn, syn_anti = own * stay_as + bits[0], own * stay_sa + bits[1]
        else:
            anti_syn, syn_anti = (
                torch.minimum(anti_syn + stay_as, syn_anti + turn) + bits[0],
                torch.minimum(anti_syn + turn, syn_anti + stay_sa) + bits[1],
            )
        yield torch.minimum(anti_syn, syn_anti) & ((1 << DINUCLEOTIDE_LIMIT) - 1)


def _program_choice(steps: list[Tensor], places: tuple[Tensor, ...], dinucleotides: int) -> Tensor:
    """Return the program's assignment at places where several are cheapest.

    It adds an anti–syn energy to a 32-bit sum, takes it off again and adds the syn–anti one; a later assignment
    wins only by a smaller sum. Here only the cheapest are followed, from dinucleotide to dinucleotide.
    """
    windows = [
        [step[(*places[:-1], places[-1] + 2 * k)] for step in steps] for k in range(dinucleotides)
    ]  # anti–syn, turned over and syn–anti energy of each dinucleotide at each place
    rest = [torch.zeros((2, len(places[-1])), dtype=steps[0].dtype, device=steps[0].device)]
    for stay_as, turn, stay_sa in windows[:0:-1]:
        after = rest[0]
        after_as = torch.minimum(stay_as + after[0], turn + after[1])
        after_sa = torch.minimum(turn + after[0], stay_sa + after[1])
        rest.insert(0, torch.stack([after_as, after_sa]))
    stay_as, _, stay_sa = windows[0]
    least = torch.minimum(stay_as + rest[0][0], stay_sa + rest[0][1])
    at = torch.arange(len(least), device=least.device)
    state, bits, spent = torch.zeros_like(at), torch.zeros_like(at), torch.zeros_like(least)
    total = torch.zeros(len(at), dtype=torch.float32, device=at.device)
    for k, (energies, after) in enumerate(zip(windows, rest, strict=True)):
        stay_as, turn, stay_sa = (energy[at] for energy in energies)
        if k:
            stay_as, stay_sa = torch.where(state == 1, turn, stay_as), torch.where(state == 1, stay_sa, turn)
        with_as = total + _kcal(stay_as).float()
        with_sa = ((with_as - _kcal(stay_as).float()).double() + _kcal(stay_sa)).float()
        at, total = torch.cat([at, at]), torch.cat([with_as, with_sa])
        spent = torch.cat([spent + stay_as, spent + stay_sa])
        state = torch.cat([torch.zeros_like(state), torch.ones_like(state)])
        bits = torch.cat([bits, bits]) | (state << (DINUCLEOTIDE_LIMIT - 1 - k))
        cheapest = spent + after[state, at] == least[at]
        at, total, spent, state, bits = (each[cheapest] for each in (at, total, spent, state, bits))
    smallest = torch.full((len(least),), torch.inf, device=at.device).scatter_reduce(0, at, total, "amin")
    bits = torch.where(total == smallest[at], bits, 1 << DINUCLEOTIDE_LIMIT)
    first = torch.full((len(least),), 1 << DINUCLEOTIDE_LIMIT, device=at.device).scatter_reduce(
        0, at, bits, "amin"
    )
    return first.to(steps[0].dtype)


def _kcal(energy: Tensor) -> Tensor:
    return energy.double() / 100


def _stretches(assignment: Tensor, factors: list[Tensor], dinucleotides: int, starts: int) -> list[Tensor]:
    """Return the summed Boltzmann factors of the window's stretches of 1, 2, … dinucleotides."""
    single = []
    before = None
    for k in range(dinucleotides):
        stay_as, turn, stay_sa = (factor[..., 2 * k : 2 * k + starts] for factor in factors)
        here = (assignment & (1 << (DINUCLEOTIDE_LIMIT - 1 - k))) != 0
        factor = torch.where(here, stay_sa, stay_as)
        single.append(factor if before is None else torch.where(here == before, factor, turn))
        before = here
    product, sums = list(single), []
    for size in range(1, dinucleotides + 1):
        total = product[0]
        for other in product[1:]:
            total = total + other
        sums.append(total)
        product = [one * after for one, after in zip(product, single[size:], strict=False)]
    return sums


def _every_length(windows: Tensor, least: int, most: int, dtype: torch.dtype) -> Tensor:
    """Return what `window_linking` says, by the rule of published maps, of few windows: all lengths at once.

    Parameters
    ----------
    windows : Tensor
        int64, shape (n, 2 × most): codes.
    least, most : int
    dtype : torch.dtype

    Returns
    -------
    Tensor
        Of that type, shape (most − least + 1, n).
    """
    pairs = _pairs(windows)[:, ::2].T
    return _linking_of(pairs, least, dtype)


def _linking_of(pairs: Tensor, least: int, dtype: torch.dtype) -> Tensor:
    """Return what `_every_length` does of windows that are told by their dinucleotides: int64, shape (most, n)."""
    most = len(pairs)
    tables = _energies(pairs.device)
    steps = [table[pairs] for table in tables]
    stay_as, turn, stay_sa = (_boltzmann(table, dtype)[pairs] for table in tables)
    lowest = torch.stack([*_assignments(zip(*steps, strict=True), 1, free_first=True)][least - 1 :])
    place = torch.arange(most, device=pairs.device)[:, None, None]
    syn_anti = (lowest >> (DINUCLEOTIDE_LIMIT - 1 - place)) & 1 != 0
    factor = torch.where(syn_anti, stay_sa[:, None], stay_as[:, None])
    factor[1:] = torch.where(syn_anti[1:] == syn_anti[:-1], factor[1:], turn[1:, None])
    lengths = torch.arange(least, most + 1, device=pairs.device)[:, None]
    factor = factor.masked_fill(place >= lengths, 0)  # no stretch passes a window's end
    product = sums = torch.zeros_like(factor)
    for each in factor:  # of the stretches that end here, the longest last
        product = torch.cat([each[None], product[:-1] * each])
        sums = sums + product
    return _solve(sums, range(least, most + 1))


def _pairs(codes: Tensor) -> Tensor:
    """Return the number of the dinucleotide at each base but the last: int64, as the energies have them."""
    codes = codes.clamp(max=UNKNOWN_BASE)
    return codes[..., :-1] * 5 + codes[..., 1:]


@lru_cache
def _kinds(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return which dinucleotides have the same energies, as AC and GT have.

    Returns
    -------
    kind : Tensor
        int32, shape (25,): of each dinucleotide.
    one : Tensor
        int64, shape (kinds,): a dinucleotide of each.
    """
    energies = torch.stack(_energies(torch.device("cpu")), dim=1)
    found, kind = torch.unique(energies, dim=0, return_inverse=True)
    one = torch.stack([torch.nonzero(kind == number)[0, 0] for number in range(len(found))])
    return kind.int().to(device), one.to(device)


def _numbers(codes: Tensor, starts: int) -> Tensor:
    """Return which entry of `_table` the window at each start has: int32, shape (…, starts)."""
    kind, one = _kinds(codes.device)
    kind = kind[_pairs(codes)]
    number = kind[..., :starts]
    for k in range(1, MIN_DINUCLEOTIDES):
        number = number * len(one) + kind[..., 2 * k : 2 * k + starts]
    return number


def _table(dtype: torch.dtype, device: torch.device, bases: int) -> Tensor | None:
    """Return the delta linking of every window of `MIN_DINUCLEOTIDES`, by the kinds of its dinucleotides.

    None until more bases have been asked for than it is worth making for.
    """
    with _making:
        _asked[dtype, device] += bases
        return _made_table(dtype, device) if _asked[dtype, device] > _WORTH else None


@lru_cache
@torch.inference_mode()
def _made_table(dtype: torch.dtype, device: torch.device) -> Tensor:
    _, one = _kinds(device)
    powers = len(one) ** torch.arange(MIN_DINUCLEOTIDES, device=device).flip(0)[:, None]
    numbers = torch.arange(len(one) ** MIN_DINUCLEOTIDES, device=device)
    parts = numbers.split(_CHUNK.get(device.type, _CHUNK["cpu"]))
    return torch.cat(
        [_linking_of(one[part // powers % len(one)], MIN_DINUCLEOTIDES, dtype)[0] for part in parts]
    )


def _solve(sums: Sequence[Tensor], lengths: Sequence[int]) -> Tensor:
    """Return the delta linking at which the expected twist taken up is half of what a window can give.

    A stretch of i dinucleotides takes up the twist t = 2 b + i a and weighs s exp(K (L − t)²) at the linking
    difference L; no stretch weighs exp(K L² + σ). With h = a n / 2, the twist is h where
    Σ weight (t − h) = h × weight of none. Over exp(K L²), terms are powers of exp(−2 K a L). Stretches too
    short for a positive term join the other side, and the logarithms of both sides are all but straight lines, so
    that Newton needs few steps.

    Parameters
    ----------
    sums : sequence of Tensor
        Summed Boltzmann factors of the stretches of 1, 2, … dinucleotides: of windows of one length in any shape, or of
        several lengths in rows, 0 for stretches that are longer.
    lengths : sequence of int
        Of the windows, in dinucleotides.
    """
    halves = [_TURN_TWIST / 2 * n for n in lengths]
    twists = [2 * _JUNCTION_TWIST + size * _TURN_TWIST for size in range(1, len(sums) + 1)]
    shorts = [sum(t < half for t in twists) for half in halves]
    steps = [4 if n <= 8 else 6 for n in lengths]  # which leaves less than 1e-5

    def each(numbers: Sequence[float]) -> float | Tensor:
        dtype = torch.bool if isinstance(numbers[0], bool) else sums[0].dtype
        return numbers[0] if len(numbers) == 1 else _column(tuple(numbers), dtype, sums[0].device)

    rate, junction_rate = (-2 * _SUPERHELIX * twist for twist in (_TURN_TWIST, 2 * _JUNCTION_TWIST))
    scale = _SCALE / (100 * _RT)
    none = [half * math.exp(_JUNCTIONS) for half in halves]
    # each term beside its derivative by the logarithm of power
    terms = [
        torch.stack([term, term * (i + 1)])
        for i, term in enumerate(
            total * each([(t - half) * math.exp(_SUPERHELIX * t * t) for half in halves])
            for total, t in zip(sums, twists, strict=True)
        )
    ]
    uneven = range(min(shorts), max(shorts))
    linking = torch.full_like(sums[0], _FIRST_GUESS)
    for step in range(max(steps)):
        power = torch.exp(rate * linking - scale)
        found = terms[-1]
        for i in reversed(range(min(shorts), len(terms) - 1)):
            further = found * power + terms[i]
            found = (
                torch.where(each([short <= i for short in shorts]), further, found)
                if i in uneven
                else further
            )
        value, slope = found * power
        excess = torch.log(value) + each([junction_rate + short * rate for short in shorts]) * linking
        excess = excess - each([short * scale for short in shorts])
        slope = rate * slope / value + junction_rate
        if max(shorts):
            less = 0
            for i in reversed(range(max(shorts))):
                own = terms[i] * each([float(i < short) for short in shorts]) if i in uneven else terms[i]
                less = less * power + own
            less, less_slope = less * power
            junction = torch.exp(junction_rate * linking)
            against = each(none) - less * junction
            slope = slope + (rate * less_slope + junction_rate * less) * junction / against
            excess = excess - torch.log(against)
        else:
            excess = excess - each([math.log(weight) for weight in none])
        further = linking - excess / slope
        linking = (
            further if step < min(steps) else torch.where(each([step < n for n in steps]), further, linking)
        )
    return linking.clamp(MIN_LINKING, MAX_LINKING)


@lru_cache(maxsize=256)
def _column(numbers: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return numbers below each other, for windows of several lengths in rows: shape (n, 1)."""
    return torch.tensor(numbers, dtype=dtype, device=device)[:, None]
