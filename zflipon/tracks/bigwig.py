"""bigWig tracks: reading with checks, the value range, and writing runs of equal values."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyBigWig

from zflipon.errors import InputError, OutputError, format_names
from zflipon.tracks.atomic import raise_output_errors
from zflipon.tracks.base import Chunk, open_writer, split_contigs
from zflipon.tracks.bigwig_structure import (
    BigWigStructure,
    ends_with_magic,
    read_structure,
    read_value_range,
    write_empty_index,
    write_extremes,
)
from zflipon.tracks.calling import SCALE, ContigTrack, iterate_runs

_BYTES_PER_ENTRY = 16
"""Upper bound of a written entry's size, packed or not."""

_FREE_DISK = 1 << 20
"""Bytes that must stay free on the disk after the next write."""

_FREE_LIMIT = 1 << 14
"""Bytes that must stay below the process's limit of file size (``ulimit -f``)."""


MAX_ZOOMED_CONTIGS = 20_000
"""A bigWig with more contigs gets no zoom levels.

libBigWig searches all contigs for each of them when it builds zoom levels, without looking at signals: closing a file
takes 0.9 s with 20,000 contigs and hours with 1,000,000.
"""

_ZOOM_LEVELS = 10
"""Largest number of zoom levels, pyBigWig's default."""


