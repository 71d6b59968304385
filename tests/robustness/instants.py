"""Instants at which a run is killed: after a time, or at one of its changes of files, where its state changes.

Changes are noticed by an audit hook of the process that makes them; libraries in C change files without one.
"""

from __future__ import annotations

import mmap
import os
import random
import signal
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CHANGES = (
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.utime",
    "os.chmod",
)
_NUMBERS, _COUNT = struct.Struct("<qq"), struct.Struct("<q")


@dataclass(frozen=True)
class Instant:
    """When a run is killed.

    Attributes
    ----------
    change : int
        Number of the change of a file at which it is killed, from 1 on; 0 for an instant after a time.
    emptied : bool
        Whether a file that is opened for writing is emptied before the kill.
    share : float
        Share of the time of an uninterrupted run after which it is killed, if `change` is 0.
    """

    change: int = 0
    emptied: bool = False
    share: float = 0.0

    @classmethod
    def choose(cls, rng: random.Random, changes: int) -> Instant:
        """Choose an instant of a run that makes `changes` changes: four of five at a change, often an early one.

        A run that resumes makes fewer changes than a whole one.
        """
        if not changes or rng.random() < 0.2:
            return cls(share=rng.random())
        last = changes if rng.random() < 0.5 else min(changes, 12)
        return cls(rng.randint(1, last), rng.random() < 0.5)


class Strike:
    """Kills a process when it, or one of its workers, makes a change of a file in a folder.

    The number of changes is shared with the processes that are forked later.

    Parameters
    ----------
    instant : Instant
    folder : Path
    """

    def __init__(self, instant: Instant, folder: Path):
        self._instant, self._folder = instant, os.path.join(os.path.realpath(folder), "")
        self._shared = mmap.mmap(-1, _NUMBERS.size)

    @property
    def changes(self) -> int:
        """Changes so far."""
        return _NUMBERS.unpack(self._shared[:])[0]

    @property
    def happened(self) -> bool:
        """Whether the kill has happened."""
        return bool(_NUMBERS.unpack(self._shared[:])[1])

    def close(self) -> None:
        """Release the shared memory."""
        self._shared.close()

    def arm(self, victim: int | None = None) -> None:
        """Count the changes of this process from now on, and kill it, or the process `victim`, at the chosen one."""

        def hook(event: str, arguments: tuple) -> None:
            if event != "open" and event not in _CHANGES:
                return
            path = arguments[0]
            flags = arguments[2] if event == "open" else 0
            if self.happened or not isinstance(path, str | bytes | os.PathLike):
                return
            if event == "open" and not flags & _WRITES:
                return
            if not os.path.abspath(os.fsdecode(path)).startswith(self._folder):
                return
            changes = self.changes + 1
            self._shared[: _COUNT.size] = _COUNT.pack(changes)
            if changes == self._instant.change:
                # a place for itself: another worker counts at the same time
                self._shared[_COUNT.size :] = _COUNT.pack(1)
                if self._instant.emptied and flags & os.O_TRUNC:
                    with suppress(OSError):
                        os.open(path, flags, 0o666)
                os.kill(victim or os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
