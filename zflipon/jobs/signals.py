"""Requests to stop a job, and the signals that make them.

Workflows only read a `StopRequest`. Signal handlers are installed by the command line, through `stop_on_signals`.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from zflipon.errors import Stopped

STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Signals that stop a job."""


class StopRequest:
    """Whether somebody wants a job to stop. Another thread or a signal handler may set it.

    Attributes
    ----------
    signal_number : int
        Signal that made the request, 0 if there was none.
    is_deferred : bool
        True while a job checks the request itself, so that it can finish what it is doing. Otherwise a signal stops
        the program at once.
    """

    def __init__(self) -> None:
        self.signal_number = 0
        self.is_deferred = False

    def request(self, signal_number: int = signal.SIGTERM) -> None:
        """Ask the job to stop soon."""
        self.signal_number = signal_number

    def __bool__(self) -> bool:
        return bool(self.signal_number)


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn SIGINT, SIGTERM and SIGHUP into a stop request while the body runs.

    The first signal lets a running job finish its shard; the second stops it at once, as does the first one if no job
    is running. Signals that the process ignores (`nohup`, background jobs of a shell) stay ignored. In a thread other
    than the main one, Python has no signal handlers and the request stays empty.
    """
    stop = StopRequest()

    def handle(number: int, _frame: FrameType | None) -> None:
        if stop or not stop.is_deferred:
            raise Stopped(number, "stopped")
        stop.request(number)

    with signal_handlers(handle):
        yield stop


@contextmanager
def signal_handlers(handle) -> Iterator[None]:
    """Call ``handle(number, frame)`` for each of `STOP_SIGNALS` that is not ignored, while the body runs."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    previous = {number: handler for number, handler in previous.items() if handler is not signal.SIG_IGN}
    try:
        for number in previous:
            signal.signal(number, handle)
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
