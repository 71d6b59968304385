"""Several processes on this machine: the short form of what `accelerate launch` and `torchrun` do.

Each process gets the variables by which Accelerate knows its place, as those launchers set them; if one fails, the
others are told to stop, and the failure stands alone.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from zflipon.cli.options import THREAD_VARIABLES

_LOOK = 0.1


def launched() -> bool:
    """Tell whether a launcher has started this process."""
    return "WORLD_SIZE" in os.environ


def launch(processes: int, threads: int | None = None, words: Sequence[str] | None = None) -> int:
    """Run this very command in several processes; return its exit status.

    Parameters
    ----------
    processes : int
    threads : int, optional
        CPU threads of each; by default they share the cores.
    words : sequence of str, optional
        The command's words; those of this process by default.

    Returns
    -------
    int
        0, or the status of the first process that failed.
    """
    words = [sys.executable, "-m", "zflipon", *(sys.argv[1:] if words is None else words)]
    common = {"WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1"}
    common["MASTER_PORT"] = _free_port()
    share = threads or max(1, (os.cpu_count() or 1) // processes)
    common |= {name: os.environ.get(name, share) for name in THREAD_VARIABLES}
    running: list[subprocess.Popen] = []
    passed_on: list[int] = []

    def pass_on(number: int, _frame) -> None:  # each says for itself how it ends
        passed_on.append(number)
        _send(running, number)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, pass_on)
        for rank in range(processes):
            place = {**common, "RANK": rank, "LOCAL_RANK": rank}
            environment = {**os.environ, **{name: str(value) for name, value in place.items()}}
            # of a group of its own, or Ctrl-C would reach it twice
            running.append(subprocess.Popen(words, env=environment, start_new_session=True))
        return _watch(running, passed_on)
    finally:
        _send(running, signal.SIGKILL)
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch(running: list[subprocess.Popen], passed_on: list[int]) -> int:
    """Wait for all; when one fails, stop the others. The first process writes the tracks, so it ends last."""
    status = 0
    while any(process.poll() is None for process in running):
        failed = next((process for process in running if process.poll()), None)
        if failed is not None and not status:
            status = _status(failed)
            if not passed_on:  # a second signal would not let them finish what they are at
                _send(running, signal.SIGTERM)
        time.sleep(_LOOK)
    return status or next((_status(process) for process in running if process.poll()), 0)


def _send(running: Sequence[subprocess.Popen], number: int) -> None:
    for process in running:
        if process.poll() is None:
            process.send_signal(number)


def _status(process: subprocess.Popen) -> int:
    """Return the exit status as a shell has it."""
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]
