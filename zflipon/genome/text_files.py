"""Reading of text input files by line or by block: gzip, byte-order marks and clear errors for files that are not text.

Formats are parsed elsewhere; see `zflipon.genome.interval_files`.
"""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from zflipon.errors import InputError

MAX_LINE = 1 << 20
"""Longest accepted line, in characters; a longer one means that the file is not what was expected."""

BLOCK_BYTES = 1 << 24
"""Bytes of a block of `read_blocks`."""

_BINARY_FORMATS = {
    b"BAM\x01": "a BAM file",
    b"CRAM": "a CRAM file",
    b"BCF\x02": "a BCF file",
    b"\x26\xfc\x8f\x88": "a bigWig file",
    b"\xeb\xf2\x89\x87": "a bigBed file",
    b"PK\x03\x04": "a zip archive",
    b"BZh": "a bzip2 file",
    b"\xfd7zX": "an xz file",
    b"\xff\xfe": "UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8",
}
"""First bytes → description, of formats that are often given in place of text."""


@contextmanager
def gzip_errors(path: Path) -> Iterator[None]:
    """Turn errors of a damaged gzip file into an `InputError` that names the file."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: the gzip file is damaged or truncated ({error})") from error


def read_lines(path: str | Path, expected: str = "text") -> Iterator[tuple[int, str]]:
    """Yield the numbered lines of a UTF-8 text file, plain or gzip; a byte-order mark is skipped.

    Parameters
    ----------
    path : str or Path
    expected : str
        What the file should be, for messages.

    Yields
    ------
    number : int
        From 1 on.
    line : str
        Without its line end.

    Raises
    ------
    InputError
        If the file is missing, not a regular file, damaged, not text or has a line of more than `MAX_LINE` characters.
    """
    path = Path(path)
    with _checked(path, expected) as opener, opener(path, "rt", encoding="utf-8-sig") as lines:
        number = 0
        while line := lines.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE:
                raise InputError(
                    f"{path}:{number}: a line of more than {MAX_LINE:,} characters; expected {expected}"
                )
            if "\0" in line:
                raise InputError(f"{path}:{number}: not a text file; expected {expected}")
            yield number, line.rstrip("\r\n")


def read_blocks(path: str | Path, expected: str = "text", size: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Yield a text file, plain or gzip, as blocks of whole lines, for readers that parse many lines at once.

    Parameters
    ----------
    path : str or Path
    expected : str
        What the file should be, for messages.
    size : int
        Bytes read at a time.

    Yields
    ------
    bytes
        Lines with their line ends; the last line of the file may have none. A byte-order mark is skipped.

    Raises
    ------
    InputError
        As `read_lines`; whether the bytes are UTF-8 is not checked.
    """
    path = Path(path)
    with _checked(path, expected) as opener, opener(path, "rb") as file:
        rest = file.read(len(codecs.BOM_UTF8)).removeprefix(codecs.BOM_UTF8)
        while block := file.read(size):
            if b"\0" in block:
                raise InputError(f"{path}: not a text file; expected {expected}")
            lines, end, tail = block.rpartition(b"\n")
            if end:
                yield rest + lines + end
                rest = tail
            else:
                rest += tail
            if len(rest) > MAX_LINE:
                raise InputError(f"{path}: a line of more than {MAX_LINE:,} characters; expected {expected}")
        if rest:
            yield rest


@contextmanager
def _checked(path: Path, expected: str) -> Iterator[Callable]:
    """Yield the function that opens a text file, after a check of its first bytes; turn errors into `InputError`."""
    if not path.is_file():
        reason = "not a regular file; copy it to one first" if path.exists() else "no such file"
        raise InputError(f"{path}: {reason}")
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        opener = gzip.open if packed else open
        with gzip_errors(path):
            with opener(path, "rb") as file:
                _check_text(path, file.read(8), expected)
            yield opener
    except PermissionError as error:
        raise InputError(f"{path}: cannot be read (permission denied)") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file; expected {expected}") from error


def _check_text(path: Path, head: bytes, expected: str) -> None:
    for magic, description in _BINARY_FORMATS.items():
        if head.startswith(magic):
            raise InputError(f"{path}: {description}, not a text file; expected {expected}")
