"""Annotate a genome: FASTA → base probabilities → tracks.

Here the work is divided into shards, computed, and written in genome order; inference itself is in
`zflipon.inference.genome_scan`, file formats are in `zflipon.tracks`.

The shards do not depend on the number of processes. Each shard is computed by one process and stored in a journal. The
main process also writes the tracks, contig by contig as the shards arrive. A rerun after any kind of stop resumes and
ends with the same bytes.
"""

from __future__ import annotations

import logging
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np

from zflipon.config import DEFAULT_MODEL, GPU_SHARD_BASES, CallConfig, InferenceConfig, Selection
from zflipon.energetics.screen import screen_windows
from zflipon.errors import OutputError
from zflipon.genome.fasta import Genome
from zflipon.genome.shards import Plan, Shard, make_plan
from zflipon.inference.genome_scan import ScanTask, scan_genome
from zflipon.jobs.distributed import broadcast_from_main, process_state
from zflipon.jobs.job import Job, ShardProgress, check_outputs, require_distinct
from zflipon.jobs.journal import Journal
from zflipon.jobs.signals import StopRequest
from zflipon.models import Checkpoint
from zflipon.tracks.base import STDOUT
from zflipon.tracks.calling import NO_VALUE, ContigTrack, call_track, quantize
from zflipon.tracks.outputs import TrackOutputs
from zflipon.tracks.registry import find_writer
from zflipon.workflows.pilot import estimate_costs
from zflipon.workflows.session import FeatureFiles, Session, open_session

log = logging.getLogger("zflipon")

_WINDOWS_READ = struct.Struct("<I")


def annotate(
    genome_path: str | Path,
    outputs: Sequence[str | Path],
    model: str | Path | Checkpoint = DEFAULT_MODEL,
    selection: Selection | None = None,
    call: CallConfig | None = None,
    settings: InferenceConfig | None = None,
    *,
    force: bool = False,
    dry_run: bool = False,
    restart: bool = False,
    screen: bool = False,
    features: str | Path | None = None,
    missing_features: str = "error",
    shard_bases: int | None = None,
    progress: Callable[[int, int], object] | None = None,
    stop: StopRequest | None = None,
    command: str = "zflipon.annotate()",
) -> dict:
    """Write the Z-DNA tracks of a genome.

    Parameters
    ----------
    genome_path : str or Path
        FASTA: plain, gzip or bgzip.
    outputs : sequence of str or Path
        Files, whose extensions choose the formats, or ``-`` for BED on standard output.
    model : str, Path or Checkpoint
        Name of a bundled model, folder, file or Hugging Face Hub id; or a loaded checkpoint.
    selection : Selection, optional
        Parts of the genome; everything by default.
    call : CallConfig, optional
        How probabilities become called intervals.
    settings : InferenceConfig, optional
        Device, precision, batch size and strands.
    force : bool
        Replace existing outputs.
    dry_run : bool
        Plan the run, time a small part of it, and write nothing.
    restart : bool
        Discard the finished shards of an earlier run of the same outputs.
    screen : bool
        Read only windows that pass the model's prefilter (`zflipon.energetics.screen`). Bases of other windows get
        the probability 0.
    features : str or Path, optional
        Table of the omics tracks that the model reads; see `zflipon.omics.features`.
    missing_features : str
        One of `zflipon.config.MISSING_FEATURES`.
    shard_bases : int, optional
        Bases of a shard, the unit of work that survives a kill; by default as suits the device.
    progress : callable, optional
        Called with the bases finished since the last call, and with the bases of the whole run.
    stop : StopRequest, optional
        Lets another thread or a signal handler stop the run.
    command : str
        Command line for the record.

    Returns
    -------
    dict
        The run record, as in the JSON file of each output; with `dry_run`, plan and estimate. Empty in all
        processes but the main one.

    Raises
    ------
    ZfliponError
        If an input, an output or the model cannot be used, or the outputs have an unfinished run with other settings.
    Stopped
        If the run was asked to stop. Finished shards are saved.
    """
    started, settings, selection = time.time(), settings or InferenceConfig(), selection or Selection()
    for output in outputs:
        find_writer(output)
    files = [Path(output) for output in outputs if str(output) != STDOUT]
    inputs = [path for path in (genome_path, selection.regions_bed, features) if path is not None]
    check_outputs(files, inputs, force)
    state = process_state(settings.device)
    with Genome(genome_path) as genome:
        session = open_session(
            state, model, settings, FeatureFiles(features, missing_features), genome.lengths
        )
        if session.predictor.features is not None:
            require_distinct(files, session.predictor.features.paths.values())
        run = _plan(genome, session, selection, call or CallConfig(), screen, shard_bases)
        log.info("%s", run.describe())
        record = run.record(outputs, command, started)
        if dry_run:
            record["estimate"] = estimate_costs(genome, run.plan, session, outputs, encode_shard)
            return record if state.is_main_process else {}
        with Job(files, state, stop) as job:
            job.open_journal(run.key(), len(run.plan.shards), restart)
            totals = _compute(run, job, outputs, progress)
            if not state.is_main_process:
                return {}
            record |= {"tracks": totals, **session.resources(started)}
            job.finish(record)
    return record


