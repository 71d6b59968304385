"""Tables and figures of what a genome and an annotation add to calls: features, genes, Z-HUNT, k-mers; shared calls.

Tables of the calls themselves are in `zflipon.report.call_blocks`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from zflipon.explain.kmers import RegionComposition
from zflipon.genome.intervals import merge, overlap_mask
from zflipon.report.blocks import TOP, Plot, Table
from zflipon.report.calls import RunSummary
from zflipon.report.html import MISSING, plain_text
from zflipon.tracks.call_files import call_intervals

if TYPE_CHECKING:
    from zflipon.report.zhunt import ZhuntComparison
    from zflipon.workflows.genes.run import GeneReport


def feature_table(number: int, report: GeneReport) -> Table:
    """Return the enrichment of features over shuffled positions."""
    rows = [
        [
            row["feature"],
            f"{row['observed']:,}",
            f"{row['share']:.1%}",
            _interval(row["expected"], row["expected_low"], row["expected_high"], ",.1f"),
            _interval(row["fold"], row["fold_low"], row["fold_high"], ".2f"),
            f"{row['p']:.2g}",
        ]
        for row in report.enrichment.to_dict("records")
    ]
    columns = ["feature", "calls", "share", "expected (95 % of shuffles)", "fold (95 % interval)", "p"]
    return Table(f"features-{number}", columns, rows)


def gene_table(number: int, report: GeneReport) -> Table:
    """Return the genes with calls in their promoters, the best score first; without any, those with calls in them."""
    genes = report.genes
    of_promoter = genes[genes["promoter_calls"] > 0]
    shown = of_promoter if len(of_promoter) else genes
    rows = [
        [
            row.gene,
            row.gene_type or MISSING,
            f"{row.contig}:{row.start + 1:,}-{row.end:,}",
            row.strand,
            f"{row.promoter_calls:,}",
            f"{row.body_calls:,}",
            MISSING if np.isnan(row.best_score) else f"{row.best_score:.3f}",
        ]
        for row in shown.head(TOP).itertuples()
    ]
    columns = ["gene", "type", "locus", "strand", "calls in promoter", "calls in gene", "best score"]
    return Table(f"genes-{number}", columns, rows, text_columns=3)


def gene_plot(number: int, report: GeneReport) -> Plot:
    """Return the figure of features, distances to the TSS and classes."""
    from zflipon.workflows.genes.figure import gene_figure_svg

    settings = report.settings
    caption = (
        f"Features of calls over {settings['shuffles']} shuffles to random positions of the same contigs; distance "
        f"from the nearest TSS, negative upstream. A promoter is {settings['upstream']:,} bases before a TSS and "
        f"{settings['downstream']:,} from it on."
    )
    return Plot(Markup(gene_figure_svg(report, f"genes-figure-{number}")), caption)


def zhunt_table(
    number: int, run_density: float | None, calls: int, zhunt: ZhuntComparison
) -> tuple[Table, str]:
    """Return the comparison with Z-HUNT, and a note on how it was made.

    Parameters
    ----------
    number : int
        Number of the run on the page.
    run_density : float or None
        Calls of the run per Mb.
    calls : int
        Calls of the run.
    zhunt : ZhuntComparison
    """
    bases = int(zhunt.bases.sum())
    rows = [
        ["calls", f"{calls:,}", f"{int(zhunt.zhunt_calls.sum()):,}"],
        [
            "calls per Mb",
            MISSING if run_density is None else f"{run_density:,.1f}",
            _interval(*zhunt.zhunt_density(), ",.1f"),
        ],
        [
            "share that the other calls too",
            f"{zhunt.share_in_zhunt:.1%}",
            _interval(*zhunt.share_also_called(), ".1%"),
        ],
    ]
    extent = (
        f"Z-HUNT calls are counted in {bases / 1e6:,.1f} Mb of sequence drawn at random, with 95 % bootstrap intervals."
        if zhunt.is_sample
        else f"Z-HUNT calls are counted in all {bases:,} bases of sequence that the run annotated."
    )
    note = (
        f"Z-HUNT (Ho et al. 1986) computes from energies which sequence can form Z-DNA; calls follow the rule of "
        f"published maps, as the model zhunt does. Two calls agree if they share a base. {extent}"
    )
    return Table(f"zhunt-{number}", ["", "this run", "Z-HUNT"], rows), note


def shared_calls_table(names: Sequence[str], summaries: Sequence[RunSummary]) -> Table:
    """Return the share of each run's calls that each other run calls too."""
    merged = [
        {contig: merge(call_intervals(calls)) for contig, calls in summary.calls.items()}
        for summary in summaries
    ]
    rows = [
        [name, *(MISSING if other == own else _share(summary, merged[other]) for other in range(len(names)))]
        for own, (name, summary) in enumerate(zip(names, summaries, strict=True))
    ]
    return Table("shared", ["calls of", *(f"also called by {name}" for name in names)], rows)


def _share(summary: RunSummary, merged: Mapping[str, np.ndarray]) -> str:
    if not summary.number_of_calls:
        return MISSING
    shared = sum(
        int(overlap_mask(merged.get(contig), call_intervals(calls)).sum())
        for contig, calls in summary.calls.items()
    )
    return f"{shared / summary.number_of_calls:.1%}"


def _interval(value: float, low: float, high: float, style: str) -> str:
    """Return a value with its interval, as far as they are known."""
    if np.isnan(value):
        return MISSING
    return f"{value:{style}}" + ("" if np.isnan(low) else f" ({low:{style}} to {high:{style}})")


def kmer_tables(number: int, kmers: RegionComposition, calls: int) -> tuple[Table, Table, str]:
    """Return the table of sequence classes, the table of k-mers, and a note on how they were counted."""
    classes = Table(
        f"classes-{number}",
        ["property", "value"],
        [[name, plain_text(value)] for name, value in kmers.header().items()],
        text_columns=2,
    )
    rows = [
        [row.kmer, f"{row.observed:,}", f"{row.expected:,.1f}", f"{row.fold:.2f}", f"{row.q:.2g}"]
        for row in kmers.kmers[:TOP]
    ]
    table = Table(f"kmers-{number}", ["k-mer", "observed", "expected", "fold", "q"], rows)
    sampled = len(kmers.sequences)
    regions = (
        f"{sampled:,} calls, drawn at random from {calls:,}," if sampled < calls else f"all {calls:,} calls"
    )
    note = (
        f"k-mers in {regions} compared with shuffles that keep the dinucleotide counts of each call. A k-mer and its "
        "reverse complement are counted as one. q is adjusted by Benjamini–Hochberg."
    )
    return classes, table, note
