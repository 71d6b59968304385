"""What the report shows of each run, computed once: calls, classes, genes, comparison with Z-HUNT, k-mers; its tables.

The page is in `zflipon.report.page`; files of browsers are written by `zflipon.report.bundle`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zflipon.explain.kmers import COLUMNS as KMER_COLUMNS
from zflipon.explain.kmers import RegionComposition, kmer_enrichment, region_codes
from zflipon.genome.extents import run_extent, sequence_segments
from zflipon.genome.fasta import Genome
from zflipon.genome.intervals import Intervals, merge, overlap_mask
from zflipon.models.structure import Z_DNA
from zflipon.report.call_blocks import contig_columns
from zflipon.report.calls import RunSummary, summarize_run
from zflipon.report.runs import Run
from zflipon.report.tables import CallTable, frame_columns, write_columns
from zflipon.report.zhunt import ZhuntComparison, compare_with_zhunt
from zflipon.tracks.call_files import call_intervals

if TYPE_CHECKING:
    from zflipon.workflows.genes.context import GeneContext
    from zflipon.workflows.genes.run import GeneReport

SAMPLED_CALLS, SEED, K = 1000, 42, 6
"""k-mers of the report: highest number of calls, random seed of sample and shuffles, and k."""


@dataclass(frozen=True)
class Section:
    """What the report shows of one run.

    Attributes
    ----------
    run : Run
    summary : RunSummary
    kmers : RegionComposition or None
        k-mers of the calls, or of a random sample of them; None without a genome.
    labelled_calls : int or None
        Number of calls that overlap known Z-DNA; None without labels.
    files : sequence of str
        The run's files in the bundle.
    table : CallTable or None
        All calls; None without calls.
    genes : GeneReport or None
        None without calls or without an annotation.
    zhunt : ZhuntComparison or None
        None without calls or without a genome.
    downloads : mapping of str to str
        Name of a table → its file in the bundle.
    """

    run: Run
    summary: RunSummary
    kmers: RegionComposition | None
    labelled_calls: int | None
    files: Sequence[str]
    table: CallTable | None = None
    genes: GeneReport | None = None
    zhunt: ZhuntComparison | None = None
    downloads: Mapping[str, str] = field(default_factory=dict)

    @property
    def assessed_bases(self) -> int | None:
        """Number of bases with a value: counted in the bigWig, else as recorded, else None."""
        if self.summary.assessed is not None:
            return sum(self.summary.assessed.values())
        return self.run.record.get("tracks", {}).get("bases")


@dataclass(frozen=True)
class Sources:
    """What all sections are computed from.

    Attributes
    ----------
    lengths : mapping of str to int
        Contigs in the order of the genome.
    genome : Genome or None
    genes : GeneContext or None
    known_zdna : Intervals
        Merged labels; empty without labels.
    """

    lengths: Mapping[str, int]
    genome: Genome | None
    genes: GeneContext | None
    known_zdna: Intervals

    @cached_property
    def _segments(self) -> dict[str, np.ndarray]:
        return {}

    def segments_of(self, contig: str) -> np.ndarray:
        """Return the parts of a contig without N; all of it without a genome. A contig is read once."""
        if contig not in self._segments:
            whole = np.array([[0, self.lengths[contig]]], dtype=np.int64)
            scanned = self.genome.scan(contig, min_gap=1).segments if self.genome else whole
            self._segments[contig] = scanned
        return self._segments[contig]


def describe_run(run: Run, sources: Sources, progress: Callable[[int], object]) -> Section:
    """Compute what the report shows of a run; it has no files yet.

    Parameters
    ----------
    run : Run
    sources : Sources
    progress : callable
        Called with the number of bases just read from a bigWig.

    Raises
    ------
    InputError
        If a track is malformed or does not match the genome or the annotation.
    """
    summary = summarize_run(run, sources.lengths, progress)
    labelled = _count_labelled(summary, sources.known_zdna) if sources.known_zdna else None
    if not summary.number_of_calls:
        return Section(run, summary, None, labelled, [])
    extent = run_extent(run.files[0], run.record, sources.lengths)
    table, kmers, zhunt, genes = CallTable.of_summary(summary), None, None, None
    genome = sources.genome
    if genome is not None:
        table.add_sequences(genome)
        kmers = _call_kmers(genome, summary)
        if run.record.get("structure", Z_DNA.name) == Z_DNA.name:
            zhunt = compare_with_zhunt(genome, summary.calls, extent)
            agrees = np.concatenate(list(zhunt.in_zhunt.values()))
            table.add_columns({"zhunt": agrees.astype(int).tolist()})
    if sources.genes is not None:
        segments = sequence_segments(extent, summary.calls, sources.segments_of)
        genes = _describe_genes(run, summary, table, sources, segments)
    return Section(run, summary, kmers, labelled, [], table, genes, zhunt)


def write_section_tables(section: Section, lengths: Mapping[str, int], folder: Path) -> dict[str, str]:
    """Write the tables of a section to a folder; return name → file."""
    tables: dict[str, Mapping[str, Sequence]] = {}
    if section.table is not None:
        tables["calls"] = section.table.columns
        tables["contigs"] = contig_columns(section.summary, lengths)
    if section.genes is not None:
        tables["genes"] = frame_columns(section.genes.genes)
        tables["features"] = frame_columns(section.genes.enrichment)
    if section.kmers is not None:
        rows = section.kmers.rows()
        columns = zip(*rows, strict=True) if rows else [()] * len(KMER_COLUMNS)
        tables["k-mers"] = dict(zip(KMER_COLUMNS, columns, strict=True))
    files = {name: f"{section.run.name}.{name.replace('-', '')}.tsv" for name in tables}
    for name, columns in tables.items():
        write_columns(folder / files[name], columns)
    return files


def _describe_genes(
    run: Run, summary: RunSummary, table: CallTable, sources: Sources, segments: Intervals
) -> GeneReport:
    """Relate the calls of a run to genes, as ``zflipon genes`` does, and add the columns to the table of calls."""
    import pandas as pd

    from zflipon.workflows.genes.context import check_calls
    from zflipon.workflows.genes.run import GeneReport
    from zflipon.workflows.genes.tables import CALL_COLUMNS, CONTEXT_COLUMNS

    context = sources.genes
    assert context is not None
    intervals = {contig: call_intervals(calls) for contig, calls in summary.calls.items()}
    check_calls(run.files[-1], intervals, context.annotation)
    frame = pd.DataFrame(np.concatenate(list(summary.calls.values()))).loc[:, list(CALL_COLUMNS[1:])]
    frame.insert(0, "contig", pd.Categorical(table.columns["contig"], list(sources.lengths)))
    calls = pd.concat([frame, context.columns(frame)], axis=1)
    if "class" in table.columns:
        calls["class"] = list(table.columns["class"])
    table.add_columns(frame_columns(calls.loc[:, list(CONTEXT_COLUMNS)]))
    settings = {"gtf": context.annotation.path.name, **asdict(context.config)}
    return GeneReport(calls, context.gene_table(frame), context.enrichment(frame, segments), settings)


def _count_labelled(summary: RunSummary, known_zdna: Mapping[str, np.ndarray]) -> int:
    """Return the number of calls that overlap a label."""
    return sum(
        int(overlap_mask(known_zdna.get(contig), call_intervals(calls)).sum())
        for contig, calls in summary.calls.items()
    )


def _call_kmers(reference: Genome, summary: RunSummary) -> RegionComposition | None:
    """Return the k-mers of the calls, or of a random sample if there are many, because shuffling is slow."""
    regions = [
        (contig, row) for contig, calls in summary.calls.items() for row in merge(call_intervals(calls))
    ]
    sample = np.random.default_rng(SEED).permutation(len(regions))[:SAMPLED_CALLS]
    sampled: dict[str, list] = {}
    for number in np.sort(sample):
        contig, row = regions[number]
        sampled.setdefault(contig, []).append(row)
    codes = region_codes(reference, {contig: np.array(rows) for contig, rows in sampled.items()})
    return RegionComposition(codes, kmer_enrichment(codes, K, seed=SEED))
