"""Part files (``.zfp``): the finished shards of one part of a run, in one file that describes itself.

What a header holds, and how parts become tracks, is in `zflipon.workflows.merge`. A part file is a ZIP archive without
further packing: ``header.json`` and ``NUMBER.shard``, packed by zlib as in a journal. ZIP stores a checksum of each
member and its directory at the end, so that damaged and truncated files are recognised.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from zflipon.errors import InputError
from zflipon.tracks.atomic import raise_output_errors

EXTENSION = ".zfp"

_FORMAT, _VERSION = "zflipon part", 1
_HEADER = "header.json"
_DATE = (1980, 1, 1, 0, 0, 0)  # the same bytes at any time

_DAMAGE = (
    OSError, EOFError, ValueError, LookupError, RuntimeError, TypeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What `zipfile` and `zlib` raise for damaged files."""


def is_part_file(path: str | Path) -> bool:
    """Return whether a file name has the extension of part files, in any case."""
    return str(path).lower().endswith(EXTENSION)


def write_part_file(path: Path, header: Mapping[str, Any], shards: Iterable[bytes]) -> None:
    """Write a part file.

    Parameters
    ----------
    path : Path
    header : mapping
        JSON values, see `PartFile`.
    shards : iterable of bytes
        Contents of the shards, in order.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    with raise_output_errors(path), zipfile.ZipFile(path, "w") as archive:
        text = json.dumps({"format": _FORMAT, "version": _VERSION, **header}, indent=1)
        archive.writestr(zipfile.ZipInfo(_HEADER, _DATE), text, zipfile.ZIP_DEFLATED)
        for number, content in enumerate(shards):
            archive.writestr(zipfile.ZipInfo(_member(number), _DATE), zlib.compress(content, 1))


class PartFile:
    """A part file that is open for reading; a context manager.

    Parameters
    ----------
    path : str or Path

    Attributes
    ----------
    path : Path
    header : dict
        As it was written.
    shards : int
        Number of shards.

    Raises
    ------
    InputError
        If the file is missing, incomplete, damaged or no part file.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(f"{self.path}: no such file; expected a part that zflipon annotate --part wrote")
        try:
            self._archive = zipfile.ZipFile(self.path)
            names = self._archive.namelist()
            self.header: dict[str, Any] = dict(json.loads(self._archive.read(_HEADER)))
        except _DAMAGE as error:
            raise InputError(
                f"{self.path}: not a part that zflipon annotate --part wrote, or incomplete ({error}); "
                "run this part again"
            ) from error
        self.shards = len(names) - 1
        if self.header.get("format") != _FORMAT or self.header.get("version") != _VERSION:
            raise InputError(
                f"{self.path}: a part file of another version of zflipon; run this part again with this version"
            )
        if names != [_HEADER, *map(_member, range(self.shards))]:
            raise self._damaged("shards are missing")

    def __enter__(self) -> PartFile:
        return self

    def __exit__(self, *_exception) -> None:
        self._archive.close()

    def read(self, number: int) -> bytes:
        """Return the content of a shard; raise `InputError` if it is damaged."""
        try:
            return zlib.decompress(self._archive.read(_member(number)))
        except _DAMAGE as error:
            raise self._damaged(str(error)) from error

    def verify(self) -> None:
        """Read everything once; raise `InputError` if a shard is damaged."""
        for number in range(self.shards):
            self.read(number)

    def _damaged(self, reason: str) -> InputError:
        return InputError(f"{self.path}: damaged ({reason}); run this part again")


def _member(number: int) -> str:
    return f"{number:06d}.shard"
