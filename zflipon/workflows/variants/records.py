"""VCF or BCF → records, after one look at whether it can be used at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path

import pysam

from zflipon.config import RECORDS_PER_BATCH
from zflipon.errors import InputError, format_names
from zflipon.genome.fasta import Genome

Region = tuple[str, int, int]
"""Contig, start and end, 0-based half-open."""


@dataclass
class Survey:
    """What one pass over a VCF found.

    Attributes
    ----------
    records, asked : int
        All, and those in the regions asked for.
    digest : str
        Checksum of places and alleles of those asked for.
    farthest : int
        The largest end of a record, or length of a contig: bases.
    unsorted : str
        The first place that is out of order, or an empty string.
    """

    records: int = 0
    asked: int = 0
    digest: str = ""
    farthest: int = 0
    unsorted: str = ""

    @property
    def pools(self) -> int:
        """Runs of `RECORDS_PER_BATCH` records."""
        return -(-self.asked // RECORDS_PER_BATCH)


@dataclass
class _Order:
    """Notes the first record that an index could not hold."""

    seen: dict[str, None] = field(default_factory=dict)
    contig: str = ""
    position: int = 0
    broken: str = ""

    def add(self, contig: str, position: int) -> None:
        back = position < self.position if contig == self.contig else contig in self.seen
        if back and not self.broken:
            self.broken = f"{contig}:{position}"
        self.seen[contig] = None
        self.contig, self.position = contig, position


def survey(path: Path, genome: Genome, regions: list[Region]) -> tuple[Survey, pysam.VariantHeader]:
    """Read a VCF or BCF once, and tell whether it is whole, sorted, and of this genome; return its header too.

    Raises
    ------
    InputError
        If it cannot be read, its header lacks what its records name, or none of its contigs is the genome's.
    """
    found, order, digest = Survey(), _Order(), sha256()
    with _opened(path) as file:
        declared = _names(file.header)
        for record in _records(path, file):
            order.add(record.contig, record.pos)
            found.records += 1
            found.farthest = max(found.farthest, record.start + len(record.ref))
            if _asked(record, regions):
                found.asked += 1
                alts = ",".join(record.alts or ())
                digest.update(f"{record.contig} {record.pos} {record.ref} {alts}\n".encode())
        _refuse_undeclared(path, _names(file.header) - declared)
        header = file.header.copy()
    _refuse_foreign(path, list(order.seen), genome)
    lengths = (contig.length or 0 for contig in header.contigs.values())
    found.farthest = max([found.farthest, *lengths])
    found.digest, found.unsorted = digest.hexdigest(), order.broken
    return found, header


def pools(path: Path, regions: list[Region]) -> Iterator[list[pysam.VariantRecord]]:
    """Yield runs of `RECORDS_PER_BATCH` of the records that are asked for."""
    with _opened(path) as file:
        wanted = (record for record in _records(path, file) if _asked(record, regions))
        while pool := list(islice(wanted, RECORDS_PER_BATCH)):
            yield pool


def _asked(record: pysam.VariantRecord, regions: list[Region]) -> bool:
    end = record.start + len(record.ref)
    return not regions or any(
        contig == record.contig and record.start < high and low < end for contig, low, high in regions
    )


def _refuse_undeclared(path: Path, names: set[str]) -> None:
    """Refuse names that htslib has made up as it read: records with such do not fit another header."""
    if names:
        raise InputError(
            f"{path}: its header does not declare {format_names(sorted(names))}; add the lines (bcftools reheader, with "
            "--fai for contigs)"
        )


def _refuse_foreign(path: Path, contigs: list[str], genome: Genome) -> None:
    """Refuse a file of which no record lies on a contig of the genome."""
    if not contigs or any(contig in genome.lengths for contig in contigs):
        return
    renamed = {"chr" + contig for contig in contigs} | {contig.removeprefix("chr") for contig in contigs}
    hint = "; they differ by 'chr'" if renamed & genome.lengths.keys() else ""
    raise InputError(
        f"{path}: none of its contigs is in {genome.path}: the file has {format_names(contigs)}, the genome "
        f"{format_names(genome.lengths)}{hint}; rename the contigs of one of them (bcftools annotate --rename-chrs)"
    )


def _names(header: pysam.VariantHeader) -> set[str]:
    """Return what a header declares."""
    kinds = {
        "contig": header.contigs,
        "INFO": header.info,
        "FILTER": header.filters,
        "FORMAT": header.formats,
    }
    return {f"{kind} {name}" for kind, names in kinds.items() for name in names}


@contextmanager
def _opened(path: Path) -> Iterator[pysam.VariantFile]:
    if not path.is_file():
        raise InputError(f"{path}: no such file" if not path.exists() else f"{path}: not a file")
    try:
        file = pysam.VariantFile(str(path))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as VCF or BCF ({error})") from error
    with file:
        yield file


def _records(path: Path, file: pysam.VariantFile) -> Iterator[pysam.VariantRecord]:
    number = 0
    try:
        for record in file:
            number += 1
            yield record
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: record {number + 1} cannot be read ({error}); is the file whole?"
        ) from error
