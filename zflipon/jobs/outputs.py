"""Check the outputs of a run before any work is done."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from zflipon.errors import OutputError
from zflipon.jobs.journal import Journal, require_own_folder
from zflipon.tracks.atomic import check_output_path, record_path


def journal_path(output: Path) -> Path:
    """Return the folder that holds the unfinished work of a run whose first output this is."""
    return output.with_name(output.name + ".unfinished")


def check_outputs(outputs: Sequence[Path], inputs: Iterable[str | Path], force: bool) -> None:
    """Refuse outputs that could not be written at the end, before any work is done.

    Parameters
    ----------
    outputs : sequence of Path
    inputs : iterable of str or Path
        Files that the run reads. None of them may be an output.
    force : bool
        Whether existing outputs may be replaced. An output that an earlier run of the same command published before
        it was killed may always be replaced.

    Raises
    ------
    OutputError
        If an output exists, is an input, or cannot be written.
    """
    if not outputs:
        return
    names = [os.path.abspath(output) for output in outputs]
    for number, output in enumerate(outputs):
        if names[number] in names[:number]:
            raise OutputError(f"{output}: given twice as an output")
    require_distinct(outputs, inputs)
    folder = journal_path(outputs[0])
    require_own_folder(folder)
    journal = Journal(folder)
    for output in outputs:
        may_replace = force or journal.has_published(output)
        for path in (output, record_path(output)):
            check_output_path(path, may_replace)


def require_distinct(outputs: Sequence[Path], inputs: Iterable[str | Path]) -> None:
    """Raise `OutputError` if an output, or its record, is the same file as an input."""
    sources = list(inputs)
    for output in outputs:
        for path in (output, record_path(output)):
            if any(_is_same_file(path, source) for source in sources):
                raise OutputError(f"{path}: is an input of this run; name another output")


def _is_same_file(path: Path, other: str | Path) -> bool:
    try:
        return path.samefile(other)
    except (OSError, ValueError):
        return False
