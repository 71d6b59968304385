"""The extent of a run: the parts of a genome that it annotated, from its record; and the sequence in it.

Region strings are parsed in `zflipon.genome.intervals`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from zflipon.errors import InputError
from zflipon.genome.intervals import Intervals, intersect, merge, parse_region
from zflipon.genome.names import reconcile


def run_extent(path: str | Path, record: Mapping, lengths: Mapping[str, int]) -> Intervals:
    """Return the extent of a run: its regions, else its contigs, else the whole genome.

    Parameters
    ----------
    path : str or Path
        File of the run, for messages.
    record : mapping
        Run record; empty for a file without one.
    lengths : mapping of str to int
        The genome's contigs and their lengths.

    Returns
    -------
    Intervals
        In the order of the genome; disjoint.

    Raises
    ------
    InputError
        If the record has a region that is not in the genome.

    Examples
    --------
    >>> lengths = {"chr1": 500, "chr2": 300}
    >>> run_extent("z.bed", {"regions": ["chr1:11-20", "chr1:101-120"]}, lengths)["chr1"].tolist()
    [[10, 20], [100, 120]]
    >>> list(run_extent("z.bed", {}, lengths))
    ['chr1', 'chr2']
    """
    regions = record.get("regions")
    if not regions:
        known = reconcile(path, record.get("contigs", {}), lengths).values()
        contigs = set(known) or set(lengths)
        return {
            name: np.array([[0, length]], dtype=np.int64)
            for name, length in lengths.items()
            if name in contigs
        }
    rows: dict[str, list[tuple[int, int]]] = {}
    try:
        for text in regions:
            contig, start, end = parse_region(str(text), lengths)
            rows.setdefault(contig, []).append((start, end))
    except (InputError, TypeError) as error:
        raise InputError(f"{path}: the regions in its record do not fit the genome ({error})") from error
    return {name: merge(np.array(sorted(rows[name]), dtype=np.int64)) for name in lengths if name in rows}


def sequence_segments(
    extent: Mapping[str, np.ndarray], contigs: Iterable[str], segments_of: Callable[[str], np.ndarray]
) -> Intervals:
    """Return the parts of an extent that have sequence.

    Parameters
    ----------
    extent : mapping of str to numpy.ndarray
        Contig → disjoint int64 intervals of shape (n, 2).
    contigs : iterable of str
        Contigs to return. One that is not in the extent has no segment.
    segments_of : callable
        Contig → its parts with sequence, int64 of shape (n, 2).
    """
    return {contig: intersect(extent.get(contig), segments_of(contig)) for contig in contigs}
