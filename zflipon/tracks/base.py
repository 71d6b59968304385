"""What all track formats share: the reader and writer interfaces and helpers for arrays of scores.

Each format is a module (`bigwig`, `bedgraph`, `bed`); `registry` lists them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from zflipon.tracks.atomic import atomic_file, raise_output_errors
from zflipon.tracks.calling import ContigTrack
from zflipon.tracks.description import TrackDescription

STDOUT = "-"
"""Output name for BED on standard output."""

UNDESCRIBED = TrackDescription()
"""Description of a track that states nothing about itself."""

Chunk = tuple[str, int, np.ndarray]
"""Contig, start, and the scores of the bases from there on: float32, finite, 0 where the track has no value."""

_MAX_SCORE = np.finfo(np.float32).max


class TrackReader(Protocol):
    """Reader of one track file.

    Parameters
    ----------
    path : Path
    lengths : mapping of str to int
        The genome's contigs and their lengths.

    Attributes
    ----------
    scored : bool
        Whether the format holds a score per base; False for plain calls.
    """

    scored: bool

    def __init__(self, path: Path, lengths: Mapping[str, int]): ...

    def chunks(self, lengths: Mapping[str, int], size: int) -> Iterator[Chunk]:
        """Yield the scores of whole contigs, at most `size` bases at a time."""
        ...


class TrackWriter(Protocol):
    """Writer of one track file.

    Parameters
    ----------
    path : Path or None
        None writes to standard output.
    lengths : mapping of str to int
        The genome's contigs and their lengths, in the order in which they will be added.
    description : TrackDescription
    """

    def __init__(self, path: Path | None, lengths: Mapping[str, int], description: TrackDescription, /): ...

    def add(self, track: ContigTrack, calls: np.ndarray, /) -> None:
        """Write one contig."""

    def finish(self) -> None:
        """Complete the file."""

    def release(self) -> None:
        """Close the file, complete or not."""


Writer = TypeVar("Writer", bound=TrackWriter)


@contextmanager
def open_writer(
    output: str,
    writer: type[Writer],
    lengths: Mapping[str, int],
    description: TrackDescription = UNDESCRIBED,
) -> Iterator[Writer]:
    """Open a writer under a temporary name; the file gets its final name when the block succeeds."""
    with nullcontext() if output == STDOUT else atomic_file(output) as part, raise_output_errors(output):
        # the file exists: pyBigWig and pysam crash if they cannot create it
        opened = writer(part, lengths, description)
        try:
            yield opened
        finally:  # after an error, a second error from closing would only hide the first
            with suppress(OSError):
                opened.release()


def split_contigs(lengths: Mapping[str, int], size: int) -> Iterator[tuple[str, int, int]]:
    """Yield contig, start and end of consecutive spans of at most `size` bases."""
    for contig, length in lengths.items():
        for start in range(0, length, size):
            yield contig, start, min(start + size, length)


def paint_intervals(scores: np.ndarray, intervals: np.ndarray, values: np.ndarray) -> None:
    """Write the values of sorted, disjoint intervals into an array of base scores, in place.

    Parameters
    ----------
    scores : numpy.ndarray
        Floating, shape (bases,).
    intervals : numpy.ndarray
        int64, shape (n, 2), relative to the array's first base; parts outside of the array are ignored.
    values : numpy.ndarray
        Shape (n,). NaN is written as 0, infinity as the largest float32.
    """
    first = np.searchsorted(intervals[:, 1], 0, side="right")
    last = np.searchsorted(intervals[:, 0], len(scores), side="left")
    starts, ends = intervals[first:last].clip(0, len(scores)).T
    widths = ends - starts
    offsets = np.arange(widths.sum()) - np.repeat(np.cumsum(widths) - widths, widths)
    finite = np.nan_to_num(values[first:last]).clip(-_MAX_SCORE, _MAX_SCORE)
    scores[np.repeat(starts, widths) + offsets] = np.repeat(finite, widths)
