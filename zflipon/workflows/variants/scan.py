"""Read a VCF once before any scoring: count and check its records, and complete its header."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

from zflipon.config import MIN_GAP
from zflipon.errors import InputError, format_names, printable
from zflipon.genome.fasta import Genome
from zflipon.genome.names import ContigNames
from zflipon.workflows.variants.vcf import VcfHeader, VcfRecord, open_vcf

log = logging.getLogger("zflipon")

Region = tuple[str, int, int]
"""Contig, start and end; 0-based, half-open."""

_KNOWN = {
    ("INFO", "END"): 'Number=1,Type=Integer,Description="End position"',
    ("FORMAT", "GT"): 'Number=1,Type=String,Description="Genotype"',
}
"""Declarations of names with a fixed meaning, for headers that lack them."""


@dataclass
class VcfSummary:
    """What one pass over a VCF found.

    Attributes
    ----------
    header : VcfHeader
        The header, with a declaration for every name that the records use.
    records, selected : int
        Number of records, and of those in the selected regions.
    digest : str
        SHA-256 of the positions and alleles of the selected records.
    contigs : dict of str to str
        Contig of the genome with selected records → MD5 of its sequence.
    longest : int
        Largest end of a record or length of a contig, in bases.
    unsorted : str
        The first position that is out of order; empty if the file is sorted.
    names : dict of str to str
        Contig of the records → the genome's name, where it has one.
    """

    header: VcfHeader
    records: int = 0
    selected: int = 0
    digest: str = ""
    contigs: dict[str, str] = field(default_factory=dict)
    longest: int = 0
    unsorted: str = ""
    names: dict[str, str] = field(default_factory=dict)


def is_selected(record: VcfRecord, contig: str, regions: Sequence[Region]) -> bool:
    """Whether a record on a contig of the genome overlaps one of the regions, or there are no regions."""
    end = record.start + len(record.ref)
    return not regions or any(
        contig == name and record.start < high and low < end for name, low, high in regions
    )


def scan_vcf(path: Path, genome: Genome, regions: Sequence[Region]) -> VcfSummary:
    """Read a whole VCF or BCF and check that it can be scored.

    Raises
    ------
    InputError
        If it cannot be read, or none of its contigs is in the genome.
    """
    order, used, digest = _Order(), _UsedNames(), sha256()
    contigs = ContigNames(path, genome.lengths)
    with open_vcf(path) as (header, records):
        summary, selected_contigs = VcfSummary(header), dict[str, None]()
        for record in records:
            summary.records += 1
            order.add(record.contig, record.position)
            used.add(record)
            summary.longest = max(summary.longest, _end(record))
            name = contigs.find(record.contig)
            if name is not None:
                summary.names[record.contig] = name
            if is_selected(record, name or record.contig, regions):
                summary.selected += 1
                selected_contigs[record.contig] = None
                text = f"{record.contig} {record.position} {record.ref} {','.join(record.alts)}\n"
                digest.update(text.encode("utf-8", "surrogateescape"))
    _require_shared_contigs(path, list(order.contigs), summary.names, genome)
    contigs.report()
    summary.header = _complete(
        path, header, used, {name: genome.lengths[each] for name, each in summary.names.items()}
    )
    summary.longest = max(summary.longest, summary.header.longest_contig)
    summary.digest, summary.unsorted = digest.hexdigest(), order.first_violation
    summary.contigs = {
        summary.names[contig]: genome.scan(summary.names[contig], MIN_GAP).md5
        for contig in selected_contigs
        if contig in summary.names
    }
    return summary


@dataclass
class _Order:
    """Finds the first record that an index could not hold."""

    contigs: dict[str, None] = field(default_factory=dict)
    contig: str = ""
    position: int = 0
    first_violation: str = ""

    def add(self, contig: str, position: int) -> None:
        is_back = position < self.position if contig == self.contig else contig in self.contigs
        if is_back and not self.first_violation:
            self.first_violation = f"{printable(contig)}:{position}"
        self.contigs[contig] = None
        self.contig, self.position = contig, position


@dataclass
class _UsedNames:
    """Names that records use and a header should declare; an INFO entry without a value is a flag."""

    contigs: dict[str, None] = field(default_factory=dict)
    info: dict[str, bool] = field(default_factory=dict)
    filters: dict[str, None] = field(default_factory=dict)
    formats: dict[str, None] = field(default_factory=dict)

    def add(self, record: VcfRecord) -> None:
        self.contigs[record.contig] = None
        for entry in record.info:
            name, equals, _ = entry.partition("=")
            self.info[name] = self.info.get(name, False) or bool(equals)
        for name in record.columns[6].split(";"):
            self.filters[name] = None
        if len(record.columns) > 8:
            for name in record.columns[8].split(":"):
                self.formats[name] = None


def _end(record: VcfRecord) -> int:
    """Return the last base of a record, by its INFO/END if it has one."""
    end = record.start + len(record.ref)
    for entry in record.info:
        if entry.startswith("END=") and entry[4:].isdecimal() and len(entry) < 16:
            end = max(end, int(entry[4:]))
    return end


def _complete(path: Path, header: VcfHeader, used: _UsedNames, lengths: Mapping[str, int]) -> VcfHeader:
    """Declare the names that a header lacks: contigs with their length in the genome, other names from their use."""
    declared = header.declared
    lines, undeclared = [], []
    for contig in used.contigs:
        if ("contig", contig) in declared:
            continue
        if contig in lengths:
            lines.append(f"##contig=<ID={contig},length={lengths[contig]}>")
        else:
            lines.append(f"##contig=<ID={contig}>")
            undeclared.append(f"contig {printable(contig)}")
    others = {
        "FILTER": [name for name in used.filters if name not in (".", "PASS", "")],
        "INFO": [name for name in used.info if name],
        "FORMAT": [name for name in used.formats if name not in (".", "")],
    }
    for kind, names in others.items():
        for name in names:
            if (kind, name) not in declared:
                lines.append(f"##{kind}=<ID={name},{_declaration(kind, name, used)}>")
                undeclared.append(f"{kind} {printable(name)}")
    if undeclared:
        log.warning(
            "%s: the header does not declare %s; the output declares what the records use",
            path,
            format_names(undeclared),
        )
    return replace(header, lines=(*header.lines, *lines))


def _declaration(kind: str, name: str, used: _UsedNames) -> str:
    if (kind, name) in _KNOWN:
        return _KNOWN[kind, name]
    description = 'Description="Used by records and not declared by the input"'
    if kind == "FILTER":
        return description
    is_flag = kind == "INFO" and not used.info[name]
    return f"Number={'0,Type=Flag' if is_flag else '.,Type=String'},{description}"


def _require_shared_contigs(path: Path, contigs: list[str], names: Mapping[str, str], genome: Genome) -> None:
    """Raise `InputError` if no contig of the records is in the genome."""
    if not contigs or names:
        return
    raise InputError(
        f"{path}: none of its contigs is in {genome.path}: the file has {format_names(map(printable, contigs))}, the "
        f"genome {format_names(genome.lengths)}; rename the contigs of one of them "
        "(bcftools annotate --rename-chrs), or pass --contig-aliases"
    )
