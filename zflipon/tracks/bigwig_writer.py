"""Writing bigWig files block by block: failed writes are errors, and memory does not grow with the genome.

libBigWig, which pyBigWig uses, ignores failed writes, then overwrites its memory or never returns; its time grows with
the square of the number of contigs. `benchmarks/bigwig_writing.py` compares both. Reading is in
`zflipon.tracks.bigwig`.
"""

from __future__ import annotations

import os
import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from os import SEEK_CUR
from pathlib import Path
from typing import BinaryIO

import numpy as np

from zflipon.errors import OutputError
from zflipon.tracks.atomic import raise_output_errors
from zflipon.tracks.base import UNDESCRIBED, open_writer
from zflipon.tracks.bigwig_layout import (
    BIGWIG_MAGIC,
    BLOCK_HEADER,
    ENTRY_DTYPE,
    HEADER,
    LEAF_DTYPE,
    SUMMARY,
    ZOOM_DTYPE,
    ZOOM_HEADER,
    write_contig_tree,
    write_index,
)
from zflipon.tracks.bigwig_zoom import MAX_LEVELS, bin_sizes, merge_bins, summarize_entries
from zflipon.tracks.calling import SCALE, ContigTrack, iterate_runs
from zflipon.tracks.description import TrackDescription

_BLOCK_ENTRIES = 2048
_ZOOM_ENTRIES = 1024
_BLOCK_BYTES = max(
    BLOCK_HEADER.size + _BLOCK_ENTRIES * ENTRY_DTYPE.itemsize, _ZOOM_ENTRIES * ZOOM_DTYPE.itemsize
)
"""Size of the largest unpacked block; readers allocate as much."""

_BEDGRAPH = 1  # type of a block whose entries have start, end and value
_BLOCKS_AT_ONCE = 64
"""Blocks that are summarized together."""

_SUMMARY_OFFSET = HEADER.size + MAX_LEVELS * ZOOM_HEADER.size
_TREE_OFFSET = _SUMMARY_OFFSET + SUMMARY.size


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

    def __init__(
        self, path: Path | None, lengths: Mapping[str, int], _description: TrackDescription = UNDESCRIBED
    ):
        if path is None:
            raise OutputError("a bigWig cannot be written to standard output; name a file")
        contigs = [(contig, length) for contig, length in lengths.items() if length]
        if not contigs:
            raise OutputError("a bigWig needs a contig with at least one base; the genome has none")
        self._longest = max(length for _, length in contigs)
        if self._longest >= 1 << 32:
            raise OutputError("a bigWig holds contigs of less than 2^32 bases; write bedGraph or BED instead")
        self._numbers = {contig: number for number, (contig, _) in enumerate(contigs)}
        self._contig, self._pending = 0, np.empty(0, dtype=ENTRY_DTYPE)
        self._entries, self._summary = 0, np.array([0, np.inf, -np.inf, 0, 0])
        self._file = open(path, "wb+")  # noqa: SIM115 (until `release`)
        self._file.write(bytes(_TREE_OFFSET))  # `finish` writes what belongs here
        write_contig_tree(self._file, contigs)
        self._data = _Section(self._file, count_bytes=8)

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
        number = self._numbers[contig]
        if number != self._contig:
            self._write_block(self._pending)
            self._contig, self._pending = number, self._pending[:0]
        entries = np.empty(len(starts), dtype=ENTRY_DTYPE)
        entries["start"], entries["end"], entries["value"] = starts, ends, values
        entries = np.concatenate([self._pending, entries])
        # blocks do not depend on how the runs of a contig are divided between calls
        complete = len(entries) // _BLOCK_ENTRIES * _BLOCK_ENTRIES
        for first in range(0, complete, _BLOCK_ENTRIES):
            self._write_block(entries[first : first + _BLOCK_ENTRIES])
        self._pending = entries[complete:].copy()

    def finish(self) -> None:
        """Write the index, the zoom levels and the header."""
        self._write_block(self._pending)
        self._pending = self._pending[:0]
        index = self._data.finish(self._data.blocks, _BLOCK_ENTRIES)
        sizes = bin_sizes(self._entries, int(self._summary[0]), self._longest)
        zooms = self._write_zoom_levels(sizes)
        self._file.write(BIGWIG_MAGIC.to_bytes(4, "little"))
        summary = self._summary if self._entries else np.zeros(5)
        offsets = (_TREE_OFFSET, self._data.offset, index)
        self._file.seek(0)
        self._file.write(
            HEADER.pack(BIGWIG_MAGIC, 4, len(zooms), *offsets, 0, 0, 0, _SUMMARY_OFFSET, _BLOCK_BYTES, 0)
        )
        self._file.write(b"".join(ZOOM_HEADER.pack(*zoom) for zoom in zooms))
        self._file.seek(_SUMMARY_OFFSET)
        self._file.write(SUMMARY.pack(int(summary[0]), *summary[1:].tolist()))
        self._file.flush()

    def release(self) -> None:
        """Close the file, complete or not."""
        self._file.close()

    def _write_block(self, entries: np.ndarray) -> None:
        if not len(entries):
            return
        start, end = int(entries["start"][0]), int(entries["end"][-1])
        header = BLOCK_HEADER.pack(self._contig, start, end, 0, 0, _BEDGRAPH, 0, len(entries))
        self._data.add((self._contig, start, self._contig, end), header + entries.tobytes())
        values, widths = (
            entries["value"].astype(np.float64),
            (entries["end"] - entries["start"]).astype(np.int64),
        )
        self._entries += len(entries)
        self._summary[0] += widths.sum()
        self._summary[1] = min(self._summary[1], values.min())
        self._summary[2] = max(self._summary[2], values.max())
        self._summary[3] += widths @ values
        self._summary[4] += widths @ values**2

    def _write_zoom_levels(self, sizes: Sequence[int]) -> list[tuple[int, int, int, int]]:
        """Write a level for each bin size, each from the one before. Return bin size, 0 and offsets of each."""
        zooms, section, unpack = [], self._data, _unpack_entries
        for size in sizes:
            summaries = (np.concatenate([*map(unpack, blocks)]) for blocks in section.read())
            section, unpack = _write_zoom_level(self._file, merge_bins(summaries, size)), _unpack_zoom
            zooms.append((size, 0, section.offset, section.finish(section.entries, _ZOOM_ENTRIES)))
        return zooms


