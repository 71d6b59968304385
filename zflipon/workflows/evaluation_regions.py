"""The bases on which tracks are evaluated, and their labels.

The comparison of tracks with the labels is in `zflipon.workflows.evaluate`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zflipon.config import EvaluateConfig
from zflipon.errors import InputError, format_names
from zflipon.genome.fasta import Genome
from zflipon.genome.interval_files import read_bed
from zflipon.genome.intervals import (
    Intervals,
    complement,
    count_covered,
    intersect,
    merge,
    merge_by_contig,
    parse_region,
)
from zflipon.genome.sketch import merge_sketches, sketch_sequence
from zflipon.genome.tiled_windows import build_tiled_windows

_READ_BASES = 1 << 22


@dataclass(frozen=True)
class EvaluationRegions:
    """Evaluated bases and labels.

    Attributes
    ----------
    lengths : dict of str to int
        The evaluated contigs.
    labels : Intervals
    counted : Intervals
        Bases that are selected and neither N nor blacklisted.
    scopes : dict of str to Intervals
        Protocol → the bases that it counts.
    windows : dict of str to int
        Number of ``'positive'`` and ``'negative'`` windows of the sampled protocol.
    """

    lengths: dict[str, int]
    labels: Intervals
    counted: Intervals
    scopes: dict[str, Intervals]
    windows: dict[str, int]

    def sketch(self, genome: Genome) -> np.ndarray:
        """Return the sketch of the counted sequence; see `zflipon.genome.sketch`."""
        return merge_sketches(
            sketch_sequence(genome.fetch(contig, low, min(low + _READ_BASES, end)))
            for contig, rows in self.counted.items()
            for start, end in rows.tolist()
            for low in range(start, end, _READ_BASES)
        )

    def count_bases(self) -> dict[str, dict[str, int]]:
        """Return the number of ``'evaluated'`` and of ``'labelled'`` bases of each protocol."""
        return {
            protocol: {
                "evaluated": sum(int(np.diff(intervals).sum()) for intervals in scope.values()),
                "labelled": sum(
                    int(count_covered(scope.get(contig), labels.ravel())[::2].sum())
                    for contig, labels in self.labels.items()
                ),
            }
            for protocol, scope in self.scopes.items()
        }


def load_evaluation_regions(
    genome: Genome,
    labels: Path,
    blacklist: Path | None,
    contigs: Sequence[str],
    config: EvaluateConfig,
    progress: Callable[[int], object] = lambda bases: None,
    regions: Sequence[str] = (),
    regions_bed: Path | None = None,
) -> EvaluationRegions:
    """Read labels and blacklist, and choose the bases of each protocol.

    Parameters
    ----------
    genome : Genome
    labels, blacklist : Path
        BED files.
    contigs : sequence of str
        Contigs to evaluate; all if empty.
    config : EvaluateConfig
    progress : callable
        Called with the bases of each contig that was read.
    regions : sequence of str
        Regions to evaluate, ``chr:start-end``, 1-based; all of the contigs if empty.
    regions_bed : Path, optional
        BED file of more regions.

    Raises
    ------
    InputError
        If a contig is unknown, a file is malformed, or no evaluated base is labelled.
    """
    lengths = genome.select_contigs(contigs)
    selected = _select_regions(genome, lengths, regions, regions_bed)
    lengths = {contig: length for contig, length in lengths.items() if contig in selected}
    label_intervals = merge_by_contig(read_bed(labels, genome.lengths, "labels"), lengths)
    if not label_intervals:
        raise InputError(
            f"{labels}: no label on the evaluated contigs ({format_names(lengths)}); expected a BED of Z-DNA"
        )
    blacklisted: Intervals = {}
    if blacklist:
        blacklisted = merge_by_contig(read_bed(blacklist, genome.lengths, "blacklisted regions"), lengths)
    segments = {}
    for contig, length in lengths.items():
        segments[contig] = genome.scan(contig, min_gap=1).segments
        progress(length)
    excluded = blacklisted
    if regions or regions_bed:  # a window counts only if all of it is selected
        outside = {contig: complement(selected[contig], length) for contig, length in lengths.items()}
        excluded = {contig: _union(outside[contig], blacklisted.get(contig)) for contig in lengths}
    counted = {
        contig: intersect(segments[contig], complement(excluded.get(contig), length))
        for contig, length in lengths.items()
    }
    scopes, windows = {"genome": counted}, {}
    if config.protocol != "genome":
        scopes["sampled"], windows = sample_windows(lengths, label_intervals, segments, excluded, config)
    if config.protocol == "sampled":
        del scopes["genome"]
    evaluation_regions = EvaluationRegions(lengths, label_intervals, counted, scopes, windows)
    if not all(count["labelled"] for count in evaluation_regions.count_bases().values()):
        raise InputError(
            f"{labels}: nothing can be evaluated, since no label is on an evaluated base; all are on N, in the "
            "blacklist, outside the regions or outside the sampled windows"
        )
    return evaluation_regions


def sample_windows(
    lengths: Mapping[str, int],
    labels: Intervals,
    segments: Intervals,
    excluded: Intervals,
    config: EvaluateConfig,
) -> tuple[Intervals, dict[str, int]]:
    """Choose the windows on which the published models were tested.

    Windows are tiled from base 0 without overlap; a shorter remainder at the end of a contig is no window. Windows that
    are more than half N or that touch an excluded base are left out. All windows with a labelled base are chosen, and
    a random sample of `EvaluateConfig.negatives` times as many others (all of them if there are fewer).

    Parameters
    ----------
    lengths : mapping of str to int
    labels, segments, excluded : Intervals
        Disjoint; `segments` are the bases that are not N.
    config : EvaluateConfig

    Returns
    -------
    windows : Intervals
        Adjacent windows are merged.
    counts : dict of str to int
        Number of ``'positive'`` and ``'negative'`` windows.
    """
    tiled = build_tiled_windows(lengths, labels, segments, excluded, config.window)
    positive, other = np.flatnonzero(tiled.labelled), np.flatnonzero(~tiled.labelled)
    size = min(config.negatives * len(positive), len(other))
    negative = other[np.random.default_rng(config.seed).choice(len(other), size, replace=False)]
    chosen = np.sort(np.concatenate([positive, negative]))
    windows = {}
    for number, contig in enumerate(tiled.contigs):
        starts = tiled.start[chosen][tiled.contig[chosen] == number]
        windows[contig] = merge(np.stack([starts, starts + config.window], axis=1))
    return windows, {"positive": len(positive), "negative": len(negative)}


def _select_regions(
    genome: Genome, lengths: Mapping[str, int], regions: Sequence[str], regions_bed: Path | None
) -> Intervals:
    """Return the selected intervals of each selected contig."""
    if not regions and not regions_bed:
        return {contig: np.array([[0, length]]) for contig, length in lengths.items()}
    rows: dict[str, list[tuple[int, int]]] = {}
    for text in regions:
        contig, start, end = parse_region(text, genome.lengths)
        rows.setdefault(contig, []).append((start, end))
    if regions_bed:
        for contig, intervals in read_bed(regions_bed, genome.lengths, "regions").items():
            rows.setdefault(contig, []).extend(map(tuple, intervals.tolist()))
    intervals = {contig: np.array(sorted(each), dtype=np.int64) for contig, each in rows.items()}
    selected = merge_by_contig(intervals, lengths)
    if not selected:
        raise InputError(f"no region is on the evaluated contigs ({format_names(lengths)})")
    return selected


def _union(one: np.ndarray, other: np.ndarray | None) -> np.ndarray:
    if other is None or not len(other):
        return one
    both = np.concatenate([one, other])
    return merge(both[np.argsort(both[:, 0], kind="stable")])