def encode_shard(values: np.ndarray, windows_read: int) -> bytes:
    """Return the journal's content for a shard: probabilities as of `quantize`, and the windows the model read."""
    return _WINDOWS_READ.pack(windows_read) + np.asarray(values, dtype="<u2").tobytes()


def decode_shard(content: bytes, bases: int) -> tuple[np.ndarray, int]:
    """Return uint16 probabilities, shape (bases,), and the windows read; raise `OutputError` if the size is wrong."""
    if len(content) != _WINDOWS_READ.size + 2 * bases:
        raise OutputError(
            f"a stored shard has {len(content)} bytes, expected those of {bases} bases; give --restart to recompute"
        )
    (windows_read,) = _WINDOWS_READ.unpack_from(content)
    return np.frombuffer(content, "<u2", offset=_WINDOWS_READ.size), windows_read


# ---- plan ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Run:
    """Everything that determines the tracks."""

    genome: Genome
    session: Session
    plan: Plan
    call: CallConfig
    screen: bool

    def describe(self) -> str:
        plan = self.plan
        return (
            f"{plan.bases:,} bases on {len(plan.md5)} contigs and {plan.requested_bases - plan.bases:,} in gaps of N; "
            f"{plan.windows:,} windows of {self.session.checkpoint.metadata.window} bases, {self.session.describe()}"
        )

    def key(self) -> dict[str, object]:
        """Return the settings that determine the stored probabilities. Calling and formats do not."""
        lengths, digest = self.genome.lengths, sha256()
        for name, md5 in self.plan.md5.items():
            digest.update(f"{name} {lengths[name]} {md5}\n".encode())
        return {
            "genome": digest.hexdigest(),
            "regions": self.plan.digest(),
            **self.session.key(),
            "screen": self._screen() or "none",
        }

    def record(self, outputs: Sequence[str | Path], command: str, started: float) -> dict:
        plan, lengths = self.plan, self.genome.lengths
        return {
            **self.session.record(command, started),
            "genome": str(self.genome.path.resolve()),
            "contigs": {name: {"length": lengths[name], "md5": md5} for name, md5 in plan.md5.items()},
            "regions": _regions(plan, self.genome),
            "bases": plan.bases,
            "bases_in_gaps": plan.requested_bases - plan.bases,
            "windows": plan.windows,
            "shards": len(plan.shards),
            "call": asdict(self.call),
            "screen": self._screen(),
            "outputs": [str(output) for output in outputs],
        }

    def _screen(self) -> dict | None:
        return asdict(self.session.checkpoint.metadata.screen) if self.screen else None


def _plan(
    genome: Genome,
    session: Session,
    selection: Selection,
    call: CallConfig,
    screen: bool,
    shard_bases: int | None,
) -> _Run:
    metadata = session.checkpoint.metadata
    if shard_bases is None and session.predictor.device.type == "cuda":
        shard_bases = GPU_SHARD_BASES
    plan = broadcast_from_main(
        session.state, lambda: make_plan(genome, selection, metadata.window, metadata.margin, shard_bases)
    )
    if call.threshold is None:
        call = replace(call, threshold=metadata.threshold)
    return _Run(genome, session, plan, call, screen)


def _regions(plan: Plan, genome: Genome) -> list[str] | None:
    """Return the selected regions in samtools syntax, None if whole contigs are selected."""
    requested = plan.requested.items()
    if all(intervals.tolist() == [[0, genome.lengths[contig]]] for contig, intervals in requested):
        return None
    return [f"{contig}:{start + 1}-{end}" for contig, intervals in requested for start, end in intervals]


# ---- compute and write -----------------------------------------------------------------------------------


def _compute(
    run: _Run, job: Job, outputs: Sequence[str | Path], progress: Callable[[int, int], object] | None
) -> dict[str, int]:
    """Compute the shards that this process claims; in the main process, write the tracks and return their totals."""
    sizes = [shard.end - shard.start for shard in run.plan.shards]
    if not run.session.state.is_main_process:
        _ShardPredictor(run, job, ShardProgress(None, sizes, job.resumed)).run(lambda: None)
        return {}
    shard_progress = ShardProgress(progress, sizes, job.resumed)
    with TrackOutputs(outputs, run.genome.lengths) as tracks:
        writer = _ShardWriter(tracks, run, job.journal)
        _ShardPredictor(run, job, shard_progress).run(writer.write_finished_contigs)
        with run.session.predictor.timer("write"):
            writer.write_all(job.check_stop, shard_progress)
            job.publish()
            tracks.commit()
    return writer.totals


