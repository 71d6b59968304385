"""Which windows are worth reading: a condition that Z-DNA has to meet, told from sequence at megabases a second.

DNA that turns has a stretch of dinucleotides that turns readily, by the energies of Z-HUNT (`zflipon.energetics.zhunt`), and
hardly one base in thirty lies in one. A model that knows more says so in its story: the bundled one calls only what
published maps of Z-HUNT call, and nothing where little of the surroundings is G or C.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from zflipon.config import ScreenConfig
from zflipon.energetics.zhunt import (
    CALL_CUTOFF,
    CALL_EXTENSION,
    DINUCLEOTIDE_LIMIT,
    MAX_DINUCLEOTIDES,
    MAX_LINKING,
    MIN_DINUCLEOTIDES,
    SEED_CUTOFF,
    best_windows,
    log_z_score,
    shortest_window_linking,
)
from zflipon.genome.alphabet import PADDING_BASE, base_codes
from zflipon.genome.fasta import Genome

_SURROUNDINGS = 512
_BLOCK = 1024
_BLOCKS = {"cpu": 48, "cuda": 2048}
"""Blocks of so many bases at a time: on a CPU what they need stays in its cache."""

_BEYOND = 0.2
"""Delta linking by which the first six dinucleotides of a stretch may miss what the stretch is asked for."""

_STRONG = (0, 1, 1, 0, 0)
"""Code of a letter → whether it is G or C."""


def screen_windows(
    genome: Genome, contig: str, windows: np.ndarray, screen: ScreenConfig, device: torch.device | str = "cpu"
) -> np.ndarray:
    """Tell which windows hold, in their cores, bases that can be called.

    Parameters
    ----------
    genome : Genome
    contig : str
    tiles : numpy.ndarray
        `zflipon.genome.windows.WINDOW_DTYPE`, shape (n,): consecutive windows of one stretch.
    screen : ScreenConfig
    device : torch.device or str

    Returns
    -------
    numpy.ndarray
        bool, shape (n,).
    """
    first, last = int(windows["core_start"][0]), int(windows["core_end"][-1])
    around = _SURROUNDINGS + 2 * DINUCLEOTIDE_LIMIT + CALL_EXTENSION
    low, high = max(0, first - around), min(genome.length(contig), last + around)
    codes = torch.from_numpy(base_codes(genome.fetch(contig, low, high))).to(device)
    starts, ends = (found.cpu().numpy() + low for found in candidate_intervals(codes, screen))
    cores = windows["core_start"], windows["core_end"]
    # a stretch is shorter than most cores, yet it may reach over several
    touched = np.zeros(len(windows) + 1, dtype=np.int64)
    np.add.at(touched, np.searchsorted(cores[1], starts, side="right"), 1)
    np.add.at(touched, np.searchsorted(cores[0], ends, side="left"), -1)
    return np.cumsum(touched)[:-1] > 0


def candidate_intervals(codes: Tensor, screen: ScreenConfig) -> tuple[Tensor, Tensor]:
    """Return the stretches that can be called.

    Parameters
    ----------
    codes : Tensor
        int64, shape (bases,): codes of `zflipon.genome.alphabet.base_codes`.
    screen : ScreenConfig

    Returns
    -------
    starts, ends : Tensor
        int64, shape (n,): ``[start, end)``, those of one end overlapping.
    """
    asked = _strong(codes) >= screen.strong if screen.strong else None
    shortest = _shortest(codes, asked)
    most = _SEED_LINKING if screen.published else screen.linking + _BEYOND
    starts = torch.nonzero(shortest <= most if asked is None else (shortest <= most) & asked)[:, 0]
    longest = DINUCLEOTIDE_LIMIT if screen.published else MAX_DINUCLEOTIDES
    place = torch.zeros_like(starts), starts
    best, length = best_windows(codes[None], place, shortest[starts], MIN_DINUCLEOTIDES, longest)
    called = log_z_score(best) >= math.log(CALL_CUTOFF) if screen.published else best <= screen.linking
    return starts[called], (starts + length)[called] + CALL_EXTENSION


def _shortest(codes: Tensor, asked: Tensor | None) -> Tensor:
    """Return the delta linking of the shortest window at each start: float32, shape (bases,).

    Blocks without a base that is asked for are passed over: theirs is `HIGHEST`.
    """
    beyond, count = 2 * MIN_DINUCLEOTIDES - 1, -(-len(codes) // _BLOCK)
    padded = torch.nn.functional.pad(codes, (0, count * _BLOCK + beyond - len(codes)), value=PADDING_BASE)
    blocks = padded.unfold(0, _BLOCK + beyond, _BLOCK)
    rows = torch.arange(count, device=codes.device)
    if asked is not None:
        inside = torch.nn.functional.pad(asked, (0, count * _BLOCK - len(codes)))
        rows = rows[inside.view(count, _BLOCK).any(dim=1)]
    found = torch.full((count, _BLOCK), MAX_LINKING, device=codes.device)
    for part in rows.split(_BLOCKS.get(codes.device.type, _BLOCKS["cpu"])):
        found[part] = shortest_window_linking(blocks[part], MIN_DINUCLEOTIDES)[:, :_BLOCK]
    return found.flatten()[: len(codes)]


def _strong(codes: Tensor) -> Tensor:
    """Return the share of G and C around each base: float32, shape (bases,)."""
    strong = torch.tensor(_STRONG, device=codes.device)[codes].cumsum(0)
    strong = torch.nn.functional.pad(strong, (1, 0))
    places = torch.arange(len(codes), device=codes.device)
    low = (places - _SURROUNDINGS).clamp(min=0)
    high = (places + _SURROUNDINGS).clamp(max=len(codes))
    return (strong[high] - strong[low]) / (high - low)


def _linking_of(score: float) -> float:
    """Return the largest delta linking that has a Z-score of so much."""
    low, high = 0.0, 30.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        above = log_z_score(torch.tensor(middle, dtype=torch.float64)) >= math.log(score)
        low, high = (middle, high) if above else (low, middle)
    return low


_SEED_LINKING = _linking_of(SEED_CUTOFF)
