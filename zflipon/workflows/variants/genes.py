"""Genes and features of alleles, from an annotation: columns of tables and INFO fields that follow the scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zflipon.genome.fasta import Genome
from zflipon.workflows.table_files import require_gene_packages
from zflipon.workflows.variants.fields import GENE_FIELDS
from zflipon.workflows.variants.vcf import VcfRecord
from zflipon.workflows.variants.writing import OutputHeader

if TYPE_CHECKING:
    from zflipon.workflows.genes.context import GeneContext

GeneValues = tuple[str | int | None, ...]
"""Genes of an allele, in the order of `zflipon.workflows.variants.fields.GENE_FIELDS`; None: missing."""

RECORDS_AT_ONCE = 1 << 14
"""Records whose genes are found together: joining a few records with all genes takes as long."""


@dataclass(frozen=True)
class AlleleGenes:
    """Finds the genes of records.

    Attributes
    ----------
    context : GeneContext
    contig_of : callable
        Record → the genome's name of its contig.
    """

    context: GeneContext
    contig_of: Callable[[VcfRecord], str]

    def values(self, records: Sequence[VcfRecord]) -> list[GeneValues]:
        """Return the genes of each allele of some records, in order; alleles of one record have the same."""
        import pandas as pd

        contigs = [self.contig_of(record) for record in records]
        table = pd.DataFrame(
            {
                "contig": pd.Categorical(contigs, list(dict.fromkeys(contigs))),
                "start": np.array([record.start for record in records], dtype=np.int64),
                "end": np.array([record.start + len(record.ref) for record in records], dtype=np.int64),
            }
        )
        found = self.context.columns(table).loc[:, [field.name for field in GENE_FIELDS]]
        plain = found.astype(object).where(found.notna() & (found != ""), None)
        rows = zip(records, plain.itertuples(index=False, name=None), strict=True)
        return [values for record, values in rows for _ in record.alts]

    def describe(self, header: OutputHeader) -> OutputHeader:
        """Return the header of an output with genes."""
        settings = {**header.settings, "gtf": self.context.annotation.path.name}
        return replace(header, settings=settings, with_genes=True)

    def record(self) -> dict[str, object]:
        """Return what the run record says about the annotation."""
        path, config = self.context.annotation.path, asdict(self.context.config)
        return {"gtf": str(path.resolve()), **{name: config[name] for name in ("upstream", "downstream")}}


def read_allele_genes(gtf: str | Path, genome: Genome, contig_of: Callable[[VcfRecord], str]) -> AlleleGenes:
    """Read an annotation for alleles of a genome; errors are those of `read_gene_context`.

    Raises
    ------
    InputError
        If the file cannot be read or does not fit the genome.
    MissingExtraError
        If the packages that read annotations are not installed.
    """
    require_gene_packages()
    from zflipon.workflows.genes.context import read_gene_context

    return AlleleGenes(read_gene_context(gtf, genome.lengths), contig_of)


def group_batches(
    batches: Iterable[tuple[list[VcfRecord], np.ndarray]], size: int = RECORDS_AT_ONCE
) -> Iterator[tuple[list[VcfRecord], np.ndarray]]:
    """Yield batches of records and scores joined to groups of at least `size` records, the last one excepted."""
    records: list[VcfRecord] = []
    scores: list[np.ndarray] = []
    for batch, of_batch in batches:
        records += batch
        scores.append(of_batch)
        if len(records) >= size:
            yield records, np.concatenate(scores)
            records, scores = [], []
    if records:
        yield records, np.concatenate(scores)
