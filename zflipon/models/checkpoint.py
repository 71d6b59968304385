"""Loading, starting, creating and saving checkpoints: a network with its tokenizer and metadata.

Files are found in `zflipon.models.files`; tensors are matched with a network in `zflipon.models.state_dicts`.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor
from transformers import PretrainedConfig

from zflipon import __version__
from zflipon.checksums import sha256_of
from zflipon.errors import ModelError, OutputError, format_names, suggest
from zflipon.models import adapters
from zflipon.models.base import DnaModel
from zflipon.models.files import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    BASE_SHA256,
    CONFIG,
    WEIGHTS_SHA256,
    CheckpointFiles,
    default_metadata,
    locate,
    plain_name,
)
from zflipon.models.labels import find_z_output
from zflipon.models.metadata import ModelMetadata
from zflipon.models.registry import ModelFamily, get_family, recognize_family
from zflipon.models.state_dicts import fill
from zflipon.models.weight_files import find_weights, read_tensor_sizes, read_tensors
from zflipon.models.weights import build_empty, current_name
from zflipon.tokenization.tokenizers import BpeTokenizer, DnaTokenizer, KmerTokenizer

IGNORED_CONFIG_KEYS = (
    "model_type",
    "architectures",
    "auto_map",
    "transformers_version",
    "torch_dtype",
    "dtype",
    "zflipon",
    BASE_SHA256,
    WEIGHTS_SHA256,
)
"""Keys of a ``config.json`` that do not describe the network."""

EXTRA_SETTINGS = ("class_weights", "base_head", "features", "num_labels", "classifier_dropout")
"""Settings that every family accepts, beyond those of its config class."""

LARGEST_SETTINGS = {
    "num_hidden_layers": 1_000,
    "num_attention_heads": 1_000,
    "hidden_size": 100_000,
    "intermediate_size": 1_000_000,
    "vocab_size": 10_000_000,
    "max_position_embeddings": 10_000_000,
}
"""Largest plausible values in a ``config.json``; beyond them building the network would exhaust time and memory."""

UNSUPPORTED_BERT_KEYS = ("sparse_config_cls", "sparse_attention", "rotary_dim", "rotary_base", "use_rope")
"""Keys of GENA-LM's sparse and rotary models, which compute attention in another way."""


@dataclass
class Checkpoint:
    """A network with its tokenizer and metadata.

    Attributes
    ----------
    module : DnaModel
        In eval mode after loading.
    tokenizer : DnaTokenizer
    metadata : ModelMetadata
    files : CheckpointFiles or None
        Files that it was loaded from; None for a new one.
    """

    module: DnaModel
    tokenizer: DnaTokenizer
    metadata: ModelMetadata
    files: CheckpointFiles | None = None

    @property
    def path(self) -> Path | None:
        """The folder that it was loaded from."""
        return self.files.folder if self.files else None

    @cached_property
    def sha256(self) -> str | None:
        """SHA-256 of the weights on disk, as hex; None for a new checkpoint."""
        return self.files.sha256() if self.files else None


def load(name: str | Path, objectives: tuple[str, ...] = ("token", "base")) -> Checkpoint:
    """Load a trained checkpoint for prediction.

    Parameters
    ----------
    name : str or Path
        A bundled model, a folder in the layout of transformers or peft, a file of weights next to its
        ``config.json``, or a hub id ``owner/name``.
    objectives : tuple of str
        Accepted objectives of the head.

    Returns
    -------
    Checkpoint
        float32, in eval mode.

    Raises
    ------
    ModelError
        If the checkpoint is missing, incomplete, damaged or of an unknown family, its tensors do not fit its config,
        or it has no trained head with one of the objectives.

    Examples
    --------
    >>> load("zhunt").metadata.window
    4096
    """
    return load_files(locate(name), objectives)


def load_files(
    files: CheckpointFiles,
    objectives: tuple[str, ...],
    tokenizer: DnaTokenizer | None = None,
    **metadata: Any,
) -> Checkpoint:
    """Load the checkpoint in given files, as `load` does.

    Parameters
    ----------
    files : CheckpointFiles
    objectives : tuple of str
        Accepted objectives of the head.
    tokenizer : DnaTokenizer, optional
        Replaces the one in the folder.
    **metadata
        Fields that replace those of the checkpoint.
    """
    tensors = _read_verified(files)
    objective = files.objective(list(tensors))
    if objective not in objectives:
        raise ModelError(_no_head(files, objective, objectives, tensors))
    stored = replace(files.metadata(objective), objective=objective, **metadata)
    tokenizer = tokenizer or read_tokenizer(files, stored)
    module = _build(files, stored.family, objective, tensors, allow_new_head=False)
    _check_vocabulary(files, module, tokenizer)
    if objective == "token":
        _require_z_output(files, module.config)
    return Checkpoint(module.eval(), tokenizer, stored, files)


