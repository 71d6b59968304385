"""Lowest and highest value of a bigWig file, read without pyBigWig's header, which rounds them and crashes on NaN.

Readers of per-base values are in `zflipon.tracks.readers`, the writer in `zflipon.tracks.writers`.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np

from zflipon.errors import InputError
from zflipon.tracks.readers import open_bigwig

_BYTE_ORDERS = {b"\x26\xfc\x8f\x88": "<", b"\x88\x8f\xfc\x26": ">"}
"""First four bytes of a bigWig file → byte order in the notation of `struct`."""

_SUMMARY_POINTER = 0x2C
"""Position of the file offset of the total summary."""

_CHUNK = 1 << 20
"""Bases read at a time."""


def value_range(path: Path) -> tuple[float, float] | None:
    """Return the lowest and the highest finite value of a bigWig file.

    The range in the file's summary is used where it is valid. Files by other programs may hold NaN there, or a
    maximum below the minimum; then all values are read, which takes about a minute for a human genome.

    Parameters
    ----------
    path : Path

    Returns
    -------
    (float, float) or None
        None if the file holds no finite value.

    Raises
    ------
    InputError
        If the file is missing, is no bigWig, or is truncated.
    """
    file, empty = open_bigwig(path)
    with file:
        if empty:
            return None
        return _summary_range(path) or _scan_range(file, path)


def _summary_range(path: Path) -> tuple[float, float] | None:
    """Return the range that the file's summary records, None if it is absent or invalid."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        order = _BYTE_ORDERS[file.read(4)]
        file.seek(_SUMMARY_POINTER)
        pointer = file.read(8)
        offset = struct.unpack(order + "Q", pointer)[0] if len(pointer) == 8 else 0
        if not 64 <= offset <= size - 40:
            return None
        file.seek(offset)
        bases, low, high, total, squares = struct.unpack(order + "Qdddd", file.read(40))
    valid = bases > 0 and all(map(math.isfinite, (low, high, total, squares))) and low <= high
    return (low, high) if valid else None


def _scan_range(file, path: Path) -> tuple[float, float] | None:
    """Return the range of all finite values."""
    low, high = math.inf, -math.inf
    for contig, length in file.chroms().items():
        for start in range(0, length, _CHUNK):
            values = read_values(file, path, contig, start, min(start + _CHUNK, length))
            values = values[np.isfinite(values)]
            if len(values):
                low, high = min(low, float(values.min())), max(high, float(values.max()))
    return (low, high) if low <= high else None


def read_values(file, path: Path, contig: str, start: int, end: int) -> np.ndarray:
    """Return per-base values of an open bigWig: float32, shape (end - start,), NaN where there is none.

    Parameters
    ----------
    file : pyBigWig.pyBigWig
        Open, with at least one entry.
    path : Path
        Named in the error.
    contig : str
    start, end : int
        0-based half-open, inside the contig.

    Raises
    ------
    InputError
        If the data of the region is damaged.
    """
    try:
        values = file.values(contig, start, end, numpy=True)
    except RuntimeError:
        values = ()
    if len(values) != end - start:
        raise InputError(
            f"{path}: {contig}:{start + 1:,}-{end:,} cannot be read; the file is damaged, write it again"
        )
    return np.asarray(values, dtype=np.float32)
