"""Rows of GTF and GFF3 files as arrays: genes, transcripts, exons and coding sequence.

Files are parsed in blocks by Arrow, which extracts only the attributes that are needed. The rows are combined to an
annotation in `zflipon.workflows.genes.annotation`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute, csv

from zflipon.errors import InputError, format_names
from zflipon.genome.text_files import BLOCK_BYTES, read_blocks

pc: Any = compute  # its functions are made at import: no type checker finds them

EXPECTED = "GTF or GFF3 (nine columns separated by tabs)"
"""What the file should be, for messages."""

GENE, TRANSCRIPT, EXON, CDS = range(4)
"""Kinds of rows."""

GTF_FEATURES = {"gene": GENE, "transcript": TRANSCRIPT, "exon": EXON, "CDS": CDS, "stop_codon": CDS}
"""Feature → kind in GTF, whose coding sequence excludes the stop codon. UTRs are derived from exons and CDS."""

EXON_FEATURES = ("exon", "pseudogenic_exon", "coding_exon", "noncoding_exon")

_NO_TRANSCRIPT = re.compile(
    r"utr|codon|intron|match|region|protein|peptide|site|chromosome|contig", re.IGNORECASE
)
"""GFF3 features that are neither genes nor transcripts, although they may have a parent."""

_PARENTLESS_TRANSCRIPT = re.compile(r"rna$|transcript$", re.IGNORECASE)

_COLUMNS = ["contig", "source", "feature", "start", "end", "score", "strand", "phase", "attributes"]
_TEXT = pa.dictionary(pa.int32(), pa.string())
_TYPES = {
    "contig": _TEXT,
    "feature": _TEXT,
    "start": pa.int64(),
    "end": pa.int64(),
    "strand": _TEXT,
    "attributes": pa.string(),
}

_GTF_ATTRIBUTES = {
    "gene": ("gene_id",),
    "transcript": ("transcript_id",),
    "gene_name": ("gene_name", "gene"),
    "gene_type": ("gene_type", "gene_biotype"),
}
_GFF3_ATTRIBUTES = {
    "id": ("ID",),
    "parent": ("Parent",),
    "gene_id": ("gene_id",),
    "gene_name": ("gene_name", "Name", "gene"),
    "gene_type": ("gene_type", "biotype", "gene_biotype"),
}
"""Column → attributes that hold it, the preferred first: those of GENCODE, Ensembl and RefSeq."""

_OF_GENES = {"gene_id", "gene_name", "gene_type"}
"""Attributes that are extracted from the rows of genes only, if the file has such rows."""

_SEQUENCE_REGION = re.compile(rb"^##sequence-region[ \t]+(\S+)[ \t]+(\d+)[ \t]+(\d+)", re.MULTILINE)
_SHOWN = 60


@dataclass(frozen=True)
class GffRows:
    """The rows of an annotation that describe genes.

    Attributes
    ----------
    path : Path
    table : pyarrow.Table
        Columns ``kind``, ``contig``, ``start`` (0-based), ``end``, ``strand`` and attributes: of GTF ``gene`` and
        ``transcript``, of GFF3 ``id``, ``parent`` and ``gene_id``; of both ``gene_name`` and ``gene_type``.
    is_gff3 : bool
    lengths : dict of str to int
        Contig → length, from the ``##sequence-region`` lines of GFF3.
    """

    path: Path
    table: pa.Table
    is_gff3: bool
    lengths: dict[str, int]


def read_gff_rows(path: str | Path, block: int = BLOCK_BYTES) -> GffRows:
    """Read the rows of genes, transcripts, exons and coding sequence of a GTF or GFF3 file, plain or gzip.

    Parameters
    ----------
    path : str or Path
    block : int
        Bytes parsed at a time.

    Raises
    ------
    InputError
        If the file is missing, truncated or neither GTF nor GFF3, or has no gene, transcript or exon.
    """
    path = Path(path)
    reader = _BlockReader(path)
    tables = [
        table for lines in read_blocks(path, EXPECTED, block) if (table := reader.parse(lines)) is not None
    ]
    if not tables or not sum(map(len, tables)):
        raise InputError(
            f"{path}: no genes; expected rows of genes, transcripts or exons, found "
            f"{format_names(sorted(reader.features))}"
        )
    table = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
    return GffRows(path, table, bool(reader.is_gff3), reader.lengths)


class _BlockReader:
    """Parses blocks of lines of one file; the first row decides whether the file is GTF or GFF3."""

    def __init__(self, path: Path):
        self.path = path
        self.is_gff3: bool | None = None
        self.features: set[str] = set()
        self.lengths: dict[str, int] = {}
        self._lines = 0
        self._ended = self._has_genes = False

    def parse(self, block: bytes) -> pa.Table | None:
        """Return the rows of a block that describe genes; None if it has no rows."""
        if self._ended:
            return None
        original = block
        if block.startswith(b"#") or b"\n#" in block:
            block = self._without_comments(block)
        if not block.strip():
            self._lines += original.count(b"\n")
            return None
        table = self._read(block, original)
        self._lines += original.count(b"\n")
        if not len(table):
            return None
        if self.is_gff3 is None:
            self.is_gff3 = self._detect(table["attributes"][0].as_py())
        self.features.update(table["feature"].combine_chunks().dictionary.to_pylist())
        return self._select(table)

    def _without_comments(self, block: bytes) -> bytes:
        """Return a block without comments, and without the sequence that may follow in GFF3; note contig lengths."""
        for name, _, last in _SEQUENCE_REGION.findall(block):
            self.lengths[name.decode("utf-8", "replace")] = int(last)
        if block.startswith(b"##FASTA") or b"\n##FASTA" in block:
            self._ended = True
            block = re.split(rb"(?m)^##FASTA", block, maxsplit=1)[0]
        block = block.replace(b"\n###\n", b"\n")  # Ensembl ends each gene with such a line
        return re.sub(rb"(?m)^#[^\n]*\n?", b"", block)

    def _require_utf8(self, block: bytes, original: bytes) -> None:
        """Refuse rows with other bytes than UTF-8, which Arrow would report with a traceback."""
        if block.isascii():
            return
        try:
            block.decode("utf-8")
        except UnicodeDecodeError as error:
            row = block[block.rfind(b"\n", 0, error.start) + 1 : error.start + 1]
            line = self._lines + 1 + original.count(b"\n", 0, max(original.find(row), 0))
            raise InputError(
                f"{self.path}:{line}: expected UTF-8, found the byte {block[error.start]:#x}"
            ) from None

    def _read(self, block: bytes, original: bytes) -> pa.Table:
        self._require_utf8(block, original)
        invalid: list[str] = []

        def refuse(row: csv.InvalidRow) -> str:
            invalid.append(row.text)
            return "skip" if len(invalid) == 1 else "error"

        try:
            table = csv.read_csv(
                pa.BufferReader(block),
                csv.ReadOptions(use_threads=False, column_names=_COLUMNS, block_size=len(block) + 1),
                csv.ParseOptions(delimiter="\t", quote_char=False, invalid_row_handler=refuse),
                csv.ConvertOptions(
                    column_types=_TYPES,
                    include_columns=list(_TYPES),
                    strings_can_be_null=False,
                    null_values=[],
                ),
            )
        except pa.ArrowInvalid as error:
            if not invalid:
                raise InputError(f"{self.path}: {self._explain(error)}; expected {EXPECTED}") from error
            table = None
        if invalid or table is None:
            text = invalid[0] if invalid else ""
            line = self._lines + 1 + original.count(b"\n", 0, max(original.find(text.encode()), 0))
            raise InputError(f"{self.path}:{line}: expected {EXPECTED}, found {text.strip()[:_SHOWN]!r}")
        self._check_positions(table)
        return table

    @staticmethod
    def _explain(error: pa.ArrowInvalid) -> str:
        match = re.search(r"column #(\d+).*?(invalid .*)", str(error), re.DOTALL)
        if match is None:
            return "not text in UTF-8" if "UTF8" in str(error) else "rows that cannot be read"
        number = int(match[1])
        name = _COLUMNS[number] if number < len(_COLUMNS) else str(number)
        return f"{match[2].strip()[:_SHOWN]} in column {number + 1} ({name})"

    def _check_positions(self, table: pa.Table) -> None:
        start, end = table["start"].to_numpy(), table["end"].to_numpy()
        wrong = np.flatnonzero((start < 1) | (end < start))
        if len(wrong):
            row = table.slice(int(wrong[0]), 1).to_pylist()[0]
            raise InputError(
                f"{self.path}: {row['contig']}:{row['start']}-{row['end']}: expected 1 ≤ start ≤ end, as GTF and "
                "GFF3 have it"
            )

    def _detect(self, attributes: str) -> bool:
        if re.match(r'\s*[^\s="]+=', attributes):
            return True
        if re.match(r"\s*[\w.-]+ +\S", attributes):
            return False
        raise InputError(
            f'{self.path}: the ninth column has neither attributes of GTF (gene_id "…") nor of GFF3 (ID=…): '
            f"{attributes[:_SHOWN]!r}"
        )

    def _select(self, table: pa.Table) -> pa.Table:
        """Return the rows of known kinds, with their attributes in columns."""
        feature = table["feature"].combine_chunks()
        kinds = np.array([self._kind(name) for name in feature.dictionary.to_pylist()], dtype=np.int8)
        kind = kinds[feature.indices.to_numpy()]
        chosen = np.flatnonzero(kind >= 0)
        table, kind = table.take(chosen), kind[chosen]
        attributes = table["attributes"].combine_chunks()
        self._has_genes |= bool((kind == GENE).any())
        # a file without rows of genes names them in every row
        names_gene = pa.array((kind == GENE) | (not self._has_genes))
        columns = {
            "kind": pa.array(kind),
            "contig": table["contig"].combine_chunks(),
            "start": pc.subtract(table["start"].combine_chunks(), 1),
            "end": table["end"].combine_chunks(),
            "strand": table["strand"].combine_chunks(),
        }
        for column, names in (_GFF3_ATTRIBUTES if self.is_gff3 else _GTF_ATTRIBUTES).items():
            texts = pc.if_else(names_gene, attributes, None) if column in _OF_GENES else attributes
            columns[column] = _extract(texts, names, self.is_gff3)
        table = pa.table(columns)
        return _select_gff3(table, feature, chosen) if self.is_gff3 else table

    def _kind(self, feature: str) -> int:
        if not self.is_gff3:
            return GTF_FEATURES.get(feature, -1)
        if feature.lower().endswith("gene"):
            return GENE
        if feature in EXON_FEATURES:
            return EXON
        if feature == "CDS":
            return CDS
        return -1 if _NO_TRANSCRIPT.search(feature) else TRANSCRIPT


def _extract(attributes: pa.Array, names: tuple[str, ...], is_gff3: bool | None) -> pa.Array:
    """Return the value of the first of some attributes that a row has; null without any of them or if it is empty."""
    values = None
    for name in names:
        value = "=(?P<v>[^;]+)" if is_gff3 else r'\s+(?:"(?P<quoted>[^"]+)"|(?P<v>[^";]+))'
        match = pc.extract_regex(attributes, rf"(?:^|;)\s*{name}{value}")
        found = pc.struct_field(match, "v")
        if not is_gff3:  # a quoted value may have a semicolon
            quoted = pc.struct_field(match, "quoted")
            found = pc.if_else(pc.equal(quoted, ""), found, quoted)
        values = found if values is None else pc.coalesce(values, found)
    assert values is not None
    return values


def _select_gff3(table: pa.Table, feature: pa.DictionaryArray, chosen: np.ndarray) -> pa.Table:
    """Leave out features that belong to no gene; give a row with several parents one row for each of them."""
    names = feature.dictionary.to_pylist()
    alone = np.array([_PARENTLESS_TRANSCRIPT.search(name) is not None for name in names])
    alone = alone[feature.indices.to_numpy()[chosen]]
    kind = table["kind"].to_numpy()
    belongs = table["parent"].is_valid().to_numpy() | (kind == GENE) | ((kind == TRANSCRIPT) & alone)
    table = table.filter(pa.array(belongs))
    parents = table["parent"].combine_chunks()
    if pc.any(pc.match_substring(parents, ",")).as_py():
        lists = pc.split_pattern(pc.coalesce(parents, ""), ",")
        table = table.take(pc.list_parent_indices(lists))
        flat = pc.list_flatten(lists)
        flat = pc.if_else(pc.equal(flat, ""), None, flat)
        table = table.set_column(table.column_names.index("parent"), "parent", flat)
    return table


def iterate_strings(array: pa.Array) -> Iterator[str]:
    """Yield the values of a string array; null becomes an empty string."""
    return (value or "" for value in array.to_pylist())
