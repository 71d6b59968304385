"""Tables of tokens as CSV files: ours tell above their columns of what they are, others' are read too.

What a table tells of itself stands in lines that begin with ``#``, ``# key: value``: pandas reads such a file with
``read_csv(path, comment="#")``, R with ``read.csv(path, comment.char = "#")``.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zflipon import __version__
from zflipon.errors import InputError, format_names
from zflipon.tracks.atomic import atomic_file

SEPARATORS = ",\t;"
"""What may stand between the columns of others' tables; spreadsheets of some countries write semicolons."""


@dataclass(frozen=True)
class Table:
    """A CSV file as it was read.

    Attributes
    ----------
    path : Path
    about : dict of str to str
        What it tells of itself, empty for a table that tells nothing.
    columns : tuple of str
        Names as they are written.
    rows : tuple of (int, tuple of str)
        Line of the file, and the fields, as many as there are columns.
    """

    path: Path
    about: dict[str, str]
    columns: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]

    def column(self, names: Sequence[str]) -> int | None:
        """Return the place of the first of `names` that is a column, whatever its case; None if there is none."""
        written = [column.strip().lower() for column in self.columns]
        return next((written.index(name) for name in names if name in written), None)


def read_table(path: str | Path) -> Table:
    """Read a table with a line of column names, separated by commas, tabs or semicolons.

    Raises
    ------
    InputError
        If the file is missing, not text, empty, or a row has not as many fields as there are columns.
    """
    path = Path(path)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:  # spreadsheets put a byte-order mark first
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a text file"
        raise InputError(f"{path}: cannot be read as a table ({reason})") from error
    told = [line[1:].partition(":") for line in lines if line.startswith("#")]
    about = {key.strip(): value.strip() for key, colon, value in told if colon}
    numbered = [(n, line) for n, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    if not numbered:
        raise InputError(f"{path}: holds no table; expected a line of column names and a row for each token")
    separator = max(SEPARATORS, key=numbered[0][1].count)
    fields = csv.reader([line for _, line in numbered], delimiter=separator)
    columns, *rows = (tuple(row) for row in fields)
    for (number, _), row in zip(numbered[1:], rows, strict=True):
        if len(row) != len(columns):
            raise InputError(
                f"{path}, line {number}: expected {len(columns)} fields ({format_names(columns)}), found {len(row)}"
            )
    return Table(
        path, about, columns, tuple((n, row) for (n, _), row in zip(numbered[1:], rows, strict=True))
    )


def table_text(about: Mapping[str, object], columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Lay out a table as the text of a CSV file.

    Parameters
    ----------
    about : mapping of str to object
        Model, data and settings; None is left out, and zflipon's version is added.
    columns : sequence of str
    rows : iterable of sequences
        A field for each column; None and NaN are empty.
    """
    text = io.StringIO()
    for key, value in {"zflipon": __version__, **about}.items():
        if value is not None:
            text.write(f"# {key}: {' '.join(str(value).split())}\n")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_field(value) for value in row] for row in rows)
    return text.getvalue()


def write_table(
    path: str | Path, about: Mapping[str, object], columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Write a table, whole or not at all; see `table_text`."""
    with atomic_file(path) as part:
        part.write_text(table_text(about, columns, rows), encoding="utf-8")


def aligned(heads: Sequence[str], rows: Iterable[Sequence[str]], left: Sequence[str] = ("token",)) -> str:
    """Lay out rows for reading; columns stand to the right but for those named in `left`."""
    lines = [list(heads), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if head in left else cell.rjust(width)
            for head, cell, width in zip(heads, line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def _field(value: object) -> object:
    return "" if value is None or value != value else value  # NaN alone differs from itself
