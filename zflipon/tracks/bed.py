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
from zflipon.tracks.description import call_name
from zflipon.tracks.text import LINES_PER_BLOCK, TextTrackWriter

_LOW_COLOUR, _HIGH_COLOUR = np.array([218, 205, 232]), np.array([74, 20, 134])

SCORE_COLOURS = [
    ",".join(map(str, np.rint(_LOW_COLOUR + (_HIGH_COLOUR - _LOW_COLOUR) * score / 1000).astype(int)))
    for score in range(1001)
]
"""BED score of a call, 0 to 1000 → its itemRgb colour, which darkens with the score."""

COLUMNS = [
    ("string chrom", "Contig"),
    ("uint chromStart", "Start, 0-based"),
    ("uint chromEnd", "End, exclusive"),
    ("string name", "Run and 1-based position of the call"),
    ("uint score", "Mean probability times 1000"),
    ("char[1] strand", "Always '.': Z-DNA has no strand"),
    ("uint thickStart", "Same as chromStart"),
    ("uint thickEnd", "Same as chromEnd"),
    ("uint reserved", "Colour (itemRgb), darker for higher scores"),
    ("float meanProbability", "Mean probability of the call's bases"),
    ("float maxProbability", "Highest probability of the call's bases"),
]
"""autoSql type and name, and comment, of each column of calls; in BED and bigBed."""

BED_FIELDS = 9
"""Leading columns of calls that are standard BED; the rest are extra columns."""


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

    The score is the mean probability in thousandths. With a ``track`` line, the two more columns are left out, because
    UCSC would read them as the blocks of BED12.
    """

    def format_track_line(self) -> str:
        """Return the ``track`` line of a UCSC custom track."""
        return self.description.track_text(True, visibility="pack", itemRgb="On")

    def format_header(self) -> str:
        """Return the names of the columns."""
        columns = COLUMNS[:BED_FIELDS] if self.description.track_line else COLUMNS
        names = [declaration.split()[-1] for declaration, _ in columns]
        return "#" + "\t".join(names).replace("reserved", "itemRgb") + "\n"

    def format_contig(self, track: ContigTrack, calls: np.ndarray) -> Iterator[str]:
        """Yield the lines of a contig's calls."""
        prefix, is_custom_track = self.description.call_prefix, self.description.track_line
        for block, scores in call_blocks(calls):
            lines = []
            for (start, end, mean, peak), score in zip(block.tolist(), scores, strict=True):
                name = call_name(prefix, track.contig, start, end)
                line = f"{track.contig}\t{start}\t{end}\t{name}\t{score}\t.\t{start}\t{end}\t{SCORE_COLOURS[score]}"
                if not is_custom_track:
                    line += f"\t{mean:.{PROBABILITY_DECIMALS}f}\t{peak:.{PROBABILITY_DECIMALS}f}"
                lines.append(line + "\n")
            yield "".join(lines)


def call_blocks(calls: np.ndarray) -> Iterator[tuple[np.ndarray, list[int]]]:
    """Yield calls, at most `LINES_PER_BLOCK` at a time, and their BED scores from 0 to 1000."""
    for first in range(0, len(calls), LINES_PER_BLOCK):
        block = calls[first : first + LINES_PER_BLOCK]
        yield block, np.rint(block["mean"] * 1000).astype(int).tolist()
