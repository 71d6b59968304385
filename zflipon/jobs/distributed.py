"""The processes of one run: how they find each other and share a value.

Launching processes is the work of `zflipon.cli.launch`; dividing shards among them that of `zflipon.jobs.journal`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import timedelta
from threading import Thread
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from zflipon.errors import MainProcessError, ZfliponError

RENDEZVOUS_TIMEOUT = 300.0
"""Seconds to wait until all processes have started and found each other."""

COLLECTIVE_TIMEOUT = 3600.0
"""Seconds to wait for a value of the main process. It may have to read a whole genome first."""

_POLL = 0.1
_LAUNCHER_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")

Value = TypeVar("Value")


class _Blocked:
    """Whether a call into torch.distributed was abandoned, so that its thread may never end."""

    abandoned = False


def process_state(device: str = "auto") -> PartialState:
    """Return the rank of this process and the number of processes; join the other processes on the first call.

    Parameters
    ----------
    device : str
        As in `zflipon.config.InferenceConfig`.

    Raises
    ------
    ZfliponError
        If the variables of a launcher are incomplete, or the other processes do not start in time.
    """
    accelerated = torch.cuda.is_available() or torch.backends.mps.is_available()
    on_cpu = device.startswith("cpu") or (device == "auto" and not accelerated)
    if not _is_launched() or torch.distributed.is_initialized():
        return PartialState(cpu=on_cpu)
    return _join_processes(on_cpu)


def broadcast_from_main(state: PartialState, compute: Callable[[], Value]) -> Value:
    """Compute a value in the main process and return it in all processes.

    Raises
    ------
    ZfliponError
        In the main process, if `compute` raises it; in any process, if another one has ended.
    MainProcessError
        In all other processes, if `compute` raises a `ZfliponError` in the main process.
    """
    value_and_error: list[Any] = [None, None]
    if state.is_main_process:
        try:
            value_and_error[0] = compute()
        except ZfliponError as error:
            value_and_error[1] = error
    if state.num_processes > 1:

        def broadcast() -> None:
            if (
                state.device is not None and state.device.type == "cuda"
            ):  # the current device belongs to a thread
                torch.cuda.set_device(state.device)
            broadcast_object_list(value_and_error)

        try:
            _call_in_thread(broadcast, COLLECTIVE_TIMEOUT, "the main process")
        except RuntimeError as error:  # gloo and NCCL: a connection was closed
            reason = str(error).splitlines()[0][:200]
            raise ZfliponError(
                f"another process of this run has ended ({reason}); run the same command again to resume"
            ) from error
    value, error = value_and_error
    if error is not None:
        raise error if state.is_main_process else MainProcessError(str(error))
    return value


def leave_process_group() -> bool:
    """Leave the other processes, if this process has joined any.

    Returns
    -------
    bool
        False if a call into torch.distributed is still blocked. The interpreter must then end without waiting for
        its threads (`os._exit`).
    """
    if _Blocked.abandoned:
        return False
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    return True


def _is_launched() -> bool:
    """Whether this process is one of several; raise `ZfliponError` if the variables of its launcher are incomplete."""
    size = os.environ.get("WORLD_SIZE", "1")
    if not size.isascii() or not size.isdigit() or int(size) < 1:
        raise ZfliponError(
            f"WORLD_SIZE is {size!r}, expected the number of processes; unset it to run in one process"
        )
    if int(size) == 1:
        return False
    missing = [name for name in _LAUNCHER_VARIABLES if not os.environ.get(name)]
    if missing:
        raise ZfliponError(
            f"WORLD_SIZE={size} says that this is one of {size} processes, but {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not set. Start the processes with --num-processes, torchrun or "
            "accelerate launch, or unset WORLD_SIZE"
        )
    return True


def _join_processes(on_cpu: bool) -> PartialState:
    """Wait until all processes have started; raise `ZfliponError` if they do not."""
    rank, size = os.environ["RANK"], os.environ["WORLD_SIZE"]

    def join() -> tuple[PartialState, int]:
        state = PartialState(cpu=on_cpu, timeout=timedelta(seconds=COLLECTIVE_TIMEOUT))
        return state, torch.get_num_threads()

    try:
        state, threads = _call_in_thread(
            join, RENDEZVOUS_TIMEOUT, f"the other processes (rank {rank} of {size})"
        )
    except (RuntimeError, ValueError) as error:  # torch's DistError is a RuntimeError
        raise ZfliponError(
            f"rank {rank} of {size} cannot join the other processes at "
            f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']} ({str(error).splitlines()[0]})"
        ) from error
    if state.device is not None and state.device.type == "cuda":
        torch.cuda.set_device(state.device)
    if threads != torch.get_num_threads():  # accelerate set it, for its own thread only
        torch.set_num_threads(threads)
    return state


def _call_in_thread(call: Callable[[], Value], timeout: float, awaited: str) -> Value:
    """Run a blocking call of torch.distributed in a thread; raise `ZfliponError` if it takes too long.

    Python runs signal handlers in the main thread and only between its own instructions. A process that waits inside
    torch's C++ code in the main thread ignores SIGTERM.
    """
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((call(), None))
        except BaseException as error:  # raised again in the calling thread
            outcome.append((None, error))

    thread = Thread(target=run, name="zflipon-distributed", daemon=True)
    deadline = time.monotonic() + timeout
    _Blocked.abandoned = True
    thread.start()
    while thread.is_alive():
        thread.join(_POLL)
        if thread.is_alive() and time.monotonic() > deadline:
            raise ZfliponError(
                f"waited {timeout:.0f} s for {awaited}; check that all processes were started and still run"
            )
    _Blocked.abandoned = False
    value, error = outcome[0]
    if error is not None:
        raise error
    return value
