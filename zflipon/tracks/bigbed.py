"""bigBed files of calls (BED9 with two more columns), labels (BED3) and genes (BED12), with their columns in autoSql.

The BED text files of annotate are written by `zflipon.tracks.bed`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from zflipon.config import PROBABILITY_DECIMALS
from zflipon.errors import MissingExtraError, OutputError
from zflipon.tracks.atomic import raise_output_errors
from zflipon.tracks.bed import BED_FIELDS, COLUMNS, SCORE_COLOURS
from zflipon.tracks.description import CALL_PREFIX, call_name

MAGIC = 0x8789F2EB
"""First four bytes of a bigBed file."""


def autosql(columns: int, table: str = "zdna", description: str = "Z-DNA called by zflipon") -> str:
    """Return the autoSql declaration of the first columns of `COLUMNS`.

    Examples
    --------
    >>> print(autosql(3, "labels", "Known Z-DNA"))
    table labels
    "Known Z-DNA"
        (
        string chrom; "Contig"
        uint chromStart; "Start, 0-based"
        uint chromEnd; "End, exclusive"
        )
    <BLANKLINE>
    """
    rows = "".join(f'    {declaration}; "{comment}"\n' for declaration, comment in COLUMNS[:columns])
    return f'table {table}\n"{description}"\n    (\n{rows}    )\n'


SCORED_CALLS = autosql(len(COLUMNS))
"""Calls with probabilities: BED9 and two extra columns."""

PLAIN_CALLS = autosql(BED_FIELDS)
"""Calls without probabilities: BED9."""

LABELS = autosql(3, "labels", "Known Z-DNA")
"""Labels: BED3."""

GENE_FIELDS = 12
"""Columns of genes: all of BED12."""

GENES = """table genes
"Genes"
    (
    string chrom; "Contig"
    uint chromStart; "Start, 0-based"
    uint chromEnd; "End, exclusive"
    string name; "Gene"
    uint score; "0"
    char[1] strand; "Strand"
    uint thickStart; "First base that is not in a UTR"
    uint thickEnd; "End of the bases that are not in UTRs"
    uint itemRgb; "0"
    int blockCount; "Number of exons"
    int[blockCount] blockSizes; "Lengths of the exons"
    int[blockCount] chromStarts; "Starts of the exons, from chromStart"
    )
"""
"""Genes: BED12, in autoSql."""


def check_available() -> None:
    """Raise `MissingExtraError` if pybigtools, which writes bigBed, is not installed."""
    if find_spec("pybigtools") is None:
        raise MissingExtraError("a bigBed", "pybigtools", "bundle")


def write_calls(
    path: Path,
    lengths: Mapping[str, int],
    calls: Mapping[str, np.ndarray],
    scored: bool,
    call_prefix: str = CALL_PREFIX,
) -> str:
    """Write calls as bigBed, and their autoSql declaration as ``.as`` file of the same name.

    Parameters
    ----------
    path : Path
    lengths : mapping of str to int
    calls : mapping of str to numpy.ndarray
        Contig → `zflipon.tracks.calling.CALL_DTYPE`; at least one call.
    scored : bool
        Whether the calls have probabilities.
    call_prefix : str
        Prefix of the names of the calls.

    Returns
    -------
    str
        Columns in UCSC's notation: ``9 +`` with extra columns, else ``9``.

    Raises
    ------
    OutputError
        If the file cannot be written completely.
    """

    def rows() -> Iterator[tuple[str, int, int, str]]:
        for contig in sorted(calls):
            for start, end, mean, highest in calls[contig].tolist():
                score = int(np.rint(mean * 1000)) if scored else 1000
                name = call_name(call_prefix, contig, start, end)
                rest = f"{name}\t{score}\t.\t{start}\t{end}\t{SCORE_COLOURS[score]}"
                if scored:
                    rest += f"\t{mean:.{PROBABILITY_DECIMALS}f}\t{highest:.{PROBABILITY_DECIMALS}f}"
                yield contig, start, end, rest

    number = sum(map(len, calls.values()))
    _write(path, lengths, rows(), number, SCORED_CALLS if scored else PLAIN_CALLS, BED_FIELDS)
    return f"{BED_FIELDS} +" if scored else f"{BED_FIELDS}"


def write_labels(path: Path, lengths: Mapping[str, int], labels: Mapping[str, np.ndarray]) -> str:
    """Write labels as bigBed; parameters and return value are as in `write_calls`.

    Parameters
    ----------
    path : Path
    lengths : mapping of str to int
    labels : mapping of str to numpy.ndarray
        Contig → merged int64 intervals of shape (n, 2); at least one.

    Returns
    -------
    str
        ``3``.
    """
    rows = ((contig, start, end, "") for contig in sorted(labels) for start, end in labels[contig].tolist())
    _write(path, lengths, rows, sum(map(len, labels.values())), LABELS, 3)
    return "3"


def write_genes(path: Path, lengths: Mapping[str, int], rows: Sequence[tuple[str, int, int, str]]) -> str:
    """Write genes as bigBed; other parameters and the return value are as in `write_calls`.

    Parameters
    ----------
    path : Path
    lengths : mapping of str to int
    rows : sequence of (str, int, int, str)
        Contig, start, end, and the other nine fields of BED12, separated by tabs; at least one row, in any order.

    Returns
    -------
    str
        ``12``.
    """
    ordered = sorted(rows, key=lambda row: row[:3])
    _write(path, lengths, iter(ordered), len(ordered), GENES, GENE_FIELDS)
    return f"{GENE_FIELDS}"


def _write(
    path: Path, lengths: Mapping[str, int], rows: Iterator, number: int, declaration: str, bed_fields: int
) -> None:
    import pybigtools

    with raise_output_errors(path):
        # UCSC programs search the contigs by name and rely on this order
        contigs = {name: lengths[name] for name in sorted(lengths)}
        try:
            pybigtools.open(str(path), "w").write(contigs, rows, declaration)
        except BaseException as error:  # a panic of Rust is not an Exception
            if type(error).__name__ != "PanicException":
                raise
        if _count_items(path) != number:  # pybigtools prints its errors and does not raise them
            raise OutputError(f"{path.name}: the bigBed is incomplete; is the disk full?")
        _set_bed_fields(path, bed_fields)
    path.with_suffix(".as").write_text(declaration, encoding="utf-8")


def _count_items(path: Path) -> int:
    """Return the number of items of a bigBed, -1 if the file is incomplete."""
    with open(path, "rb") as file:
        header = file.read(24)
        if len(header) < 24 or header[:4] != struct.pack("<I", MAGIC):
            return -1
        file.seek(struct.unpack("<Q", header[16:])[0])
        count = file.read(8)
    return struct.unpack("<Q", count)[0] if len(count) == 8 else -1


def _set_bed_fields(path: Path, bed_fields: int) -> None:
    """Set the number of standard BED columns in the header, so that UCSC does not read extra columns as BED12."""
    with open(path, "rb+") as file:
        file.seek(34)  # definedFieldCount
        file.write(struct.pack("<H", bed_fields))
