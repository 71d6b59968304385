"""Run a command in several processes on this machine (``--num-processes``), like `torchrun` or `accelerate launch`.

Each worker gets the environment variables from which Accelerate learns its rank. The messages of the first worker are
printed; those of another one only if it is the first to fail. How workers share work is in `zflipon.jobs`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO

import zflipon
from zflipon.cli.options import THREAD_VARIABLES

KILL_AFTER = 20.0
"""Seconds from a signal to a worker until it is killed. A worker may need `zflipon.jobs.job.GRACE_PERIOD` to stop."""

SAME_REASON = 2.0
"""Seconds to wait for the first worker if another one failed: if all fail for one reason, the first one prints it."""

_LAUNCHER = "ZFLIPON_LAUNCHER"  # process id of the launcher, for the worker
_POLL = 0.1
_PR_SET_PDEATHSIG = 1
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

# The current folder must not be a place to import from: a json.py there would replace Python's. `python -m` would put
# it first, and option -P is not known to Python 3.10. The workers import this very copy of zflipon.
_WORKER = (
    "import sys; path = [entry for entry in sys.path if entry]; sys.path[:] = [{root!r}, *path]; import zflipon; "
    "sys.path[:] = [*path, {root!r}]; from zflipon.cli import main; main()"
)


def is_worker() -> bool:
    """Whether a launcher started this process as one of several."""
    return "WORLD_SIZE" in os.environ


def launch(processes: int, threads: int | None = None, arguments: Sequence[str] | None = None) -> int:
    """Run this command in several processes and return the exit status.

    Parameters
    ----------
    processes : int
    threads : int, optional
        CPU threads of each process; by default the cores are divided evenly.
    arguments : sequence of str, optional
        Command and options; those of this process by default.

    Returns
    -------
    int
        0, or the status of the first worker that failed.
    """
    root = str(Path(zflipon.__file__).resolve().parents[1])
    code = _WORKER.format(root=root)
    command = [sys.executable, "-c", code, *(sys.argv[1:] if arguments is None else arguments)]
    workers = _Workers()
    with ExitStack() as stack:
        stack.callback(workers.kill)
        for number in _SIGNALS:
            previous = signal.getsignal(number)
            if previous is not signal.SIG_IGN:
                signal.signal(number, workers.forward)
                stack.callback(signal.signal, number, previous)
        for environment in _environments(processes, threads):
            workers.start(command, environment)
        return workers.wait()


def follow_launcher() -> None:
    """In a worker: stop when the launcher dies, however it dies."""
    launcher = os.environ.pop(_LAUNCHER, "")
    if not launcher.isdigit():
        return
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    threading.Thread(
        target=_watch_launcher, args=(int(launcher),), name="zflipon-launcher", daemon=True
    ).start()


def _watch_launcher(launcher: int) -> None:
    """Stop this process once it has another parent, and kill it if it does not stop."""
    while os.getppid() == launcher:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(KILL_AFTER)
    os.kill(os.getpid(), signal.SIGKILL)


def _environments(processes: int, threads: int | None) -> list[dict[str, str]]:
    """Return the environment variables of each worker."""
    share = threads or max(1, (os.cpu_count() or 1) // processes)
    common = {
        **{name: str(share) for name in THREAD_VARIABLES},
        **os.environ,
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "PYTHONSAFEPATH": "1",  # for processes that a worker starts
        _LAUNCHER: str(os.getpid()),
    }
    return [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]


class _Workers:
    """The running workers, in the order of their ranks."""

    def __init__(self) -> None:
        self._running: list[subprocess.Popen] = []
        self._messages: list[IO[bytes] | None] = []
        self._was_signalled = False
        self._kill_at = float("inf")

    def start(self, command: Sequence[str], environment: dict[str, str]) -> None:
        """Start the worker of the next rank."""
        # standard error of the first rank is that of the launcher
        messages = tempfile.TemporaryFile() if self._running else None  # noqa: SIM115
        self._messages.append(messages)
        # a new session: Ctrl-C reaches the launcher alone, which forwards it once
        worker = subprocess.Popen(command, env=environment, start_new_session=True, stderr=messages)
        self._running.append(worker)

    def wait(self) -> int:
        """Wait for all workers. If one fails, stop the others. Return 0 or the status of the first failure."""
        failed = None
        while True:
            ended = [worker.poll() for worker in self._running]
            if failed is None and any(ended):
                # of workers that failed at the same time, the lowest rank counts
                failed = next(rank for rank, status in enumerate(ended) if status)
                if not self._was_signalled:  # a second signal would not let them finish their shards
                    failed = self._first_of_same_reason(failed)
                    self._stop()
            if None not in ended:
                break
            if time.monotonic() > self._kill_at:
                self.kill()
            time.sleep(_POLL)
        return 0 if failed is None else self._report(failed)

    def forward(self, number: int, _frame) -> None:
        """Signal handler: pass a signal on to all workers."""
        self._was_signalled = True
        self._send(number)
        self._kill_at = min(self._kill_at, time.monotonic() + KILL_AFTER)

    def kill(self) -> None:
        """Kill the workers that still run."""
        self._send(signal.SIGKILL)

    def _stop(self) -> None:
        self._send(signal.SIGTERM)
        self._kill_at = min(self._kill_at, time.monotonic() + KILL_AFTER)

    def _first_of_same_reason(self, failed: int) -> int:
        with suppress(subprocess.TimeoutExpired):
            self._running[0].wait(SAME_REASON)
        return 0 if self._running[0].poll() else failed

    def _report(self, rank: int) -> int:
        """Print the messages of a failed worker and return its exit status, as a shell has it."""
        messages = self._messages[rank]
        if messages is not None:
            messages.seek(0)
            sys.stderr.write(messages.read().decode(errors="replace"))
        status = self._running[rank].returncode
        return status if status >= 0 else 128 - status

    def _send(self, number: int) -> None:
        for worker in self._running:
            if worker.poll() is None:
                worker.send_signal(number)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
