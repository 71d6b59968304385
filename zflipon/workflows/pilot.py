"""Estimate time, memory and disk space of an annotation from a small part of it (``annotate --dry-run``)."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from zflipon.genome.fasta import Genome
from zflipon.genome.shards import Shard
from zflipon.inference.genome_scan import scan_groups
from zflipon.inference.scan_group import ScanTask
from zflipon.jobs.journal import Journal
from zflipon.jobs.record import peak_memory
from zflipon.tracks.base import STDOUT
from zflipon.tracks.calling import ContigTrack, call_track, quantize
from zflipon.tracks.outputs import TrackOutputs
from zflipon.workflows.annotation_run import AnnotationRun

PILOT_BASES = 1 << 17
"""Bases that are predicted to measure the speed."""


def estimate_costs(
    genome: Genome, run: AnnotationRun, encode: Callable[[np.ndarray, int], bytes]
) -> dict[str, float]:
    """Predict `PILOT_BASES` from the middle of the plan and scale the costs to the whole of it.

    Parameters
    ----------
    genome : Genome
    run : AnnotationRun
        Only the names of its outputs are used, for the formats.
    encode : callable
        Turns quantized values and a number of windows into the journal's content.

    Returns
    -------
    dict of str to float
        ``bases_per_second`` and ``seconds`` of all processes together, ``memory`` of this process, ``temporary`` and
        ``written`` disk space; bytes.
    """
    session, shards = run.session, run.shards
    if not shards:
        return {"bases_per_second": 0, "seconds": 0, "memory": 0, "temporary": 0, "written": 0}
    tasks = _pilot_tasks(shards[len(shards) // 2])

    def scan(tasks: list[ScanTask]) -> list[np.ndarray]:
        (results,) = scan_groups(session.predictor, genome, [tasks], run.scores)
        return [quantize(values) for _, values in results]

    scan([replace(tasks[0], windows=tasks[0].windows[:2], early_exit=False)])  # the first calls are slow
    began = time.perf_counter()
    values = scan(tasks)
    bases = sum(scores.shape[1] for scores in values)
    speed = bases / (time.perf_counter() - began) * session.state.num_processes
    tracks = [
        [
            ContigTrack(task.contig, [(int(task.windows["core_start"][0]), scores[row])])
            for task, scores in zip(tasks, values, strict=True)
        ]
        for row in range(len(run.scores))
    ]
    outputs = [run.outputs[score] if run.part is None else [] for score in run.scores]
    stored = encode(np.concatenate(values, axis=1), sum(len(task.windows) for task in tasks))
    temporary, written = _disk_space(tracks, genome, outputs, stored)
    total = sum(shard.bases for shard in shards)
    return {
        "bases_per_second": round(speed),
        "seconds": round(total / speed, 1),
        "memory": peak_memory(),
        "temporary": round(temporary * total / bases),
        "written": round((written if run.part is None else temporary) * total / bases),
    }


def _pilot_tasks(shard: Shard) -> list[ScanTask]:
    """Return tasks of about `PILOT_BASES` at the start of a shard, of different contigs."""
    tasks: list[ScanTask] = []
    room = PILOT_BASES
    for span in shard.spans:
        windows = span.windows
        windows = windows[windows["core_start"] < windows["core_start"][0] + room]
        room -= int(windows["core_end"][-1] - windows["core_start"][0])
        if room < 0 and tasks:
            break
        if tasks and tasks[-1].contig == span.contig:  # a second segment: tracks take whole contigs
            continue
        tasks.append(ScanTask(span.contig, windows, early_exit=True))
    return tasks


def _disk_space(
    tracks: Sequence[Sequence[ContigTrack]],
    genome: Genome,
    outputs: Sequence[Sequence[str | Path]],
    shard: bytes,
) -> tuple[int, int]:
    """Return the bytes of a journal with one shard, and of the outputs of each score's tracks."""
    with tempfile.TemporaryDirectory(prefix="zflipon-") as folder:
        journal = Journal(Path(folder))
        journal.write(0, shard)
        temporary = sum(path.stat().st_size for path in journal.folder.iterdir())
        written = 0
        for contigs, names in zip(tracks, outputs, strict=True):
            paths = [
                Path(folder) / f"{number}{Path(name).name}"
                for number, name in enumerate(names)
                if str(name) != STDOUT
            ]
            with TrackOutputs(paths, genome.lengths) as written_tracks:
                for track in contigs:
                    written_tracks.add(track, call_track(track, 1.0, 1, 0))
                written_tracks.commit()
            written += sum(path.stat().st_size for path in paths)
        return temporary, written
