"""Merge the parts of an annotation into tracks, with the bytes of one run.

Parts are written in `zflipon.workflows.annotation_parts`. Neither the genome nor the model is needed here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from zflipon.config import CallConfig, HeaderConfig
from zflipon.errors import InputError, format_names
from zflipon.genome.shards import stored_spans
from zflipon.jobs.journal import shorten
from zflipon.jobs.locks import OutputLocks
from zflipon.jobs.outputs import check_outputs
from zflipon.jobs.part_files import PartFile
from zflipon.jobs.record import local_time, write_record
from zflipon.tracks.atomic import remove_partial_files
from zflipon.tracks.base import STDOUT
from zflipon.tracks.description import TrackDescription
from zflipon.tracks.outputs import TrackOutputs
from zflipon.tracks.registry import find_writer
from zflipon.workflows.annotation_outputs import outputs_of_scores, require_header_lines
from zflipon.workflows.stored_shards import ContigWriter

log = logging.getLogger("zflipon")

_OF_PARTS = ("part", "command", "started", "seconds", "seconds_in", "memory")
"""Sections of a part's record that the merged record lists for each part."""


def merge(
    parts: Sequence[str | Path],
    outputs: str | Path | Sequence[str | Path],
    *,
    headers: HeaderConfig | None = None,
    force: bool = False,
    progress: Callable[[int, int], object] | None = None,
    command: str = "zflipon.merge()",
) -> dict:
    """Write the tracks of an annotation whose parts were computed separately (``zflipon annotate --part``).

    Parameters
    ----------
    parts : sequence of str or Path
        All part files (``.zfp``) of one run, in any order.
    outputs : str, Path or sequence of them
        Files to write. The extension chooses the format, as in `zflipon.annotate`.
    headers : HeaderConfig, optional
        Header lines of text outputs; none by default.
    force : bool
        Replace existing files.
    progress : callable, optional
        Called with the bases finished since the last call, and with all bases.
    command : str
        Command line for the record.

    Returns
    -------
    dict
        The run record, which is also written as JSON for each output. It is that of one run, except for times and
        memory; ``parts`` lists the part files.

    Raises
    ------
    InputError
        If a part is missing, given twice, damaged, or of another run.
    OutputError
        If an output cannot be written.

    Examples
    --------
    >>> import zflipon
    >>> for part in ("1/2", "2/2"):
    ...     _ = zflipon.annotate("demo.fa", f"demo{part[0]}.zfp", model="zhunt", part=part)
    >>> record = zflipon.merge(["demo1.zfp", "demo2.zfp"], "merged.bed")
    >>> [part["part"] for part in record["parts"]]
    ['1 of 2', '2 of 2']
    """
    started = time.time()
    headers = headers or HeaderConfig()
    outputs = [outputs] if isinstance(outputs, str | Path) else list(outputs)
    for output in outputs:
        find_writer(output)
    require_header_lines(outputs, headers)
    with ExitStack() as stack:
        files = [stack.enter_context(PartFile(path)) for path in parts]
        run = PartedRun(files)
        named = outputs_of_scores(outputs, list(run.calls))
        paths = [Path(output) for each in named.values() for output in each if str(output) != STDOUT]
        check_outputs(paths, list(parts), force)
        stack.enter_context(OutputLocks(paths))
        for path in paths:
            remove_partial_files(path)
        for part in run.files:  # before anything is written, also to standard output
            part.verify()
        totals = _write_tracks(run, named, headers, progress)
        record = run.record(command, started) | {
            "outputs": [str(output) for each in named.values() for output in each],
            "scores": {score: list(map(str, each)) for score, each in named.items()},
        }
        details = {score: run.header["scores"][score] | {"tracks": totals[score]} for score in named}
        for score, each in named.items():
            for output in each:
                if str(output) != STDOUT:
                    write_record(Path(output), record | details[score])
    return record | next(iter(details.values()))


