"""Indexes of FASTA files: which kind of file it is, whether an index fits it, and how one is built.

pyfaidx indexes plain files, htslib (pysam) bgzip files. Files that these refuse although they are unambiguous, such as
files with blank lines between contigs, are copied to a temporary folder in regular form. Sequences are read in
`zflipon.genome.fasta`.
"""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyfaidx
import pysam

from zflipon.errors import InputError
from zflipon.genome.fasta_copy import write_regular_copy
from zflipon.genome.text_files import gzip_errors

_BGZF_EOF = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
"""The empty block that ends every bgzip file."""

_BYTE_ORDER_MARKS = {
    b"\xef\xbb\xbf": "a UTF-8 byte-order mark",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}

_CHUNK = 1 << 24
"""Bytes read at a time when a whole file is read."""

_PROBE = 1 << 16
"""Bytes at the start of a file in which line ends are looked for."""

_MAX_HEADER = 1 << 20
"""Longest header line, in bytes, that an index check reads."""

_MAX_FAI = 1 << 30
"""Largest index that is read, in bytes; a genome of ten million contigs has a smaller one."""

_CHECKED_CONTIGS = 2000
"""An index with more rows is checked at this many, spread evenly, and at the last."""


class FastaFiles(NamedTuple):
    """The files from which a FASTA is read.

    Attributes
    ----------
    text : Path
        The FASTA, possibly a copy in a temporary folder.
    fai : Path
        Index of contigs and lines.
    gzi : Path or None
        Index of blocks, of a bgzip file.
    """

    text: Path
    fai: Path
    gzi: Path | None


class _IndexRow(NamedTuple):
    """A row of a .fai index: bases, then offset in the text and bases and bytes of a line."""

    name: str
    length: int
    offset: int
    line_bases: int
    line_width: int

    @property
    def end(self) -> int:
        """Offset of the first byte after the last base."""
        lines = (self.length - 1) // self.line_bases if self.length else 0
        return self.offset + self.length + lines * (self.line_width - self.line_bases)


class _Unindexable(Exception):
    """A library cannot index the file as it is."""


def prepare_fasta(path: Path, temporary_folder: Callable[[], Path]) -> FastaFiles:
    """Check a FASTA file, index it if it has no valid index, and return what to read.

    Parameters
    ----------
    path : Path
    temporary_folder : callable
        Returns a folder for an unpacked file and for an index that cannot be written next to the FASTA.

    Raises
    ------
    InputError
        If the file is missing, not a FASTA, truncated, or ambiguous: duplicate names, lines of unequal length.
    """
    kind = detect_compression(path)
    if kind == "gzip":
        text, bgzip = _unpack(path, temporary_folder()), False
    else:
        text, bgzip = path, kind == "bgzip"
    existing = _existing_index(path, text, bgzip)
    if existing:
        return existing
    try:
        built = _build_index(path, text, bgzip, temporary_folder())
    except _Unindexable:
        text, bgzip = write_regular_copy(path, text, temporary_folder()), False
        try:
            built = _build_index(path, text, bgzip, temporary_folder())
        except _Unindexable as error:
            raise InputError(
                f"{path}: cannot be indexed ({error.__cause__ or 'lines of unequal length'}); rewrite the file with "
                "seqkit seq -w 60"
            ) from error
    return _publish(built, text)


