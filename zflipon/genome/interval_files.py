"""Readers of interval files: BED and bedGraph.

Rows on contigs that are not in the genome are counted and reported. Interval arithmetic is in
`zflipon.genome.intervals`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from zflipon.errors import InputError, format_names
from zflipon.genome.intervals import Intervals
from zflipon.genome.names import RENAME_CONTIGS, ContigNames
from zflipon.genome.text_files import read_lines

log = logging.getLogger("zflipon")

MAX_UNKNOWN_SHARE = 0.5
"""A file is refused if more than this share of its rows is on contigs that are not in the genome."""

_HEADER_LINE = re.compile(r"#|(track|browser)(\s|$)")
"""Comments and browser lines; a contig may be named ``track1``."""

_COORDINATE = re.compile(r"-?[0-9]{1,18}", re.ASCII)
"""A BED coordinate. Python's `int` would also accept ``+10``, ``1_000`` and digits of other scripts."""

_SHOWN = 60
"""Characters of a line that a message shows."""


def read_bed(path: str | Path, lengths: Mapping[str, int], contents: str = "intervals") -> Intervals:
    """Read the first three columns of a BED file (plain, gzip or bgzip).

    Parameters
    ----------
    path : str or Path
    lengths : mapping of str to int
        The genome's contigs and their lengths.
    contents : str
        What the intervals are, for messages.

    Returns
    -------
    dict of str to numpy.ndarray
        Contig, in the genome's order → int64 intervals of shape (n, 2), sorted by start, then end.

    Raises
    ------
    InputError
        If the file is missing or malformed, an interval passes the end of its contig, or more than
        `MAX_UNKNOWN_SHARE` of the rows are on contigs that are not in the genome. Fewer such rows are left out with a
        warning.
    """
    rows: dict[str, list[tuple[int, int]]] = {}
    for contig, start, end, _ in read_bed_rows(path, lengths, contents):
        rows.setdefault(contig, []).append((start, end))
    return {contig: np.array(sorted(rows[contig]), dtype=np.int64) for contig in lengths if contig in rows}


def read_bed_rows(
    path: str | Path, lengths: Mapping[str, int] | None, contents: str = "intervals"
) -> Iterator[tuple[str, int, int, list[str]]]:
    """Yield the rows of a BED file in file order: contig, start, end and the other fields.

    Parameters and errors are those of `read_bed`. If `lengths` is None, the genome is unknown: rows on all contigs are
    yielded, and their ends are not checked.
    """
    unknown = None if lengths is None else _UnknownContigs(path, contents, lengths)
    for number, line in _data_lines(path, "BED (contig, start, end)"):
        fields = _split_fields(line)
        contig, start, end = _parse_interval(path, number, line, fields, "BED (contig, start, end)")
        if unknown is not None and lengths is not None:
            known = unknown.find(contig)
            if known is None:
                continue
            contig = known
            _check_end(path, number, (contig, start, end), lengths)
        yield contig, start, end, fields[3:]
    if unknown is not None:
        unknown.report()


