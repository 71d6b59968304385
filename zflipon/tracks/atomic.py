"""Atomic outputs: files and folders are written under a temporary name in the same folder, then renamed.

The paths of records are here too. The formats of the files are in other modules.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from zflipon.errors import OutputError

INDEX_SUFFIXES = (".tbi", ".csi")
"""Suffixes of index files, after the name of the indexed file."""

_MARK = ".zflipon."
"""Beginning of all temporary names; nothing without it is ever deleted."""


def record_path(path: Path) -> Path:
    """Return the path of an output's record: its name plus ``.json``."""
    return path.with_name(path.name + ".json")


def check_output_path(path: str | Path, force: bool) -> None:
    """Check that an output can be written, before any work is done for it.

    Parameters
    ----------
    path : str or Path
    force : bool
        Whether an existing file may be replaced.

    Raises
    ------
    OutputError
        If the file exists and `force` is not given, is a folder or a device, or if its folder is missing or
        read-only.
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
        # permission bits do not show read-only disks or names that are too long
        _create_exclusively(temporary_path(path))
        temporary_path(path).unlink()


def temporary_path(path: Path) -> Path:
    """Return the temporary name of an output in this process: hidden, in the same folder, with the same extension."""
    return path.with_name(f"{_MARK}{os.getpid()}.part.{path.name}")


def remove_partial_files(path: str | Path) -> None:
    """Remove the temporary files that killed processes left of an output.

    No other process may be writing this output. Only files with the names that `temporary_path` gives are deleted.
    """
    path = Path(path)
    suffixes = "|".join(map(re.escape, INDEX_SUFFIXES))
    pattern = re.compile(rf"{re.escape(_MARK)}[0-9]+\.part\.{re.escape(path.name)}({suffixes})?")
    with suppress(OSError):
        for part in path.parent.iterdir():
            if pattern.fullmatch(part.name):
                with suppress(OSError):
                    part.unlink()


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Write a file that gets its final name only when it is complete.

    An index that the body writes next to the temporary file (its name plus one of `INDEX_SUFFIXES`) is renamed just
    before it, so that the file never has no index; the index of a replaced file is deleted.

    Parameters
    ----------
    path : str or Path
        The final name.

    Yields
    ------
    Path
        A temporary name in the same folder, with the same extension, of a new and empty file. The body writes to it
        and closes it.

    Raises
    ------
    OutputError
        If the file cannot be written (disk full, no permission). After any failure in the body the temporary files
        are removed, and a file that had the final name is unchanged.
    """
    path = Path(path)
    part = temporary_path(path)
    try:
        _create_exclusively(part)
        yield part
        indexes = [suffix for suffix in INDEX_SUFFIXES if _with_suffix(part, suffix).exists()]
        for suffix in [*indexes, ""]:
            _flush(_with_suffix(part, suffix))
        for suffix in INDEX_SUFFIXES if indexes else ():
            if suffix not in indexes:
                _with_suffix(path, suffix).unlink(missing_ok=True)
        for suffix in [*indexes, ""]:
            os.replace(_with_suffix(part, suffix), _with_suffix(path, suffix))
    except OSError as error:
        if not _concerns(error, part):
            raise
        raise _output_error(path, error) from error
    finally:  # after success there are no such files
        for suffix in ("", *INDEX_SUFFIXES):
            with suppress(OSError):
                _with_suffix(part, suffix).unlink()


def check_output_folder(path: str | Path, force: bool, marks: Iterable[str]) -> None:
    """Check that an output folder can be written, before any work is done for it.

    Parameters
    ----------
    path : str or Path
    force : bool
        Whether an existing folder may be replaced.
    marks : iterable of str
        Names of files that a replaceable folder contains; other folders are never replaced.

    Raises
    ------
    OutputError
        If the folder exists and `force` is not given, lacks the marks, or its parent is missing or read-only.
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
                f"{path}: holds no {missing[0]}, so zflipon did not write it and does not replace it; name another "
                "folder"
            )
        if not path.absolute().parent.is_dir():
            raise OutputError(f"{path}: there is no folder {path.parent} to write to; make it first")
        trial = temporary_path(path.absolute())
        trial.mkdir()
        trial.rmdir()


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Write a folder that gets its final name only when it is complete.

    Parameters
    ----------
    path : str or Path
        The final name; a folder that has it is replaced.

    Yields
    ------
    Path
        An empty folder with a temporary name in the same parent folder.

    Raises
    ------
    OutputError
        If the folder cannot be written. After any failure in the body the temporary folder is removed, and a folder
        that had the final name is unchanged.
    """
    path = Path(path).absolute()
    part = temporary_path(path)
    old = part.with_name(part.name + ".old")
    try:
        with raise_output_errors(path):
            part.mkdir()
        yield part
        with raise_output_errors(path):
            if path.exists():  # a folder cannot be renamed onto a folder with files
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
    """Turn an `OSError` in the body into an `OutputError` that names `path`.

    A broken pipe is left alone: the reader of standard output may stop early, as ``head`` does.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _output_error(path, error) from error


def _create_exclusively(path: Path) -> None:
    """Create an empty file; a file or link that has the name is removed first, so that no link is followed."""
    for suffix in ("", *INDEX_SUFFIXES):
        _with_suffix(path, suffix).unlink(missing_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))


def _with_suffix(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _flush(path: Path) -> None:
    """Write a file's data to disk before it is renamed: a power failure could otherwise leave an empty file."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _concerns(error: OSError, part: Path) -> bool:
    """Return whether an error is about writing `part`, not about other work in the body such as a broken pipe."""
    if isinstance(error, BrokenPipeError):
        return False
    return error.filename is None or Path(os.fsdecode(error.filename)).name.startswith(part.name)


def _output_error(path: str | Path, error: OSError) -> OutputError:
    reason = error.strerror or f"{error}; is the disk full?"  # pysam does not give a reason
    return OutputError(f"{path}: cannot be written ({reason})")