class _Section:
    """Compressed blocks of a bigWig, after their number and before their index.

    Parameters
    ----------
    file : file object
        Open for reading and writing, at its end.
    count_bytes : int
        Size of the number before the blocks.
    """

    def __init__(self, file: BinaryIO, count_bytes: int):
        self._file, self._count_bytes = file, count_bytes
        self.offset = file.seek(0, SEEK_CUR)
        self.blocks = self.entries = 0
        self._position = self.offset + count_bytes
        self._index = array("Q")  # four bounds, offset and size of each block
        file.write(bytes(count_bytes))

    def add(self, bounds: tuple[int, int, int, int], block: bytes, entries: int = 1) -> None:
        """Write a block; the bounds are first contig, start, last contig, end."""
        packed = zlib.compress(block)
        self._file.write(packed)
        self._index.extend((*bounds, self._position, len(packed)))
        self._position += len(packed)
        self.blocks += 1
        self.entries += entries

    def finish(self, count: int, items_per_block: int) -> int:
        """Write the index and the number before the blocks. Return the offset of the index."""
        table = np.array(self._index, dtype=np.uint64).reshape(-1, 6)
        leaves = np.empty(len(table), dtype=LEAF_DTYPE)
        leaves["bounds"], leaves["offset"], leaves["size"] = table[:, :4], table[:, 4], table[:, 5]
        self._file.seek(self.offset)
        self._file.write(count.to_bytes(self._count_bytes, "little"))
        self._file.seek(self._position)
        write_index(self._file, leaves, items_per_block)
        return self._position

    def read(self) -> Iterator[list[bytes]]:
        """Yield the unpacked blocks, several at a time. The file may be written meanwhile."""
        self._file.flush()
        for first in range(0, self.blocks, _BLOCKS_AT_ONCE):
            last = min(first + _BLOCKS_AT_ONCE, self.blocks)
            places = [self._index[6 * number + 4 : 6 * number + 6] for number in range(first, last)]
            yield [zlib.decompress(os.pread(self._file.fileno(), size, offset)) for offset, size in places]


def _write_zoom_level(file: BinaryIO, summaries: Iterator[np.ndarray]) -> _Section:
    section, pending = _Section(file, count_bytes=4), np.empty(0, dtype=ZOOM_DTYPE)

    def write(block: np.ndarray) -> None:
        first, last = block[0], block[-1]
        bounds = (int(first["contig"]), int(first["start"]), int(last["contig"]), int(last["end"]))
        section.add(bounds, block.tobytes(), len(block))

    for added in summaries:
        pending = np.concatenate([pending, added])
        while len(pending) >= _ZOOM_ENTRIES:
            write(pending[:_ZOOM_ENTRIES])
            pending = pending[_ZOOM_ENTRIES:]
    if len(pending):
        write(pending)
    return section


def _unpack_entries(block: bytes) -> np.ndarray:
    contig = BLOCK_HEADER.unpack_from(block)[0]
    return summarize_entries(contig, np.frombuffer(block, dtype=ENTRY_DTYPE, offset=BLOCK_HEADER.size))


def _unpack_zoom(block: bytes) -> np.ndarray:
    return np.frombuffer(block, dtype=ZOOM_DTYPE)


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
