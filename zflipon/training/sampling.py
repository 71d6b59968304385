"""Genome + intervals → labelled windows, drawn at random places and reproducibly."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from zflipon.config import StageConfig
from zflipon.energetics import zhunt
from zflipon.errors import InputError
from zflipon.genome.alphabet import reverse_complement
from zflipon.genome.fasta import Genome
from zflipon.genome.intervals import Intervals, contains_positions, find_overlapping, interval_mask, merge
from zflipon.models.heads.base_resolution import BIN
from zflipon.models.metadata import View
from zflipon.omics.features import FeatureTracks
from zflipon.tokenization.alignment import IGNORE
from zflipon.training.stored_windows import Known

NEAR_MISS = 300.0
"""Z-score from which a window that is no candidate teaches where candidates end."""

_PIECE = 1 << 20


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
    candidates : Intervals
        What can form Z-DNA at all.
    tracks : sequence of Intervals
        What else a context can be known by.
    features : FeatureTracks or None
        What the model reads beside the sequence.
    view : View
        How it looks at them.
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
        self._genome: tuple[int, Genome] | None = None

    @property
    def genome(self) -> Genome:
        """The FASTA, opened by this process (a handle shared over a fork would mix reads)."""
        if self._genome is None or self._genome[0] != os.getpid():
            self._genome = (os.getpid(), Genome(self.path))
        return self._genome[1]

    def window(
        self, contig: str, start: int, end: int, turned: bool = False, wanted: Sequence[str] = ("labels",)
    ) -> tuple[str, Known]:
        """Return a window's sequence and what is known of it.

        Parameters
        ----------
        contig : str
        start, end : int
        turned : bool
            Read the other strand.
        wanted : sequence of str
            ``'labels'``, ``'candidates'``, ``'tracks'``.

        Returns
        -------
        sequence : str
        known : dict of str to numpy.ndarray
            int64, of shape (bases,) or, for tracks, (tracks, bins): 1, 0, or `IGNORE` at N and
            at ignored bases. Where there are features, also ``'features'``, float32 of shape (tracks, steps).
        """
        sequence = self.genome.fetch(contig, start, end)
        unknown = np.frombuffer(sequence.encode(), dtype=np.uint8) == ord("N")
        unknown |= interval_mask(self.ignored.get(contig), start, end)
        places = np.arange(end - start)
        if turned:
            sequence, places = reverse_complement(sequence), places[::-1]
        known = {
            name: np.where(
                unknown, IGNORE, interval_mask(intervals.get(contig), start, end).astype(np.int64)
            )[places]
            for name, intervals in (("labels", self.targets), ("candidates", self.candidates))
            if name in wanted
        }
        if "tracks" in wanted:
            # the middle of a bin speaks for it
            middles = places[np.minimum(np.arange(0, end - start, BIN) + BIN // 2, end - start - 1)]
            inside = [contains_positions(rows.get(contig), start + middles) for rows in self.tracks]
            known["tracks"] = np.where(unknown[middles], IGNORE, np.stack(inside).astype(np.int64))
        if self.features is not None:
            seen = self.features.window(contig, start, end, self.view)
            known["features"] = seen[:, ::-1] if turned else seen
        return sequence, known


def without(intervals: Intervals, others: Intervals) -> Intervals:
    """Return the intervals that touch none of the others."""
    kept = {}
    for contig, rows in intervals.items():
        barred = merge(others[contig]) if contig in others else np.empty((0, 2), dtype=np.int64)
        free = np.array([len(find_overlapping(barred, start, end)) == 0 for start, end in rows], dtype=bool)
        if free.any():
            kept[contig] = rows[free]
    return kept


def near_misses(genome: Genome, contigs: Mapping[str, int], candidates: Intervals) -> Intervals:
    """Find what Z-HUNT thinks of almost as highly as of candidates, and what is none.

    Parameters
    ----------
    genome : Genome
    contigs : mapping of str to int
        Contigs to search, with their lengths.
    candidates : Intervals

    Returns
    -------
    Intervals
        Merged windows of a Z-score of `NEAR_MISS` or more that touch no candidate.
    """
    found = {}
    for contig, length in contigs.items():
        rows = []
        for start in range(0, length, _PIECE):
            sequence = genome.fetch(contig, start, min(length, start + _PIECE + 2 * zhunt.DINUCLEOTIDE_LIMIT))
            score, size = zhunt.scores(sequence)
            first = np.flatnonzero(score >= NEAR_MISS)
            rows.append(np.stack([first, first + size[first]], axis=1) + start)
        found[contig] = merge(np.concatenate(rows))
    return without(found, candidates)


def kept_tracks(present: np.ndarray, drop: float, rng: np.random.Generator) -> np.ndarray:
    """Return which tracks a window keeps: all, or in a share `drop` of the windows some, of any number.

    Parameters
    ----------
    present : numpy.ndarray
        float32, shape (tracks,): 1 where there is one.
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
    """Draws windows around targets, around hard negatives and anywhere, by weight; to learn the language, anywhere.

    Where the windows have features, a share `drop` of them loses some, so that the model learns to do without.

    Raises
    ------
    InputError
        If there is no target on the contigs to draw from.
    """

    def __init__(self, data: LabelledGenome, stage: StageConfig, drop: float = 0.0):
        self.data, self.stage, self.steps, self.drop = data, stage, stage.steps, drop
        self._contigs = [contig for contig, length in data.contigs.items() if length > 0]
        sizes = np.array([data.contigs[contig] for contig in self._contigs], dtype=float)
        self._share = sizes / sizes.sum()
        self._sites = [self._listed(data.targets), self._listed(data.hard_negatives)]
        anywhere = stage.objective == "mlm"
        if not len(self._sites[0]) and stage.target != "tracks" and not anywhere:
            raise InputError(
                f"no labels on the training contigs ({', '.join(self._contigs)}); nothing can be learnt"
            )
        weights = np.array([stage.positives, stage.hard_negatives, stage.background])
        weights[:2] *= [len(sites) > 0 for sites in self._sites]
        if anywhere:
            weights = np.array([0.0, 0.0, 1.0])
        self._weights = weights / weights.sum()

    def _listed(self, intervals: Intervals) -> list[tuple[str, int, int]]:
        return [(contig, *map(int, row)) for contig in self._contigs for row in intervals.get(contig, ())]

    def batch(self, step: int) -> list[tuple[str, Known]]:
        """Return the windows of a step: a function of the seed and its number alone."""
        rng = np.random.default_rng([self.stage.seed, step])
        return [self.draw(rng) for _ in range(self.stage.batch_size)]

    def draw(self, rng: np.random.Generator) -> tuple[str, Known]:
        """Return one window's sequence and what is known of it, half of them turned round."""
        # only the base head tells what can form Z-DNA from what does; others take either for their labels
        both = self.stage.objective == "base"
        wanted = [
            "labels" if name == "candidates" and not both else name
            for name in (self.stage.target, *self.stage.auxiliary)
        ]
        for _ in range(100):
            place = self._place(rng)
            turned = self.stage.reverse_complement and rng.random() < 0.5
            sequence, known = self.data.window(*place, turned, wanted)
            if 2 * sequence.count("N") <= len(sequence):
                if self.data.features is not None:
                    known["present"] = kept_tracks(self.data.features.present, self.drop, rng)
                    known["features"] = known["features"] * known["present"][:, None]
                return sequence, known
        raise InputError("100 windows drawn in a row were mostly N; are the labels of this assembly?")

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
