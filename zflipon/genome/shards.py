"""Division of a genome into shards: windows that one process predicts and stores together.

Shards depend on the genome, the requested regions and the model's windows only. A job therefore has the same shards
with any number of processes, and finds the stored ones when it is resumed. A long contig has many shards; many short
contigs share one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np

from zflipon.config import MIN_GAP, SHARD_BASES, Selection
from zflipon.errors import InputError, format_names
from zflipon.genome.fasta import Genome
from zflipon.genome.interval_files import read_bed
from zflipon.genome.intervals import Intervals, merge, parse_region
from zflipon.genome.names import resolve_contig
from zflipon.genome.windows import find_windows, tile_windows

_PART = re.compile(r"([0-9]{1,9})/([0-9]{1,9})", re.ASCII)


@dataclass(frozen=True)
class Part:
    """One of several parts of a run.

    Attributes
    ----------
    number : int
        1 … `parts`.
    parts : int
    """

    number: int
    parts: int

    @classmethod
    def parse(cls, text: str) -> Part:
        """Parse ``I/N``.

        Raises
        ------
        InputError
            If the text is something else, or not 1 ≤ I ≤ N.

        Examples
        --------
        >>> str(Part.parse("3/16"))
        '3 of 16'
        """
        match = _PART.fullmatch(text.strip())
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise InputError(f"part {text!r}: expected I/N with 1 ≤ I ≤ N, such as 3/16")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number} of {self.parts}"


@dataclass(frozen=True)
class Span:
    """Consecutive windows of one segment.

    Attributes
    ----------
    contig : str
    start, end : int
        The requested bases that its cores cover.
    segment : (int, int)
        The run of sequence between gaps of N that contains the span.
    window, margin : int
        The model's, in bases.
    first, last : int
        Windows of the segment: ``[first, last)``.
    """

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


@dataclass(frozen=True)
class Shard:
    """Spans that are predicted and stored together, in genome order.

    Attributes
    ----------
    spans : tuple of Span
        One long span, or several short ones, also of different contigs.
    """

    spans: tuple[Span, ...]

    @cached_property
    def bases(self) -> int:
        """Requested bases."""
        return sum(span.end - span.start for span in self.spans)

    def __str__(self) -> str:
        first, *others = self.spans
        return f"{first} and {len(others):,} more" if others else str(first)


@dataclass(frozen=True)
class StoredSpan:
    """Where the values of a span are among those of all shards.

    Attributes
    ----------
    shard : int
        Number of the shard.
    offset : int
        Bases of the shard before the span.
    start, end : int
        The span on its contig.
    """

    shard: int
    offset: int
    start: int
    end: int


@dataclass
class Plan:
    """The spans and shards of a job.

    Attributes
    ----------
    spans : list of Span
        In genome order.
    md5 : dict of str to str
        Contig → MD5 of its upper-case sequence, for the requested contigs.
    refget : dict of str to str
        Contig → its GA4GH identifier, for the same contigs.
    requested : dict of str to numpy.ndarray
        Contig → merged intervals to predict, int64 of shape (n, 2).
    shard_bases : int
        Most bases of a shard with several spans.
    """

    spans: list[Span] = field(default_factory=list)
    md5: dict[str, str] = field(default_factory=dict)
    refget: dict[str, str] = field(default_factory=dict)
    requested: dict[str, np.ndarray] = field(default_factory=dict)
    shard_bases: int = SHARD_BASES

    @cached_property
    def shards(self) -> list[Shard]:
        """The shards: each has as many consecutive spans as fit into `shard_bases`, and at least one."""
        groups: list[list[Span]] = []
        room = 0
        for span in self.spans:
            bases = span.end - span.start
            if bases > room:
                groups.append([])
                room = self.shard_bases
            groups[-1].append(span)
            room -= bases
        return [Shard(tuple(group)) for group in groups]

    @property
    def requested_bases(self) -> int:
        """Requested bases, including those in gaps of N."""
        return sum(int((rows[:, 1] - rows[:, 0]).sum()) for rows in self.requested.values())

    @property
    def bases(self) -> int:
        """Requested bases outside of gaps of N."""
        return sum(span.end - span.start for span in self.spans)

    @property
    def windows(self) -> int:
        """Number of windows."""
        return sum(span.last - span.first for span in self.spans)

    def part(self, part: Part) -> range:
        """Return the numbers of the shards of a part.

        The parts of a run have nearly the same number of bases. Each shard is in exactly one of them, and a part may be
        empty.
        """
        ends = np.cumsum([shard.bases for shard in self.shards], dtype=np.int64)
        total = int(ends[-1]) if len(ends) else 0
        middles = [2 * int(end) - shard.bases for end, shard in zip(ends, self.shards, strict=True)]
        owners = [middle * part.parts // (2 * total) + 1 for middle in middles]
        return range(
            sum(owner < part.number for owner in owners), sum(owner <= part.number for owner in owners)
        )

    def edges(self) -> Intervals:
        """Return the requested bases without full context: nearer than a margin to the end of their segment."""
        edges: dict[str, list[list[int]]] = {}
        for span in self.spans:  # in genome order, so that an interval touches at most the one before it
            rows = edges.setdefault(span.contig, [])
            low, high = span.segment
            for start, end in ((low, low + span.margin), (high - span.margin, high)):
                start, end = max(start, span.start), min(end, span.end)
                if start >= end:
                    continue
                if rows and start <= rows[-1][1]:
                    rows[-1][1] = max(end, rows[-1][1])
                else:
                    rows.append([start, end])
        return {contig: np.array(rows, dtype=np.int64) for contig, rows in edges.items() if rows}

    def digest(self) -> str:
        """Return a checksum of the positions and windows of all shards."""
        checksum = hashlib.sha256()
        for number, shard in enumerate(self.shards):
            for span in shard.spans:
                checksum.update(f"{number} {span!r}\n".encode())
        return checksum.hexdigest()


def stored_spans(
    contigs: Sequence[str], shards: Sequence[Sequence[tuple[str, int, int]]]
) -> dict[str, list[StoredSpan]]:
    """Return contig → where its values are stored, in genome order; a contig without sequence has an empty list.

    Parameters
    ----------
    contigs : sequence of str
        In genome order.
    shards : sequence of sequence of (str, int, int)
        Contig, start and end of the spans of each shard.

    Examples
    --------
    >>> stored_spans(["a", "b"], [[("a", 0, 7), ("b", 2, 5)]])["b"]
    [StoredSpan(shard=0, offset=7, start=2, end=5)]
    """
    stored: dict[str, list[StoredSpan]] = {contig: [] for contig in contigs}
    for number, spans in enumerate(shards):
        offset = 0
        for contig, start, end in spans:
            stored[contig].append(StoredSpan(number, offset, start, end))
            offset += end - start
    return stored


def make_plan(
    genome: Genome,
    selection: Selection,
    window: int,
    margin: int,
    shard_bases: int | None = None,
    visit: Callable[[str], object] = lambda sequence: None,
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
    visit : callable
        Called with the upper-case sequence of the requested contigs, a part at a time.

    Raises
    ------
    InputError
        If a contig or region is unknown, or nothing is selected.
    """
    requested = _select_intervals(genome, selection)
    plan = Plan(requested=requested, shard_bases=shard_bases or SHARD_BASES)
    for contig, intervals in requested.items():
        scan = genome.scan(contig, MIN_GAP, visit)
        plan.md5[contig], plan.refget[contig] = scan.md5, scan.refget
        for low, high in scan.segments.tolist():
            windows = tile_windows(low, high, window, margin)
            for start, end in intervals.tolist():
                start, end = max(start, low), min(end, high)
                if start >= end:
                    continue
                for first, last in _split_windows(windows, start, end, plan.shard_bases):
                    inner = windows[first:last]
                    begin = max(start, int(inner["core_start"][0]))
                    stop = min(end, int(inner["core_end"][-1]))
                    plan.spans.append(Span(contig, begin, stop, (low, high), window, margin, first, last))
    return plan


def _select_intervals(genome: Genome, selection: Selection) -> dict[str, np.ndarray]:
    """Return contig → merged requested intervals, in genome order."""
    included, excluded = (
        {resolve_contig(contig, genome.lengths) for contig in contigs}
        for contigs in (selection.contigs, selection.exclude_contigs)
    )
    named = [*sorted(included), *sorted(excluded)]
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
        if (included and contig not in included) or contig in excluded:
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
