"""Tracks that annotate wrote, put together as runs: a bigWig, the BED of its calls, and the record beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zflipon.errors import InputError, format_names
from zflipon.tracks.atomic import read_record, record_path
from zflipon.tracks.bigwig import BigWig
from zflipon.tracks.registry import BED, BIGWIG

SIGNALS, CALLS = BIGWIG.extensions, BED.extensions
"""Extensions of tracks of probabilities, and of tracks of calls."""

LABELS = "known_zdna"
"""Name of the labels' files, which no run has."""

ASSEMBLIES = {
    248_956_422: "hg38",
    249_250_621: "hg19",
    248_387_328: "hs1",
    195_471_971: "mm10",
    195_154_279: "mm39",
}
"""Length of chr1 → the assembly's name at UCSC, which IGV knows too."""


@dataclass(frozen=True)
class Run:
    """What one run of a model left.

    Attributes
    ----------
    name : str
        Of its files in the bundle.
    signal, calls : Path or None
        bigWig and BED; one of them may be missing.
    record : dict
        The sidecar; empty where there is none.
    """

    name: str
    signal: Path | None
    calls: Path | None
    record: Mapping

    @property
    def model(self) -> str:
        """Name of the model, as far as it is recorded."""
        return str(self.record.get("model", {}).get("name", "unknown model"))

    @property
    def files(self) -> list[Path]:
        """The tracks, signal first."""
        return [path for path in (self.signal, self.calls) if path is not None]


def gather(tracks: Sequence[Path]) -> list[Run]:
    """Put tracks together as runs: by their records, or by their names where there are none.

    Parameters
    ----------
    tracks : sequence of Path
        bigWig or BED.

    Raises
    ------
    InputError
        If a track is missing, of another kind or given twice, or a record cannot be read.
    """
    groups: dict[tuple, dict] = {}
    for path in tracks:
        kind = kind_of(path)
        record = read_record(path)
        key = (record.get("started"), record.get("command")) if record else (stem(path),)
        group = groups.setdefault(key, {"record": record})
        if kind in group:
            raise InputError(f"{path}: {group[kind]} is a track of the same run and kind; give one of them")
        group[kind] = path
    named: list[Run] = []
    for group in groups.values():
        signal, calls = group.get("signal"), group.get("calls")
        name = _unused(stem(signal or calls), {LABELS, *(run.name for run in named)})
        named.append(Run(name, signal, calls, group["record"]))
    return named


def kind_of(path: Path) -> str:
    """Return ``signal`` or ``calls`` by the extension of a file that is there."""
    name = path.name.lower()
    for kind, extensions in (("signal", SIGNALS), ("calls", CALLS)):
        if name.endswith(extensions):
            if not path.is_file():
                raise InputError(f"{path}: no such file")
            return kind
    raise InputError(
        f"{path}: unknown kind of track; expected a name that ends in {', '.join((*SIGNALS, *CALLS))}"
    )


def stem(path: Path) -> str:
    """Return a file's name without its extension."""
    lower = path.name.lower()
    return path.name[: -len(next(end for end in (*SIGNALS, *CALLS) if lower.endswith(end)))]


def contig_lengths(runs: Sequence[Run], genome: Mapping[str, int] | None) -> dict[str, int]:
    """Return contig → length in the genome's order, as the tracks or the genome have it.

    Parameters
    ----------
    runs : sequence of Run
    genome : mapping of str to int or None
        The FASTA's contigs, where one was given.

    Raises
    ------
    InputError
        If two sources disagree, or none tells lengths.
    """
    told: dict[str, tuple[int, str]] = {}
    sources = [("the genome", dict(genome))] if genome is not None else []
    for run in runs:
        if run.signal is not None:
            with BigWig(run.signal) as file:
                sources.append((str(run.signal), file.lengths))
    for run in runs:
        sources.append((f"the record of {run.files[0]}", _recorded(run)))
    for source, lengths in sources:
        foreign = [contig for contig in lengths if contig not in genome] if genome is not None else []
        if foreign:
            raise InputError(
                f"{source}: has contigs that the genome lacks ({format_names(foreign)}; the genome has {format_names(genome)})"
            )
        for contig, length in lengths.items():
            before, where = told.setdefault(contig, (length, source))
            if before != length:
                raise InputError(
                    f"{source}: {contig} has {length} bases, in {where} {before}; are all of the same assembly?"
                )
    if not told:
        raise InputError(
            f"{runs[0].files[0]}: the lengths of the contigs are not known, as no record lies beside it; "
            "give --genome or the run's bigWig"
        )
    return {contig: length for contig, (length, _) in told.items()}


def assembly_of(lengths: Mapping[str, int]) -> str | None:
    """Return the name at UCSC of an assembly that is known by its longest chromosome, else None."""
    return ASSEMBLIES.get(lengths.get("chr1", 0))


def _recorded(run: Run) -> dict[str, int]:
    try:
        return {name: int(told["length"]) for name, told in run.record.get("contigs", {}).items()}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{record_path(run.files[0])}: not a record that annotate writes; remove it to go without"
        ) from error


def _unused(name: str, taken: set[str]) -> str:
    """Return a name that UCSC takes as an identifier and an address alike, and that no other run has."""
    name = re.sub(r"\W", "_", name, flags=re.ASCII)
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free
