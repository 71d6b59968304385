"""Calls and labels as bigBed, which browsers read at any place without the rest of the file."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from zflipon.config import PROBABILITY_DECIMALS
from zflipon.errors import MissingExtraError, OutputError
from zflipon.tracks.atomic import raise_output_errors
from zflipon.tracks.bed import SCORE_COLOURS

_COLUMNS = [
    ("string chrom", "Contig"),
    ("uint chromStart", "First base, counted from 0"),
    ("uint chromEnd", "Base after the last"),
    ("string name", "Number of the call along the genome"),
    ("uint score", "Mean probability in thousandths"),
    ("char[1] strand", "None: Z-DNA has no strand"),
    ("uint thickStart", "First base"),
    ("uint thickEnd", "Base after the last"),
    ("uint reserved", "Colour, darker with the score"),
    ("float meanProbability", "Mean probability of the call's bases"),
    ("float maxProbability", "Highest probability of the call's bases"),
]


def autosql(columns: int, table: str = "zdna", about: str = "Z-DNA called by zflipon") -> str:
    """Return the description of the first columns of a bigBed of calls, in autoSql."""
    rows = "".join(f'    {kind}; "{what}"\n' for kind, what in _COLUMNS[:columns])
    return f'table {table}\n"{about}"\n    (\n{rows}    )\n'


CALLS = autosql(11)
"""Calls with probabilities: BED9+2."""

PLAIN_CALLS = autosql(9)
"""Calls of which no probability is known: BED9."""

LABELS = autosql(3, "labels", "Known Z-DNA")
"""BED3."""


def check_available() -> None:
    """Raise `MissingExtraError` where bigBed cannot be written."""
    if find_spec("pybigtools") is None:
        raise MissingExtraError("a bigBed", "pybigtools", "bundle")


def write_calls(
    path: Path, lengths: Mapping[str, int], calls: Mapping[str, np.ndarray], scored: bool
) -> None:
    """Write calls.

    Parameters
    ----------
    path : Path
    lengths : mapping of str to int
        Contigs in the genome's order, along which calls are numbered.
    calls : mapping of str to numpy.ndarray
        `zflipon.tracks.calling.CALL_DTYPE`, at least one call.
    scored : bool
        Whether the calls have probabilities.

    Raises
    ------
    OutputError
        If the file does not come out whole.
    """
    first, reached = {}, 1
    for contig in lengths:
        first[contig], reached = reached, reached + len(calls.get(contig, ()))

    def rows() -> Iterator[tuple[str, int, int, str]]:
        for contig in sorted(calls):
            for number, (start, end, mean, peak) in enumerate(calls[contig].tolist(), first[contig]):
                score = int(np.rint(mean * 1000)) if scored else 1000
                rest = f"Z{number}\t{score}\t.\t{start}\t{end}\t{SCORE_COLOURS[score]}"
                if scored:
                    rest += f"\t{mean:.{PROBABILITY_DECIMALS}f}\t{peak:.{PROBABILITY_DECIMALS}f}"
                yield contig, start, end, rest

    _write(path, lengths, rows(), reached - 1, CALLS if scored else PLAIN_CALLS)


def write_labels(path: Path, lengths: Mapping[str, int], labels: Mapping[str, np.ndarray]) -> None:
    """Write labels: contig → merged int64 intervals of shape (n, 2), at least one."""
    rows = ((contig, start, end, "") for contig in sorted(labels) for start, end in labels[contig].tolist())
    _write(path, lengths, rows, sum(map(len, labels.values())), LABELS)


def _write(path: Path, lengths: Mapping[str, int], rows: Iterator, number: int, described: str) -> None:
    import pybigtools

    with raise_output_errors(path):
        # the tree of contigs is searched by name: readers of UCSC's count on this order
        pybigtools.open(str(path), "w").write(
            {name: lengths[name] for name in sorted(lengths)}, rows, described
        )
        if _items(path) != number:  # pybigtools prints what went wrong, and does not raise
            raise OutputError(f"{path.name}: the bigBed did not come out whole; is the disk full?")
    path.with_suffix(".as").write_text(described, encoding="utf-8")


def _items(path: Path) -> int:
    """Return the number of items that the header of a finished bigBed tells."""
    with open(path, "rb") as file:
        head = file.read(24)
        if len(head) < 24 or head[:4] != struct.pack("<I", 0x8789F2EB):
            return -1
        file.seek(struct.unpack("<Q", head[16:])[0])
        told = file.read(8)
    return struct.unpack("<Q", told)[0] if len(told) == 8 else -1
