"""Estimate time, memory and disk space of an annotation from a small part of it (``annotate --dry-run``)."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from zflipon.genome.fasta import Genome
from zflipon.genome.shards import Plan
from zflipon.inference.genome_scan import ScanTask, scan_scores
from zflipon.jobs.journal import Journal
from zflipon.jobs.record import peak_memory
from zflipon.tracks.base import STDOUT
from zflipon.tracks.calling import ContigTrack, call_track, quantize
from zflipon.tracks.outputs import TrackOutputs
from zflipon.workflows.session import Session

PILOT_BASES = 1 << 17
"""Bases that are predicted to measure the speed."""


def estimate_costs(
    genome: Genome,
    plan: Plan,
    session: Session,
    outputs: Mapping[str, Sequence[str | Path]],
    encode: Callable[[np.ndarray, int], bytes],
) -> dict[str, float]:
    """Predict `PILOT_BASES` from the middle of the plan and scale the costs to the whole of it.

    Parameters
    ----------
    genome : Genome
    plan : Plan
    session : Session
    outputs : mapping of str to sequence of (str or Path)
        Score → outputs. Only their names are used, for the formats.
    encode : callable
        Turns quantized values and a number of windows into the journal's content.

    Returns
    -------
    dict of str to float
        ``bases_per_second`` and ``seconds`` of all processes together, ``memory`` of this process, ``temporary`` and
        ``written`` disk space; bytes.
    """
    if not plan.shards:
        return {"bases_per_second": 0, "seconds": 0, "memory": 0, "temporary": 0, "written": 0}
    shard = plan.shards[len(plan.shards) // 2]
    windows = shard.windows
    start = int(windows["core_start"][0])
    windows = windows[windows["core_start"] < start + PILOT_BASES]

    def scan(windows: np.ndarray, early_exit: bool) -> np.ndarray:
        task = ScanTask(shard.contig, windows, early_exit=early_exit)
        ((_, values),) = scan_scores(session.predictor, genome, [task], tuple(outputs))
        return quantize(values)

    scan(windows[:2], early_exit=False)  # the first calls are slow
    began = time.perf_counter()
    values = scan(windows, early_exit=True)
    bases = values.shape[1]
    speed = bases / (time.perf_counter() - began) * session.state.num_processes
    tracks = [ContigTrack(shard.contig, [(start, row)]) for row in values]
    temporary, written = _disk_space(tracks, genome, list(outputs.values()), encode(values, len(windows)))
    scale = plan.bases / bases
    return {
        "bases_per_second": round(speed),
        "seconds": round(plan.bases / speed, 1),
        "memory": peak_memory(),
        "temporary": round(temporary * scale),
        "written": round(written * scale),
    }


def _disk_space(
    tracks: Sequence[ContigTrack], genome: Genome, outputs: Sequence[Sequence[str | Path]], shard: bytes
) -> tuple[int, int]:
    """Return the bytes of a journal with one shard, and of the outputs of each track."""
    with tempfile.TemporaryDirectory(prefix="zflipon-") as folder:
        journal = Journal(Path(folder))
        journal.write(0, shard)
        temporary = sum(path.stat().st_size for path in journal.folder.iterdir())
        written = 0
        for track, names in zip(tracks, outputs, strict=True):
            paths = [
                Path(folder) / f"{number}{Path(name).name}"
                for number, name in enumerate(names)
                if str(name) != STDOUT
            ]
            with TrackOutputs(paths, genome.lengths) as written_tracks:
                written_tracks.add(track, call_track(track, 1.0, 1, 0))
                written_tracks.commit()
            written += sum(path.stat().st_size for path in paths)
        return temporary, written
