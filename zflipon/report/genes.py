"""Genes of an annotation as BED12 rows, for the tracks of bundles and of the viewer.

Annotations are read in `zflipon.workflows.genes.annotation`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from zflipon.errors import printable
from zflipon.genome.intervals import merge
from zflipon.workflows.genes.annotation import EXON_PART, Annotation


@dataclass(frozen=True)
class GeneRow:
    """One gene of a track.

    Attributes
    ----------
    contig : str
    start, end : int
        0-based half-open.
    name : str
        Its name, else its identifier.
    rest : str
        The other fields of BED12, separated by tabs: exons are blocks, all but UTRs are thick.
    """

    contig: str
    start: int
    end: int
    name: str
    rest: str

    def fields(self) -> tuple[str, int, int, str]:
        """Return contig, start, end and the other fields."""
        return self.contig, self.start, self.end, self.rest


def gene_rows(
    annotation: Annotation, lengths: Mapping[str, int], escape: Callable[[str], str] = printable
) -> Iterator[GeneRow]:
    """Yield the genes of an annotation, sorted by start within contigs.

    Parameters
    ----------
    annotation : Annotation
        With the contig names of the genome.
    lengths : mapping of str to int
        Contigs of the genome; genes on other contigs are left out.
    escape : callable
        Makes names of genes safe to show.
    """
    genes = annotation.genes
    columns = (genes[column].tolist() for column in ("contig", "start", "end", "strand", "gene", "gene_id"))
    for row, exons in zip(zip(*columns, strict=True), _exons(annotation), strict=True):
        contig, start, end, strand, gene, identifier = row
        if contig in lengths:
            name = escape(gene or identifier)
            yield GeneRow(contig, start, end, name, _other_fields(start, name, strand, *exons))


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


def _other_fields(start: int, name: str, strand: str, exons: np.ndarray, thick: np.ndarray) -> str:
    thick_start, thick_end = (thick[:, 0].min(), thick[:, 1].max()) if len(thick) else (start, start)
    sizes = ",".join(map(str, (exons[:, 1] - exons[:, 0]).tolist()))
    starts = ",".join(map(str, (exons[:, 0] - start).tolist()))
    fields = (name, 0, strand, thick_start, thick_end, 0, len(exons), sizes, starts)
    return "\t".join(map(str, fields))
