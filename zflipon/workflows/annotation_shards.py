"""The shards of an annotation: predict, store in the journal, and write in genome order.

What the run computes is in `zflipon.workflows.annotation_run`.
"""

from __future__ import annotations

import logging
import struct
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np

from zflipon.config import CallConfig
from zflipon.energetics.screen import screen_windows
from zflipon.errors import OutputError
from zflipon.genome.shards import Span, StoredSpan
from zflipon.inference.genome_scan import scan_groups
from zflipon.inference.scan_group import ScanTask
from zflipon.jobs.job import Job, ShardProgress
from zflipon.jobs.journal import Journal
from zflipon.tracks.calling import NO_VALUE, ContigTrack, LazyChunks, call_track, quantize
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
        self._claimed: list[int] = []

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
            results = scan_groups(self._predictor, genome, self._groups(), scores, self._advance)
            for group in results:
                if storing is not None:
                    storing.result()
                number = self._claimed[self._current]
                storing = background.submit(self._store, number, group, after_store)
                self._current, self._bases_done = self._current + 1, 0
                self._progress.shards(self._job.journal.stored() | {number} if several else [number])
                if self._job.is_stopping:
                    break
                self._job.start_shard()
            if storing is not None:
                storing.result()
            self._job.check_stop()

    def _advance(self, bases: int) -> None:
        # shards come back in the order in which they were claimed
        number = self._claimed[self._current]
        self._bases_done += bases
        self._progress.part(number, self._bases_done)
        self._job.advance_shard(bases, self._run.shards[number].bases)

    def _groups(self) -> Iterator[list[ScanTask]]:
        """Claim one shard after the other and yield the windows of its spans."""
        shards, resumed = self._run.shards, self._job.resumed
        for number in self._job.journal.claim(n for n in range(len(shards)) if n not in resumed):
            self._claimed.append(number)
            yield [self._task(span) for span in shards[number].spans]

    def _task(self, span: Span) -> ScanTask:
        windows, selected = span.windows, None
        if self._run.screen:
            predictor = self._predictor
            with predictor.timer("screen"):
                selected = screen_windows(
                    self._run.genome, span.contig, windows, predictor.metadata.screen, predictor.device
                )
        return ScanTask(span.contig, windows, selected, early_exit=True)

    def _store(
        self, number: int, group: Sequence[tuple[ScanTask, np.ndarray]], after_store: Callable[[], None]
    ) -> None:
        shard, values, windows_read = self._run.shards[number], [], 0
        for span, (task, scores) in zip(shard.spans, group, strict=True):
            origin = int(task.windows["core_start"][0])
            values.append(scores[:, span.start - origin : span.end - origin])
            windows_read += len(task.windows) if task.selected is None else int(task.selected.sum())
        with self._predictor.timer("store"):
            quantized = quantize(np.concatenate(values, axis=1))
            self._job.journal.write(number, encode_shard(quantized, windows_read))
        log.debug("%s is finished", shard)
        with self._predictor.timer("write"):
            after_store()


class ShardStore(Protocol):
    """Stored shards: a `zflipon.jobs.journal.Journal`, or the parts of a run."""

    def read(self, number: int) -> bytes:
        """Return the content of a shard; raise `OutputError` if it is damaged."""
        ...


