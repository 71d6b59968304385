"""Division of a genome into shards: consecutive windows that one process predicts and stores together.

Shards depend on the genome, the requested regions and the model's windows only. A job therefore has the same shards
with any number of processes, and finds the stored ones when it is resumed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from zflipon.config import MIN_GAP, SHARD_BASES, Selection
from zflipon.errors import InputError, format_names
from zflipon.genome.fasta import Genome
from zflipon.genome.interval_files import read_bed
from zflipon.genome.intervals import merge, parse_region
from zflipon.genome.windows import find_windows, tile_windows


@dataclass(frozen=True)
class Shard:
    """Consecutive windows of one segment, predicted together.

    Attributes
    ----------
    number : int
        Position in genome order.
    contig : str
    start, end : int
        The requested bases that its cores cover.
    segment : (int, int)
        The run of sequence between gaps of N that contains the shard.
    window, margin : int
        The model's, in bases.
    first, last : int
        Windows of the segment: ``[first, last)``.
    """

    number: int
    contig: str
    start: int
    end: int
    segment: tuple[int, int]
    window: int
    margin: int
    first: int
    last: int

    @property
    def windows(self) -> np.ndarray:
        """The windows, of `zflipon.genome.windows.WINDOW_DTYPE`; their cores cover ``[start, end)``."""
        return tile_windows(*self.segment, self.window, self.margin, self.first, self.last)

    def __str__(self) -> str:
        return f"{self.contig}:{self.start + 1:,}-{self.end:,}"


@dataclass
class Plan:
    """The shards of a job.

    Attributes
    ----------
    shards : list of Shard
        In genome order.
    md5 : dict of str to str
        Contig → MD5 of its upper-case sequence, for the requested contigs.
    requested : dict of str to numpy.ndarray
        Contig → merged intervals to predict, int64 of shape (n, 2).
    """

    shards: list[Shard] = field(default_factory=list)
    md5: dict[str, str] = field(default_factory=dict)
    requested: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def requested_bases(self) -> int:
        """Requested bases, including those in gaps of N."""
        return sum(int((rows[:, 1] - rows[:, 0]).sum()) for rows in self.requested.values())

    @property
    def bases(self) -> int:
        """Requested bases outside of gaps of N."""
        return sum(shard.end - shard.start for shard in self.shards)

    @property
    def windows(self) -> int:
        """Number of windows."""
        return sum(shard.last - shard.first for shard in self.shards)

    def by_contig(self) -> dict[str, list[Shard]]:
        """Return contig → its shards, in genome order; a contig without sequence has an empty list."""
        shards: dict[str, list[Shard]] = {contig: [] for contig in self.md5}
        for shard in self.shards:
            shards[shard.contig].append(shard)
        return shards

    def digest(self) -> str:
        """Return a checksum of the shards' positions and windows."""
        checksum = hashlib.sha256()
        for shard in self.shards:
            checksum.update(f"{shard!r}\n".encode())
        return checksum.hexdigest()


def make_plan(
    genome: Genome, selection: Selection, window: int, margin: int, shard_bases: int | None = None
) -> Plan:
    """Divide the requested parts of a genome into shards.

    The windows of a contig do not depend on which part of it is requested, so that a region has the same probabilities
    as in the track of the whole genome.

    Parameters
    ----------
    genome : Genome
    selection : Selection
        The requested contigs and regions.
    window, margin : int
        The model's, in bases.
    shard_bases : int, optional
        Bases of a shard; `SHARD_BASES` by default.

    Raises
    ------
    InputError
        If a contig or region is unknown, or nothing is selected.
    """
    requested = _select_intervals(genome, selection)
    plan = Plan(requested=requested)
    for contig, intervals in requested.items():
        scan = genome.scan(contig, MIN_GAP)
        plan.md5[contig] = scan.md5
        for low, high in scan.segments.tolist():
            windows = tile_windows(low, high, window, margin)
            for start, end in intervals.tolist():
                start, end = max(start, low), min(end, high)
                if start >= end:
                    continue
                for first, last in _split_windows(windows, start, end, shard_bases or SHARD_BASES):
                    inner = windows[first:last]
                    begin = max(start, int(inner["core_start"][0]))
                    stop = min(end, int(inner["core_end"][-1]))
                    number = len(plan.shards)
                    plan.shards.append(
                        Shard(number, contig, begin, stop, (low, high), window, margin, first, last)
                    )
    return plan


def _select_intervals(genome: Genome, selection: Selection) -> dict[str, np.ndarray]:
    """Return contig → merged requested intervals, in genome order."""
    named = [*selection.contigs, *selection.exclude_contigs]
    unknown = [contig for contig in named if contig not in genome.lengths]
    if unknown:
        raise InputError(
            f"no contig {format_names(unknown)} in {genome.path}, which has {format_names(genome.lengths)}"
        )
    rows: dict[str, list] = {}
    for text in selection.regions:
        contig, start, end = parse_region(text, genome.lengths)
        rows.setdefault(contig, []).append((start, end))
    if selection.regions_bed:
        for contig, intervals in read_bed(selection.regions_bed, genome.lengths, "regions").items():
            rows.setdefault(contig, []).extend(map(tuple, intervals))
    has_regions = bool(selection.regions or selection.regions_bed)
    selected = {}
    for contig, length in genome.lengths.items():
        if (selection.contigs and contig not in selection.contigs) or contig in selection.exclude_contigs:
            continue
        if not has_regions:
            selected[contig] = np.array([(0, length)], dtype=np.int64)
        elif contig in rows:
            selected[contig] = merge(np.array(sorted(rows[contig]), dtype=np.int64))
    if not selected:
        raise InputError(
            "nothing is left to annotate: no requested region is on a requested contig; "
            "check --region, --regions, --contigs and --exclude-contigs"
        )
    return selected


def _split_windows(windows: np.ndarray, start: int, end: int, bases: int) -> Iterator[tuple[int, int]]:
    """Split the windows whose cores overlap ``[start, end)`` where a core starts in the next multiple of `bases`."""
    overlapping = find_windows(windows, start, end)
    first = int(np.searchsorted(windows["core_end"], start, side="right"))
    part = overlapping["core_start"] // bases
    cuts = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(overlapping)]
    yield from ((first + low, first + high) for low, high in pairwise(cuts))
