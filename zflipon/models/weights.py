"""Building a model without random weights and loading tensors into it; parameter names of earlier checkpoints.

Which tensors a checkpoint must have is checked in `zflipon.models.checkpoint`, before they are loaded here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from zflipon.models.weight_files import count_sizes

if TYPE_CHECKING:
    from zflipon.models.base import DnaModel

    Model = TypeVar("Model", bound=DnaModel)

_CONTEXT_LAYERS = "motifs|motif_norm|motif_pairs|token_norm|token_projection"

KEY_MAPPING = {
    r"^decide\.": "output.",
    r"^base_head\.forms\.": "base_head.can_form.",
    r"^base_head\.flips\.": "base_head.is_formed.",
    r"^base_head\.word_odds": "base_head.kmers.log_odds",
    rf"^base_head\.(?=({_CONTEXT_LAYERS})\.)": "base_head.context.",
    r"^base_head\.context_norms\.": "base_head.context.norms.",
    r"^base_head\.context_convolutions\.": "base_head.context.convolutions.",
    r"^base_head\.context_norm\.": "base_head.context.output_norm.",
}
"""Patterns of parameter names in checkpoints before 1.0 → their names now."""


def current_name(name: str) -> str:
    """Return the present name of a parameter, or of a prefix of parameters, of an earlier checkpoint.

    Examples
    --------
    >>> current_name("base_head.flips.weight")
    'base_head.is_formed.weight'
    >>> current_name("base_head.entry.weight")
    'base_head.entry.weight'
    """
    whole = name if name.count(".") > 1 else f"{name}."  # a prefix such as base_head.flips
    for pattern, replacement in KEY_MAPPING.items():
        renamed, count = re.subn(pattern, replacement, whole)
        if count:
            return renamed if whole == name else renamed.removesuffix(".")
    return name


def build_empty(model_class: type[Model], config: PretrainedConfig) -> Model:
    """Build a model on the meta device, which takes no memory and no time; fill it with `load_weights`.

    Parameters
    ----------
    model_class : type of DnaModel
    config : PretrainedConfig

    Raises
    ------
    ModelError
        If the configuration is impossible.
    """
    with torch.device("meta"):
        return model_class(config)


def load_weights(model: DnaModel, tensors: Mapping[str, Tensor]) -> None:
    """Make tensors the parameters and buffers of a model; what they lack is initialized at random on the CPU.

    Parameters
    ----------
    model : DnaModel
        For example from `build_empty`; changed in place.
    tensors : mapping of str to Tensor
        By the model's own names, without unknown ones; used themselves, not copied.
    """
    model.load_state_dict(dict(tensors), strict=False, assign=True)
    model.tie_weights()
    _initialize_missing(model, model)
    model.tie_weights()


def _initialize_missing(module: nn.Module, owner: PreTrainedModel) -> None:
    """Give memory to all tensors still on the meta device, and initialize them by the rules of their model.

    These are heads without trained weights, and buffers that no checkpoint stores.
    """
    owner = module if isinstance(module, PreTrainedModel) else owner
    for child in module.children():
        _initialize_missing(child, owner)
    own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    missing = {name: tensor for name, tensor in own if tensor.is_meta}
    for name, tensor in missing.items():
        empty = torch.empty_like(tensor, device="cpu")
        if isinstance(tensor, nn.Parameter):
            empty = nn.Parameter(empty, requires_grad=tensor.requires_grad)
        setattr(module, name, empty)
    if missing:
        with torch.no_grad():
            owner._init_weights(module)


def count_parameters(module: nn.Module) -> int:
    """Return the number of parameters of a module, as `count_sizes` counts them in the files of a checkpoint."""
    return count_sizes({name: parameter.numel() for name, parameter in module.named_parameters()})
