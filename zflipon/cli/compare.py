"""``zflipon compare``: call sets or tracks side by side."""

from __future__ import annotations

import click

from zflipon.cli.options import (
    LocalPath,
    contig_aliases_option,
    force_option,
    log_to_stderr,
    print_line,
    quiet_option,
    split_names,
)
from zflipon.errors import format_count

EPILOG = """\b
Examples:
  zflipon compare hepg2.bw k562.bw -o changed.tsv --plot venn.png --bed differences.bed
  zflipon compare compact.bed zhunt.bed peer.bed --names compact,zhunt,peer
"""


@click.command(epilog=EPILOG)
@click.argument("files", nargs=-1, required=True, metavar="FILE FILE...", type=LocalPath())
@click.option(
    "-o",
    "--output",
    type=LocalPath(),
    metavar="TABLE",
    help="Table of loci, the largest change first, and of pairs: .tsv, .tsv.gz, .parquet, .xlsx.",
)
@click.option(
    "--bed",
    "bed_path",
    type=LocalPath(),
    metavar="OUT.bed",
    help="Write the loci that some of the files lack.",
)
@click.option(
    "--plot",
    "plot_path",
    type=LocalPath(),
    metavar="OUT.png",
    help="Draw the shared loci (.png, .svg or .pdf).",
)
@click.option(
    "--names",
    multiple=True,
    callback=split_names,
    metavar="NAMES",
    help="Names of the files, separated by commas.  [default: the file names]",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="Probability from which a base of a bigWig is called.  [default: the threshold in its run record, else 0.5]",
)
@contig_aliases_option
@force_option
@quiet_option
def compare(files, output, bed_path, plot_path, names, threshold, contig_aliases, force, quiet) -> None:
    """Compare FILEs of calls or values on one assembly: BED, narrowPeak, bigBed or bigWig.

    Prints, for each pair, the shared calls, the Jaccard index of the called bases and, for bigWigs, the correlation of
    their values.
    """
    if len(files) < 2:
        raise click.UsageError("give at least two files to compare")
    log_to_stderr(quiet)
    from zflipon.plots import check_figure_path, require_matplotlib
    from zflipon.progress import progress_bar, progress_callback
    from zflipon.tracks.atomic import check_output_path
    from zflipon.workflows.compare import compare as run
    from zflipon.workflows.table_files import check_table_paths, require_gene_packages, write_tables

    require_gene_packages()
    if output:
        check_table_paths(output, ("loci", "pairs"), force)
    if bed_path:
        check_output_path(bed_path, force)
    if plot_path:
        require_matplotlib()
        check_figure_path(plot_path)
        check_output_path(plot_path, force)
    with progress_bar("b", quiet=quiet) as bar:
        comparison = run(
            files,
            names=names,
            threshold=threshold,
            progress=progress_callback(bar),
            contig_aliases=contig_aliases,
        )
    print_line(_format_pairs(comparison.pairs))
    if output:
        write_tables(output, {"loci": comparison.loci, "pairs": comparison.pairs}, comparison.settings)
    written = comparison.write_differences(bed_path) if bed_path else None
    if plot_path:
        from zflipon.workflows.compare.figure import plot_comparison

        plot_comparison(comparison, plot_path)
    if not quiet:
        lacking = "" if written is None else f"; {format_count(written, 'difference')}: {bed_path}"
        print_line(f"loci: {len(comparison.loci):,}{lacking}", to_stderr=True)


def _format_pairs(pairs) -> str:
    """Return the table of pairs as aligned text."""
    heads = ("a", "b", "calls a", "calls b", "shared a", "shared b", "Jaccard", "Pearson", "Spearman")
    rows = [
        (
            row.a, row.b, f"{row.calls_a:,}", f"{row.calls_b:,}", f"{row.shared_a:,}", f"{row.shared_b:,}",
            *(f"{value:.3f}" if value == value else "" for value in (row.jaccard, row.pearson, row.spearman)),
        )
        for row in pairs.itertuples()
    ]  # fmt: skip
    from zflipon.explain.table_files import align_columns

    return align_columns(heads, rows, ("a", "b"))
