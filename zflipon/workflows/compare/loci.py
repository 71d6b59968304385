"""Loci of several call sets: overlapping calls of all sets, merged; who has them, and how much they change.

The numbers of shared calls of two sets are here, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import pandas as pd

from zflipon.genome.intervals import merge
from zflipon.tracks.call_files import call_intervals
from zflipon.workflows.compare.sets import ComparedSet

LOCUS_COLUMNS = ("contig", "start", "end", "sets", "called_in", "change")
"""Columns of a locus; one column with the highest value follows for each set."""

OVERLAP_COLUMNS = (
    *("calls_a", "calls_b", "shared_a", "shared_b", "unique_a", "unique_b"),
    *("bases_a", "bases_b", "bases_both", "jaccard"),
)
"""Columns of the overlap of two sets."""

SEPARATOR = "+"
"""Between the names of the sets that have a locus."""


def overlap_counts(first: ComparedSet, second: ComparedSet) -> dict[str, float]:
    """Return `OVERLAP_COLUMNS` of two sets: calls that share a base with a call of the other set, and bases."""
    shared_a = shared_b = bases_a = bases_b = union = 0
    for contig in dict.fromkeys(chain(first.calls, second.calls)):
        one, other = (
            call_intervals(each.calls[contig]) if contig in each.calls else np.empty((0, 2), dtype=np.int64)
            for each in (first, second)
        )
        shared_a += int(_touches(one, merge(other)).sum())
        shared_b += int(_touches(other, merge(one)).sum())
        both = np.concatenate([one, other])
        bases_a, bases_b, union = (
            total + int(np.diff(merge(_sorted(rows))).sum())
            for total, rows in ((bases_a, one), (bases_b, other), (union, both))
        )
    calls_a, calls_b = (sum(map(len, each.calls.values())) for each in (first, second))
    counts = (
        *(calls_a, calls_b, shared_a, shared_b, calls_a - shared_a, calls_b - shared_b),
        *(
            bases_a,
            bases_b,
            bases_a + bases_b - union,
            (bases_a + bases_b - union) / union if union else np.nan,
        ),
    )
    return dict(zip(OVERLAP_COLUMNS, counts, strict=True))


def _touches(intervals: np.ndarray, merged: np.ndarray) -> np.ndarray:
    """Return which intervals share a base with sorted and disjoint ones: bool, shape (n,)."""
    first = np.searchsorted(merged[:, 1], intervals[:, 0], side="right")
    last = np.searchsorted(merged[:, 0], intervals[:, 1], side="left")
    return first < last


def find_loci(sets: Sequence[ComparedSet]) -> tuple[pd.DataFrame, np.ndarray]:
    """Merge the calls of all sets to loci.

    Returns
    -------
    pandas.DataFrame
        `LOCUS_COLUMNS` and one column for each set: its highest value in the locus if it is a bigWig, else the highest
        score of its calls (1 without scores), NaN without a call. ``change`` is the value of the second set minus that
        of the first; of more than two sets, the highest minus the lowest value. NaN counts as 0. The largest change
        comes first.
    numpy.ndarray
        bool, shape (loci, sets): whether a set has a call there, in the order of the table.
    """
    tables, members = [], []
    for contig in dict.fromkeys(chain.from_iterable(each.calls for each in sets)):
        rows = [call_intervals(each.calls[contig]) for each in sets if contig in each.calls]
        merged = merge(_sorted(np.concatenate(rows)))
        called = np.zeros((len(merged), len(sets)), dtype=bool)
        values = np.full((len(merged), len(sets)), np.nan)
        for number, each in enumerate(sets):
            called[:, number], values[:, number] = _of_set(each, contig, merged)
        tables.append(
            pd.DataFrame({"contig": contig, "start": merged[:, 0], "end": merged[:, 1]}).join(_frame(values))
        )
        members.append(called)
    if not tables:
        empty = pd.DataFrame(columns=[*LOCUS_COLUMNS, *(each.name for each in sets)])
        return empty, np.zeros((0, len(sets)), dtype=bool)
    table, called = pd.concat(tables, ignore_index=True), np.concatenate(members)
    values = table[list(range(len(sets)))].to_numpy(dtype=float)
    known = np.nan_to_num(values)
    change = known[:, 1] - known[:, 0] if len(sets) == 2 else known.max(axis=1) - known.min(axis=1)
    names = np.array([each.name for each in sets], dtype=object)
    table["sets"] = called.sum(axis=1)
    table["called_in"] = [SEPARATOR.join(names[row]) for row in called]
    table["change"] = change
    order = np.argsort(-np.abs(change), kind="stable")
    table = table.rename(columns=dict(enumerate(names)))[[*LOCUS_COLUMNS, *names]]
    return table.iloc[order].reset_index(drop=True), called[order]


def _frame(values: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(values, columns=list(range(values.shape[1])))


def _sorted(intervals: np.ndarray) -> np.ndarray:
    return intervals[np.argsort(intervals[:, 0], kind="stable")]


def _of_set(each: ComparedSet, contig: str, loci: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return whether a set has a call in each locus, and its highest value there."""
    called, values = np.zeros(len(loci), dtype=bool), np.full(len(loci), np.nan)
    rows = each.calls.get(contig)
    if rows is not None:
        locus = np.searchsorted(loci[:, 0], rows["start"], side="right") - 1
        called[locus] = True
        if each.signal is None:
            scores = rows["max"] if each.scored else np.ones(len(rows))
            values[called] = -np.inf
            np.maximum.at(values, locus, scores)
    if each.signal is not None and contig in each.own_names:
        for number, (start, end) in enumerate(loci.tolist()):
            found = each.values(contig, start, min(end, each.lengths[contig]))
            if not np.isnan(found).all():
                values[number] = np.nanmax(found)
    return called, values


def difference_lines(loci: pd.DataFrame, contigs: Sequence[str], sets: int) -> list[str]:
    """Return BED lines of the loci that some sets lack: name is who has them, score the change in thousandths."""
    table = loci[loci["sets"] < sets]
    order = np.lexsort((table["start"], pd.Index(contigs).get_indexer(table["contig"])))
    return [
        f"{contig}\t{start}\t{end}\t{'_'.join(name.split())}\t{round(min(abs(change), 1) * 1000)}\t.\n"
        for contig, start, end, name, change in table.iloc[order][
            ["contig", "start", "end", "called_in", "change"]
        ].itertuples(index=False)
    ]
