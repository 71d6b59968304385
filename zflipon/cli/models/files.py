"""``zflipon models pull``, ``import``, ``convert`` and ``merge``: checkpoints brought here and made whole."""

from __future__ import annotations

from pathlib import Path

import click

from zflipon.cli.models import models
from zflipon.cli.options import complete_models, default, force_option
from zflipon.config import StageConfig
from zflipon.errors import ModelError, OutputError

PULL = """\b
Examples:
  zflipon models pull zhihan1996/DNABERT-2-117M
  zflipon models pull AIRI-Institute/gena-lm-bert-base-t2t --revision main
"""

IMPORT = """\b
Examples:
  zflipon models import gena_best.pt --base AIRI-Institute/gena-lm-bert-base-t2t --window 70 -o runs/gena
  zflipon models import dnabert2_zdna --tokenizer tokenizer_5.json --window 128 -o runs/dnabert2
  zflipon models import z-dnabert --window 512 --margin 64 -o runs/z-dnabert
"""

CONVERT = """\b
Examples:
  zflipon models convert zhihan1996/DNABERT-2-117M -o dnabert2
  zflipon models convert runs/old/pytorch_model.bin -o runs/new
"""

MERGE = """\b
Examples:
  zflipon models merge runs/mine-lora -o runs/mine-whole
"""

output_option = click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Folder of the whole checkpoint.",
)


@models.command(epilog=PULL)
@click.argument("repository", metavar="OWNER/NAME")
@click.option("--revision", metavar="NAME", help="Branch, tag or commit.  [default: the newest]")
def pull(repository: str, revision: str | None) -> None:
    """Fetch the checkpoint OWNER/NAME from the Hugging Face hub into its cache, where --model finds it by that name.

    Weights, config and tokenizer are fetched, and no code. Prints the folder and the SHA-256 of each file.
    """
    from zflipon.models.files import fetch, is_hub_id, sha256_of

    if not is_hub_id(repository):
        raise ModelError(f"{repository}: expected a hub id, OWNER/NAME")
    folder = fetch(repository, revision)
    click.echo(str(folder))
    for path in sorted(folder.iterdir()):
        if path.is_file():
            click.echo(f"{sha256_of(path)}  {path.name}")


@models.command("import", epilog=IMPORT)
@click.argument("source", type=click.Path(path_type=Path))
@output_option
@click.option(
    "--base",
    metavar="NAME",
    help="Checkpoint that SOURCE was fine-tuned from, for its config and tokenizer: a folder or hub id.",
)
@click.option(
    "--tokenizer",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="tokenizer.json or vocab.txt in the place of the one that lies there.",
)
@click.option(
    "--window", type=click.IntRange(1), help="Bases that the model reads at once.  [default: the family's]"
)
@click.option(
    "--margin", type=click.IntRange(0), help="Bases of context at either side.  [default: the family's]"
)
@click.option(
    "--max-token-length", type=click.IntRange(1), help="Limit tokens to so many bases.  [default: no limit]"
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="Probability from which a base is called.  [default: 0.5]",
)
@click.option(
    "--label-threshold",
    type=click.FloatRange(0, 1),
    default=default(StageConfig, "label_threshold"),
    show_default=True,
    help="Labelled share of a token's bases that made it a positive in training.",
)
@force_option
def import_(
    source, output, base, tokenizer, window, margin, max_token_length, threshold, label_threshold, force
) -> None:
    """Make a whole checkpoint of SOURCE: a state dict (.pt, .bin), or a folder in the official layout.

    The paper's own files come so: GENA-LM as a state dict, DNABERT-2 as a folder with another tokenizer, Z-DNABERT as a
    folder of BERT with k-mers. Nothing in them is executed.
    """
    _refuse_full(output, force)
    from zflipon.models.imports import read_foreign

    if window is not None and margin is None:
        margin = min(64, window // 8)
    found = read_foreign(
        source, base, tokenizer, window=window, margin=margin, max_token_length=max_token_length,
        threshold=threshold, label_threshold=label_threshold,
    )  # fmt: skip
    _save(found, output)


@models.command(epilog=CONVERT)
@click.argument("name", shell_complete=complete_models)
@output_option
@force_option
def convert(name: str, output: Path, force: bool) -> None:
    """Write the checkpoint NAME, of whatever layout, as safetensors with tokenizer and story; no number changes."""
    _refuse_full(output, force)
    from zflipon.models import load
    from zflipon.models.story import OBJECTIVES

    _save(load(name, OBJECTIVES), output)


@models.command(epilog=MERGE)
@click.argument("name", shell_complete=complete_models)
@output_option
@force_option
def merge(name: str, output: Path, force: bool) -> None:
    """Fold the low-rank adapters of the checkpoint NAME into the weights that they belong to."""
    _refuse_full(output, force)
    from zflipon.models import adapters, load, save
    from zflipon.models.story import OBJECTIVES

    save(adapters.merge(load(name, OBJECTIVES)), output)
    _ready(output)


def _refuse_full(output: Path, force: bool) -> None:
    """Refuse a folder that holds something, before any work is done for it."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())) and not force:
        raise OutputError(f"{output}: exists and is not empty; give --force to replace what it holds")


def _save(checkpoint, output: Path) -> None:
    """Write a checkpoint, and print the checksums of the weights before and after."""
    from zflipon.models.imports import save_checked

    before, story = checkpoint.sha256, checkpoint.story
    after = save_checked(checkpoint, output)
    click.echo(f"{before}  {', '.join(path.name for path in checkpoint.files.weights)}, as it was")
    click.echo(f"{after}  model.safetensors")
    click.echo(
        f"{story.family}, objective {story.objective}, windows of {story.window} bp with a margin of {story.margin}"
    )
    _ready(output)


def _ready(output: Path) -> None:
    click.echo(f"{output}: the whole checkpoint is ready; zflipon models show {output}", err=True)
