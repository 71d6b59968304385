"""The journal: finished shards of an unfinished run, in a folder beside its first output.

A rerun of the same command continues with them. Locks on outputs are in `zflipon.jobs.locks`.

The folder holds ``run.json`` (the settings that determine the values), ``NUMBER.shard`` (one file per finished shard)
and ``NUMBER.claim`` (shards that a process is working on). A shard file appears complete or not at all and carries a
checksum, so a process that is killed loses only the shards it was working on. Processes, also on several machines that
share the folder, divide the shards among themselves by creating claim files exclusively.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from zflipon.errors import OutputError, ZfliponError, format_names
from zflipon.json_files import read_json_file
from zflipon.tracks.atomic import raise_output_errors

LOST_AFTER = 600.0
"""Seconds without a sign of life after which a process counts as lost."""

HEARTBEAT = 10.0
"""Seconds between two signs of life of a process."""

_POLL = 0.2
_FORMAT = 2  # of the folder; format 1 had checksums of the content alone
_RUN, _PUBLISHING = "run.json", "publishing.json"
_OWN_NAMES = re.compile(r"run\.json|publishing\.json|lock|finishing|\d{6,}\.(shard|claim)|.*\.part")
_HEADER = struct.Struct("<QQI")  # number of the shard, bytes of its content, checksum


class Journal:
    """Finished shards of one unfinished run.

    Parameters
    ----------
    folder : Path
    key : mapping
        Settings that determine the values, by names that a user knows; JSON values.
    lost_after, heartbeat : float
        Seconds; see `LOST_AFTER` and `HEARTBEAT`.
    clock : callable
        Returns seconds that never go back.
    sleep : callable
        Waits for a number of seconds.
    """

    def __init__(
        self,
        folder: Path,
        key: Mapping[str, object] | None = None,
        *,
        lost_after: float = LOST_AFTER,
        heartbeat: float = HEARTBEAT,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ):
        self.folder = folder
        self._key: dict[str, object] = json.loads(json.dumps(dict(key or {})))
        self._seed = zlib.crc32(json.dumps(self._key, sort_keys=True).encode())
        self._lost_after, self._heartbeat = lost_after, heartbeat
        self._clock, self._sleep = clock, sleep
        self._claims: dict[Path, float] = {}

    # ---- the folder ----------------------------------------------------------------------------------------

    def begin(self, restart: bool = False) -> None:
        """Create the folder, or check that its shards belong to this run. One process calls this, before all others.

        Parameters
        ----------
        restart : bool
            Delete the shards of an earlier run.

        Raises
        ------
        OutputError
            If something else has the folder's name, or it cannot be written.
        ZfliponError
            If the folder holds an unfinished run with another key.
        """
        require_own_folder(self.folder)
        with raise_output_errors(self.folder):
            self.folder.mkdir(exist_ok=True)
        _remove_tree(self._removed_folder)
        if restart:
            self._delete("*")
        self._require_same_key()
        self._delete("*.claim")
        self._delete("*.part")
        content = {"format": _FORMAT, "key": self._key}
        self._write(self.folder / _RUN, json.dumps(content, indent=1).encode())

    def remove(self) -> None:
        """Delete the folder. It loses its name first, so that it is there as a whole or not at all."""
        removed = self._removed_folder
        _remove_tree(removed)
        with suppress(OSError):
            os.replace(self.folder, removed)
        _remove_tree(removed)

    @property
    def _removed_folder(self) -> Path:
        return self.folder.with_name(f".{self.folder.name}.removed")

    def mark_publishing(self, files: Mapping[Path, os.stat_result]) -> None:
        """Note that from now on the outputs get their final names.

        Parameters
        ----------
        files : mapping of Path to os.stat_result
            Output → its complete temporary file, which will be renamed.
        """
        content = {}
        for path, stat in files.items():
            # the run before this one may have been killed here, too: its file is in place until this one replaces it
            earlier = [_identity(path.stat(follow_symlinks=False))] if self.has_published(path) else []
            content[path.name] = [*earlier, _identity(stat)]
        self._write(self.folder / _PUBLISHING, json.dumps(content).encode())

    def has_published(self, output: Path) -> bool:
        """Whether `output` is a file that an earlier run of this journal gave its name before it was killed."""
        try:
            identities = read_json_file(self.folder / _PUBLISHING).get(output.name, ())
            return _identity(output.stat(follow_symlinks=False)) in identities
        except (OSError, ValueError, AttributeError, TypeError):
            return False

    # ---- shards --------------------------------------------------------------------------------------------

    def finished(self, numbers: Iterable[int]) -> set[int]:
        """Return which shards are stored and intact. Damaged ones are deleted."""
        intact = set()
        for number in numbers:
            if self.has(number):
                try:
                    self.read(number)
                except OutputError:
                    self._shard(number).unlink(missing_ok=True)
                else:
                    intact.add(number)
        return intact

    def claim(self, numbers: Iterable[int]) -> Iterator[int]:
        """Yield the shards that no other process has claimed, in order, each after it is claimed for this process."""
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
            self._claims[claim] = self._clock()
            yield number

    def beat(self) -> None:
        """Show other processes that this one still works on the shards it has claimed. Cheap; call it often."""
        now = self._clock()
        for claim, last in self._claims.items():
            if now - last > self._heartbeat:
                with suppress(OSError):
                    os.utime(claim)
                self._claims[claim] = now

    def write(self, number: int, content: bytes) -> None:
        """Store a shard; raise `OutputError` if the disk refuses."""
        packed = zlib.compress(content, 1)
        header = _HEADER.pack(number, len(content), self._checksum(number, len(content), packed))
        self._write(self._shard(number), header + packed)
        claim = self._claim(number)
        self._claims.pop(claim, None)
        claim.unlink(missing_ok=True)

    def read(self, number: int) -> bytes:
        """Return the content of a shard; raise `OutputError` if it is damaged or not this run's."""
        path = self._shard(number)
        try:
            stored = path.read_bytes()
            named, size, checksum = _HEADER.unpack_from(stored)
            packed = stored[_HEADER.size :]
            if named != number or checksum != self._checksum(number, size, packed):
                raise OutputError(
                    f"{path}: wrong checksum; run the same command again to recompute this shard"
                )
            content = zlib.decompress(packed)
        except (OSError, zlib.error, struct.error) as error:
            raise OutputError(
                f"{path}: cannot be read ({error}); run the same command again to recompute this shard"
            ) from error
        return content

    def wait(self, numbers: Iterable[int], check: Callable[[], None] = lambda: None) -> None:
        """Return once all these shards are stored.

        Parameters
        ----------
        numbers : iterable of int
        check : callable
            Called several times a second; may raise.

        Raises
        ------
        ZfliponError
            If the process that claimed a shard has shown no sign of life for `LOST_AFTER` seconds.
        """
        for number in numbers:
            beat, beat_at = self._last_beat(number), self._clock()
            looked_at = beat_at
            while not self.has(number):
                check()
                if self._clock() - looked_at >= self._heartbeat:
                    looked_at, latest = self._clock(), self._last_beat(number)
                    if latest != beat:
                        beat, beat_at = latest, looked_at
                    silent = looked_at - beat_at
                    if silent > self._lost_after and not self.has(number):
                        raise ZfliponError(
                            f"the process that works on shard {number} has shown no sign of life for {silent:.0f} s; "
                            "finished shards are saved, run the same command again to resume"
                        )
                self._sleep(_POLL)

    def has(self, number: int) -> bool:
        """Whether a shard is stored, intact or not."""
        return self._shard(number).exists()

    def stored(self) -> set[int]:
        """Return the numbers of the stored shards, intact or not."""
        return {int(path.stem) for path in self.folder.glob("*.shard")}

    # ---- files ---------------------------------------------------------------------------------------------

    def _checksum(self, number: int, size: int, packed: bytes) -> int:
        """Return the checksum of a shard of this run: its number, its size, its content and the run's key."""
        return zlib.crc32(packed, zlib.crc32(struct.pack("<QQ", number, size), self._seed))

    def _last_beat(self, number: int) -> int | None:
        """Return the modification time of a claim. Only a change counts: clocks of machines differ, and jump."""
        try:
            return self._claim(number).stat().st_mtime_ns
        except OSError:
            return None

    def _shard(self, number: int) -> Path:
        return self.folder / f"{number:06d}.shard"

    def _claim(self, number: int) -> Path:
        return self.folder / f"{number:06d}.claim"

    def _write(self, path: Path, content: bytes) -> None:
        # not forced to the disk: after a power cut the checksum shows missing bytes
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        with raise_output_errors(path):
            try:
                part.write_bytes(content)
                os.replace(part, path)
            finally:
                part.unlink(missing_ok=True)

    def _delete(self, pattern: str) -> None:
        for path in self.folder.glob(pattern):
            path.unlink(missing_ok=True)

    def _require_same_key(self) -> None:
        try:
            content = read_json_file(self.folder / _RUN)
        except FileNotFoundError:
            return
        except (OSError, ValueError):
            content = None
        if (
            not isinstance(content, dict)
            or content.get("format") != _FORMAT
            or not isinstance(content.get("key"), dict)
        ):
            raise ZfliponError(
                f"{self.folder}: holds an unfinished run that this version of zflipon cannot resume; "
                "give --restart to delete it, or name another output"
            )
        earlier, key = content["key"], self._key
        differing = [name for name in {**earlier, **key} if earlier.get(name) != key.get(name)]
        if differing:
            values = [
                f"{name} ({shorten(earlier.get(name))}, now {shorten(key.get(name))})" for name in differing
            ]
            raise ZfliponError(
                f"{self.folder}: holds an unfinished run that differs in {format_names(values, 3)}; repeat its "
                "command to resume it, give --restart to delete it, or name another output"
            )


