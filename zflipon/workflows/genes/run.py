"""Calls and an annotation → the gene context of the calls.

Settings and defaults are in `zflipon.config`; files are written by `zflipon.workflows.table_files`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from zflipon import __version__
from zflipon.config import GeneConfig
from zflipon.errors import format_count
from zflipon.genome.extents import run_extent, sequence_segments
from zflipon.genome.fasta import Genome
from zflipon.genome.names import ContigLengths, read_aliases
from zflipon.tracks.records import read_record
from zflipon.workflows.genes.annotation import Annotation, read_annotation
from zflipon.workflows.genes.calls import CallSet, read_call_set
from zflipon.workflows.genes.context import GeneContext, check_calls, rename_contigs
from zflipon.workflows.genes.repeats import overlapping_repeats
from zflipon.workflows.genes.tables import sequence_columns

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GeneReport:
    """The gene context of calls.

    Attributes
    ----------
    calls : pandas.DataFrame
        One row per call: see `zflipon.workflows.genes.tables`.
    genes : pandas.DataFrame
        One row per gene with a call in its promoter or body.
    enrichment : pandas.DataFrame
        One row per feature: see `zflipon.workflows.genes.enrichment.feature_enrichment`.
    settings : dict
        Data and settings.
    """

    calls: pd.DataFrame
    genes: pd.DataFrame
    enrichment: pd.DataFrame
    settings: dict[str, object]


def describe_calls(
    calls: str | Path,
    gtf: str | Path,
    genome: str | Path | None = None,
    repeats: str | Path | None = None,
    config: GeneConfig | None = None,
    contig_aliases: str | Path | None = None,
) -> GeneReport:
    """Compute the gene context of calls; parameters and errors are those of `zflipon.find_genes`."""
    config = config or GeneConfig()
    aliases = read_aliases(contig_aliases) if contig_aliases is not None else ()
    source = Genome(genome) if genome is not None else None
    try:
        lengths = ContigLengths(source.lengths, aliases) if source else None
        call_set = read_call_set(calls, lengths, config.threshold, aliases=aliases)
        annotation = rename_contigs(
            read_annotation(gtf), call_set.lengths, call_set.lengths_known, "the calls"
        )
        check_calls(call_set.path, call_set.intervals, annotation)
        call_set = complete_lengths(call_set, annotation)
        context = GeneContext.build(annotation, config)
        columns = [call_set.table, context.columns(call_set.table)]
        if repeats is not None:
            columns.append(overlapping_repeats(repeats, call_set))
        if source is not None:
            columns.append(sequence_columns(call_set.table, source))
        extent = run_extent(call_set.path, read_record(call_set.path), call_set.lengths)
        segments = sequence_segments(extent, call_set.intervals, _segments_of(source, call_set.lengths))
        enrichment = context.enrichment(call_set.table, segments)
        genes = context.gene_table(call_set.table)
    finally:
        if source is not None:
            source.close()
    settings = {
        "zflipon": __version__,
        "calls": Path(calls).name,
        "gtf": Path(gtf).name,
        "genome": Path(genome).name if genome else None,
        "repeats": Path(repeats).name if repeats else None,
        **asdict(config),
    }
    table = pd.concat(columns, axis=1)
    return GeneReport(table, genes, enrichment, settings)


def _segments_of(genome: Genome | None, lengths: Mapping[str, int]) -> Callable[[str], np.ndarray]:
    """Return a function that returns the parts of a contig without N; whole contigs if the sequence is unknown."""
    if genome is None:
        return lambda contig: np.array([[0, lengths[contig]]], dtype=np.int64)
    return lambda contig: genome.scan(contig, min_gap=1).segments


def complete_lengths(calls: CallSet, annotation: Annotation) -> CallSet:
    """Return calls with lengths for shuffling: if they are unknown, those of the annotation or the last end in use."""
    if calls.lengths_known:
        return calls
    ends = annotation.ends
    guessed = {
        contig: max(end, ends.get(contig, 0)) for contig, end in calls.lengths.items()
        if contig not in annotation.lengths
    }  # fmt: skip
    if guessed:
        log.warning(
            "%s: the lengths of %s are unknown; positions are shuffled up to the last gene or call (give --genome)",
            calls.path, format_count(len(guessed), "contig"),
        )  # fmt: skip
    lengths = ContigLengths(calls.lengths)  # with its aliases
    lengths |= {name: guessed.get(name, annotation.lengths.get(name, 0)) for name in lengths}
    return replace(calls, lengths=lengths)
