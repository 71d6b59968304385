"""Writer of 2bit genomes, from which UCSC and IGV show assemblies that they do not provide."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from zflipon.errors import InputError
from zflipon.genome.alphabet import UNKNOWN_BASE, base_codes
from zflipon.genome.fasta import Genome

_SIGNATURE = 0x1A412743
_CHUNK = 1 << 22  # bases; a multiple of four, so that only a contig's last byte is incomplete
_BITS = np.array([2, 1, 3, 0, 0], dtype=np.uint8)  # codes of A, C, G, T and unknown bases in 2bit


def write_twobit(path: Path, genome: Genome) -> None:
    """Write a genome as 2bit, a chunk at a time and without soft masking.

    Parameters
    ----------
    path : Path
    genome : Genome
        Letters other than A, C, G and T become N.

    Raises
    ------
    InputError
        If a contig name is too long or the genome too large for the format.
    """
    names = {contig: contig.encode() for contig in genome.lengths}
    if max(map(len, names.values())) > 255 or sum(genome.lengths.values()) >= 1 << 34:
        raise InputError(
            f"{genome.path}: exceeds the limits of 2bit (names of 255 bytes, 2^34 bases); name an assembly with "
            "--assembly"
        )
    with open(path, "wb") as file:
        file.write(struct.pack("<4I", _SIGNATURE, 0, len(names), 0))
        position = 16
        offset_fields = {}  # contig → position of its offset, which is written when it is known
        for contig, name in names.items():
            file.write(struct.pack("<B", len(name)) + name + bytes(4))
            offset_fields[contig] = position + 1 + len(name)
            position += 5 + len(name)
        for contig in names:
            offset = file.seek(0, 2)
            file.seek(offset_fields[contig])
            file.write(struct.pack("<I", offset))
            file.seek(offset)
            _write_contig(file, genome, contig)


def _write_contig(file, genome: Genome, contig: str) -> None:
    unknown = _unknown_runs(genome, contig)
    sizes = np.diff(unknown, axis=1).ravel()
    file.write(struct.pack("<2I", genome.lengths[contig], len(unknown)))
    file.write(unknown[:, 0].astype("<u4").tobytes() + sizes.astype("<u4").tobytes())
    file.write(struct.pack("<2I", 0, 0))  # no masked blocks; a reserved word
    for codes in _chunks(genome, contig):
        bits = np.zeros(-(-len(codes) // 4) * 4, dtype=np.uint8)
        bits[: len(codes)] = _BITS[codes]
        first, second, third, fourth = bits.reshape(-1, 4).T
        file.write((first << 6 | second << 4 | third << 2 | fourth).tobytes())


def _unknown_runs(genome: Genome, contig: str) -> np.ndarray:
    """Return the runs of unknown bases: int64, shape (n, 2)."""
    runs, start = [np.empty((0, 2), dtype=np.int64)], 0
    for codes in _chunks(genome, contig):
        edges = np.flatnonzero(np.diff(np.r_[False, codes == UNKNOWN_BASE, False].astype(np.int8)))
        runs.append(edges.reshape(-1, 2) + start)
        start += len(codes)
    return np.concatenate(runs)


def _chunks(genome: Genome, contig: str):
    length = genome.lengths[contig]
    for start in range(0, length, _CHUNK):
        yield base_codes(genome.fetch(contig, start, min(start + _CHUNK, length)))
