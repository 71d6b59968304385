"""Low-rank adapters (LoRA; Hu et al., arXiv:2106.09685): attaching, loading, saving and merging them, all through peft.

Layers with adapters replace linear layers inside the network, so it runs and trains as before. Its state dict gains
``lora_A``, ``lora_B`` and ``base_layer`` names. Where the files of adapters are found is decided elsewhere.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from safetensors.torch import save_file
from torch import Tensor, nn

from zflipon.config import LoraConfig
from zflipon.errors import ModelError, format_names
from zflipon.models.adapter_config import read_peft_config
from zflipon.models.base import DnaModel
from zflipon.models.files import (
    ADAPTER_CONFIG,
    ADAPTER_PREFIX,
    ADAPTER_WEIGHTS,
    BASE_SHA256,
    BUNDLED,
    CheckpointFiles,
    plain_name,
)
from zflipon.models.heads.standard import HEAD_PREFIXES
from zflipon.models.weight_files import read_state_dict
from zflipon.models.weights import current_name

if TYPE_CHECKING:
    import peft

# peft is imported inside functions: that takes longer than loading a small model without adapters

_NAME = "default"
"""Name of the adapters inside the network; peft leaves it out of files."""


def attach(module: DnaModel, lora: LoraConfig, targets: Sequence[str]) -> None:
    """Add new adapters to a network and freeze all but these, the head and the requested biases.

    Parameters
    ----------
    module : DnaModel
        Changed in place.
    lora : LoraConfig
    targets : sequence of str
        The family's ``lora_targets``, used if the config names none.

    Raises
    ------
    ModelError
        If the rank is not positive, the network has adapters already, or no layer has a target name.
    """
    if lora.r < 1:
        raise ModelError(f"lora.r must be 1 or more for adapters, not {lora.r}; 0 trains without them")
    if is_adapted(module):
        raise ModelError(
            "the checkpoint has adapters already; train these (r = 0), or merge them first: zflipon models merge"
        )
    linear = _linear_layers(module)
    names = tuple(lora.targets or targets)
    unknown = [end for end in names if not any(_ends_with(name, [end]) for name in linear)]
    if not linear:
        raise ModelError(f"{type(module).__name__} has no linear layers for adapters; set lora.r to 0")
    if unknown or not names:
        ends = sorted({name.rpartition(".")[2] for name in linear})
        problem = (
            f"no layer is called {format_names(unknown)}" if unknown else "this family has none by default"
        )
        raise ModelError(f"lora.targets: {problem}; the linear layers are {', '.join(ends)}")
    import peft

    config = peft.LoraConfig(
        r=lora.r,
        lora_alpha=cast(int, lora.alpha),  # annotated as int, but any number works
        lora_dropout=lora.dropout,
        bias=lora.bias,
        target_modules=sorted(name for name in linear if _ends_with(name, names)),
    )
    peft.inject_adapter_in_model(config, module, adapter_name=_NAME)
    config.target_modules = cast(list[str], set(names))  # as it is saved; annotated as a list
    module.lora = replace(lora, targets=names)
    unfreeze(module)


def unfreeze(module: DnaModel) -> None:
    """Make all weights trainable; of a network with adapters, these, the head and the requested biases."""
    for name, weights in module.named_parameters():
        weights.requires_grad = not is_adapted(module) or _is_trained(name, module)


def is_adapted(module: nn.Module) -> bool:
    """Return whether a network has adapters."""
    return getattr(module, "lora", None) is not None


def merge(module: DnaModel) -> dict[str, Any]:
    """Add the product of the adapters to the weights of their layers, and remove the adapters.

    Parameters
    ----------
    module : DnaModel
        Changed in place.

    Returns
    -------
    dict
        Rank, alpha and targets of the adapters, for the metadata.

    Raises
    ------
    ModelError
        If there are no adapters.
    """
    lora = module.lora
    if lora is None:
        raise ModelError("the checkpoint has no adapters to merge; its weights are whole already")
    from peft.tuners.lora import LoraLayer

    for name, layer in list(module.named_modules()):
        if isinstance(layer, LoraLayer):
            layer.merge()
            parent, _, last = name.rpartition(".")
            setattr(module.get_submodule(parent), last, layer.get_base_layer())
    module.lora = None
    del module.peft_config
    unfreeze(module)
    return {"r": lora.r, "alpha": lora.alpha, "targets": list(lora.targets)}


def save(module: DnaModel, files: CheckpointFiles | None, folder: Path) -> None:
    """Write adapters, head, trained biases and the config of the network, in the layout of peft.

    Parameters
    ----------
    module : DnaModel
    files : CheckpointFiles or None
        Files of the base, or of an earlier save of the adapters.
    folder : Path

    Raises
    ------
    ModelError
        If the base is not on disk.
    """
    base = files and (files.base or files)
    if base is None:
        raise ModelError("adapters need a base on disk; save the model without them first")
    _write_peft_config(module, base, folder / ADAPTER_CONFIG)
    trained = {
        ADAPTER_PREFIX + _name_in_file(name): weights.detach().contiguous()
        for name, weights in module.named_parameters()  # lists tied parameters once
        if _is_trained(name, module)  # not by requires_grad: a training stage may have frozen some
    }
    save_file(trained, folder / ADAPTER_WEIGHTS[0], metadata={"format": "pt"})
    setattr(module.config, BASE_SHA256, base.sha256())
    try:
        module.config.save_pretrained(folder)
    finally:
        delattr(module.config, BASE_SHA256)


def restore(module: DnaModel, files: CheckpointFiles, fill: Callable[[Mapping[str, Tensor]], None]) -> None:
    """Fill a network with the weights of its base and load the adapters from a folder.

    Parameters
    ----------
    module : DnaModel
        Changed in place.
    files : CheckpointFiles
        Files of the adapters.
    fill : callable
        Fills the network with the tensors of the base; takes tensors that replace some of them.

    Raises
    ------
    ModelError
        If a setting or a tensor is not understood, or does not fit the network.
    """
    import peft

    path = files.folder / ADAPTER_CONFIG
    if files.adapter is None:
        raise ModelError(f"{path}: no such file; expected the settings of the adapters")
    config = read_peft_config(files.adapter, path)
    stored = {
        current_name(_without_adapter_name(plain_name(name))): each
        for name, each in read_state_dict(files.weights).items()
    }
    own = module.state_dict()
    absent = tuple(
        head for head in HEAD_PREFIXES if not any(name.startswith(head) for name in own)
    )  # of another objective
    stored = {
        name: each.float() if each.is_floating_point() else each
        for name, each in stored.items()
        if not name.startswith(absent)
    }
    whole = {name: each for name, each in stored.items() if name in own}
    lora = {name: each for name, each in stored.items() if name not in own}
    _require_saved_modules(config.modules_to_save, whole, module, files.folder)
    fill(whole)
    _inject(config, module, list(lora), path)
    expected = {_name_in_file(name): each for name, each in module.named_parameters() if "lora_" in name}
    missing = [name for name in expected if name not in lora]
    unknown = [name for name in lora if name not in expected]
    shapes = [name for name in expected if name in lora and lora[name].shape != expected[name].shape]
    for names, problem in (
        (missing, "are missing"),
        (unknown, "are unknown"),
        (shapes, "have the wrong shape"),
    ):
        if names:
            raise ModelError(
                f"{files.folder}: the adapters do not fit {type(module).__name__}: {len(names)} tensors {problem}: "
                f"{format_names(names, 3)}; are they of this base?"
            )
    peft.set_peft_model_state_dict(module, lora, adapter_name=_NAME)
    unfreeze(module)


def _require_saved_modules(
    names: Sequence[str] | None, whole: Mapping[str, Tensor], module: nn.Module, folder: Path
) -> None:
    """Require all tensors of the modules that the adapters replace, such as the head."""
    for name in names or ():
        expected = [key for key in module.state_dict() if f".{name}." in f".{key}"]
        missing = [key for key in expected if key not in whole]
        if missing:
            raise ModelError(
                f"{folder}: modules_to_save names {name}, but {format_names(missing, 3)} is not in the file of "
                "weights; save the adapters again with peft"
            )


def _inject(config: peft.LoraConfig, module: DnaModel, adapted: Sequence[str], path: Path) -> None:
    """Let peft add the adapters, and note their settings in the network.

    As in peft, modules that are saved as a whole get no adapters. Neither does a head of which the file has none:
    networks of other code may lack its layers.
    """
    import peft

    targets, excluded, saved = config.target_modules, config.exclude_modules, config.modules_to_save
    heads = [
        name for name in _whole_heads(module) if not any(each.startswith(f"{name}.") for each in adapted)
    ]
    patterns = [rf"(.*\.)?{re.escape(name)}(\..*)?" for name in dict.fromkeys((*(saved or ()), *heads))]
    if isinstance(excluded, str):
        patterns.append(excluded)
    else:
        patterns += [rf"(.*\.)?{re.escape(name)}" for name in sorted(excluded or ())]
    config.modules_to_save = None  # their tensors are in the network already
    config.exclude_modules = "|".join(f"({each})" for each in patterns) or None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft warns if exclude_modules excludes nothing
            peft.inject_adapter_in_model(config, module, adapter_name=_NAME)
    except Exception as error:  # peft raises several types
        raise ModelError(f"{path}: {' '.join(str(error).split())[:300]}") from error
    config.exclude_modules, config.modules_to_save = excluded, saved
    names = (targets,) if isinstance(targets, str) else tuple(sorted(targets or ()))
    module.lora = LoraConfig(
        r=config.r, alpha=config.lora_alpha, dropout=config.lora_dropout, bias=config.bias, targets=names
    )


def _write_peft_config(module: DnaModel, base: CheckpointFiles, path: Path) -> None:
    """Write ``adapter_config.json``: the settings of the adapters as they were made or loaded."""
    config = cast("peft.LoraConfig", module.peft_config[_NAME]).to_dict()
    config |= {
        "modules_to_save": sorted({*(config["modules_to_save"] or ()), *_whole_heads(module)}) or None,
        "inference_mode": True,
        "base_model_name_or_path": _portable_name(base),
    }
    content = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    path.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")


def _linear_layers(module: nn.Module) -> set[str]:
    """Return the names of the linear layers outside the head."""
    return {
        name
        for name, each in module.named_modules()
        if isinstance(each, nn.Linear) and not name.startswith(HEAD_PREFIXES)
    }


def _ends_with(name: str, ends: Sequence[str]) -> bool:
    return any(name == end or name.endswith(f".{end}") for end in ends)


def _whole_heads(module: DnaModel) -> list[str]:
    """Return the modules of the head that peft can copy: no containers, and nothing tied to the encoder.

    Parameters of the head outside these are stored under their own names, where peft finds them too.
    """
    names: list[str] = []
    for name, each in module.named_modules():  # a module comes before its parts
        inside = name.startswith(tuple(f"{outer}." for outer in names))
        head = f"{name}.".startswith(HEAD_PREFIXES) and any(True for _ in each.parameters())
        tied = any(key.startswith(f"{name}.") for key in module.all_tied_weights_keys)
        if head and not inside and not tied and not isinstance(each, nn.ModuleDict | nn.ModuleList):
            names.append(name)
    return names


def _is_trained(name: str, module: DnaModel) -> bool:
    lora = module.lora
    if lora is None or "lora_" in name or name.startswith(HEAD_PREFIXES):
        return True
    saved = getattr(module.peft_config[_NAME], "modules_to_save", None)
    if any(f".{each}." in f".{name}" for each in saved or ()):
        return True
    if not name.endswith(".bias") or lora.bias == "none":
        return False
    return lora.bias == "all" or name.endswith(".base_layer.bias")


def _name_in_file(name: str) -> str:
    """Return the name that a parameter has in peft's files, without the prefix."""
    if "lora_magnitude_vector" in name:
        name = name.removesuffix(".weight")
    return _without_adapter_name(name) if "lora_" in name else name


def _without_adapter_name(name: str) -> str:
    return f"{name}.".replace(f".{_NAME}.", ".").removesuffix(".")


def _portable_name(base: CheckpointFiles) -> str:
    """Return a name of the base that does not depend on the current folder."""
    if base.folder.parent == BUNDLED:
        return base.folder.name
    path = Path(base.name)
    return str(path.resolve()) if path.exists() else base.name
