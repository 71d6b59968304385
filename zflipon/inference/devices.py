"""Devices and precisions: resolve their names, and know the limits of each kind of device.

Nothing here depends on a model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch

from zflipon.errors import ModelError, ZfliponError
from zflipon.jobs.distributed import process_state

PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "int8": torch.int8,
}
"""Name of a precision → torch dtype."""

LARGE_MODEL_PARAMETERS = 20_000_000
"""Parameters from which a model spends most of its time in matrix products."""

_OUT_OF_MEMORY_MESSAGES = (
    "can't allocate memory",  # CPU
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


@dataclass(frozen=True)
class DeviceProfile:
    """How much work a kind of device gets at a time.

    Attributes
    ----------
    tokens_per_batch : int
        Tokens of a batch, padding included, if the user sets no batch size.
    bases_per_batch : int
        The same in bases, for models that read a wide context instead of tokens.
    bases_per_first_factor : int
        Bases per call of the first factor.
    prefetch_batches : int
        Batches that are read and tokenized while the model works.
    tokenizer_threads : int or None
        Threads that tokenize and collate, one task each; None tokenizes in the prefetch thread.
    trim_from_tokens : int or None
        A batch of more tokens than this ends where padding would exceed `MAX_PADDING`; None never trims.
    """

    tokens_per_batch: int
    bases_per_batch: int
    bases_per_first_factor: int
    prefetch_batches: int
    tokenizer_threads: int | None = None
    trim_from_tokens: int | None = None


DEVICE_PROFILES = {
    # each core runs its own batch: with four times the tokens, DNABERT-2 takes 1.4 times as long
    # (benchmarks/precisions.py). Batches are small, so more of them are prefetched. One thread tokenizes, because the
    # cores are busy and a process should not claim shards long before it needs them
    "cpu": DeviceProfile(1 << 10, 1 << 16, 1 << 18, 24),
    "mps": DeviceProfile(1 << 15, 1 << 18, 1 << 15, 4),
    # one tokenizer thread would leave the GPU idle
    "cuda": DeviceProfile(1 << 18, 1 << 21, 1 << 20, 4, tokenizer_threads=3, trim_from_tokens=1 << 15),
}
"""Type of a torch device → its profile. Batches fit the smallest device of a kind."""


def device_profile(device: torch.device) -> DeviceProfile:
    """Return the profile of a device; the CPU's for an unknown kind."""
    return DEVICE_PROFILES.get(device.type, DEVICE_PROFILES["cpu"])


def resolve_device(name: str) -> torch.device:
    """Return the device of a name.

    Parameters
    ----------
    name : str
        A torch device, or ``'auto'``: the CUDA device of this process, else MPS, else CPU.

    Raises
    ------
    ZfliponError
        If there is no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return cast(torch.device, process_state().device)  # set whenever the state exists
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ZfliponError(f"device {name!r} is not available ({str(error).splitlines()[0]})") from error
    return device


def resolve_precision(name: str, device: torch.device, gains: bool = False) -> torch.dtype:
    """Return the dtype of a precision.

    Parameters
    ----------
    name : str
        A key of `PRECISIONS`, or ``'auto'``: bfloat16 on a GPU that supports it and, for a model that gains from it,
        on a CPU with bfloat16 instructions; otherwise float32.
    device : torch.device
    gains : bool
        Whether bfloat16 makes the model faster on a CPU: `gains_from_bfloat16`.

    Raises
    ------
    ModelError
        If the precision is unknown, or int8 and the device is not a CPU.
    """
    if name == "auto":
        if device.type == "cuda":
            use_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            use_bfloat16 = device.type == "cpu" and gains and has_bfloat16_instructions()
        return torch.bfloat16 if use_bfloat16 else torch.float32
    if name not in PRECISIONS:
        raise ModelError(f"precision {name!r} is unknown; expected auto, {', '.join(PRECISIONS)}")
    if name == "int8" and device.type != "cpu":
        raise ModelError(
            f"precision 'int8' is for CPUs, and the device is {device}; use bfloat16 or --device cpu"
        )
    return PRECISIONS[name]


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Compute matrix products and convolutions in half precision, if that is what the dtype is."""
    is_half = dtype in (torch.bfloat16, torch.float16)
    return torch.autocast(device.type, dtype if is_half else torch.bfloat16, enabled=is_half)


def precision_name(dtype: torch.dtype) -> str:
    """Return the name of a dtype, such as ``'bfloat16'``."""
    return str(dtype).removeprefix("torch.")


def has_bfloat16_instructions() -> bool:
    """Return whether this CPU multiplies bfloat16 matrices in hardware (AVX512-BF16 or AMX)."""
    # these functions are private in torch, and some builds lack them
    checks = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(check is not None and check() for check in checks)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether an error is a lack of memory. On CPUs and in cuBLAS only the message shows it."""
    message = str(error)
    return isinstance(error, torch.OutOfMemoryError) or any(
        text in message for text in _OUT_OF_MEMORY_MESSAGES
    )


def peak_device_memory(device: torch.device) -> int:
    """Return the peak memory of a GPU that tensors of this process used so far, in bytes; 0 on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
