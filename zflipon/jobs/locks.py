"""Locks on output files: two runs never write the same file.

What a run stores while it works is in `zflipon.jobs.journal`.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from zflipon.errors import OutputError
from zflipon.tracks.atomic import raise_output_errors

_ATTEMPTS = 100


def lock_path(output: Path) -> Path:
    """Return the path of the lock of an output: a hidden empty file in the same folder."""
    return output.with_name(f".{output.name}.zflipon.lock")


class OutputLocks:
    """Exclusive locks on output files, held until the block is left or the process ends.

    The operating system releases the locks of a process that is killed. Its empty lock files stay until the next run
    of the same output.

    Parameters
    ----------
    outputs : iterable of Path

    Raises
    ------
    OutputError
        On entry, if another run is writing one of the outputs, or a lock file cannot be created.
    """

    def __init__(self, outputs: Iterable[Path]):
        self._outputs = list(outputs)
        self._locks: list[tuple[Path, int]] = []

    def __enter__(self) -> OutputLocks:
        try:
            for output in self._outputs:
                self._lock(output)
        except BaseException:
            self.release()
            raise
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.release()

    def release(self) -> None:
        """Release all locks and remove their files."""
        while self._locks:
            path, descriptor = self._locks.pop()
            with suppress(OSError):
                path.unlink()  # while it is locked: a lock that another run holds must keep its name
            os.close(descriptor)

    def _lock(self, output: Path) -> None:
        path = lock_path(output)
        for _ in range(_ATTEMPTS):
            with raise_output_errors(output):
                descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                raise OutputError(
                    f"{output}: another run is writing this output; wait for it or name another output"
                ) from None
            except OSError:  # a network file system without locks
                pass
            if _has_name(descriptor, path):
                self._locks.append((path, descriptor))
                return
            os.close(descriptor)  # its owner removed it between open and flock
        raise OutputError(f"{output}: cannot be locked; other runs start and end all the time")


def _has_name(descriptor: int, path: Path) -> bool:
    """Whether an open file still has this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False
