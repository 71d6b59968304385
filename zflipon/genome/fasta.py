"""FASTA → contig names, lengths, upper-case sequence and the gaps of N.

Coordinates are 0-based half-open. Reading goes through htslib (pysam), which
serves plain and bgzip files alike. The index is built here: htslib drops a second
contig of the same name with a warning and refuses an empty last contig, and pyfaidx
fails at blank lines.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pysam

from zflipon.errors import InputError, format_names, suggest
from zflipon.genome.alphabet import IUPAC

pysam.set_verbosity(0)  # htslib's own words would stand beside our one line

_ALLOWED = IUPAC + IUPAC.lower()
_BGZF_EOF = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_CHUNK = 1 << 24


@dataclass(frozen=True)
class ContigScan:
    """What one pass over a contig found.

    Attributes
    ----------
    md5 : str
        MD5 of the upper-case sequence, as the M5 tag of SAM headers has it.
    segments : numpy.ndarray
        int64, shape (n, 2): stretches of sequence between gaps of N.
    """

    md5: str
    segments: np.ndarray


class Genome:
    """A FASTA file that can be read at any place.

    Parameters
    ----------
    path : str or Path
        ``.fa``, ``.fa.gz`` (plain gzip or bgzip). The index is made beside the
        file, or in a temporary folder where that cannot be written. A plain
        gzip file, which has no random access, is unpacked to a temporary folder.

    Raises
    ------
    InputError
        If the file is missing, not a nucleotide FASTA, truncated, or names a contig twice.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._scratch: tempfile.TemporaryDirectory | None = None
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        kind = _sniff(self.path)
        text = self._unpack() if kind == "gzip" else self.path
        index, block_index = self._index(text, bgzip=kind == "bgzip")
        self.files: tuple[Path, Path, Path | None] = (text, index, block_index)
        """What is read: FASTA, its index and, of a bgzip file, the index of its blocks; maybe in a temporary folder."""
        try:
            self._file = pysam.FastaFile(
                str(text),
                filepath_index=str(index),
                filepath_index_compressed=block_index and str(block_index),
            )
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path}: cannot be read as FASTA ({error})") from error
        self.lengths: dict[str, int] = dict(zip(self._file.references, self._file.lengths, strict=True))
        """Contig name → length in bases, in the order of the file."""
        if not self.lengths:
            raise InputError(f"{self.path}: holds no contigs")
        for name in self.lengths:  # a protein file should fail now, not an hour into the run
            self.fetch(name, 0, min(self.lengths[name], 1000))

    def __enter__(self) -> Genome:
        return self

    def __exit__(self, *_exception) -> None:
        self.close()

    def close(self) -> None:
        """Release the file and any temporary index."""
        if hasattr(self, "_file"):
            self._file.close()
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None

    def fetch(self, contig: str, start: int, end: int) -> str:
        """Return the upper-case sequence of ``contig[start:end]``.

        Raises
        ------
        InputError
            If the contig is unknown, the range leaves it, or a letter is no nucleotide.
        """
        return self._letters(contig, start, end).upper()

    def soft_masked(self, contig: str, start: int, end: int) -> np.ndarray:
        """Return which bases of ``contig[start:end]`` are lower-case, as repeats are: bool, shape (bases,).

        Raises
        ------
        InputError
            As `fetch`.
        """
        letters = np.frombuffer(self._letters(contig, start, end).encode("ascii"), dtype=np.uint8)
        return letters >= ord("a")

    def _letters(self, contig: str, start: int, end: int) -> str:
        length = self.length(contig)
        if not 0 <= start <= end <= length:
            raise InputError(
                f"{contig}:{start}-{end} (0-based) lies outside the contig, which has {length} bases"
            )
        if start == end:
            return ""
        try:
            sequence = self._file.fetch(contig, start, end)
        except (OSError, ValueError) as error:
            raise InputError(
                f"{self.path}: contig {contig} cannot be read ({error}); is the file whole?"
            ) from error
        if len(sequence) != end - start:
            raise InputError(
                f"{self.path}: contig {contig} ends early ({len(sequence)} of {end - start} bases at {start}); "
                "the file is truncated or its index is stale (delete the .fai and try again)"
            )
        foreign = sequence.encode("ascii", "replace").translate(None, _ALLOWED)
        if foreign:
            letters = "".join(sorted({chr(c) for c in foreign}))
            raise InputError(
                f"{self.path}: contig {contig} holds {letters!r} near base {start + 1}; expected nucleotides "
                "(ACGTN and IUPAC codes). Is this a protein file?"
            )
        return sequence

    def length(self, contig: str) -> int:
        """Return the length of a contig in bases; raise `InputError` if there is none of that name."""
        try:
            return self.lengths[contig]
        except KeyError:
            raise InputError(
                f"no contig {contig!r} in {self.path}, which has {format_names(self.lengths)}"
            ) from None

    def select_contigs(self, contigs: Sequence[str]) -> dict[str, int]:
        """Return the lengths of the wanted contigs in the genome's order, so that no result hangs on theirs.

        Parameters
        ----------
        contigs : sequence of str
            None means all.

        Raises
        ------
        InputError
            If there is no contig of a name.
        """
        for contig in contigs:
            if contig not in self.lengths:
                raise InputError(
                    f"no contig {contig!r} in {self.path}, which has {format_names(self.lengths)}"
                    f"{suggest(contig, self.lengths)}"
                )
        wanted = set(contigs or self.lengths)
        return {contig: length for contig, length in self.lengths.items() if contig in wanted}

    def scan(self, contig: str, min_gap: int) -> ContigScan:
        """Read a contig once, in bounded memory: its checksum and its stretches of sequence.

        Parameters
        ----------
        contig : str
        min_gap : int
            A run of at least this many N separates two stretches; a shorter one lies inside a stretch.
        """
        length = self.length(contig)
        digest = hashlib.md5(usedforsecurity=False)
        runs: list[tuple[int, int]] = []
        for start in range(0, length, _CHUNK):
            sequence = self.fetch(contig, start, min(start + _CHUNK, length))
            digest.update(sequence.encode())
            for run in re.finditer("N+", sequence):
                begin, end = start + run.start(), start + run.end()
                if runs and runs[-1][1] == begin:  # one run, cut by the chunk
                    begin = runs.pop()[0]
                runs.append((begin, end))
        edges = [0]
        for begin, end in runs:
            # a run at a contig's end holds no context for anyone, however short
            if end - begin >= min_gap or begin == 0 or end == length:
                edges += [begin, end]
        edges.append(length)
        pairs = np.array(edges, dtype=np.int64).reshape(-1, 2)
        return ContigScan(digest.hexdigest(), pairs[pairs[:, 1] > pairs[:, 0]])

    def _temporary(self) -> Path:
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="zflipon-")
        return Path(self._scratch.name)

    def _unpack(self) -> Path:
        text = self._temporary() / "genome.fa"
        with _whole(self.path), gzip.open(self.path) as packed:
            try:
                with open(text, "wb") as out:
                    shutil.copyfileobj(packed, out, 1 << 20)
            except gzip.BadGzipFile:
                raise
            except OSError as error:
                raise InputError(
                    f"{self.path}: cannot be unpacked in {text.parent.parent} ({error.strerror}); pack it with bgzip, "
                    "which needs no unpacking, or set TMPDIR to a larger disk"
                ) from error
        return text

    def _index(self, text: Path, bgzip: bool) -> tuple[Path, Path | None]:
        """Return the paths of a fresh .fai and, for bgzip, .gzi; build what is missing or older than the file."""
        suffixes = (".fai", ".gzi") if bgzip else (".fai",)
        paths = [Path(f"{text}{suffix}") for suffix in suffixes]
        stamp = text.stat().st_mtime_ns
        if not all(path.exists() and path.stat().st_mtime_ns >= stamp for path in paths):
            with _whole(self.path), (gzip.open if bgzip else open)(text, "rb") as lines:
                contents = [_fai(self.path, lines), *([_gzi(text)] if bgzip else [])]
            try:
                _put(paths, contents)
            except OSError:
                paths = [self._temporary() / path.name for path in paths]
                _put(paths, contents)
        return paths[0], paths[1] if bgzip else None


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Turn what Python says of a damaged gzip file into an error that names it."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: the gzip file is damaged or truncated ({error})") from error


