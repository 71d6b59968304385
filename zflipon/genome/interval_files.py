"""Readers of interval files: BED and bedGraph.

Interval arithmetic is in `zflipon.genome.intervals`.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from zflipon.errors import InputError, format_names
from zflipon.genome.intervals import Intervals

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
    for contig, start, end, _ in read_bed_rows(path, lengths, what):
        rows.setdefault(contig, []).append((start, end))
    return {contig: np.array(sorted(rows[contig]), dtype=np.int64) for contig in lengths if contig in rows}


def read_bed_rows(
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
        f"{path}: no {what} on the genome's contigs: the file has {format_names(found)}, the genome {format_names(lengths)}; "
        "rename the contigs of one of them"
    )
