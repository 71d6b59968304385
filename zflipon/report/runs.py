"""Tracks grouped by the run that wrote them: a bigWig, the BED of its calls, and the record of both.

Values and calls inside the files are read in `zflipon.report.calls`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zflipon.errors import InputError, format_names
from zflipon.tracks.atomic import record_path
from zflipon.tracks.bigwig import BigWig
from zflipon.tracks.records import read_record
from zflipon.tracks.registry import BIGWIG, INTERVAL_FORMATS

SIGNAL_EXTENSIONS = BIGWIG.extensions
"""Extensions of tracks of values."""

CALL_EXTENSIONS = tuple(end for each in INTERVAL_FORMATS for end in each.extensions)
"""Extensions of tracks of calls."""

LABELS_NAME, GENES_NAME = "known_zdna", "genes"
"""Names of the files of labels and of genes in a bundle; no run gets one of them."""

UNKNOWN_MODEL = "unknown model"
"""Model name of a run without a record."""


@dataclass(frozen=True)
class Run:
    """The files of one run of a model.

    Attributes
    ----------
    name : str
        Prefix of the run's files in a bundle: ASCII letters, digits and underscores.
    signal, calls : Path or None
        bigWig and BED; at least one is present.
    record : mapping
        Run record (the ``.json`` file of a track); empty if the tracks have no record.
    """

    name: str
    signal: Path | None
    calls: Path | None
    record: Mapping

    @property
    def model(self) -> str:
        """Name of the model in the record."""
        return str(self.record.get("model", {}).get("name", UNKNOWN_MODEL))

    @property
    def files(self) -> list[Path]:
        """The tracks, signal first."""
        return [path for path in (self.signal, self.calls) if path is not None]


def group_tracks(tracks: Sequence[Path]) -> list[Run]:
    """Group tracks by run.

    Tracks belong to one run if their records say so; the tracks of different scores are separate. Tracks without a
    record belong to one run if they lie in the same folder and differ only in the extension.

    Parameters
    ----------
    tracks : sequence of Path
        bigWig or BED files.

    Raises
    ------
    InputError
        If a track is missing, has an unknown extension or is given twice, or a record is invalid.
    """
    groups: dict[tuple, dict[str, Path]] = {}
    records: dict[tuple, Mapping] = {}
    for path in tracks:
        kind = track_kind(path)
        record = read_record(path)
        if record:
            key = tuple(str(record.get(name)) for name in ("started", "command", "score"))
        else:
            key = (path.absolute().parent, base_name(path))
        group = groups.setdefault(key, {})
        records.setdefault(key, record)
        if kind in group:
            raise InputError(
                f"{path}: {group[kind]} is a {kind} track of the same run and kind; give only one of them"
            )
        group[kind] = path
    runs: list[Run] = []
    for key, group in groups.items():
        signal, calls = group.get("signal"), group.get("calls")
        name = _unique_name(
            base_name(signal or group["calls"]), {LABELS_NAME, GENES_NAME, *(run.name for run in runs)}
        )
        runs.append(Run(name, signal, calls, records[key]))
    return runs


def track_kind(path: Path) -> str:
    """Return ``signal`` or ``calls`` by the extension of an existing file."""
    extension = _extension(path)
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: not a regular file; give a bigWig or BED file")
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    return "signal" if extension in SIGNAL_EXTENSIONS else "calls"


def base_name(path: Path) -> str:
    """Return a track's file name without its extension."""
    return path.name[: -len(_extension(path))]


def _extension(path: Path) -> str:
    """Return the longest known extension of a track, in lower case."""
    name = path.name.lower()
    known = [end for end in (*SIGNAL_EXTENSIONS, *CALL_EXTENSIONS) if name.endswith(end)]
    if not known:
        expected = ", ".join((*SIGNAL_EXTENSIONS, *CALL_EXTENSIONS))
        raise InputError(f"{path}: unknown kind of track; expected a name that ends in {expected}")
    return max(known, key=len)


def contig_lengths(runs: Sequence[Run], genome: Mapping[str, int] | None) -> dict[str, int]:
    """Return contig → length, in the order of the genome or else of the tracks.

    Parameters
    ----------
    runs : sequence of Run
    genome : mapping of str to int or None
        Contigs of the FASTA, if one is given.

    Raises
    ------
    InputError
        If two sources disagree, a track has a contig that the genome lacks, or no source has lengths.
    """
    lengths: dict[str, tuple[int, str]] = {}
    for source, contigs in _length_sources(runs, genome):
        unknown = [contig for contig in contigs if contig not in genome] if genome is not None else []
        if genome is not None and unknown:
            raise InputError(
                f"{source}: has contigs that the genome lacks ({format_names(unknown)}; the genome has "
                f"{format_names(genome)}). Give the genome that the track was made from"
            )
        for contig, length in contigs.items():
            first_length, first_source = lengths.setdefault(contig, (length, source))
            if first_length != length:
                raise InputError(
                    f"{source}: {contig} has {length} bases, but {first_length} in {first_source}; "
                    "are all of the same assembly?"
                )
    if not lengths:
        raise InputError(
            f"{runs[0].files[0]}: the lengths of the contigs are not known, because the track has no record; "
            "give --genome or the bigWig of the run"
        )
    return {contig: length for contig, (length, _) in lengths.items()}


def _length_sources(
    runs: Sequence[Run], genome: Mapping[str, int] | None
) -> Iterable[tuple[str, Mapping[str, int]]]:
    """Yield a description of each source of contig lengths, and the lengths."""
    if genome is not None:
        yield "the genome", genome
    for run in runs:
        if run.signal is not None:
            with BigWig(run.signal) as file:
                yield str(run.signal), file.lengths
    for run in runs:
        yield f"the record of {run.files[0]}", _recorded_lengths(run)


def _recorded_lengths(run: Run) -> dict[str, int]:
    try:
        return {contig: int(entry["length"]) for contig, entry in run.record.get("contigs", {}).items()}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{record_path(run.files[0])}: not a record of annotate; remove it to continue without one"
        ) from error


def _unique_name(name: str, taken: set[str]) -> str:
    """Return a name of ASCII letters, digits and underscores that is not taken, numbered if necessary."""
    name = re.sub(r"\W", "_", name, flags=re.ASCII)
    number, candidate = 1, name
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    return candidate
