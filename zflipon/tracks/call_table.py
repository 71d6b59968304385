"""Tables of calls for data frames: TSV with a header, and Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zflipon.config import PROBABILITY_DECIMALS
from zflipon.errors import OutputError
from zflipon.tracks.base import UNDESCRIBED
from zflipon.tracks.calling import ContigTrack, call_summits
from zflipon.tracks.description import TrackDescription, call_name
from zflipon.tracks.text import LINES_PER_BLOCK, TextTrackWriter

COLUMNS = ("contig", "start", "end", "name", "length", "mean", "max", "summit")
"""Columns of both tables; positions are 0-based, as in BED."""


def call_columns(track: ContigTrack, calls: np.ndarray, call_prefix: str) -> dict[str, list]:
    """Return the columns of a contig's calls, in the order of `COLUMNS`; probabilities are rounded."""
    starts, ends = calls["start"].tolist(), calls["end"].tolist()
    positions = zip(starts, ends, strict=True)
    return {
        "contig": [track.contig] * len(calls),
        "start": starts,
        "end": ends,
        "name": [call_name(call_prefix, track.contig, start, end) for start, end in positions],
        "length": (calls["end"] - calls["start"]).tolist(),
        "mean": np.round(calls["mean"], PROBABILITY_DECIMALS).tolist(),
        "max": np.round(calls["max"], PROBABILITY_DECIMALS).tolist(),
        "summit": call_summits(track, calls).tolist(),
    }


class TsvWriter(TextTrackWriter):
    """Writes calls as tab-separated values under a line with the names of the columns."""

    def __init__(
        self, path: Path | None, lengths: Mapping[str, int], description: TrackDescription = UNDESCRIBED
    ):
        super().__init__(path, lengths, description)
        self._write("\t".join(COLUMNS) + "\n")
        self._skipped_lines += 1

    def format_contig(self, track: ContigTrack, calls: np.ndarray) -> Iterator[str]:
        """Yield the lines of a contig's calls."""
        digits = f".{PROBABILITY_DECIMALS}f"
        rows = zip(*call_columns(track, calls, self.description.call_prefix).values(), strict=True)
        yield "".join(
            f"{contig}\t{start}\t{end}\t{name}\t{length}\t{mean:{digits}}\t{highest:{digits}}\t{summit}\n"
            for contig, start, end, name, length, mean, highest, summit in rows
        )


class ParquetWriter:
    """Writes calls as Parquet, at most `LINES_PER_BLOCK` rows in memory and in a row group.

    See `zflipon.tracks.base.TrackWriter`. The label of the track is in the file's metadata.
    """

    def __init__(
        self, path: Path | None, lengths: Mapping[str, int], description: TrackDescription = UNDESCRIBED
    ):
        if path is None:
            raise OutputError("Parquet cannot be written to standard output; name a file")
        import pyarrow
        from pyarrow.parquet import ParquetWriter as ArrowWriter

        integer, number, text = pyarrow.int64(), pyarrow.float64(), pyarrow.string()
        types = (text, integer, integer, text, integer, number, number, integer)
        metadata = {"zflipon.label": description.label, "zflipon.track": description.name}
        self._schema: Any = pyarrow.schema(list(zip(COLUMNS, types, strict=True)), metadata=metadata)
        self._description = description
        self._file = ArrowWriter(path, self._schema, compression="zstd")
        self._rows: dict[str, list] = {column: [] for column in COLUMNS}

    def add(self, track: ContigTrack, calls: np.ndarray) -> None:
        """Add a contig's calls."""
        for column, values in call_columns(track, calls, self._description.call_prefix).items():
            self._rows[column] += values
        while len(self._rows["start"]) >= LINES_PER_BLOCK:
            self._write(LINES_PER_BLOCK)

    def finish(self) -> None:
        """Write the remaining rows and the footer."""
        if self._rows["start"]:
            self._write(LINES_PER_BLOCK)
        self.release()

    def release(self) -> None:
        """Close the file, complete or not."""
        self._file.close()

    def _write(self, count: int) -> None:
        import pyarrow

        block = {column: values[:count] for column, values in self._rows.items()}
        self._rows = {column: values[count:] for column, values in self._rows.items()}
        self._file.write_table(pyarrow.table(block, schema=self._schema))
