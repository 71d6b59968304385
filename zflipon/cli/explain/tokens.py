"""``zflipon explain tokens``: how often each token is a true positive."""

from __future__ import annotations

from pathlib import Path

import click

from zflipon.cli.options import (
    batch_size_option,
    contigs_option,
    default_of,
    device_option,
    features_option,
    force_option,
    limit_threads,
    missing_features_option,
    model_option,
    precision_option,
    threads_option,
)
from zflipon.config import InferenceConfig, TokenRatioConfig

EPILOG = """\b
Examples:
  zflipon explain tokens hg19.fa --labels kouzine.bed --blacklist blacklist.bed -o tokens.csv
  zflipon explain tokens hg19.fa --labels kouzine.bed --contigs chr14,chr22 --model runs/dnabert2 -o dnabert2.csv
"""


@click.command(epilog=EPILOG)
@click.argument("genome", type=click.Path(path_type=Path))
@click.option("--labels", required=True, type=click.Path(path_type=Path), metavar="BED", help="Known Z-DNA.")
@model_option
@click.option(
    "--blacklist",
    type=click.Path(path_type=Path),
    metavar="BED",
    help="Windows that touch these regions are left out.",
)
@contigs_option
@click.option("--window", type=click.IntRange(1), help="Bases of a window.  [default: the model's]")
@click.option(
    "--negatives",
    type=click.FloatRange(0),
    default=default_of(TokenRatioConfig, "negatives"),
    show_default=True,
    help="Windows without a label for each one with; 0: only those with a label, inf: all.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=default_of(TokenRatioConfig, "seed"),
    show_default=True,
    help="Of the draw of windows without a label.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True),
    help="Probability from which a base is called.  [default: the model's]",
)
@features_option
@missing_features_option
@batch_size_option
@precision_option
@device_option
@threads_option
@click.option(
    "--top", type=click.IntRange(1), default=10, show_default=True, help="Tokens of the table on the console."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="CSV",
    help="Write all tokens; - is stdout, and the table goes to stderr.",
)
@force_option
def tokens(
    genome,
    labels,
    model,
    blacklist,
    contigs,
    window,
    negatives,
    seed,
    threshold,
    features,
    missing_features,
    batch_size,
    precision,
    device,
    threads,
    top,
    output,
    force,
) -> None:
    """Count how often each token of a model is called in GENOME, a FASTA file, where a label says so.

    tp_percent is tp / total: of all occurrences of a token the share that is both
    called and labelled (Libina & Skvortsova 2025, Table 5.4). Counted are the windows that the
    published models were tested on, side by side: those with a label, and some
    of the others. A token is labelled, or called, where the share of its bases that
    are passes the label threshold of the model's training.
    """
    limit_threads(threads)
    from zflipon.cli.explain.options import give, refuse
    from zflipon.explain.token_ratios import COLUMNS, token_ratios
    from zflipon.progress import progress_bar, progress_callback

    refuse(output, force)
    with progress_bar("windows") as bar:
        found = token_ratios(
            genome,
            labels,
            model,
            blacklist,
            contigs,
            TokenRatioConfig(window, negatives, seed, threshold),
            InferenceConfig(batch_size, precision, device, threads),
            progress_callback(bar),
            features,
            missing_features,
        )
    give(output, found.told(top), found.about(), COLUMNS, found.rows())
