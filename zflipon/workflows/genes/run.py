"""Calls and an annotation → the gene context of the calls.

Settings and defaults are in `zflipon.config`; files are written by `zflipon.workflows.genes.writing`.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from zflipon import __version__
from zflipon.config import GeneConfig
from zflipon.errors import InputError, format_count, format_names
from zflipon.genome.fasta import Genome
from zflipon.workflows.genes.annotation import Annotation, read_annotation
from zflipon.workflows.genes.calls import CallSet, read_call_set
from zflipon.workflows.genes.contigs import check_lengths, translate_contigs
from zflipon.workflows.genes.enrichment import feature_enrichment
from zflipon.workflows.genes.features import build_feature_map, feature_tables
from zflipon.workflows.genes.repeats import overlapping_repeats
from zflipon.workflows.genes.tables import context_columns, gene_table, sequence_columns

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
) -> GeneReport:
    """Compute the gene context of calls; parameters and errors are those of `zflipon.find_genes`."""
    config = config or GeneConfig()
    source = Genome(genome) if genome is not None else None
    try:
        call_set = read_call_set(calls, source.lengths if source else None, config.threshold)
        annotation = match_annotation(read_annotation(gtf), call_set)
        call_set = complete_lengths(call_set, annotation)
        tables = feature_tables(annotation, config.upstream, config.downstream)
        features = build_feature_map(tables)
        columns = [call_set.table, context_columns(call_set.table, annotation, tables, features)]
        if repeats is not None:
            columns.append(overlapping_repeats(repeats, call_set))
        if source is not None:
            columns.append(sequence_columns(call_set.table, source))
        segments = {
            contig: source.scan(contig, min_gap=1).segments if source else np.array([[0, length]])
            for contig, length in call_set.lengths.items()
            if contig in call_set.intervals
        }
        enrichment = feature_enrichment(call_set.table, features, segments, config.shuffles, config.seed)
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
    return GeneReport(table, gene_table(call_set.table, annotation, tables), enrichment, settings)


def match_annotation(annotation: Annotation, calls: CallSet) -> Annotation:
    """Translate the contigs of an annotation to those of the calls, and check that both are of one assembly.

    Raises
    ------
    InputError
        If they share no contig, or a gene or call passes the end of a contig.
    """
    known = translate_contigs(annotation.path, annotation.contigs, calls.lengths, calls.lengths_known)
    lengths = {known.get(contig, contig): length for contig, length in annotation.lengths.items()}
    renamed = replace(
        annotation,
        genes=_rename(annotation.genes, known),
        transcripts=_rename(annotation.transcripts, known),
        parts=_rename(annotation.parts, known),
        lengths=lengths,
    )
    ends = renamed.ends
    if calls.lengths_known:
        check_lengths(annotation.path, ends, calls.lengths)
    check_lengths(
        calls.path, {name: int(rows[:, 1].max()) for name, rows in calls.intervals.items()}, lengths
    )
    different = [
        name for name, length in lengths.items()
        if calls.lengths_known and calls.lengths.get(name, length) != length
    ]  # fmt: skip
    if different:
        raise InputError(
            f"{annotation.path}: {different[0]} has {lengths[different[0]]:,} bases, for the calls "
            f"{calls.lengths[different[0]]:,}; are both of the same assembly?"
        )
    without = sorted(set(calls.intervals) - set(ends))
    if without:
        number = int(calls.table["contig"].isin(without).sum())
        log.warning(
            "%s: no genes on %s (%s); %s there intergenic",
            annotation.path, format_count(len(without), "contig"), format_names(without),
            "1 call is" if number == 1 else f"{number:,} calls are",
        )  # fmt: skip
    return renamed


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
    return replace(
        calls, lengths={name: guessed.get(name, annotation.lengths.get(name, 0)) for name in calls.lengths}
    )


def _rename(table: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    """Translate the contigs of a table; other contigs keep their names."""
    categories = [names.get(contig, contig) for contig in table["contig"].cat.categories]
    return table.assign(contig=table["contig"].cat.rename_categories(categories))
