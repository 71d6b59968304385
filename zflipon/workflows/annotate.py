"""Genome → tracks: cut into shards, predict each, write them in genome order.

Shards do not depend on the number of processes. Each is predicted by one process and kept in a journal beside
Shards do not depend on the number of processes. Each is predicted by one process and kept in a journal beside the
first output (`zflipon.jobs.journal`); the first process also writes the tracks, contig by contig as they are completed.
A run that was stopped, however it was, goes on by the same command and ends with the same bytes.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
from accelerate import PartialState

from zflipon.config import GPU_SHARD_BASES, CallConfig, InferenceConfig, Selection
from zflipon.energetics.screen import screen_windows
from zflipon.genome.fasta import Genome
from zflipon.genome.shards import Plan, Shard, make_plan
from zflipon.inference.genome_scan import ScanTask, predict_windows, scan_genome
from zflipon.inference.predictor import Predictor
from zflipon.jobs.distributed import broadcast_from_main, process_state
from zflipon.jobs.job import (
    Stop,
    close_record,
    kept,
    key_of_model,
    peak_memory,
    record_of,
    settled,
    shared_tracks,
    unfinished,
    write_record,
)
from zflipon.jobs.journal import Journal
from zflipon.models import Checkpoint, load
from zflipon.progress import progress_bar
from zflipon.tracks.atomic import check_output_path, record_path
from zflipon.tracks.base import STDOUT
from zflipon.tracks.calling import NO_VALUE, ContigTrack, call_track, quantize
from zflipon.tracks.outputs import TrackOutputs
from zflipon.tracks.registry import find_writer

log = logging.getLogger("zflipon")

_PILOT_BASES = 1 << 17


def annotate(
    genome_path: Path,
    outputs: Sequence[str],
    model: str,
    selection: Selection | None = None,
    call: CallConfig | None = None,
    predict: InferenceConfig | None = None,
    force: bool = False,
    quiet: bool = False,
    dry_run: bool = False,
    restart: bool = False,
    screen: bool = False,
    features: Path | None = None,
    missing_features: str = "error",
) -> dict:
    """Write the Z-DNA tracks of a genome.

    Parameters
    ----------
    genome_path : Path
        FASTA.
    outputs : sequence of str
        Files, whose extensions pick the formats, or ``-`` for BED on standard output.
    model : str
        A bundled model's name, a folder, a file or a hub id.
    selection : Selection, optional
        Which parts of the genome; all by default.
    call : CallConfig, optional
    predict : InferenceConfig, optional
    force : bool
        Replace outputs that exist.
    quiet : bool
        No progress bar.
    dry_run : bool
        Plan, time a pilot, say what a run would take, and write nothing.
    restart : bool
        Throw away what a stopped run left, in the place of going on with it.
    screen : bool
        Read only windows that hold what the model's story asks for (`zflipon.energetics.screen`); the others' bases get
        `zflipon.inference.genome_scan.SKIPPED_PROBABILITY`.
    features : Path, optional
        Table of the omics tracks that the model reads; see `zflipon.omics.features`.
    missing_features : str
        One of `zflipon.config.MISSING_FEATURES`.

    Returns
    -------
    dict
        What the sidecar holds.

    Raises
    ------
    ZfliponError
        If an input, an output or the model cannot be used, or an unfinished run of these outputs differs from this one.
    Stopped
        If a signal asked to stop; what is done is kept.
    """
    started = time.time()
    for output in outputs:
        find_writer(output)
    files = [Path(output) for output in outputs if output != STDOUT]
    force |= bool(files) and Journal(unfinished(files[0])).was_finishing
    for path in files:
        for claimed in (path, record_path(path)):
            check_output_path(claimed, force)
    state = process_state(predict.device if predict else "auto")
    with Genome(genome_path) as genome:
        checkpoint = load(model)
        call = _settled(call or CallConfig(), checkpoint)
        metadata = checkpoint.metadata
        tracks = shared_tracks(state, checkpoint, features, genome.lengths, missing_features)
        predict = settled(predict or InferenceConfig(), checkpoint, state)
        predictor = Predictor(checkpoint, predict, features=tracks)
        size = GPU_SHARD_BASES if predictor.device.type == "cuda" else None
        plan = broadcast_from_main(
            state, lambda: make_plan(genome, selection or Selection(), metadata.window, metadata.margin, size)
        )
        log.info("%s", _announcement(plan, checkpoint, predictor, state))
        report = _report(genome, plan, checkpoint, predictor, call, outputs, state, started, screen)
        if dry_run:
            return {**report, "estimate": _estimate(genome, plan, predictor, state, outputs)}
        with kept(files, state, _key(genome, plan, checkpoint, predictor, screen), restart) as journal:
            done = broadcast_from_main(state, lambda: journal.done(range(len(plan.shards))))
            if done:
                log.info("going on: %d of %d shards are done", len(done), len(plan.shards))
            with (
                Stop(journal, len(plan.shards)).heard() as stop,
                TrackOutputs(outputs if state.is_main_process else (), genome.lengths) as tracks,
            ):
                if state.is_main_process:
                    writer = _Writer(tracks, plan, call, journal)
                    _predict(genome, plan, predictor, journal, done, stop, quiet, screen, writer.advance)
                    with predictor.timer("write"):
                        writer.finish(stop)
                        journal.finishing()
                        tracks.commit()
                else:
                    _predict(genome, plan, predictor, journal, done, stop, True, screen, lambda: None)
            if state.is_main_process:
                report["tracks"] = writer.told
                close_record(report, started, predictor)
                for path in files:
                    write_record(path, report)
                journal.remove()
    return report


class _Writer:
    """Writes the contigs whose shards are done, in genome order.

    Attributes
    ----------
    told : dict of str to int
        What the tracks hold.
    """

    def __init__(self, tracks: TrackOutputs, plan: Plan, call: CallConfig, journal: Journal):
        self._tracks, self._call, self._journal = tracks, call, journal
        self._left = list(plan.by_contig().items())
        self._reached = 0  # shards of the first contig left that are known to be stored
        self.told = {"calls": 0, "called_bases": 0, "bases": 0, "windows_read": 0}

    def advance(self) -> None:
        """Write what can be written; each shard is looked for until it is there, and no more."""
        while self._left:
            contig, shards = self._left[0]
            while self._reached < len(shards):
                if not self._journal.has(shards[self._reached].number):
                    return
                self._reached += 1
            self._write(contig, shards)
            self._left.pop(0)
            self._reached = 0

    def finish(self, stop: Callable[[], None]) -> None:
        """Write all, waiting for other processes."""
        for contig, shards in self._left:
            self._journal.wait((shard.number for shard in shards), stop)
            self._write(contig, shards)

    def _write(self, contig: str, shards: list[Shard]) -> None:
        pieces = []
        for shard in shards:
            values, read = self._journal.load(shard.number)
            pieces.append((shard.start, values))
            self.told["windows_read"] += read
        track = ContigTrack(contig, pieces)
        calls = call_track(track, self._call.threshold, self._call.min_length, self._call.merge_gap)
        self._tracks.add(track, calls)
        self.told["calls"] += len(calls)
        self.told["called_bases"] += int((calls["end"] - calls["start"]).sum())
        self.told["bases"] += sum(int(np.count_nonzero(values != NO_VALUE)) for _, values in track.chunks)


def _predict(
    genome: Genome,
    plan: Plan,
    predictor: Predictor,
    journal: Journal,
    done: set[int],
    stop: Stop,
    quiet: bool,
    screen: bool,
    stored: Callable[[], None],
) -> None:
    """Predict the shards that this process takes; each lands in the journal.

    `stored` is called after each, beside the model's work on the next.
    """
    shards = plan.shards
    taken: list[Shard] = []

    def stretches() -> Iterator[ScanTask]:
        for number in journal.claim(number for number in range(len(shards)) if number not in done):
            shard = shards[number]
            taken.append(shard)
            windows, read = shard.windows, None
            if screen:
                with predictor.timer("screen"):
                    read = screen_windows(
                        genome, shard.contig, windows, predictor.metadata.screen, predictor.device
                    )
            yield ScanTask(shard.contig, windows, read, early_exit=True)

    def keep(shard: Shard, stretch: ScanTask, found: np.ndarray) -> None:
        first = int(stretch.windows["core_start"][0])
        read = len(stretch.windows) if stretch.selected is None else int(stretch.selected.sum())
        with predictor.timer("store"):
            journal.store(shard.number, quantize(found[shard.start - first : shard.end - first]), read)
        log.debug("%s is done", shard)
        with predictor.timer("write"):
            stored()

    before = sum(shards[number].end - shards[number].start for number in done)
    largest = max((shard.end - shard.start for shard in shards), default=0)
    with (
        progress_bar("b", plan.bases, before, quiet, logged=True, name="zflipon") as bar,
        ThreadPoolExecutor(1) as aside,
    ):

        def advance(bases: int) -> None:
            bar.update(bases)
            journal.alive()
            stop.in_flight(bases, largest)

        storing = None
        for number, (stretch, found) in enumerate(scan_genome(predictor, genome, stretches(), advance)):
            if storing is not None:
                storing.result()
            storing = aside.submit(keep, taken[number], stretch, found)
            if stop.asked:
                break
            stop.next()
        if storing is not None:
            storing.result()
        stop()


def _settled(call: CallConfig, checkpoint: Checkpoint) -> CallConfig:
    return call if call.threshold is not None else replace(call, threshold=checkpoint.metadata.threshold)


def _key(
    genome: Genome, plan: Plan, checkpoint: Checkpoint, predictor: Predictor, screen: bool
) -> dict[str, object]:
    """Return what the stored values follow from; threshold and formats do not touch them."""
    sequence = sha256(
        "".join(f"{name} {genome.lengths[name]} {md5}\n" for name, md5 in plan.md5.items()).encode()
    )
    return {
        "genome": sequence.hexdigest(),
        "regions": plan.digest(),
        **key_of_model(checkpoint, predictor),
        "screen": asdict(checkpoint.metadata.screen) if screen else "none",
    }


def _announcement(plan: Plan, checkpoint: Checkpoint, predictor: Predictor, state: PartialState) -> str:
    processes = f", {state.num_processes} processes" if state.num_processes > 1 else ""
    precision = str(predictor.dtype).removeprefix("torch.")
    return (
        f"{plan.bases:,} bases on {len(plan.md5)} contigs, {plan.requested_bases - plan.bases:,} more in gaps of N; "
        f"{plan.windows:,} windows of {checkpoint.metadata.window} by {checkpoint.path.name} "
        f"({predictor.device}, {precision}{processes})"
    )


def _estimate(
    genome: Genome, plan: Plan, predictor: Predictor, state: PartialState, outputs: Sequence[str]
) -> dict:
    """Time a pilot from the middle of the work, and weigh what it writes."""
    if not plan.shards:
        return {"bases_per_second": 0, "seconds": 0, "memory": 0, "temporary": 0, "written": 0}
    shard = plan.shards[len(plan.shards) // 2]
    windows = shard.windows
    windows = windows[windows["core_start"] < windows["core_start"][0] + _PILOT_BASES]
    predict_windows(predictor, genome, shard.contig, windows[:2])  # first calls are slow
    started = time.perf_counter()
    found = quantize(predict_windows(predictor, genome, shard.contig, windows, early_exit=True))
    speed = len(found) / (time.perf_counter() - started) * state.num_processes
    first = int(windows["core_start"][0])
    with tempfile.TemporaryDirectory(prefix="zflipon-") as folder:
        journal = Journal(Path(folder))
        journal.store(0, found, len(windows))
        temporary = sum(path.stat().st_size for path in journal.folder.iterdir())
        tracks = [
            Path(folder) / f"{number}{Path(name).name}"
            for number, name in enumerate(outputs)
            if name != STDOUT
        ]
        track = ContigTrack(shard.contig, [(first, found)])
        with TrackOutputs(tracks, genome.lengths) as writers:
            writers.add(track, call_track(track, 1.0, 1, 0))
            writers.commit()
        written = sum(path.stat().st_size for path in tracks)
    share = plan.bases / len(found)
    return {
        "bases_per_second": round(speed),
        "seconds": round(plan.bases / speed, 1),
        "memory": peak_memory(),
        "temporary": round(temporary * share),
        "written": round(written * share),
    }


def _report(
    genome: Genome,
    plan: Plan,
    checkpoint: Checkpoint,
    predictor: Predictor,
    call: CallConfig,
    outputs: Sequence[str],
    state: PartialState,
    started: float,
    screen: bool,
) -> dict:
    return {
        **record_of(started, state, checkpoint, predictor),
        "genome": str(genome.path.resolve()),
        "contigs": {name: {"length": genome.lengths[name], "md5": md5} for name, md5 in plan.md5.items()},
        "regions": _regions(plan, genome),
        "bases": plan.bases,
        "bases_in_gaps": plan.requested_bases - plan.bases,
        "windows": plan.windows,
        "shards": len(plan.shards),
        "call": asdict(call),
        "screen": asdict(checkpoint.metadata.screen) if screen else None,
        "outputs": [str(output) for output in outputs],
    }


def _regions(plan: Plan, genome: Genome) -> list[str] | None:
    """Return the regions that were asked for, 1-based as users write them; None where they are whole contigs."""
    if all(wanted.tolist() == [[0, genome.lengths[contig]]] for contig, wanted in plan.requested.items()):
        return None
    return [f"{contig}:{low + 1}-{high}" for contig, wanted in plan.requested.items() for low, high in wanted]
