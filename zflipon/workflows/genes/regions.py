"""Summaries of regions: the highest and mean value of a track, the calls, and the share of bases that they cover.

Regions may overlap and may be in any order; their order is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from zflipon.errors import InputError
from zflipon.genome.fasta import Genome
from zflipon.genome.interval_files import read_bed_rows
from zflipon.genome.intervals import count_covered, merge
from zflipon.genome.names import ContigLengths, read_aliases
from zflipon.tracks.registry import BIGWIG
from zflipon.tracks.signal import SignalFile
from zflipon.workflows.genes.calls import CallSet, file_lengths, read_call_set
from zflipon.workflows.genes.contigs import check_lengths, translate_contigs

REGION_COLUMNS = ("contig", "start", "end", "name", "max", "mean", "calls", "called_bases", "called_share")
"""Columns of the table of regions."""

_COUNTS = ("calls", "called_bases", "called_share")


@dataclass(frozen=True)
class _Regions:
    """Regions of a BED file, in its order."""

    contigs: list[str]
    intervals: np.ndarray
    names: list[str]
    lines: dict[str, np.ndarray]  # contig → numbers of its regions


def summarize_regions(
    calls: str | Path,
    regions: str | Path,
    genome: str | Path | None = None,
    threshold: float | None = None,
    contig_aliases: str | Path | None = None,
) -> pd.DataFrame:
    """Summarize a track or calls in regions; parameters are those of `zflipon.summarize_regions`.

    Returns
    -------
    pandas.DataFrame
        `REGION_COLUMNS`, one row per region.
    """
    path = Path(calls)
    aliases = read_aliases(contig_aliases) if contig_aliases is not None else ()
    lengths = None
    if genome is not None:
        with Genome(genome) as source:
            lengths = ContigLengths(source.lengths, aliases)
    is_track = BIGWIG.matches(path)
    signal = SignalFile(path, lengths) if is_track else None
    call_set = None
    if signal is None or signal.is_probability:
        call_set = read_call_set(path, lengths, threshold, allow_empty=True, aliases=aliases)
    known = call_set.lengths if call_set else ContigLengths(lengths or file_lengths(path), aliases)
    chosen = _read_regions(Path(regions), known, call_set is None or call_set.lengths_known)
    table = pd.DataFrame(
        {"contig": chosen.contigs, "start": chosen.intervals[:, 0], "end": chosen.intervals[:, 1]}
    )
    table["name"] = chosen.names
    counts = (
        _count_calls(chosen, call_set) if call_set else pd.DataFrame(index=table.index, columns=list(_COUNTS))
    )
    if signal is not None:
        counts[["max", "mean"]] = _track_values(chosen, signal)
    return table.join(counts).loc[:, list(REGION_COLUMNS)]


def _read_regions(path: Path, lengths: dict[str, int], lengths_known: bool) -> _Regions:
    rows = [
        (contig, start, end, rest[0] if rest else "")
        for contig, start, end, rest in read_bed_rows(path, None, "regions")
    ]
    if not rows:
        raise InputError(f"{path}: no regions; expected BED (contig, start, end)")
    known = translate_contigs(path, dict.fromkeys(row[0] for row in rows), lengths, lengths_known)
    contigs = [known.get(row[0], row[0]) for row in rows]
    intervals = np.array([row[1:3] for row in rows], dtype=np.int64)
    lines = {str(contig): numbers for contig, numbers in pd.Series(contigs).groupby(contigs).indices.items()}
    if lengths_known:
        ends = {contig: int(intervals[numbers, 1].max()) for contig, numbers in lines.items()}
        check_lengths(path, ends, lengths)
    return _Regions(contigs, intervals, [row[3] for row in rows], lines)


def _count_calls(regions: _Regions, calls: CallSet) -> pd.DataFrame:
    """Return, for each region, the calls that overlap it and what they cover; scores are weighted by bases."""
    number = len(regions.contigs)
    counts, covered = np.zeros(number, dtype=np.int64), np.zeros(number, dtype=np.int64)
    highest, mean = np.full(number, np.nan), np.full(number, np.nan)
    by_contig = {str(name): rows for name, rows in calls.table.groupby("contig", observed=True)}
    for contig, numbers in regions.lines.items():
        if contig not in by_contig:
            continue
        rows = by_contig[contig].sort_values(["start", "end"])
        start, end = rows["start"].to_numpy(), rows["end"].to_numpy()
        merged = merge(np.stack([start, end], axis=1))
        latest = np.maximum.accumulate(end)
        for region in numbers.tolist():
            low, high = regions.intervals[region]
            first, last = (
                np.searchsorted(latest, low, side="right"),
                np.searchsorted(start, high, side="left"),
            )
            touching = np.arange(first, last)
            touching = touching[end[touching] > low]
            counts[region] = len(touching)
            covered[region] = int(count_covered(merged, np.array([low, high]))[0])
            if len(touching):
                bases = np.minimum(end[touching], high) - np.maximum(start[touching], low)
                highest[region] = rows["max"].to_numpy()[touching].max()
                mean[region] = np.average(rows["mean"].to_numpy()[touching], weights=bases)
    size = np.diff(regions.intervals).ravel()
    share = covered / np.where(size, size, 1)
    return pd.DataFrame(
        {**dict(zip(_COUNTS, (counts, covered, share), strict=True)), "max": highest, "mean": mean}
    )


def _track_values(regions: _Regions, signal: SignalFile) -> np.ndarray:
    """Return the highest and the mean value of each region, over the bases with a value; NaN without any."""
    values = np.full((len(regions.contigs), 2), np.nan)
    for contig, numbers in regions.lines.items():
        for region in numbers.tolist():
            start, end = map(int, regions.intervals[region])
            found = signal.values(contig, start, end) if end > start else np.empty(0)
            found = found[~np.isnan(found)]
            if len(found):
                values[region] = found.max(), found.mean(dtype=np.float64)
    return values
