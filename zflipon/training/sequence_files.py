"""Reader of CSV and TSV files with labelled sequences, the format of the GUE benchmark.

The rules of the split are in `zflipon.training.splits`.
"""

from __future__ import annotations

import csv
import logging
import re
from pathlib import Path

import numpy as np

from zflipon.config import DataConfig
from zflipon.errors import InputError, format_names
from zflipon.genome.text_files import read_lines
from zflipon.training.labelled_windows import LabelledWindows, describe_parts, require_positives
from zflipon.training.splits import split_items

log = logging.getLogger("zflipon")

COLUMNS = ("sequence", "label")
"""Required columns."""

_LETTERS = re.compile(r"[A-Z]+")


def read_sequences(path: str | Path) -> LabelledWindows:
    """Read a table with the columns ``sequence`` and ``label``.

    Column names are compared without regard to case; other columns are ignored. A byte-order mark is skipped.

    Parameters
    ----------
    path : str or Path
        Comma- or tab-separated.

    Returns
    -------
    LabelledWindows
        Upper-case sequences; labels of 0 or 1, shape (n,).

    Raises
    ------
    InputError
        If the file is missing or empty, a column is missing, or a row has no sequence or an invalid label.
    """
    path = Path(path)
    sequences, labels = [], []
    lines = (line for _, line in read_lines(path, "a CSV or TSV file of sequences"))
    header = next(lines, "")
    delimiter = "\t" if "\t" in header else ","
    columns = _column_indices(path, [name.strip() for name in header.split(delimiter)])
    try:
        for number, row in enumerate(csv.reader(lines, delimiter=delimiter), 2):
            if row:
                sequence, label = _parse_row(path, number, row, columns)
                sequences.append(sequence)
                labels.append(label)
    except csv.Error as error:
        raise InputError(f"{path}: not a CSV or TSV file ({error})") from error
    if not sequences:
        raise InputError(
            f"{path}: no sequences after the header; expected a sequence and a label in each row"
        )
    return LabelledWindows(sequences, np.array(labels, dtype=np.int8))


def read_sequence_parts(data: DataConfig) -> dict[str, LabelledWindows]:
    """Read the tables of sequences of a recipe. A single table is split at random, stratified by label.

    Raises
    ------
    InputError
        If a table is malformed, or a part has no sequence with a label of 1.
    """
    paths = {
        "train": data.sequences,
        "validation": data.validation_sequences,
        "test": data.test_sequences,
    }
    parts = {part: read_sequences(path) for part, path in paths.items() if path}
    if len(parts) == 1:
        table = parts["train"]
        parts = {part: table[rows] for part, rows in split_items(table.positive.astype(int), data).items()}
    if data.select_on == "test":
        if "test" not in parts:
            raise InputError("data.test_sequences must be set with data.select_on = 'test'")
        parts["validation"] = parts["test"]
    for part, windows in parts.items():
        if len(windows):
            require_positives(part, windows, paths[part] or data.sequences)
    log.info("sequences: %s", describe_parts(parts))
    return parts


def _column_indices(path: Path, header: list[str]) -> list[int]:
    names = [name.strip('"').lower() for name in header]
    if not set(COLUMNS) <= set(names):
        raise InputError(
            f"{path}: expected the columns {' and '.join(COLUMNS)}, found {format_names(filter(None, header))}"
        )
    return [names.index(name) for name in COLUMNS]


def _parse_row(path: Path, number: int, row: list[str], columns: list[int]) -> tuple[str, int]:
    try:
        sequence, label = (row[column].strip() for column in columns)
    except IndexError:
        raise InputError(
            f"{path}:{number}: expected a sequence and a label, found {','.join(row)[:60]!r}"
        ) from None
    sequence = sequence.upper()
    if not _LETTERS.fullmatch(sequence):
        raise InputError(f"{path}:{number}: expected DNA letters, found {sequence[:30]!r}")
    if label not in ("0", "1", "0.0", "1.0"):
        raise InputError(f"{path}:{number}: expected a label of 0 or 1, found {label!r}")
    return sequence, int(float(label))
