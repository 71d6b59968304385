"""Read VCF (plain, gzip, bgzip) and BCF as records that keep every column as it is.

Lines are kept as text: only the columns that scoring needs are parsed. Bytes that are not UTF-8 survive as surrogate
escapes. Whether a file fits a genome is checked in `zflipon.workflows.variants.scan`.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import pysam

from zflipon.errors import InputError, printable

ENCODING = {"encoding": "utf-8", "errors": "surrogateescape"}
"""How text is decoded and encoded, so that every byte of a record survives."""

COLUMNS = ("#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO")
"""The fixed columns of a VCF."""

DECLARATIONS = ("contig", "INFO", "FILTER", "FORMAT")
"""Kinds of names that a header declares and records use."""

MAX_LINE = 1 << 27
"""Longest accepted line in bytes: room for a million samples. A longer one is no VCF and would fill the memory."""

_GZIP, _BCF, _BOM = b"\x1f\x8b", b"BCF", b"\xef\xbb\xbf"
_BGZIP_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_DECLARATION = re.compile(rf"##({'|'.join(DECLARATIONS)})=<(?:.*?,)?ID=([^,>]+)")
_INDEX = re.compile(r",IDX=\d+(?=[,>])")  # numbers of BCF, which mean nothing in text
_LENGTH = re.compile(r"##contig=<(?:.*?,)?length=(\d{1,18})(?!\d)")
_READ_ERRORS = (OSError, EOFError, ValueError, zlib.error)


@dataclass(frozen=True)
class VcfHeader:
    """Header of a VCF.

    Attributes
    ----------
    lines : tuple of str
        Lines that begin with ``##``, without line ends.
    columns : str
        The line of column names.
    """

    lines: tuple[str, ...]
    columns: str

    @property
    def samples(self) -> int:
        """Number of samples."""
        return max(0, self.columns.count("\t") - len(COLUMNS))

    @property
    def declared(self) -> set[tuple[str, str]]:
        """Pairs of kind (of `DECLARATIONS`) and name."""
        matches = (_DECLARATION.match(line) for line in self.lines)
        return {(match[1], match[2]) for match in matches if match}

    @property
    def longest_contig(self) -> int:
        """Largest declared length of a contig in bases, 0 if none is declared."""
        matches = (_LENGTH.match(line) for line in self.lines)
        return max((int(match[1]) for match in matches if match), default=0)

    def text(self) -> str:
        """Return the whole header as text, with a final newline."""
        return "".join(f"{line}\n" for line in (*self.lines, self.columns))


@dataclass(frozen=True)
class VcfRecord:
    """One line of a VCF.

    Attributes
    ----------
    columns : list of str
        All columns as they are.
    position : int
        1-based.
    """

    columns: list[str]
    position: int

    @property
    def contig(self) -> str:
        """Name of the contig."""
        return self.columns[0]

    @property
    def start(self) -> int:
        """0-based position of the first base of REF."""
        return self.position - 1

    @property
    def ref(self) -> str:
        """Reference allele."""
        return self.columns[3]

    @property
    def alts(self) -> tuple[str, ...]:
        """Alternative alleles; empty for ``.``."""
        return () if self.columns[4] == "." else tuple(self.columns[4].split(","))

    @property
    def samples(self) -> int:
        """Number of sample columns."""
        return max(0, len(self.columns) - len(COLUMNS) - 1)

    @property
    def info(self) -> list[str]:
        """Entries of the INFO column, such as ``'DP=7'``."""
        return [] if self.columns[7] in (".", "") else self.columns[7].split(";")


@contextmanager
def open_vcf(path: Path) -> Iterator[tuple[VcfHeader, Iterator[VcfRecord]]]:
    """Open a VCF or BCF; yield its header and an iterator over its records.

    Raises
    ------
    InputError
        If the file does not exist or is no VCF or BCF; from the iterator, if a record cannot be read.
    """
    if not path.is_file():
        raise InputError(f"{path}: not a file" if path.exists() else f"{path}: no such file")
    with _open_lines(path) as lines:
        numbered = enumerate(lines, 1)
        header = _read_header(path, numbered)
        yield header, _records(path, numbered)


def batches(records: Iterable[VcfRecord], size: int) -> Iterator[list[VcfRecord]]:
    """Yield lists of `size` records; the last one may be shorter."""
    records = iter(records)
    while batch := list(islice(records, size)):
        yield batch


@contextmanager
def _open_lines(path: Path) -> Iterator[Iterator[str]]:
    """Open a file of any supported packing as lines of text without line ends."""
    try:
        packed, head = _sniff(path)
    except _READ_ERRORS as error:
        raise InputError(f"{path}: cannot be read as VCF or BCF ({_reason(error)})") from error
    if head.startswith(_BCF):
        with _open_bcf(path) as file:
            yield _guard(path, _bcf_lines(file))
    else:
        with gzip.open(path) if packed else open(path, "rb") as file:
            yield _guard(path, _text_lines(file))


def _text_lines(file: BinaryIO | gzip.GzipFile) -> Iterator[str]:
    while line := file.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE:
            raise ValueError(f"a line of more than {MAX_LINE:,} bytes")
        yield line.rstrip(b"\r\n").decode(**ENCODING)


def _sniff(path: Path) -> tuple[bool, bytes]:
    """Return whether a file is compressed, and the first bytes of its content."""
    with open(path, "rb") as file:
        packed = file.read(2) == _GZIP
        if packed:
            file.seek(0)
            is_bgzip = b"BC\x02\x00" in file.read(18)
            file.seek(max(0, path.stat().st_size - len(_BGZIP_END)))
            if is_bgzip and file.read() != _BGZIP_END:
                raise ValueError("the file is truncated: its end-of-file marker is missing")
    with gzip.open(path) if packed else open(path, "rb") as file:
        return packed, file.read(len(_BOM))


@contextmanager
def _open_bcf(path: Path) -> Iterator[pysam.VariantFile]:
    try:
        file = pysam.VariantFile(str(path))
    except NotImplementedError as error:  # pysam's error for a file in which htslib cannot seek
        raise InputError(
            f"{path}: a BCF in plain gzip, expected bgzip; repack it: zcat {path} | bcftools view -Ob"
        ) from error
    except (OSError, ValueError, AssertionError) as error:
        raise InputError(f"{path}: cannot be read as VCF or BCF ({_reason(error)})") from error
    try:
        yield file
    except BaseException:
        with suppress(OSError):  # after a failed read, closing fails too and would hide the reason
            file.close()
        raise
    try:
        file.close()
    except OSError as error:
        raise InputError(f"{path}: cannot be read as VCF or BCF ({_reason(error)})") from error


def _bcf_lines(file: pysam.VariantFile) -> Iterator[str]:
    yield from str(file.header).splitlines()
    for record in file:
        yield str(record).rstrip("\n")


def _guard(path: Path, lines: Iterator[str]) -> Iterator[str]:
    """Turn what the readers raise into errors that name the file and the line."""
    number = 0
    try:
        for line in lines:
            number += 1
            yield line
    except _READ_ERRORS as error:
        raise InputError(
            f"{path}:{number + 1}: cannot be read as VCF or BCF ({_reason(error)}); is the file complete?"
        ) from error


def _read_header(path: Path, numbered: Iterator[tuple[int, str]]) -> VcfHeader:
    lines: list[str] = []
    for number, line in numbered:
        if number == 1:
            line = line.removeprefix("\ufeff")
            if not line.startswith("##fileformat=VCF"):
                raise InputError(
                    f"{path}: cannot be read as VCF or BCF; the first line should begin with '##fileformat=VCF', "
                    f"found {printable(line[:40])!r}"
                )
        if not line.startswith("##"):
            if tuple(line.split("\t")[: len(COLUMNS)]) != COLUMNS:
                raise InputError(
                    f"{path}:{number}: expected the column names {' '.join(COLUMNS)} after the lines that begin with "
                    f"'##', found {printable(line[:40])!r}"
                )
            return VcfHeader(tuple(lines), line)
        lines.append(_INDEX.sub("", line))
    raise InputError(f"{path}: has no line of column names ({' '.join(COLUMNS)}); is the file complete?")


def _records(path: Path, numbered: Iterator[tuple[int, str]]) -> Iterator[VcfRecord]:
    for number, line in numbered:
        if not line:
            continue
        columns = line.split("\t")
        if len(columns) < len(COLUMNS):
            raise InputError(
                f"{path}:{number}: expected {len(COLUMNS)} columns or more, separated by tabs, found {len(columns)}"
            )
        position = columns[1]
        if not (position.isascii() and position.isdigit() and len(position) < 11):
            raise InputError(
                f"{path}:{number}: POS should be a whole number, found {printable(position[:40])!r}"
            )
        if not columns[0] or not columns[3]:
            raise InputError(f"{path}:{number}: CHROM and REF should not be empty")
        yield VcfRecord(columns, int(position))


def _reason(error: BaseException) -> str:
    return printable(str(error).splitlines()[0] if str(error) else type(error).__name__)
