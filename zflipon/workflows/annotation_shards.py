"""The shards of an annotation: predict, store in the journal, and write in genome order.

What the run computes is in `zflipon.workflows.annotation_run`.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from zflipon.energetics.screen import screen_windows
from zflipon.errors import OutputError
from zflipon.genome.shards import Shard
from zflipon.inference.genome_scan import ScanTask, scan_scores
from zflipon.jobs.job import Job, ShardProgress
from zflipon.jobs.journal import Journal
from zflipon.tracks.calling import NO_VALUE, ContigTrack, call_track, quantize
from zflipon.tracks.outputs import TrackOutputs
from zflipon.workflows.annotation_run import AnnotationRun

log = logging.getLogger("zflipon")

_WINDOWS_READ = struct.Struct("<I")


def encode_shard(values: np.ndarray, windows_read: int) -> bytes:
    """Return the journal's content for a shard: scores as of `quantize`, and the windows the model read."""
    return _WINDOWS_READ.pack(windows_read) + np.asarray(values, dtype="<u2").tobytes()


def decode_shard(content: bytes, scores: int, bases: int) -> tuple[np.ndarray, int]:
    """Return uint16 scores, shape (scores, bases), and the windows read; raise `OutputError` if the size is wrong."""
    if len(content) != _WINDOWS_READ.size + 2 * scores * bases:
        raise OutputError(
            f"a stored shard has {len(content)} bytes, expected those of {bases} bases; give --restart to recompute"
        )
    (windows_read,) = _WINDOWS_READ.unpack_from(content)
    return np.frombuffer(content, "<u2", offset=_WINDOWS_READ.size).reshape(scores, bases), windows_read


class ShardPredictor:
    """Predicts the shards that this process claims and stores them in the journal."""

    def __init__(self, run: AnnotationRun, job: Job, progress: ShardProgress):
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
            scores = self._run.scores
            results = scan_scores(self._predictor, genome, self._tasks(), scores, self._advance)
            for task, values in results:
                if storing is not None:
                    storing.result()
                shard = self._claimed[self._current]
                storing = background.submit(self._store, shard, task, values, after_store)
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
        self, shard: Shard, task: ScanTask, values: np.ndarray, after_store: Callable[[], None]
    ) -> None:
        origin = int(task.windows["core_start"][0])
        windows_read = len(task.windows) if task.selected is None else int(task.selected.sum())
        with self._predictor.timer("store"):
            quantized = quantize(values[:, shard.start - origin : shard.end - origin])
            self._job.journal.write(shard.number, encode_shard(quantized, windows_read))
        log.debug("%s is finished", shard)
        with self._predictor.timer("write"):
            after_store()


class ShardWriter:
    """Writes contigs to the tracks, in genome order, as soon as all their shards are stored.

    Parameters
    ----------
    tracks : mapping of str to TrackOutputs
        Score → its outputs.
    run : AnnotationRun
    journal : Journal

    Attributes
    ----------
    totals : dict of str to dict of str to int
        Score → calls, called bases, bases with a value, and windows read so far.
    """

    def __init__(self, tracks: Mapping[str, TrackOutputs], run: AnnotationRun, journal: Journal):
        self._tracks, self._run, self._journal = tracks, run, journal
        self._remaining = list(run.plan.by_contig().items())
        self._stored = 0  # leading shards of the first remaining contig that are known to be stored
        counts = ("calls", "called_bases", "bases", "windows_read")
        self.totals: dict[str, dict[str, int]] = {score: dict.fromkeys(counts, 0) for score in run.scores}

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
        scores, chunks, windows_read = self._run.scores, [], 0
        for shard in shards:
            content = self._journal.read(shard.number)
            values, read = decode_shard(content, len(scores), shard.end - shard.start)
            chunks.append((shard.start, values))
            windows_read += read
        for row, score in enumerate(scores):
            track = ContigTrack(contig, [(start, values[row]) for start, values in chunks])
            call, totals = self._run.calls[score], self.totals[score]
            calls = call_track(track, self._run.threshold(score), call.min_length, call.merge_gap)
            self._tracks[score].add(track, calls)
            totals["calls"] += len(calls)
            totals["called_bases"] += int((calls["end"] - calls["start"]).sum())
            totals["bases"] += sum(int(np.count_nonzero(values != NO_VALUE)) for _, values in track.chunks)
            totals["windows_read"] += windows_read
