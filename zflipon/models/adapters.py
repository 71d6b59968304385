"""Low-rank adapters (LoRA; Hu et al., arXiv:2106.09685) beside the weights of a checkpoint, through peft.

Adapters are put into the module itself, so that all that runs or trains it goes on as before. They are saved by
themselves, in peft's layout: the adapters, the head, the biases that were trained, and the name of the base.

A module keeps its class and the state dict of a plain one with more names in it (``lora_A``, ``base_layer``), so the
`StageTrainer` saves it and goes on from it with no adapter code of its own: attach the adapters before it is made.

peft is imported where there are adapters: it takes longer than loading a small model without them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from zflipon.config import LoraConfig
from zflipon.errors import ModelError, format_names
from zflipon.models.base import DnaModel
from zflipon.models.heads.standard import HEAD_PREFIXES
from zflipon.models.hub import ADAPTER_CONFIG, ADAPTER_PREFIX, ADAPTER_WEIGHTS, BASE_SHA256, BUNDLED, Files
from zflipon.models.weights import current_name

if TYPE_CHECKING:
    from zflipon.models.checkpoint import Checkpoint

_NAME = "default"
"""Of the adapter, inside the module; peft leaves it out of files."""

_BEYOND = (
    "use_rslora",
    "use_dora",
    "rank_pattern",
    "alpha_pattern",
    "layers_to_transform",
    "target_parameters",
)
"""Settings of peft's that would make other adapters of the same files: none of ours has them."""


def attach(module: DnaModel, lora: LoraConfig, targets: Sequence[str]) -> None:
    """Put adapters into a module, and freeze all but these, the head and the biases asked for.

    Parameters
    ----------
    module : DnaModel
    lora : LoraConfig
    targets : sequence of str
        The family's ``lora_targets``, for where the config names none.

    Raises
    ------
    ModelError
        If the rank is not positive, the module has adapters already, or it has no layer of the names.
    """
    if lora.r < 1:
        raise ModelError(f"lora.r must be 1 or more for adapters, not {lora.r}; 0 trains without them")
    if is_adapted(module):
        raise ModelError(
            "the checkpoint has adapters already; train these (r = 0), or merge them first: zflipon models merge"
        )
    linear = {
        name
        for name, each in module.named_modules()
        if isinstance(each, nn.Linear) and not name.startswith(HEAD_PREFIXES)
    }
    wanted = tuple(lora.targets or targets)
    unknown = [end for end in wanted if not any(_ends(name, [end]) for name in linear)]
    if not linear:
        raise ModelError(f"{type(module).__name__} has no linear layers that adapters could lie beside")
    if unknown or not wanted:
        ends = sorted({name.rpartition(".")[2] for name in linear})
        problem = (
            f"no layer is called {format_names(unknown)}" if unknown else "this family has none by default"
        )
        raise ModelError(f"lora.targets: {problem}; the linear layers are {', '.join(ends)}")
    import peft

    config = peft.LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        bias=lora.bias,
        target_modules=sorted(name for name in linear if _ends(name, wanted)),
    )
    peft.inject_adapter_in_model(config, module, adapter_name=_NAME)
    module.lora = replace(lora, targets=wanted)
    thaw(module)


def thaw(module: DnaModel) -> None:
    """Let all weights be trained; where there are adapters, these, the head and the biases asked for.

    What a stage froze beyond that is trained again.
    """
    for name, weights in module.named_parameters():
        weights.requires_grad = not is_adapted(module) or _is_trained(name, module)


def is_adapted(module: nn.Module) -> bool:
    """Tell whether a module has adapters."""
    return getattr(module, "lora", None) is not None


def merge(checkpoint: Checkpoint) -> Checkpoint:
    """Fold adapters into the weights that they lie beside.

    Parameters
    ----------
    checkpoint : Checkpoint
        Its module is changed.

    Returns
    -------
    Checkpoint
        A plain one, of the same probabilities; its story tells of the merge.

    Raises
    ------
    ModelError
        If there are no adapters.
    """
    module = checkpoint.module
    if not is_adapted(module):
        raise ModelError(f"{checkpoint.path}: has no adapters to merge; it is a whole checkpoint already")
    from peft.tuners.lora import LoraLayer

    for name, layer in list(module.named_modules()):
        if isinstance(layer, LoraLayer):
            layer.merge()
            parent, _, last = name.rpartition(".")
            setattr(module.get_submodule(parent), last, layer.get_base_layer())
    lora, module.lora = module.lora, None
    del module.peft_config
    thaw(module)
    told = {"r": lora.r, "alpha": lora.alpha, "targets": list(lora.targets)}
    base = checkpoint.files.base.name if checkpoint.files and checkpoint.files.base else None
    training = {**checkpoint.metadata.training, "merged": {**told, "base": base}}
    return replace(checkpoint, metadata=replace(checkpoint.metadata, training=training), files=None)


