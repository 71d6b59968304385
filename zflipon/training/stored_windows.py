"""Windows that a run keeps, cut and labelled once; they come back in another order each epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from zflipon.config import StageConfig
from zflipon.genome.alphabet import base_codes, reverse_complement
from zflipon.genome.fasta import Genome
from zflipon.genome.intervals import Intervals, interval_mask
from zflipon.genome.tiled_windows import TiledWindows
from zflipon.tokenization.alignment import IGNORE

Known = dict[str, np.ndarray]
"""What is known of one window: ``'labels'`` and, for the base objective, ``'candidates'`` and ``'tracks'``; int64.

Also, where the model reads omics tracks, ``'features'`` and which of them are ``'present'``; float32."""


@dataclass
class StoredWindows:
    """Sequences with their labels.

    Attributes
    ----------
    sequences : list of str
        Upper case.
    labels : numpy.ndarray
        int8: 1, 0 or `IGNORE`; shape (n, bases) of bases, or (n,) of whole sequences.
    candidates : numpy.ndarray or None
        int8, shape (n, bases): what can form Z-DNA.
    """

    sequences: list[str]
    labels: np.ndarray
    candidates: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, chosen: np.ndarray) -> StoredWindows:
        """Return some of them, by index."""
        candidates = None if self.candidates is None else self.candidates[chosen]
        return StoredWindows([self.sequences[i] for i in chosen], self.labels[chosen], candidates)

    def window(self, index: int, turned: bool = False) -> tuple[str, Known]:
        """Return one window's sequence and what is known of it, of the other strand if it is turned."""
        sequence, step = self.sequences[index], -1 if turned and self.labels.ndim > 1 else 1
        known = (
            {"labels": self.labels[index].astype(np.int64)[..., ::step]}
            if self.labels.ndim > 1
            else {"labels": np.array(self.labels[index], dtype=np.int64)}
        )
        if self.candidates is not None:
            known["candidates"] = self.candidates[index].astype(np.int64)[::step]
        return reverse_complement(sequence) if turned else sequence, known

    @property
    def positive(self) -> np.ndarray:
        """Which windows have a label: bool, shape (n,)."""
        return (self.labels == 1).any(axis=tuple(range(1, self.labels.ndim)))


def cut(
    genome: Genome,
    tiled: TiledWindows,
    chosen: np.ndarray,
    labels: Intervals,
    ignored: Intervals,
    candidates: Intervals | None = None,
) -> StoredWindows:
    """Read windows off the genome, a contig at a time.

    Parameters
    ----------
    genome : Genome
    tiled : TiledWindows
    chosen : numpy.ndarray
        int64: indices into `tiled`, in order.
    labels, ignored, candidates : Intervals
        What is 1, and what counts for nothing.

    Returns
    -------
    StoredWindows
        In the order of `chosen`.
    """
    sequences: list[str] = []
    marked = {"labels": [], "candidates": []}
    width = tiled.width
    for number, contig in enumerate(tiled.contigs):
        starts = tiled.start[chosen[tiled.contig[chosen] == number]]
        if not len(starts):
            continue
        end = int(starts[-1]) + width
        text = genome.fetch(contig, 0, end)
        here = [text[start : start + width] for start in starts.tolist()]
        sequences += here
        bases = starts[:, None] + np.arange(width)
        # N counts for nothing: codes of bases are below that of N
        unknown = interval_mask(ignored.get(contig), 0, end)[bases] | (
            np.stack([base_codes(sequence) for sequence in here]) > 3
        )
        for name, intervals in (("labels", labels), ("candidates", candidates)):
            if intervals is not None:
                inside = interval_mask(intervals.get(contig), 0, end)[bases]
                marked[name].append(np.where(unknown, np.int8(IGNORE), inside.astype(np.int8)))
    empty = np.empty((0, width), dtype=np.int8)
    found = np.concatenate([empty, *marked["labels"]])
    return StoredWindows(
        sequences, found, None if candidates is None else np.concatenate([empty, *marked["candidates"]])
    )


class Epochs:
    """Deals stored windows out in batches: each epoch has every window once, in an order of its own.

    Epochs follow each other without a seam, so that every batch is full.

    Parameters
    ----------
    windows : StoredWindows
    stage : StageConfig
    """

    def __init__(self, windows: StoredWindows, stage: StageConfig):
        self.windows, self.stage = windows, stage
        count = stage.epochs * len(windows) / stage.batch_size
        self.steps = max(1, int(np.ceil(count))) if stage.epochs else stage.steps
        self._orders: dict[int, np.ndarray] = {}

    def batch(self, step: int) -> list[tuple[str, Known]]:
        """Return the windows of a step: a function of the seed and its number alone."""
        places = np.arange(step * self.stage.batch_size, (step + 1) * self.stage.batch_size)
        turned = np.zeros(len(places), dtype=bool)
        if self.stage.reverse_complement:
            turned = np.random.default_rng([self.stage.seed, step, 1]).random(len(places)) < 0.5
        return [
            self.windows.window(self._order(place // len(self.windows))[place % len(self.windows)], turn)
            for place, turn in zip(places.tolist(), turned.tolist(), strict=True)
        ]

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            self._orders = {key: order for key, order in self._orders.items() if key == epoch - 1}
            self._orders[epoch] = np.random.default_rng([self.stage.seed, epoch]).permutation(
                len(self.windows)
            )
        return self._orders[epoch]


def summary(parts: Mapping[str, StoredWindows]) -> str:
    """Say how many windows each part has, and how many with a label."""
    return ", ".join(
        f"{name} {len(windows):,} ({int(windows.positive.sum()):,} with a label)"
        for name, windows in parts.items()
    )
