"""An annotation and its features, and the genes, tables and enrichment of calls.

The contigs of an annotation are translated and checked here, too.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from zflipon.config import GeneConfig
from zflipon.errors import InputError, format_count, format_names
from zflipon.workflows.genes.annotation import Annotation, read_annotation
from zflipon.workflows.genes.contigs import check_lengths, translate_contigs
from zflipon.workflows.genes.enrichment import feature_enrichment
from zflipon.workflows.genes.features import FeatureMap, build_feature_map, feature_tables
from zflipon.workflows.genes.tables import context_columns, gene_table

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GeneContext:
    """The genes and features of a genome.

    Attributes
    ----------
    annotation : Annotation
        With the contig names of the genome.
    tables : dict of str to pandas.DataFrame
        As `zflipon.workflows.genes.features.feature_tables` returns them.
    features : FeatureMap
    config : GeneConfig
    """

    annotation: Annotation
    tables: dict[str, pd.DataFrame]
    features: FeatureMap
    config: GeneConfig

    @classmethod
    def build(cls, annotation: Annotation, config: GeneConfig) -> GeneContext:
        """Compute the features of an annotation."""
        tables = feature_tables(annotation, config.upstream, config.downstream)
        return cls(annotation, tables, build_feature_map(tables), config)

    def columns(self, intervals: pd.DataFrame) -> pd.DataFrame:
        """Return `zflipon.workflows.genes.tables.CONTEXT_COLUMNS` of intervals, one row each.

        Parameters
        ----------
        intervals : pandas.DataFrame
            ``contig`` (categorical), ``start``, ``end``.
        """
        return context_columns(intervals, self.annotation, self.tables, self.features)

    def gene_table(self, calls: pd.DataFrame) -> pd.DataFrame:
        """Return `zflipon.workflows.genes.tables.GENE_COLUMNS`: the genes with calls."""
        return gene_table(calls, self.annotation, self.tables)

    def enrichment(self, calls: pd.DataFrame, segments: Mapping[str, np.ndarray]) -> pd.DataFrame:
        """Return the enrichment of features; see `zflipon.workflows.genes.enrichment.feature_enrichment`."""
        config = self.config
        return feature_enrichment(calls, self.features, segments, config.shuffles, config.seed)


def read_gene_context(
    gtf: str | Path, lengths: Mapping[str, int], config: GeneConfig | None = None, owner: str = "the genome"
) -> GeneContext:
    """Read an annotation of a genome.

    Parameters
    ----------
    gtf : str or Path
        GTF or GFF3.
    lengths : mapping of str to int
        The genome's contigs and their lengths; `zflipon.genome.names.ContigLengths` also have aliases.
    config : GeneConfig, optional
    owner : str
        What has these contigs, for messages.

    Raises
    ------
    InputError
        If the file cannot be read, has no gene on these contigs, or is of another assembly.
    """
    annotation = rename_contigs(read_annotation(gtf), lengths, True, owner)
    return GeneContext.build(annotation, config or GeneConfig())


def rename_contigs(
    annotation: Annotation, lengths: Mapping[str, int], lengths_known: bool, owner: str
) -> Annotation:
    """Translate the contigs of an annotation to known ones, and check that both are of one assembly.

    Parameters
    ----------
    annotation : Annotation
    lengths : mapping of str to int
        The known contigs and their lengths.
    lengths_known : bool
        Whether the lengths are those of the contigs.
    owner : str
        What has the known contigs, for messages.

    Raises
    ------
    InputError
        If they share no contig, a gene passes the end of a contig, or lengths differ.
    """
    known = translate_contigs(annotation.path, annotation.contigs, lengths, lengths_known, owner)
    stated = {known.get(contig, contig): length for contig, length in annotation.lengths.items()}
    renamed = replace(
        annotation,
        genes=_rename(annotation.genes, known),
        transcripts=_rename(annotation.transcripts, known),
        parts=_rename(annotation.parts, known),
        lengths=stated,
    )
    if lengths_known:
        check_lengths(annotation.path, renamed.ends, lengths)
        for name, length in stated.items():
            if lengths.get(name, length) != length:
                raise InputError(
                    f"{annotation.path}: {name} has {length:,} bases, for {owner} {lengths[name]:,}; are both of the "
                    "same assembly?"
                )
    return renamed


def check_calls(path: str | Path, intervals: Mapping[str, np.ndarray], annotation: Annotation) -> None:
    """Check that calls fit an annotation, and warn of calls on contigs without genes.

    Parameters
    ----------
    path : str or Path
        File of the calls, for messages.
    intervals : mapping of str to numpy.ndarray
        Contig → int64 of shape (n, 2).
    annotation : Annotation

    Raises
    ------
    InputError
        If a call passes the end of a contig.
    """
    check_lengths(path, {name: int(rows[:, 1].max()) for name, rows in intervals.items()}, annotation.lengths)
    without = sorted(set(intervals) - set(annotation.ends))
    if without:
        number = sum(len(intervals[name]) for name in without)
        log.warning(
            "%s: no genes on %s (%s); %s there intergenic",
            annotation.path, format_count(len(without), "contig"), format_names(without),
            "1 call is" if number == 1 else f"{number:,} calls are",
        )  # fmt: skip


def _rename(table: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    """Translate the contigs of a table; other contigs keep their names."""
    categories = [names.get(contig, contig) for contig in table["contig"].cat.categories]
    return table.assign(contig=table["contig"].cat.rename_categories(categories))