def detect_compression(path: Path) -> str:
    """Return ``'plain'``, ``'gzip'`` or ``'bgzip'``.

    Raises
    ------
    InputError
        If the file is missing, cannot be read or is not a FASTA.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file" if not path.exists() else f"{path}: not a regular file")
    try:
        with gzip_errors(path), open(path, "rb") as file:
            head = file.read(18)
            if head[:2] != b"\x1f\x8b":
                kind, beginning = "plain", head + file.read(_PROBE)
            else:
                kind = "bgzip" if head[3:4] == b"\x04" and head[12:14] == b"BC" else "gzip"
                with gzip.open(path) as unpacked:
                    beginning = unpacked.read(_PROBE)
                file.seek(max(0, path.stat().st_size - len(_BGZF_EOF)))
                if kind == "bgzip" and file.read() != _BGZF_EOF:
                    raise InputError(f"{path}: the bgzip file is truncated (its end marker is missing)")
    except PermissionError as error:
        raise InputError(f"{path}: cannot be read (permission denied)") from error
    _check_beginning(path, beginning)
    return kind


def _check_beginning(path: Path, beginning: bytes) -> None:
    for mark, description in _BYTE_ORDER_MARKS.items():
        if beginning.startswith(mark):
            raise InputError(
                f"{path}: begins with {description}; expected ASCII text. Save it without a byte-order mark "
                "(iconv, or tail -c +4 for UTF-8)"
            )
    if not beginning.startswith(b">"):
        raise InputError(
            f"{path}: not a FASTA file: expected '>' at its start, found {beginning[:1].decode('latin1')!r}"
        )
    if b"\r" in beginning and b"\n" not in beginning:
        raise InputError(
            f"{path}: lines end in carriage returns alone (old Macintosh text); convert them first "
            "(tr '\\r' '\\n' < in.fa > out.fa)"
        )


def _unpack(path: Path, folder: Path) -> Path:
    text = folder / "genome.fa"
    with gzip_errors(path), gzip.open(path) as packed:
        try:
            with open(text, "wb") as out:
                shutil.copyfileobj(packed, out, 1 << 20)
        except gzip.BadGzipFile:
            raise
        except OSError as error:
            raise InputError(
                f"{path}: cannot be unpacked in {text.parent.parent} ({error.strerror}); compress it with bgzip, "
                "which needs no unpacking, or set TMPDIR to a larger disk"
            ) from error
    return text


# ---- existing indexes ---------------------------------------------------------------------------------------


def _existing_index(path: Path, text: Path, bgzip: bool) -> FastaFiles | None:
    """Return the index next to a FASTA if it is newer than the FASTA and fits it."""
    files = FastaFiles(text, Path(f"{text}.fai"), Path(f"{text}.gzi") if bgzip else None)
    indexes = [index for index in files[1:] if index]
    stamp = text.stat().st_mtime_ns
    if not all(index.is_file() and index.stat().st_mtime_ns >= stamp for index in indexes):
        return None
    try:
        rows = _read_fai(files.fai)
        if rows != _in_file_order(rows):  # contigs are written in the order of the index
            return None
        with _TextAccess(files) as access:
            return files if _index_fits(path, rows, access, _CHECKED_CONTIGS) else None
    except (OSError, EOFError, ValueError, zlib.error):
        return None


def _read_fai(fai: Path) -> list[_IndexRow]:
    """Return the rows of a .fai index; raise `ValueError` if it is malformed."""
    if fai.stat().st_size > _MAX_FAI:
        raise ValueError("too large")
    rows = []
    for line in fai.read_text(encoding="utf-8").splitlines():
        name, *numbers = line.split("\t")
        if not all(
            number.isascii() and number.isdigit() for number in numbers
        ):  # int() reads 1_000, htslib does not
            raise ValueError(line)
        length, offset, line_bases, line_width = map(int, numbers)
        if length and not 0 < line_bases <= line_width:
            raise ValueError(line)
        row = _IndexRow(name, length, offset, line_bases, line_width)
        rows.append(row)
    if len({row.name for row in rows}) < len(rows) or not rows:
        raise ValueError("duplicate or no contigs")
    return rows


def _in_file_order(rows: list[_IndexRow]) -> list[_IndexRow]:
    return sorted(rows, key=lambda row: (row.offset, row.length))


class _TextAccess:
    """The text of a plain or bgzip FASTA, read at any offset."""

    def __init__(self, files: FastaFiles):
        self._file = open(files.text, "rb")  # noqa: SIM115
        self._blocks = np.zeros((1, 2), dtype=np.int64)  # offsets of blocks: packed, unpacked
        self._bgzip = files.gzi is not None
        if files.gzi is None:
            self.size = files.text.stat().st_size
            return
        numbers = np.fromfile(files.gzi, dtype="<u8").astype(np.int64)
        if not len(numbers) or len(numbers) != 1 + 2 * numbers[0]:
            raise ValueError("incomplete .gzi index")
        self._blocks = np.concatenate([self._blocks, numbers[1:].reshape(-1, 2)])
        last = int(self._blocks[-1, 1])
        self.size = last + len(self.read(last, last + _CHUNK))

    def __enter__(self) -> _TextAccess:
        return self

    def __exit__(self, *_exception) -> None:
        self._file.close()

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes ``[start, end)``, fewer at the end of the text."""
        if not self._bgzip:
            self._file.seek(start)
            return self._file.read(end - start)
        packed, unpacked = self._blocks[np.searchsorted(self._blocks[:, 1], start, side="right") - 1].tolist()
        self._file.seek(packed)
        with gzip.GzipFile(fileobj=self._file) as text:
            text.read(start - unpacked)
            return text.read(end - start)


