"""What a run computes with: processes, devices, precisions."""

from __future__ import annotations

import torch

from zflipon.errors import ModelError, ZfliponError
from zflipon.jobs.distributed import process_state

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

LARGE = 20_000_000
"""Parameters from which a model's time goes into matrix products."""


def pick_device(name: str) -> torch.device:
    """Return the device of that name; ``'auto'`` is this process's GPU if there is one, then MPS, then CPU."""
    if name == "auto":
        if torch.cuda.is_available():
            return process_state().device
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ZfliponError(f"device {name!r} is not to be had here ({str(error).splitlines()[0]})") from error
    return device


def pick_precision(name: str, device: torch.device, parameters: int = 0) -> torch.dtype:
    """Return the precision of a name.

    Parameters
    ----------
    name : str
        A key of `PRECISIONS`, or ``'auto'``: bfloat16 on a GPU that computes in it and, for a large model, on a CPU
        that is fast in it; else float32.
    device : torch.device
    parameters : int
        Numbers in the model's weights; a small model's time does not go into matrix products, which is what a CPU is
        faster in.
    """
    if name == "auto":
        if device.type == "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            fast = device.type == "cpu" and parameters >= LARGE and is_fast_in_bfloat16()
        return torch.bfloat16 if fast else torch.float32
    if name not in PRECISIONS:
        raise ModelError(f"precision {name!r} is unknown; expected auto, {', '.join(PRECISIONS)}")
    return PRECISIONS[name]


def size_of(module: torch.nn.Module) -> int:
    """Return how many numbers a module's weights are."""
    return sum(weights.numel() for weights in module.parameters())


def is_fast_in_bfloat16() -> bool:
    """Tell whether this CPU has instructions for products in bfloat16 (AVX512-BF16 or AMX)."""
    # torch keeps them private, and some builds have them not
    checks = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(check is not None and check() for check in checks)
