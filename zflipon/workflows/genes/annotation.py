"""A gene annotation: genes, transcripts and the parts of exons, built from the rows of a GTF or GFF3 file.

Rows may be in any order. UTRs are what exons have outside the coding sequence of their transcript, so that all sources
agree, whether they list UTRs or not.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from zflipon.errors import InputError, format_count, printable
from zflipon.workflows.genes.gff_rows import CDS, EXON, GENE, GffRows, read_gff_rows

log = logging.getLogger(__name__)

UTR5, UTR3, EXON_PART = "5'UTR", "3'UTR", "exon"
"""Parts of exons: untranslated before and behind the coding sequence, and all others."""

_PARTS = np.array([UTR5, UTR3, EXON_PART])

_LEVELS = 8
"""Levels of parents that are followed in GFF3."""


@dataclass(frozen=True)
class Annotation:
    """Genes and their parts.

    Attributes
    ----------
    path : Path
    genes : pandas.DataFrame
        One row per gene and contig: ``contig`` (categorical), ``start``, ``end`` (0-based half-open), ``strand``,
        ``gene_id``, ``gene``, ``gene_type``; sorted by contig and start.
    transcripts : pandas.DataFrame
        ``contig``, ``start``, ``end``, ``gene_row`` (row number in `genes`) and ``tss``, the 0-based position of
        the first transcribed base. A gene without transcripts is its own transcript.
    parts : pandas.DataFrame
        Parts of exons: ``contig``, ``start``, ``end``, ``gene_row`` and ``part``, one of the three names of this
        module.
    lengths : dict of str to int
        Contig → length, where the file states it.
    """

    path: Path
    genes: pd.DataFrame
    transcripts: pd.DataFrame
    parts: pd.DataFrame
    lengths: dict[str, int]

    @property
    def contigs(self) -> list[str]:
        """Names of the contigs with genes."""
        return list(self.genes["contig"].cat.categories)

    @property
    def ends(self) -> dict[str, int]:
        """Contig → last end of its genes."""
        last = self.genes.groupby("contig", observed=True)["end"].max()
        return cast(pd.Series, last).to_dict()


def read_annotation(path: str | Path) -> Annotation:
    r"""Read a GTF or GFF3 file of GENCODE, Ensembl, RefSeq or another source, plain or gzip.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    InputError
        If the file cannot be read, or has no gene.

    Examples
    --------
    >>> text = 'chr1\tx\texon\t101\t200\t.\t-\t.\tgene_id "G1"; transcript_id "T1"; gene_name "ONE";'
    >>> _ = Path("genes.gtf").write_text(text)
    >>> read_annotation("genes.gtf").genes[["start", "end", "strand", "gene_id", "gene"]].to_dict("records")
    [{'start': 100, 'end': 200, 'strand': '-', 'gene_id': 'G1', 'gene': 'ONE'}]
    """
    return build_annotation(read_gff_rows(path))


def build_annotation(rows: GffRows) -> Annotation:
    """Combine the rows of a file to genes, transcripts and parts of exons."""
    table = rows.table
    gene, transcript = _gff3_members(table) if rows.is_gff3 else _gtf_members(table)
    kind, contig = table["kind"].to_numpy(), _codes(table["contig"])
    contigs = table["contig"].combine_chunks().dictionary.to_pylist()
    lost = int((gene < 0).sum())
    if lost == len(gene):
        raise InputError(f"{rows.path}: no row names its gene; expected gene_id in GTF, ID or Parent in GFF3")
    if lost:
        log.warning("%s: %s without a gene left out", rows.path, format_count(lost, "row"))
    start, end = table["start"].to_numpy(), table["end"].to_numpy()
    minus = np.array([name == "-" for name in table["strand"].combine_chunks().dictionary.to_pylist()])
    minus = minus[_codes(table["strand"])]

    genes, gene_row = _bounds(gene, contig, start, end, minus)
    in_transcript = np.where(kind == GENE, -1, transcript)
    transcripts, transcript_row = _bounds(in_transcript, contig, start, end, minus, gene_row)
    bare = np.setdiff1d(np.arange(len(genes)), transcripts["gene_row"].to_numpy())
    parts = _exon_parts(kind, start, end, transcript_row, transcripts)
    without_exons = np.setdiff1d(np.arange(len(genes)), parts["gene_row"].to_numpy())
    transcripts = pd.concat([transcripts, genes.loc[bare].assign(gene_row=bare)], ignore_index=True)
    parts = pd.concat(
        [
            parts,
            genes.loc[without_exons, ["contig", "start", "end"]].assign(
                gene_row=without_exons, part=EXON_PART
            ),
        ],
        ignore_index=True,
    )
    genes = genes.join(_gene_names(table, gene_row, len(genes)))
    transcripts["tss"] = np.where(transcripts["minus"], transcripts["end"] - 1, transcripts["start"])
    genes["strand"] = np.where(genes["minus"], "-", "+")
    return _sort(rows, contigs, genes, transcripts, parts)


def _codes(column: pa.ChunkedArray) -> np.ndarray:
    """Return the codes of a dictionary column: int64, -1 for null."""
    return pc.fill_null(column.combine_chunks().indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)


def _gtf_members(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Return codes of the gene and of the transcript of each row, -1 for none."""
    return tuple(_codes(table[name].dictionary_encode()) for name in ("gene", "transcript"))  # type: ignore[return-value]


