"""Files → a comparison: a table of pairs and a table of loci.

Loci are found in `zflipon.workflows.compare.loci`, correlations in `zflipon.workflows.compare.correlation`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from pathlib import Path

import numpy as np
import pandas as pd

from zflipon import __version__
from zflipon.errors import InputError
from zflipon.tracks.atomic import atomic_file
from zflipon.workflows.compare.correlation import CORRELATION_COLUMNS, correlate
from zflipon.workflows.compare.loci import OVERLAP_COLUMNS, difference_lines, find_loci, overlap_counts
from zflipon.workflows.compare.sets import read_sets

PAIR_COLUMNS = ("a", "b", *OVERLAP_COLUMNS, *CORRELATION_COLUMNS)
"""Columns of the table of pairs."""


@dataclass(frozen=True)
class Comparison:
    """Several call sets or tracks, compared.

    Attributes
    ----------
    names : list of str
    pairs : pandas.DataFrame
        One row per pair of sets: see `PAIR_COLUMNS`.
    loci : pandas.DataFrame
        One row per locus, the largest change first: see `zflipon.workflows.compare.loci.find_loci`.
    members : numpy.ndarray
        bool, shape (loci, sets): whether a set has a call in a locus.
    contigs : list of str
        Contigs in the order of the first file.
    settings : dict
        Data and settings.
    """

    names: list[str]
    pairs: pd.DataFrame
    loci: pd.DataFrame
    members: np.ndarray
    contigs: list[str]
    settings: dict[str, object]

    def write_differences(self, path: str | Path) -> int:
        """Write the loci that some sets lack as BED, sorted; return their number."""
        lines = difference_lines(self.loci, self.contigs, len(self.names))
        with atomic_file(path) as part:
            part.write_text("".join(lines), encoding="utf-8")
        return len(lines)


def compare_sets(
    paths: Sequence[str | Path],
    names: Sequence[str],
    threshold: float | None,
    progress: Callable[[int, int], object],
    contig_aliases: str | Path | None = None,
) -> Comparison:
    """Compare call sets or tracks; parameters and errors are those of `zflipon.compare`."""
    sets = read_sets(paths, names, threshold, contig_aliases)
    if not any(each.calls for each in sets) and not all(each.signal for each in sets):
        raise InputError(
            "no calls in any of the files, so there is nothing to compare; give tracks, or lower the threshold"
        )
    correlations = correlate(sets, progress)
    rows = []
    for one, other in combinations(range(len(sets)), 2):
        running = correlations.get((one, other))
        correlation = (running.bases, running.pearson, running.spearman) if running else (0, np.nan, np.nan)
        row = {"a": sets[one].name, "b": sets[other].name, **overlap_counts(sets[one], sets[other])}
        rows.append({**row, **dict(zip(CORRELATION_COLUMNS, correlation, strict=True))})
    loci, members = find_loci(sets)
    contigs = list(dict.fromkeys(chain.from_iterable([*each.lengths, *each.calls] for each in sets)))
    settings: dict[str, object] = {"zflipon": __version__, "threshold": threshold}
    for number, (each, path) in enumerate(zip(sets, paths, strict=True), 1):
        settings[f"set {number}"] = f"{each.name} ({Path(path).name})"
    pairs = pd.DataFrame(rows, columns=list(PAIR_COLUMNS))
    return Comparison([each.name for each in sets], pairs, loci, members, contigs, settings)
