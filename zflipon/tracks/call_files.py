"""Files of calls, read into arrays with their probabilities: BED, narrowPeak, bigBed.

All calls of a file are held in memory. As a track of scores, a BED file is read by `zflipon.tracks.bed`.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyBigWig

from zflipon.errors import InputError, format_names
from zflipon.genome.interval_files import read_bed_rows
from zflipon.genome.names import RENAME_CONTIGS, ContigNames
from zflipon.tracks.bigbed import MAGIC
from zflipon.tracks.bigwig_structure import check_bigbed
from zflipon.tracks.calling import CALL_DTYPE
from zflipon.tracks.registry import NARROWPEAK

BIGBED_EXTENSIONS = (".bb", ".bigbed")


def call_intervals(calls: np.ndarray) -> np.ndarray:
    """Return starts and ends of calls: int64, shape (n, 2)."""
    return np.stack([calls["start"], calls["end"]], axis=1)


def read_calls(path: Path, lengths: Mapping[str, int] | None) -> dict[str, np.ndarray]:
    """Read the calls of a BED, narrowPeak or bigBed file.

    Parameters
    ----------
    path : Path
    lengths : mapping of str to int, optional
        The genome's contigs and their lengths; without them, the contigs of the file are returned in its order and
        their ends are not checked.

    Columns 10 and 11 are the mean and the highest probability, as annotate writes them. Without these columns, the
    score (column 5, in thousandths) is used for both; without a score, and in narrowPeak files, whose scores are not
    probabilities, both are NaN.

    Returns
    -------
    dict of str to numpy.ndarray
        Contig → `zflipon.tracks.calling.CALL_DTYPE`, sorted; contigs without calls are absent.

    Raises
    ------
    InputError
        If the file is malformed, or a score is not a probability.
    """
    is_peaks = NARROWPEAK.matches(path)
    columns: dict[str, tuple[array, array]] = {}
    rows = read_bigbed_rows(path, lengths) if is_bigbed(path) else read_bed_rows(path, lengths, "calls")
    for contig, start, end, rest in rows:
        if start == end:
            continue
        positions, scores = columns.setdefault(contig, (array("q"), array("d")))
        positions.extend((start, end))
        scores.extend((math.nan, math.nan) if is_peaks else _read_scores(path, contig, start, rest))
    calls = {}
    for contig in columns if lengths is None else lengths:
        if contig in columns:
            positions, scores = (
                np.frombuffer(column, column.typecode).reshape(-1, 2) for column in columns[contig]
            )
            table = np.empty(len(positions), dtype=CALL_DTYPE)
            table["start"], table["end"] = positions.T
            table["mean"], table["max"] = scores.T
            calls[contig] = np.sort(table, order=("start", "end"))
    return calls


def is_bigbed(path: str | Path) -> bool:
    """Return whether a file name has an extension of bigBed, in any case."""
    return Path(path).name.lower().endswith(BIGBED_EXTENSIONS)


def bigbed_lengths(path: str | Path) -> dict[str, int]:
    """Return contig → length of a bigBed, as the file states it; raise `InputError` if the file is not a bigBed."""
    with _open_bigbed(path) as file:
        return dict(file.chroms())


def read_bigbed_rows(
    path: str | Path, lengths: Mapping[str, int] | None = None
) -> Iterator[tuple[str, int, int, list[str]]]:
    """Yield the rows of a bigBed, as `zflipon.genome.interval_files.read_bed_rows` yields those of a BED file.

    Raises
    ------
    InputError
        If the file is not a bigBed or incomplete, no contig of it is in `lengths`, or one has another length there.
    """
    with _open_bigbed(path) as file:
        own = dict(file.chroms())
        names = {name: name for name in own} if lengths is None else _bigbed_names(path, own, lengths)
        for contig, name in names.items():
            try:
                entries = file.entries(name, 0, own[name]) or ()
            except RuntimeError as error:
                raise InputError(f"{path}: {name} cannot be read; is the file complete?") from error
            for start, end, rest in entries:
                yield contig, start, end, rest.split("\t") if rest else []


def _bigbed_names(path: str | Path, own: Mapping[str, int], lengths: Mapping[str, int]) -> dict[str, str]:
    """Return contig of the genome → its name in a bigBed; raise `InputError` if they do not match."""
    contigs = ContigNames(path, lengths)
    names = {
        contig: name for name, length in own.items() if (contig := contigs.find(name, length)) is not None
    }
    if not names:
        raise InputError(
            f"{path}: no calls on the genome's contigs: the file has {format_names(own)}, the genome "
            f"{format_names(lengths)}; {RENAME_CONTIGS}"
        )
    contigs.report()
    for contig, name in names.items():
        if lengths[contig] != own[name]:
            raise InputError(
                f"{path}: {name} has {own[name]} bases, in the genome {lengths[contig]}; are both of the same "
                "assembly?"
            )
    return {contig: names[contig] for contig in lengths if contig in names}


def _open_bigbed(path: str | Path):
    """Open a bigBed; the result is a context manager."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: not a regular file" if path.exists() else f"{path}: no such file")
    with open(path, "rb") as start:
        if start.read(4) == MAGIC.to_bytes(4, "little"):  # libBigWig trusts offsets and crashes on wrong ones
            check_bigbed(path, MAGIC)
    try:
        file = pyBigWig.open(str(path))
    except (RuntimeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as bigBed; is the file complete?") from error
    if not file.isBigBed():
        raise InputError(f"{path}: not a bigBed file; name it by its format")
    return file


def _read_scores(path: Path, contig: str, start: int, rest: Sequence[str]) -> tuple[float, float]:
    """Return mean and highest probability from the columns after the third."""
    try:
        if len(rest) >= 8:
            mean, highest = float(rest[6]), float(rest[7])
        elif len(rest) >= 2:
            mean = highest = float(rest[1]) / 1000
        else:
            return math.nan, math.nan
    except ValueError:
        mean = highest = math.nan
    if not (0 <= mean <= 1 and 0 <= highest <= 1):
        raise InputError(
            f"{path}: the call at {contig}:{start + 1} has neither probabilities in columns 10 and 11 nor a score "
            "from 0 to 1000 in column 5. Give a BED file of annotate, or one with three or four columns"
        )
    return mean, highest
