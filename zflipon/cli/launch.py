"""Several processes on this machine: the short form of what `accelerate launch` and `torchrun` do.

Each process gets the variables by which Accelerate knows its place, as those launchers set them. The first one speaks
for all; if another fails, what it said is told. If one fails, the rest are told to stop.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import IO

from zflipon.cli.options import THREAD_VARIABLES

_LOOK, _TOGETHER = 0.1, 2.0


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
    words_of: list[IO] = []
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
            words_of.append(tempfile.TemporaryFile() if rank else sys.stderr)  # noqa: SIM115
            running.append(
                subprocess.Popen(
                    words, env=environment, start_new_session=True, stderr=words_of[rank] if rank else None
                )
            )
        failed = _watch(running, passed_on)
        if failed is None:
            return 0
        if failed:
            words_of[failed].seek(0)
            sys.stderr.write(words_of[failed].read().decode(errors="replace"))
        return _status(running[failed])
    finally:
        _send(running, signal.SIGKILL)
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch(running: list[subprocess.Popen], passed_on: list[int]) -> int | None:
    """Wait for all; when one fails, stop the others. Return the rank that failed first, if any did.

    Of those that are found to have failed together, the lowest rank counts.
    """
    first = None
    while True:
        ended = [process.poll() for process in running]
        if first is None and any(ended):
            first = next(rank for rank, status in enumerate(ended) if status)
            if not passed_on:  # a second signal would not let them finish what they are at
                _grace(running[0])
                if running[0].poll():
                    first = 0
                _send(running, signal.SIGTERM)
        if None not in ended:
            return first
        time.sleep(_LOOK)


def _grace(process: subprocess.Popen) -> None:
    """Wait a moment for a process: where all fail for one reason, the first should be the one that says so."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(_TOGETHER)


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
