"""Tables with columns of types → TSV, Parquet or a spreadsheet, by extension.

CSV files of tokens and k-mers are written by `zflipon.explain.table_files`.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from zflipon.errors import MissingExtraError, OutputError, format_count, printable
from zflipon.tracks.atomic import atomic_file, check_output_path

if TYPE_CHECKING:
    import pandas as pd

TABLE_EXTENSIONS = (".tsv", ".tsv.gz", ".parquet", ".xlsx")
"""Extensions of tables. A spreadsheet holds all tables of a command, each other format one table a file."""

EXTRA = "genes"
"""Extra of this package that installs what tables need."""

_PACKAGES = {".parquet": "pyarrow", ".xlsx": "openpyxl"}

MAX_SHEET_ROWS = 1_048_575
"""Rows of a spreadsheet below its header."""

MAX_CELL = 32_767
"""Characters of a cell of a spreadsheet."""


def require_gene_packages() -> None:
    """Raise `MissingExtraError` if a package that reads annotations is not installed."""
    for package in ("bioframe", "pyarrow"):
        if find_spec(package) is None:
            raise MissingExtraError("a gene table", package, EXTRA)


def table_extension(path: str | Path) -> str:
    """Return the extension of a table; raise `OutputError` if it is not in `TABLE_EXTENSIONS`."""
    name = Path(path).name.lower()
    for extension in TABLE_EXTENSIONS:
        if name.endswith(extension):
            return extension
    raise OutputError(
        f"{path}: unknown table format; expected a name that ends in {', '.join(TABLE_EXTENSIONS)}"
    )


def table_paths(path: str | Path, names: tuple[str, ...]) -> dict[str, Path]:
    """Return the file of each table of a command; the first one has the name that the user gave.

    Examples
    --------
    >>> {name: str(path) for name, path in table_paths("z.tsv", ("calls", "genes")).items()}
    {'calls': 'z.tsv', 'genes': 'z.genes.tsv'}
    """
    path, extension = Path(path), table_extension(path)
    if extension == ".xlsx":
        return dict.fromkeys(names, path)
    stem = path.name[: -len(extension)]
    rest = {name: path.with_name(f"{stem}.{name}{path.name[len(stem) :]}") for name in names[1:]}
    return {names[0]: path, **rest}


def check_table_paths(path: str | Path, names: tuple[str, ...], force: bool) -> None:
    """Check that the tables of a command can be written, before any work is done.

    Raises
    ------
    OutputError
        If a file exists and `force` is not given, cannot be written, or has an unknown extension.
    MissingExtraError
        If the package that writes the format is not installed.
    """
    extension = table_extension(path)
    package = _PACKAGES.get(extension)
    if package is not None and find_spec(package) is None:
        raise MissingExtraError(f"a table in {extension}", package, EXTRA)
    for file in dict.fromkeys(table_paths(path, names).values()):
        check_output_path(file, force)


def write_tables(
    path: str | Path, tables: Mapping[str, pd.DataFrame], settings: Mapping[str, object]
) -> list[Path]:
    """Write tables in the format of the extension.

    Parameters
    ----------
    path : str or Path
        Replaced if it exists.
    tables : mapping of str to pandas.DataFrame
        Name → table. The first one is written to `path`; `table_paths` names the others.
    settings : mapping
        Data and settings: comment lines of a TSV, metadata of Parquet, a sheet of a spreadsheet. None is left out.

    Returns
    -------
    list of Path
        The files.
    """
    paths = table_paths(path, tuple(tables))
    known = {key: value for key, value in settings.items() if value is not None}
    extension = table_extension(path)
    if extension == ".xlsx":
        with atomic_file(path) as part:
            _write_sheets(Path(path), part, tables, known)
        return [Path(path)]
    for name, table in tables.items():
        with atomic_file(paths[name]) as part:
            if extension == ".parquet":
                _write_parquet(part, table, known)
            else:
                _write_tsv(part, table, known)
    return list(paths.values())


def _write_tsv(path: Path, table: pd.DataFrame, settings: Mapping[str, object]) -> None:
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    with opener(path, "wt", encoding="utf-8") as file:
        file.writelines(f"# {key}: {printable(value)}\n" for key, value in settings.items())
        table.to_csv(file, sep="\t", index=False, float_format="%.6g", lineterminator="\n")


def _write_parquet(path: Path, table: pd.DataFrame, settings: Mapping[str, object]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    columns = pa.Table.from_pandas(table, preserve_index=False)
    metadata = {**(columns.schema.metadata or {}), b"zflipon": json.dumps(settings, default=str).encode()}
    parquet.write_table(columns.replace_schema_metadata(metadata), path)


def _write_sheets(
    name: Path, path: Path, tables: Mapping[str, pd.DataFrame], settings: Mapping[str, object]
) -> None:
    """Write each table to a sheet. Text is never a formula, whatever its first letter."""
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell

    for table in tables.values():
        if len(table) > MAX_SHEET_ROWS:
            raise OutputError(
                f"{name}: {format_count(len(table), 'row')}; a spreadsheet holds {MAX_SHEET_ROWS:,}. Write .tsv or "
                ".parquet"
            )
        texts = table.select_dtypes(exclude="number")
        longest = max(
            (len(text) for column in texts for text in texts[column].dropna().astype(str)), default=0
        )
        if longest > MAX_CELL:
            raise OutputError(
                f"{name}: a text of {longest:,} letters; a cell holds {MAX_CELL:,}. Write .tsv or .parquet"
            )
    book = Workbook(write_only=True)

    def cell(sheet, value):
        if not isinstance(value, str):
            return None if value != value else value
        written = WriteOnlyCell(sheet, printable(value))
        written.data_type = "s"
        return written

    for title, table in tables.items():
        sheet = book.create_sheet(title)
        sheet.freeze_panes = "A2"
        sheet.append(list(table.columns))
        for row in table.astype(object).where(table.notna(), None).itertuples(index=False):
            sheet.append([cell(sheet, value) for value in row])
    sheet = book.create_sheet("settings")
    for key, value in settings.items():
        sheet.append([key, cell(sheet, str(value))])
    book.save(path)
