"""Base class for writers of line-based tracks: a plain file, a bgzip file with an index, or standard output."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pysam

from zflipon.tracks.calling import ContigTrack

LINES_PER_BLOCK = 1 << 16
"""Lines that are formatted and written together."""

_TBI_MAX_LENGTH = 1 << 29
"""Longest contig that a .tbi index supports; longer ones need .csi."""


class TextTrackWriter(ABC):
    """Writes a track as lines of text; see `zflipon.tracks.base.TrackWriter`."""

    def __init__(self, path: Path | None, lengths: Mapping[str, int]):
        self._path = path
        self._bgzip = path is not None and path.suffix.lower() == ".gz"
        self._csi = max(lengths.values(), default=0) > _TBI_MAX_LENGTH
        if path is not None:
            self._file = pysam.BGZFile(str(path), "wb", None) if self._bgzip else open(path, "wb")  # noqa: SIM115

    @abstractmethod
    def format_contig(self, track: ContigTrack, calls: np.ndarray) -> Iterator[str]:
        """Yield the text of a contig, at most `LINES_PER_BLOCK` lines at a time."""

    def add(self, track: ContigTrack, calls: np.ndarray) -> None:
        """Write one contig."""
        for text in self.format_contig(track, calls):
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
            pysam.tabix_index(str(self._path), preset="bed", csi=self._csi, force=True)

    def release(self) -> None:
        """Close the file, complete or not."""
        if self._path is not None and not self._file.closed:
            self._file.close()
