"""Loading, starting, creating and saving checkpoints: a network with its tokenizer and metadata.

Files are found in `zflipon.models.files`; tensors are matched with a network in `zflipon.models.state_dicts`.
"""

from __future__ import annotations

import json
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
from zflipon.errors import ModelError, OutputError, format_count, format_names
from zflipon.models import adapters
from zflipon.models.base import DnaModel
from zflipon.models.files import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    CONFIG,
    WEIGHTS_SHA256,
    CheckpointFiles,
    default_metadata,
    locate,
    plain_name,
)
from zflipon.models.labels import require_standard_labels, require_z_output
from zflipon.models.metadata import ModelMetadata
from zflipon.models.model_config import build_config
from zflipon.models.registry import ModelFamily, get_family, recognize_family
from zflipon.models.state_dicts import fill
from zflipon.models.tokenizer_files import check_vocabulary, read_tokenizer, set_special_tokens
from zflipon.models.weight_files import find_weights, read_tensor_sizes, read_tensors
from zflipon.models.weights import build_empty, count_parameters, current_name
from zflipon.tokenization.tokenizers import DnaTokenizer


@dataclass(repr=False)
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

    def __repr__(self) -> str:
        return f"<Checkpoint {self.summary}>"

    @property
    def summary(self) -> str:
        """Name, family, objective, window and size in one line."""
        stored, size = self.metadata, format_count(count_parameters(self.module), "parameter")
        kind = f"family {stored.family}, {stored.objective or 'no'} objective"
        return f"{self.name!r}: {kind}, windows of {stored.window:,} bp, {size}"

    @property
    def path(self) -> Path | None:
        """The folder that it was loaded from."""
        return self.files.folder if self.files else None

    @property
    def name(self) -> str:
        """Name of the folder that it was loaded from; the model family for a new one."""
        return self.files.folder.name if self.files else self.metadata.family

    @property
    def required_files(self) -> CheckpointFiles:
        """The files that it was loaded from; raises `ModelError` for a new one."""
        if self.files is None:
            raise ModelError("the model was not loaded from files; save it and load it again")
        return self.files

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
    files.require_decoding(tensors, metadata)
    stored = replace(files.metadata(objective), objective=objective, **metadata)
    tokenizer = tokenizer or read_tokenizer(files, stored)
    module = _build(files, stored.family, objective, tensors, allow_new_head=False)
    check_vocabulary(files, module, tokenizer)
    if objective == "token":
        require_z_output(module.config, files.folder / CONFIG)
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
    check_vocabulary(files, module, tokenizer)
    if objective == "token":
        require_standard_labels(module.config, files.folder / CONFIG)
    screen = metadata.screen if stored_objective == objective else module.default_screen
    metadata = replace(metadata, objective=objective, screen=screen, quality={}, versions=_versions())
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
    metadata = replace(metadata, screen=module.default_screen)
    return Checkpoint(module, set_special_tokens(tokenizer, metadata, family), metadata)


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


def _read_verified(files: CheckpointFiles) -> dict[str, Tensor]:
    """Read the tensors of the weights, or of the base of adapters, after a comparison of checksums."""
    files.verify_weights()
    tensors = read_tensors(files.base.whole_weights if files.base else files.whole_weights)
    return {current_name(name): tensor for name, tensor in tensors.items()}


def _no_head(
    files: CheckpointFiles, objective: str | None, objectives: tuple[str, ...], tensors: Mapping[str, Tensor]
) -> str:
    """Return the message about a checkpoint without a head of the accepted objectives."""
    problem = f"{files.name}: this checkpoint has no {' or '.join(objectives)} head"
    if objective is not None:
        return f"{problem} (it has {objective}); train it first: zflipon train"
    own = [plain_name(name) for name in read_tensor_sizes(files.weights)] if files.adapter else list(tensors)
    return (
        f"{problem}: none of its {len(own)} tensors "
        f"({format_names(sorted(own), 2)}) belongs to one. Train it first: zflipon train; "
        "if it is trained, rename its tensors as transformers does (classifier.weight, …)"
    )


def _versions() -> dict[str, str]:
    return {
        "zflipon": __version__,
        **{name: version(name) for name in ("torch", "transformers", "tokenizers")},
    }


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
    config = build_config(kind, files.config, objective, files.folder / CONFIG, **settings)
    module = _build_network(kind, config, files.folder / CONFIG)
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
