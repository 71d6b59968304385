"""The processes of a job: the rank of this one, and values that the main process sends to all others.

Starting the processes is the task of `zflipon.cli.launch` or of ``accelerate launch``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from zflipon.errors import ZfliponError

Value = TypeVar("Value")


def process_state(device: str = "auto") -> PartialState:
    """Return rank, number of processes and device of this process, however the processes were started.

    Parameters
    ----------
    device : str
        As in `zflipon.config.InferenceConfig`. Processes communicate through gloo if it is a CPU.
    """
    has_accelerator = torch.cuda.is_available() or torch.backends.mps.is_available()
    return PartialState(cpu=device.startswith("cpu") or (device == "auto" and not has_accelerator))


def broadcast_from_main(state: PartialState, compute: Callable[[], Value]) -> Value:
    """Call `compute` in the main process and return its result in every process.

    If `compute` raises a `ZfliponError`, the main process raises it and all others exit with status 1, so that the
    message is printed once.
    """
    payload: list = [None, None]
    if state.is_main_process:
        try:
            payload[0] = compute()
        except ZfliponError as error:
            payload[1] = error
    if state.num_processes > 1:
        broadcast_object_list(payload)
    result, error = payload
    if error is not None:
        if state.is_main_process:
            raise error
        sys.exit(1)
    return result
