"""``zflipon models pull``, ``import``, ``convert`` and ``merge``: commands that write checkpoints.

Each parses its options and calls `zflipon.models.importers`; the command group is in the package.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from zflipon.checksums import sha256_of
from zflipon.cli.options import complete_models, default_of, print_line
from zflipon.config import WINDOW_TO_MARGIN_RATIO
from zflipon.errors import ModelError, OutputError
from zflipon.models.files import CONFIG, CheckpointFiles
from zflipon.models.metadata import OBJECTIVES, ModelMetadata
from zflipon.models.weight_files import WEIGHT_FILES

if TYPE_CHECKING:
    from zflipon.models import Checkpoint

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
    help="Folder to write: config, weights as safetensors, and tokenizer.",
)
force_option = click.option("--force", is_flag=True, help="Replace an existing checkpoint and its folder.")


@click.command(epilog=PULL, short_help="Download a checkpoint from the Hugging Face hub.")
@click.argument("repository", metavar="OWNER/NAME")
@click.option(
    "--revision",
    metavar="NAME",
    help="Branch, tag or commit; use the printed folder as --model then.  [default: main]",
)
def pull(repository: str, revision: str | None) -> None:
    """Download the checkpoint OWNER/NAME from the Hugging Face hub into its cache, where --model finds it.

    Weights, config and tokenizer are downloaded, never code. Prints the folder and the SHA-256 of each file. Files in
    the cache are not downloaded again; HF_HOME sets its folder.
    """
    from zflipon.models.files import locate
    from zflipon.models.hub import download, is_hub_id

    if not is_hub_id(repository):
        raise ModelError(f"{repository}: expected a hub id, OWNER/NAME")
    folder = download(repository, revision)
    metadata = locate(folder).metadata()  # raises if files are missing or the family is unknown
    print_line(str(folder))
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        print_line(f"{sha256_of(path)}  {path.relative_to(folder)}")
    print_line(
        f"{repository}: {metadata.family}; use it with --model {folder if revision else repository}",
        to_stderr=True,
    )


@click.command("import", epilog=IMPORT, short_help="Make a checkpoint of files that other code has written.")
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
    help="tokenizer.json or vocab.txt to use instead of the one in the folder.",
)
@click.option(
    "--objective",
    type=click.Choice(OBJECTIVES),
    help="Objective of the head.  [default: from config and tensors; token if it could be sequence]",
)
@click.option(
    "--window",
    type=click.IntRange(1),
    help="Bases per window.  [default: from the checkpoint, or its family's]",
)
@click.option(
    "--margin",
    type=click.IntRange(0),
    help="Bases of context on each side that are read but not called.  [default: from the checkpoint, or its "
    f"family's; at most 1/{WINDOW_TO_MARGIN_RATIO} of --window]",
)
@click.option(
    "--max-token-length",
    type=click.IntRange(0),
    help="Longest token in bases; the paper's models have 5, and 0 is no limit.  [default: from the checkpoint; with "
    "--base, from the embeddings that training changed]",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True),
    help="Probability from which a base is called.  [default: from the checkpoint, or "
    f"{default_of(ModelMetadata, 'threshold')}]",
)
@click.option(
    "--label-threshold",
    type=click.FloatRange(0, 1),
    help="Labelled share of a token's bases that made it a positive in training.  [default: from the checkpoint, or "
    "its family's]",
)
@force_option
def import_(
    source: Path,
    output: Path,
    base: str | None,
    tokenizer: Path | None,
    objective: str | None,
    window: int | None,
    margin: int | None,
    max_token_length: int | None,
    threshold: float | None,
    label_threshold: float | None,
    force: bool,
) -> None:
    """Make a complete checkpoint of SOURCE: a state dict (.pt, .bin, .ckpt), or a folder in the layout of transformers.

    The files of the paper have these forms: GENA-LM a state dict, DNABERT-2 a folder with another tokenizer, Z-DNABERT
    a BERT folder with k-mers. Nothing in them is executed. Prints the SHA-256 of the weights before and after.
    """
    _check_output(output, force)
    from zflipon.models.importers import import_checkpoint

    checkpoint = import_checkpoint(
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
    _save(checkpoint, output)


@click.command(epilog=CONVERT, short_help="Write a checkpoint of any layout as safetensors with metadata.")
@click.argument("name", shell_complete=complete_models)
@output_option
@force_option
def convert(name: str, output: Path, force: bool) -> None:
    """Write the checkpoint NAME, of any supported layout, as safetensors with tokenizer and metadata.

    Values do not change; damaged weights are refused. Prints the SHA-256 of the weights before and after.
    """
    _check_output(output, force)
    from zflipon.models.importers import read_for_conversion

    _save(read_for_conversion(name), output)


@click.command(epilog=MERGE, short_help="Merge low-rank adapters into the weights of their base.")
@click.argument("name", shell_complete=complete_models)
@output_option
@force_option
def merge(name: str, output: Path, force: bool) -> None:
    """Merge the low-rank adapters of the checkpoint NAME into the weights of their base; probabilities stay equal."""
    _check_output(output, force)
    from zflipon.models import load
    from zflipon.models.importers import merge_adapters

    checkpoint = load(name, OBJECTIVES)
    _save(merge_adapters(checkpoint), output, checkpoint.files)


def _check_output(output: Path, force: bool) -> None:
    """Refuse an output that cannot be written, before any work is done."""
    from zflipon.tracks.atomic import check_output_folder, raise_output_errors

    with raise_output_errors(output):
        output.absolute().parent.mkdir(parents=True, exist_ok=True)
    check_output_folder(output, force, [CONFIG])


def _save(checkpoint: Checkpoint, output: Path, source: CheckpointFiles | None = None) -> None:
    """Write a checkpoint, and print the checksums of the weights before and after.

    Parameters
    ----------
    checkpoint : Checkpoint
    output : Path
    source : CheckpointFiles, optional
        Files that it was made of; None: those that it was loaded from.
    """
    from zflipon.models.importers import save_and_verify
    from zflipon.tracks.atomic import atomic_folder

    source = source or checkpoint.required_files
    inputs = [source.folder, *(path.parent for path in source.all_weights)]
    if any(folder.resolve().is_relative_to(output.resolve()) for folder in inputs):
        raise OutputError(f"{output}: holds an input; name another folder to write")
    before, metadata = source.sha256(), checkpoint.metadata
    with atomic_folder(output) as part:
        after = save_and_verify(checkpoint, part)
    print_line(f"{before}  {', '.join(path.name for path in source.all_weights)}, as read")
    print_line(f"{after}  {WEIGHT_FILES[0]}, as written")
    tokens = f", tokens of at most {metadata.max_token_length} bp" if metadata.max_token_length else ""
    print_line(
        f"{metadata.family}, objective {metadata.objective}, windows of {metadata.window} bp with a margin of "
        f"{metadata.margin} bp{tokens}"
    )
    print_line(f"{output}: the checkpoint is ready; zflipon models show {output}", to_stderr=True)
