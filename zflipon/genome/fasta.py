"""FASTA files: contig names, lengths, upper-case sequence and segments between gaps of N.

Coordinates are 0-based half-open. Plain files are read by pyfaidx, bgzip files by htslib (pysam); files are indexed in
`zflipon.genome.fasta_index`.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Protocol

import numpy as np
import pyfaidx
import pysam

from zflipon.errors import InputError, format_names, suggest
from zflipon.genome.alphabet import IUPAC
from zflipon.genome.digests import REFGET_PREFIX, truncate
from zflipon.genome.fasta_index import FastaFiles, prepare_fasta
from zflipon.genome.names import ContigLengths, read_aliases, resolve_contig

pysam.set_verbosity(0)  # htslib would print its own messages next to ours

_ALLOWED_LETTERS = IUPAC + IUPAC.lower()

_SCAN_BASES = 1 << 24
"""Bases that `Genome.scan` reads at a time."""

_PROBE_BASES = 1000
"""Bases at the start of each contig whose letters are checked when a file is opened."""


@dataclass(frozen=True)
class ContigScan:
    """Checksum and segments of a contig.

    Attributes
    ----------
    md5 : str
        MD5 of the upper-case sequence, as in the M5 tag of SAM headers.
    refget : str
        GA4GH identifier of the upper-case sequence.
    segments : numpy.ndarray
        int64, shape (n, 2): runs of sequence between gaps of N.
    """

    md5: str
    refget: str
    segments: np.ndarray


class Genome:
    """A FASTA file with random access; a context manager.

    Parameters
    ----------
    path : str or Path
        ``.fa`` or ``.fa.gz``, plain gzip or bgzip. An index is written next to the file, or to a temporary folder if
        that folder is read-only. A plain gzip file, which has no random access, is unpacked to a temporary folder.
    aliases : str or Path, optional
        Table of contig aliases; see `zflipon.genome.names.read_aliases`.

    Attributes
    ----------
    path : Path
    files : FastaFiles
        The files that are read; some may be in a temporary folder.
    lengths : ContigLengths
        Contig name → length in bases, in the order of the file; also the aliases of contigs.

    Raises
    ------
    InputError
        If the file is missing, not a nucleotide FASTA, truncated, or has two contigs of one name.
    """

    def __init__(self, path: str | Path, aliases: str | Path | None = None):
        self.path = Path(path)
        self._aliases = read_aliases(aliases) if aliases is not None else []
        self._scratch: tempfile.TemporaryDirectory | None = None
        self._reader: _Reader | None = None
        self._lock = Lock()
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        self.files = prepare_fasta(self.path, self._temporary_folder)
        try:
            self._reader = _BgzipReader(self.files) if self.files.gzi else _PlainReader(self.files)
        except (OSError, ValueError, pyfaidx.FastaIndexingError) as error:
            raise InputError(f"{self.path}: cannot be read as FASTA ({error})") from error
        self.lengths = ContigLengths(self._reader.lengths, self._aliases)
        for name, length in self.lengths.items():  # a protein file fails here, not after an hour
            self.fetch(name, 0, min(length, _PROBE_BASES))

    def __enter__(self) -> Genome:
        return self

    def __exit__(self, *_exception) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and remove its temporary files."""
        if self._reader is not None:
            self._reader.close()
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None

    def fetch(self, contig: str, start: int, end: int) -> str:
        """Return the upper-case sequence of ``contig[start:end]``.

        Raises
        ------
        InputError
            If the contig is unknown, the range is outside of it, or a letter is not a nucleotide code.
        """
        return self._letters(contig, start, end).upper()

    def soft_masked(self, contig: str, start: int, end: int) -> np.ndarray:
        """Return which bases of ``contig[start:end]`` are lower-case, as repeats often are: bool, shape (bases,).

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
        if self._reader is None:
            raise ValueError(f"{self.path} is not open")
        try:
            with self._lock:  # the file has one position
                sequence = self._reader.fetch(contig, start, end)
        except (OSError, ValueError, pyfaidx.FetchError) as error:
            raise InputError(
                f"{self.path}: contig {contig} cannot be read ({error}); is the file complete?"
            ) from error
        if len(sequence) != end - start:
            raise InputError(
                f"{self.path}: contig {contig} ends early ({len(sequence)} of {end - start} bases at {start}); "
                "the file is truncated or its index is stale (delete the .fai and try again)"
            )
        invalid = sequence.encode("ascii", "replace").translate(None, _ALLOWED_LETTERS)
        if invalid:
            letters = "".join(sorted({chr(code) for code in invalid}))
            raise InputError(
                f"{self.path}: contig {contig} holds {letters!r} near base {start + 1}; expected nucleotides "
                "(ACGTN and IUPAC codes). Is this a protein file?"
            )
        return sequence

    def length(self, contig: str) -> int:
        """Return the length of a contig in bases; raise `InputError` if it is unknown."""
        try:
            return self.lengths[contig]
        except KeyError:
            raise InputError(
                f"no contig {contig!r} in {self.path}, which has {format_names(self.lengths)}"
            ) from None

    def select_contigs(self, contigs: Sequence[str]) -> dict[str, int]:
        """Return the lengths of some contigs, in the genome's order.

        Parameters
        ----------
        contigs : sequence of str
            An empty one selects all contigs.

        Raises
        ------
        InputError
            If a contig is unknown.
        """
        contigs = [resolve_contig(contig, self.lengths) for contig in contigs]
        for contig in contigs:
            if contig not in self.lengths:
                raise InputError(
                    f"no contig {contig!r} in {self.path}, which has {format_names(self.lengths)}"
                    f"{suggest(contig, self.lengths)}"
                )
        selected = set(contigs or self.lengths)
        return {contig: length for contig, length in self.lengths.items() if contig in selected}

    def scan(
        self, contig: str, min_gap: int, visit: Callable[[str], object] = lambda sequence: None
    ) -> ContigScan:
        """Read a contig once, in bounded memory: its checksum and its segments.

        Parameters
        ----------
        contig : str
        min_gap : int
            A run of at least this many N separates two segments; a shorter one is inside a segment.
        visit : callable
            Called with the upper-case sequence, a part at a time.
        """
        length = self.length(contig)
        digest, refget = hashlib.md5(usedforsecurity=False), hashlib.sha512()
        gaps: list[tuple[int, int]] = []
        for start in range(0, length, _SCAN_BASES):
            sequence = self.fetch(contig, start, min(start + _SCAN_BASES, length))
            for each in (digest, refget):
                each.update(sequence.encode())
            visit(sequence)
            for match in re.finditer("N+", sequence):
                gap_start, gap_end = start + match.start(), start + match.end()
                if gaps and gaps[-1][1] == gap_start:  # one run of N, read in two parts
                    gap_start = gaps.pop()[0]
                gaps.append((gap_start, gap_end))
        edges = [0]
        for gap_start, gap_end in gaps:
            # a run of N at the end of a contig is no context for any base, however short it is
            if gap_end - gap_start >= min_gap or gap_start == 0 or gap_end == length:
                edges += [gap_start, gap_end]
        edges.append(length)
        pairs = np.array(edges, dtype=np.int64).reshape(-1, 2)
        identifier = REFGET_PREFIX + truncate(refget.digest())
        return ContigScan(digest.hexdigest(), identifier, pairs[pairs[:, 1] > pairs[:, 0]])

    def _temporary_folder(self) -> Path:
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="zflipon-")
        return Path(self._scratch.name)


class _Reader(Protocol):
    """Reads parts of an indexed FASTA."""

    lengths: dict[str, int]

    def fetch(self, contig: str, start: int, end: int) -> str:
        """Return the letters of ``contig[start:end]`` as they are in the file."""
        ...

    def close(self) -> None:
        """Close the file."""


class _PlainReader:
    """Reads a plain FASTA through pyfaidx."""

    def __init__(self, files: FastaFiles):
        # strict bounds: pyfaidx would shorten a range that passes the end of a contig
        self._file = pyfaidx.Faidx(
            str(files.text),
            indexname=str(files.fai),
            as_raw=True,
            strict_bounds=True,
            build_index=False,
            rebuild=True,
        )
        self.lengths = {name: record.rlen for name, record in self._file.index.items()}

    def fetch(self, contig: str, start: int, end: int) -> str:
        return str(self._file.fetch(contig, start + 1, end))

    def close(self) -> None:
        self._file.close()


class _BgzipReader:
    """Reads a bgzip FASTA through htslib."""

    def __init__(self, files: FastaFiles):
        self._file = pysam.FastaFile(
            str(files.text), filepath_index=str(files.fai), filepath_index_compressed=str(files.gzi)
        )
        self.lengths = dict(zip(self._file.references, self._file.lengths, strict=True))

    def fetch(self, contig: str, start: int, end: int) -> str:
        return self._file.fetch(contig, start, end)

    def close(self) -> None:
        self._file.close()
