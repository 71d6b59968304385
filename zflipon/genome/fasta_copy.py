"""Copies of FASTA files in regular form, for files that pyfaidx and htslib refuse although they are unambiguous.

Clear errors for ambiguous files come from here too. Indexes are built in `zflipon.genome.fasta_index`.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from io import BufferedReader
from pathlib import Path

from zflipon.errors import InputError
from zflipon.genome.text_files import gzip_errors


def write_regular_copy(path: Path, text: Path, folder: Path) -> Path:
    """Copy a FASTA without blank lines at the ends of contigs.

    Raises
    ------
    InputError
        If a name is missing or occurs twice, a sequence is not ASCII, or a contig has lines of unequal length.
    """
    copy = folder / "regular.fa"
    with gzip_errors(path), _open_text(text) as lines, open(copy, "wb") as out:
        for line in _regular_lines(path, lines):
            out.write(line)
    return copy


def _open_text(text: Path) -> BufferedReader | gzip.GzipFile:
    with open(text, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(text) if packed else open(text, "rb")


def _regular_lines(path: Path, lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield headers and lines of sequence that end in a line feed; only a contig's last line may be shorter."""
    names: set[str] = set()
    name, line_bases, ended = "", 0, False
    for number, line in enumerate(lines, 1):
        bases = line.rstrip(b"\r\n")
        if line.startswith(b">"):
            name, line_bases, ended = _parse_name(path, number, line), 0, False
            if name in names:
                raise InputError(
                    f"{path}:{number}: duplicate contig name {name!r}; expected a different name for each contig"
                )
            names.add(name)
        elif not bases:
            ended = line_bases > 0
            continue
        else:
            if not bases.isascii():
                found = next(byte for byte in bases if byte > 127)
                raise InputError(
                    f"{path}:{number}: byte {found:#x} in the sequence of contig {name}, expected letters; is the file "
                    "damaged?"
                )
            if line_bases and (ended or len(bases) > line_bases):
                raise InputError(
                    f"{path}:{number}: contig {name} has lines of unequal length, so that positions in it cannot be "
                    "found; rewrite the file with lines of one length (seqkit seq -w 60)"
                )
            line_bases = line_bases or len(bases)
            ended = len(bases) < line_bases
        yield bases + b"\n"


def _parse_name(path: Path, number: int, line: bytes) -> str:
    """Return the first word of a header."""
    try:
        name = (line[1:].split() or [b""])[0].decode()
    except UnicodeDecodeError:
        name = ""
    if not name or not name.isprintable():
        raise InputError(f"{path}:{number}: expected '>' and the name of a contig, found {line[:40]!r}")
    return name
