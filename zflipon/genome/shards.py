"""What is asked of a genome → shards: runs of windows that are predicted, stored and, after a kill, found again.

Shards follow from the genome, what is asked of it and the model's windows alone. So the same run has the same ones
however many processes share it, and a run that goes on finds those that it had.
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
    """Consecutive windows of one stretch, predicted together.

    Attributes
    ----------
    number : int
        Position in genome order.
    contig : str
    start, end : int
        The bases that are wanted of it.
    segment : (int, int)
        The stretch of sequence that it is a part of.
    window, margin : int
        Of the model.
    first, last : int
        Which windows of the stretch: ``[first, last)``.
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
        """The windows, `zflipon.genome.windows.WINDOW_DTYPE`; their cores cover ``[start, end)``."""
        return tile_windows(*self.segment, self.window, self.margin, self.first, self.last)

    def __str__(self) -> str:
        return f"{self.contig}:{self.start + 1:,}-{self.end:,}"


@dataclass
class Plan:
    """What will be predicted.

    Attributes
    ----------
    shards : list of Shard
        In genome order.
    md5 : dict of str to str
        Contig → checksum of its upper-case sequence, for the contigs that are touched.
    requested : dict of str to numpy.ndarray
        Contig → merged intervals that are asked for, int64 of shape (n, 2).
    """

    shards: list[Shard] = field(default_factory=list)
    md5: dict[str, str] = field(default_factory=dict)
    requested: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def requested_bases(self) -> int:
        """Bases asked for; those in gaps of N are among them."""
        return sum(int((wanted[:, 1] - wanted[:, 0]).sum()) for wanted in self.requested.values())

    @property
    def bases(self) -> int:
        """Bases in stretches of sequence."""
        return sum(shard.end - shard.start for shard in self.shards)

    @property
    def windows(self) -> int:
        """Windows that the model reads."""
        return sum(shard.last - shard.first for shard in self.shards)

    def by_contig(self) -> dict[str, list[Shard]]:
        """Return contig → its shards, in genome order; contigs without sequence have none."""
        found: dict[str, list[Shard]] = {contig: [] for contig in self.md5}
        for shard in self.shards:
            found[shard.contig].append(shard)
        return found

    def digest(self) -> str:
        """Return a checksum of the shards' places and windows."""
        found = hashlib.sha256()
        for shard in self.shards:
            found.update(f"{shard!r}\n".encode())
        return found.hexdigest()


def make_plan(
    genome: Genome, selection: Selection, window: int, margin: int, shard_bases: int | None = None
) -> Plan:
    """Choose windows and cut them into shards.

    The windows of a contig are the same whatever part of it is selected, so a
    region has the probabilities that it has in the whole genome's track.

    Parameters
    ----------
    genome : Genome
    selection : Selection
    window, margin : int
        Of the model.
    shard_bases : int, optional
        Of a shard; `SHARD_BASES` by default.

    Raises
    ------
    InputError
        If a contig or region is unknown, or nothing is left.
    """
    chosen = _choose(genome, selection)
    plan = Plan(requested=chosen)
    for contig, wanted in chosen.items():
        found = genome.scan(contig, MIN_GAP)
        plan.md5[contig] = found.md5
        for low, high in found.segments.tolist():
            windows = tile_windows(low, high, window, margin)
            for start, end in wanted.tolist():
                start, end = max(start, low), min(end, high)
                for first, last in (
                    _parts(windows, start, end, shard_bases or SHARD_BASES) if start < end else ()
                ):
                    number, inner = len(plan.shards), windows[first:last]
                    begin = max(start, int(inner["core_start"][0]))
                    plan.shards.append(
                        Shard(
                            number,
                            contig,
                            begin,
                            min(end, int(inner["core_end"][-1])),
                            (low, high),
                            window,
                            margin,
                            first,
                            last,
                        )
                    )
    return plan


def _choose(genome: Genome, selection: Selection) -> dict[str, np.ndarray]:
    """Return contig → merged intervals that are asked for, in genome order."""
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
    limited = bool(selection.regions or selection.regions_bed)
    chosen = {}
    for contig, length in genome.lengths.items():
        if (selection.contigs and contig not in selection.contigs) or contig in selection.exclude_contigs:
            continue
        if not limited:
            chosen[contig] = np.array([(0, length)], dtype=np.int64)
        elif contig in rows:
            chosen[contig] = merge(np.array(sorted(rows[contig]), dtype=np.int64))
    if not chosen:
        raise InputError("nothing is left to annotate: the contigs and regions asked for exclude each other")
    return chosen


def _parts(windows: np.ndarray, start: int, end: int, bases: int) -> Iterator[tuple[int, int]]:
    """Cut the windows that touch ``[start, end)`` where cores have covered so many more bases of the contig."""
    chosen = find_windows(windows, start, end)
    first = int(np.searchsorted(windows["core_end"], start, side="right"))
    part = chosen["core_start"] // bases
    cuts = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(chosen)]
    yield from ((first + low, first + high) for low, high in pairwise(cuts))
