"""Windows with labels that are kept in memory: tiled windows of a genome, or the sequences of a table.

Random windows, which are read when they are needed, are in `zflipon.training.sampling`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from zflipon.config import StageConfig
from zflipon.errors import InputError
from zflipon.genome.alphabet import base_codes, reverse_complement
from zflipon.genome.fasta import Genome
from zflipon.genome.intervals import Intervals, interval_mask
from zflipon.genome.tiled_windows import TiledWindows
from zflipon.tokenization.alignment import IGNORE

WindowTargets = dict[str, np.ndarray]
"""Arrays of one window. ``'labels'``, ``'candidates'`` and ``'tracks'`` are int64. For models that read omics tracks,
``'features'`` are the values and ``'present'`` is 1 for each track that is available; both float32."""

Window = tuple[str, WindowTargets]
"""Sequence and targets of a window."""


@dataclass
class LabelledWindows:
    """Sequences with their labels.

    Attributes
    ----------
    sequences : list of str
        Upper case.
    labels : numpy.ndarray
        int8: 1, 0 or `IGNORE`; shape (n, bases) for bases, (n,) for whole sequences.
    candidates : numpy.ndarray or None
        int8, shape (n, bases): 1 where a candidate is.
    """

    sequences: list[str]
    labels: np.ndarray
    candidates: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, indices: np.ndarray) -> LabelledWindows:
        """Return the windows with these indices."""
        candidates = None if self.candidates is None else self.candidates[indices]
        return LabelledWindows([self.sequences[i] for i in indices], self.labels[indices], candidates)

    def window(self, index: int, reverse: bool = False) -> Window:
        """Return one window, or its reverse complement."""
        sequence, labels = self.sequences[index], self.labels[index]
        per_base = self.labels.ndim > 1
        step = -1 if reverse and per_base else 1
        targets = {
            "labels": labels.astype(np.int64)[::step] if per_base else np.array(labels, dtype=np.int64)
        }
        if self.candidates is not None:
            targets["candidates"] = self.candidates[index].astype(np.int64)[::step]
        return reverse_complement(sequence) if reverse else sequence, targets

    @property
    def positive(self) -> np.ndarray:
        """Whether each window has a label of 1: bool, shape (n,)."""
        return (self.labels == 1).any(axis=tuple(range(1, self.labels.ndim)))


def read_windows(
    genome: Genome,
    tiled: TiledWindows,
    indices: np.ndarray,
    labels: Intervals,
    ignored: Intervals,
    candidates: Intervals | None = None,
) -> LabelledWindows:
    """Read tiled windows from a genome and label their bases.

    Parameters
    ----------
    genome : Genome
    tiled : TiledWindows
    indices : numpy.ndarray
        int64: windows of `tiled` to read, in ascending order.
    labels, ignored, candidates : Intervals
        Bases in `ignored`, and N, get the label `IGNORE`.

    Returns
    -------
    LabelledWindows
        In the order of `indices`.
    """
    sequences: list[str] = []
    rows: dict[str, list[np.ndarray]] = {"labels": [], "candidates": []}
    width = tiled.width
    for number, contig in enumerate(tiled.contigs):
        starts = tiled.start[indices[tiled.contig[indices] == number]]
        if not len(starts):
            continue
        end = int(starts[-1]) + width
        text = genome.fetch(contig, 0, end)
        own = [text[start : start + width] for start in starts.tolist()]
        sequences += own
        positions = starts[:, None] + np.arange(width)
        is_n = np.stack([base_codes(sequence) for sequence in own]) > 3
        unknown = interval_mask(ignored.get(contig), 0, end)[positions] | is_n
        for name, intervals in (("labels", labels), ("candidates", candidates)):
            if intervals is not None:
                inside = interval_mask(intervals.get(contig), 0, end)[positions]
                rows[name].append(np.where(unknown, np.int8(IGNORE), inside.astype(np.int8)))
    empty = np.empty((0, width), dtype=np.int8)
    return LabelledWindows(
        sequences,
        np.concatenate([empty, *rows["labels"]]),
        None if candidates is None else np.concatenate([empty, *rows["candidates"]]),
    )


class EpochBatches:
    """Batches of labelled windows: each epoch contains every window once, in a new random order.

    Epochs follow each other without a gap, so that every batch is full.

    Parameters
    ----------
    windows : LabelledWindows
    stage : StageConfig

    Attributes
    ----------
    steps : int
        Number of batches in the stage.
    """

    def __init__(self, windows: LabelledWindows, stage: StageConfig):
        self.windows, self.stage = windows, stage
        count = stage.epochs * len(windows) / stage.batch_size
        self.steps = max(1, int(np.ceil(count))) if stage.epochs else stage.steps
        self._orders: dict[int, np.ndarray] = {}

    def batch(self, step: int, part: slice = slice(None)) -> list[Window]:
        """Return the windows of a step, or some of them; they depend on the seed and the step alone."""
        positions = np.arange(step * self.stage.batch_size, (step + 1) * self.stage.batch_size)
        reverse = np.zeros(len(positions), dtype=bool)
        if self.stage.reverse_complement:
            reverse = np.random.default_rng([self.stage.seed, step, 1]).random(len(positions)) < 0.5
        count = len(self.windows)
        return [
            self.windows.window(int(self._order(position // count)[position % count]), turn)
            for position, turn in zip(positions[part].tolist(), reverse[part].tolist(), strict=True)
        ]

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            # a batch can reach into the epoch before
            self._orders = {key: order for key, order in self._orders.items() if key == epoch - 1}
            rng = np.random.default_rng([self.stage.seed, epoch])
            self._orders[epoch] = rng.permutation(len(self.windows))
        return self._orders[epoch]


def describe_parts(parts: Mapping[str, LabelledWindows]) -> str:
    """Return the number of windows in each part, and how many have a label, as text."""
    return ", ".join(
        f"{name} {len(windows):,} ({int(windows.positive.sum()):,} with a label)"
        for name, windows in parts.items()
    )


def require_positives(part: str, windows: LabelledWindows, source: str | None) -> None:
    """Raise `InputError` if none of the windows of a part has a label; `source` names the file in the message."""
    if not windows.positive.any():
        raise InputError(
            f"{source}: none of the {len(windows):,} {part} windows has a label; check that the labels are of the "
            "genome's assembly, or change the split"
        )
