"""Tables that a bundle offers for download: columns → TSV, and the table of a run's calls.

Tables that need pandas are written by `zflipon.workflows.table_files`.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zflipon.config import PROBABILITY_DECIMALS
from zflipon.errors import printable
from zflipon.genome.alternation import class_and_gc
from zflipon.genome.fasta import Genome
from zflipon.report.calls import RunSummary

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class CallTable:
    """The calls of a run, one row each, in the order of the genome.

    Attributes
    ----------
    columns : dict of str to sequence
        Name → values of shape (calls,).
    rows : dict of str to (int, int)
        Contig → the row of its first call, and one past that of its last one.
    """

    columns: dict[str, Sequence[Any]]
    rows: dict[str, tuple[int, int]]

    @classmethod
    def of_summary(cls, summary: RunSummary) -> CallTable:
        """Make a table of contig, start, end and length, and of the probabilities if the calls have them."""
        rows = np.concatenate(list(summary.calls.values()))
        contigs = [contig for contig, calls in summary.calls.items() for _ in range(len(calls))]
        columns: dict[str, Sequence[Any]] = {
            "contig": contigs,
            "start": rows["start"].tolist(),
            "end": rows["end"].tolist(),
            "length": (rows["end"] - rows["start"]).tolist(),
        }
        if summary.scored:
            for name in ("mean", "max"):
                columns[name] = np.round(rows[name], PROBABILITY_DECIMALS).tolist()
        edges = np.cumsum([0, *map(len, summary.calls.values())]).tolist()
        return cls(columns, dict(zip(summary.calls, pairwise(edges), strict=True)))

    def __len__(self) -> int:
        return len(self.columns["contig"])

    def add_sequences(self, genome: Genome) -> None:
        """Add class, share of G and C, and sequence of each call."""
        places = zip(*(self.columns[name] for name in ("contig", "start", "end")), strict=True)
        sequences = [genome.fetch(contig, start, end) for contig, start, end in places]
        classes, shares = zip(*map(class_and_gc, sequences), strict=True)
        self.columns |= {"class": classes, "gc": shares, "sequence": sequences}

    def add_columns(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Add columns of shape (calls,)."""
        self.columns |= columns

    def row_of(self, contig: str, start: int, end: int) -> dict[str, Any]:
        """Return the values of a call, by column."""
        number = bisect_left(self.columns["start"], start, *self.rows[contig])
        while self.columns["end"][number] != end:  # calls of other programs may share a start
            number += 1
        return {name: values[number] for name, values in self.columns.items()}


def frame_columns(table: pd.DataFrame) -> dict[str, list]:
    """Return the columns of a data frame as lists; missing values are None."""
    plain = table.astype(object).where(table.notna(), None)
    return {str(name): plain[name].tolist() for name in plain}


def write_columns(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Write columns as TSV: names in the first line, six significant digits, missing values empty."""
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write("\t".join(columns) + "\n")
        for row in zip(*columns.values(), strict=True):
            file.write("\t".join(map(_cell, row)) + "\n")


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return printable(value)