def _sniff(path: Path) -> str:
    """Return ``'plain'``, ``'gzip'`` or ``'bgzip'``; refuse what is no FASTA."""
    if not path.is_file():
        raise InputError(f"{path}: no such file" if not path.exists() else f"{path}: not a file")
    try:
        with _whole(path), open(path, "rb") as file:
            head = file.read(18)
            if head[:2] != b"\x1f\x8b":
                kind, first = "plain", head[:1]
            else:
                kind = "bgzip" if head[3:4] == b"\x04" and head[12:14] == b"BC" else "gzip"
                with gzip.open(path) as packed:
                    first = packed.read(1)
                file.seek(max(0, path.stat().st_size - len(_BGZF_EOF)))
                if kind == "bgzip" and file.read() != _BGZF_EOF:
                    raise InputError(f"{path}: the bgzip file is truncated (its end marker is missing)")
    except PermissionError as error:
        raise InputError(f"{path}: cannot be read (permission denied)") from error
    if first != b">":
        raise InputError(
            f"{path}: not a FASTA file: it should begin with '>', found {first.decode('latin1')!r}"
        )
    return kind


def _fai(path: Path, lines: Iterable[bytes]) -> bytes:
    """Return the .fai of FASTA lines: name, length and offset of each contig, bases and bytes of its lines."""
    table: dict[str, tuple[int, int, int, int]] = {}
    name, length, offset, bases, width, position = "", 0, 0, 0, 0, 0
    ended = False  # only a contig's last line may be shorter than the others
    for number, line in enumerate(lines, 1):
        if line.startswith(b">"):
            table[name] = length, offset, bases, width
            name, length, ended = _contig_name(path, number, line), 0, False
            offset, bases, width = position + len(line), 1, 2
            if name in table:
                raise InputError(
                    f"{path}: duplicate contig name {name!r}; every contig needs a name of its own"
                )
        elif found := len(line.rstrip(b"\r\n")):
            if not length:
                offset, bases, width, ended = position, found, len(line), False
            elif ended or found > bases or len(line) > width:
                raise InputError(
                    f"{path}:{number}: contig {name} has lines of unequal length, so that no place in it can be "
                    "found; rewrite the file with lines of one length (seqkit seq -w 60)"
                )
            ended = found < bases or len(line) < width
            length += found
        else:
            ended = True
        position += len(line)
    table[name] = length, offset, bases, width
    del table[""]  # before the first header
    rows = ("\t".join([name, *map(str, row)]) for name, row in table.items())
    return "".join(f"{row}\n" for row in rows).encode()


def _contig_name(path: Path, number: int, line: bytes) -> str:
    """Return the first word of a header."""
    try:
        name = (line[1:].split() or [b""])[0].decode()
    except UnicodeDecodeError:
        name = ""
    if not name or not name.isprintable():
        raise InputError(f"{path}:{number}: expected '>' and the name of a contig, found {line[:40]!r}")
    return name


def _gzi(path: Path) -> bytes:
    """Return the .gzi of a bgzip file: where each block but the first begins, packed and unpacked."""
    starts = []
    packed = unpacked = 0
    with open(path, "rb") as file:
        while header := file.read(18):
            packed += int.from_bytes(header[16:18], "little") + 1
            file.seek(packed - 4)
            unpacked += int.from_bytes(file.read(4), "little")
            starts.append((packed, unpacked))
    del starts[-2:]  # the end marker and the end of the file
    return np.array([len(starts), *chain.from_iterable(starts)], dtype="<u8").tobytes()


def _put(paths: Iterable[Path], contents: Iterable[bytes]) -> None:
    """Write files beside their names and rename them, since another process may look for them meanwhile."""
    for path, content in zip(paths, contents, strict=True):
        part = path.with_name(f".{os.getpid()}.part.{path.name}")
        try:
            part.write_bytes(content)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
