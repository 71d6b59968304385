"""Intervals on contigs: BED files and region strings in, sorted half-open arrays out.

The 1-based closed form that users type (``chr1:1,001-2,000``) is converted here
and nowhere else.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from zflipon.errors import InputError, some

Intervals = dict[str, np.ndarray]
"""Contig → int64 array of shape (n, 2): 0-based half-open, sorted by start, then end."""

_NO_DATA = re.compile(r"#|(track|browser)(\s|$)")
"""Comments and browser lines; a contig may be called ``track1``."""


def read_bed(path: str | Path, lengths: Mapping[str, int], what: str = "intervals") -> Intervals:
    """Read the first three columns of a BED file (plain, gzip or bgzip).

    Parameters
    ----------
    path : str or Path
    lengths : mapping of str to int
        The genome's contigs. Lines of other contigs are left out, as a labels
        file may cover more than the genome at hand.
    what : str
        What the intervals are, for messages.

    Raises
    ------
    InputError
        If the file is missing or malformed, no line is on a contig of the
        genome, or an interval passes a contig's end.
    """
    rows: dict[str, list[tuple[int, int]]] = {}
    for contig, start, end, _ in bed_rows(path, lengths, what):
        rows.setdefault(contig, []).append((start, end))
    return {contig: np.array(sorted(rows[contig]), dtype=np.int64) for contig in lengths if contig in rows}


def bed_rows(
    path: str | Path, lengths: Mapping[str, int], what: str = "intervals"
) -> Iterator[tuple[str, int, int, list[str]]]:
    """Yield the rows of a BED file in its own order: contig, start, end, and the fields after them.

    Parameters and errors are those of `read_bed`.
    """
    foreign: dict[str, None] = {}
    found = False
    for number, line in _lines(Path(path)):
        contig, start, end = _parse_bed(path, number, line)
        if contig not in lengths:
            foreign[contig] = None
            continue
        _check_end(path, number, (contig, start, end), lengths)
        found = True
        yield contig, start, end, _fields(line)[3:]
    if foreign and not found:
        raise _no_contig(path, what, foreign, lengths)


def read_bedgraph(
    path: str | Path, lengths: Mapping[str, int], block: int = 1 << 16
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Read a bedGraph file (plain, gzip or bgzip) in the order of its lines, a block at a time.

    Parameters
    ----------
    path : str or Path
    lengths : mapping of str to int
        The genome's contigs; lines of others are left out.
    block : int
        Most lines of a block.

    Yields
    ------
    contig : str
    intervals : numpy.ndarray
        int64, shape (n, 2): sorted and disjoint, on from where the contig's last block ended.
    values : numpy.ndarray
        float64, shape (n,).

    Raises
    ------
    InputError
        If the file is missing or malformed, unsorted or ambiguous (a base with
        two values), no line is on a contig of the genome, or an interval
        passes a contig's end.
    """
    foreign: dict[str, None] = {}
    finished: set[str] = set()
    contig, reached, rows = None, 0, []

    def packed() -> tuple[str, np.ndarray, np.ndarray]:
        starts, ends, values = zip(*rows, strict=True)
        return contig, np.array([starts, ends], dtype=np.int64).T, np.array(values)

    for number, line in _lines(Path(path)):
        name, start, end = _parse_bed(path, number, line)
        value = _parse_value(path, number, line)
        if name not in lengths:
            foreign[name] = None
            continue
        _check_end(path, number, (name, start, end), lengths)
        if rows and (name != contig or len(rows) == block):
            yield packed()
            rows = []
        if name != contig:
            finished.add(contig)
            contig, reached = name, 0
        if name in finished or start < reached:
            raise InputError(
                f"{path}:{number}: {name}:{start}-{end} overlaps or precedes a line before it; expected bedGraph "
                "sorted by contig and start with one value a base (sort -k1,1 -k2,2n)"
            )
        reached = end
        rows.append((start, end, value))
    if rows:
        yield packed()
    if foreign and contig is None:
        raise _no_contig(path, "values", foreign, lengths)


def parse_region(text: str, lengths: Mapping[str, int]) -> tuple[str, int, int]:
    """Parse ``chr``, ``chr:start`` or ``chr:start-end`` (1-based, closed, commas allowed).

    Returns
    -------
    contig, start, end : str, int, int
        0-based half-open. A contig whose whole name is `text` wins, since names may hold ``:``.

    Raises
    ------
    InputError
        If there is no such contig or the range leaves it.
    """
    if text in lengths:
        return text, 0, lengths[text]
    match = re.fullmatch(r"(.+):([\d,]+)(?:-([\d,]+)?)?", text)
    if match is None or match[1] not in lengths:
        raise InputError(
            f"region {text!r}: no such contig; expected NAME or NAME:START-END with a name of the genome "
            f"({some(lengths)})"
        )
    contig, length = match[1], lengths[match[1]]
    first = int(match[2].replace(",", "") or 0)
    last = int(match[3].replace(",", "") or 0) if match[3] else length
    if not 1 <= first <= last <= length:
        raise InputError(f"region {text!r}: expected 1 ≤ start ≤ end ≤ {length}, the length of {contig}")
    return contig, first - 1, last


