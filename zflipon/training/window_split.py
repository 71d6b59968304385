"""Tiled windows in training, validation and test data: which windows each part has, and which are neighbours.

The rules of the splits are in `zflipon.training.splits`, the file of the windows in `zflipon.genome.split_files`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from zflipon.config import DataConfig, StageConfig
from zflipon.genome.intervals import Intervals
from zflipon.genome.tiled_windows import TiledWindows, sample_windows
from zflipon.training.labelled_windows import LabelledWindows
from zflipon.training.splits import PARTS, split_blocks, split_items

log = logging.getLogger("zflipon")

_LONGEST_CONTIG = 1 << 40
"""More windows than any contig has, so that positions on different contigs have different numbers."""


@dataclass
class TiledSplit:
    """Tiled windows of a stage, split into parts.

    Attributes
    ----------
    tiled : TiledWindows
        All usable windows of the genome.
    indices : dict of str to numpy.ndarray
        Part → int64 indices of its windows, in order.
    parts : dict of str to LabelledWindows
        Part → its windows.
    """

    tiled: TiledWindows
    indices: dict[str, np.ndarray]
    parts: dict[str, LabelledWindows] = field(default_factory=dict)

    @property
    def chosen(self) -> np.ndarray:
        """Indices of the windows that are in a part, in order."""
        return np.unique(np.concatenate(list(self.indices.values())))

    def rows(self) -> Iterator[tuple[str, int, int, str]]:
        """Yield contig, start, end and part of each window, in order. Test data that also validate are test data."""
        part_of = np.full(len(self.tiled), "", dtype=object)
        for part in ("validation", "train", "test"):
            part_of[self.indices[part]] = part
        for index in self.chosen:
            start = int(self.tiled.start[index])
            contig = self.tiled.contigs[self.tiled.contig[index]]
            yield contig, start, start + self.tiled.width, str(part_of[index])

    def bordering(self, part: str, labelled: bool = False) -> np.ndarray:
        """Return which windows of a part touch a training window.

        Parameters
        ----------
        part : str
        labelled : bool
            Count only training windows with a label.

        Returns
        -------
        numpy.ndarray
            bool, shape (windows of the part,).
        """
        train = self.indices["train"]
        train = train[self.tiled.labelled[train]] if labelled else train
        return _touches(_positions(self.tiled, self.indices[part]), _positions(self.tiled, train))

    def neighbours(self, part: str, labels: Intervals) -> dict[str, int]:
        """Count the neighbours of a part in the training data.

        Parameters
        ----------
        part : str
        labels : Intervals
            Disjoint.

        Returns
        -------
        dict of str to int
            ``'labelled'``: windows of the part with a label; ``'bordering'``: those that touch a training window with a
            label; ``'regions'``: labelled regions in the part; ``'shared'``: those that are also in a training window.
        """
        own, train = self.indices[part], self.indices["train"]
        has_label = self.tiled.labelled[own]
        inside = _regions_in(self.tiled, own, labels)
        return {
            "labelled": int(has_label.sum()),
            "bordering": int((self.bordering(part, labelled=True) & has_label).sum()),
            "regions": int(inside.sum()),
            "shared": int((inside & _regions_in(self.tiled, train, labels)).sum()),
        }

    def apart(self, part: str, seed: int) -> np.ndarray:
        """Return windows of a part that touch no training window, with the part's share of labelled windows.

        Parameters
        ----------
        part : str
        seed : int
            Seed of the choice of windows with or without a label that are left out to keep the share.

        Returns
        -------
        numpy.ndarray
            bool, shape (windows of the part,).
        """
        kept = ~self.bordering(part)
        has_label = self.tiled.labelled[self.indices[part]]
        kinds = [has_label, ~has_label]
        wanted = [kind.sum() for kind in kinds]
        left = [(kept & kind).sum() for kind in kinds]
        scale = min((number / all_ for number, all_ in zip(left, wanted, strict=True) if all_), default=0.0)
        rng, chosen = np.random.default_rng(seed), np.zeros(len(kept), dtype=bool)
        for kind, number in zip(kinds, wanted, strict=True):
            candidates = np.flatnonzero(kept & kind)
            chosen[rng.choice(candidates, min(len(candidates), round(scale * number)), replace=False)] = True
        return chosen


def assign_windows(
    tiled: TiledWindows, contigs: Mapping[str, Mapping[str, int]], stage: StageConfig, data: DataConfig
) -> dict[str, np.ndarray]:
    """Choose the windows of each part.

    Parameters
    ----------
    tiled : TiledWindows
    contigs : mapping of str to mapping
        Part → its contigs; if windows are split at random, the contigs whose windows are split are in ``'train'``.
    stage : StageConfig
    data : DataConfig

    Returns
    -------
    dict of str to numpy.ndarray
        Part → int64 indices, in order. Parts are disjoint, unless the test data select.
    """

    def sample(part: str) -> np.ndarray:
        numbers = [i for i, contig in enumerate(tiled.contigs) if contig in contigs[part]]
        inside = np.isin(tiled.contig, numbers)
        return sample_windows(tiled, stage.hard_negatives, stage.background, data.seed, inside)

    chosen = {part: sample(part) for part in PARTS}
    if data.splits_windows:
        pool = chosen["train"]
        split = _split_pool(tiled, pool, data)
        # contigs that are reserved for validation or test take the place of the random share
        chosen = {
            part: chosen[part] if contigs[part] and part != "train" else pool[split[part]] for part in PARTS
        }
    if data.select_on == "test":
        chosen["validation"] = chosen["test"]
    if data.split == "blocks":
        chosen["train"] = _without_neighbours(tiled, chosen)
    return chosen


def _split_pool(tiled: TiledWindows, pool: np.ndarray, data: DataConfig) -> dict[str, np.ndarray]:
    if data.split == "blocks":
        blocks = tiled.contig[pool] * _LONGEST_CONTIG + tiled.start[pool] // data.block_size
        return split_blocks(blocks, tiled.labelled[pool], data)
    return split_items(2 * tiled.contig[pool] + tiled.labelled[pool], data)


def _without_neighbours(tiled: TiledWindows, chosen: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the training windows that neither touch a window of another part nor share a run of labelled windows."""
    train = chosen["train"]
    others = np.concatenate([chosen[part] for part in PARTS if part != "train"])
    touching = _touches(_positions(tiled, train), _positions(tiled, others))
    runs = _labelled_runs(tiled)
    touching |= np.isin(runs[train], runs[others][runs[others] > 0])
    if touching.any():
        log.info("%d training windows border other parts and are left out", touching.sum())
    return train[~touching]


