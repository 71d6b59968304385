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


def stratified_split(strata: np.ndarray, shares: Mapping[str, float], seed: int) -> dict[str, np.ndarray]:
    """Deal items out at random, each part with its share of every stratum.

    Parameters
    ----------
    strata : numpy.ndarray
        int, shape (n,): which stratum each item is of, such as label and contig.
    shares : mapping of str to float
        Part → share of the items; they add up to 1.
    seed : int

    Returns
    -------
    dict of str to numpy.ndarray
        Part → int64 indices, in order. Parts are disjoint and cover everything. What rounding leaves of a small
        stratum goes to the parts that are most in want over all strata so far, so that sizes are right as a whole.
    """
    rng = np.random.default_rng(seed)
    names, wanted = list(shares), np.array(list(shares.values()))
    taken, seen = np.zeros(len(names), dtype=np.int64), 0
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for stratum in np.unique(strata):
        items = rng.permutation(np.flatnonzero(strata == stratum))
        seen += len(items)
        sizes = np.floor(wanted * len(items)).astype(np.int64)
        for _ in range(len(items) - sizes.sum()):
            sizes[np.argmax(wanted * seen - taken - sizes)] += 1
        taken += sizes
        for name, piece in zip(names, np.split(items, np.cumsum(sizes)[:-1]), strict=True):
            parts[name].append(piece)
    return {name: np.sort(np.concatenate(pieces)) for name, pieces in parts.items()}


def cross_validation_split(count: int, fold: int, validation_share: float) -> dict[str, list[int]]:
    """Tell which of `count` equal parts a fold of cross-validation tests on, validates by and trains on.

    The fold's own part is the test; the parts after it, round the end, are the validation: as many as come
    closest to its share, one at least; the rest trains.

    Parameters
    ----------
    count : int
        Folds.
    fold : int
        From 1 on.
    validation_share : float
        Of all.
    """
    order = [(fold - 1 + step) % count for step in range(count)]
    size = min(count - 2, max(1, round(validation_share * count))) if count > 2 else 0
    return {"test": order[:1], "validation": order[1 : 1 + size], "train": order[1 + size :]}
