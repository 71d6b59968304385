"""Estimate time, memory and disk space of an annotation from a small part of it (``annotate --dry-run``)."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from zflipon.genome.fasta import Genome
from zflipon.genome.shards import Plan
from zflipon.inference.genome_scan import predict_windows
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
    outputs: Sequence[str | Path],
    encode: Callable[[np.ndarray, int], bytes],
) -> dict[str, float]:
    """Predict `PILOT_BASES` from the middle of the plan and scale the costs to the whole of it.

    Parameters
    ----------
    genome : Genome
    plan : Plan
    session : Session
    outputs : sequence of str or Path
        Only their names are used, for the formats.
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
    predict_windows(session.predictor, genome, shard.contig, windows[:2])  # the first calls are slow
    began = time.perf_counter()
    values = quantize(predict_windows(session.predictor, genome, shard.contig, windows, early_exit=True))
    speed = len(values) / (time.perf_counter() - began) * session.state.num_processes
    temporary, written = _disk_space(
        ContigTrack(shard.contig, [(start, values)]), genome, outputs, encode(values, len(windows))
    )
    scale = plan.bases / len(values)
    return {
        "bases_per_second": round(speed),
        "seconds": round(plan.bases / speed, 1),
        "memory": peak_memory(),
        "temporary": round(temporary * scale),
        "written": round(written * scale),
    }


def _disk_space(
    track: ContigTrack, genome: Genome, outputs: Sequence[str | Path], shard: bytes
) -> tuple[int, int]:
    """Return the bytes of a journal with one shard, and of the outputs for one track."""
    with tempfile.TemporaryDirectory(prefix="zflipon-") as folder:
        journal = Journal(Path(folder))
        journal.write(0, shard)
        temporary = sum(path.stat().st_size for path in journal.folder.iterdir())
        paths = [
            Path(folder) / f"{number}{Path(output).name}"
            for number, output in enumerate(outputs)
            if str(output) != STDOUT
        ]
        with TrackOutputs(paths, genome.lengths) as tracks:
            tracks.add(track, call_track(track, 1.0, 1, 0))
            tracks.commit()
        return temporary, sum(path.stat().st_size for path in paths)
