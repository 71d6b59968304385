"""``zflipon evaluate``: compare tracks with labels."""

from __future__ import annotations

import json
from pathlib import Path

import click

from zflipon.cli.options import (
    complete_contigs,
    contig_aliases_option,
    contigs_option,
    default_of,
    force_option,
    log_to_stderr,
    print_data,
    print_line,
)
from zflipon.config import EvaluateConfig
from zflipon.tracks.registry import list_names

EPILOG = """\b
Examples:
  zflipon evaluate zdna.bw peer.bed --labels kouzine.bed --genome hg19.fa --blacklist blacklist.bed
  zflipon evaluate zdna.bw --labels truth.bed --genome demo.fa --json scores.json --plot curves.png
  zflipon evaluate zdna.bw --labels truth.bed --genome hg19.fa --protocol genome --contigs chr14,chr22
"""

HELP = f"""Compare TRACKs with labelled intervals: {list_names()} files of zflipon or of other programs.

Scored tracks are called at the threshold in their record (TRACK.json), or at 0.5 without a record, and are also
compared at every threshold; the intervals of a BED file are calls. Bases without a value count as not called.
"""


@click.command(help=HELP, epilog=EPILOG)
@click.argument("tracks", nargs=-1, required=True, metavar="TRACK...", type=click.Path(path_type=Path))
@click.option("--labels", required=True, type=click.Path(path_type=Path), metavar="BED", help="Known Z-DNA.")
@click.option(
    "--genome", required=True, type=click.Path(path_type=Path), metavar="FASTA", help="Plain, gzip or bgzip."
)
@click.option(
    "--blacklist", type=click.Path(path_type=Path), metavar="BED", help="Regions that do not count."
)
@click.option(
    "--protocol",
    type=click.Choice(["genome", "sampled", "both"]),
    default=default_of(EvaluateConfig, "protocol"),
    show_default=True,
    help="genome: every base that is neither N nor blacklisted; sampled: the windows with a label and three others "
    "for each.",
)
@click.option(
    "--window",
    type=click.IntRange(1),
    default=default_of(EvaluateConfig, "window"),
    show_default=True,
    help="Bases of a sampled window.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=default_of(EvaluateConfig, "seed"),
    show_default=True,
    help="Random seed of the sampled windows and of the intervals.",
)
@contigs_option
@contig_aliases_option
@click.option(
    "--json",
    "json_path",
    type=click.Path(path_type=Path),
    metavar="OUT",
    help="Write all measures; with - to standard output, and the table to standard error.",
)
@click.option(
    "--plot",
    "plot_path",
    type=click.Path(path_type=Path),
    metavar="OUT.png",
    help="Draw precision–recall curves (.png, .svg or .pdf).",
)
@click.option(
    "-r",
    "--region",
    "regions",
    multiple=True,
    metavar="CHR:START-END",
    shell_complete=complete_contigs,
    help="Evaluate only this region (1-based); repeatable.",
)
@click.option(
    "--regions",
    "regions_bed",
    type=click.Path(path_type=Path),
    metavar="BED",
    help="Evaluate only these regions.",
)
@force_option
def evaluate(
    tracks, labels, genome, blacklist, protocol, window, seed, contigs, contig_aliases, json_path, plot_path, regions,
    regions_bed, force,
) -> None:  # fmt: skip
    """Compare TRACKs with labelled intervals."""
    log_to_stderr()
    from zflipon.progress import progress_bar, progress_callback
    from zflipon.report.evaluation import check_plot, format_table, plot_precision_recall
    from zflipon.tracks.atomic import atomic_file, check_output_path
    from zflipon.workflows.evaluate import evaluate as run

    json_to_stdout = json_path == Path("-")
    if plot_path:
        check_plot(plot_path)
        check_output_path(plot_path, force)
    if json_path and not json_to_stdout:
        check_output_path(json_path, force)

    config = EvaluateConfig(protocol=protocol, window=window, seed=seed)
    with progress_bar("b") as bar:
        report = run(
            tracks,
            labels,
            genome,
            blacklist,
            contigs,
            config,
            progress_callback(bar),
            regions,
            regions_bed,
            contig_aliases,
        )

    print_line(format_table(report), to_stderr=json_to_stdout)
    text = json.dumps(report.summary(), indent=2, allow_nan=False) + "\n"
    if json_to_stdout:
        print_data(text)
    elif json_path:
        with atomic_file(json_path) as part:
            part.write_text(text, encoding="utf-8")
    if plot_path:
        plot_precision_recall(report, plot_path)
