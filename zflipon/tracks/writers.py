"""Writers of a genome's track: bigWig, bedGraph and BED, chosen by extension.

All take contigs one at a time, in the genome's order, in memory that depends
neither on the genome nor on a contig. The files get their names together, when
the caller says that the genome is complete.
"""

from __future__ import annotations

import errno
import os
import shutil
import struct
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Protocol

import numpy as np
import pyBigWig
import pysam

from zflipon.config import PROBABILITY_DECIMALS
from zflipon.errors import OutputError
from zflipon.tracks.atomic import atomic_file, raise_output_errors
from zflipon.tracks.calling import SCALE, ContigTrack, iterate_runs

STDOUT = "-"
"""The output name that stands for BED on standard output."""

_BIGWIG_MAGIC, _INDEX_MAGIC = 0x888FFC26, 0x2468ACE0
_TBI_LIMIT = 1 << 29
_LINES = 1 << 16
_LIGHT, _DARK = np.array([218, 205, 232]), np.array([74, 20, 134])  # of the lowest and highest score
SCORE_COLOURS = [
    ",".join(map(str, np.rint(_LIGHT + (_DARK - _LIGHT) * score / 1000).astype(int))) for score in range(1001)
]
"""Score of a call, 0 to 1000 → its colour, as BED and browsers write colours."""

_TEXT = [f"{value / SCALE:.{PROBABILITY_DECIMALS}f}" for value in range(SCALE + 1)]


class TrackWriter(Protocol):
    """What a format is: made with a path and the genome's lengths, then given contigs."""

    def __init__(self, path: Path | None, lengths: Mapping[str, int]): ...

    def add(self, track: ContigTrack, calls: np.ndarray) -> None:
        """Write a contig."""

    def finish(self) -> None:
        """Complete the file."""

    def release(self) -> None:
        """Close the file, finished or not."""


class BigWigWriter:
    """bigWig: one entry per run of equal probability, none where a base has no value.

    Parameters
    ----------
    path : Path
        Where to write.
    lengths : mapping of str to int
        All contigs of the genome; those with bases make the header, in this order.
    """

    def __init__(self, path: Path, lengths: Mapping[str, int]):
        header = [(contig, length) for contig, length in lengths.items() if length]
        if not header:
            raise OutputError("a bigWig needs a contig with at least one base; the genome has none")
        if max(length for _, length in header) >= 1 << 32:
            raise OutputError("a bigWig holds contigs of less than 2^32 bases; write bedGraph or BED instead")
        self._path = path
        self._entries, self._contigs, self._range = 0, len(header), (np.inf, -np.inf)
        self._file = pyBigWig.open(str(path), "w")
        try:
            self._file.addHeader(header)
        except RuntimeError as error:
            raise OSError(f"the header failed: {error}") from error

    def add(self, track: ContigTrack, _calls: np.ndarray) -> None:
        """Write the runs of a contig."""
        for starts, ends, values in iterate_runs(track):
            self.add_runs(track.contig, starts, ends, values / SCALE)

    def add_runs(self, contig: str, starts: np.ndarray, ends: np.ndarray, values: np.ndarray) -> None:
        """Write runs of any values, signed ones too.

        Parameters
        ----------
        contig : str
            Contigs come in the genome's order.
        starts, ends : numpy.ndarray
            int64, shape (n,), n > 0: in order, disjoint.
        values : numpy.ndarray
            float64, shape (n,); the file keeps single precision.
        """
        _ask_for_room(self._path, 16 * len(starts))
        # a list of names, because pyBigWig leaks those of an array
        self._file.addEntries([contig] * len(starts), starts, ends=ends, values=values)
        self._entries += len(starts)
        self._range = min(self._range[0], values.min()), max(self._range[1], values.max())

    def finish(self) -> None:
        """Write the index and the zoom levels, and see that they arrived."""
        _ask_for_room(self._path, 4 * self._entries + 1024 * self._contigs)
        self.release()
        with open(self._path, "rb+") as file:
            file.seek(-4, os.SEEK_END)
            if file.read(4) != struct.pack("<I", _BIGWIG_MAGIC):
                raise OSError(errno.EIO, "the bigWig came out truncated; is the disk full?")
            if not self._entries:
                _add_empty_index(file)
            _write_range(file, *(float(value) for value in self._range if self._entries))

    def release(self) -> None:
        """Close the file, finished or not."""
        if self._file is not None:
            self._file.close()
            self._file = None


