"""Structure of a bigWig file, read and checked in Python before libBigWig opens it.

libBigWig trusts the offsets and counts in a file: a wrong one ends in a crash or an endless loop. `read_structure`
therefore checks the header, the zoom headers, the contig tree and the data index. `read_value_range` reads the extremes
from the values themselves: pyBigWig rounds those of the file's summary to whole numbers and crashes on NaN, and
libBigWig leaves out the first entry when it writes them.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from zflipon.errors import InputError
from zflipon.tracks.bigwig_layout import (
    BIGWIG_MAGIC,
    BLOCK_HEADER,
    BRANCH_DTYPE,
    CONTIG_TREE_HEADER,
    CONTIG_TREE_MAGIC,
    HEADER,
    INDEX_HEADER,
    INDEX_MAGIC,
    LEAF_DTYPE,
    NODE,
    ZOOM_HEADER,
    contig_dtypes,
)

_MAX_BUFFER = 1 << 28
"""Largest accepted size of an unpacked data block, in bytes. Common writers use 32 kB."""

_MAX_KEY = 1 << 16
"""Largest accepted length of a contig name, in bytes."""


@dataclass(frozen=True)
class BigWigStructure:
    """The data blocks of a checked bigWig file.

    Attributes
    ----------
    empty : bool
        Whether the file has no index, which writers leave out if there are no values. libBigWig fails on such a file.
    compressed : bool
    blocks : numpy.ndarray
        int64, shape (n, 2): offset and size of each data block in the file.
    """

    empty: bool
    compressed: bool
    blocks: np.ndarray


class _StructureError(Exception):
    """The file is not a valid bigWig; the message says why."""


def read_structure(path: str | Path) -> BigWigStructure:
    """Read and check the structure of a bigWig file.

    Raises
    ------
    InputError
        If the file is missing, not a bigWig, incomplete or inconsistent.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file" if not path.exists() else f"{path}: not a regular file")
    try:
        with open(path, "rb") as file:
            return _read(path, file, path.stat().st_size)
    except _StructureError as error:
        raise InputError(
            f"{path}: the bigWig file is damaged ({error}); write or download it again"
        ) from error
    except PermissionError as error:
        raise InputError(f"{path}: cannot be read (permission denied)") from error


