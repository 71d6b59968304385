"""Base class for writers of line-based tracks: a plain file, a bgzip file with an index, or standard output."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pysam

from zflipon.tracks.base import UNDESCRIBED
from zflipon.tracks.calling import ContigTrack
from zflipon.tracks.description import TrackDescription

LINES_PER_BLOCK = 1 << 16
"""Lines that are formatted and written together."""

_TBI_MAX_LENGTH = 1 << 29
"""Longest contig that a .tbi index supports; longer ones need .csi."""

_INDEXED_COLUMNS: dict[str, dict] = {
    "bed": {"seq_col": 0, "start_col": 1, "end_col": 2, "zerobased": True},
    "gff": {"seq_col": 0, "start_col": 3, "end_col": 4, "zerobased": False},
}
"""Format of positions → columns that tabix indexes."""


class TextTrackWriter(ABC):
    """Writes a track as lines of text; see `zflipon.tracks.base.TrackWriter`."""

    indexed_as = "bed"
    """Format of the positions, for the index of a bgzip file; a key of `_INDEXED_COLUMNS`."""

    def __init__(
        self, path: Path | None, lengths: Mapping[str, int], description: TrackDescription = UNDESCRIBED
    ):
        self._path, self.description, self.lengths = path, description, lengths
        self._bgzip = path is not None and path.suffix.lower() == ".gz"
        self._csi = max(lengths.values(), default=0) > _TBI_MAX_LENGTH
        if path is not None:
            self._file = pysam.BGZFile(str(path), "wb", None) if self._bgzip else open(path, "wb")  # noqa: SIM115
        first = self.format_track_line() if description.track_line else ""
        self._skipped_lines = 0 if first.startswith("#") else first.count("\n")
        self._write(first + (self.format_header() if description.header else ""))

    def format_track_line(self) -> str:
        """Return the first line of a UCSC custom track, empty if the format has none."""
        return ""

    def format_header(self) -> str:
        """Return the line with the names of the columns, empty if the format has none."""
        return ""

    @abstractmethod
    def format_contig(self, track: ContigTrack, calls: np.ndarray) -> Iterator[str]:
        """Yield the text of a contig, at most `LINES_PER_BLOCK` lines at a time."""

    def add(self, track: ContigTrack, calls: np.ndarray) -> None:
        """Write one contig."""
        for text in self.format_contig(track, calls):
            self._write(text)

    def _write(self, text: str) -> None:
        if self._path is None:
            sys.stdout.write(text)
        else:
            self._file.write(text.encode())

    def finish(self) -> None:
        """Close the file and, if it is a bgzip file, index it."""
        if self._path is None:
            sys.stdout.flush()
            return
        self.release()
        if self._bgzip:
            columns = _INDEXED_COLUMNS[self.indexed_as]
            pysam.tabix_index(
                str(self._path),
                force=True,
                csi=self._csi,
                line_skip=self._skipped_lines,
                meta_char="#",
                **columns,
            )

    def release(self) -> None:
        """Close the file, complete or not."""
        if self._path is not None and not self._file.closed:
            self._file.close()
