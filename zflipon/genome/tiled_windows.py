"""Adjacent windows with labels, and the sampling of negatives among them: the data of the published models.

Libina & Skvortsova (2025) tile each chromosome from 0 with a stride of one window, leave out windows that are mostly N
or overlap the blacklist, take all windows with a labelled base, and sample three times as many of the others.
Overlapping windows for inference are in `zflipon.genome.windows`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from zflipon.genome.intervals import Intervals, count_covered


@dataclass(frozen=True)
class TiledWindows:
    """The usable windows of some contigs, in the genome's order.

    Attributes
    ----------
    width : int
        Bases of a window.
    contigs : tuple of str
    contig : numpy.ndarray
        int64, shape (n,): index into `contigs`.
    start : numpy.ndarray
        int64, shape (n,).
    labelled : numpy.ndarray
        bool, shape (n,): the window has a labelled base.
    candidate : numpy.ndarray
        bool, shape (n,): the window has a candidate base, such as one that Z-HUNT calls, and no labelled base.
    """

    width: int
    contigs: tuple[str, ...]
    contig: np.ndarray
    start: np.ndarray
    labelled: np.ndarray
    candidate: np.ndarray

    def __len__(self) -> int:
        return len(self.start)


def build_tiled_windows(
    lengths: Mapping[str, int],
    labels: Intervals,
    segments: Intervals,
    blacklist: Intervals,
    width: int,
    candidates: Intervals | None = None,
) -> TiledWindows:
    """Tile contigs, and note which windows have labelled and candidate bases. A shorter rest at the end is left out.

    Parameters
    ----------
    lengths : mapping of str to int
    labels, segments, blacklist, candidates : Intervals
        Disjoint; `segments` are the bases that are not N.
    width : int
        Bases of a window.

    Returns
    -------
    TiledWindows
        Windows of which at most half is N and that do not overlap the blacklist.
    """
    columns = []
    for number, (contig, length) in enumerate(lengths.items()):
        edges = np.arange(0, length + 1, width)
        unknown = width - count_covered(segments.get(contig), edges)
        labelled = count_covered(labels.get(contig), edges) > 0
        candidate = ~labelled & (count_covered((candidates or {}).get(contig), edges) > 0)
        usable = np.flatnonzero((2 * unknown <= width) & (count_covered(blacklist.get(contig), edges) == 0))
        columns.append((np.full(len(usable), number), edges[usable], labelled[usable], candidate[usable]))
    contig, start, labelled, candidate = (np.concatenate(column) for column in zip(*columns, strict=True))
    return TiledWindows(width, tuple(lengths), contig, start, labelled, candidate)


def sample_windows(
    windows: TiledWindows,
    hard_negatives: float,
    background: float,
    seed: int,
    among: np.ndarray | None = None,
) -> np.ndarray:
    """Take all windows with a label, and a random sample of the others.

    Parameters
    ----------
    windows : TiledWindows
    hard_negatives, background : float
        Windows with a candidate, and other windows, per window with a label; ``inf`` takes all.
    seed : int
    among : numpy.ndarray, optional
        bool, shape (n,): the windows to sample from; all by default.

    Returns
    -------
    numpy.ndarray
        int64: indices of the sampled windows, in order.
    """
    among = np.ones(len(windows), dtype=bool) if among is None else among
    positive = np.flatnonzero(among & windows.labelled)
    sampled, rng = [positive], np.random.default_rng(seed)
    # without a share of hard negatives, windows with a candidate belong to the background, as in the paper
    hard = windows.candidate if hard_negatives else np.zeros(len(windows), dtype=bool)
    for share, kind in ((hard_negatives, hard), (background, ~windows.labelled & ~hard)):
        others = np.flatnonzero(among & kind)
        count = len(others) if np.isinf(share) else min(len(others), round(share * len(positive)))
        sampled.append(others[rng.choice(len(others), count, replace=False)])
    return np.sort(np.concatenate(sampled))