def check_bigbed(path: Path, magic: int) -> None:
    """Check the structure of a bigBed, which is that of a bigWig, and the ends of its data blocks.

    Raises
    ------
    InputError
        If the file is incomplete or inconsistent.
    """
    try:
        with open(path, "rb") as file:
            size = path.stat().st_size
            head = file.read(HEADER.size)
            if len(head) < HEADER.size or head[:4] != struct.pack("<I", magic):
                raise _StructureError("no header")
            _, _, levels, tree_offset, _, index_offset, *_, buffer_size, _ = HEADER.unpack(head)
            if buffer_size > _MAX_BUFFER:
                raise _StructureError(f"data blocks of {buffer_size:,} bytes")
            _check_zoom_levels(file, size, levels, tree_offset)
            _check_contig_tree(file, size, tree_offset)
            for offset, length in _read_index(file, size, index_offset).tolist():
                block = _read_at(file, size, offset, length)
                block = zlib.decompress(block) if buffer_size else block
                if not block.endswith(b"\0") or (buffer_size and len(block) > buffer_size):
                    raise _StructureError("a data block that does not end with an entry")
    except (_StructureError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read as bigBed ({error}); is the file complete?") from error


def read_value_range(path: str | Path, structure: BigWigStructure) -> tuple[float, float] | None:
    """Return the smallest and largest finite value of a bigWig, None if it has none.

    Raises
    ------
    InputError
        If a data block cannot be unpacked.
    """
    low, high = np.inf, -np.inf
    try:
        with open(path, "rb") as file:
            for offset, size in structure.blocks.tolist():
                file.seek(offset)
                block = file.read(size)
                values = _block_values(zlib.decompress(block) if structure.compressed else block)
                values = values[np.isfinite(values)]
                if len(values):
                    low, high = min(low, float(values.min())), max(high, float(values.max()))
    except (zlib.error, struct.error, ValueError) as error:
        raise InputError(
            f"{path}: a data block of the bigWig is damaged ({error}); is the file complete?"
        ) from error
    return (low, high) if low <= high else None


def ends_with_magic(path: Path) -> bool:
    """Return whether a bigWig ends with its magic number, which writers put there last."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 4))
        return file.read() == struct.pack("<I", BIGWIG_MAGIC)


def _read(path: Path, file: BinaryIO, size: int) -> BigWigStructure:
    head = file.read(HEADER.size)
    if head[:4] == struct.pack(">I", BIGWIG_MAGIC):
        raise InputError(
            f"{path}: a big-endian bigWig, which cannot be read; convert it with bigWigToBedGraph"
        )
    if head[:4] != struct.pack("<I", BIGWIG_MAGIC):
        raise InputError(f"{path}: not a bigWig file; check its extension")
    incomplete = InputError(f"{path}: the bigWig file is truncated or was never finished; write it again")
    if len(head) < HEADER.size:
        raise incomplete
    _, _, levels, tree_offset, data_offset, index_offset, *_, buffer_size, _ = HEADER.unpack(head)
    if max(tree_offset, data_offset, index_offset) >= size or (
        index_offset == 0 and not ends_with_magic(path)
    ):
        raise incomplete
    if buffer_size > _MAX_BUFFER:
        raise _StructureError(f"data blocks of {buffer_size:,} bytes")
    _check_zoom_levels(file, size, levels, tree_offset)
    _check_contig_tree(file, size, tree_offset)
    if index_offset == 0:
        (blocks,) = struct.unpack("<Q", _read_at(file, size, data_offset, 8))
        if blocks:
            raise _StructureError(f"it has {blocks:,} data blocks but no index")
        return BigWigStructure(True, buffer_size > 0, np.empty((0, 2), dtype=np.int64))
    return BigWigStructure(False, buffer_size > 0, _read_index(file, size, index_offset))


def _read_at(file: BinaryIO, size: int, offset: int, length: int) -> bytes:
    if offset + length > size:
        raise _StructureError(f"an offset of {offset:,} in a file of {size:,} bytes")
    file.seek(offset)
    return file.read(length)


def _check_zoom_levels(file: BinaryIO, size: int, levels: int, tree_offset: int) -> None:
    if HEADER.size + levels * ZOOM_HEADER.size > tree_offset:
        raise _StructureError(f"{levels} zoom levels, for which its header has no room")
    for level in range(levels):
        entry = _read_at(file, size, HEADER.size + level * ZOOM_HEADER.size, ZOOM_HEADER.size)
        _, _, data_offset, index_offset = ZOOM_HEADER.unpack(entry)
        if data_offset >= size:
            raise _StructureError(f"zoom level {level + 1} begins at {data_offset:,}, beyond its end")
        (magic,) = struct.unpack("<I", _read_at(file, size, index_offset, 4))
        if magic != INDEX_MAGIC:
            raise _StructureError(f"zoom level {level + 1} has no index")


def _check_contig_tree(file: BinaryIO, size: int, offset: int) -> None:
    """Check that the tree has each contig number once: libBigWig writes to an array at these numbers."""
    header = CONTIG_TREE_HEADER.unpack(_read_at(file, size, offset, CONTIG_TREE_HEADER.size))
    magic, _, key_size, value_size, count, _ = header
    if magic != CONTIG_TREE_MAGIC or value_size != 8 or not 0 < key_size <= _MAX_KEY:
        raise _StructureError("its list of contigs cannot be read")
    if count * (key_size + 8) > size:
        raise _StructureError(f"{count:,} contigs in a file of {size:,} bytes")
    leaf, branch = contig_dtypes(key_size)
    numbers = [np.empty(0, dtype=np.uint32)]
    for items in _leaf_items(file, size, offset + CONTIG_TREE_HEADER.size, leaf, branch):
        numbers.append(items["number"])
    if not np.array_equal(np.sort(np.concatenate(numbers)), np.arange(count)):
        raise _StructureError(f"its list of contigs does not have the {count:,} entries that it states")


def _read_index(file: BinaryIO, size: int, offset: int) -> np.ndarray:
    """Return offset and size of each data block; see `BigWigStructure`."""
    header = INDEX_HEADER.unpack(_read_at(file, size, offset, INDEX_HEADER.size))
    if header[0] != INDEX_MAGIC:
        raise _StructureError(f"no index at {offset:,}, where its header places it")
    blocks = [np.empty((0, 2), dtype=np.int64)]
    for items in _leaf_items(file, size, offset + INDEX_HEADER.size, LEAF_DTYPE, BRANCH_DTYPE):
        if (items["offset"] > size).any() or (items["size"] > size - items["offset"]).any():
            raise _StructureError("its index points beyond its end")
        blocks.append(np.stack([items["offset"], items["size"]], axis=1).astype(np.int64))
    return np.concatenate(blocks)


def _block_values(block: bytes) -> np.ndarray:
    """Return the values of an unpacked data block: float32, shape (entries,)."""
    *_, kind, _, count = BLOCK_HEADER.unpack_from(block)
    columns = {1: 3, 2: 2, 3: 1}.get(
        kind
    )  # bedGraph: start, end, value; variable step: start, value; fixed step
    if columns is None:
        raise ValueError(f"unknown block type {kind}")
    values = np.frombuffer(block, dtype="<f4", count=count * columns, offset=BLOCK_HEADER.size)
    return values.reshape(-1, columns)[:, -1]


def _leaf_items(
    file: BinaryIO, size: int, root: int, leaf: np.dtype, branch: np.dtype
) -> Iterator[np.ndarray]:
    """Yield the items of each leaf of a tree; refuse trees with cycles or with nodes outside of the file."""
    pending, visited = [root], set()
    while pending:
        offset = pending.pop()
        if offset in visited:
            raise _StructureError("its index contains a cycle")
        visited.add(offset)
        is_leaf, _, count = NODE.unpack(_read_at(file, size, offset, NODE.size))
        dtype = leaf if is_leaf else branch
        items = np.frombuffer(_read_at(file, size, offset + NODE.size, count * dtype.itemsize), dtype=dtype)
        if is_leaf:
            yield items
        else:
            pending += items["offset"].tolist()
