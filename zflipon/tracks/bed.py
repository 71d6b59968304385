"""BED tracks: calls, read as 1 inside and 0 outside, written as BED9+2."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from zflipon.config import PROBABILITY_DECIMALS
from zflipon.genome.interval_files import read_bed
from zflipon.genome.intervals import interval_mask
from zflipon.tracks.base import Chunk, split_contigs
from zflipon.tracks.calling import ContigTrack
from zflipon.tracks.text import LINES_PER_BLOCK, TextTrackWriter

_LOW_COLOUR, _HIGH_COLOUR = np.array([218, 205, 232]), np.array([74, 20, 134])

SCORE_COLOURS = [
    ",".join(map(str, np.rint(_LOW_COLOUR + (_HIGH_COLOUR - _LOW_COLOUR) * score / 1000).astype(int)))
    for score in range(1001)
]
"""BED score of a call, 0 to 1000 → its itemRgb colour, which darkens with the score."""


class BedReader:
    """Reads a BED file as scores: 1 inside an interval, whatever the score column holds.

    See `zflipon.tracks.base.TrackReader`. All intervals are held in memory.
    """

    scored = False

    def __init__(self, path: Path, lengths: Mapping[str, int]):
        self.path = path
        self._calls = read_bed(path, lengths, "calls")

    def chunks(self, lengths: Mapping[str, int], size: int) -> Iterator[Chunk]:
        """Yield the scores of whole contigs, at most `size` bases at a time."""
        for contig, start, end in split_contigs(lengths, size):
            yield contig, start, interval_mask(self._calls.get(contig), start, end).astype(np.float32)


class BedWriter(TextTrackWriter):
    """Writes calls as BED9 with their mean and highest probability in two more columns.

    Calls are named Z1, Z2, … along the genome. The score is the mean probability in thousandths.
    """

    def __init__(self, path: Path | None, lengths: Mapping[str, int]):
        super().__init__(path, lengths)
        self._count = 0

    def format_contig(self, track: ContigTrack, calls: np.ndarray) -> Iterator[str]:
        """Yield the lines of a contig's calls."""
        for first in range(0, len(calls), LINES_PER_BLOCK):
            block = calls[first : first + LINES_PER_BLOCK]
            rows = zip(block.tolist(), np.rint(block["mean"] * 1000).astype(int).tolist(), strict=True)
            yield "".join(
                f"{track.contig}\t{start}\t{end}\tZ{number}\t{score}\t.\t{start}\t{end}\t{SCORE_COLOURS[score]}"
                f"\t{mean:.{PROBABILITY_DECIMALS}f}\t{peak:.{PROBABILITY_DECIMALS}f}\n"
                for number, ((start, end, mean, peak), score) in enumerate(rows, self._count + 1)
            )
            self._count += len(block)