class _TextWriter(ABC):
    """Lines into a plain file, a bgzip file with an index, or standard output."""

    def __init__(self, path: Path | None, lengths: Mapping[str, int]):
        self._path = path
        self._packed = path is not None and path.suffix.lower() == ".gz"
        self._csi = max(lengths.values(), default=0) > _TBI_LIMIT
        if path is not None:
            self._file = pysam.BGZFile(str(path), "wb") if self._packed else open(path, "wb")  # noqa: SIM115

    @abstractmethod
    def _lines(self, track: ContigTrack, calls: np.ndarray) -> Iterator[str]:
        """Yield a contig's text, many lines at a time."""

    def add(self, track: ContigTrack, calls: np.ndarray) -> None:
        """Write the lines of a contig, many at a time."""
        for text in self._lines(track, calls):
            if self._path is None:
                sys.stdout.write(text)
            else:
                self._file.write(text.encode())

    def finish(self) -> None:
        """Close the file and index it, with .tbi or, where a contig is too long for that, .csi."""
        if self._path is None:
            sys.stdout.flush()
            return
        self.release()
        if self._packed:
            pysam.tabix_index(str(self._path), preset="bed", csi=self._csi, force=True)

    def release(self) -> None:
        """Close the file, finished or not."""
        if self._path is not None and not self._file.closed:
            self._file.close()


class BedGraphWriter(_TextWriter):
    """bedGraph: contig, start, end, probability; a line per run of equal probability."""

    def _lines(self, track: ContigTrack, _calls: np.ndarray) -> Iterator[str]:
        for columns in iterate_runs(track):
            for at in range(0, len(columns[0]), _LINES):
                rows = zip(*(column[at : at + _LINES].tolist() for column in columns), strict=True)
                yield "".join(
                    f"{track.contig}\t{start}\t{end}\t{_TEXT[value]}\n" for start, end, value in rows
                )


class BedWriter(_TextWriter):
    """BED9 of the calls, and their mean and highest probability in two more columns.

    Calls are named Z1, Z2, … along the genome. The score is the mean probability
    in thousandths, and the colour goes from light to dark with it.
    """

    def __init__(self, path: Path | None, lengths: Mapping[str, int]):
        super().__init__(path, lengths)
        self._count = 0

    def _lines(self, track: ContigTrack, calls: np.ndarray) -> Iterator[str]:
        for at in range(0, len(calls), _LINES):
            block = calls[at : at + _LINES]
            rows = zip(block.tolist(), np.rint(block["mean"] * 1000).astype(int).tolist(), strict=True)
            yield "".join(
                f"{track.contig}\t{start}\t{end}\tZ{number}\t{score}\t.\t{start}\t{end}\t{SCORE_COLOURS[score]}"
                f"\t{mean:.{PROBABILITY_DECIMALS}f}\t{peak:.{PROBABILITY_DECIMALS}f}\n"
                for number, ((start, end, mean, peak), score) in enumerate(rows, self._count + 1)
            )
            self._count += len(block)


FORMATS: dict[str, type[TrackWriter]] = {
    ".bw": BigWigWriter,
    ".bigwig": BigWigWriter,
    ".bedgraph": BedGraphWriter,
    ".bedgraph.gz": BedGraphWriter,
    ".bdg": BedGraphWriter,
    ".bdg.gz": BedGraphWriter,
    ".bed": BedWriter,
    ".bed.gz": BedWriter,
}
"""Extension, in lower case → writer."""


def find_writer(output: str | Path) -> type[TrackWriter]:
    """Return the writer that the extension of an output asks for (``-``: BED on standard output).

    Raises
    ------
    OutputError
        If the extension is unknown.
    """
    if str(output) == STDOUT:
        return BedWriter
    name = Path(output).name.lower()
    for extension, writer in FORMATS.items():
        if name.endswith(extension):
            return writer
    raise OutputError(
        f"{output}: unknown extension; expected one of {', '.join(FORMATS)}, or - for BED on stdout"
    )


