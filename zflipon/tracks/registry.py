"""All track formats: file extension → reader, writer and description, registered once.

To add a format, write its writer, and its reader if it can be an input, and add one `TrackFormat` to `FORMATS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from zflipon.errors import InputError, MissingExtraError, OutputError
from zflipon.tracks.base import STDOUT, TrackReader, TrackWriter


@dataclass(frozen=True)
class TrackFormat:
    """A track format.

    Attributes
    ----------
    name : str
    extensions : tuple of str
        In lower case; the first is the usual one.
    writer_path, reader_path : str
        ``module:class`` in `zflipon.tracks`, imported when they are used; no reader if the format is for outputs only.
    description : str
        One phrase for help texts.
    header_lines : tuple of str
        Of ``track_line`` and ``header`` (see `zflipon.tracks.description`), those that the format has.
    requirement : (str, str) or None
        Package that the writer needs, and the extra that installs it.
    """

    name: str
    extensions: tuple[str, ...]
    writer_path: str
    reader_path: str
    description: str
    header_lines: tuple[str, ...] = ()
    requirement: tuple[str, str] | None = None

    @property
    def writer(self) -> type[TrackWriter]:
        """The class that writes the format."""
        return _import(self.writer_path)

    @property
    def reader(self) -> type[TrackReader]:
        """The class that reads the format, which must have one."""
        return _import(self.reader_path)

    def matches(self, path: str | Path) -> bool:
        """Return whether a file name has one of the extensions, in any case."""
        return Path(path).name.lower().endswith(self.extensions)

    def strip_extension(self, path: str | Path) -> str:
        """Return the file name of `path` without its extension."""
        name = Path(path).name
        extension = max((end for end in self.extensions if name.lower().endswith(end)), key=len)
        return name[: -len(extension)]


HEADER_LINES = ("track_line", "header")
"""Optional header lines of text formats."""

BIGWIG = TrackFormat(
    "bigWig",
    (".bw", ".bigwig"),
    "bigwig_writer:BigWigWriter",
    "bigwig:BigWigReader",
    "probability per base, binary and indexed",
)
BEDGRAPH = TrackFormat(
    "bedGraph",
    (".bedgraph", ".bedgraph.gz", ".bdg", ".bdg.gz"),
    "bedgraph:BedGraphWriter",
    "bedgraph:BedGraphReader",
    "probability per run of equal bases, as text",
    HEADER_LINES,
)
BED = TrackFormat(
    "BED", (".bed", ".bed.gz"), "bed:BedWriter", "bed:BedReader", "called intervals, as text", HEADER_LINES
)
NARROWPEAK = TrackFormat(
    "narrowPeak",
    (".narrowpeak", ".narrowpeak.gz"),
    "narrowpeak:NarrowPeakWriter",
    "bed:BedReader",
    "called intervals with their summits, as ENCODE's peaks",
    HEADER_LINES,
)
GFF3 = TrackFormat("GFF3", (".gff3", ".gff3.gz"), "gff3:Gff3Writer", "", "called intervals as features")
TSV = TrackFormat(
    "TSV", (".tsv", ".tsv.gz"), "call_table:TsvWriter", "", "table of called intervals, as text"
)
PARQUET = TrackFormat(
    "Parquet",
    (".parquet",),
    "call_table:ParquetWriter",
    "",
    "table of called intervals, binary",
    requirement=("pyarrow", "parquet"),
)

FORMATS = (BIGWIG, BEDGRAPH, BED, NARROWPEAK, GFF3, TSV, PARQUET)

EXTENSIONS = tuple(extension for track_format in FORMATS for extension in track_format.extensions)
"""The extensions of all formats, in lower case."""

INPUT_FORMATS = tuple(track_format for track_format in FORMATS if track_format.reader_path)
"""Formats that other commands read."""

INTERVAL_FORMATS = (BED, NARROWPEAK)
"""Input formats of intervals, whose values, if any, are not read."""

BROWSABLE = (BIGWIG, *INTERVAL_FORMATS)
"""Formats of values and calls that browsers open."""

VERIFIABLE = (BIGWIG, BEDGRAPH, BED)
"""Formats with every value that a verification compares."""


def list_extensions(formats: Sequence[TrackFormat] = FORMATS) -> str:
    """Return the usual extension of each format, for help and messages.

    Examples
    --------
    >>> list_extensions((BIGWIG, BED))
    '.bw, .bed[.gz]'
    """
    usual = ((each.extensions[0], f"{each.extensions[0]}.gz" in each.extensions) for each in formats)
    return ", ".join(f"{extension}[.gz]" if compressed else extension for extension, compressed in usual)


def list_names(formats: Sequence[TrackFormat] = INPUT_FORMATS, last: str = "or") -> str:
    """Return the names of formats as a phrase.

    Examples
    --------
    >>> list_names((BIGWIG, BEDGRAPH, BED))
    'bigWig, bedGraph or BED'
    """
    *names, final = (each.name for each in formats)
    return f"{', '.join(names)} {last} {final}" if names else final


def find_format(path: str | Path) -> TrackFormat | None:
    """Return the format of a file by its extension, or None."""
    return next((track_format for track_format in FORMATS if track_format.matches(path)), None)


def require_format(path: str | Path) -> TrackFormat:
    """Return the format of an input file by its extension.

    Raises
    ------
    InputError
        If no format with a reader has the extension.
    """
    track_format = find_format(path)
    if track_format is None or not track_format.reader_path:
        found = f"{track_format.name} is written only" if track_format else "unknown track format"
        raise InputError(
            f"{path}: {found}; expected a file name that ends in {list_extensions(INPUT_FORMATS)}"
        )
    return track_format


def open_track(path: str | Path, lengths: Mapping[str, int]) -> TrackReader:
    """Open a track by its extension.

    Parameters
    ----------
    path : str or Path
    lengths : mapping of str to int
        The genome's contigs and their lengths.

    Raises
    ------
    InputError
        If the extension is unknown, the file is missing or malformed, no contig of it is in the genome, or a
        contig has another length there.
    """
    path = Path(path)
    return require_format(path).reader(path, lengths)


def find_writer(output: str | Path) -> type[TrackWriter]:
    """Return the writer for an output by its extension (``-``: BED on standard output).

    Raises
    ------
    OutputError
        If no format has the extension.
    MissingExtraError
        If the format needs a package that is not installed.
    """
    if str(output) == STDOUT:
        return BED.writer
    track_format = find_format(output)
    if track_format is None:
        raise OutputError(
            f"{output}: unknown extension; expected one of {list_extensions()}, or - for BED on stdout"
        )
    if track_format.requirement and find_spec(track_format.requirement[0]) is None:
        raise MissingExtraError(track_format.name, *track_format.requirement)
    return track_format.writer


def _import(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(f"zflipon.tracks.{module}"), name)
