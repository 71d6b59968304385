"""The gene track of the viewer: an annotation as BED12, and the position of each gene for the search.

Rows of genes are made in `zflipon.report.genes`; the page's script searches.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zflipon.report.genes import gene_rows
from zflipon.report.hub import FLANK
from zflipon.report.viewer.page import igv_text
from zflipon.workflows.genes.annotation import read_annotation
from zflipon.workflows.genes.context import rename_contigs
from zflipon.workflows.table_files import require_gene_packages


@dataclass(frozen=True)
class GeneTrack:
    """Genes as the viewer serves them.

    Attributes
    ----------
    bed : bytes
        BED12, one line per gene.
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
    annotation = rename_contigs(read_annotation(path), lengths, True, "the genome")
    lines, regions = [], {}
    for gene in gene_rows(annotation, lengths, igv_text):
        lines.append("\t".join(map(str, gene.fields())) + "\n")
        low, high = max(1, gene.start + 1 - FLANK), min(lengths[gene.contig], gene.end + FLANK)
        regions.setdefault(gene.name.lower(), [gene.name, f"{gene.contig}:{low}-{high}"])
    return GeneTrack("".join(lines).encode(), json.dumps(regions).encode())
