"""Readers of omics tracks: one number x per base, by the kind of the track.

- ``binary``: 1 inside an interval (or where a height is above 0), else 0;
- ``signal``: log(1 + height), for heights of bigWig or bedGraph; negative heights count as 0;
- ``distance``: log2(1 + bases to the nearest interval of a BED file), at most that of `MAX_DISTANCE`.

BED and bedGraph files are held in memory as intervals; of a bigWig only the requested parts are read. Scaling for a
model is in `zflipon.omics.features`.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from zflipon.errors import InputError
from zflipon.genome.interval_files import read_bed, read_bedgraph
from zflipon.genome.intervals import Intervals, count_covered, merge, merged_interval_mask
from zflipon.omics.spec import TrackEntry
from zflipon.tracks.base import paint_intervals
from zflipon.tracks.bigwig import BigWigReader
from zflipon.tracks.registry import BIGWIG, INTERVAL_FORMATS, require_format

MAX_DISTANCE = 1 << 20
"""Bases beyond which the distance to an interval makes no difference."""


class OmicsReader(ABC):
    """Reads x of one track; see the module."""

    @abstractmethod
    def read(self, contig: str, start: int, end: int) -> np.ndarray:
        """Return x of ``contig[start:end]``: float32, shape (end - start,)."""

    def sums(self, contig: str, edges: np.ndarray) -> np.ndarray:
        """Return the sums of x between consecutive edges: float64, shape (edges - 1,)."""
        return sum_between(self.read(contig, int(edges[0]), int(edges[-1])), edges)


def sum_between(x: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the sums between consecutive edges of values that begin at the first edge: float64, which is exact."""
    total = np.concatenate([[0.0], np.cumsum(x, dtype=np.float64)])
    return np.diff(total[edges - edges[0]])


class BinaryReader(OmicsReader):
    """Reads 1 inside the intervals of a BED file, else 0."""

    def __init__(self, intervals: Intervals):
        self._intervals = {contig: merge(rows) for contig, rows in intervals.items()}

    def read(self, contig: str, start: int, end: int) -> np.ndarray:
        """Return x of ``contig[start:end]``: float32, shape (end - start,)."""
        return merged_interval_mask(self._intervals.get(contig), start, end).astype(np.float32)

    def sums(self, contig: str, edges: np.ndarray) -> np.ndarray:
        """Return the covered bases between consecutive edges, without reading single bases."""
        return count_covered(self._intervals.get(contig), edges).astype(np.float64)


class DistanceReader(OmicsReader):
    """Reads the distance to the nearest interval of a BED file."""

    def __init__(self, intervals: Intervals):
        self._intervals = {contig: merge(rows) for contig, rows in intervals.items()}

    def read(self, contig: str, start: int, end: int) -> np.ndarray:
        """Return x of ``contig[start:end]``: float32, shape (end - start,)."""
        positions, distance = np.arange(start, end), np.full(end - start, MAX_DISTANCE)
        rows = self._intervals.get(contig)
        if rows is not None and len(rows):
            following = np.searchsorted(
                rows[:, 1], positions, side="right"
            )  # the first that ends after a position
            next_start = rows[np.minimum(following, len(rows) - 1), 0]
            to_next = np.where(following < len(rows), next_start - positions, MAX_DISTANCE)
            previous_end = rows[np.maximum(following, 1) - 1, 1]
            to_previous = np.where(following > 0, positions - previous_end + 1, MAX_DISTANCE)
            distance = np.minimum(np.maximum(to_next, 0), to_previous).clip(max=MAX_DISTANCE)
        return np.log2(1 + distance).astype(np.float32)


class BedGraphHeightReader(OmicsReader):
    """Reads the heights of a bedGraph: for ``signal`` their logarithm, for ``binary`` whether they are above 0."""

    def __init__(self, path: Path, lengths: Mapping[str, int], kind: str):
        self._kind = kind
        blocks: dict[str, list] = {}
        for contig, intervals, values in read_bedgraph(path, lengths):
            blocks.setdefault(contig, []).append((intervals.astype(np.int32), values.astype(np.float32)))
        self._contigs = {
            contig: tuple(map(np.concatenate, zip(*parts, strict=True))) for contig, parts in blocks.items()
        }

    def read(self, contig: str, start: int, end: int) -> np.ndarray:
        """Return x of ``contig[start:end]``: float32, shape (end - start,)."""
        heights = np.zeros(end - start, dtype=np.float32)
        if contig in self._contigs:
            intervals, values = self._contigs[contig]
            paint_intervals(heights, intervals - start, values)
        return _transform_heights(heights, self._kind)


class BigWigHeightReader(OmicsReader):
    """Reads the heights of a bigWig like `BedGraphHeightReader`, on demand; each process opens the file itself."""

    def __init__(self, path: Path, lengths: Mapping[str, int], kind: str):
        self._path, self._lengths, self._kind = path, lengths, kind
        self._opened: tuple[int, BigWigReader] = (os.getpid(), BigWigReader(path, lengths))

    def read(self, contig: str, start: int, end: int) -> np.ndarray:
        """Return x of ``contig[start:end]``: float32, shape (end - start,)."""
        if (
            self._opened[0] != os.getpid()
        ):  # processes that share a file handle after a fork would mix their reads
            self._opened = (os.getpid(), BigWigReader(self._path, self._lengths))
        return _transform_heights(self._opened[1].scores(contig, start, end), self._kind)


def _transform_heights(heights: np.ndarray, kind: str) -> np.ndarray:
    return (heights > 0).astype(np.float32) if kind == "binary" else np.log1p(heights.clip(min=0))


def open_reader(track: TrackEntry, lengths: Mapping[str, int]) -> OmicsReader:
    """Open a track by its kind and the extension of its file.

    Raises
    ------
    InputError
        If the file's format has no values of this kind, or the file cannot be used.
    """
    track_format = require_format(track.path)
    if track_format in INTERVAL_FORMATS and track.kind != "signal":
        reader = BinaryReader if track.kind == "binary" else DistanceReader
        return reader(read_bed(track.path, lengths, f"intervals of {track.name}"))
    if track_format in INTERVAL_FORMATS or track.kind == "distance":
        expected = "bigWig or bedGraph" if track.kind == "signal" else "BED"
        raise InputError(f"{track.path}: track '{track.name}' of kind '{track.kind}' must be {expected}")
    reader = BigWigHeightReader if track_format is BIGWIG else BedGraphHeightReader
    return reader(track.path, lengths, str(track.kind))