def load_module(path: str | Path, objective: str) -> DnaModel:
    """Load a network alone, with a head for the given objective; no tokenizer is needed.

    Parameters
    ----------
    path : str or Path
        As the `name` of `load`.
    objective : str
        ``'token'``, ``'base'``, ``'sequence'`` or ``'mlm'``. A head that the checkpoint lacks starts with random
        weights, with a warning.

    Returns
    -------
    DnaModel
        float32, in eval mode; call it as ``module(input_ids=…, attention_mask=…).logits``.

    Raises
    ------
    ModelError
        As `load`.
    """
    files = locate(path)
    family = recognize_family(files.config, files.folder)
    return _build(files, family, objective, _read_verified(files), allow_new_head=True).eval()


def start(
    name: str | Path, objective: str, max_token_length: int | None = None, **settings: Any
) -> Checkpoint:
    """Load a checkpoint for training; a head that it lacks starts with random weights, with a warning.

    Parameters
    ----------
    name : str or Path
        As in `load`.
    objective : str
        Objective of the training.
    max_token_length : int, optional
        Bases; limits the tokenizer (see `zflipon.tokenization.limit_token_length`).
    **settings
        Replace values of the config, such as ``class_weights``, ``base_head`` or ``hidden_dropout_prob``.

    Returns
    -------
    Checkpoint
        With the metadata of the loaded one, but the given `objective`, present versions and no quality.

    Raises
    ------
    ModelError
        As `load`, and for unknown settings.
    """
    files = locate(name)
    tensors = _read_verified(files)
    stored_objective = files.objective(list(tensors))
    metadata = files.metadata(stored_objective)
    if stored_objective != objective:
        defaults = default_metadata(metadata.family, objective)
        metadata = replace(metadata, special_tokens=defaults.get("special_tokens", True))
    if max_token_length is not None:
        metadata = replace(metadata, max_token_length=max_token_length)
    tokenizer = read_tokenizer(files, metadata)
    module = _build(files, metadata.family, objective, tensors, allow_new_head=True, **settings)
    _check_vocabulary(files, module, tokenizer)
    if objective == "token":
        _require_standard_labels(files, module.config)
    metadata = replace(metadata, objective=objective, quality={}, versions=_versions())
    return Checkpoint(module, tokenizer, metadata, files)


def create(family: str, objective: str, tokenizer: DnaTokenizer, **settings: Any) -> Checkpoint:
    """Create a checkpoint with random weights.

    Parameters
    ----------
    family : str
        One of `zflipon.models.registry.family_names`.
    objective : str
        One of `zflipon.models.metadata.OBJECTIVES`.
    tokenizer : DnaTokenizer
        Gives vocabulary size and padding token.
    **settings
        Values of the family's config, such as ``hidden_size``, and ``base_head`` or ``class_weights``.

    Raises
    ------
    ModelError
        If the family or a setting is unknown, or the shape impossible.
    """
    kind = get_family(family)
    values = {"vocab_size": tokenizer.vocab_size, "pad_token_id": tokenizer.pad_id, **settings}
    module = kind.model(build_config(kind, {}, objective, f"family '{family}'", **values))
    metadata = ModelMetadata.from_dict(
        {
            **default_metadata(family, objective),
            "family": family,
            "objective": objective,
            "versions": _versions(),
            "max_token_length": tokenizer.max_token_length,
        }
    )
    return Checkpoint(module, _with_special_tokens(tokenizer, metadata, family), metadata)