def _labelled_runs(tiled: TiledWindows) -> np.ndarray:
    """Return the number of the run of adjacent labelled windows that each window is in, from 1; 0 without a label."""
    labelled = np.flatnonzero(tiled.labelled)
    runs = np.zeros(len(tiled), dtype=np.int64)
    runs[labelled] = 1 + np.cumsum(np.diff(_positions(tiled, labelled), prepend=-2) != 1)
    return runs


def _positions(tiled: TiledWindows, indices: np.ndarray) -> np.ndarray:
    """Return the number of each window among all tiles; adjacent windows of a contig differ by one."""
    return tiled.contig[indices] * _LONGEST_CONTIG + tiled.start[indices] // tiled.width


def _touches(positions: np.ndarray, others: np.ndarray) -> np.ndarray:
    return np.isin(positions - 1, others) | np.isin(positions + 1, others)


def _regions_in(tiled: TiledWindows, indices: np.ndarray, labels: Intervals) -> np.ndarray:
    """Return which labelled regions have a base in one of the windows: bool, in the order of the contigs."""
    positions, found = np.unique(_positions(tiled, indices)), [np.empty(0, dtype=bool)]
    for number, contig in enumerate(tiled.contigs):
        rows = labels.get(contig, np.empty((0, 2), dtype=np.int64))
        first, last = (
            number * _LONGEST_CONTIG + edge // tiled.width for edge in (rows[:, 0], rows[:, 1] - 1)
        )
        found.append(np.searchsorted(positions, last, "right") > np.searchsorted(positions, first))
    return np.concatenate(found)
