"""Filling a network with the tensors of a checkpoint, strictly: a tensor that does not fit is named, never skipped.

Reading the files is in `zflipon.models.weight_files`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from torch import Tensor

from zflipon.errors import ModelError, format_names
from zflipon.models.base import DnaModel
from zflipon.models.heads.standard import HEAD_PREFIXES
from zflipon.models.weight_files import BUFFERS
from zflipon.models.weights import load_weights

log = logging.getLogger("zflipon")


def fill(
    module: DnaModel,
    tensors: Mapping[str, Tensor],
    source: object,
    allow_new_head: bool,
    replacements: Mapping[str, Tensor] | None = None,
) -> None:
    """Load tensors into a network.

    Parameters
    ----------
    module : DnaModel
        Changed in place.
    tensors : mapping of str to Tensor
        State dict with official names; the encoder's may lack its prefix.
    source : object
        Named in errors.
    allow_new_head : bool
        Whether a head without trained weights may keep random ones; a warning is logged.
    replacements : mapping of str to Tensor, optional
        Tensors by the network's own names that replace some of `tensors`.

    Raises
    ------
    ModelError
        If a tensor is missing, unexpected or has another shape or type.
    """
    expected = module.state_dict()
    tied = module.all_tied_weights_keys
    replacements = {tied.get(name, name): each for name, each in (replacements or {}).items()}
    tensors = {**_with_network_names(tensors, module, expected), **replacements}
    unexpected = [name for name in tensors if name not in expected]
    missing = [name for name in expected if name not in tensors and name not in tied]
    shapes = [
        f"{name} is {_describe(tensors[name])} where config.json asks for {_describe(expected[name])}"
        for name in tensors
        if name in expected and not _fits(tensors[name], expected[name])
    ]
    new_heads = tuple(_untrained_heads(missing, shapes, tensors)) if allow_new_head else ()
    if new_heads:
        names = format_names(sorted(head.rstrip(".") for head in new_heads))
        log.warning(
            "%s: no trained head for '%s'; %s starts with random weights", source, module.objective, names
        )
        tensors = {name: each for name, each in tensors.items() if not name.startswith(new_heads)}
        missing = [name for name in missing if not name.startswith(new_heads)]
        shapes = [text for text in shapes if not text.startswith(new_heads)]
    problems = [
        f"{len(names)} {problem}: {format_names(names, 3)}"
        for problem, names in (
            ("tensors are missing", missing),
            ("tensors are unexpected", unexpected),
            ("tensors have the wrong shape", shapes),
        )
        if names
    ]
    if problems:
        raise ModelError(f"{source}: the weights do not fit {type(module).__name__}; {'; '.join(problems)}")
    load_weights(module, tensors)


def _fits(tensor: Tensor, expected: Tensor) -> bool:
    return tensor.shape == expected.shape and tensor.is_floating_point() == expected.is_floating_point()


def _untrained_heads(missing: list[str], shapes: list[str], tensors: Mapping[str, Tensor]) -> set[str]:
    """Return the prefixes of heads that a checkpoint has no tensors of, or tensors of another shape."""
    heads = set()
    for head in HEAD_PREFIXES:
        in_network = any(name.startswith(head) for name in missing)
        in_file = any(name.startswith(head) for name in tensors)
        if (in_network and not in_file) or any(text.startswith(head) for text in shapes):
            heads.add(head)
    return heads


def _with_network_names(
    tensors: Mapping[str, Tensor], module: DnaModel, expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return tensors by the names of the network, without constants and without heads that it lacks."""
    prefix = module.base_model_prefix + "."
    if not any(name.startswith(prefix) for name in tensors):  # an encoder was saved without its head
        tensors = {
            prefix + name if prefix + name in expected else name: each for name, each in tensors.items()
        }
    absent = tuple(head for head in HEAD_PREFIXES if not any(name.startswith(head) for name in expected))
    named = {
        name: each
        for name, each in tensors.items()
        if name in expected or not (BUFFERS.search(name) or name.startswith(absent))
    }
    for name, source in module.all_tied_weights_keys.items():
        tensor = named.pop(name, None)
        if tensor is not None:
            named.setdefault(source, tensor)
    return named


def _describe(tensor: Tensor) -> str:
    shape = " x ".join(map(str, tensor.shape)) or "a number"
    return shape if tensor.is_floating_point() else f"{shape} of {str(tensor.dtype).removeprefix('torch.')}"
