"""The file of a training run that lists its training, validation and test data: a BED whose names are the parts.

Its rows are the windows of the run or, if whole contigs are split, contigs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from zflipon.errors import InputError, format_names
from zflipon.genome.interval_files import read_bed_rows
from zflipon.genome.intervals import Intervals

SPLITS = "splits.bed"
"""File name, in the folder of a checkpoint."""

PARTS = ("train", "validation", "test")


def split_text(rows: Iterable[tuple[str, int, int, str]]) -> str:
    """Return the text of a split file.

    Parameters
    ----------
    rows : iterable of (str, int, int, str)
        Contig, start, end and part.

    Examples
    --------
    >>> print(split_text([("chr1", 0, 128, "train"), ("chr1", 128, 256, "test")]), end="")
    chr1	0	128	train
    chr1	128	256	test
    """
    return "".join(f"{contig}\t{start}\t{end}\t{part}\n" for contig, start, end, part in rows)


def read_split(folder: str | Path, part: str, lengths: Mapping[str, int]) -> Intervals:
    """Read the intervals of one part from the split file in the folder of a checkpoint.

    Parameters
    ----------
    folder : str or Path
        Checkpoint.
    part : str
        One of `PARTS`.
    lengths : mapping of str to int
        The genome's contigs and their lengths.

    Returns
    -------
    dict of str to numpy.ndarray
        Contig → int64 intervals of shape (n, 2), sorted by start.

    Raises
    ------
    InputError
        If the folder has no split file, or the file has no row of the part.
    """
    path = Path(folder) / SPLITS
    if not path.is_file():
        raise InputError(
            f"{folder}: has no {SPLITS}, the windows of a training run; choose the folder of a run of zflipon train, "
            "or leave out --part"
        )
    rows: dict[str, list[tuple[int, int]]] = {}
    names: dict[str, int] = dict.fromkeys(PARTS, 0)
    for contig, start, end, fields in read_bed_rows(path, lengths, f"windows of {SPLITS}"):
        name = fields[0] if fields else ""
        names[name] = names.get(name, 0) + 1
        if name == part:
            rows.setdefault(contig, []).append((start, end))
    if not rows:
        found = [name for name, count in names.items() if count]
        raise InputError(f"{path}: no row with the name '{part}'; its parts are {format_names(found)}")
    return {contig: np.array(sorted(rows[contig]), dtype=np.int64) for contig in lengths if contig in rows}
