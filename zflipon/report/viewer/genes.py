"""The gene track of the viewer: an annotation as BED12, and the position of each gene for the search.

Annotations are read in `zflipon.workflows.genes.annotation`; the page's script searches.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from zflipon.genome.intervals import merge
from zflipon.report.hub import FLANK
from zflipon.report.viewer.page import igv_text
from zflipon.workflows.genes.annotation import EXON_PART, Annotation, read_annotation
from zflipon.workflows.genes.contigs import ContigNames, check_lengths
from zflipon.workflows.table_files import require_gene_packages


@dataclass(frozen=True)
class GeneTrack:
    """Genes as the viewer serves them.

    Attributes
    ----------
    bed : bytes
        BED12, one line per gene: its exons as blocks, coding and non-coding exons thick, UTRs thin.
    regions : bytes
        JSON object: name of a gene in lower case → name and region, 1-based, with some sequence around it. Genes
        without a name are listed by their identifier; of several genes of one name, the first is listed.
    """

    bed: bytes
    regions: bytes


def read_gene_track(path: Path, lengths: Mapping[str, int]) -> GeneTrack:
    """Read a GTF or GFF3 file. Contigs are renamed to those of the genome; genes on other contigs are left out.

    Parameters
    ----------
    path : Path
    lengths : mapping of str to int
        Contigs of the genome.

    Raises
    ------
    InputError
        If the file cannot be read, has no gene on the contigs, or is of another assembly.
    MissingExtraError
        If the packages for gene annotations are not installed.
    """
    require_gene_packages()
    annotation = read_annotation(path)
    names = ContigNames(path, lengths)
    contigs = {name: names.find(name) for name in annotation.contigs}
    names.report()
    genes = annotation.genes
    check_lengths(path, {contigs[name] or name: end for name, end in annotation.ends.items()}, lengths)
    lines, regions = [], {}
    columns = (genes[column].tolist() for column in ("contig", "start", "end", "strand", "gene", "gene_id"))
    for row, exons in zip(zip(*columns, strict=True), _exons(annotation), strict=True):
        contig, start, end, strand, gene, identifier = row
        known = contigs[contig]
        if known is None:
            continue
        name = igv_text(gene or identifier)
        lines.append(_bed_line((known, start, end), name, strand, *exons))
        low, high = max(1, start + 1 - FLANK), min(lengths[known], end + FLANK)
        regions.setdefault(name.lower(), [name, f"{known}:{low}-{high}"])
    return GeneTrack("".join(lines).encode(), json.dumps(regions).encode())


def _exons(annotation: Annotation) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the merged exons of each gene, and those of its parts that are not UTRs: int64, shape (n, 2)."""
    parts = annotation.parts
    owner = parts["gene_row"].to_numpy()
    order = np.argsort(owner, kind="stable")
    intervals = parts[["start", "end"]].to_numpy(dtype=np.int64)[order]
    is_thick = (parts["part"] == EXON_PART).to_numpy()[order]
    edges = np.searchsorted(owner[order], np.arange(len(annotation.genes) + 1))
    for low, high in pairwise(edges):
        rows = intervals[low:high]
        yield merge(rows[np.argsort(rows[:, 0])]), rows[is_thick[low:high]]


def _bed_line(
    interval: tuple[str, int, int], name: str, strand: str, exons: np.ndarray, thick: np.ndarray
) -> str:
    contig, start, end = interval
    thick_start, thick_end = (thick[:, 0].min(), thick[:, 1].max()) if len(thick) else (start, start)
    sizes = ",".join(map(str, (exons[:, 1] - exons[:, 0]).tolist()))
    starts = ",".join(map(str, (exons[:, 0] - start).tolist()))
    fields = (contig, start, end, name, 0, strand, thick_start, thick_end, 0, len(exons), sizes, starts)
    return "\t".join(map(str, fields)) + "\n"