def read_bedgraph(
    path: str | Path, lengths: Mapping[str, int], block: int = 1 << 16
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Read a bedGraph file (plain, gzip or bgzip) in file order, a block of lines at a time.

    Parameters
    ----------
    path : str or Path
    lengths : mapping of str to int
        The genome's contigs and their lengths.
    block : int
        Maximum number of lines in a block.

    Yields
    ------
    contig : str
    intervals : numpy.ndarray
        int64, shape (n, 2): sorted, disjoint and after those of the contig's previous block.
    values : numpy.ndarray
        float64, shape (n,).

    Raises
    ------
    InputError
        As `read_bed`, and if lines are not sorted or two of them overlap.
    """
    unknown = _UnknownContigs(path, "values", lengths)
    finished: set[str | None] = set()
    contig: str | None = None
    previous_end = 0
    rows: list[tuple[int, int, float]] = []
    for number, line in _data_lines(path, "bedGraph (contig, start, end, value)"):
        fields = _split_fields(line)
        name, start, end = _parse_interval(path, number, line, fields, "bedGraph (contig, start, end, value)")
        value = _parse_value(path, number, line, fields)
        known = unknown.find(name)
        if known is None:
            continue
        name = known
        _check_end(path, number, (name, start, end), lengths)
        if contig is not None and rows and (name != contig or len(rows) == block):
            yield contig, *_columns(rows)
            rows = []
        if name != contig:
            finished.add(contig)
            contig, previous_end = name, 0
        if name in finished or start < previous_end:
            raise InputError(
                f"{path}:{number}: {name}:{start}-{end} overlaps or precedes a line before it; expected bedGraph "
                "sorted by contig and start with one value a base (sort -k1,1 -k2,2n)"
            )
        previous_end = end
        rows.append((start, end, value))
    if contig is not None and rows:
        yield contig, *_columns(rows)
    unknown.report()


class _UnknownContigs:
    """Translates the contigs of a file, and counts the rows on known and on unknown contigs."""

    _warned: set[tuple[str, int]] = set()  # noqa: RUF012  # files are read more than once; one warning is enough

    def __init__(self, path: str | Path, contents: str, lengths: Mapping[str, int]):
        self._path, self._contents, self._lengths = path, contents, lengths
        self._contigs = ContigNames(path, lengths)
        self._names: dict[str, None] = {}
        self._rows = self._unknown_rows = 0

    def find(self, name: str) -> str | None:
        """Count a row and return the genome's name of its contig; None if it is unknown."""
        self._rows += 1
        contig = self._contigs.find(name)
        if contig is None:
            self._unknown_rows += 1
            self._names[name] = None
        return contig

    def report(self) -> None:
        """Log translated contigs and rows on unknown ones; raise `InputError` if these are too many."""
        self._contigs.report()
        if not self._unknown_rows:
            return
        names, genome = format_names(self._names), format_names(self._lengths)
        if self._unknown_rows == self._rows:
            raise InputError(
                f"{self._path}: no {self._contents} on the genome's contigs: the file has {names}, the genome "
                f"{genome}; {RENAME_CONTIGS}"
            )
        counts = f"{self._unknown_rows:,} of {self._rows:,} rows are on contigs that are not in the genome ({names}"
        if self._unknown_rows > MAX_UNKNOWN_SHARE * self._rows:
            raise InputError(
                f"{self._path}: {counts}; the genome has {genome}). Rename the contigs, or leave only the rows of the "
                "genome's contigs in the file"
            )
        if (str(self._path), self._unknown_rows) not in self._warned:
            self._warned.add((str(self._path), self._unknown_rows))
            log.warning("%s: %s); these rows are left out", self._path, counts)


def _columns(rows: list[tuple[int, int, float]]) -> tuple[np.ndarray, np.ndarray]:
    starts, ends, values = zip(*rows, strict=True)
    return np.array([starts, ends], dtype=np.int64).T, np.array(values)


def _data_lines(path: str | Path, expected: str) -> Iterator[tuple[int, str]]:
    """Yield the numbered lines of a file that are neither blank nor header lines."""
    for number, line in read_lines(path, expected):
        if line.strip() and not _HEADER_LINE.match(line):
            yield number, line


def _split_fields(line: str) -> list[str]:
    return line.split("\t") if "\t" in line else line.split()


def _parse_interval(
    path: str | Path, number: int, line: str, fields: list[str], expected: str
) -> tuple[str, int, int]:
    if len(fields) < 3 or not all(_COORDINATE.fullmatch(field.strip()) for field in fields[1:3]):
        raise InputError(f"{path}:{number}: expected {expected}, found {line.strip()[:_SHOWN]!r}")
    start, end = int(fields[1]), int(fields[2])
    if not 0 <= start <= end:
        raise InputError(f"{path}:{number}: expected 0 ≤ start ≤ end, found {start} and {end}")
    return fields[0], start, end


def _parse_value(path: str | Path, number: int, line: str, fields: list[str]) -> float:
    try:
        text = fields[3]
        if not text.isascii() or "_" in text:  # Python's float would accept them
            raise ValueError(text)
        return float(text)
    except (IndexError, ValueError):
        raise InputError(
            f"{path}:{number}: expected bedGraph (contig, start, end, value), found {line.strip()[:_SHOWN]!r}"
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
