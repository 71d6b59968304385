"""``zflipon genes``: genes, features and repeats of calls, and summaries of regions."""

from __future__ import annotations

from pathlib import Path

import click

from zflipon.cli.options import (
    LocalPath,
    contig_aliases_option,
    default_of,
    force_option,
    log_to_stderr,
    print_line,
    quiet_option,
)
from zflipon.config import GeneConfig
from zflipon.errors import format_count

EPILOG = """\b
Examples:
  zflipon genes zdna.bed --gtf gencode.gtf.gz -o zdna_genes.tsv
  zflipon genes zdna.bed --gtf gencode.gtf.gz --genome hg38.fa --repeats rmsk.bed.gz -o zdna.xlsx --plot zdna.png
  zflipon genes zdna.bw --regions enhancers.bed -o enhancers.tsv
"""


@click.command(epilog=EPILOG)
@click.argument("calls", type=LocalPath())
@click.option("--gtf", type=LocalPath(), metavar="FILE", help="Gene annotation: GTF or GFF3, plain or gzip.")
@click.option(
    "--regions",
    type=LocalPath(),
    metavar="BED",
    help="Summarize these regions instead: highest and mean value, calls, share of called bases.",
)
@click.option(
    "-o",
    "--output",
    type=LocalPath(),
    required=True,
    metavar="TABLE",
    help="Table of calls. The extension chooses the format: .tsv, .tsv.gz, .parquet, .xlsx.",
)
@click.option(
    "--repeats", type=LocalPath(), metavar="BED", help="Repeats; adds the one that overlaps a call most."
)
@click.option(
    "--genome",
    type=LocalPath(),
    metavar="FASTA",
    help="Adds class, GC share and sequence of each call, and keeps shuffled calls out of gaps.",
)
@click.option(
    "--upstream",
    type=click.IntRange(0),
    default=default_of(GeneConfig, "upstream"),
    show_default=True,
    help="Bases of a promoter before the TSS.",
)
@click.option(
    "--downstream",
    type=click.IntRange(0),
    default=default_of(GeneConfig, "downstream"),
    show_default=True,
    help="Bases of a promoter from the TSS on.",
)
@click.option(
    "--shuffles",
    type=click.IntRange(2),
    default=default_of(GeneConfig, "shuffles"),
    show_default=True,
    help="Shuffles of the calls, for the enrichment of features.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=default_of(GeneConfig, "seed"),
    show_default=True,
    help="Random seed of the shuffles and of the intervals.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="Probability from which a base of a bigWig is called.  [default: the threshold in its run record, else 0.5]",
)
@click.option(
    "--plot",
    "plot_path",
    type=LocalPath(),
    metavar="OUT.png",
    help="Draw enrichment, distance to the TSS and classes (.png, .svg or .pdf).",
)
@contig_aliases_option
@force_option
@quiet_option
def genes(
    calls, gtf, regions, output, repeats, genome, upstream, downstream, shuffles, seed, threshold, plot_path,
    contig_aliases, force, quiet,
) -> None:  # fmt: skip
    """Find the nearest gene, the feature and the repeat of each call in CALLS: BED, narrowPeak, bigBed or bigWig.

    Writes a table of calls, one of genes and one of the enrichment of features over shuffled positions. With --regions
    in place of --gtf, it writes one row per region.
    """
    if (gtf is None) == (regions is None):
        raise click.UsageError(
            "give --gtf FILE for the genes of calls, or --regions BED for a summary of regions"
        )
    if regions is not None and (plot_path or repeats):
        raise click.UsageError("--plot and --repeats need --gtf; leave them out with --regions")
    log_to_stderr(quiet)
    from zflipon.workflows.table_files import check_table_paths, require_gene_packages, write_tables

    require_gene_packages()
    if regions is not None:
        from zflipon.workflows.genes import summarize_regions

        check_table_paths(output, ("regions",), force)
        table = summarize_regions(
            calls, regions, genome=genome, threshold=threshold, contig_aliases=contig_aliases
        )
        settings = {"calls": calls.name, "regions": regions.name, "threshold": threshold}
        write_tables(output, {"regions": table}, settings)
        if not quiet:
            print_line(f"{output}: {format_count(len(table), 'region')}")
        return
    _write_genes(
        calls, gtf, output, repeats, genome, GeneConfig(upstream, downstream, shuffles, seed, threshold), plot_path,
        contig_aliases, force, quiet,
    )  # fmt: skip


def _write_genes(
    calls: Path,
    gtf: Path,
    output: Path,
    repeats: Path | None,
    genome: Path | None,
    config: GeneConfig,
    plot_path: Path | None,
    contig_aliases: Path | None,
    force: bool,
    quiet: bool,
) -> None:
    from zflipon.plots import check_figure_path, require_matplotlib
    from zflipon.tracks.atomic import check_output_path
    from zflipon.workflows.genes import find_genes
    from zflipon.workflows.table_files import check_table_paths, write_tables

    check_table_paths(output, ("calls", "genes", "features"), force)
    if plot_path:
        require_matplotlib()
        check_figure_path(plot_path)
        check_output_path(plot_path, force)
    report = find_genes(
        calls, gtf, genome=genome, repeats=repeats, config=config, contig_aliases=contig_aliases
    )
    tables = {"calls": report.calls, "genes": report.genes, "features": report.enrichment}
    written = write_tables(output, tables, report.settings)
    if plot_path:
        from zflipon.workflows.genes.figure import plot_genes

        plot_genes(report, plot_path)
    if not quiet:
        print_line(_format_enrichment(report.enrichment))
        files = ", ".join(str(path) for path in [*written, *([plot_path] if plot_path else [])])
        print_line(
            f"{format_count(len(report.calls), 'call')}, {format_count(len(report.genes), 'gene')} with a call in "
            f"promoter or body: {files}",
            to_stderr=True,
        )


def _format_enrichment(table) -> str:
    """Return the table of enrichment as aligned text."""
    lines = [
        f"{'feature':<12}{'calls':>9}{'share':>8}{'expected':>10}{'fold':>8}  {'95 % interval':<16}{'p':>8}"
    ]
    for row in table.itertuples():
        interval = f"{row.fold_low:.2f}-{row.fold_high:.2f}"
        counts = f"{row.observed:>9,}{row.share:>8.3f}{row.expected:>10,.1f}{row.fold:>8.2f}"
        lines.append(f"{row.feature:<12}{counts}  {interval:<16}{row.p:>8.3g}")
    return "\n".join(lines)
