"""Zoom levels of a bigWig: summaries of its values in bins of growing size, computed block by block.

A run of equal values that covers whole bins is one summary, so that tracks with few values stay small.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from zflipon.tracks.bigwig_layout import ZOOM_DTYPE

MAX_LEVELS = 10
"""Largest number of zoom levels, as in UCSC's programs."""

FIRST_BIN = 10
"""Size of the first level's bins, in mean lengths of an entry, as in UCSC's programs."""

NEXT_BIN = 4
"""Bins of the level before that make a bin of the next level, as in UCSC's programs."""

_SUM_DTYPE = np.dtype(
    [(name, "<f8" if name in ("sum", "square") else ZOOM_DTYPE[name]) for name in ZOOM_DTYPE.names or ()]
)


def bin_sizes(entries: int, bases: int, longest: int) -> list[int]:
    """Return the bin size of each zoom level, in bases.

    Parameters
    ----------
    entries, bases : int
        Entries of the file, and bases that they cover.
    longest : int
        Length of the longest contig. A level whose bins are longer is left out.
    """
    if not entries:
        return []
    first = FIRST_BIN * -(-bases // entries)
    sizes = [first * NEXT_BIN**level for level in range(MAX_LEVELS)]
    return [size for size in sizes if size < longest]


def summarize_entries(contig: int, entries: np.ndarray) -> np.ndarray:
    """Return entries of one contig (`ENTRY_DTYPE`) as summaries of one run each."""
    summaries = np.empty(len(entries), dtype=_SUM_DTYPE)
    summaries["contig"] = contig
    for name in ("start", "end"):
        summaries[name] = entries[name]
    widths, values = entries["end"] - entries["start"], entries["value"].astype(np.float64)
    summaries["valid"] = widths
    summaries["minimum"] = summaries["maximum"] = entries["value"]
    summaries["sum"], summaries["square"] = widths * values, widths * values**2
    return summaries


def merge_bins(summaries: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Merge summaries that lie in the same bin.

    Parameters
    ----------
    summaries : iterable of numpy.ndarray
        `ZOOM_DTYPE`, or what `summarize_entries` returns: in order. Those of more than one bin have one value.
    size : int
        Bases of a bin.

    Yields
    ------
    numpy.ndarray
        `ZOOM_DTYPE`, in order.
    """
    last = np.empty(0, dtype=_SUM_DTYPE)  # the next array may continue it
    for block in summaries:
        merged = _merge(np.concatenate([last, block.astype(_SUM_DTYPE)]), size)
        last = merged[-1:]
        yield merged[:-1].astype(ZOOM_DTYPE)
    yield last.astype(ZOOM_DTYPE)


def _merge(summaries: np.ndarray, size: int) -> np.ndarray:
    pieces = _split(summaries, size)
    if not len(pieces):
        return pieces
    bins = pieces["start"] // size
    first = np.flatnonzero(
        np.r_[True, (np.diff(bins.astype(np.int64)) != 0) | (pieces["contig"][1:] != pieces["contig"][:-1])]
    )
    merged = pieces[first]
    merged["end"] = pieces["end"][np.r_[first[1:], len(pieces)] - 1]
    for name in ("valid", "sum", "square"):
        merged[name] = np.add.reduceat(pieces[name], first)
    merged["minimum"] = np.minimum.reduceat(pieces["minimum"], first)
    merged["maximum"] = np.maximum.reduceat(pieces["maximum"], first)
    return merged


def _split(summaries: np.ndarray, size: int) -> np.ndarray:
    """Divide summaries of more than one bin into the ends in a partial bin and the whole bins between them."""
    start, end = summaries["start"].astype(np.int64), summaries["end"].astype(np.int64)
    whole_start = np.minimum(-(-start // size) * size, end)
    whole_end = np.maximum(end // size * size, whole_start)
    starts = np.stack([start, whole_start, whole_end], axis=1)
    ends = np.stack([whole_start, whole_end, end], axis=1)
    row, column = np.nonzero(ends > starts)
    pieces = summaries[row]
    share = (ends - starts)[row, column] / (end - start)[row]
    pieces["start"], pieces["end"] = starts[row, column], ends[row, column]
    for name in ("valid", "sum", "square"):
        pieces[name] = np.rint(pieces[name] * share) if name == "valid" else pieces[name] * share
    return pieces