def save(module: DnaModel, files: Files | None, folder: Path) -> None:
    """Write adapters, head, trained biases and the config.

    Parameters
    ----------
    module : DnaModel
    files : Files or None
        Of the base, or of an earlier save of the adapters.
    folder : Path

    Raises
    ------
    ModelError
        If there is no base on disk that the adapters could be put beside.
    """
    import peft

    base = files and (files.base or files)
    if base is None:
        raise ModelError("adapters need a base on disk; save the model without them first")
    lora = module.lora
    config = peft.LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        bias=lora.bias,
        target_modules=list(lora.targets),
        modules_to_save=_whole_heads(module) or None,
        inference_mode=True,
        base_model_name_or_path=_lasting_name(base),
    ).to_dict()
    config = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    (folder / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    trained = {
        ADAPTER_PREFIX + _stored(name): weights.detach().contiguous()
        for name, weights in module.named_parameters()  # tied ones once
        if _is_trained(name, module)  # a stage may have frozen some of it for a while
    }
    save_file(trained, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    setattr(module.config, BASE_SHA256, base.sha256())
    module.config.save_pretrained(folder)
    delattr(module.config, BASE_SHA256)


def restore(
    module: DnaModel, files: Files, targets: Sequence[str], fill: Callable[[Mapping[str, Tensor]], None]
) -> None:
    """Fill a module with its base's weights and put the adapters of a folder beside them.

    Parameters
    ----------
    module : DnaModel
    files : Files
        Of the adapters.
    targets : sequence of str
        The family's ``lora_targets``.
    fill : callable
        Fills the module with the base's tensors; takes tensors of the module's own names that go over them.

    Raises
    ------
    ModelError
        If the files do not fit the module.
    """
    try:
        stored = load_file(files.weights[0])
    except Exception as error:  # a damaged file makes the Rust library raise nearly any kind
        raise ModelError(f"{files.weights[0]}: not a safetensors file, or cut short ({error})") from error
    stored = {
        current_name(_plain(name.removeprefix(ADAPTER_PREFIX))): tensor for name, tensor in stored.items()
    }
    own = module.state_dict()
    fill(over={name: tensor for name, tensor in stored.items() if name in own})
    attach(module, _told(files), targets)
    expected = {_stored(name): weights for name, weights in module.named_parameters() if "lora_" in name}
    lacking = [
        name
        for name, weights in expected.items()
        if name not in stored or stored[name].shape != weights.shape
    ]
    extra = [name for name in stored if "lora_" in name and name not in expected]
    if lacking or extra:
        raise ModelError(
            f"{files.folder}: the adapters do not fit {type(module).__name__}: {format_names(lacking + extra, 3)}"
        )
    with torch.no_grad():
        for name, weights in expected.items():
            weights.copy_(stored[name])


def _told(files: Files) -> LoraConfig:
    """Read peft's config; raise `ModelError` where it asks for more than plain adapters."""
    told = files.adapter
    beyond = [key for key in _BEYOND if told.get(key)]
    if told.get("peft_type", "LORA") != "LORA" or beyond:
        raise ModelError(
            f"{files.folder / ADAPTER_CONFIG}: only plain LoRA is read, not "
            f"{format_names(beyond) if beyond else told['peft_type']}; merge it with peft"
        )
    ends = told.get("target_modules")
    if not isinstance(told.get("r"), int) or not isinstance(ends, list):
        raise ModelError(
            f"{files.folder / ADAPTER_CONFIG}: r must be a number, target_modules a list of names"
        )
    return LoraConfig(
        r=told["r"],
        alpha=told.get("lora_alpha", LoraConfig.alpha),
        dropout=told.get("lora_dropout", 0.0),
        bias=told.get("bias", "none"),
        targets=tuple(ends),
    )


def _ends(name: str, ends: Sequence[str]) -> bool:
    return any(name == end or name.endswith(f".{end}") for end in ends)


def _whole_heads(module: DnaModel) -> list[str]:
    """Return the head's modules of which peft can keep a copy: no containers, and nothing tied to the encoder.

    What is in none of them stands in the file under its own name, where peft finds it too. Nor does peft put adapters
    into these, whatever the names of their layers.
    """
    found: list[str] = []
    for name, each in module.named_modules():  # a module comes before what it holds
        inside = name.startswith(tuple(f"{outer}." for outer in found))
        head = f"{name}.".startswith(HEAD_PREFIXES) and any(True for _ in each.parameters())
        tied = any(key.startswith(f"{name}.") for key in module.all_tied_weights_keys)
        if head and not inside and not tied and not isinstance(each, nn.ModuleDict | nn.ModuleList):
            found.append(name)
    return found


def _is_trained(name: str, module: DnaModel) -> bool:
    if not is_adapted(module) or "lora_" in name or name.startswith(HEAD_PREFIXES):
        return True
    if not name.endswith(".bias") or module.lora.bias == "none":
        return False
    return module.lora.bias == "all" or name.endswith(".base_layer.bias")


def _stored(name: str) -> str:
    """Return a parameter's name as peft's files have it."""
    return name.replace(f".{_NAME}.", ".") if "lora_" in name else name


def _plain(name: str) -> str:
    """Return the name that a parameter had before adapters came."""
    return name.replace(".base_layer.", ".")


def _lasting_name(base: Files) -> str:
    """Return a name under which the base will be found from anywhere."""
    if base.folder.parent == BUNDLED:
        return base.folder.name
    path = Path(base.name)
    return str(path.resolve()) if path.exists() else base.name
