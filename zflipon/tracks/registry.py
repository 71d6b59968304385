"""All track formats: file extension → reader, writer and description, registered once.

To add a format, write its reader and writer and add one `TrackFormat` to `FORMATS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zflipon.errors import InputError, OutputError
from zflipon.tracks.base import STDOUT, TrackReader, TrackWriter
from zflipon.tracks.bed import BedReader, BedWriter
from zflipon.tracks.bedgraph import BedGraphReader, BedGraphWriter
from zflipon.tracks.bigwig import BigWigReader
from zflipon.tracks.bigwig_writer import BigWigWriter


@dataclass(frozen=True)
class TrackFormat:
    """A track format.

    Attributes
    ----------
    name : str
    extensions : tuple of str
        In lower case; the first is the usual one.
    reader : type of TrackReader
    writer : type of TrackWriter
    description : str
        One phrase for help texts.
    """

    name: str
    extensions: tuple[str, ...]
    reader: type[TrackReader]
    writer: type[TrackWriter]
    description: str

    def matches(self, path: str | Path) -> bool:
        """Return whether a file name has one of the extensions, in any case."""
        return Path(path).name.lower().endswith(self.extensions)

    def strip_extension(self, path: str | Path) -> str:
        """Return the file name of `path` without its extension."""
        name = Path(path).name
        extension = max((end for end in self.extensions if name.lower().endswith(end)), key=len)
        return name[: -len(extension)]


BIGWIG = TrackFormat(
    "bigWig", (".bw", ".bigwig"), BigWigReader, BigWigWriter, "probability per base, binary and indexed"
)
BEDGRAPH = TrackFormat(
    "bedGraph",
    (".bedgraph", ".bedgraph.gz", ".bdg", ".bdg.gz"),
    BedGraphReader,
    BedGraphWriter,
    "probability per run of equal bases, as text",
)
BED = TrackFormat("BED", (".bed", ".bed.gz"), BedReader, BedWriter, "called intervals, as text")

FORMATS = (BIGWIG, BEDGRAPH, BED)

EXTENSIONS = tuple(extension for track_format in FORMATS for extension in track_format.extensions)
"""The extensions of all formats, in lower case."""


def find_format(path: str | Path) -> TrackFormat | None:
    """Return the format of a file by its extension, or None."""
    return next((track_format for track_format in FORMATS if track_format.matches(path)), None)


def require_format(path: str | Path) -> TrackFormat:
    """Return the format of an input file by its extension.

    Raises
    ------
    InputError
        If no format has the extension.
    """
    track_format = find_format(path)
    if track_format is None:
        raise InputError(
            f"{path}: unknown track format; expected a file name that ends in {', '.join(EXTENSIONS)}"
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
    """
    if str(output) == STDOUT:
        return BED.writer
    track_format = find_format(output)
    if track_format is None:
        raise OutputError(
            f"{output}: unknown extension; expected one of {', '.join(EXTENSIONS)}, or - for BED on stdout"
        )
    return track_format.writer