def merge(intervals: np.ndarray, gap: int = 0) -> np.ndarray:
    """Join sorted intervals that overlap, touch, or lie at most `gap` bases apart.

    Parameters
    ----------
    intervals : numpy.ndarray
        int64, shape (n, 2), sorted by start.
    gap : int
        Bases.
    """
    if len(intervals) == 0:
        return np.empty((0, 2), dtype=np.int64)
    reach = np.maximum.accumulate(intervals[:, 1])
    first = np.flatnonzero(np.r_[True, intervals[1:, 0] > reach[:-1] + gap])
    last = np.r_[first[1:], len(intervals)] - 1
    return np.stack([intervals[first, 0], reach[last]], axis=1)


def covered(intervals: np.ndarray | None, edges: np.ndarray) -> np.ndarray:
    """Count the bases between neighbouring edges that disjoint intervals cover.

    Parameters
    ----------
    intervals : numpy.ndarray or None
        int64, shape (n, 2), sorted, none empty.
    edges : numpy.ndarray
        Sorted positions, shape (m,).

    Returns
    -------
    numpy.ndarray
        int64, shape (max(m - 1, 0),).
    """
    if intervals is None or not len(intervals):
        return np.zeros(max(len(edges) - 1, 0), dtype=np.int64)
    after = np.cumsum(np.diff(intervals))
    before = after - np.diff(intervals).ravel()
    reached = np.interp(edges, intervals.ravel(), np.stack([before, after], axis=1).ravel())
    return np.diff(reached).astype(np.int64)


def solid(intervals: Intervals, lengths: Mapping[str, int]) -> Intervals:
    """Keep the chosen contigs; join intervals that overlap or touch; drop empty ones."""
    joined = {contig: merge(intervals[contig]) for contig in lengths if contig in intervals}
    solid = {contig: runs[runs[:, 1] > runs[:, 0]] for contig, runs in joined.items()}
    return {contig: runs for contig, runs in solid.items() if len(runs)}


def fill(intervals: np.ndarray | None, start: int, end: int) -> np.ndarray:
    """Mark the bases of ``[start, end)`` that sorted intervals cover.

    Returns
    -------
    numpy.ndarray
        bool, shape (end - start,).
    """
    return fill_merged(None if intervals is None else merge(intervals), start, end)


def fill_merged(merged: np.ndarray | None, start: int, end: int) -> np.ndarray:
    """Do what `fill` does, of intervals that are merged already."""
    covered = np.zeros(end - start, dtype=bool)
    if merged is not None and len(merged):
        for low, high in overlapping(merged, start, end):
            covered[max(low - start, 0) : high - start] = True
    return covered


def holds(merged: np.ndarray | None, places: np.ndarray) -> np.ndarray:
    """Tell which places lie in merged intervals: bool, of the places' shape."""
    if merged is None or not len(merged):
        return np.zeros(places.shape, dtype=bool)
    before = np.searchsorted(merged[:, 0], places, side="right") - 1
    return (before >= 0) & (places < merged[before, 1])


def overlapping(merged: np.ndarray, start: int, end: int) -> np.ndarray:
    """Return those of sorted, disjoint intervals that touch ``[start, end)``."""
    first = np.searchsorted(merged[:, 1], start, side="right")
    last = np.searchsorted(merged[:, 0], end, side="left")
    return merged[first:last]


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the numbered data lines of a text file, packed or not."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with (gzip.open if packed else open)(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip() and not _NO_DATA.match(line):
                    yield number, line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: the gzip file is damaged or truncated ({error})") from error
    except PermissionError as error:
        raise InputError(f"{path}: cannot be read (permission denied)") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file") from error


def _fields(line: str) -> list[str]:
    return line.rstrip("\r\n").split("\t") if "\t" in line else line.split()


def _parse_bed(path: str | Path, number: int, line: str) -> tuple[str, int, int]:
    fields = _fields(line)
    try:
        start, end = int(fields[1]), int(fields[2])
    except (IndexError, ValueError):
        raise InputError(
            f"{path}:{number}: expected BED (contig, start, end), found {line.strip()[:60]!r}"
        ) from None
    if not 0 <= start <= end:
        raise InputError(f"{path}:{number}: expected 0 ≤ start ≤ end, found {start} and {end}")
    return fields[0], start, end


def _parse_value(path: str | Path, number: int, line: str) -> float:
    try:
        return float(line.split()[3])
    except (IndexError, ValueError):
        raise InputError(
            f"{path}:{number}: expected bedGraph (contig, start, end, value), found {line.strip()[:60]!r}"
        ) from None


def _check_end(
    path: str | Path, number: int, interval: tuple[str, int, int], lengths: Mapping[str, int]
) -> None:
    contig, start, end = interval
    if end > lengths[contig]:
        raise InputError(
            f"{path}:{number}: {contig}:{start}-{end} passes the end of the contig ({lengths[contig]} bases); "
            "are both of the same assembly?"
        )


def _no_contig(path: str | Path, what: str, found: Iterable[str], lengths: Mapping[str, int]) -> InputError:
    return InputError(
        f"{path}: no {what} on the genome's contigs: the file has {some(found)}, the genome {some(lengths)}; "
        "rename the contigs of one of them"
    )
