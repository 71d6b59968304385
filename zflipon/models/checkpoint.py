"""Loading, starting and saving checkpoints, strictly: what does not fit is named, never skipped.

`load` gives a checkpoint to predict with, `start` one to train on, `create` one
with random weights, `load_module` the bare module.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from zflipon import __version__
from zflipon.errors import ModelError, OutputError, format_names, suggest
from zflipon.models import adapters
from zflipon.models.base import DnaModel
from zflipon.models.heads.standard import HEAD_PREFIXES
from zflipon.models.hub import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    BASE_SHA256,
    WEIGHTS_SHA256,
    Files,
    find_weights,
    infer_objective,
    locate,
    sha256_of,
)
from zflipon.models.metadata import ModelMetadata
from zflipon.models.registry import ModelFamily, get_family, recognize_family
from zflipon.models.weights import build_empty, current_name, load_weights
from zflipon.tokenization.tokenizers import BpeTokenizer, DnaTokenizer

log = logging.getLogger("zflipon")

WRAPPERS = ("model_state_dict", "state_dict", "model")
"""Keys under which training scripts keep the state dict in a ``.pt``."""

PREFIXES = ("module.", "_orig_mod.")
"""What DistributedDataParallel and torch.compile put before each name."""

HARMLESS = re.compile(r"(^|\.)(position_ids|inv_freq|alibi)$")
"""Buffers that are computed, and that older releases saved all the same."""

FOREIGN_KEYS = (
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
"""Keys of a ``config.json`` that say nothing of the shape: not taken over."""


@dataclass
class Checkpoint:
    """A model with all that is needed to use it.

    Attributes
    ----------
    module : DnaModel
        In eval mode after loading.
    tokenizer : DnaTokenizer
    story : Story
    files : Files or None
        Where it was loaded from; None for a fresh one.
    """

    module: DnaModel
    tokenizer: DnaTokenizer
    metadata: ModelMetadata
    files: Files | None = None

    @property
    def path(self) -> Path | None:
        """The folder it was loaded from."""
        return self.files.folder if self.files else None

    @cached_property
    def sha256(self) -> str | None:
        """SHA-256 of the weights on disk, as hex; None for a fresh checkpoint."""
        return self.files.sha256() if self.files else None


def load(name: str | Path, objectives: tuple[str, ...] = ("token", "base")) -> Checkpoint:
    """Load a trained checkpoint for prediction.

    Parameters
    ----------
    name : str or Path
        A bundled model, a folder in the official layout, a file of weights beside its
        ``config.json``, or a hub id ``owner/name``.
    objectives : tuple of str
        Heads that will do.

    Returns
    -------
    Checkpoint
        float32, in eval mode.

    Raises
    ------
    ModelError
        If it is missing, incomplete or of an unknown family, if its tensors do not fit
        its config, or if it has no trained head of these kinds.
    """
    return load_files(locate(name), objectives)


def load_files(
    files: Files, objectives: tuple[str, ...], tokenizer: DnaTokenizer | None = None, **metadata
) -> Checkpoint:
    """Load the checkpoint that lies in given files, as `load` does.

    Parameters
    ----------
    files : Files
    objectives : tuple of str
        Heads that will do.
    tokenizer : DnaTokenizer, optional
        In the place of the folder's.
    **story
        Fields of the story, in the place of what the config tells.
    """
    tensors = read_tensors(files)
    objective = infer_objective(files.config, tensors)
    if objective not in objectives:
        raise ModelError(
            f"{files.name}: this checkpoint has no {' or '.join(objectives)} head "
            f"(it has {objective or 'none'}); train it first: zflipon train"
        )
    metadata = replace(files.metadata(objective), **metadata)
    tokenizer = tokenizer or read_tokenizer(files, metadata)
    module = _module(files, metadata.family, objective, tensors, fresh_head=False)
    _check_vocabulary(files, module, tokenizer)
    return Checkpoint(module.eval(), tokenizer, replace(metadata, objective=objective), files)


def load_module(path: str | Path, objective: str) -> DnaModel:
    """Load the module alone, for a given objective; no tokenizer is needed.

    Parameters
    ----------
    path : str or Path
        As `load`'s `name`.
    objective : str
        ``'token'``, ``'base'``, ``'sequence'`` or ``'mlm'``. A head that the checkpoint
        lacks is made anew, with a warning.

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
    name = recognize_family(files.config, files.folder)
    return _module(files, name, objective, read_tensors(files), fresh_head=True).eval()


