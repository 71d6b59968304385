"""Checkpoints of elsewhere → whole folders of ours: safetensors, tokenizer and a story.

The paper's files come in three kinds: a state dict alone (GENA-LM, ``.pt``), whose config and tokenizer are those of
the model that it was fine-tuned from; a folder in the official layout whose tokenizer was limited afterwards
(DNABERT-2); and a folder of BERT with a vocabulary of k-mers (Z-DNABERT). Nothing in them is executed.
"""

from __future__ import annotations

from pathlib import Path

import torch

from zflipon.errors import ModelError
from zflipon.models.checkpoints import Checkpoint, load, load_files, read_tokenizer, save
from zflipon.models.files import Files, find_weights, locate
from zflipon.models.story import OBJECTIVES


def read_foreign(
    source: str | Path, base: str | Path | None = None, tokenizer: Path | None = None, **story
) -> Checkpoint:
    """Read a checkpoint of elsewhere.

    Parameters
    ----------
    source : str or Path
        A file of weights, or a folder with weights and ``config.json``.
    base : str or Path, optional
        The checkpoint that it was fine-tuned from (folder or hub id): its config and tokenizer are taken.
    tokenizer : Path, optional
        ``tokenizer.json`` or ``vocab.txt`` in the place of the one that lies there.
    **story
        Fields of `zflipon.models.Story`, such as ``window``, in the place of the family's defaults.

    Raises
    ------
    ModelError
        If files are missing, do not fit each other, or have no trained head.
    """
    files = _files(source, base)
    told = {name: value for name, value in story.items() if value is not None}
    if tokenizer is None:
        return load_files(files, OBJECTIVES, **told)
    limit = told.get("max_token_length")
    plain = files.story(None)
    own = read_tokenizer(files, plain, tokenizer)
    told["max_token_length"] = min(limit or own.max_token_length, own.max_token_length)
    if limit and limit < own.max_token_length:
        own = own.limited(limit)
    return load_files(files, OBJECTIVES, own, **told)


def save_checked(checkpoint: Checkpoint, folder: Path) -> str:
    """Save a checkpoint, read it back, and see that no number has changed; return the SHA-256 of its weights.

    Raises
    ------
    ModelError
        If a weight that is read back is another.
    OutputError
        If the folder cannot be written.
    """
    save(checkpoint, folder)
    again = load(folder, OBJECTIVES)
    before, after = checkpoint.module.state_dict(), again.module.state_dict()
    changed = [name for name in before if not torch.equal(before[name].cpu(), after[name].cpu())]
    if changed:
        raise ModelError(
            f"{folder}: {len(changed)} tensors came back changed ({changed[0]}); is the disk sound?"
        )
    return again.sha256


def _files(source: str | Path, base: str | Path | None) -> Files:
    """Find weights, and the config and tokenizer that they go with."""
    path = Path(source)
    folder = path if path.is_dir() else path.parent
    if base is None:
        if path.exists() and not (folder / "config.json").is_file():
            raise ModelError(
                f"{source}: no config.json beside the weights; say with --base which model they come from"
            )
        return locate(source)
    if not path.exists():
        raise ModelError(f"{source}: no such file or folder")
    found = locate(base, adapters=False)
    return Files(found.folder, found.config, find_weights(path), str(source))
