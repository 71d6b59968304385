"""Files of weights: where they are in a folder, the shapes in their headers, and their tensors.

Nothing in a file is executed. Which network the tensors belong to is decided in `zflipon.models.checkpoint`.
"""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from zflipon.errors import ModelError, format_names
from zflipon.json_files import read_json_file

if TYPE_CHECKING:
    from torch import Tensor

WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Names of weights in the layout of transformers, in order of preference."""

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
"""Files with one of these suffixes may hold weights; the last one is that of Lightning."""

STATE_DICT_KEYS = ("model_state_dict", "state_dict", "model")
"""Keys under which training scripts and Lightning store the state dict."""

WRAPPER_PREFIXES = ("module.", "_orig_mod.", "base_model.model.", "model.")
"""Prefixes that wrappers add to every name: DistributedDataParallel, torch.compile, peft and Lightning."""

BUFFERS = re.compile(r"(^|\.)(position_ids|inv_freq|alibi|word_odds|kmers\.log_odds)$")
"""Floating-point tensors of a state dict that are no parameters: constants and k-mer tables."""


def find_weights(path: Path) -> tuple[Path, ...]:
    """Return the files of weights in a folder, or `path` itself if it is a file.

    Raises
    ------
    ModelError
        If there are no weights, several candidates, or missing shards.
    """
    if path.is_file():
        return (path,)
    for name in WEIGHT_FILES:
        if (path / name).is_file():
            return _find_shards(path / name) if name.endswith(".json") else (path / name,)
    if not path.is_dir():
        raise ModelError(f"{path}: neither a regular file nor a folder; expected a checkpoint")
    candidates = sorted(each for each in path.iterdir() if each.suffix in WEIGHT_SUFFIXES and each.is_file())
    if len(candidates) == 1:
        return (candidates[0],)
    if candidates:
        names = format_names(each.name for each in candidates)
        raise ModelError(f"{path}: several files of weights ({names}); name one of them")
    raise ModelError(f"{path}: no weights; model.safetensors or pytorch_model.bin was expected there")


def read_json(path: Path, hint: str = "is the checkpoint complete?") -> dict[str, Any]:
    """Read a JSON object.

    Parameters
    ----------
    path : Path
    hint : str
        Ends the message if the file is missing.

    Raises
    ------
    ModelError
        If the file is missing, not JSON, nested too deeply, or holds no object.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such file; {hint}")
    try:
        content = read_json_file(path)
    except (ValueError, OSError) as error:
        raise ModelError(f"{path}: not JSON ({error}); is the checkpoint complete?") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def read_tensor_sizes(paths: Iterable[Path]) -> dict[str, int]:
    """Return how many numbers each floating-point tensor holds.

    Reads headers of safetensors files without torch; other files are read whole.

    Raises
    ------
    ModelError
        If a file is damaged.
    """
    sizes: dict[str, int] = {}
    for path in paths:
        if path.suffix == ".safetensors":
            sizes |= _sizes_in_header(path)
        else:
            tensors = _read_pickle(path)
            sizes |= {name: each.numel() for name, each in tensors.items() if each.is_floating_point()}
    return without_wrapper_prefixes(sizes)


def count_sizes(sizes: Mapping[str, int]) -> int:
    """Return the number of parameters of tensors given by name and size; constants and tables do not count."""
    return sum(size for name, size in sizes.items() if not BUFFERS.search(name))


def read_tensors(paths: Iterable[Path]) -> dict[str, Tensor]:
    """Read a state dict from a file or its shards; floating-point tensors become float32.

    Raises
    ------
    ModelError
        If a file is damaged, holds anything but dense tensors, or is not a file of weights.
    """
    tensors = without_wrapper_prefixes(read_state_dict(paths))
    return {name: each.float() if each.is_floating_point() else each for name, each in tensors.items()}


def read_state_dict(paths: Iterable[Path]) -> dict[str, Tensor]:
    """Read a state dict from a file or its shards, with names and types as stored.

    Raises
    ------
    ModelError
        As `read_tensors`.
    """
    tensors: dict[str, Tensor] = {}
    for path in paths:
        part = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
        _require_dense(part, path)
        tensors.update(part)
    return tensors


def without_wrapper_prefixes(named: Mapping[str, Any]) -> dict[str, Any]:
    """Remove prefixes of wrappers from names, as long as every name has the prefix."""
    named = dict(named)
    while named and (prefix := _shared_prefix(named)):
        named = {name.removeprefix(prefix): value for name, value in named.items()}
    return named


def _shared_prefix(names: Iterable[str]) -> str | None:
    names = list(names)
    return next((each for each in WRAPPER_PREFIXES if all(name.startswith(each) for name in names)), None)


def _find_shards(index: Path) -> tuple[Path, ...]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise ModelError(f"{index}: has no weight_map; is the checkpoint complete?")
    names = sorted(set(weight_map.values()))
    outside = [name for name in names if Path(name).name != name]
    if outside:
        raise ModelError(f"{index}: shards must be in the same folder, not {format_names(outside)}")
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise ModelError(
            f"{index.parent}: {index.name} names {format_names(missing)}, which does not exist; "
            "is the checkpoint complete?"
        )
    return tuple(index.parent / name for name in names)


def _sizes_in_header(path: Path) -> dict[str, int]:
    try:
        with safe_open(path, "numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return {
                name: math.prod(each.get_shape()) for name, each in slices.items() if "F" in each.get_dtype()
            }
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path}: not a safetensors file, or cut short ({error})") from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except Exception as error:  # the library raises many types for damaged files
        raise ModelError(f"{path}: not a safetensors file, or cut short ({_first_line(error)})") from error


def _read_pickle(path: Path) -> dict[str, Tensor]:
    """Read a file of `torch.save`, restricted to tensors and plain containers."""
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path}: holds more than tensors, or is not a file of weights; "
            "save model.state_dict() with torch.save, or use safetensors"
        ) from error
    except Exception as error:  # torch raises many types for damaged files
        raise ModelError(f"{path}: not a file of weights, or cut short ({_first_line(error)})") from error
    for key in STATE_DICT_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in content.items()
    ):
        raise ModelError(
            f"{path}: holds no state dict (name → tensor); save model.state_dict() with torch.save"
        )
    return dict(content)


def _require_dense(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse tensors without plain numbers in memory."""
    import torch

    for name, tensor in tensors.items():
        if tensor.is_meta:
            problem = "has no values (it is on the meta device)"
        elif tensor.layout != torch.strided:
            problem = "is sparse"
        elif tensor.is_quantized:
            problem = "is quantized"
        elif tensor.is_complex():
            problem = "has complex numbers"
        else:
            continue
        raise ModelError(f"{path}: tensor {name} {problem}; save dense float tensors")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