class PartedRun:
    """The parts of one run, in order; a store of its shards.

    Parameters
    ----------
    files : sequence of PartFile

    Attributes
    ----------
    files : list of PartFile
        In the order of their numbers.
    header : dict
        Of the first part.
    calls : dict of str to CallConfig
        Score → how its bases are called.
    shards : list of list of (str, int, int)
        Contig, start and end of the spans of each shard of the run.

    Raises
    ------
    InputError
        If parts are missing, given twice, or of different runs.
    """

    def __init__(self, files: Sequence[PartFile]):
        if not files:
            raise InputError("no part is given; name the .zfp files of a run")
        _require_same_run(files)
        self.files = _order(files)
        self.header: dict[str, Any] = self.files[0].header
        self.calls = {
            score: CallConfig(**details["call"]) for score, details in self.header["scores"].items()
        }
        contigs = list(self.header["record"]["contigs"])
        self.shards: list[list[tuple[str, int, int]]] = []
        self._owner: list[tuple[PartFile, int]] = []
        for part in self.files:
            first, last, _ = part.header["shards"]
            if (
                first != len(self.shards)
                or last - first != part.shards
                or len(part.header["spans"]) != part.shards
            ):
                raise InputError(
                    f"{part.path}: damaged (its shards do not continue the previous part's); run it again"
                )
            self.shards += [
                [(contigs[number], start, end) for number, start, end in spans]
                for spans in part.header["spans"]
            ]
            self._owner += [(part, number) for number in range(part.shards)]

    def read(self, number: int) -> bytes:
        """Return the content of a shard of the run."""
        part, own_number = self._owner[number]
        return part.read(own_number)

    def record(self, command: str, started: float) -> dict:
        """Return what the records of all tracks have in common: those of the parts, merged."""
        records = [part.header["record"] for part in self.files]
        stages = {stage for record in records for stage in record["seconds_in"]}
        return {
            **{name: value for name, value in records[0].items() if name != "part"},
            "command": command,
            "started": local_time(started),
            "seconds": round(sum(record["seconds"] for record in records) + time.time() - started, 2),
            "memory": {
                kind: max(record["memory"][kind] for record in records) for kind in records[0]["memory"]
            },
            "seconds_in": {
                stage: round(sum(record["seconds_in"].get(stage, 0) for record in records), 2)
                for stage in sorted(stages)
            },
            "parts": [
                {"file": part.path.name, **{name: record[name] for name in _OF_PARTS}}
                for part, record in zip(self.files, records, strict=True)
            ],
        }


def _write_tracks(
    run: PartedRun,
    outputs: dict[str, list[str | Path]],
    headers: HeaderConfig,
    progress: Callable[[int, int], object] | None,
) -> dict[str, dict[str, int]]:
    """Write the tracks of each score and return their totals; see `ContigWriter`."""
    sizes = [sum(end - start for _, start, end in spans) for spans in run.shards]
    lengths: dict[str, int] = run.header["lengths"]
    with ExitStack() as stack:
        tracks = {}
        for score, names in outputs.items():
            description = TrackDescription(**{**run.header["tracks"][score], **asdict(headers)})
            tracks[score] = stack.enter_context(TrackOutputs(names, lengths, description))
        writer = ContigWriter(tracks, run.calls, sizes, run)
        for contig, spans in stored_spans(list(run.header["record"]["contigs"]), run.shards).items():
            writer.write(contig, spans)
            if progress is not None:
                progress(sum(span.end - span.start for span in spans), sum(sizes))
        for each in tracks.values():
            each.finish()
        for each in tracks.values():
            each.commit()
    return writer.totals


def _require_same_run(files: Sequence[PartFile]) -> None:
    """Raise `InputError` if a part differs from the first one in a setting or in the genome."""
    first = files[0]
    expected = _settings(first)
    for part in files[1:]:
        settings = _settings(part)
        differing = [
            f"{name} ({shorten(settings.get(name))}, there {shorten(value)})"
            for name, value in expected.items()
            if settings.get(name) != value
        ]
        if differing:
            raise InputError(
                f"{part.path}: differs from {first.path} in {format_names(differing, 3)}; merge parts of one run"
            )
        versions = [file.header["record"]["versions"] for file in (first, part)]
        others = [name for name, version in versions[0].items() if versions[1].get(name) != version]
        if others:
            log.warning(
                "%s: made with another version of %s than %s; values may differ in the last digit",
                part.path,
                format_names(others),
                first.path,
            )


def _settings(part: PartFile) -> dict[str, object]:
    """Return what all parts of a run have in common, by names that a user knows."""
    header = part.header
    return {
        "number of parts": header["parts"],
        **header["key"],
        "contigs": header["lengths"],
        "calls": {score: details["call"] for score, details in header["scores"].items()},
        "shards": header["shards"][2],
    }


def _order(files: Sequence[PartFile]) -> list[PartFile]:
    """Return the parts in the order of their numbers; raise `InputError` if one is missing or given twice."""
    count = files[0].header["parts"]
    by_number: dict[int, PartFile] = {}
    for part in files:
        number = part.header["part"]
        if number in by_number:
            raise InputError(
                f"{part.path} and {by_number[number].path} are both part {number} of {count}; give each part once"
            )
        by_number[number] = part
    missing = np.setdiff1d(np.arange(1, count + 1), list(by_number)).tolist()
    if missing:
        raise InputError(
            f"{'part' if len(missing) == 1 else 'parts'} {format_names(map(str, missing), 10)} of {count} "
            f"{'is' if len(missing) == 1 else 'are'} missing; give all parts of the run"
        )
    return [by_number[number] for number in sorted(by_number)]
