"""Converting checkpoints of other code, and adapters, into complete folders: safetensors, tokenizer and metadata.

The files of the paper come in three kinds: a state dict alone (GENA-LM, ``.pt``), which needs the config and tokenizer
of the model it was fine-tuned from; a folder in the layout of transformers whose tokenizer was limited afterwards
(DNABERT-2); and a BERT folder with a vocabulary of k-mers (Z-DNABERT). Nothing in them is executed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zflipon.config import WINDOW_TO_MARGIN_RATIO
from zflipon.errors import ModelError
from zflipon.models import adapters
from zflipon.models.checkpoint import Checkpoint, load_files, save
from zflipon.models.files import CONFIG, CheckpointFiles, locate, without_record
from zflipon.models.metadata import DECODING_METADATA, OBJECTIVES
from zflipon.models.registry import get_family, recognize_family
from zflipon.models.tokenizer_files import read_tokenizer
from zflipon.models.weight_files import find_weights, read_tensors
from zflipon.tokenization.tokenizers import BpeTokenizer, DnaTokenizer

EMBEDDINGS = re.compile(r"(^|\.)word_embeddings\.weight$|(^|\.)tok_embeddings\.weight$")
"""Name of the token embeddings in the published layouts."""

UNCHANGED = 1e-4
"""Largest relative change of an embedding without gradients, apart from the common factor of weight decay."""


def import_checkpoint(
    source: str | Path,
    base: str | Path | None = None,
    tokenizer: Path | None = None,
    objective: str | None = None,
    **metadata: Any,
) -> Checkpoint:
    """Load a checkpoint that other code has written.

    Parameters
    ----------
    source : str or Path
        A file of weights, or a folder with weights and ``config.json``.
    base : str or Path, optional
        Checkpoint that `source` was fine-tuned from (folder or hub id): its config and tokenizer are used, its
        metadata are not.
    tokenizer : Path, optional
        ``tokenizer.json`` or ``vocab.txt`` to use instead of the one in the folder.
    objective : str, optional
        Objective of the head; None infers it from config and tensors. Classifiers of tokens and of sequences may look
        alike, and count as classifiers of tokens.
    **metadata
        Fields of `zflipon.models.ModelMetadata`, such as ``window``, that replace those of the checkpoint or family;
        None keeps them. A `max_token_length` of 0 keeps the tokenizer unlimited. A `window` without a `margin` gets
        the usual one, or a smaller one if the window is narrow.

    Returns
    -------
    Checkpoint
        Its metadata record where it came from.

    Raises
    ------
    ModelError
        If files are missing, do not fit each other or have no trained head, or if the length of tokens in training is
        unknown.
    """
    files = _find_files(source, base)
    if objective:
        files = replace(files, config={**files.config, "objective": objective})
    defaults = files.metadata(objective)
    fields = {name: value for name, value in metadata.items() if value is not None}
    if "window" in fields and "margin" not in fields:
        fields["margin"] = min(defaults.margin, fields["window"] // WINDOW_TO_MARGIN_RATIO)
    unlimited = fields.get("max_token_length") == 0
    if unlimited:
        fields["max_token_length"] = None
    own = None
    if tokenizer is not None:
        limited = replace(defaults, max_token_length=fields.get("max_token_length"))
        own = read_tokenizer(files, limited, tokenizer)
        fields["max_token_length"] = own.max_token_length
    elif base is not None and "max_token_length" not in fields:
        fields |= _token_length_of_training(files, base)
    if base is not None:  # the base's calibration and threshold are those of other weights
        fields = {name: getattr(defaults, name) for name in DECODING_METADATA} | fields
    checkpoint = load_files(files, OBJECTIVES, own, **fields)
    return _with_origin(checkpoint, "imported", base=str(base) if base else None)


def read_for_conversion(name: str | Path) -> Checkpoint:
    """Load a checkpoint of any layout that is to be written as safetensors.

    Parameters
    ----------
    name : str or Path
        As in `zflipon.models.load`.

    Returns
    -------
    Checkpoint
        Its metadata record where it came from.

    Raises
    ------
    ModelError
        As `zflipon.models.load`, and for low-rank adapters, which must be merged instead.
    """
    return _with_origin(load_files(locate(name, allow_adapters=False), OBJECTIVES), "converted")


def merge_adapters(checkpoint: Checkpoint) -> Checkpoint:
    """Add low-rank adapters to the weights of their layers.

    Parameters
    ----------
    checkpoint : Checkpoint
        Its network is changed.

    Returns
    -------
    Checkpoint
        A checkpoint without adapters that gives the same probabilities; its metadata record the merge.

    Raises
    ------
    ModelError
        If there are no adapters.
    """
    if not adapters.is_adapted(checkpoint.module):
        raise ModelError(f"{checkpoint.path}: has no adapters to merge; its weights are whole already")
    merged = adapters.merge(checkpoint.module)
    base = checkpoint.files.base.name if checkpoint.files and checkpoint.files.base else None
    training = {**checkpoint.metadata.training, "merged": {**merged, "base": base}}
    return replace(checkpoint, metadata=replace(checkpoint.metadata, training=training), files=None)


def save_and_verify(checkpoint: Checkpoint, folder: Path) -> str:
    """Save a checkpoint, load it again and compare all tensors; return the SHA-256 of the weights.

    Raises
    ------
    ModelError
        If a tensor differs.
    OutputError
        If the folder cannot be written.
    """
    save(checkpoint, folder)
    files = locate(folder)
    again = load_files(files, OBJECTIVES)
    before, after = checkpoint.module.state_dict(), again.module.state_dict()
    changed = [name for name in before if not torch.equal(before[name].cpu(), after[name].cpu())]
    if changed:
        raise ModelError(
            f"{folder}: {len(changed)} tensors differ after writing, such as {changed[0]}; check the disk"
        )
    return files.sha256()


def longest_trained_token(
    tensors: Mapping[str, Tensor], base: Mapping[str, Tensor], tokenizer: DnaTokenizer
) -> int | None:
    """Return the bases of the longest token whose embedding training changed.

    Tokens that never occur get no gradient: their embeddings are those of the base, up to the factor of weight decay.

    Parameters
    ----------
    tensors, base : mapping of str to Tensor
        State dicts after training and before.
    tokenizer : DnaTokenizer
        Tokenizer of the base.

    Returns
    -------
    int or None
        None if embeddings are missing, of different shapes or all unchanged.
    """
    embeddings = [
        next((each[name] for name in each if EMBEDDINGS.search(name)), None) for each in (tensors, base)
    ]
    trained, original = embeddings
    if trained is None or original is None or trained.shape != original.shape:
        return None
    factors = (trained * original).sum(1) / original.square().sum(1).clamp_min(1e-30)
    change = (trained - factors[:, None] * original).norm(dim=1) / trained.norm(dim=1).clamp_min(1e-30)
    is_changed = (change > UNCHANGED).tolist()
    names = tokenizer.names()
    lengths = [
        len(name)
        for name, changed in zip(names, is_changed, strict=False)
        if changed and name and set(name) <= set("ACGT")
    ]
    return max(lengths, default=None)


def _find_files(source: str | Path, base: str | Path | None) -> CheckpointFiles:
    """Find weights, and the config and tokenizer that belong to them."""
    path = Path(source)
    folder = path if path.is_dir() else path.parent
    if base is None:
        if path.is_file() and not (folder / CONFIG).is_file():
            raise ModelError(
                f"{source}: no config.json next to the weights; name the model they were fine-tuned from with --base"
            )
        return locate(source)
    if not path.exists():
        raise ModelError(f"{source}: no such file or folder")
    found = without_record(locate(base, allow_adapters=False))
    shape = {key: value for key, value in found.config.items() if key != "objective"}
    config = {**shape, "zflipon": {"family": recognize_family(found.config, found.folder)}}
    return CheckpointFiles(found.folder, config, find_weights(path), str(source))


def _token_length_of_training(files: CheckpointFiles, base: str | Path) -> dict[str, int]:
    """Return the limit of token lengths that a fine-tuned state dict was trained with, as a field of the metadata.

    Raises
    ------
    ModelError
        If the weights do not show it.
    """
    tensors = read_tensors(files.weights)
    objective = files.objective(list(tensors))
    defaults = files.metadata(objective)
    if get_family(defaults.family).tokenizer is not BpeTokenizer or objective not in ("token", "base"):
        return {}
    tokenizer = read_tokenizer(files, defaults)
    longest = longest_trained_token(
        tensors, read_tensors(locate(base, allow_adapters=False).whole_weights), tokenizer
    )
    if longest is None:
        raise ModelError(
            f"{files.name}: the tokenizer of {base} has tokens of up to {tokenizer.max_token_length} bases, and the "
            "weights do not show whether training limited them; give the limit with --max-token-length (the models of "
            "the paper have 5; 0 is no limit), or the tokenizer with --tokenizer"
        )
    return {"max_token_length": longest} if longest < tokenizer.max_token_length else {}


def _with_origin(checkpoint: Checkpoint, verb: str, **details: object) -> Checkpoint:
    """Record in the metadata which file the weights come from."""
    if checkpoint.files is None:
        raise ValueError("the checkpoint was not loaded from files, so its weights have no origin to record")
    origin = {"from": checkpoint.files.name, "sha256": checkpoint.sha256}
    origin |= {name: value for name, value in details.items() if value is not None}
    metadata = replace(checkpoint.metadata, training={**checkpoint.metadata.training, verb: origin})
    return replace(checkpoint, metadata=metadata)
