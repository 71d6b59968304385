"""Readers of tracks of any program, ours or a peer's: bigWig, bedGraph and BED, chosen by extension.

All give the scores of whole contigs, a chunk at a time, so that memory does not
grow with a contig; only the calls of a BED are held together. A file that is
wrong is refused when it is opened or, at the latest, where the mistake is met.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path

import numpy as np

from zflipon.errors import InputError, format_names
from zflipon.genome.interval_files import read_bed, read_bedgraph
from zflipon.genome.intervals import interval_mask

Chunk = tuple[str, int, np.ndarray]
"""Contig, start, and the scores from there: float32, finite, 0 where the track has no value."""

_LARGEST = np.finfo(np.float32).max


class BigWigTrack:
    """Scores of a bigWig file."""

    scored = True

    def __init__(self, path: Path, lengths: Mapping[str, int]):
        self.path = path
        self._file, self._empty = open_bigwig(path)
        self._contigs = self._file.chroms()
        shared = [contig for contig in lengths if contig in self._contigs]
        if not shared:
            raise InputError(
                f"{path}: no contig of the genome: the track has {format_names(self._contigs)}, the genome {format_names(lengths)}; "
                "rename the contigs of one of them"
            )
        for contig in shared:
            if self._contigs[contig] != lengths[contig]:
                raise InputError(
                    f"{path}: {contig} has {self._contigs[contig]} bases, in the genome {lengths[contig]}; "
                    "are both of the same assembly?"
                )

    def chunks(self, lengths: Mapping[str, int], size: int) -> Iterator[Chunk]:
        """Yield the scores of whole contigs, at most `size` bases at a time."""
        for contig, start, end in _spans(lengths, size):
            yield contig, start, self.scores(contig, start, end)

    def scores(self, contig: str, start: int, end: int) -> np.ndarray:
        """Return the scores of a part of a contig: float32, shape (end - start,); 0 where there is no value."""
        if self._empty or contig not in self._contigs:
            return np.zeros(end - start, dtype=np.float32)
        try:
            scores = self._file.values(contig, start, end, numpy=True)
        except RuntimeError:
            scores = []
        if len(scores) != end - start:
            raise InputError(
                f"{self.path}: {contig}:{start}-{end} (0-based) cannot be read; is the file whole?"
            )
        return np.nan_to_num(scores, copy=False)  # NaN is no value, hence 0; infinity the largest number


class BedGraphTrack:
    """Scores of a sorted bedGraph file, read in its own order of contigs."""

    scored = True

    def __init__(self, path: Path, lengths: Mapping[str, int]):
        self.path = path
        self._lengths = lengths
        next(read_bedgraph(path, lengths, block=1), None)  # a wrong file should fail before the work begins

    def chunks(self, lengths: Mapping[str, int], size: int) -> Iterator[Chunk]:
        """Yield the scores of whole contigs, at most `size` bases at a time."""
        absent = dict(lengths)
        for contig, blocks in groupby(read_bedgraph(self.path, self._lengths), key=lambda block: block[0]):
            if contig in lengths:
                yield from self._paint(contig, absent.pop(contig), size, blocks)
        for contig, start, end in _spans(absent, size):
            yield contig, start, np.zeros(end - start, dtype=np.float32)

    @staticmethod
    def _paint(contig: str, length: int, size: int, blocks: Iterable) -> Iterator[Chunk]:
        spans = _spans({contig: length}, size)
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


class BedTrack:
    """Calls of a BED file: 1 inside, whatever its score columns say."""

    scored = False

    def __init__(self, path: Path, lengths: Mapping[str, int]):
        self.path = path
        self._calls = read_bed(path, lengths, "calls")

    def chunks(self, lengths: Mapping[str, int], size: int) -> Iterator[Chunk]:
        """Yield the scores of whole contigs, at most `size` bases at a time."""
        for contig, start, end in _spans(lengths, size):
            yield contig, start, interval_mask(self._calls.get(contig), start, end).astype(np.float32)


Track = BigWigTrack | BedGraphTrack | BedTrack

FORMATS: dict[str, type[Track]] = {
    ".bw": BigWigTrack,
    ".bigwig": BigWigTrack,
    ".bedgraph": BedGraphTrack,
    ".bdg": BedGraphTrack,
    ".bed": BedTrack,
    ".bedgraph.gz": BedGraphTrack,
    ".bdg.gz": BedGraphTrack,
    ".bed.gz": BedTrack,
}
"""Extension, whatever its case → reader."""


def open_bigwig(path: Path):
    """Open a bigWig file that is whole.

    Returns
    -------
    file : pyBigWig.pyBigWig
    empty : bool
        Whether it has no entries, which pyBigWig itself does not bear.

    Raises
    ------
    InputError
        If the file is missing, no bigWig, or was never finished.
    """
    import pyBigWig

    empty = not _index_offset(path)
    try:
        file = pyBigWig.open(str(path))
        file.chroms()
    except RuntimeError as error:
        raise InputError(f"{path}: cannot be read as bigWig; is the file whole?") from error
    return file, empty


def open_track(path: str | Path, lengths: Mapping[str, int]) -> Track:
    """Open a track by its extension.

    Parameters
    ----------
    path : str or Path
    lengths : mapping of str to int
        The genome's contigs.

    Raises
    ------
    InputError
        If the extension is unknown, the file is missing or malformed, or it
        shares no contig with the genome or disagrees about a length.
    """
    path = Path(path)
    return find_reader(path)(path, lengths)


def find_reader(path: Path) -> type[Track]:
    """Return the reader that a track's extension asks for; raise `InputError` where it is none of `FORMATS`."""
    fitting = [extension for extension in FORMATS if path.name.lower().endswith(extension)]
    if not fitting:
        raise InputError(f"{path}: unknown kind of track; expected a name that ends in {', '.join(FORMATS)}")
    return FORMATS[fitting[0]]


