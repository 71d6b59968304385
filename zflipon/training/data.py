"""Genome + intervals → batches of labelled windows, drawn at random and reproducibly.

A batch is a function of the seed and its number alone. So the data does not
depend on the number of processes or on a resume, and each batch is tokenized
whole, ahead of the model.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from zflipon.config import StageConfig
from zflipon.errors import InputError
from zflipon.genome import Genome, reverse_complement
from zflipon.intervals import Intervals, fill, merge, overlapping
from zflipon.models.batch import collate, pad
from zflipon.project import IGNORE, labels_to_tokens
from zflipon.tokens import DnaTokenizer


@dataclass
class LabelledGenome:
    """Contigs of a genome with labels; each process opens the file for itself.

    Attributes
    ----------
    path : Path
        FASTA.
    contigs : dict of str to int
        The contigs to draw from, with their lengths.
    targets : Intervals
        What is labelled 1.
    hard_negatives : Intervals
        What looks like a target and is none.
    ignored : Intervals
        Bases that count neither way (blacklist).
    """

    path: Path
    contigs: Mapping[str, int]
    targets: Intervals
    hard_negatives: Intervals = field(default_factory=dict)
    ignored: Intervals = field(default_factory=dict)

    def __post_init__(self):
        self._genome: tuple[int, Genome] | None = None

    @property
    def genome(self) -> Genome:
        """The FASTA, opened by this process (a handle shared over a fork would mix reads)."""
        if self._genome is None or self._genome[0] != os.getpid():
            self._genome = (os.getpid(), Genome(self.path))
        return self._genome[1]

    def window(self, contig: str, start: int, end: int) -> tuple[str, np.ndarray]:
        """Return a window's sequence and its labels.

        Returns
        -------
        sequence : str
        labels : numpy.ndarray
            int64, shape (bases,): 1, 0, or `IGNORE` at N and at ignored bases.
        """
        sequence = self.genome.fetch(contig, start, end)
        labels = fill(self.targets.get(contig), start, end).astype(np.int64)
        unknown = np.frombuffer(sequence.encode(), dtype=np.uint8) == ord("N")
        labels[unknown | fill(self.ignored.get(contig), start, end)] = IGNORE
        return sequence, labels


def without(intervals: Intervals, others: Intervals) -> Intervals:
    """Return the intervals that touch none of the others."""
    kept = {}
    for contig, rows in intervals.items():
        barred = merge(others[contig]) if contig in others else np.empty((0, 2), dtype=np.int64)
        free = np.array([len(overlapping(barred, start, end)) == 0 for start, end in rows], dtype=bool)
        if free.any():
            kept[contig] = rows[free]
    return kept


class WindowSampler:
    """Draws windows around targets, around hard negatives and anywhere, by weight.

    Raises
    ------
    InputError
        If there is no target on the contigs to draw from.
    """

    def __init__(self, data: LabelledGenome, stage: StageConfig):
        self.data, self.stage = data, stage
        self._contigs = [contig for contig, length in data.contigs.items() if length > 0]
        sizes = np.array([data.contigs[contig] for contig in self._contigs], dtype=float)
        self._share = sizes / sizes.sum()
        self._sites = [self._listed(data.targets), self._listed(data.hard_negatives)]
        if not len(self._sites[0]):
            raise InputError(
                f"no labels on the training contigs ({', '.join(self._contigs)}); nothing can be learnt"
            )
        weights = np.array(
            [stage.positives, stage.hard_negatives if len(self._sites[1]) else 0.0, stage.background]
        )
        self._weights = weights / weights.sum()

    def _listed(self, intervals: Intervals) -> list[tuple[str, int, int]]:
        return [(contig, *map(int, row)) for contig in self._contigs for row in intervals.get(contig, ())]

    def draw(self, rng: np.random.Generator) -> tuple[str, np.ndarray]:
        """Return one window's sequence and labels, half of them turned round."""
        for _ in range(100):
            sequence, labels = self.data.window(*self._place(rng))
            if 2 * sequence.count("N") <= len(sequence):
                break
        else:
            raise InputError("100 windows drawn in a row were mostly N; are the labels of this assembly?")
        if self.stage.reverse_complement and rng.random() < 0.5:
            return reverse_complement(sequence), labels[::-1].copy()
        return sequence, labels

    def _place(self, rng: np.random.Generator) -> tuple[str, int, int]:
        kind = rng.choice(3, p=self._weights)
        if kind < 2:
            contig, low, high = self._sites[kind][rng.integers(len(self._sites[kind]))]
            # a random shift: the site's middle lies anywhere in the window
            start = (low + high) // 2 - int(rng.integers(self.stage.window))
        else:
            contig = self._contigs[rng.choice(len(self._contigs), p=self._share)]
            start = int(rng.integers(max(1, self.data.contigs[contig] - self.stage.window + 1)))
        length = self.data.contigs[contig]
        start = max(0, min(start, length - self.stage.window))
        return contig, start, min(start + self.stage.window, length)


class WindowBatches(Dataset):
    """A map from a step's number to that step's batch of tensors.

    Parameters
    ----------
    sampler : WindowSampler
    tokenizer : DnaTokenizer
    batches : int
        How many there are.
    """

    def __init__(self, sampler: WindowSampler, tokenizer: DnaTokenizer, batches: int):
        self.sampler, self.tokenizer, self.batches = sampler, tokenizer, batches

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        stage = self.sampler.stage
        rng = np.random.default_rng([stage.seed, number])
        windows = [self.sampler.draw(rng) for _ in range(stage.batch_size)]
        sequences = [sequence for sequence, _ in windows]
        tokens = self.tokenizer.encode(sequences)
        batch = collate(tokens, sequences, self.tokenizer.pad_id, with_bases=stage.objective == "base")
        labels = [labels for _, labels in windows]
        if stage.objective == "token":
            labels = [
                token_labels(row, found.lengths, stage.label_threshold, stage.label_comparison)
                for row, found in zip(labels, tokens, strict=True)
            ]
        batch["labels"] = pad(labels, IGNORE)
        return batch


def token_labels(labels: np.ndarray, lengths: np.ndarray, threshold: float, comparison: str) -> np.ndarray:
    """Label tokens from bases that may be `IGNORE`: a token with no known base is ignored too."""
    found = labels_to_tokens(labels == 1, lengths, threshold, comparison)
    unknown = labels_to_tokens(labels == IGNORE, lengths, 1.0)
    return np.where(unknown == 1, IGNORE, found)
