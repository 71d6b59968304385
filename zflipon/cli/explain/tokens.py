"""``zflipon explain tokens``: the true-positive ratio of each token."""

from __future__ import annotations

from pathlib import Path

import click

from zflipon.cli.explain.options import (
    check_output,
    labels_option,
    output_option,
    part_option,
    print_and_write,
    table_threshold_option,
    top_option,
)
from zflipon.cli.options import (
    batch_size_option,
    contig_aliases_option,
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
  zflipon explain tokens hg19.fa --labels kouzine.bed --model runs/dnabert2 --part test --threshold argmax \\
      -o dnabert2.csv
"""


@click.command(epilog=EPILOG)
@click.argument("genome", type=click.Path(path_type=Path))
@labels_option
@model_option
@click.option(
    "--blacklist",
    type=click.Path(path_type=Path),
    metavar="BED",
    help="Leave out windows that touch these regions.",
)
@contigs_option
@part_option
@click.option("--window", type=click.IntRange(1), help="Bases of a window.  [default: those of the model]")
@click.option(
    "--negatives",
    type=click.FloatRange(0),
    default=default_of(TokenRatioConfig, "negatives"),
    show_default=True,
    help="Windows without a label for each window with one; 0 for none, inf for all.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=default_of(TokenRatioConfig, "seed"),
    show_default=True,
    help="Random seed of the sample of windows without a label.",
)
@table_threshold_option(min_open=True)
@features_option
@missing_features_option
@batch_size_option
@precision_option
@device_option
@threads_option
@top_option("tokens")
@output_option("tokens")
@contig_aliases_option
@force_option
def tokens(
    genome, labels, model, blacklist, contigs, part, window, negatives, seed, threshold, features, missing_features,
    batch_size, precision, device, threads, top, output, contig_aliases, force,
) -> None:  # fmt: skip
    """Count how often each token of a model is called and labelled in GENOME, a FASTA file.

    tp_percent is tp / total: the share of all occurrences of a token that are both called and labelled (Libina &
    Skvortsova 2025, Table 5.4). Windows are like those on which the published models were tested: all with a label and
    a sample of the others, tiled without overlap. --part test reads exactly those that tested a model of zflipon train.
    A token is labelled, or called, if the share of its bases that are labelled, or called, passes the label threshold
    in the metadata of the model.
    """
    limit_threads(threads)
    from zflipon.explain.token_ratios import COLUMNS, token_ratios
    from zflipon.progress import progress_bar, progress_callback

    check_output(output, force)
    with progress_bar("windows") as bar:
        ratios = token_ratios(
            genome,
            labels,
            model,
            blacklist,
            contigs,
            TokenRatioConfig(window, negatives, seed, threshold, part),
            InferenceConfig(batch_size, precision, device, threads),
            progress_callback(bar),
            features,
            missing_features,
            contig_aliases,
        )
    print_and_write(output, ratios.to_text(top), ratios.header(), COLUMNS, ratios.rows())
