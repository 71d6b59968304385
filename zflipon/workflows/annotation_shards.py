"""The shards of an annotation: predict, store in the journal, and write in genome order.

What the run computes is in `zflipon.workflows.annotation_run`; stored shards are read in
`zflipon.workflows.stored_shards`.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from zflipon.energetics.screen import screen_windows
from zflipon.genome.shards import Span, StoredSpan
from zflipon.inference.genome_scan import scan_groups
from zflipon.inference.scan_group import ScanTask
from zflipon.jobs.job import Job, ShardProgress
from zflipon.jobs.journal import Journal
from zflipon.tracks.calling import quantize
from zflipon.workflows.annotation_run import AnnotationRun
from zflipon.workflows.stored_shards import ContigWriter, encode_shard

log = logging.getLogger("zflipon")


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
