"""CSV files of tables, with a header of ``# key: value`` lines for the model, data and settings; and tables as text.

pandas reads such a file with ``read_csv(path, comment="#")``, R with ``read.csv(path, comment.char = "#")``. Tables
of other programs, without a header, are read too.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zflipon import __version__
from zflipon.errors import InputError, format_names
from zflipon.genome.text_files import read_lines
from zflipon.tracks.atomic import atomic_file

SEPARATORS = ",\t;"
"""Accepted column separators; spreadsheets write semicolons in some locales."""


@dataclass(frozen=True)
class Table:
    """The content of a CSV file.

    Attributes
    ----------
    path : Path
    header : dict of str to str
        Its ``# key: value`` lines; empty if it has none.
    columns : tuple of str
        Column names as written.
    rows : tuple of (int, tuple of str)
        Line number and fields; every row has a field for each column.
    """

    path: Path
    header: dict[str, str]
    columns: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]

    def column_index(self, names: Sequence[str]) -> int | None:
        """Return the index of the first of `names` (lower case) that is a column in any case; None if none is."""
        columns = [column.strip().lower() for column in self.columns]
        return next((columns.index(name) for name in names if name in columns), None)


def read_table(path: str | Path) -> Table:
    """Read a CSV file with column names, separated by commas, tabs or semicolons.

    Raises
    ------
    InputError
        If the file is missing, not text or empty, or if a row has another number of fields than the column names.
    """
    path = Path(path)
    lines = list(read_lines(path, "a table with column names"))
    comments = [line[1:].partition(":") for _, line in lines if line.startswith("#")]
    header = {key.strip(): value.strip() for key, colon, value in comments if colon}
    numbered = [(number, line) for number, line in lines if line.strip() and not line.startswith("#")]
    if not numbered:
        raise InputError(
            f"{path}: the table is empty; expected a line of column names and a row for each token"
        )
    separator = max(SEPARATORS, key=numbered[0][1].count)
    (_, columns), *rows = (
        (number, _split_fields(path, number, line, separator)) for number, line in numbered
    )
    for number, row in rows:
        if len(row) != len(columns):
            raise InputError(
                f"{path}, line {number}: expected {len(columns)} fields ({format_names(columns)}), found {len(row)}"
            )
    return Table(path, header, columns, tuple(rows))


def _split_fields(path: Path, number: int, line: str, separator: str) -> tuple[str, ...]:
    try:
        return tuple(next(csv.reader([line], delimiter=separator)))
    except csv.Error as error:
        raise InputError(f"{path}, line {number}: cannot be read as a row of a table ({error})") from error


def table_text(header: Mapping[str, object], columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table as the text of a CSV file.

    Parameters
    ----------
    header : mapping of str to object
        Model, data and settings. Values of None are left out; the version of zflipon is added.
    columns : sequence of str
    rows : iterable of sequences
        One field for each column; None and NaN become empty fields.
    """
    text = io.StringIO()
    for key, value in {"zflipon": __version__, **header}.items():
        if value is not None:
            text.write(f"# {key}: {' '.join(str(value).split())}\n")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_field(value) for value in row] for row in rows)
    return text.getvalue()


def write_table(
    path: str | Path, header: Mapping[str, object], columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Write a table as a CSV file; the arguments are those of `table_text`."""
    with atomic_file(path) as part:
        part.write_text(table_text(header, columns, rows), encoding="utf-8")


def align_columns(
    heads: Sequence[str], rows: Iterable[Sequence[str]], left: Sequence[str] = ("token",)
) -> str:
    """Return rows as aligned text for the console; columns named in `left` are left-aligned, others right-aligned."""
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
    return "" if value is None or value != value else value  # NaN is not equal to itself
