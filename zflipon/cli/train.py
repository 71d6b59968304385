"""``zflipon train``: a recipe → a checkpoint."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from zflipon.cli.options import limit_threads, log_to_stderr, print_line, quiet_option, threads_option
from zflipon.errors import Stopped
from zflipon.jobs.signals import stop_on_signals
from zflipon.training.output_folder import describe_progress
from zflipon.training.recipe import load_recipe

EPILOG = """\b
Examples:
  zflipon train train/compact.toml -o runs/compact \\
      --set data.genome=hg19.fa.gz --set data.labels=kouzine.bed
  accelerate launch --num_processes 8 -m zflipon train train/dnabert2.toml \\
      --set data.genome=hg19.fa.gz --set data.labels=kouzine.bed
  zflipon train train/table-5.1-dnabert2.toml --set data.genome=hg19.fa.gz --set data.labels=kouzine.bed
"""


@click.command(epilog=EPILOG)
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Folder of the checkpoint.  [default: runs/NAME, with the recipe's name]",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set a key of the recipe: section.key=value; stage.NAME.key=value for one stage, stage.key=value for all.",
)
@click.option(
    "--restart",
    is_flag=True,
    help="Delete an earlier run in the output folder and start over. By default an interrupted run is resumed.",
)
@threads_option
@quiet_option
def train(
    recipe: Path, output: Path | None, settings: tuple[str, ...], restart: bool, threads, quiet: bool
) -> None:
    """Train a model with RECIPE, a TOML file. train/README.md lists the recipes that come with zflipon.

    If a run is interrupted, the same command resumes it. A recipe with a [sweep] or with folds makes several runs and
    prints a table of their figures on stdout.
    """
    limit_threads(threads)
    log_to_stderr(quiet or int(os.environ.get("RANK", 0)) > 0)  # only the main process logs
    folder = (
        output or Path("runs") / load_recipe(recipe, settings).name
    )  # mistakes are found before torch is loaded
    with stop_on_signals(), explain_stop(folder):
        from zflipon.training.sweeps import RESULTS_TABLE, train_all

        folder, table = train_all(recipe, settings, folder, restart)
    if table:
        print_line(table)
        print_line(
            f"{folder}: all runs are finished; the table is in {folder / RESULTS_TABLE}", to_stderr=True
        )
    else:
        print_line(
            f"{folder}: the checkpoint is finished; zflipon models show {folder} describes it", to_stderr=True
        )


@contextmanager
def explain_stop(folder: Path) -> Iterator[None]:
    """Add to a `Stopped` which steps are saved and how to resume."""
    try:
        yield
    except Stopped as stopped:
        raise Stopped(stopped.signal_number, describe_progress(folder)) from None
