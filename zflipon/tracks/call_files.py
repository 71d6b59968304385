"""Files of calls, read into arrays with their probabilities: BED, narrowPeak.

All calls of a file are held in memory. As a track of scores, a BED file is read by `zflipon.tracks.bed`.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from zflipon.errors import InputError
from zflipon.genome.interval_files import read_bed_rows
from zflipon.tracks.calling import CALL_DTYPE
from zflipon.tracks.registry import NARROWPEAK


def call_intervals(calls: np.ndarray) -> np.ndarray:
    """Return starts and ends of calls: int64, shape (n, 2)."""
    return np.stack([calls["start"], calls["end"]], axis=1)


def read_calls(path: Path, lengths: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Read the calls of a BED file.

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
    for contig, start, end, rest in read_bed_rows(path, lengths, "calls"):
        if start == end:
            continue
        positions, scores = columns.setdefault(contig, (array("q"), array("d")))
        positions.extend((start, end))
        scores.extend((math.nan, math.nan) if is_peaks else _read_scores(path, contig, start, rest))
    calls = {}
    for contig in lengths:
        if contig in columns:
            positions, scores = (
                np.frombuffer(column, column.typecode).reshape(-1, 2) for column in columns[contig]
            )
            table = np.empty(len(positions), dtype=CALL_DTYPE)
            table["start"], table["end"] = positions.T
            table["mean"], table["max"] = scores.T
            calls[contig] = np.sort(table, order=("start", "end"))
    return calls


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
