"""``zflipon reproduce``: the tables of the paper, printed values next to measured ones."""

from __future__ import annotations

from pathlib import Path

import click

from zflipon.cli.options import limit_threads, log_to_stderr, print_line, quiet_option, threads_option

EPILOG = """\b
Examples:
  zflipon reproduce
  zflipon reproduce 5.7 5.8
  zflipon reproduce 5.3 --weights hub --genome hg38.fa --labels kouzine.bed --blacklist encode.bed
  zflipon reproduce 4.2 --weights dnabert2=DNABERT-2-117M --weights gena=gena-lm --gue GUE/prom_core_all
"""

EVERY = "all"


@click.command(epilog=EPILOG)
@click.argument("tables", nargs=-1, metavar="[TABLE]...")
@click.option("--genome", type=click.Path(path_type=Path), metavar="FASTA", help="Genome.")
@click.option("--labels", type=click.Path(path_type=Path), metavar="BED", help="Labels of Kouzine et al.")
@click.option("--blacklist", type=click.Path(path_type=Path), metavar="BED", help="Regions to leave out.")
@click.option(
    "--gue",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Core promoters of GUE: a folder with train.csv, dev.csv and test.csv.",
)
@click.option(
    "--weights",
    multiple=True,
    default=("small",),
    show_default=True,
    metavar="small|hub|MODEL=FOLDER",
    help="Pretrained weights: small models with random weights that are made here; those of the Hugging Face Hub; or a "
    "folder for each model (dnabert2, gena, dnabert).",
)
@click.option(
    "--as",
    "variant",
    type=click.Choice(["printed", "notebook"]),
    default="printed",
    show_default=True,
    help="Recipes as in the text, or as in the authors' notebooks where these differ.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("runs/paper"),
    show_default=True,
    help="Folder of the runs. Finished runs are used again, interrupted ones resume.",
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set a key of all recipes.")
@click.option("--restart", is_flag=True, help="Start the runs over.")
@click.option("--markdown", is_flag=True, help="Print the list of tables as Markdown, and run nothing.")
@threads_option
@quiet_option
def reproduce(
    tables,
    genome,
    labels,
    blacklist,
    gue,
    weights,
    variant,
    output,
    settings,
    restart,
    markdown,
    threads,
    quiet,
) -> None:
    """Reproduce TABLEs of Libina & Skvortsova (2025), such as 5.8, or all; without TABLE, list them.

    Prints the values of the paper next to the measured ones. Without --weights, small models with random weights run
    the same protocols, and without --genome and --labels, or --gue, on synthetic data; the output says so.
    """
    limit_threads(threads)
    log_to_stderr(quiet)
    from zflipon.reproduction.catalogue import find_item, paper_items
    from zflipon.reproduction.comparison import items_markdown, list_items

    if markdown or not tables:
        print_line(items_markdown() if markdown else list_items())
        return
    names = [item.id for item in paper_items()] if EVERY in tables else list(tables)
    for name in names:
        find_item(name)
    from zflipon.cli.train import explain_stop
    from zflipon.jobs.signals import stop_on_signals
    from zflipon.reproduction.reproduce import reproduce as reproduce_table
    from zflipon.reproduction.runs import RunInputs, parse_weights

    given = parse_weights(weights)
    inputs = RunInputs(output, variant, genome, labels, blacklist, gue, given, settings, restart)
    with stop_on_signals(), explain_stop(output):
        for number, name in enumerate(names):
            print_line(("\n" if number else "") + reproduce_table(name, inputs).to_text())