def start(name: str | Path, objective: str, max_token_length: int | None = None, **settings) -> Checkpoint:
    """Load a checkpoint to train on; a head that it lacks, or of another shape, is made anew with a warning.

    Parameters
    ----------
    name : str or Path
        As in `load`.
    objective : str
        Of the training to come.
    max_token_length : int, optional
        Bases; limits the tokenizer (see `zflipon.tokenization.limit_token_length`).
    **settings
        Override config values, such as ``class_weights``, ``base_head`` or ``hidden_dropout_prob``.

    Returns
    -------
    Checkpoint
        Its story is the loaded one's, with `objective` and the versions of today, and no quality.

    Raises
    ------
    ModelError
        As `load`, and for unknown settings.
    """
    files = locate(name)
    tensors = read_tensors(files)
    metadata = files.metadata(infer_objective(files.config, tensors))
    if max_token_length is not None:
        metadata = replace(metadata, max_token_length=max_token_length)
    tokenizer = read_tokenizer(files, metadata)
    module = _module(files, metadata.family, objective, tensors, fresh_head=True, **settings)
    _check_vocabulary(files, module, tokenizer)
    metadata = replace(metadata, objective=objective, quality={}, versions=_versions())
    return Checkpoint(module, tokenizer, metadata, files)


def create(family: str, objective: str, tokenizer: DnaTokenizer, **settings) -> Checkpoint:
    """Make a model with random weights.

    Parameters
    ----------
    family : str
        A key of `zflipon.models.registry.family_names`.
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
    module = kind.model(_config(kind, {}, objective, f"family '{family}'", **values))
    metadata = {"family": family, "objective": objective, "versions": _versions()}
    return Checkpoint(
        module,
        tokenizer,
        ModelMetadata.from_dict(
            {**metadata, "max_token_length": tokenizer.max_token_length}, **kind.default_metadata
        ),
    )


def save(checkpoint: Checkpoint, folder: str | Path) -> None:
    """Write ``config.json`` with the story, ``model.safetensors`` and the tokenizer.

    Of a module with low-rank adapters, these and the head are written, with the name of their base.

    Each file gets its name only once all of them are whole; other files in the folder stay, but for adapters
    where whole weights are written now: they would be taken for the checkpoint.

    Raises
    ------
    OutputError
        If the folder cannot be written, or holds the base of the adapters.
    ModelError
        If adapters have no base on disk.
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
            _record_weights(part, (part / ADAPTER_WEIGHTS,) if adapted else find_weights(part))
            checkpoint.tokenizer.save(part)
            if not adapted:
                for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
                    (folder / name).unlink(missing_ok=True)
            mode = (part / "config.json").stat().st_mode  # safetensors keeps its files to their owner
            # the config goes last: a folder without it is no checkpoint
            for path in sorted(part.iterdir(), key=lambda path: path.name == "config.json"):
                path.chmod(mode)
                os.replace(path, folder / path.name)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"{folder}: the checkpoint cannot be written ({getattr(error, 'strerror', None) or error})"
        ) from error


