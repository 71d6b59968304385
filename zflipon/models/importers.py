"""Checkpoints of elsewhere → whole folders of ours: safetensors, tokenizer and a story.

The paper's files come in three kinds: a state dict alone (GENA-LM, ``.pt``), whose config and tokenizer are those of
the model that it was fine-tuned from; a folder in the official layout whose tokenizer was limited afterwards
(DNABERT-2); and a folder of BERT with a vocabulary of k-mers (Z-DNABERT). Nothing in them is executed.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from zflipon.config import WINDOW_TO_MARGIN_RATIO
from zflipon.errors import ModelError
from zflipon.models.checkpoint import Checkpoint, load, load_files, read_tokenizer, save
from zflipon.models.hub import WEIGHTS_SHA256, Files, find_weights, locate
from zflipon.models.metadata import OBJECTIVES
from zflipon.models.registry import recognize_family


def read_foreign(
    source: str | Path,
    base: str | Path | None = None,
    tokenizer: Path | None = None,
    objective: str | None = None,
    **metadata,
) -> Checkpoint:
    """Read a checkpoint of elsewhere.

    Parameters
    ----------
    source : str or Path
        A file of weights, or a folder with weights and ``config.json``.
    base : str or Path, optional
        The checkpoint that it was fine-tuned from (folder or hub id): its config and tokenizer are taken, and nothing
        else that it tells.
    tokenizer : Path, optional
        ``tokenizer.json`` or ``vocab.txt`` in the place of the one that lies there.
    objective : str, optional
        What the head decides; None: as config and tensors tell. A classifier of tokens and one of sequences may look
        alike, and are then taken for one of tokens.
    **story
        Fields of `zflipon.models.Story`, such as ``window``, in the place of what the checkpoint or else its family
        tells; None leaves it. A window without a margin gets the told one, or less where the window is narrow.

    Returns
    -------
    Checkpoint
        Its story tells where it came from.

    Raises
    ------
    ModelError
        If files are missing, do not fit each other, or have no trained head.
    """
    files = _files(source, base)
    if objective:
        files = replace(files, config={**files.config, "objective": objective})
    plain = files.metadata(objective)
    told = {name: value for name, value in metadata.items() if value is not None}
    if "window" in told and "margin" not in told:
        told["margin"] = min(plain.margin, told["window"] // WINDOW_TO_MARGIN_RATIO)
    own = None
    if tokenizer is not None:
        own = read_tokenizer(files, replace(plain, max_token_length=told.get("max_token_length")), tokenizer)
        told["max_token_length"] = own.max_token_length
    found = load_files(files, OBJECTIVES, own, **told)
    return _told_origin(found, "imported", base=str(base) if base else None)


def read_any(name: str | Path) -> Checkpoint:
    """Read a whole checkpoint of any layout that is to be written in ours.

    Parameters
    ----------
    name : str or Path
        As in `zflipon.models.load`.

    Returns
    -------
    Checkpoint
        Its story tells where it came from.

    Raises
    ------
    ModelError
        As `zflipon.models.load`, and for low-rank adapters, which are to be merged instead.
    """
    return _told_origin(load_files(locate(name, adapters=False), OBJECTIVES), "converted")


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
    shape = {key: value for key, value in found.config.items() if key not in ("objective", WEIGHTS_SHA256)}
    config = {**shape, "zflipon": {"family": recognize_family(found.config, found.folder)}}
    return Files(found.folder, config, find_weights(path), str(source))


def _told_origin(checkpoint: Checkpoint, how: str, **more: object) -> Checkpoint:
    """Write into the story which file the weights come from."""
    origin = {"from": checkpoint.files.name, "sha256": checkpoint.sha256}
    origin |= {name: value for name, value in more.items() if value is not None}
    metadata = replace(checkpoint.metadata, training={**checkpoint.metadata.training, how: origin})
    return replace(checkpoint, metadata=metadata)
