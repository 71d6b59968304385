"""CSV and TSV files of labelled sequences, as the GUE benchmark has them."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np

from zflipon.errors import InputError, format_names
from zflipon.training.stored_windows import StoredWindows

COLUMNS = ("sequence", "label")

_LETTERS = re.compile(r"[A-Z]+")


def read_sequences(path: str | Path) -> StoredWindows:
    """Read a table with the columns ``sequence`` and ``label`` (any case, any order, others are left out).

    Parameters
    ----------
    path : str or Path
        Commas or tabs.

    Returns
    -------
    StoredWindows
        Upper-case sequences, labels of shape (n,): 0 or 1.

    Raises
    ------
    InputError
        If the file is missing or empty, lacks a column, or a row has no sequence or another label.
    """
    path = Path(path)
    sequences, labels = [], []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            heading = file.readline()
            delimiter = "\t" if "\t" in heading else ","
            at = _columns(path, [name.strip() for name in heading.rstrip("\r\n").split(delimiter)])
            for number, row in enumerate(csv.reader(file, delimiter=delimiter), 2):
                if row:
                    sequence, label = _row(path, number, row, at)
                    sequences.append(sequence)
                    labels.append(label)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a CSV or TSV file ({error})") from error
    if not sequences:
        raise InputError(f"{path}: no sequences below the heading")
    return StoredWindows(sequences, np.array(labels, dtype=np.int8))


def _columns(path: Path, heading: list[str]) -> list[int]:
    names = [name.strip('"').lower() for name in heading]
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise InputError(
            f"{path}: expected the columns {' and '.join(COLUMNS)}, found {format_names(filter(None, heading))}"
        )
    return [names.index(name) for name in COLUMNS]


def _row(path: Path, number: int, row: list[str], at: list[int]) -> tuple[str, int]:
    try:
        sequence, label = (row[place].strip() for place in at)
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
