"""Run commands in child processes with limits of time and memory, and classify how they end.

Children are forks of a process that has imported everything, so that thousands of commands take minutes.
"""

from __future__ import annotations

import importlib
import os
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MAX_MEMORY = 4 << 30
"""Bytes of memory that a command may use."""

MAX_SECONDS = 900.0
"""Seconds that a command may take."""

MAX_CPU_SECONDS = 60
"""Seconds of one core that a command may take. It counts the same on a busy computer."""

_MODULES = (
    "zflipon.workflows.annotate",
    "zflipon.workflows.evaluate",
    "zflipon.workflows.provenance",
    "zflipon.workflows.variants.run",
    "zflipon.report.bundle",
    "zflipon.explain.ranking",
    "zflipon.explain.kmers",
    "zflipon.models.families.bert",
    "zflipon.models.families.compact",
    "zflipon.models.adapters",
    "zflipon.training.sweeps",
    *(
        f"zflipon.cli.{name}"
        for name in ("annotate", "variants", "evaluate", "explain", "train", "models", "bundle", "provenance")
    ),
    "peft",
    "safetensors.torch",
)
_POLL = 0.01
_ALLOWED_STATUS = (0, 1, 2)


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes
    ----------
    status : int
        Exit status, or minus the number of the signal that ended it.
    stdout, stderr : str
    seconds : float
    memory : int
        Largest resident memory above that of its parent, in bytes.
    stopped : str
        ``time`` or ``memory`` if it was stopped for reaching that limit, else empty.
    """

    status: int
    stdout: str
    stderr: str
    seconds: float
    memory: int
    stopped: str = ""

    @property
    def fault(self) -> str:
        """Why this is a fault of the program, or an empty string."""
        if self.stopped:
            return {"time": "hang", "memory": "memory"}[self.stopped]
        if "Traceback (most recent call last)" in self.stderr or "Fatal Python error" in self.stderr:
            return "traceback"
        if self.status not in _ALLOWED_STATUS:
            return "crash"
        lines = [line for line in self.stderr.splitlines() if line.startswith("zflipon: error: ")]
        if (
            self.status == 1 and len(lines) != 1 and (lines or not self.stdout)
        ):  # provenance prints what differs
            return "no message"
        return "escape" if re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e]", self.stderr) else ""

    @property
    def has_warning(self) -> bool:
        """Whether the command reported something about its input."""
        return bool(
            re.search(
                r"warning|ignored|dropped|skipped|clipped|left out|no record|without", self.stderr, re.I
            )
        )

    @property
    def last_line(self) -> str:
        """The last line of standard error that names an error."""
        lines = [line for line in self.stderr.splitlines() if line.strip()]
        return lines[-1] if lines else ""


def preload() -> None:
    """Import what the commands need, so that their children do not."""
    for name in _MODULES:
        importlib.import_module(name)


def run_command(
    arguments: Sequence[str],
    folder: Path,
    limits: dict[int, int] | None = None,
    seconds: float = MAX_SECONDS,
    environment: dict[str, str] | None = None,
) -> Outcome:
    """Run a command of zflipon in a child process.

    Parameters
    ----------
    arguments : sequence of str
        Command line without the program's name.
    folder : Path
        Current folder of the command.
    limits : dict of int to int, optional
        Resource limits by number, such as ``resource.RLIMIT_FSIZE``.
    seconds : float
        Time after which it is stopped.
    environment : dict of str to str, optional
        Variables to add.

    Returns
    -------
    Outcome
    """
    # pipes, not files: a limit of file size must not silence the messages
    with _Pipe() as stdout, _Pipe() as stderr:
        base = _anonymous(os.getpid())  # a child starts with the memory of its parent
        child = start(
            lambda: run_cli(arguments), folder, stdout.write_end, stderr.write_end, limits, environment
        )
        started, peak, stopped = time.monotonic(), 0, ""
        while True:
            pid, status = os.waitpid(child, os.WNOHANG)
            stdout.drain()
            stderr.drain()
            if pid:
                break
            peak = max(peak, _anonymous(child) - base)
            if peak > MAX_MEMORY or time.monotonic() - started > seconds:
                stopped = "memory" if peak > MAX_MEMORY else "time"
                os.kill(child, signal.SIGKILL)
                _, status = os.waitpid(child, 0)
                break
            time.sleep(_POLL)
        code = os.waitstatus_to_exitcode(status)
        if code == -signal.SIGXCPU:
            stopped = "time"
        return Outcome(code, stdout.text(), stderr.text(), time.monotonic() - started, peak, stopped)


class _Pipe:
    """What a child writes, read without blocking."""

    def __init__(self):
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        self._parts: list[bytes] = []

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        os.close(self._read_end)
        os.close(self.write_end)

    def drain(self) -> None:
        with suppress(BlockingIOError):
            while part := os.read(self._read_end, 1 << 16):
                self._parts.append(part)

    def text(self) -> str:
        self.drain()
        return b"".join(self._parts).decode(errors="replace")


def start(
    body: Callable[[], int],
    folder: Path,
    stdout: int,
    stderr: int,
    limits: dict[int, int] | None = None,
    environment: dict[str, str] | None = None,
) -> int:
    """Start a function in a child process and return its process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        os.setpgid(0, 0)
        os.chdir(folder)
        os.environ.update(environment or {})
        null = os.open(os.devnull, os.O_RDONLY)
        for number, descriptor in enumerate((null, stdout, stderr)):
            os.dup2(descriptor, number)
        sys.stdin, sys.stdout, sys.stderr = (
            open(number, mode, closefd=False)  # noqa: SIM115 (the streams of the process)
            for number, mode in enumerate("rww")
        )
        bounds = {resource.RLIMIT_CORE: 0, resource.RLIMIT_CPU: MAX_CPU_SECONDS, **(limits or {})}
        for number, bound in bounds.items():
            resource.setrlimit(number, (bound, bound))
        status = body()
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
        with suppress(Exception):
            sys.stderr.flush()
        os._exit(status)


def run_cli(arguments: Sequence[str]) -> int:
    """Run the command line in this process and return its status."""
    from zflipon.cli import main

    sys.argv = ["zflipon", *arguments]
    try:
        try:
            main()
        except SystemExit as error:
            return error.code if isinstance(error.code, int) else int(error.code is not None)
    except SystemExit as error:  # a signal that came at the end
        return int(error.code or 0)
    return 0


def _anonymous(pid: int) -> int:
    """Return the bytes of memory of a process that no file backs; 0 if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        return int(status.split("RssAnon:")[1].split()[0]) << 10
    except (OSError, IndexError, ValueError):
        return 0
