"""Prefilter of windows: which ones hold a base that can be called at all, decided from sequence at megabases a second.

DNA that flips to Z-DNA contains a run of dinucleotides that flips readily by the energies of Z-HUNT
(`zflipon.energetics.zhunt`); fewer than one base in thirty is in such a run. A model may state a stricter condition in
its metadata: the bundled one calls only where published maps of Z-HUNT do, and only where G and C are frequent.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from zflipon.config import ScreenConfig
from zflipon.energetics.energies import DINUCLEOTIDE_LIMIT
from zflipon.energetics.equilibrium import MAX_LINKING
from zflipon.energetics.published import (
    CALL_CUTOFF,
    CALL_EXTENSION,
    SEED_LINKING,
    best_windows,
    shortest_window_linking,
)
from zflipon.energetics.zhunt import MAX_DINUCLEOTIDES, MIN_DINUCLEOTIDES, log_z_score
from zflipon.genome.alphabet import PADDING_BASE, base_codes
from zflipon.genome.fasta import Genome

_GC_FLANK = 512
"""Bases on either side of a base in which G and C are counted."""

_BLOCK = 1024
"""Bases of a block; blocks without a base that can be called are skipped."""

_BLOCKS_PER_STEP = {"cpu": 48, "cuda": 2048}
"""Blocks that are computed together, by device type: on a CPU the work then fits its cache."""

_SEED_TOLERANCE = 0.2
"""Delta linking by which the first six dinucleotides of a longer window may exceed the limit for that window."""

_C, _G = 1, 2
"""Codes of C and G."""


def screen_windows(
    genome: Genome, contig: str, windows: np.ndarray, screen: ScreenConfig, device: torch.device | str = "cpu"
) -> np.ndarray:
    """Return which windows have a base in their cores that can be called.

    Parameters
    ----------
    genome : Genome
    contig : str
    windows : numpy.ndarray
        `zflipon.genome.windows.WINDOW_DTYPE`, shape (n,): consecutive windows of one segment.
    screen : ScreenConfig
    device : torch.device or str

    Returns
    -------
    numpy.ndarray
        bool, shape (n,).
    """
    first, last = int(windows["core_start"][0]), int(windows["core_end"][-1])
    flank = _GC_FLANK + 2 * DINUCLEOTIDE_LIMIT + CALL_EXTENSION
    low, high = max(0, first - flank), min(genome.length(contig), last + flank)
    codes = torch.from_numpy(base_codes(genome.fetch(contig, low, high))).to(device)
    starts, ends = (positions.cpu().numpy() + low for positions in candidate_intervals(codes, screen))
    # an interval may overlap several cores: count them by differences
    changes = np.zeros(len(windows) + 1, dtype=np.int64)
    np.add.at(changes, np.searchsorted(windows["core_end"], starts, side="right"), 1)
    np.add.at(changes, np.searchsorted(windows["core_start"], ends, side="left"), -1)
    return np.cumsum(changes)[:-1] > 0


def candidate_intervals(codes: Tensor, screen: ScreenConfig) -> tuple[Tensor, Tensor]:
    """Return the intervals that can be called.

    Parameters
    ----------
    codes : Tensor
        int64, shape (bases,): see `zflipon.genome.alphabet.base_codes`.
    screen : ScreenConfig

    Returns
    -------
    starts, ends : Tensor
        int64, shape (n,): ``[start, end)``; intervals may overlap.
    """
    eligible = _gc_share(codes) >= screen.strong if screen.strong else None
    shortest = _shortest_linking(codes, eligible)
    limit = SEED_LINKING if screen.published else screen.linking + _SEED_TOLERANCE
    is_start = shortest <= limit if eligible is None else (shortest <= limit) & eligible
    starts = torch.nonzero(is_start)[:, 0]
    longest = DINUCLEOTIDE_LIMIT if screen.published else MAX_DINUCLEOTIDES
    seeds = torch.zeros_like(starts), starts
    best, length = best_windows(codes[None], seeds, shortest[starts], MIN_DINUCLEOTIDES, longest)
    called = log_z_score(best) >= math.log(CALL_CUTOFF) if screen.published else best <= screen.linking
    return starts[called], (starts + length)[called] + CALL_EXTENSION


def _shortest_linking(codes: Tensor, eligible: Tensor | None) -> Tensor:
    """Return the delta linking of the shortest window at each start: float32, shape (bases,).

    It is `MAX_LINKING` in blocks without an eligible base, which are not computed.
    """
    overhang, count = 2 * MIN_DINUCLEOTIDES - 1, -(-len(codes) // _BLOCK)
    padding = (0, count * _BLOCK + overhang - len(codes))
    blocks = F.pad(codes, padding, value=PADDING_BASE).unfold(0, _BLOCK + overhang, _BLOCK)
    rows = torch.arange(count, device=codes.device)
    if eligible is not None:
        padded = F.pad(eligible, (0, count * _BLOCK - len(codes)))
        rows = rows[padded.view(count, _BLOCK).any(dim=1)]
    linking = torch.full((count, _BLOCK), MAX_LINKING, device=codes.device)
    for part in rows.split(_BLOCKS_PER_STEP.get(codes.device.type, _BLOCKS_PER_STEP["cpu"])):
        linking[part] = shortest_window_linking(blocks[part], MIN_DINUCLEOTIDES)[:, :_BLOCK]
    return linking.flatten()[: len(codes)]


def _gc_share(codes: Tensor) -> Tensor:
    """Return the share of G and C around each base: float32, shape (bases,)."""
    total = F.pad((codes == _C).logical_or(codes == _G).cumsum(0, dtype=torch.int32), (_GC_FLANK + 1, 0))
    total = torch.cat([total, total[-1:].expand(_GC_FLANK)])
    count = total[2 * _GC_FLANK :][: len(codes)] - total[: len(codes)]
    positions = torch.arange(len(codes), dtype=torch.int32, device=codes.device)
    bases = (positions + _GC_FLANK).clamp(max=len(codes)) - (positions - _GC_FLANK).clamp(min=0)
    return count / bases
