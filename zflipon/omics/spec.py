"""The table of omics tracks that a user provides: name, file and kind of each track.

The kinds and the tracks that a model expects are declared in `zflipon.models.metadata`.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from zflipon.errors import InputError, suggest
from zflipon.genome.text_files import read_lines
from zflipon.models.metadata import FEATURE_KINDS

_EXPECTED = "lines of name, path and kind, separated by tabs"


class TrackEntry(NamedTuple):
    """A row of a table of tracks.

    Attributes
    ----------
    name : str
    path : Path
    kind : str or None
        One of `FEATURE_KINDS`; None: the kind that the model expects.
    """

    name: str
    path: Path
    kind: str | None


def read_track_table(path: str | Path) -> list[TrackEntry]:
    """Read a table of tracks: name, path and kind, separated by tabs.

    Parameters
    ----------
    path : str or Path
        UTF-8 text. ``#`` begins a comment line; the kind may be left out. Paths are relative to the table's folder.

    Raises
    ------
    InputError
        If the file is missing or malformed, a name occurs twice, or there is no track in it.
    """
    path = Path(path)
    entries: dict[str, TrackEntry] = {}
    for number, line in read_lines(path, f"a table of tracks: {_EXPECTED}"):
        if not line.strip() or line.startswith("#"):
            continue
        entry = _parse_row(f"{path}:{number}", line, path.parent)
        if entry.name in entries:
            raise InputError(f"{path}:{number}: a second track '{entry.name}'; expected different names")
        entries[entry.name] = entry
    if not entries:
        raise InputError(f"{path}: no tracks in it; expected {_EXPECTED}")
    return list(entries.values())


def _parse_row(location: str, line: str, folder: Path) -> TrackEntry:
    fields = [field.strip() for field in line.split("\t")]
    if len(fields) not in (2, 3) or not all(fields):
        raise InputError(f"{location}: expected name, path and kind, separated by tabs, found {line[:60]!r}")
    name, file = fields[:2]
    kind = fields[2] if len(fields) == 3 else None
    if kind is not None and kind not in FEATURE_KINDS:
        raise InputError(
            f"{location}: kind '{kind}' is unknown; expected {', '.join(FEATURE_KINDS)}{suggest(kind, FEATURE_KINDS)}"
        )
    return TrackEntry(name, folder / file, kind)