class _ShardPredictor:
    """Predicts the shards that this process claims and stores them in the journal."""

    def __init__(self, run: _Run, job: Job, progress: ShardProgress):
        self._run, self._job, self._progress = run, job, progress
        self._predictor = run.session.predictor
        self._claimed: list[Shard] = []

    def run(self, after_store: Callable[[], None]) -> None:
        """Predict until no shard is left or the job stops.

        Parameters
        ----------
        after_store : callable
            Called after each shard is stored, while the model computes the next one.
        """
        genome, several = self._run.genome, self._run.session.state.num_processes > 1
        self._current = self._bases_done = 0
        with ThreadPoolExecutor(1, "zflipon-store") as background:
            storing: Future[None] | None = None
            results = scan_genome(self._predictor, genome, self._tasks(), self._advance)
            for task, probabilities in results:
                if storing is not None:
                    storing.result()
                shard = self._claimed[self._current]
                storing = background.submit(self._store, shard, task, probabilities, after_store)
                self._current, self._bases_done = self._current + 1, 0
                self._progress.shards(
                    self._job.journal.stored() | {shard.number} if several else [shard.number]
                )
                if self._job.is_stopping:
                    break
                self._job.start_shard()
            if storing is not None:
                storing.result()
            self._job.check_stop()

    def _advance(self, bases: int) -> None:
        # shards come back in the order in which they were claimed
        shard = self._claimed[self._current]
        self._bases_done += bases
        self._progress.part(shard.number, self._bases_done)
        self._job.advance_shard(bases, shard.end - shard.start)

    def _tasks(self) -> Iterator[ScanTask]:
        """Claim one shard after the other and yield its windows."""
        shards, resumed = self._run.plan.shards, self._job.resumed
        for number in self._job.journal.claim(n for n in range(len(shards)) if n not in resumed):
            shard = shards[number]
            self._claimed.append(shard)
            windows, selected = shard.windows, None
            if self._run.screen:
                with self._predictor.timer("screen"):
                    selected = screen_windows(
                        self._run.genome,
                        shard.contig,
                        windows,
                        self._predictor.metadata.screen,
                        self._predictor.device,
                    )
            yield ScanTask(shard.contig, windows, selected, early_exit=True)

    def _store(
        self, shard: Shard, task: ScanTask, probabilities: np.ndarray, after_store: Callable[[], None]
    ) -> None:
        origin = int(task.windows["core_start"][0])
        windows_read = len(task.windows) if task.selected is None else int(task.selected.sum())
        with self._predictor.timer("store"):
            values = quantize(probabilities[shard.start - origin : shard.end - origin])
            self._job.journal.write(shard.number, encode_shard(values, windows_read))
        log.debug("%s is finished", shard)
        with self._predictor.timer("write"):
            after_store()


class _ShardWriter:
    """Writes contigs to the tracks, in genome order, as soon as all their shards are stored.

    Attributes
    ----------
    totals : dict of str to int
        Calls, called bases, bases with a value, and windows read so far.
    """

    def __init__(self, tracks: TrackOutputs, run: _Run, journal: Journal):
        self._tracks, self._call, self._journal = tracks, run.call, journal
        self._remaining = list(run.plan.by_contig().items())
        self._stored = 0  # leading shards of the first remaining contig that are known to be stored
        self.totals = {"calls": 0, "called_bases": 0, "bases": 0, "windows_read": 0}

    def write_finished_contigs(self) -> None:
        """Write the contigs whose turn it is and whose shards are all stored."""
        while self._remaining:
            contig, shards = self._remaining[0]
            while self._stored < len(shards):
                if not self._journal.has(shards[self._stored].number):
                    return
                self._stored += 1
            self._write(contig, shards)
            self._remaining.pop(0)
            self._stored = 0

    def write_all(self, check: Callable[[], None], progress: ShardProgress) -> None:
        """Write all remaining contigs; wait for the shards of other processes, calling `check` meanwhile."""
        for contig, shards in self._remaining:
            for shard in shards:
                self._journal.wait([shard.number], check)
                progress.shards([shard.number])
            self._write(contig, shards)

    def _write(self, contig: str, shards: list[Shard]) -> None:
        chunks = []
        for shard in shards:
            values, windows_read = decode_shard(self._journal.read(shard.number), shard.end - shard.start)
            chunks.append((shard.start, values))
            self.totals["windows_read"] += windows_read
        track = ContigTrack(contig, chunks)
        calls = call_track(track, self._call.threshold, self._call.min_length, self._call.merge_gap)
        self._tracks.add(track, calls)
        self.totals["calls"] += len(calls)
        self.totals["called_bases"] += int((calls["end"] - calls["start"]).sum())
        self.totals["bases"] += sum(int(np.count_nonzero(values != NO_VALUE)) for _, values in chunks)
