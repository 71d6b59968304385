"""Which parts of a model compute in the precision of autocast, and which in that of their weights."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def without_autocast(device: torch.device) -> torch.autocast:
    """Compute in the precision of weights and states, whatever precision the encoder uses."""
    return torch.autocast(device.type, enabled=False)


def without_autocast_on_cpu(device: torch.device) -> AbstractContextManager:
    """Compute in the precision of the weights on a CPU.

    On a GPU autocast stays, because a base head takes much of the time of a small model there.
    """
    return without_autocast(device) if device.type == "cpu" else nullcontext()
