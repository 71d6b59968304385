"""Reading peft's ``adapter_config.json``: only settings that are understood are accepted.

The adapters themselves are handled in `zflipon.models.adapters`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zflipon.errors import ModelError, suggest

if TYPE_CHECKING:
    import peft

SUPPORTED_SETTINGS = frozenset(
    {
        "r",
        "lora_alpha",
        "lora_dropout",
        "lora_bias",
        "bias",
        "target_modules",
        "exclude_modules",
        "modules_to_save",
        "layers_to_transform",
        "layers_pattern",
        "rank_pattern",
        "alpha_pattern",
        "use_rslora",
        "use_dora",
        "init_lora_weights",
    }
)
"""Settings of peft's LoRA that may differ from their default."""

DESCRIPTIVE_SETTINGS = frozenset(
    {
        "peft_type",
        "peft_version",
        "task_type",
        "auto_mapping",
        "base_model_name_or_path",
        "revision",
        "inference_mode",
        "fan_in_fan_out",
        "runtime_config",
        "ephemeral_gpu_offload",
        "megatron_core",
        "qalora_group_size",
        "loftq_config",
    }
)
"""Settings that change nothing in a network of linear layers, or only together with others that are refused."""

SUPPORTED_INITIALIZATIONS = ("gaussian", "pissa", "olora", "eva", "orthogonal", "mica")
"""Names for ``init_lora_weights``. For pissa and olora, peft subtracts a reproducible part from the base weights."""


def read_peft_config(settings: Mapping[str, Any], path: Path) -> peft.LoraConfig:
    """Return peft's LoRA configuration of a file, of which every setting is understood.

    Parameters
    ----------
    settings : mapping
        Content of ``adapter_config.json``.
    path : Path
        Named in errors.

    Raises
    ------
    ModelError
        If a setting is unknown, unsupported or of the wrong type.
    """
    import peft

    if settings.get("peft_type", "LORA") != "LORA":
        raise ModelError(
            f"{path}: only LoRA adapters are supported, not {settings['peft_type']}; merge them with peft"
        )
    defaults = peft.LoraConfig().to_dict()
    for key, value in settings.items():
        if (
            key in SUPPORTED_SETTINGS
            or key in DESCRIPTIVE_SETTINGS
            or not value
            or value == defaults.get(key)
        ):
            continue
        known = "is not supported" if key in defaults else f"is unknown{suggest(key, SUPPORTED_SETTINGS)}"
        raise ModelError(f"{path}: setting {key} {known}; merge the adapters with peft")
    chosen = {key: settings[key] for key in SUPPORTED_SETTINGS if key in settings}
    _check_types(chosen, path)
    _check_initialization(chosen.get("init_lora_weights", True), path)
    try:
        return peft.LoraConfig(**chosen, inference_mode=False)
    except Exception as error:  # peft raises several types for combinations that it refuses
        raise ModelError(f"{path}: {' '.join(str(error).split())}") from error


def _check_types(settings: Mapping[str, Any], path: Path) -> None:
    """Refuse values of the wrong type, which peft would accept and fail on later."""
    names = "a list of names, or one regular expression"
    checks: dict[str, tuple[Callable[[Any], bool], str]] = {
        "r": (lambda value: _is_number(value, int) and value > 0, "a positive integer"),
        "lora_alpha": (lambda value: _is_number(value, int, float) and value > 0, "a positive number"),
        "lora_dropout": (lambda value: _is_number(value, int, float) and 0 <= value < 1, "from 0 to below 1"),
        "bias": (lambda value: value in ("none", "all", "lora_only"), "none, all or lora_only"),
        "target_modules": (_is_names, names),
        "exclude_modules": (lambda value: value is None or _is_names(value), names),
        "modules_to_save": (lambda value: value is None or (_is_names(value) and not isinstance(value, str)),
                            "a list of names"),
    }  # fmt: skip
    if "target_modules" not in settings:
        raise ModelError(
            f"{path}: target_modules is missing; expected the adapter_config.json that peft writes"
        )
    for key, (is_valid, expected) in checks.items():
        if key in settings and not is_valid(settings[key]):
            raise ModelError(f"{path}: {key} must be {expected}, not {settings[key]!r}")


def _is_number(value: Any, *types: type) -> bool:
    return isinstance(value, types) and not isinstance(value, bool) and abs(value) < float("inf")


def _is_names(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value)
    return isinstance(value, list) and bool(value) and all(isinstance(name, str) for name in value)


def _check_initialization(value: Any, path: Path) -> None:
    """Refuse initializations that changed the base weights in a way that cannot be repeated here."""
    if isinstance(value, bool) or (isinstance(value, str) and value.lower() in SUPPORTED_INITIALIZATIONS):
        return
    raise ModelError(
        f"{path}: init_lora_weights '{value}' is not supported: it changed the base weights in a way that cannot be "
        "repeated here; convert the adapters to plain LoRA with peft (save_pretrained with "
        "path_initial_model_for_weight_conversion), or merge them with peft"
    )