def _gff3_members(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Follow parents up to the gene: codes of the gene and of the child of the gene that holds each row.

    A feature without a parent counts as a gene.
    """
    both = pa.chunked_array([*table["id"].chunks, *table["parent"].chunks]).dictionary_encode()
    own, parent = np.split(_codes(both), 2)
    kind = table["kind"].to_numpy()
    number = max(1, len(both.combine_chunks().dictionary))  # -1 indexes a place also without any name
    parent_of, is_gene = np.full(number, -1), np.zeros(number, dtype=bool)
    named = (own >= 0) & (kind != EXON) & (kind != CDS)
    parent_of[own[named]] = parent[named]
    is_gene[own[named & (kind == GENE)]] = True

    below = np.where(named, own, parent)  # the member of the gene's family that the row belongs to
    gene = below.copy()
    for _ in range(_LEVELS):
        above = np.where((gene >= 0) & ~is_gene[gene], parent_of[gene], -1)
        below = np.where(above >= 0, gene, below)
        gene = np.where(above >= 0, above, gene)
    return gene, below


def _bounds(
    member: np.ndarray,
    contig: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    minus: np.ndarray,
    gene_row: np.ndarray | None = None,
) -> tuple[pd.DataFrame, np.ndarray]:
    """Combine the rows of each member and contig to one interval; an id may be on two contigs, as in chrX and chrY.

    Returns
    -------
    pandas.DataFrame
        ``contig``, ``start``, ``end``, ``minus`` and, with `gene_row`, ``gene_row``.
    numpy.ndarray
        Row number in this table for each row of the file, -1 for none.
    """
    chosen = np.flatnonzero(member >= 0)
    keys = member[chosen] * (contig.max(initial=0) + 1) + contig[chosen]
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    edges = np.searchsorted(inverse[order], np.arange(len(first)))
    rows = chosen[order]
    columns = {
        "contig": contig[chosen[first]],
        "start": np.minimum.reduceat(start[rows], edges) if len(rows) else start[:0],
        "end": np.maximum.reduceat(end[rows], edges) if len(rows) else end[:0],
        "minus": minus[chosen[first]],
    }
    if gene_row is not None:
        columns["gene_row"] = gene_row[chosen[first]]
    row = np.full(len(member), -1)
    row[chosen] = inverse
    return pd.DataFrame(columns), row


def _exon_parts(
    kind: np.ndarray, start: np.ndarray, end: np.ndarray, transcript: np.ndarray, transcripts: pd.DataFrame
) -> pd.DataFrame:
    """Cut exons at the coding sequence of their transcript; transcripts without exons have their CDS as exons."""
    number = len(transcripts)
    coding = (kind == CDS) & (transcript >= 0)
    cds_start, cds_end = np.full(number, np.iinfo(np.int64).max), np.full(number, -1)
    np.minimum.at(cds_start, transcript[coding], start[coding])
    np.maximum.at(cds_end, transcript[coding], end[coding])
    has_exon = np.zeros(number, dtype=bool)
    exon = (kind == EXON) & (transcript >= 0)
    has_exon[transcript[exon]] = True
    exon[coding] = ~has_exon[transcript[coding]]
    start, end, transcript = start[exon], end[exon], transcript[exon]

    minus, is_coding = transcripts["minus"].to_numpy()[transcript], cds_end[transcript] >= 0
    first = np.where(is_coding, cds_start[transcript], start).clip(start, end)
    last = np.where(is_coding, cds_end[transcript], end).clip(start, end)
    middle = np.full(len(start), 2)
    pieces = (
        (start, first, np.where(minus, 1, 0)),
        (first, last, middle),
        (last, end, np.where(minus, 0, 1)),
    )
    table = pd.DataFrame(
        {
            "contig": np.tile(transcripts["contig"].to_numpy()[transcript], 3),
            "start": np.concatenate([low for low, _, _ in pieces]),
            "end": np.concatenate([high for _, high, _ in pieces]),
            "gene_row": np.tile(transcripts["gene_row"].to_numpy()[transcript], 3),
            "part": np.concatenate([part for _, _, part in pieces]),
        }
    )
    table = table[(table["end"] > table["start"]) & (table["gene_row"] >= 0)].drop_duplicates(
        ignore_index=True
    )
    return table.assign(part=pd.Categorical.from_codes(np.asarray(table["part"]), _PARTS.tolist()))


def _gene_names(table: pa.Table, gene_row: np.ndarray, number: int) -> pd.DataFrame:
    """Return id, name and type of each gene: from the row of the gene, else from any of its rows."""
    id_column = "gene_id" if "gene_id" in table.column_names else "gene"
    is_gene = table["kind"].to_numpy() == GENE
    order = np.argsort(~is_gene, kind="stable")  # rows of genes first
    order = order[gene_row[order] >= 0]
    columns: dict[str, np.ndarray] = {}
    sources = {"gene_id": (id_column, "id"), "gene": ("gene_name",), "gene_type": ("gene_type",)}
    for column, names in sources.items():
        values = np.full(number, "", dtype=object)
        for name in names:
            if name not in table.column_names:
                continue
            texts = table[name].combine_chunks()
            valid = order[texts.is_valid().to_numpy(zero_copy_only=False)[order]]
            genes, first = np.unique(gene_row[valid], return_index=True)
            found = np.array(texts.take(pa.array(valid[first])).to_pylist(), dtype=object)
            empty = values[genes] == ""
            values[genes[empty]] = found[empty]
        columns[column] = values
    columns["gene_id"] = np.array([_plain_id(text) for text in columns["gene_id"]], dtype=object)
    columns["gene"] = np.array(
        [
            _decode(name) or identifier
            for name, identifier in zip(columns["gene"], columns["gene_id"], strict=True)
        ],
        dtype=object,
    )
    return pd.DataFrame(columns)


def _plain_id(text: str) -> str:
    """Return an identifier without the prefix of Ensembl (``gene:``) or RefSeq (``gene-``)."""
    return _decode(text.removeprefix("gene:").removeprefix("gene-"))


def _decode(text: str) -> str:
    """Return text without the escapes of GFF3; an escaped tab or newline stays visible."""
    return printable(unquote(text))


def _sort(
    rows: GffRows, contigs: list[str], genes: pd.DataFrame, transcripts: pd.DataFrame, parts: pd.DataFrame
) -> Annotation:
    """Sort genes by contig and start, and renumber the genes of transcripts and parts."""
    order = np.lexsort((genes["gene_id"], genes["end"], genes["start"], genes["contig"]))
    renumbered = np.empty(len(order), dtype=np.int64)
    renumbered[order] = np.arange(len(order))

    def finish(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
        if "gene_row" in table:
            table = table.assign(gene_row=renumbered[table["gene_row"].to_numpy(dtype=np.int64)])
        names = pd.Categorical.from_codes(table["contig"].to_numpy(dtype=np.int64), contigs)
        return table.assign(contig=names).loc[:, columns].reset_index(drop=True)

    place = ["contig", "start", "end"]
    return Annotation(
        rows.path,
        finish(genes.loc[order], [*place, "strand", "gene_id", "gene", "gene_type"]),
        finish(transcripts, [*place, "gene_row", "tss"]),
        finish(parts, [*place, "gene_row", "part"]),
        rows.lengths,
    )
