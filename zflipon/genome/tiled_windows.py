"""Windows that lie side by side, told apart by what they hold: what the published models learnt and were tested on.

Libina & Skvortsova (2025) tile each chromosome from 0 at a stride of the window's own width, leave
out windows that are mostly N or touch the blacklist, take all those with a labelled base
and draw some of the others.
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
        Bases of each.
    contigs : tuple of str
    contig : numpy.ndarray
        int64, shape (n,): index into `contigs`.
    start : numpy.ndarray
        int64, shape (n,).
    labelled : numpy.ndarray
        bool, shape (n,): holds a labelled base.
    candidate : numpy.ndarray
        bool, shape (n,): holds a base that looks like one, and none that is labelled.
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
    stretches: Intervals,
    blacklist: Intervals,
    width: int,
    candidates: Intervals | None = None,
) -> TiledWindows:
    """Tile contigs and look at what each window holds; a shorter rest at the end is no window.

    Parameters
    ----------
    lengths : mapping of str to int
    labels, stretches, blacklist, candidates : Intervals
        Disjoint; `stretches` are the bases that are not N.
    width : int
        Bases.

    Returns
    -------
    TiledWindows
        Without those of which more than half is N or that touch the blacklist.
    """
    columns = []
    for number, (contig, length) in enumerate(lengths.items()):
        edges = np.arange(0, length + 1, width)
        unknown = width - count_covered(stretches.get(contig), edges)
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
    """Take every window with a label, and so many of the others, at random, for each of them.

    Parameters
    ----------
    windows : TiledWindows
    hard_negatives, background : float
        Windows that hold a candidate, and others, for each one with a label; ``inf`` takes all there are.
    seed : int
    among : numpy.ndarray, optional
        bool, shape (n,): the windows to choose from; all where nothing is said.

    Returns
    -------
    numpy.ndarray
        int64: indices of the chosen windows, in order.
    """
    among = np.ones(len(windows), dtype=bool) if among is None else among
    positive = np.flatnonzero(among & windows.labelled)
    chosen, rng = [positive], np.random.default_rng(seed)
    # with no wish for hard negatives, those that there are count among the others, as in the paper
    hard = windows.candidate if hard_negatives else np.zeros(len(windows), dtype=bool)
    for share, kind in ((hard_negatives, hard), (background, ~windows.labelled & ~hard)):
        others = np.flatnonzero(among & kind)
        wanted = len(others) if np.isinf(share) else min(len(others), round(share * len(positive)))
        chosen.append(others[rng.choice(len(others), wanted, replace=False)])
    return np.sort(np.concatenate(chosen))
