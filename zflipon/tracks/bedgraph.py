"""bedGraph tracks: one line per run of bases with equal score."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path

import numpy as np

from zflipon.config import PROBABILITY_DECIMALS
from zflipon.genome.interval_files import read_bedgraph
from zflipon.tracks.base import Chunk, paint_intervals, split_contigs
from zflipon.tracks.bed import SCORE_COLOURS
from zflipon.tracks.calling import SCALE, ContigTrack, iterate_runs
from zflipon.tracks.text import LINES_PER_BLOCK, TextTrackWriter

_FORMATTED_VALUES = [f"{value / SCALE:.{PROBABILITY_DECIMALS}f}" for value in range(SCALE + 1)]
"""Quantized probability → its text."""


class BedGraphReader:
    """Reads the scores of a sorted bedGraph file, in the file's order of contigs.

    See `zflipon.tracks.base.TrackReader`.
    """

    scored = True

    def __init__(self, path: Path, lengths: Mapping[str, int]):
        self.path = path
        self._lengths = lengths
        next(read_bedgraph(path, lengths, block=1), None)  # report a malformed file before the work starts

    def chunks(self, lengths: Mapping[str, int], size: int) -> Iterator[Chunk]:
        """Yield the scores of whole contigs, at most `size` bases at a time."""
        missing = dict(lengths)
        for contig, blocks in groupby(read_bedgraph(self.path, self._lengths), key=lambda block: block[0]):
            if contig in lengths:
                yield from self._paint(contig, missing.pop(contig), size, blocks)
        for contig, start, end in split_contigs(missing, size):
            yield contig, start, np.zeros(end - start, dtype=np.float32)

    @staticmethod
    def _paint(contig: str, length: int, size: int, blocks: Iterable) -> Iterator[Chunk]:
        spans = split_contigs({contig: length}, size)
        _, start, end = next(spans)
        scores = np.zeros(end - start, dtype=np.float32)
        for _, intervals, values in blocks:
            while start < length:
                paint_intervals(scores, intervals - start, values)
                if intervals[-1, 1] < end:  # the next block may add to this chunk
                    break
                yield contig, start, scores
                _, start, end = next(spans, (contig, length, length))
                scores = np.zeros(end - start, dtype=np.float32)
        while start < length:
            yield contig, start, scores
            _, start, end = next(spans, (contig, length, length))
            scores = np.zeros(end - start, dtype=np.float32)


class BedGraphWriter(TextTrackWriter):
    """Writes contig, start, end and probability, one line per run of equal probability."""

    def format_track_line(self) -> str:
        """Return the ``track`` line of a UCSC custom track."""
        return self.description.track_text(
            False, type="bedGraph", visibility="full", color=SCORE_COLOURS[-1], viewLimits="0:1", autoScale="off",
            windowingFunction="maximum",
        )  # fmt: skip

    def format_header(self) -> str:
        """Return the names of the columns."""
        return "#chrom\tchromStart\tchromEnd\tvalue\n"

    def format_contig(self, track: ContigTrack, calls: np.ndarray) -> Iterator[str]:
        """Yield the lines of a contig's runs; `calls` are not used."""
        for columns in iterate_runs(track):
            for first in range(0, len(columns[0]), LINES_PER_BLOCK):
                rows = zip(
                    *(column[first : first + LINES_PER_BLOCK].tolist() for column in columns), strict=True
                )
                yield "".join(
                    f"{track.contig}\t{start}\t{end}\t{_FORMATTED_VALUES[value]}\n"
                    for start, end, value in rows
                )
