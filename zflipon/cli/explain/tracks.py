"""``zflipon explain tracks``: the importance of each omics track."""

from __future__ import annotations

from pathlib import Path

import click

from zflipon.cli.explain.options import (
    check_output,
    labels_option,
    output_option,
    print_and_write,
    top_option,
)
from zflipon.cli.options import (
    batch_size_option,
    complete_models,
    contig_aliases_option,
    contigs_option,
    device_option,
    features_option,
    force_option,
    limit_threads,
    missing_features_option,
    precision_option,
    threads_option,
)
from zflipon.config import OMICS_MODEL, InferenceConfig

EPILOG = """\b
Examples:
  zflipon explain tracks hg19.fa --features tracks.tsv --labels kouzine.bed --contigs chr22 -o tracks.csv
"""


@click.command(epilog=EPILOG)
@click.argument("genome", type=click.Path(path_type=Path))
@labels_option
@click.option(
    "-m",
    "--model",
    default=OMICS_MODEL,
    show_default=True,
    shell_complete=complete_models,
    help="Bundled name, folder, file or hub id.",
)
@features_option
@missing_features_option
@click.option(
    "--blacklist", type=click.Path(path_type=Path), metavar="BED", help="Bases in these regions do not count."
)
@contigs_option
@click.option(
    "--all-windows",
    is_flag=True,
    help="Predict also windows that do not pass the screen of the model (slow).",
)
@batch_size_option
@precision_option
@device_option
@threads_option
@top_option("tracks")
@output_option("tracks")
@contig_aliases_option
@force_option
def tracks(
    genome, labels, model, features, missing_features, blacklist, contigs, all_windows,
    batch_size, precision, device, threads, top, output, contig_aliases, force,
) -> None:  # fmt: skip
    """Measure the importance of each omics track for a model, over GENOME, a FASTA file.

    The genome is predicted once with all tracks in place, and once for each track with this track displaced by half a
    contig. The importance is the loss in average precision over all bases. For the contribution of tracks to the calls
    of one region, use `zflipon explain locus`.
    """
    limit_threads(threads)
    from zflipon.explain.track_importance import COLUMNS, track_importance
    from zflipon.progress import progress_bar, progress_callback

    check_output(output, force)
    with progress_bar("b") as bar:
        table = track_importance(
            genome,
            labels,
            features,
            model,
            blacklist,
            contigs,
            missing_features,
            not all_windows,
            InferenceConfig(batch_size, precision, device, threads),
            progress_callback(bar),
            contig_aliases,
        )
    print_and_write(output, table.to_text(top), table.header(), COLUMNS, table.rows())
