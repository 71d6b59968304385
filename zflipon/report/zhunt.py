"""Comparison of calls with Z-HUNT, computed from the sequence by the rule of published maps.

Every call of a run is compared. The density of Z-HUNT calls is counted on all sequence of a run, or estimated from
random blocks of a large genome.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from zflipon.energetics.energies import DINUCLEOTIDE_LIMIT
from zflipon.energetics.published import CALL_EXTENSION, call_mask, published_call_starts
from zflipon.genome.alphabet import PADDING_BASE, UNKNOWN_BASE, base_codes
from zflipon.genome.fasta import Genome
from zflipon.genome.intervals import merge, overlap_mask
from zflipon.tracks.call_files import call_intervals
from zflipon.workflows.evaluate import BOOTSTRAP_DRAWS

BLOCK = 1 << 17
"""Bases of a block."""

SAMPLED_BLOCKS = 128
"""Blocks drawn at random from a larger genome."""

_FLANK = 1 << 9
"""Bases read on either side of a block: more than the longest window, so that calls at its edges are complete."""

_REACH = 2 * DINUCLEOTIDE_LIMIT + CALL_EXTENSION
"""Bases on either side that decide whether Z-HUNT calls a base."""


@dataclass(frozen=True)
class ZhuntComparison:
    """Calls of a run compared with those of Z-HUNT.

    Attributes
    ----------
    in_zhunt : dict of str to numpy.ndarray
        Contig → which calls of the run overlap a Z-HUNT call: bool, shape (calls,).
    bases, zhunt_calls, also_called : numpy.ndarray
        int64, shape (blocks,): bases of known sequence, Z-HUNT calls that begin in the block, and those of them that
        overlap a call of the run.
    is_sample : bool
        Whether the blocks are a random sample of the sequence.
    """

    in_zhunt: dict[str, np.ndarray]
    bases: np.ndarray
    zhunt_calls: np.ndarray
    also_called: np.ndarray
    is_sample: bool

    @property
    def share_in_zhunt(self) -> float:
        """Share of the run's calls that Z-HUNT also calls."""
        return float(np.concatenate([np.empty(0, bool), *self.in_zhunt.values()]).mean())

    def zhunt_density(self) -> tuple[float, float, float]:
        """Return Z-HUNT calls per Mb with the limits of their 95 % interval; the limits are NaN without a sample."""
        return self._ratio(self.zhunt_calls * 1e6, self.bases)

    def share_also_called(self) -> tuple[float, float, float]:
        """Return the share of Z-HUNT calls that the run also calls, with its limits as in `zhunt_density`."""
        return self._ratio(self.also_called, self.zhunt_calls)

    def _ratio(self, numerator: np.ndarray, denominator: np.ndarray) -> tuple[float, float, float]:
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = float(np.float64(numerator.sum()) / denominator.sum())
            if not self.is_sample:
                return ratio, np.nan, np.nan
            number = len(numerator)
            weights = np.random.default_rng(0).multinomial(
                number, np.full(number, 1 / number), BOOTSTRAP_DRAWS
            )
            drawn = (weights @ numerator) / (weights @ denominator)
        low, high = np.nanquantile(drawn, [0.025, 0.975])
        return ratio, float(low), float(high)


def compare_with_zhunt(
    genome: Genome,
    calls: Mapping[str, np.ndarray],
    extent: Mapping[str, np.ndarray],
    sampled_blocks: int = SAMPLED_BLOCKS,
    block: int = BLOCK,
    seed: int = 42,
) -> ZhuntComparison:
    """Compare calls with those of Z-HUNT.

    Parameters
    ----------
    genome : Genome
    calls : mapping of str to numpy.ndarray
        Contig → `zflipon.tracks.calling.CALL_DTYPE`, sorted; at least one call.
    extent : mapping of str to numpy.ndarray
        Contig → what the run annotated: disjoint int64 intervals of shape (n, 2).
    sampled_blocks : int
        Highest number of blocks. If there are more, this number is drawn at random.
    block : int
        Bases of a block.
    seed : int
        Of the random draw.
    """
    intervals = {contig: call_intervals(rows) for contig, rows in calls.items()}
    in_zhunt = {contig: _overlap_zhunt(genome, contig, rows) for contig, rows in intervals.items()}
    blocks = [
        (contig, low, min(low + block, int(end)))
        for contig, rows in extent.items()
        for start, end in rows
        for low in range(int(start), int(end), block)
    ]
    is_sample = len(blocks) > sampled_blocks
    if is_sample:
        drawn = np.random.default_rng(seed).permutation(len(blocks))[:sampled_blocks]
        blocks = [blocks[number] for number in np.sort(drawn)]
    merged = {contig: merge(rows) for contig, rows in intervals.items()}
    counts = [_count_block(genome, contig, start, end, merged.get(contig)) for contig, start, end in blocks]
    bases, zhunt_calls, also_called = np.array(counts, dtype=np.int64).reshape(-1, 3).T
    return ZhuntComparison(in_zhunt, bases, zhunt_calls, also_called, is_sample)


@torch.inference_mode()
def _zhunt_mask(codes: np.ndarray) -> np.ndarray:
    """Return which bases Z-HUNT calls: bool, shape (batch, bases), from nucleotide codes of that shape."""
    _, excess, ends = published_call_starts(torch.from_numpy(codes), dtype=torch.float64)
    return call_mask(excess >= 0, ends).numpy()


def _count_block(
    genome: Genome, contig: str, start: int, end: int, called: np.ndarray | None
) -> tuple[int, int, int]:
    """Return the known bases of a block, the Z-HUNT calls that begin in it, and those of them that overlap a call."""
    low, high = max(0, start - _FLANK), min(genome.length(contig), end + _FLANK)
    codes = base_codes(genome.fetch(contig, low, high))
    known = int((codes[start - low : end - low] != UNKNOWN_BASE).sum())
    mask = _zhunt_mask(codes[None])[0]
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0)).reshape(-1, 2) + low
    begins = edges[(edges[:, 0] >= start) & (edges[:, 0] < end)]
    return known, len(begins), int(overlap_mask(called, begins).sum())


def _overlap_zhunt(genome: Genome, contig: str, intervals: np.ndarray) -> np.ndarray:
    """Return which intervals of a contig overlap a Z-HUNT call: bool, shape (n,)."""
    found = np.zeros(len(intervals), dtype=bool)
    for rows in _batches(intervals):
        windows = intervals[rows] + np.array([-_REACH, _REACH])
        windows = windows.clip(0, genome.length(contig))
        codes = np.full((len(rows), int(np.diff(windows).max())), PADDING_BASE, dtype=np.int64)
        for number, (low, high) in enumerate(windows.tolist()):
            codes[number, : high - low] = base_codes(genome.fetch(contig, low, high))
        positions = windows[:, :1] + np.arange(codes.shape[1])
        inside = (positions >= intervals[rows, :1]) & (positions < intervals[rows, 1:])
        found[rows] = (_zhunt_mask(codes) & inside).any(axis=1)
    return found


def _batches(intervals: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the numbers of intervals in batches of about equal lengths, each of about `BLOCK` bases."""
    length = np.diff(intervals).ravel() + 2 * _REACH
    order = np.argsort(length, kind="stable")
    total = np.cumsum(length[order])
    parts = np.split(order, np.searchsorted(total, np.arange(BLOCK, total[-1], BLOCK)))
    yield from (part for part in parts if len(part))