def save(checkpoint: Checkpoint, folder: str | Path) -> None:
    """Write ``config.json`` with the metadata, ``model.safetensors`` and the tokenizer.

    Of a network with low-rank adapters, the adapters and the head are written, with the name of their base.

    Files get their final names when all are complete, ``config.json`` last. Other files in the folder stay, except
    adapters where whole weights are written now: they would hide the new weights.

    Raises
    ------
    OutputError
        If the folder cannot be written, or holds the base of the adapters.
    ModelError
        If the base of the adapters is not on disk.
    """
    folder = Path(folder)
    module = checkpoint.module
    adapted = adapters.is_adapted(module)
    base = checkpoint.files and (checkpoint.files.base or checkpoint.files)
    if adapted and base and base.folder.resolve() == folder.resolve():
        raise OutputError(f"{folder}: holds the base that the adapters need; save them in another folder")
    module.config.objective = module.objective
    module.config.zflipon = replace(checkpoint.metadata, objective=module.objective).to_dict()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=".part.", dir=folder))
        try:
            if adapted:
                adapters.save(module, checkpoint.files, part)
            else:
                module.save_pretrained(part)
            _record_weights(part, (part / ADAPTER_WEIGHTS[0],) if adapted else find_weights(part))
            checkpoint.tokenizer.save(part)
            if not adapted:
                for name in (ADAPTER_CONFIG, *ADAPTER_WEIGHTS):
                    (folder / name).unlink(missing_ok=True)
            _move_files(part, folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"{folder}: the checkpoint cannot be written ({getattr(error, 'strerror', None) or error})"
        ) from error


def _move_files(part: Path, folder: Path) -> None:
    """Give files their final names; the config goes last, since a folder without it is not a checkpoint."""
    mode = (part / CONFIG).stat().st_mode  # safetensors makes its files readable by the owner only
    for path in sorted(part.iterdir(), key=lambda path: path.name == CONFIG):
        path.chmod(mode)
        os.replace(path, folder / path.name)


def _record_weights(folder: Path, weights: Iterable[Path]) -> None:
    """Write the SHA-256 of the weights into the config, so that `load` detects damage."""
    path = folder / CONFIG
    config = json.loads(path.read_text(encoding="utf-8"))
    content = json.dumps({**config, WEIGHTS_SHA256: sha256_of(*weights)}, indent=2, sort_keys=True)
    path.write_text(content + "\n", encoding="utf-8")


def read_tokenizer(files: CheckpointFiles, metadata: ModelMetadata, path: Path | None = None) -> DnaTokenizer:
    """Load the tokenizer of a checkpoint, or that in the file `path`, with the token length of the metadata."""
    kind = get_family(metadata.family)
    tokenizer = kind.tokenizer.from_file(path or files.find_tokenizer(kind.tokenizer_file))
    limit = metadata.max_token_length
    if limit is not None and limit < tokenizer.max_token_length:
        if not isinstance(tokenizer, BpeTokenizer):
            raise ModelError(f"{files.folder}: tokens of this family cannot be limited to {limit} bases")
        tokenizer = tokenizer.with_max_token_length(limit)
    return _with_special_tokens(tokenizer, metadata, files.folder)


def _with_special_tokens(tokenizer: DnaTokenizer, metadata: ModelMetadata, source: object) -> DnaTokenizer:
    """Return the tokenizer with or without ``[CLS]`` and ``[SEP]``, as in the metadata."""
    if metadata.special_tokens == getattr(tokenizer, "special_tokens", True):
        return tokenizer
    if not isinstance(tokenizer, KmerTokenizer):
        raise ModelError(f"{source}: special_tokens = false is possible with k-mers only")
    return tokenizer.with_special_tokens(metadata.special_tokens)


def _read_verified(files: CheckpointFiles) -> dict[str, Tensor]:
    """Read the tensors of the weights, or of the base of adapters, after a comparison of checksums."""
    files.verify_weights()
    tensors = read_tensors(files.base.weights if files.base else files.weights)
    return {current_name(name): tensor for name, tensor in tensors.items()}


def _no_head(
    files: CheckpointFiles, objective: str | None, objectives: tuple[str, ...], tensors: Mapping[str, Tensor]
) -> str:
    """Return the message about a checkpoint without a head of the accepted objectives."""
    expected = " or ".join(objectives)
    if objective is not None:
        return f"{files.name}: this checkpoint has no {expected} head (it has {objective}); train it first: zflipon train"
    own = [plain_name(name) for name in read_tensor_sizes(files.weights)] if files.adapter else list(tensors)
    return (
        f"{files.name}: this checkpoint has no {expected} head: none of its {len(own)} tensors "
        f"({format_names(sorted(own), 2)}) belongs to one. Train it first: zflipon train; "
        "if it is trained, rename its tensors as transformers does (classifier.weight, …)"
    )


def _require_z_output(files: CheckpointFiles, config: PretrainedConfig) -> int:
    try:
        return find_z_output(config)
    except ModelError as error:
        raise ModelError(f"{files.folder / CONFIG}: {error}") from error


