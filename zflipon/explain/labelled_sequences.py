"""Sequences with labels, as the token tables need them: windows of a genome, or sequences of a table.

Which of them are called, and what explains the calls, is in `zflipon.explain.calls` and the modules above it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zflipon.errors import InputError
from zflipon.explain.run_windows import part_windows
from zflipon.genome.fasta import Genome
from zflipon.genome.interval_files import read_bed
from zflipon.genome.intervals import interval_mask, merge_by_contig
from zflipon.genome.tiled_windows import build_tiled_windows


@dataclass(frozen=True)
class LabelledSequences:
    """Sequences, their labels and their coordinates.

    Attributes
    ----------
    sequences : list of str
        Upper case.
    labels : list of numpy.ndarray
        bool, shape (bases,) each, or (1,) if the label is of the whole sequence.
    intervals : list of (str, int, int)
        Contig, start and end of each. A sequence that comes from no genome has its number, counted from 1, as contig.
    """

    sequences: list[str]
    labels: list[np.ndarray]
    intervals: list[tuple[str, int, int]]

    def __len__(self) -> int:
        return len(self.sequences)


def read_labelled_windows(
    genome: Genome,
    labels: Path,
    window: int,
    contigs: Sequence[str] = (),
    blacklist: Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    run: tuple[str | Path, str] | None = None,
) -> LabelledSequences:
    """Read the windows that hold a labelled base. Windows are tiled from base 0 without overlap.

    Windows without a label are left out, since they cannot hold a true positive.

    Parameters
    ----------
    genome : Genome
    labels, blacklist : Path
        BED files. Windows that touch the blacklist, or that are more than half N, are left out.
    window : int
        Bases.
    contigs : sequence of str
        Contigs to read; all if empty.
    limit : int, optional
        Largest number of windows; a random sample is drawn from more.
    seed : int
        Seed of that sample.
    run : (str or Path, str), optional
        Checkpoint of a training run, and the part of its windows to read.

    Raises
    ------
    InputError
        If a contig is unknown, a file is malformed, or no window holds a label.
    """
    for contig in contigs:
        genome.length(contig)
    lengths = {name: length for name, length in genome.lengths.items() if not contigs or name in contigs}
    label_intervals = merge_by_contig(read_bed(labels, genome.lengths, "labels"), lengths)
    avoided = (
        merge_by_contig(read_bed(blacklist, genome.lengths, "blacklisted regions"), lengths)
        if blacklist
        else {}
    )
    lengths = {contig: lengths[contig] for contig in label_intervals}
    if not lengths:
        raise InputError(f"{labels}: no label on the selected contigs; choose contigs with labels")
    segments = {contig: genome.scan(contig, min_gap=1).segments for contig in lengths}
    tiled = build_tiled_windows(lengths, label_intervals, segments, avoided, window)
    chosen = np.flatnonzero(tiled.labelled)
    if run:
        chosen = np.intersect1d(chosen, part_windows(genome, tiled, *run, 0, seed))
    if not len(chosen):
        raise InputError(f"{labels}: no window of {window} bases holds a label; use a smaller --window")
    if limit is not None and limit < len(chosen):
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, limit, replace=False))
    data = LabelledSequences([], [], [])
    for number, start in zip(tiled.contig[chosen], tiled.start[chosen].tolist(), strict=True):
        contig = tiled.contigs[number]
        data.sequences.append(genome.fetch(contig, start, start + window))
        data.labels.append(interval_mask(label_intervals[contig], start, start + window))
        data.intervals.append((contig, start, start + window))
    return data


def label_whole_sequences(sequences: Sequence[str], labels: Sequence[bool]) -> LabelledSequences:
    """Combine sequences that come from no genome with one label each."""
    intervals = [(str(number), 0, len(sequence)) for number, sequence in enumerate(sequences, 1)]
    return LabelledSequences(list(sequences), [np.array([bool(label)]) for label in labels], intervals)