def _spans(lengths: Mapping[str, int], size: int) -> Iterator[tuple[str, int, int]]:
    for contig, length in lengths.items():
        for start in range(0, length, size):
            yield contig, start, min(start + size, length)


def paint_intervals(scores: np.ndarray, intervals: np.ndarray, values: np.ndarray) -> None:
    """Write values into the parts of sorted, disjoint intervals that lie in the array; NaN is no value, hence 0."""
    first = np.searchsorted(intervals[:, 1], 0, side="right")
    last = np.searchsorted(intervals[:, 0], len(scores), side="left")
    starts, ends = intervals[first:last].clip(0, len(scores)).T
    widths = ends - starts
    within = np.arange(widths.sum()) - np.repeat(np.cumsum(widths) - widths, widths)
    kept = np.nan_to_num(values[first:last]).clip(-_LARGEST, _LARGEST)
    scores[np.repeat(starts, widths) + within] = np.repeat(kept, widths)


def _index_offset(path: Path) -> int:
    """Return where the header says the index lies, 0 for a track without entries.

    pyBigWig itself opens a file whose writer was killed, and finds no data in it.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    size = path.stat().st_size
    try:
        with open(path, "rb") as file:
            head = file.read(32)
            file.seek(max(0, size - 4))
            signed = file.read() == head[:4]
    except PermissionError as error:
        raise InputError(f"{path}: cannot be read (permission denied)") from error
    order = {b"\x26\xfc\x8f\x88": "<", b"\x88\x8f\xfc\x26": ">"}.get(head[:4])
    if order is None:
        raise InputError(f"{path}: not a bigWig file; is its extension right?")
    index = struct.unpack(order + "Q", head[24:])[0] if len(head) == 32 else size
    if index >= size or (index == 0 and not signed):
        raise InputError(f"{path}: the bigWig file is truncated or was never finished; write it again")
    return index