class ContigWriter:
    """Writes contigs to the tracks, in genome order, from stored shards.

    Parameters
    ----------
    tracks : mapping of str to TrackOutputs
        Score → its outputs.
    calls : mapping of str to CallConfig
        Score → how its bases are called; each has a threshold.
    sizes : sequence of int
        Bases of each shard.
    store : ShardStore
    observe : callable
        Called with contig, score and quantized values of each chunk that is written.

    Attributes
    ----------
    totals : dict of str to dict of str to int
        Score → calls, called bases, bases with a value, and windows read so far.
    """

    def __init__(
        self,
        tracks: Mapping[str, TrackOutputs],
        calls: Mapping[str, CallConfig],
        sizes: Sequence[int],
        store: ShardStore,
        observe: Callable[[str, str, np.ndarray], object] = lambda contig, score, values: None,
    ):
        self._observe = observe
        self._tracks, self._calls, self._sizes, self._store = tracks, calls, sizes, store
        self._loaded, self._values = -1, np.empty((0, 0), dtype=np.uint16)
        self._counted = -1
        counts = ("calls", "called_bases", "bases", "windows_read")
        self.totals: dict[str, dict[str, int]] = {score: dict.fromkeys(counts, 0) for score in calls}

    def write(self, contig: str, spans: Sequence[StoredSpan]) -> None:
        """Write the next contig."""
        for row, score in enumerate(self._calls):
            totals = self.totals[score]
            calls = self._call(contig, spans, row, score)
            self._tracks[score].add(self._track(contig, spans, row), calls)
            totals["calls"] += len(calls)
            totals["called_bases"] += int((calls["end"] - calls["start"]).sum())

    def _call(self, contig: str, spans: Sequence[StoredSpan], row: int, score: str) -> np.ndarray:
        """Return the calls of a contig; count its values and observe them meanwhile, since calling reads each once."""

        def count(values: np.ndarray) -> None:
            self.totals[score]["bases"] += int(np.count_nonzero(values != NO_VALUE))
            self._observe(contig, score, values)

        call = self._calls[score]
        assert call.threshold is not None  # resolved by calls_of_scores
        track = self._track(contig, spans, row, count)
        return call_track(track, call.threshold, call.min_length, call.merge_gap)

    def _track(
        self,
        contig: str,
        spans: Sequence[StoredSpan],
        row: int,
        visit: Callable[[np.ndarray], object] = lambda values: None,
    ) -> ContigTrack:
        """Return a score of a contig, read span by span: a contig may be longer than what fits into memory."""

        def read(number: int) -> np.ndarray:
            values = self._read(spans[number])[row]
            visit(values)
            return values

        return ContigTrack(contig, LazyChunks([(span.start, span.end) for span in spans], read))

    def _read(self, span: StoredSpan) -> np.ndarray:
        """Return the values of a span: uint16, shape (scores, bases)."""
        if span.shard != self._loaded:  # short contigs share a shard
            content = self._store.read(span.shard)
            self._values, windows_read = decode_shard(content, len(self._calls), self._sizes[span.shard])
            self._loaded = span.shard
            if span.shard > self._counted:  # the outputs read a shard once each
                self._counted = span.shard
                for totals in self.totals.values():
                    totals["windows_read"] += windows_read
        return self._values[:, span.offset : span.offset + span.end - span.start]


class ShardWriter:
    """Writes contigs to the tracks as soon as all their shards are stored.

    Parameters
    ----------
    writer : ContigWriter
    contigs : mapping of str to list of StoredSpan
        In genome order.
    journal : Journal
    """

    def __init__(self, writer: ContigWriter, contigs: Mapping[str, list[StoredSpan]], journal: Journal):
        self._writer, self._journal = writer, journal
        self._remaining = deque(contigs.items())
        self._stored = -1
        """The shards up to this one are known to be stored."""

    def write_finished_contigs(self) -> None:
        """Write the contigs whose turn it is and whose shards are all stored."""
        while self._remaining:
            contig, spans = self._remaining[0]
            for number in range(self._stored + 1, spans[-1].shard + 1 if spans else 0):
                if not self._journal.has(number):
                    return
                self._stored = number
            self._writer.write(contig, spans)
            self._remaining.popleft()

    def write_all(self, check: Callable[[], None], progress: ShardProgress) -> None:
        """Write all remaining contigs; wait for the shards of other processes, calling `check` meanwhile."""
        for contig, spans in self._remaining:
            for number in range(self._stored + 1, spans[-1].shard + 1 if spans else 0):
                self._journal.wait([number], check)
                progress.shards([number])
                self._stored = number
            self._writer.write(contig, spans)
