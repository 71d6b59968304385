"""Checkpoints that share tensors with a bundled model, so that the package holds these tensors once.

How such a checkpoint is found and read again is in `zflipon.models.files`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from zflipon.checksums import sha256_of
from zflipon.errors import ModelError
from zflipon.models.files import CONFIG, SHARED_WEIGHTS, WEIGHTS_SHA256, locate
from zflipon.models.weight_files import find_weights, read_json, read_state_dict

if TYPE_CHECKING:
    from torch import Tensor


def read_if_shared(folder: object) -> dict[str, Tensor] | None:
    """Return all tensors of a checkpoint that shares some with a bundled model; None for any other checkpoint.

    Parameters
    ----------
    folder : object
        A folder, or whatever else transformers can load.

    Raises
    ------
    ModelError
        If the bundled model has other weights by now.
    """
    if not isinstance(folder, str | Path) or not (Path(folder) / CONFIG).is_file():
        return None
    if SHARED_WEIGHTS not in read_json(Path(folder) / CONFIG):
        return None
    return read_state_dict(locate(folder).whole_weights)


def share_weights(folder: str | Path, model: str) -> int:
    """Remove from a checkpoint the tensors that equal those of a bundled model, and record where they are.

    Parameters
    ----------
    folder : str or Path
        Folder of the checkpoint, with one file of weights in the safetensors format; changed in place.
    model : str
        Name of the bundled model.

    Returns
    -------
    int
        Number of tensors removed.

    Raises
    ------
    ModelError
        If the weights are not one safetensors file, or no tensor is equal.
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    (path, *others) = find_weights(folder)
    if others or path.suffix != ".safetensors":
        raise ModelError(
            f"{folder}: expected one file of weights, model.safetensors; convert the checkpoint first"
        )
    owner = locate(model)
    tensors, shared = read_state_dict([path]), read_state_dict(owner.weights)
    equal = [
        name
        for name, each in tensors.items()
        if name in shared and each.dtype == shared[name].dtype and each.equal(shared[name])
    ]
    if not equal:
        raise ModelError(f"{folder}: no tensor equals one of {model}; there is nothing to share")
    save_file({name: each for name, each in tensors.items() if name not in equal}, path, {"format": "pt"})
    record = {"model": model, "sha256": sha256_of(*owner.weights)}
    config = {**read_json(folder / CONFIG), SHARED_WEIGHTS: record, WEIGHTS_SHA256: sha256_of(path)}
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return len(equal)
