"""The record of a track: reading it, and comparing the track and a genome with it.

Predicting part of a track again is in `zflipon.workflows.verification`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from zflipon.checksums import sha256_of
from zflipon.errors import InputError
from zflipon.genome.fasta import Genome
from zflipon.tracks.atomic import record_path
from zflipon.tracks.records import read_record

REQUIRED_SECTIONS = ("command", "model", "predict", "versions")
"""Sections that every record has."""


def load_track_record(track: str | Path) -> dict:
    """Return the record of a track.

    Raises
    ------
    InputError
        If the track or its record is missing, or the record lacks one of `REQUIRED_SECTIONS`.
    """
    track = Path(track)
    if not track.is_file():
        raise InputError(f"{track}: no such file")
    record = read_record(track)
    if not record:
        raise InputError(
            f"{track}: the record {record_path(track).name}, which zflipon writes with every output, is missing from "
            "its folder; keep both files together"
        )
    missing = [section for section in REQUIRED_SECTIONS if section not in record]
    if missing:
        raise InputError(
            f"{record_path(track)}: not a record of zflipon, since {', '.join(missing)} is missing; "
            "expected the JSON file that zflipon wrote with the output"
        )
    return record


def compare_file(record: Mapping, track: str | Path) -> list[str]:
    """Return how a track differs from the file that was recorded; empty if it is equal or no checksum was recorded."""
    recorded, track = record.get("file"), Path(track)
    if recorded is None:
        return []
    size = track.stat().st_size
    if size != recorded["bytes"]:
        return [f"changed since it was written: {size:,} bytes, recorded are {recorded['bytes']:,}"]
    if sha256_of(track) != recorded["sha256"]:
        return ["changed since it was written: the size is as recorded, but the SHA-256 differs"]
    return []


def compare_genome(
    record: Mapping, genome: Genome, progress: Callable[[int], object] = lambda bases: None
) -> list[str]:
    """Return how the contigs of a FASTA differ from those of a track; empty if all are equal.

    Contigs that were not annotated are not compared.

    Parameters
    ----------
    record : mapping
    genome : Genome
    progress : callable
        Called with the bases of each contig that was read.
    """
    problems = []
    for contig, recorded in record.get("contigs", {}).items():
        length = genome.lengths.get(contig)
        if length is None:
            problems.append(f"{contig}: not in {genome.path.name}")
        elif length != recorded["length"]:
            problems.append(f"{contig}: {length:,} bases, recorded are {recorded['length']:,}")
        elif genome.scan(contig, min_gap=1).md5 != recorded["md5"]:
            problems.append(f"{contig}: another sequence of the same length (MD5 differs)")
        progress(recorded["length"])
    return problems
