"""``zflipon models pull``, ``import``, ``convert`` and ``merge``: checkpoints brought here and made whole."""

from __future__ import annotations

from pathlib import Path

import click

from zflipon.cli.models import models
from zflipon.cli.options import complete_models, default_of
from zflipon.config import WINDOW_TO_MARGIN_RATIO
from zflipon.errors import ModelError, OutputError
from zflipon.models.hub import CONFIG, WEIGHTS, Files
from zflipon.models.metadata import OBJECTIVES, ModelMetadata

PULL = """\b
Examples:
  zflipon models pull zhihan1996/DNABERT-2-117M
  zflipon models pull AIRI-Institute/gena-lm-bert-base-t2t --revision 1a2b3c4
"""

IMPORT = """\b
Examples:
  zflipon models import gena_best.pt --base AIRI-Institute/gena-lm-bert-base-t2t --window 70 -o runs/gena
  zflipon models import dnabert2_zdna --tokenizer tokenizer_5.json -o runs/dnabert2
  zflipon models import z-dnabert --label-threshold 0.5 -o runs/z-dnabert
  zflipon models import promoters.pt --base AIRI-Institute/gena-lm-bert-base-t2t --objective sequence -o promoters
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
    help="Folder to write, of config, safetensors and tokenizer.",
)
force_option = click.option(
    "--force", is_flag=True, help="Replace a checkpoint that exists, with all that is in its folder."
)


@models.command(epilog=PULL, short_help="Fetch a checkpoint from the Hugging Face hub.")
@click.argument("repository", metavar="OWNER/NAME")
@click.option(
    "--revision",
    metavar="NAME",
    help="Branch, tag or commit; --model then takes the folder.  [default: main]",
)
def pull(repository: str, revision: str | None) -> None:
    """Fetch the checkpoint OWNER/NAME from the Hugging Face hub into its cache, where --model finds it by that name.

    Weights, config and tokenizer are fetched, and no code. Prints the folder and the SHA-256 of each file. What is in
    the cache is not fetched again; HF_HOME says where that lies.
    """
    from zflipon.models.hub import fetch, is_hub_id, locate, sha256_of

    if not is_hub_id(repository):
        raise ModelError(f"{repository}: expected a hub id, OWNER/NAME")
    folder = fetch(repository, revision)
    metadata = locate(folder).metadata(None)  # tells what is missing, or that no family knows it
    click.echo(str(folder))
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        click.echo(f"{sha256_of(path)}  {path.relative_to(folder)}")
    click.echo(
        f"{repository}: {metadata.family}; use it by --model {folder if revision else repository}", err=True
    )


@models.command("import", epilog=IMPORT, short_help="Make a whole checkpoint of files from elsewhere.")
@click.argument("source", type=click.Path(path_type=Path))
@output_option
@click.option(
    "--base",
    metavar="NAME",
    shell_complete=complete_models,
    help="Checkpoint that SOURCE was fine-tuned from, for its config and tokenizer: a folder or hub id.",
)
@click.option(
    "--tokenizer",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="tokenizer.json or vocab.txt in the place of the one that lies there.",
)
@click.option(
    "--objective",
    type=click.Choice(OBJECTIVES),
    help="What the head decides.  [default: as config and tensors tell; token where it could be sequence]",
)
@click.option(
    "--window",
    type=click.IntRange(1),
    help="Bases that the model reads at once.  [default: as told there, or the family's]",
)
@click.option(
    "--margin",
    type=click.IntRange(0),
    help="Bases of context at either side, where nothing is decided.  [default: as told there, or the family's; at "
    f"most 1/{WINDOW_TO_MARGIN_RATIO} of --window]",
)
@click.option(
    "--max-token-length",
    type=click.IntRange(1),
    help="Limit tokens to so many bases; the paper's models have 5.  [default: no limit]",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True),
    help=f"Probability from which a base is called.  [default: as told there, or {default_of(ModelMetadata, 'threshold')}]",
)
@click.option(
    "--label-threshold",
    type=click.FloatRange(0, 1),
    help="Labelled share of a token's bases that made it a positive in training.  [default: as told there, or the "
    "family's]",
)
@force_option
def import_(
    source,
    output,
    base,
    tokenizer,
    objective,
    window,
    margin,
    max_token_length,
    threshold,
    label_threshold,
    force,
) -> None:
    """Make a whole checkpoint of SOURCE: a state dict (.pt, .bin), or a folder in the official layout.

    The paper's own files come so: GENA-LM as a state dict, DNABERT-2 as a folder with another tokenizer, Z-DNABERT as a
    folder of BERT with k-mers. Nothing in them is executed. Prints the SHA-256 of the weights before and after.
    """
    _refuse(output, force)
    from zflipon.models.importers import read_foreign

    found = read_foreign(
        source,
        base,
        tokenizer,
        objective,
        window=window,
        margin=margin,
        max_token_length=max_token_length,
        threshold=threshold,
        label_threshold=label_threshold,
    )
    _save(found, output)


@models.command(epilog=CONVERT, short_help="Write a checkpoint of any layout as safetensors with a story.")
@click.argument("name", shell_complete=complete_models)
@output_option
@force_option
def convert(name: str, output: Path, force: bool) -> None:
    """Write the checkpoint NAME, of whatever layout, as safetensors with tokenizer and story; no number changes.

    Prints the SHA-256 of the weights before and after.
    """
    _refuse(output, force)
    from zflipon.models.importers import read_any

    _save(read_any(name), output)


@models.command(epilog=MERGE, short_help="Fold low-rank adapters into the weights that they belong to.")
@click.argument("name", shell_complete=complete_models)
@output_option
@force_option
def merge(name: str, output: Path, force: bool) -> None:
    """Fold the low-rank adapters of the checkpoint NAME into the weights that they belong to."""
    _refuse(output, force)
    from zflipon.models import adapters, load

    found = load(name, OBJECTIVES)
    _save(adapters.merge(found), output, found.files)


def _refuse(output: Path, force: bool) -> None:
    """Refuse a folder that could not be written at the end, before any work is done for it."""
    from zflipon.tracks.atomic import check_output_folder, raise_output_errors

    with raise_output_errors(output):
        output.absolute().parent.mkdir(parents=True, exist_ok=True)
    check_output_folder(output, force, [CONFIG])


def _save(checkpoint, output: Path, source: Files | None = None) -> None:
    """Write a checkpoint, and print the checksums of the weights before and after."""
    from zflipon.models.importers import save_checked
    from zflipon.tracks.atomic import atomic_folder

    source = source or checkpoint.files
    read = [source.folder, *(path.parent for each in (source, source.base) if each for path in each.weights)]
    if any(place.resolve().is_relative_to(output.resolve()) for place in read):
        raise OutputError(f"{output}: holds what is read; name another folder to write")
    before, metadata = source.sha256(), checkpoint.metadata
    with atomic_folder(output) as part:
        after = save_checked(checkpoint, part)
    weights = (*(source.base.weights if source.base else ()), *source.weights)
    click.echo(f"{before}  {', '.join(path.name for path in weights)}, as read")
    click.echo(f"{after}  {WEIGHTS[0]}, as written")
    click.echo(
        f"{metadata.family}, objective {metadata.objective}, windows of {metadata.window} bp with a margin of {metadata.margin}"
    )
    click.echo(f"{output}: the whole checkpoint is ready; zflipon models show {output}", err=True)
