"""``zflipon explain tokens``: how often each token is a true positive."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from zflipon.cli.options import default, force_option, limit_threads, names, threads_option
from zflipon.config import DEFAULT_MODEL, PredictConfig, TokenRatioConfig

EPILOG = """\b
Examples:
  zflipon explain tokens hg19.fa --labels kouzine.bed --blacklist blacklist.bed -o tokens.csv
  zflipon explain tokens hg19.fa --labels kouzine.bed --contigs chr14,chr22 --model runs/dnabert2 -o dnabert2.csv
"""


@click.command(epilog=EPILOG)
@click.argument("genome", type=click.Path(path_type=Path))
@click.option("--labels", required=True, type=click.Path(path_type=Path), metavar="BED", help="Known Z-DNA.")
@click.option(
    "-m", "--model", default=DEFAULT_MODEL, show_default=True, help="Bundled name, folder, file or hub id."
)
@click.option(
    "--blacklist",
    type=click.Path(path_type=Path),
    metavar="BED",
    help="Windows that touch these regions are left out.",
)
@click.option(
    "--contigs", multiple=True, callback=names, metavar="NAMES", help="Only these; commas or repeated."
)
@click.option("--window", type=click.IntRange(1), help="Bases of a window.  [default: the model's]")
@click.option(
    "--negatives",
    type=click.FloatRange(0),
    default=default(TokenRatioConfig, "negatives"),
    show_default=True,
    help="Windows without a label for each one with; 0: only those with a label, inf: all.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=default(TokenRatioConfig, "seed"),
    show_default=True,
    help="Of the draw of windows without a label.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True),
    help="Probability from which a base is called.  [default: the model's]",
)
@click.option("--batch-size", type=click.IntRange(1), help="Windows a forward pass.  [default: by device]")
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default=default(PredictConfig, "precision"),
    show_default=True,
    help="auto: bfloat16 on a GPU that has it, else float32.",
)
@click.option(
    "--device",
    default=default(PredictConfig, "device"),
    show_default=True,
    help="auto: CUDA, then MPS, then CPU; or a torch device.",
)
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
    from tqdm import tqdm

    from zflipon.cli.explain.options import give, refuse
    from zflipon.explain.tokens import COLUMNS, token_ratios

    refuse(output, force)
    with tqdm(unit="windows", disable=not sys.stderr.isatty(), leave=False) as bar:

        def advance(windows: int, total: int) -> None:
            bar.total = total
            bar.update(windows)

        found = token_ratios(
            genome,
            labels,
            model,
            blacklist,
            contigs,
            TokenRatioConfig(window, negatives, seed, threshold),
            PredictConfig(batch_size, precision, device, threads),
            advance,
        )
    give(output, found.told(top), found.about(), COLUMNS, found.rows())