def require_own_folder(folder: Path) -> None:
    """Raise `OutputError` if `folder` exists and is anything but the folder of a journal."""
    if not folder.exists() and not folder.is_symlink():
        return
    if not _is_own_folder(folder):
        raise OutputError(
            f"{folder}: zflipon keeps unfinished work under this name, but this is not a folder that zflipon made; "
            "move it away or name another output"
        )


def _identity(stat: os.stat_result) -> list[int]:
    return [stat.st_dev, stat.st_ino]


def temporary_folder() -> Path:
    """Create a folder for the journal of a run without output files."""
    return Path(tempfile.mkdtemp(prefix="zflipon-"))


def _is_own_folder(folder: Path) -> bool:
    if folder.is_symlink() or not folder.is_dir():
        return False
    with raise_output_errors(folder), os.scandir(folder) as entries:
        return all(
            _OWN_NAMES.fullmatch(entry.name) and entry.is_file(follow_symlinks=False) for entry in entries
        )


def _remove_tree(folder: Path) -> None:
    """Delete the folder of a journal; leave anything else alone."""
    if _is_own_folder(folder):
        shutil.rmtree(folder, ignore_errors=True)


def shorten(value: object) -> str:
    """Return the value of a setting for a message, at most 24 characters."""
    text = "nothing" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 24 else f"{text[:20]}…"
