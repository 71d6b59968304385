"""The processes of one run: how they find each other and share a value.

Launching processes is the work of `zflipon.cli.launch`; dividing shards among them that of `zflipon.jobs.journal`.
"""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from zflipon.errors import MainProcessError, ZfliponError

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

RENDEZVOUS_TIMEOUT = 300.0
"""Seconds to wait until all processes have started and found each other."""

COLLECTIVE_TIMEOUT = 3600.0
"""Seconds to wait for the other processes in one call of torch.distributed."""

SILENCE_TIMEOUT = 3600.0
"""Seconds to wait for a main process that shows no sign of life. One that shows it may compute for days."""

HEARTBEAT = 5.0
"""Seconds between two signs of life of the main process while it computes a value for all."""

_POLL = 0.1
_LAUNCHER_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")

Value = TypeVar("Value")


class _Blocked:
    """Whether a call into torch.distributed was abandoned, so that its thread may never end."""

    abandoned = False


_broadcasts = itertools.count()
"""Numbers of the values of the main process: all processes call `broadcast_from_main` in the same order."""


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
    store, key = _shared_store(state), f"zflipon/{next(_broadcasts)}"
    if state.is_main_process:
        try:
            with signs_of_life(store, key) if store else nullcontext():
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
            if store and not state.is_main_process:
                _call_in_thread(lambda: wait_for_main_process(store, key), math.inf, "the main process")
            _call_in_thread(broadcast, COLLECTIVE_TIMEOUT, "the main process")
        except RuntimeError as error:  # gloo, NCCL and the store: a connection was closed
            reason = str(error).splitlines()[0][:200]
            raise ZfliponError(
                f"another process of this run has ended ({reason}); run the same command again to resume"
            ) from error
    value, error = value_and_error
    if error is not None:
        raise error if state.is_main_process else MainProcessError(str(error))
    return value


def compute_in_main_first(state: PartialState, compute: Callable[[], Value]) -> Value:
    """Compute a value in each process: first in the main process, whose files the others may read.

    Raises
    ------
    ZfliponError
        As `broadcast_from_main`.
    """
    own: list[Value] = []
    broadcast_from_main(state, lambda: own.append(compute()))
    return own[0] if own else compute()


@contextmanager
def signs_of_life(store: Store, key: str, interval: float = HEARTBEAT) -> Iterator[None]:
    """Show the other processes that this one still works inside the block, and then that it has finished.

    Parameters
    ----------
    store : torch.distributed.Store
        Shared by all processes.
    key : str
        Of this block.
    interval : float
        Seconds between two signs.
    """
    finished = Event()

    def show() -> None:
        with suppress(RuntimeError):  # the store is gone: whatever uses it next reports that
            while not finished.wait(interval):
                store.add(f"{key}/signs", 1)

    thread = Thread(target=show, name="zflipon-signs-of-life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
        with suppress(RuntimeError):
            store.set(f"{key}/finished", "")


def wait_for_main_process(
    store: Store,
    key: str,
    timeout: float = SILENCE_TIMEOUT,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[], None] = lambda: time.sleep(_POLL),
) -> None:
    """Wait until the main process leaves its block of `signs_of_life`, for as long as it shows signs of life.

    A collective operation would end after the timeout of the process group, however well the main process works; with
    NCCL it would occupy the GPU meanwhile.

    Parameters
    ----------
    store : torch.distributed.Store
    key : str
        As of `signs_of_life`.
    timeout : float
        Longest time between two signs, in the unit of the clock: seconds.
    clock : callable
        Returns the time.
    pause : callable
        Called between two looks at the store.

    Raises
    ------
    ZfliponError
        If no sign came for longer than `timeout`.
    RuntimeError
        If the store is gone: the process that has it has ended.
    """
    signs, seen_at = -1, clock()
    while not store.check([f"{key}/finished"]):
        count, now = store.add(f"{key}/signs", 0), clock()
        if count != signs:
            signs, seen_at = count, now
        elif now - seen_at > timeout:
            raise ZfliponError(
                f"the main process has shown no sign of life for {timeout:.0f} s; check that it still runs"
            )
        pause()


def _shared_store(state: PartialState) -> Store | None:
    """Return the store of the process group, or None if there is one process."""
    if state.num_processes == 1 or not torch.distributed.is_initialized():
        return None
    from torch.distributed.distributed_c10d import _get_default_store  # some builds of torch have none

    return _get_default_store()


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