class BigWig:
    """A bigWig file that was checked before it was opened; a context manager.

    Parameters
    ----------
    path : str or Path

    Attributes
    ----------
    path : Path
    lengths : dict of str to int
        Contig → length, as the file states it.

    Raises
    ------
    InputError
        If the file is missing, not a bigWig, incomplete or inconsistent.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._structure: BigWigStructure = read_structure(self.path)
        try:
            self._file = pyBigWig.open(str(path))
            self.lengths: dict[str, int] = dict(self._file.chroms())
        except (RuntimeError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read as bigWig; is the file complete?") from error

    def __enter__(self) -> BigWig:
        return self

    def __exit__(self, *_exception) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def values(self, contig: str, start: int, end: int) -> np.ndarray:
        """Return the values of ``contig[start:end]``.

        Returns
        -------
        numpy.ndarray
            float32, shape (end - start,); NaN where the file has no value.

        Raises
        ------
        InputError
            If the range cannot be read.
        """
        if self._structure.empty or contig not in self.lengths:
            return np.full(end - start, np.nan, dtype=np.float32)
        try:
            values = self._file.values(contig, start, end, numpy=True)
        except RuntimeError:
            values = np.empty(0)
        if len(values) != end - start:
            raise InputError(
                f"{self.path}: {contig}:{start}-{end} (0-based) cannot be read; is the file complete?"
            )
        return values


def value_range(path: str | Path) -> tuple[float, float] | None:
    """Return the smallest and largest finite value of a bigWig in full precision, or None.

    All data blocks are read: summaries may be wrong or hold NaN, and pyBigWig rounds them.

    Raises
    ------
    InputError
        If the file is missing, not a bigWig, incomplete or inconsistent.
    """
    return read_value_range(path, read_structure(path))


class BigWigReader:
    """Reads the scores of a bigWig file; see `zflipon.tracks.base.TrackReader`."""

    scored = True

    def __init__(self, path: Path, lengths: Mapping[str, int]):
        self.path = path
        self._file = BigWig(path)
        shared = [contig for contig in lengths if contig in self._file.lengths]
        if not shared:
            raise InputError(
                f"{path}: no contig of the genome: the track has {format_names(self._file.lengths)}, the genome "
                f"{format_names(lengths)}; rename the contigs of one of them"
            )
        for contig in shared:
            if self._file.lengths[contig] != lengths[contig]:
                raise InputError(
                    f"{path}: {contig} has {self._file.lengths[contig]} bases, in the genome {lengths[contig]}; "
                    "are both of the same assembly?"
                )

    def chunks(self, lengths: Mapping[str, int], size: int) -> Iterator[Chunk]:
        """Yield the scores of whole contigs, at most `size` bases at a time."""
        for contig, start, end in split_contigs(lengths, size):
            yield contig, start, self.scores(contig, start, end)

    def scores(self, contig: str, start: int, end: int) -> np.ndarray:
        """Return the scores of ``contig[start:end]``: float32, shape (end - start,).

        Bases without a value are 0; infinity is the largest float32.
        """
        return np.nan_to_num(self._file.values(contig, start, end), copy=False)


class BigWigWriter:
    """Writes one entry per run of equal probability, none where a base has no value.

    Parameters
    ----------
    path : Path or None
        None, which means standard output, is refused.
    lengths : mapping of str to int
        All contigs of the genome; those with bases make the header, in this order.

    Raises
    ------
    OutputError
        If there is no path, no contig with bases, or a contig of 2^32 bases or more.
    """

    def __init__(self, path: Path | None, lengths: Mapping[str, int]):
        if path is None:
            raise OutputError("a bigWig cannot be written to standard output; name a file")
        header = [(contig, length) for contig, length in lengths.items() if length]
        if not header:
            raise OutputError("a bigWig needs a contig with at least one base; the genome has none")
        if max(length for _, length in header) >= 1 << 32:
            raise OutputError("a bigWig holds contigs of less than 2^32 bases; write bedGraph or BED instead")
        self._path = path
        self._entries, self._contigs, self._range = 0, len(header), (np.inf, -np.inf)
        require_room(path, sum(len(contig) + 16 for contig, _ in header) + 2048)
        self._file = pyBigWig.open(str(path), "w")
        try:
            self._file.addHeader(header, maxZooms=_ZOOM_LEVELS if len(header) <= MAX_ZOOMED_CONTIGS else 0)
        except RuntimeError as error:
            raise OSError(f"the header failed: {error}") from error

    def add(self, track: ContigTrack, _calls: np.ndarray) -> None:
        """Write the runs of a contig."""
        for starts, ends, values in iterate_runs(track):
            self.add_runs(track.contig, starts, ends, values / SCALE)

    def add_runs(self, contig: str, starts: np.ndarray, ends: np.ndarray, values: np.ndarray) -> None:
        """Write runs of any values, negative ones too.

        Parameters
        ----------
        contig : str
            Contigs are added in the genome's order.
        starts, ends : numpy.ndarray
            int64, shape (n,), n > 0: in order, disjoint.
        values : numpy.ndarray
            float64, shape (n,), finite; stored as float32.
        """
        require_room(self._path, _BYTES_PER_ENTRY * len(starts))
        if self._file is None:
            raise ValueError(f"{self._path} is closed")
        # contigs as a list: pyBigWig leaks the names of a numpy array
        self._file.addEntries([contig] * len(starts), starts, ends=ends, values=values)
        self._entries += len(starts)
        self._range = min(self._range[0], values.min()), max(self._range[1], values.max())

    def finish(self) -> None:
        """Write the index and the zoom levels, and check that the file is complete."""
        require_room(self._path, 4 * self._entries + 1024 * self._contigs)
        self.release()
        if not ends_with_magic(self._path):
            raise OSError(errno.EIO, "the bigWig is truncated; is the disk full?")
        with open(self._path, "rb+") as file:
            if not self._entries:
                write_empty_index(file)
            write_extremes(file, *(map(float, self._range) if self._entries else (0.0, 0.0)))

    def release(self) -> None:
        """Close the file, complete or not."""
        if self._file is not None:
            self._file.close()
            self._file = None


def write_bigwig_values(
    output: str | Path, lengths: Mapping[str, int], chunks: Mapping[str, Sequence[tuple[int, np.ndarray]]]
) -> None:
    """Write values of any sign and size as a bigWig; a run of equal values is one entry.

    Parameters
    ----------
    output : str or Path
        Replaced if it exists.
    lengths : mapping of str to int
        All contigs of the genome, in its order.
    chunks : mapping of str to sequence of (int, numpy.ndarray)
        Contig → start and floating values of consecutive bases, in order and disjoint. NaN is no value.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    with open_writer(str(output), BigWigWriter, lengths) as writer:
        for contig in lengths:
            for start, values in chunks.get(contig, ()):
                edges = np.flatnonzero(np.diff(values, prepend=np.nan) != 0)  # NaN differs from every value
                ends = np.append(edges[1:], len(values))
                valued = ~np.isnan(values[edges])
                if valued.any():
                    run_values = values[edges][valued].astype(np.float64)
                    writer.add_runs(contig, edges[valued] + start, ends[valued] + start, run_values)
        with raise_output_errors(output):
            writer.finish()


def require_room(path: Path, size: int) -> None:
    """Raise `OSError` if a file cannot grow by `size` bytes.

    The disk, a quota and the process's limit of file size are considered. libBigWig ignores failed writes, runs over
    its buffer and may never return, so it must not meet one.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    written = path.stat().st_size if path.exists() else 0
    if limit != resource.RLIM_INFINITY and written + size + _FREE_LIMIT > limit:
        raise OSError(errno.EFBIG, f"{os.strerror(errno.EFBIG)}: the limit of file size is {limit:,} bytes")
    size += _FREE_DISK
    if limit != resource.RLIM_INFINITY and size > limit:
        _require_free_disk(path.parent, size)  # a trial file would meet the limit
        return
    with tempfile.TemporaryFile(dir=path.parent) as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except (AttributeError, OSError) as error:
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            _require_free_disk(path.parent, size)  # the file system cannot reserve space


def _require_free_disk(folder: Path, size: int) -> None:
    if shutil.disk_usage(folder).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