def _record_weights(folder: Path, weights: Iterable[Path]) -> None:
    """Write the SHA-256 of the weights into the config beside them, so that damage is seen."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    told = json.dumps({**config, WEIGHTS_SHA256: sha256_of(*weights)}, indent=2, sort_keys=True)
    path.write_text(told + "\n", encoding="utf-8")


def read_tensors(files: Files) -> dict[str, Tensor]:
    """Read a state dict from its file or shards (of adapters, their base's); floating-point tensors become float32.

    Raises
    ------
    ModelError
        If a file is cut short or holds anything but tensors.
    """
    tensors: dict[str, Tensor] = {}
    for path in files.base.weights if files.base else files.weights:
        tensors.update(_read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path))
    while tensors and any(all(name.startswith(prefix) for name in tensors) for prefix in PREFIXES):
        tensors = {name.split(".", 1)[1]: tensor for name, tensor in tensors.items()}
    return {
        current_name(name): tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path}: not a safetensors file, or cut short ({error})") from error


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path}: holds more than tensors, or is no file of weights; "
            "save model.state_dict() with torch.save, or use safetensors"
        ) from error
    except Exception as error:  # a damaged file makes torch raise nearly any kind
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelError(f"{path}: not a file of weights, or cut short ({reason})") from error
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ModelError(
            f"{path}: holds no state dict (name → tensor); save model.state_dict() with torch.save"
        )
    return dict(content)


def read_tokenizer(files: Files, metadata: ModelMetadata, path: Path | None = None) -> DnaTokenizer:
    """Load the folder's tokenizer, or that of a file, limited as the story says."""
    kind = get_family(metadata.family)
    tokenizer = kind.tokenizer.from_file(path or files.folder / kind.tokenizer_file)
    limit = metadata.max_token_length
    if limit is not None and limit < tokenizer.max_token_length:
        if not isinstance(tokenizer, BpeTokenizer):
            raise ModelError(f"{files.folder}: tokens of this family cannot be limited to {limit} bases")
        tokenizer = tokenizer.with_max_token_length(limit)
    return tokenizer


def _check_vocabulary(files: Files, module: DnaModel, tokenizer: DnaTokenizer) -> None:
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


def _config(kind: ModelFamily, raw: dict, objective: str, where: object, **settings):
    """Build a family's config from a ``config.json`` and the settings over it."""
    known = {
        *kind.config().to_dict(),
        "class_weights",
        "base_head",
        "features",
        "num_labels",
        "classifier_dropout",
    }
    for key in settings:
        if key not in known:
            raise ModelError(f"{where}: unknown setting '{key}'{suggest(key, known)}")
    values = {key: value for key, value in raw.items() if key not in FOREIGN_KEYS}
    if "num_labels" in settings:  # names of labels would win over their number
        values = {key: value for key, value in values.items() if key not in ("id2label", "label2id")}
    try:
        config = kind.config(**{**values, **settings, "objective": objective})
    except Exception as error:  # the config classes raise kinds of their own
        raise ModelError(f"{where}: {' '.join(str(error).split())}") from error
    return config


def _module(
    files: Files, name: str, objective: str, tensors: dict[str, Tensor], fresh_head: bool, **settings
) -> DnaModel:
    """Build a family's module and fill it."""
    kind = get_family(name)
    config = _config(kind, files.config, objective, files.folder / "config.json", **settings)
    module = build_empty(kind.model, config)
    if files.adapter is None:
        fill(module, tensors, files.folder, fresh_head)
    else:
        adapters.restore(
            module, files, kind.lora_targets, partial(fill, module, tensors, files.folder, fresh_head)
        )
    return module


def fill(
    module: DnaModel,
    tensors: dict[str, Tensor],
    where: object,
    fresh_head: bool,
    over: Mapping[str, Tensor] | None = None,
) -> None:
    """Put tensors into a module, strictly.

    Parameters
    ----------
    module : DnaModel
    tensors : dict of str to Tensor
        Of the official names, the encoder's with or without its prefix.
    where : object
        Named in errors.
    fresh_head : bool
        Whether a task head may stay as it was initialised; it is said in a warning.
    over : mapping of str to Tensor, optional
        Of the module's own names: taken in the place of those in `tensors`.

    Raises
    ------
    ModelError
        If an encoder tensor is missing, unexpected or of another shape, or a head is and may not be new.
    """
    expected = module.state_dict()
    tied = module.all_tied_weights_keys
    over = {tied.get(name, name): tensor for name, tensor in (over or {}).items()}
    tensors = {**_official(tensors, module, expected), **over}
    unexpected = [name for name in tensors if name not in expected]
    missing = [name for name in expected if name not in tensors and name not in tied]
    shapes = [
        f"{name} is {_spoken(tensors[name])} where config.json asks for {_spoken(expected[name])}"
        for name in tensors
        if name in expected and tensors[name].shape != expected[name].shape
    ]
    new = _new_heads(missing, shapes, tensors)
    if fresh_head and new:
        names = format_names(sorted(head.rstrip(".") for head in new))
        log.warning("%s: no trained head for '%s'; %s starts anew", where, module.objective, names)
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(tuple(new))}
        missing, shapes = (
            [name for name in names if not name.startswith(tuple(new))] for names in (missing, shapes)
        )
    problems = [
        f"{len(names)} {what}: {format_names(names, 3)}"
        for what, names in (
            ("tensors are missing", missing),
            ("tensors are unexpected", unexpected),
            ("tensors have the wrong shape", shapes),
        )
        if names
    ]
    if problems:
        raise ModelError(f"{where}: the weights do not fit {type(module).__name__}; {'; '.join(problems)}")
    load_weights(module, tensors)


def _new_heads(missing: list[str], shapes: list[str], tensors: Mapping[str, Tensor]) -> set[str]:
    """Return the heads of which a checkpoint holds nothing, or tensors of another shape."""
    new = set()
    for head in HEAD_PREFIXES:
        absent = any(name.startswith(head) for name in missing) and not any(
            name.startswith(head) for name in tensors
        )
        if absent or any(name.startswith(head) for name in shapes):
            new.add(head)
    return new


def _official(
    tensors: dict[str, Tensor], module: DnaModel, expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Give tensors the module's names; leave out computed buffers and heads that it has none of."""
    prefix = module.base_model_prefix + "."
    if not any(name.startswith(prefix) for name in tensors):  # a bare encoder was saved
        tensors = {
            prefix + name if prefix + name in expected else name: value for name, value in tensors.items()
        }
    absent = tuple(head for head in HEAD_PREFIXES if not any(name.startswith(head) for name in expected))
    kept = {
        name: value
        for name, value in tensors.items()
        if name in expected or not (HARMLESS.search(name) or name.startswith(absent))
    }
    for target, source in module.all_tied_weights_keys.items():
        value = kept.pop(target, None)
        if value is not None:
            kept.setdefault(source, value)
    return kept


def _spoken(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a number"
