"""``zflipon explain tracks``: which omics tracks made the calls."""

from __future__ import annotations

from pathlib import Path

import click

from zflipon.cli.options import (
    batch_size_option,
    complete_models,
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
@click.option("--labels", required=True, type=click.Path(path_type=Path), metavar="BED", help="Known Z-DNA.")
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
    help="Read windows, too, that cannot be called by the model's screen (slow).",
)
@batch_size_option
@precision_option
@device_option
@threads_option
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="Tracks that are printed.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="CSV",
    help="Write all tracks; - is stdout, and what is printed goes to stderr.",
)
@force_option
def tracks(
    genome, labels, model, features, missing_features, blacklist, contigs, all_windows,
    batch_size, precision, device, threads, top, output, force,
) -> None:  # fmt: skip
    """Say what each omics track is worth to a model that reads them, over GENOME, a FASTA file.

    The genome is read once with all tracks, and once for each with that track read half a contig away from where it
    belongs. A track is worth what average precision over all bases loses by it. What tracks have added at one
    place, `zflipon explain locus` draws.
    """
    limit_threads(threads)
    from zflipon.cli.explain.options import give, refuse
    from zflipon.explain.track_importance import COLUMNS, track_importance
    from zflipon.progress import progress_bar, progress_callback

    refuse(output, force)
    with progress_bar("b") as bar:
        found = track_importance(
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
        )
    give(output, found.told(top), found.about(), COLUMNS, found.fields())
