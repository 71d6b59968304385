"""The config of a network, from a ``config.json`` and settings; impossible and unsupported values are refused.

The file is read in `zflipon.models.files`, and the network is built in `zflipon.models.checkpoint`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from transformers import PretrainedConfig

from zflipon.errors import ModelError, format_names, suggest
from zflipon.models.files import BASE_SHA256, SHARED_WEIGHTS, WEIGHTS_SHA256
from zflipon.models.registry import ModelFamily

IGNORED_CONFIG_KEYS = (
    "model_type",
    "architectures",
    "auto_map",
    "transformers_version",
    "torch_dtype",
    "dtype",
    "zflipon",
    BASE_SHA256,
    SHARED_WEIGHTS,
    WEIGHTS_SHA256,
)
"""Keys of a ``config.json`` that do not describe the network."""

EXTRA_SETTINGS = ("class_weights", "base_head", "features", "num_labels", "classifier_dropout", "structure")
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
