"""The registry of model families: which families exist, and what each of them provides.

Networks are in `zflipon.models.families`, one file per family. Importing this module imports no torch.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from zflipon.errors import ModelError, suggest

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from zflipon.models.base import DnaModel
    from zflipon.tokenization.tokenizers import DnaTokenizer

ENTRY_POINT_GROUP = "zflipon.model_families"
"""Entry point group in which a package announces its families: family name → ``module:ModelFamily``."""

BUILT_IN = {
    "compact": "zflipon.models.families.compact:FAMILY",
    "dnabert2": "zflipon.models.families.dnabert2:FAMILY",
    "gena": "zflipon.models.families.gena:FAMILY",
    "dnabert": "zflipon.models.families.dnabert:FAMILY",
    "modernbert": "zflipon.models.families.modernbert:FAMILY",
    "deepz": "zflipon.models.families.deepz:FAMILY",
    "graphz": "zflipon.models.families.graphz:FAMILY",
    "zhunt": "zflipon.models.families.zhunt:FAMILY",
}
"""Families of this package, as in its own entry points, which exist only once it is installed.

The order matters: `recognize_family` tries families from first to last.
"""


@dataclass(frozen=True)
class ModelFamily:
    """What a model family provides.

    Attributes
    ----------
    model : type of DnaModel
        The network.
    config : type of PretrainedConfig
        Its configuration; accepts at least ``vocab_size`` and ``pad_token_id``, which come from the tokenizer.
    tokenizer : type of DnaTokenizer
    recognizes : callable
        Takes the content of a ``config.json``; returns True if the checkpoint belongs to this family.
    tokenizer_file : str
        Name of the tokenizer's file in a checkpoint folder; empty if the tokenizer needs none.
    default_metadata : mapping
        Fields of `zflipon.models.metadata.ModelMetadata` for checkpoints that store none.
    lora_targets : tuple of str
        Names of the linear layers that get low-rank adapters by default.
    trainable : bool
        Whether there is anything to train; False for a formula.
    reads_tokens : bool
        Whether it reads tokens of a vocabulary, and so has all objectives. A family that reads single bases has the
        base objective only.

    Examples
    --------
    >>> from zflipon.models.registry import get_family
    >>> get_family("compact").lora_targets
    ('qkv',)
    """

    model: type[DnaModel]
    config: type[PretrainedConfig]
    tokenizer: type[DnaTokenizer]
    recognizes: Callable[[dict], bool]
    tokenizer_file: str = ""
    default_metadata: Mapping[str, object] = field(default_factory=dict)
    lora_targets: tuple[str, ...] = ()
    trainable: bool = True
    reads_tokens: bool = True


_registered: dict[str, ModelFamily] = {}
"""Families registered by `register_family` in this process."""


def family_names() -> tuple[str, ...]:
    """Return the names of all families: built-in ones, those of installed packages, those registered by code.

    Raises
    ------
    ModelError
        If two installed packages announce different families of one name.
    """
    return (*_locations(), *_registered)


def get_family(name: str) -> ModelFamily:
    """Return a family by its name; imports its module.

    Raises
    ------
    ModelError
        If there is no such family, or its module does not provide one.
    """
    if name in _registered:
        return _registered[name]
    if name not in _locations():
        known = family_names()
        raise ModelError(f"unknown model family '{name}'{suggest(name, known)}; known are {', '.join(known)}")
    return _load(name, _locations()[name])


def register_family(name: str, family: ModelFamily) -> None:
    """Add a family for this process. An installed package uses the entry point group instead.

    Parameters
    ----------
    name : str
        Stored as ``family`` in the metadata of its checkpoints.
    family : ModelFamily

    Raises
    ------
    ModelError
        If the name is taken.
    """
    if name in family_names():
        raise ModelError(f"model family '{name}' is registered already; choose another name")
    _add_to_auto_classes(family)
    _registered[name] = family


def unregister_family(name: str) -> None:
    """Remove a family that `register_family` added."""
    if _registered.pop(name, None) is None:
        raise ModelError(
            f"model family '{name}' was not registered by register_family; only such families can be removed"
        )


def recognize_family(config: dict, path: object) -> str:
    """Return the name of the family that a ``config.json`` belongs to.

    The metadata in it decide if there are any; else each family is asked in turn, since published configs often have
    the ``model_type`` of plain BERT.

    Parameters
    ----------
    config : dict
        Content of the file.
    path : object
        Named in the error.

    Raises
    ------
    ModelError
        If no family recognizes the config, or its metadata name an unknown one.
    """
    names = family_names()
    metadata = config.get("zflipon")
    if isinstance(metadata, dict) and "family" in metadata:
        if metadata["family"] not in names:
            raise ModelError(
                f"{path}: unknown model family '{metadata['family']}'; known are {', '.join(names)}"
            )
        return metadata["family"]
    for name in names:
        if get_family(name).recognizes(config):
            return name
    raise ModelError(
        f"{path}: unknown model family (model_type '{config.get('model_type', 'none')}', "
        f"vocab_size {config.get('vocab_size', 'none')}); known are {', '.join(names)}"
    )


def family_summaries() -> dict[str, str]:
    """Return one line about each family, the first of its module's docstring; imports no family."""
    summaries = {name: _summary(location.partition(":")[0]) for name, location in _locations().items()}
    return summaries | {name: _summary(family.model.__module__) for name, family in _registered.items()}


def register_auto_classes() -> None:
    """Make transformers' ``AutoConfig`` and ``AutoModel`` know all families.

    Loading through `zflipon.models` does not need it. Families whose ``model_type`` transformers has itself (plain
    BERT, ModernBERT) open with transformers' own classes.

    Examples
    --------
    >>> from transformers import AutoConfig
    >>> from zflipon.models import register_auto_classes
    >>> from zflipon.models.files import BUNDLED
    >>> register_auto_classes()
    >>> type(AutoConfig.from_pretrained(BUNDLED / "compact")).__name__
    'CompactConfig'
    """
    for name in family_names():
        get_family(name)


@cache
def _locations() -> dict[str, str]:
    """Return name → ``module:attribute`` of the built-in families and those of installed packages."""
    locations = dict(BUILT_IN)
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        other = locations.setdefault(entry.name, entry.value)
        if other != entry.value:
            raise ModelError(
                f"two packages provide the model family '{entry.name}': {other} and {entry.value}; "
                "uninstall one of them"
            )
    return locations


@cache
def _load(name: str, location: str) -> ModelFamily:
    module, _, attribute = location.partition(":")
    try:
        family = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ModelError(
            f"model family '{name}' cannot be loaded from its entry point {location}: {error}; "
            "reinstall or remove its package"
        ) from error
    if not isinstance(family, ModelFamily):
        raise ModelError(
            f"entry point {location} of model family '{name}' is not a ModelFamily; "
            "expected an instance of zflipon.models.registry.ModelFamily"
        )
    _add_to_auto_classes(family)
    return family


def _add_to_auto_classes(family: ModelFamily) -> None:
    from transformers import AutoConfig, AutoModel
    from transformers.models.auto.configuration_auto import (
        CONFIG_MAPPING_NAMES,  # pyright: ignore[reportPrivateImportUsage]  # public, extended there after its import
    )

    if family.config.model_type in CONFIG_MAPPING_NAMES:
        return
    AutoConfig.register(family.config.model_type, family.config, exist_ok=True)
    AutoModel.register(family.config, family.model, exist_ok=True)


def _summary(module: str) -> str:
    """Return the first line of a module's docstring, read from its source."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return ""
    source = Path(spec.origin).read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
