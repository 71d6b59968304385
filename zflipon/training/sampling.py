"""Random windows of a genome with their labels, drawn reproducibly around targets, hard negatives and anywhere.

Tiled windows, which are the same in each epoch, are in `zflipon.training.labelled_windows`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from zflipon.config import StageConfig
from zflipon.energetics import zhunt
from zflipon.energetics.energies import DINUCLEOTIDE_LIMIT
from zflipon.errors import InputError, format_names
from zflipon.genome.alphabet import reverse_complement
from zflipon.genome.fasta import Genome
from zflipon.genome.intervals import Intervals, contains_positions, find_overlapping, interval_mask, merge
from zflipon.models.heads.bin_context import BIN_SIZE
from zflipon.models.metadata import View
from zflipon.omics.features import FeatureTracks
from zflipon.tokenization.alignment import IGNORE
from zflipon.training.labelled_windows import Window

NEAR_MISS_SCORE = 300.0
"""Z-HUNT score from which a region that is not a candidate serves as a hard negative for candidates."""

MAX_ATTEMPTS = 100
"""Windows in a row that may be mostly N before sampling fails."""

_CHUNK_BASES = 1 << 20


@dataclass
class LabelledGenome:
    """Contigs of a genome with labels. Each process opens the FASTA on its own.

    Attributes
    ----------
    path : Path
        FASTA.
    contigs : mapping of str to int
        Contigs to sample from, with their lengths.
    targets : Intervals
        Regions with the label 1.
    hard_negatives : Intervals
        Regions that resemble targets and are not.
    ignored : Intervals
        Regions that count neither as positive nor as negative (blacklist).
    candidates : Intervals
        Regions that can form the structure.
    tracks : sequence of Intervals
        Tracks to learn as auxiliary targets.
    features : FeatureTracks or None
        Omics tracks that the model reads.
    view : View
        Resolution and context at which the model reads them.
    """

    path: Path
    contigs: Mapping[str, int]
    targets: Intervals
    hard_negatives: Intervals = field(default_factory=dict)
    ignored: Intervals = field(default_factory=dict)
    candidates: Intervals = field(default_factory=dict)
    tracks: Sequence[Intervals] = ()
    features: FeatureTracks | None = None
    view: View = field(default_factory=View)

    def __post_init__(self):
        self._opened: tuple[int, Genome] | None = None

    @property
    def genome(self) -> Genome:
        """The FASTA, opened by this process: a file handle that is shared over a fork would mix up reads."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), Genome(self.path))
        return self._opened[1]

    def window(
        self,
        contig: str,
        start: int,
        end: int,
        reverse: bool = False,
        targets: Sequence[str] = ("labels",),
    ) -> Window:
        """Return the sequence and the targets of a window.

        Parameters
        ----------
        contig : str
        start, end : int
            0-based half-open.
        reverse : bool
            Read the reverse complement.
        targets : sequence of {'labels', 'candidates', 'tracks'}

        Returns
        -------
        sequence : str
        targets : dict of str to numpy.ndarray
            int64, shape (bases,) or, for tracks, (tracks, bins): 1, 0, or `IGNORE` at N and ignored bases. With
            omics tracks also ``'features'``, float32, shape (tracks, steps).
        """
        sequence = self.genome.fetch(contig, start, end)
        unknown = np.frombuffer(sequence.encode(), dtype=np.uint8) == ord("N")
        unknown |= interval_mask(self.ignored.get(contig), start, end)
        positions = np.arange(end - start)
        if reverse:
            sequence, positions = reverse_complement(sequence), positions[::-1]
        arrays = {
            name: np.where(unknown, IGNORE, interval_mask(rows.get(contig), start, end).astype(np.int64))[
                positions
            ]
            for name, rows in (("labels", self.targets), ("candidates", self.candidates))
            if name in targets
        }
        if "tracks" in targets:
            # a bin has the value of its middle base
            middles = positions[
                np.minimum(np.arange(0, end - start, BIN_SIZE) + BIN_SIZE // 2, end - start - 1)
            ]
            inside = [contains_positions(rows.get(contig), start + middles) for rows in self.tracks]
            arrays["tracks"] = np.where(unknown[middles], IGNORE, np.stack(inside).astype(np.int64))
        if self.features is not None:
            values = self.features.window(contig, start, end, self.view)
            arrays["features"] = values[:, ::-1] if reverse else values
        return sequence, arrays


def exclude_overlapping(intervals: Intervals, others: Intervals) -> Intervals:
    """Return the intervals that overlap none of the others."""
    result = {}
    for contig, rows in intervals.items():
        excluded = merge(others[contig]) if contig in others else np.empty((0, 2), dtype=np.int64)
        free = np.array([len(find_overlapping(excluded, start, end)) == 0 for start, end in rows], dtype=bool)
        if free.any():
            result[contig] = rows[free]
    return result


def find_near_misses(genome: Genome, contigs: Mapping[str, int], candidates: Intervals) -> Intervals:
    """Find regions that Z-HUNT scores highly, but less highly than candidates.

    Parameters
    ----------
    genome : Genome
    contigs : mapping of str to int
        Contigs to search, with their lengths.
    candidates : Intervals

    Returns
    -------
    Intervals
        Merged windows with a Z-score of at least `NEAR_MISS_SCORE` that overlap no candidate.
    """
    regions = {}
    for contig, length in contigs.items():
        rows = []
        for start in range(0, length, _CHUNK_BASES):
            end = min(length, start + _CHUNK_BASES + 2 * DINUCLEOTIDE_LIMIT)
            score, size = zhunt.scores(genome.fetch(contig, start, end))
            first = np.flatnonzero(score >= NEAR_MISS_SCORE)
            rows.append(np.stack([first, first + size[first]], axis=1) + start)
        regions[contig] = merge(np.concatenate(rows))
    return exclude_overlapping(regions, candidates)


def drop_tracks(present: np.ndarray, drop: float, rng: np.random.Generator) -> np.ndarray:
    """Return which omics tracks a window keeps: all of them or, with probability `drop`, a random subset.

    Parameters
    ----------
    present : numpy.ndarray
        float32, shape (tracks,): 1 for each track that is available.
    drop : float
    rng : numpy.random.Generator

    Returns
    -------
    numpy.ndarray
        float32, shape (tracks,).
    """
    if rng.random() >= drop:
        return present
    share = rng.random()
    return present * (rng.random(len(present)) < share).astype(np.float32)


class WindowSampler:
    """Samples windows around targets, around hard negatives and anywhere, with the frequencies of a stage.

    Masked language modelling samples anywhere.

    Parameters
    ----------
    data : LabelledGenome
    stage : StageConfig
    drop : float
        Share of the windows that lose some of their omics tracks.

    Raises
    ------
    InputError
        If the contigs contain no target.
    """

    def __init__(self, data: LabelledGenome, stage: StageConfig, drop: float = 0.0):
        self.data, self.stage, self.steps, self.drop = data, stage, stage.steps, drop
        self._contigs = [contig for contig, length in data.contigs.items() if length > 0]
        sizes = np.array([data.contigs[contig] for contig in self._contigs], dtype=float)
        self._contig_weights = sizes / sizes.sum()
        self._sites = [self._list_sites(data.targets), self._list_sites(data.hard_negatives)]
        anywhere = stage.objective == "mlm"
        if not self._sites[0] and stage.target != "tracks" and not anywhere:
            raise InputError(
                f"no {stage.target} on the training contigs ({format_names(self._contigs)}); check that they are of "
                "the genome's assembly, or change the validation contigs"
            )
        weights = np.array([stage.positives, stage.hard_negatives, stage.background])
        weights[:2] *= [len(sites) > 0 for sites in self._sites]
        if anywhere:
            weights = np.array([0.0, 0.0, 1.0])
        self._weights = weights / weights.sum()
        # only the base head separates candidates from labels; other heads learn candidates as their labels
        separate = stage.objective == "base"
        self._targets = [
            "labels" if name == "candidates" and not separate else name
            for name in (stage.target, *stage.auxiliary)
        ]

    def _list_sites(self, intervals: Intervals) -> list[tuple[str, int, int]]:
        return [
            (contig, int(start), int(end))
            for contig in self._contigs
            for start, end in intervals.get(contig, ())
        ]

    def batch(self, step: int, part: slice = slice(None)) -> list[Window]:
        """Return the windows of a step, or some of them; each depends on the seed, the step and its number alone."""
        numbers = range(self.stage.batch_size)[part]
        return [self.sample_window(np.random.default_rng([self.stage.seed, step, each])) for each in numbers]

    def sample_window(self, rng: np.random.Generator) -> Window:
        """Return a random window, or with probability 0.5 its reverse complement if the stage asks for it."""
        for _ in range(MAX_ATTEMPTS):
            contig, start, end = self._sample_position(rng)
            reverse = self.stage.reverse_complement and rng.random() < 0.5
            sequence, targets = self.data.window(contig, start, end, reverse, self._targets)
            if 2 * sequence.count("N") <= len(sequence):
                if self.data.features is not None:
                    targets["present"] = drop_tracks(self.data.features.present, self.drop, rng)
                    targets["features"] = targets["features"] * targets["present"][:, None]
                return sequence, targets
        raise InputError(
            f"{MAX_ATTEMPTS} random windows in a row were mostly N; check that the labels are of the genome's assembly"
        )

    def _sample_position(self, rng: np.random.Generator) -> tuple[str, int, int]:
        kind = rng.choice(3, p=self._weights)
        if kind < 2:
            contig, low, high = self._sites[kind][rng.integers(len(self._sites[kind]))]
            # the middle of the site is at a random position in the window
            start = (low + high) // 2 - int(rng.integers(self.stage.window))
        else:
            contig = self._contigs[rng.choice(len(self._contigs), p=self._contig_weights)]
            start = int(rng.integers(max(1, self.data.contigs[contig] - self.stage.window + 1)))
        length = self.data.contigs[contig]
        start = max(0, min(start, length - self.stage.window))
        return contig, start, min(start + self.stage.window, length)
