"""The repeat that overlaps each call most, from a BED file such as RepeatMasker's.

Only the rows that overlap calls are held in memory.
"""

from __future__ import annotations

from itertools import groupby, islice
from pathlib import Path

import numpy as np
import pandas as pd

from zflipon.genome.interval_files import read_bed_rows
from zflipon.genome.intervals import merge
from zflipon.genome.names import ContigNames
from zflipon.workflows.genes.calls import CallSet
from zflipon.workflows.genes.contigs import translate_contigs
from zflipon.workflows.genes.features import COLUMNS, overlapping_pairs

UNNAMED = "repeat"
"""Name of a repeat whose row has no name."""

_ROWS = 1 << 17
"""Rows compared with the calls at a time."""


def overlapping_repeats(path: str | Path, calls: CallSet) -> pd.DataFrame:
    """Return the repeat with the largest overlap for each call.

    Parameters
    ----------
    path : str or Path
        BED; the fourth column is the name.
    calls : CallSet

    Returns
    -------
    pandas.DataFrame
        One row per call: ``repeat``, empty without an overlap, and ``repeat_bases``, the number of bases that it shares
        with the call.

    Raises
    ------
    InputError
        If the file cannot be read, or has no contig of the calls.
    """
    names = ContigNames(path, calls.lengths, calls.lengths_known)
    merged = {contig: merge(rows) for contig, rows in calls.intervals.items()}
    found: list[tuple[str, int, int, str]] = []
    seen: set[str] = set()
    rows = read_bed_rows(path, None, "repeats")
    while block := list(islice(rows, _ROWS)):
        for name, group in groupby(block, key=lambda row: row[0]):
            seen.add(name)
            contig = names.find(name)
            if contig in merged:
                found += _touching(contig, list(group), merged[contig])
    translate_contigs(path, sorted(seen), calls.lengths, calls.lengths_known)  # reports what was translated
    table = pd.DataFrame(found, columns=[*COLUMNS, "repeat"])
    table["contig"] = pd.Categorical(table["contig"], list(calls.table["contig"].cat.categories))
    pairs = overlapping_pairs(calls.table, table)
    order = np.lexsort((pairs["row"], -pairs["overlap"], pairs["call"]))
    best = pairs.iloc[order].drop_duplicates("call")
    result = pd.DataFrame({"repeat": "", "repeat_bases": 0}, index=pd.RangeIndex(len(calls.table)))
    result.loc[best["call"], "repeat"] = table["repeat"].to_numpy()[best["row"]]
    result.loc[best["call"], "repeat_bases"] = best["overlap"].to_numpy()
    return result


def _touching(
    contig: str, rows: list[tuple[str, int, int, list[str]]], merged: np.ndarray
) -> list[tuple[str, int, int, str]]:
    """Return the rows of one contig that overlap merged calls."""
    start, end = (np.array([row[column] for row in rows]) for column in (1, 2))
    first = np.searchsorted(merged[:, 1], start, side="right")
    last = np.searchsorted(merged[:, 0], end, side="left")
    chosen = np.flatnonzero((first < last) & (start < end))
    return [
        (contig, rows[number][1], rows[number][2], rows[number][3][0] if rows[number][3] else UNNAMED)
        for number in chosen.tolist()
    ]
