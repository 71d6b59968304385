"""Output files appear whole or not at all: they are written beside their place, then renamed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from zflipon.errors import InputError, OutputError

INDEX_SUFFIXES = (".tbi", ".csi")
"""What an index adds to the name of the file that it belongs to."""


def record_path(path: Path) -> Path:
    """Return where an output's record goes: its name plus ``.json``."""
    return path.with_name(path.name + ".json")


def read_record(path: Path) -> dict:
    """Return what lies beside a track, empty if nothing does.

    Raises
    ------
    InputError
        If it is not what annotate writes.
    """
    beside = record_path(path)
    if not beside.is_file():
        return {}
    try:
        record = json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{beside}: the track's record cannot be read ({error}); remove it to go without"
        ) from error
    parts = ("contigs", "model", "call", "predict")
    if not isinstance(record, dict) or any(not isinstance(record.get(part, {}), dict) for part in parts):
        raise InputError(f"{beside}: not a record that annotate writes; remove it to go without")
    return record


def check_output_path(path: str | Path, force: bool) -> None:
    """Refuse an output that could not be written at the end, before any work is done for it.

    Parameters
    ----------
    path : str or Path
    force : bool
        Whether a file that is there may be replaced.

    Raises
    ------
    OutputError
        If the file exists and `force` is not given, is a folder or a device,
        or if its folder is absent or cannot be written to.
    """
    path = Path(path)
    with raise_output_errors(path):
        if path.is_dir():
            raise OutputError(f"{path}: is a folder; name a file to write")
        if path.exists() and not path.is_file():  # renaming onto /dev/null would replace the device
            raise OutputError(
                f"{path}: is not a regular file; name a file to write, or - for standard output"
            )
        if path.is_file() and not force:
            raise OutputError(f"{path}: exists already; give --force to replace it")
        if not path.parent.is_dir():
            raise OutputError(f"{path}: there is no folder {path.parent} to write to; make it first")
        trial = temporary_path(path)  # asking for permission alone misses read-only disks and names too long
        trial.touch()
        trial.unlink()


def remove_partial_files(path: str | Path) -> None:
    """Remove what killed runs have left of an output: files under the temporary names that `whole` gives.

    No other process may be writing this output.
    """
    path = Path(path)
    for suffix in ("", *INDEX_SUFFIXES):
        for part in path.parent.glob(f".*.part.{escape(path.name)}{suffix}"):
            with suppress(OSError):
                part.unlink()


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Write a file that gets its name only once it is complete.

    An index written beside the temporary file (its name plus one of
    `INDEX_SUFFIXES`) is renamed with it, and just before it, so that the
    file never stands without its index; an index of an earlier file goes away.

    Parameters
    ----------
    path : str or Path
        The final name.

    Yields
    ------
    Path
        A temporary name in the same folder, with the same extension; the body
        creates this file and closes it.

    Raises
    ------
    OutputError
        If the system refuses to write (disk full, no permission). After this
        and any other failure in the body, nothing is left behind and a
        file that had the final name before is untouched.
    """
    path = Path(path)
    part = temporary_path(path)
    try:
        yield part
        made = [suffix for suffix in INDEX_SUFFIXES if _plus(part, suffix).exists()]
        for suffix in [*made, ""]:
            _flush(_plus(part, suffix))
        for suffix in INDEX_SUFFIXES if made else ():
            if suffix not in made:
                _plus(path, suffix).unlink(missing_ok=True)
        for suffix in [*made, ""]:
            os.replace(_plus(part, suffix), _plus(path, suffix))
    except OSError as error:
        if not _concerns(error, part):
            raise
        raise _unwritable(path, error) from error
    finally:  # after success there is nothing of these names
        for suffix in ("", *INDEX_SUFFIXES):
            with suppress(OSError):
                _plus(part, suffix).unlink()


def check_output_folder(path: str | Path, force: bool, marks: Iterable[str]) -> None:
    """Refuse a folder that could not be written at the end, before any work is done for it.

    Parameters
    ----------
    path : str or Path
    force : bool
        Whether a folder that is there may be replaced.
    marks : iterable of str
        Files of a folder that may be replaced: another one was surely not meant.

    Raises
    ------
    OutputError
        If the folder exists and `force` is not given, is not one of ours, or its own folder cannot be written to.
    """
    path = Path(path)
    with raise_output_errors(path):
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise OutputError(f"{path}: is not a folder; name a folder to write")
        if path.exists() and not force:
            raise OutputError(f"{path}: exists already; give --force to replace it")
        missing = [mark for mark in marks if not (path / mark).is_file()]
        if path.exists() and missing and any(path.iterdir()):
            raise OutputError(
                f"{path}: holds no {missing[0]}, so it is not one of ours and is not replaced; name another folder"
            )
        if not path.absolute().parent.is_dir():
            raise OutputError(f"{path}: there is no folder {path.parent} to write to; make it first")
        trial = temporary_path(path.absolute())
        trial.mkdir()
        trial.rmdir()


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Write a folder that gets its name only once it is complete.

    Parameters
    ----------
    path : str or Path
        The final name; a folder that had it is replaced.

    Yields
    ------
    Path
        An empty folder beside the final place.

    Raises
    ------
    OutputError
        If the system refuses to write. After this and any other failure in the body nothing is left behind, and a
        folder that had the final name before is untouched.
    """
    path = Path(path).absolute()
    part = temporary_path(path)
    old = part.with_name(part.name + ".old")
    try:
        with raise_output_errors(path):
            part.mkdir()
        yield part
        with raise_output_errors(path):
            if path.exists():  # a full folder cannot be renamed onto
                os.rename(path, old)
            try:
                os.rename(part, path)
            except OSError:
                if old.exists():
                    os.rename(old, path)
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def raise_output_errors(path: str | Path) -> Iterator[None]:
    """Turn the system's refusal to write `path` in the body into an `OutputError` that names it.

    A closed pipe is none: the reader of standard output may go when it has seen enough.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _unwritable(path, error) from error


def temporary_path(path: Path) -> Path:
    """Return a hidden name in the same folder that keeps the extension, since writers look at it."""
    return path.with_name(f".{os.getpid()}.part.{path.name}")


def _plus(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _flush(path: Path) -> None:
    """Have the bytes on the disk before the name, or a power cut leaves the name without them."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _concerns(error: OSError, part: Path) -> bool:
    """Tell a failure to write `part` from one of other work in the body, such as a closed pipe."""
    if isinstance(error, BrokenPipeError):
        return False
    return error.filename is None or Path(os.fsdecode(error.filename)).name.startswith(part.name)


def _unwritable(path: str | Path, error: OSError) -> OutputError:
    reason = error.strerror or f"{error}; is the disk full?"  # pysam does not say why
    return OutputError(f"{path}: cannot be written ({reason})")