def _require_standard_labels(files: CheckpointFiles, config: PretrainedConfig) -> None:
    """Refuse to train a head with other outputs than (not Z-DNA, Z-DNA), as the labels have them."""
    if config.num_labels == 2 and _require_z_output(files, config) != 1:
        raise ModelError(
            f"{files.folder / CONFIG}: output 0 means Z-DNA in id2label, but training uses output 1; "
            "swap the rows of the classifier and the labels"
        )


def _check_vocabulary(files: CheckpointFiles, module: DnaModel, tokenizer: DnaTokenizer) -> None:
    if tokenizer.vocab_size > module.config.vocab_size:
        raise ModelError(
            f"{files.folder}: the tokenizer has ids up to {tokenizer.vocab_size - 1}, "
            f"the model {module.config.vocab_size} tokens; they are not of one checkpoint"
        )


def _versions() -> dict[str, str]:
    return {
        "zflipon": __version__,
        **{name: version(name) for name in ("torch", "transformers", "tokenizers")},
    }


def build_config(
    kind: ModelFamily, stored: Mapping[str, Any], objective: str, source: object, **settings: Any
) -> PretrainedConfig:
    """Build a family's config from a ``config.json`` and settings that replace some of its values.

    Raises
    ------
    ModelError
        If a setting is unknown, or a value impossible or of the wrong type.
    """
    known = {*kind.config().to_dict(), *EXTRA_SETTINGS}
    for key in settings:
        if key not in known:
            raise ModelError(f"{source}: unknown setting '{key}'{suggest(key, known)}")
    values = {key: value for key, value in stored.items() if key not in IGNORED_CONFIG_KEYS}
    if "num_labels" in settings:  # names of labels would take precedence over their number
        values = {key: value for key, value in values.items() if key not in ("id2label", "label2id")}
    _check_values({**values, **settings}, known, source)
    try:
        return kind.config(**{**values, **settings, "objective": objective})
    except Exception as error:  # config classes raise several types
        raise ModelError(f"{source}: {' '.join(str(error).split())}") from error


def _check_values(values: Mapping[str, Any], known: set[str], source: object) -> None:
    """Refuse impossible values, and settings of networks that are computed in another way."""
    for key, largest in LARGEST_SETTINGS.items():
        value = values.get(key)
        if value is None:
            continue
        least = 0 if key == "num_hidden_layers" else 1  # a compact model with a wide context has no layers
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= largest:
            raise ModelError(f"{source}: {key} must be an integer from {least} to {largest:,}, not {value!r}")
    for key, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ModelError(f"{source}: {key} must be a finite number, not {value}")
    unsupported = [key for key in UNSUPPORTED_BERT_KEYS if values.get(key) and key not in known]
    if unsupported:
        raise ModelError(
            f"{source}: {format_names(unsupported)} asks for sparse or rotary attention, which is not supported for "
            "this family; use a dense checkpoint"
        )
    positions = values.get("position_embedding_type")
    if positions not in (None, "absolute") and "alibi_starting_size" not in values:
        raise ModelError(
            f"{source}: position_embedding_type '{positions}' is not supported; only absolute is"
        )
    if values.get("attention_type") not in (None, "original_full"):
        raise ModelError(f"{source}: attention_type '{values['attention_type']}' is not supported")


def _build(
    files: CheckpointFiles,
    family: str,
    objective: str,
    tensors: Mapping[str, Tensor],
    allow_new_head: bool,
    **settings: Any,
) -> DnaModel:
    """Build a family's network and fill it with tensors, and with adapters if the files have some."""
    kind = get_family(family)
    source = files.folder / CONFIG
    config = build_config(kind, files.config, objective, source, **settings)
    module = _build_network(kind, config, source)
    if files.adapter is None:
        fill(module, tensors, files.folder, allow_new_head)
    else:
        adapters.restore(
            module, files, lambda whole: fill(module, tensors, files.folder, allow_new_head, whole)
        )
    return module


def _build_network(kind: ModelFamily, config: PretrainedConfig, source: object) -> DnaModel:
    try:
        return build_empty(kind.model, config)
    except ModelError:
        raise
    except Exception as error:  # networks raise several types for values that they cannot use
        reason = " ".join((str(error) or type(error).__name__).split())
        raise ModelError(f"{source}: no network can be built from these values ({reason})") from error
