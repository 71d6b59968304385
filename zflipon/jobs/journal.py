"""What a run has done so far, in a folder beside its first output: the same command goes on from there.

The folder holds ``run.json``, which says what the values follow from, and a file a shard. A shard's file appears whole
or not at all and carries a checksum, so that a kill at any instant costs the shards in flight and no more.
Processes, on one machine or on several that share the folder, take shards by making a file that only one of them can
make: who is quick takes more, and no values travel through one process's memory.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import numpy as np

from zflipon.errors import OutputError, ZfliponError, format_names
from zflipon.tracks.atomic import raise_output_errors

LOST_AFTER = 600.0
"""Seconds without a sign of life after which the process that took a shard counts as lost."""

_BEAT, _LOOK = 10.0, 0.2
_RUN, _LOCK, _FINISHING = "run.json", "lock", "finishing"


class Journal:
    """The folder of one unfinished run.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._beats: dict[Path, float] = {}
        self._lock: IO | None = None

    def begin(self, key: dict[str, object], restart: bool = False) -> None:
        """Make the folder, or go on with what it holds; to be called by one process.

        Parameters
        ----------
        key : dict
            What the values follow from: name in a user's terms → JSON value.
        restart : bool
            Throw away what an earlier run left.

        Raises
        ------
        ZfliponError
            If the folder is another run's: one that differs in a part of the key, or one that is running now.
        """
        key = json.loads(json.dumps(key))
        with raise_output_errors(self.folder):
            self.folder.mkdir(exist_ok=True)
            self._take()
        if restart:
            self._clear("*")
        earlier = self._earlier()
        if earlier is not None:
            try:
                self._refuse_other(earlier, key)
            except ZfliponError:
                self.release()
                raise
        self._clear("*.claim")
        self._clear("*.part")
        self._write(self.folder / _RUN, json.dumps(key, indent=1).encode())

    def done(self, numbers: Iterable[int]) -> set[int]:
        """Return those shards of `numbers` that are stored and whole; one that is damaged is thrown away."""
        found = set()
        for number in numbers:
            if self.has(number):
                try:
                    self.get(number)
                except ZfliponError:
                    self._path(number).unlink(missing_ok=True)
                else:
                    found.add(number)
        return found

    def claim(self, numbers: Iterable[int]) -> Iterator[int]:
        """Take one shard after the other that no process has taken, in order."""
        for number in numbers:
            claim = self._claim(number)
            if self.has(number):
                continue
            try:
                with raise_output_errors(claim):
                    os.close(os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            except OutputError:
                if not claim.exists():
                    raise
                continue
            self._beats[claim] = time.monotonic()
            yield number

    def alive(self) -> None:
        """Show that the shards which this process has taken are being worked on."""
        now = time.monotonic()
        for claim, last in self._beats.items():
            if now - last > _BEAT:
                with suppress(OSError):
                    os.utime(claim)
                self._beats[claim] = now

    def store(self, number: int, values: np.ndarray, read: int) -> None:
        """Keep a shard's values.

        Parameters
        ----------
        number : int
        values : numpy.ndarray
            uint16, shape (bases,): `zflipon.tracks.calling.quantize`.
        read : int
            Windows that the model read for them.

        Raises
        ------
        OutputError
            If the disk refuses.
        """
        self.put(number, read.to_bytes(4, "little") + np.asarray(values, dtype="<u2").tobytes())

    def load(self, number: int) -> tuple[np.ndarray, int]:
        """Return what `store` was given: uint16, shape (bases,), and windows; raise `OutputError` if it is damaged."""
        content = self.get(number)
        return np.frombuffer(content[4:], "<u2"), int.from_bytes(content[:4], "little")

    def put(self, number: int, content: bytes) -> None:
        """Keep a shard; raise `OutputError` if the disk refuses."""
        packed = zlib.compress(content, 1)
        self._write(self._path(number), zlib.crc32(packed).to_bytes(4, "little") + packed)
        claim = self._claim(number)
        self._beats.pop(claim, None)
        claim.unlink(missing_ok=True)

    def get(self, number: int) -> bytes:
        """Return what `put` was given; raise `OutputError` if it is damaged."""
        path = self._path(number)
        try:
            content = path.read_bytes()
            if zlib.crc32(content[4:]).to_bytes(4, "little") != content[:4]:
                raise OutputError(f"{path}: fails its checksum; the same command predicts this part again")
            return zlib.decompress(content[4:])
        except (OSError, zlib.error) as error:
            raise OutputError(
                f"{path}: cannot be read ({error}); the same command predicts this part again"
            ) from error

    def wait(self, numbers: Iterable[int], working: Callable[[], None] = lambda: None) -> None:
        """Return once all these shards are stored.

        Parameters
        ----------
        numbers : iterable of int
        working : callable
            Called now and then meanwhile; may raise.

        Raises
        ------
        ZfliponError
            If a process that took one has not been heard of for `LOST_AFTER` seconds.
        """
        for number in numbers:
            looked = time.monotonic()
            while not self.has(number):
                working()
                if time.monotonic() - looked >= _BEAT:  # this asks the disk for its time
                    self._refuse_lost(number)
                    looked = time.monotonic()
                time.sleep(_LOOK)

    def has(self, number: int) -> bool:
        """Tell whether a shard is stored."""
        return self._path(number).exists()

    def stored(self) -> set[int]:
        """Return the numbers of the shards that are stored by now, whole or not."""
        return {int(path.stem) for path in self.folder.glob("*.shard")}

    def release(self) -> None:
        """Let other runs have the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def finishing(self) -> None:
        """Note that outputs get their names from now on: one that stands is this run's, killed before the last."""
        self._write(self.folder / _FINISHING, b"")

    @property
    def was_finishing(self) -> bool:
        """Whether an earlier run was killed while its outputs got their names."""
        return (self.folder / _FINISHING).exists()

    def remove(self) -> None:
        """Remove the folder and all it holds; it is gone at once, or not at all."""
        gone = self.folder.with_name(f".{self.folder.name}.gone")
        shutil.rmtree(gone, ignore_errors=True)
        with suppress(OSError):
            os.replace(self.folder, gone)
        shutil.rmtree(gone, ignore_errors=True)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.shard"

    def _claim(self, number: int) -> Path:
        return self.folder / f"{number:06d}.claim"

    def _write(self, path: Path, content: bytes) -> None:
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        with raise_output_errors(path):
            try:
                with open(part, "wb") as file:
                    file.write(content)  # not forced to the disk: after a power cut the checksum tells
                os.replace(part, path)
            finally:
                part.unlink(missing_ok=True)

    def _earlier(self) -> dict | None:
        try:
            return json.loads((self.folder / _RUN).read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError):  # cut short: whose the shards are cannot be told
            return {}

    def _take(self) -> None:
        """Hold the folder until this process ends, however it ends."""
        file = open(self.folder / _LOCK, "w")  # noqa: SIM115
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise ZfliponError(
                f"{self.folder}: another run is writing this output now; wait for it or name another output"
            ) from None
        except OSError:  # a shared disk without locks
            pass
        self._lock = file

    def _clear(self, pattern: str) -> None:
        for path in self.folder.glob(pattern):
            if path.name != _LOCK:
                path.unlink(missing_ok=True)

    def _refuse_other(self, earlier: dict, key: dict) -> None:
        differing = [name for name in {**earlier, **key} if earlier.get(name) != key.get(name)]
        if differing:
            told = format_names(
                [f"{name} ({_short(earlier.get(name))}, now {_short(key.get(name))})" for name in differing],
                3,
            )
            raise ZfliponError(
                f"{self.folder}: an unfinished run lies here that differs in {told}; give its command to go on, "
                "--restart to throw it away, or name another output"
            )

    def _refuse_lost(self, number: int) -> None:
        claim = self._claim(number)
        with suppress(FileNotFoundError):
            # by the clock of the disk, which several machines share
            with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".part") as now:
                silent = os.stat(now.name).st_mtime - claim.stat().st_mtime
            if silent > LOST_AFTER:
                raise ZfliponError(
                    f"the process that took shard {number} has not been heard of for {silent:.0f} s; what is done is "
                    "kept, and the same command goes on"
                )


def _short(value: object) -> str:
    text = "nothing" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 24 else f"{text[:20]}…"