def write_bigwig_values(
    output: str | Path, lengths: Mapping[str, int], pieces: Mapping[str, Sequence[tuple[int, np.ndarray]]]
) -> None:
    """Write values of any sign and size as a bigWig; runs of equal value are one entry, NaN is none.

    Parameters
    ----------
    output : str or Path
        Replaced if it exists.
    lengths : mapping of str to int
        All contigs of the genome, in its order.
    pieces : mapping of str to sequence of (int, numpy.ndarray)
        Contig → starts and the floating values of consecutive bases; in order, disjoint.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    with _opened(str(output), BigWigWriter, lengths) as writer:
        for contig in lengths:
            for start, values in pieces.get(contig, ()):
                edges = np.flatnonzero(np.diff(values, prepend=np.nan) != 0)  # NaN differs from all
                ends = np.append(edges[1:], len(values))
                kept = ~np.isnan(values[edges])
                if kept.any():
                    runs_of = edges[kept] + start, ends[kept] + start
                    writer.add_runs(contig, *runs_of, values[edges][kept].astype(np.float64))
        with raise_output_errors(output):
            writer.finish()


class TrackOutputs:
    """Several outputs of one genome, written side by side.

    A context manager: `commit` gives all files their names, leaving the block
    without it, for whatever reason, leaves nothing behind.

    Parameters
    ----------
    outputs : iterable of str or Path
        The extension picks the format; ``-`` is BED on standard output.
    lengths : mapping of str to int
        All contigs of the genome and their lengths, in the genome's order.

    Raises
    ------
    OutputError
        If an extension is unknown, an output is given twice or, from any
        method, cannot be written.
    """

    def __init__(self, outputs: Iterable[str | Path], lengths: Mapping[str, int]):
        self._kinds: dict[str, type[TrackWriter]] = {}
        for output in outputs:
            name = STDOUT if str(output) == STDOUT else os.path.abspath(output)
            if name in self._kinds:
                raise OutputError(f"{output}: given twice as an output")
            self._kinds[name] = find_writer(output)
        self._lengths = lengths
        self._rank = {contig: rank for rank, contig in enumerate(lengths)}
        self._last = -1
        self._writers: dict[str, TrackWriter] = {}
        self._stack = ExitStack()

    def __enter__(self) -> TrackOutputs:
        """Open all outputs under temporary names."""
        with ExitStack() as stack:
            for output, kind in self._kinds.items():
                self._writers[output] = stack.enter_context(_opened(output, kind, self._lengths))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_exception) -> None:
        """Remove what has not been committed."""
        self._stack.__exit__(_Abandoned, _Abandoned(), None)

    def add(self, track: ContigTrack, calls: np.ndarray) -> None:
        """Write a contig.

        Parameters
        ----------
        track : ContigTrack
            Contigs come in the genome's order; some may be left out.
        calls : numpy.ndarray
            `zflipon.tracks.calling.CALL_DTYPE`, shape (n,), in order.
        """
        rank = self._rank[track.contig]
        if rank <= self._last:
            raise ValueError(f"{track.contig} comes out of the genome's order")
        if track.end > self._lengths[track.contig]:  # pyBigWig would write it without a word
            raise ValueError(f"{track.contig}: values up to {track.end} pass the end of the contig")
        self._last = rank
        for output, writer in self._writers.items():
            with raise_output_errors(output):
                writer.add(track, calls)

    def commit(self) -> None:
        """Complete all files, then give them their names."""
        for output, writer in self._writers.items():
            with raise_output_errors(output):
                writer.finish()
        self._stack.close()


class _Abandoned(Exception):
    """Thrown into the open outputs to have them removed."""


@contextmanager
def _opened(output: str, kind: type[TrackWriter], lengths: Mapping[str, int]) -> Iterator[TrackWriter]:
    with nullcontext() if output == STDOUT else atomic_file(output) as part, raise_output_errors(output):
        if part is not None:
            part.touch()  # pyBigWig and pysam crash where they cannot create a file
        writer = kind(part, lengths)
        try:
            yield writer
        finally:  # after a success there is nothing to release, after a failure nothing more to say
            with suppress(OSError):
                writer.release()


def _ask_for_room(path: Path, size: int) -> None:
    """Raise OSError if the disk or a quota has no room for `size` more bytes.

    pyBigWig ignores a failed write among many entries, runs over its buffer and
    may never return, so it must not meet a full disk.
    """
    size += 1 << 20
    with tempfile.TemporaryFile(dir=path.parent) as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except (AttributeError, OSError) as error:
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                raise
            if shutil.disk_usage(path.parent).free < size:  # systems that cannot set space aside
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error


def _add_empty_index(file) -> None:
    """Give a bigWig without entries an empty index, which pyBigWig leaves out and browsers look for."""
    at = file.seek(-4, os.SEEK_END)
    header = struct.pack("<IIQIIIIQII", _INDEX_MAGIC, 64, 0, 0, 0, 0, 0, at, 1, 0)
    file.write(header + struct.pack("<BBHI", 1, 0, 0, _BIGWIG_MAGIC))
    file.seek(0x18)
    file.write(struct.pack("<Q", at))


def _write_range(file, low: float = 0, high: float = 0) -> None:
    """Put right the smallest and largest value in the file's summary: pyBigWig's miss the first entry."""
    file.seek(0x2C)
    (summary,) = struct.unpack("<Q", file.read(8))
    file.seek(summary + 8)
    file.write(struct.pack("<dd", low, high))
