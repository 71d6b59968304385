"""``zflipon train``: a recipe → a checkpoint."""

from __future__ import annotations

from pathlib import Path

import click

from zflipon.cli.options import limit_threads, log_to_stderr, quiet_option, threads_option
from zflipon.recipe import load_recipe

EPILOG = """\b
Example:
  zflipon train train/compact.toml -o runs/compact \\
      --set data.genome=hg19.fa.gz --set data.labels=kouzine.bed
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
    """Train a model by RECIPE, a TOML file; train/README.md lists those that come with zflipon."""
    limit_threads(threads)
    log_to_stderr(quiet)
    plan = load_recipe(recipe, settings)
    from zflipon.training.stages import train as run

    folder = output or Path("runs") / plan.name
    run(plan, folder, restart)
    click.echo(f"{folder}: the checkpoint is ready; zflipon models show {folder}", err=True)
