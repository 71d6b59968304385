"""``zflipon train``: a recipe → a checkpoint."""

from __future__ import annotations

import os
from pathlib import Path

import click

from zflipon.cli.options import limit_threads, log_to_stderr, quiet_option, threads_option
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
    "-o", "--output", type=click.Path(path_type=Path), help="Folder of the checkpoint.  [default: runs/NAME]"
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set a key of the recipe: section.key=value; stage.NAME.key=value for one stage, stage.key=value for all.",
)
@click.option(
    "--restart", is_flag=True, help="Start over, whatever the folder holds; otherwise a stopped run goes on."
)
@threads_option
@quiet_option
def train(
    recipe: Path, output: Path | None, settings: tuple[str, ...], restart: bool, threads, quiet: bool
) -> None:
    """Train a model by RECIPE, a TOML file; train/README.md lists those that come with zflipon.

    The same command goes on where a run was stopped. A recipe with a [sweep] or with folds makes several runs and
    prints a table of them on stdout.
    """
    limit_threads(threads)
    log_to_stderr(quiet or int(os.environ.get("RANK", 0)) > 0)  # of several processes one speaks
    plan = load_recipe(recipe, settings)  # before anything heavy is loaded
    from zflipon.training.sweeps import run

    folder, table = run(recipe, settings, output or Path("runs") / plan.name, restart)
    if table:
        click.echo(table)
        click.echo(f"{folder}: the runs are done; {folder / 'results.md'} has this table", err=True)
    else:
        click.echo(f"{folder}: the checkpoint is ready; zflipon models show {folder}", err=True)
