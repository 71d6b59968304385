"""narrowPeak tracks (ENCODE's BED6+4): calls with the position of their highest probability."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from zflipon.config import PROBABILITY_DECIMALS
from zflipon.tracks.bed import call_blocks
from zflipon.tracks.calling import ContigTrack, call_summits
from zflipon.tracks.description import call_name
from zflipon.tracks.text import TextTrackWriter

COLUMNS = (
    "chrom",
    "chromStart",
    "chromEnd",
    "name",
    "score",
    "strand",
    "signalValue",
    "pValue",
    "qValue",
    "peak",
)
"""Columns of the format, as UCSC names them."""


class NarrowPeakWriter(TextTrackWriter):
    """Writes calls as narrowPeak.

    The score is the mean probability in thousandths, signalValue the highest probability, and peak the offset of the
    highest probability from the start. pValue and qValue are -1, the value of the format for "not known".
    """

    def format_track_line(self) -> str:
        """Return the ``track`` line of a UCSC custom track."""
        return self.description.track_text(True, type="narrowPeak", visibility="pack")

    def format_header(self) -> str:
        """Return the names of the columns."""
        return "#" + "\t".join(COLUMNS) + "\n"

    def format_contig(self, track: ContigTrack, calls: np.ndarray) -> Iterator[str]:
        """Yield the lines of a contig's calls."""
        offsets = iter((call_summits(track, calls) - calls["start"]).tolist())
        for block, scores in call_blocks(calls):
            yield "".join(
                f"{track.contig}\t{start}\t{end}\t{call_name(self.description.call_prefix, track.contig, start, end)}"
                f"\t{score}\t.\t{peak:.{PROBABILITY_DECIMALS}f}\t-1\t-1\t{next(offsets)}\n"
                for (start, end, _, peak), score in zip(block.tolist(), scores, strict=True)
            )