def _index_fits(path: Path, rows: list[_IndexRow], text: _TextAccess, limit: int | None = None) -> bool:
    """Return whether each contig begins just after its header and ends where the next one begins.

    At most `limit` contigs are checked, spread evenly, and the last one.

    Raises
    ------
    InputError
        If the index passes the end of the file, which is then truncated.
    """
    checked = np.unique(
        np.linspace(0, len(rows) - 1, min(len(rows), limit or len(rows))).astype(int)
    ).tolist()
    for number in checked:
        start = rows[number - 1].end if number else 0
        if rows[number].offset > text.size:  # of a truncated file, the part that is left is checked
            break
        if not 0 <= rows[number].offset - start <= _MAX_HEADER:
            return False
        header = text.read(start, rows[number].offset)
        lines = header.strip().splitlines()
        name = lines[0][1:].split()[:1] if lines else []
        if not (len(lines) == 1 and lines[0].startswith(b">") and header.endswith(b"\n")):
            return False
        if number and rows[number - 1].length and header[:1] not in b"\r\n":  # the line before it is too long
            return False
        if name != [rows[number].name.encode()]:
            return False
    if rows[-1].end > text.size:
        raise InputError(
            f"{path}: contig {rows[-1].name} ends early: its index expects {rows[-1].end:,} bytes, the file has "
            f"{text.size:,}. Is the file truncated? If not, delete its .fai index"
        )
    if text.size - rows[-1].end > _MAX_HEADER:
        return False
    rest = text.read(rows[-1].end, text.size)
    return not rest.strip()


# ---- new indexes --------------------------------------------------------------------------------------------


def _build_index(path: Path, text: Path, bgzip: bool, folder: Path) -> FastaFiles:
    """Build an index in a folder; raise `_Unindexable` if the library refuses the file or changes it."""
    files = FastaFiles(text, folder / f"{text.name}.fai", folder / f"{text.name}.gzi" if bgzip else None)
    for index in filter(None, files[1:]):
        index.unlink(missing_ok=True)
    try:
        with gzip_errors(path):
            if files.gzi:
                pysam.faidx("--fai-idx", str(files.fai), "--gzi-idx", str(files.gzi), str(text))
                contigs = _count_headers(text)
            else:
                with pyfaidx.Faidx(str(text), indexname=str(files.fai)) as index:
                    contigs = len(index.index)
        rows = _in_file_order(_read_fai(files.fai))
    except InputError:
        raise
    except OSError as error:
        if error.errno:  # such as a full disk; refusals of the library have none
            raise InputError(f"{path}: cannot be indexed in {folder} ({error.strerror})") from error
        raise _Unindexable from error
    except (ValueError, RuntimeError, pyfaidx.FastaIndexingError, pysam.SamtoolsError) as error:
        raise _Unindexable from error
    # htslib drops a second contig of the same name
    if len(rows) != contigs or not all(row.name.isprintable() and row.name for row in rows):
        raise _Unindexable
    with _TextAccess(files) as access:
        # pyfaidx accepts a last line that is longer than the others; htslib checks all lines
        if not _index_fits(path, rows, access, _CHECKED_CONTIGS if bgzip else None):
            raise _Unindexable
    return files


def _count_headers(text: Path) -> int:
    count, last = 1, b">"
    with gzip.open(text) as file:
        while chunk := file.read(_CHUNK):
            count += (last + chunk).count(b"\n>")
            last = chunk[-1:]
    return count


def _publish(files: FastaFiles, text: Path) -> FastaFiles:
    """Move an index next to its FASTA; leave it in the temporary folder if that folder cannot be written.

    The index is written to a new file and renamed, so that other processes never read half of it and links are
    replaced, not followed.
    """
    published = FastaFiles(text, Path(f"{text}.fai"), files.gzi and Path(f"{text}.gzi"))
    if published.fai == files.fai:
        return files
    for source, target in zip(files[1:], published[1:], strict=True):
        if source is None or target is None:
            continue
        try:
            descriptor, part = tempfile.mkstemp(
                prefix=".zflipon-", suffix=f".{target.name}", dir=target.parent
            )
        except OSError:
            return files
        try:
            with open(descriptor, "wb") as out, open(source, "rb") as index:
                shutil.copyfileobj(index, out)
            os.chmod(part, 0o666 & ~_umask())
            os.replace(part, target)
        except OSError:
            with suppress(OSError):
                os.unlink(part)
            return files
    return published


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
