"""Windows of a genome → the probabilities of their cores, read and tokenized ahead of the model.

The windows of a genome come from `zflipon.genome.shards`; probabilities are written by `zflipon.tracks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np

from zflipon.config import FACTORS, MIN_PROPENSITY, PROBABILITY_DECIMALS
from zflipon.errors import NotANumberError
from zflipon.genome.fasta import Genome
from zflipon.genome.sequence_windows import SequenceWindows
from zflipon.inference.batching import POOL_WINDOWS, Batch
from zflipon.inference.concurrency import Prefetch
from zflipon.inference.decoding import sigmoid
from zflipon.inference.executor import MODEL_STAGE, NOT_A_NUMBER, PendingOutput
from zflipon.inference.predictor import Predictor

SKIPPED_PROBABILITY = 0.0
"""Probability of bases in windows that did not pass the screen."""

ROUNDS_TO_ZERO = 0.4 * 10**-PROBABILITY_DECIMALS
"""Largest upper bound at which a window is skipped: a probability of half a last digit is written as 0, and a tenth of
a digit is left for rounding errors."""


@dataclass(frozen=True)
class ScanTask:
    """Consecutive windows of one segment of a contig.

    Attributes
    ----------
    contig : str
    windows : numpy.ndarray
        `zflipon.genome.windows.WINDOW_DTYPE`, shape (windows,).
    selected : numpy.ndarray or None
        bool, shape (windows,): windows that the model reads. The cores of the others get `SKIPPED_PROBABILITY`. None
        selects all.
    early_exit : bool
        Skip windows in which every upper bound rounds to 0 in a track, if `selected` is None and the model has upper
        bounds. Their cores get the upper bounds. For the activity, windows with a propensity above `MIN_PROPENSITY`
        are read.
    """

    contig: str
    windows: np.ndarray
    selected: np.ndarray | None = None
    early_exit: bool = False


def predict_windows(
    predictor: Predictor,
    genome: Genome,
    contig: str,
    windows: np.ndarray,
    progress: Callable[[int], object] = lambda bases: None,
    early_exit: bool = False,
) -> np.ndarray:
    """Return the probabilities of the cores of consecutive windows.

    Parameters
    ----------
    predictor : Predictor
    genome : Genome
    contig : str
    windows : numpy.ndarray
        `zflipon.genome.windows.WINDOW_DTYPE`, consecutive windows of one segment.
    progress : callable
        Called with the number of bases decided since the last call.
    early_exit : bool
        As in `ScanTask`.

    Returns
    -------
    numpy.ndarray
        float32, shape (windows["core_end"][-1] - windows["core_start"][0],). NaN at N, and in the cores of windows
        that are more than half N.
    """
    tasks = [ScanTask(contig, windows, early_exit=early_exit)]
    ((_, probabilities),) = scan_genome(predictor, genome, tasks, progress)
    return probabilities


def scan_genome(
    predictor: Predictor,
    genome: Genome,
    tasks: Iterable[ScanTask],
    progress: Callable[[int], object] = lambda bases: None,
) -> Iterator[tuple[ScanTask, np.ndarray]]:
    """Yield each task and its probabilities, in order; `scan_scores` for the probability alone."""
    for task, values in scan_scores(predictor, genome, tasks, ("probability",), progress):
        yield task, values[0]


def scan_scores(
    predictor: Predictor,
    genome: Genome,
    tasks: Iterable[ScanTask],
    scores: Sequence[str],
    progress: Callable[[int], object] = lambda bases: None,
) -> Iterator[tuple[ScanTask, np.ndarray]]:
    """Yield the scores of each task, in order. The next tasks are read and tokenized while the model works.

    All scores come from one run of the model. The propensity comes from the bases alone, at every base and whichever
    windows are selected; if no other score is requested, the model's context is not run.

    Parameters
    ----------
    predictor, genome, progress
        As in `predict_windows`. Nothing else may read the genome meanwhile.
    tasks : iterable of ScanTask
        Consumed lazily, in another thread.
    scores : sequence of str
        Of `zflipon.config.SCORES`.

    Yields
    ------
    task : ScanTask
        The given task. If windows were skipped, `selected` is set.
    values : numpy.ndarray
        float32, shape (scores, bases), with the bases of `predict_windows`. NaN where a base has no value: at N, and
        for the activity also where the propensity is at most `MIN_PROPENSITY` or the model did not read the window.

    Raises
    ------
    ModelError
        If the model does not have a score.
    NotANumberError
        If the model returns NaN or an infinite value; the message names the region.
    """
    predictor.require_scores(scores)
    states = _read_tasks(predictor, genome, tasks, scores)
    with (
        nullcontext(states) if predictor.tokenizer_pool is None else Prefetch(states, 1) as states,
        Prefetch(_batches_of(predictor, states), predictor.profile.prefetch_batches) as items,
    ):
        for state, batch, pending in predictor.executor.stream(items):
            if batch is None or pending is None:
                progress(state.bases_without_model)
                with predictor.timer("project"):
                    values = state.finish()
                yield state.task, values
                continue
            with predictor.timer(MODEL_STAGE):
                output = state.gather(pending)
            with predictor.timer("project"):
                progress(state.add(batch, output))


class _TaskState:
    """A task in progress: the model's inputs, and the scores of its cores.

    Cores of consecutive windows touch, so that a value per window becomes a value per base by `numpy.repeat`.
    """

    def __init__(self, task: ScanTask, text: str, predictor: Predictor, scores: Sequence[str]):
        self.task, self.predictor, self.scores = task, predictor, scores
        windows = task.windows
        origin = int(windows["start"].min())
        starts, ends = windows["start"] - origin, windows["end"] - origin
        core_sizes = windows["core_end"] - windows["core_start"]
        first, size = int(windows["core_start"][0]) - origin, int(core_sizes.sum())
        is_n = np.frombuffer(text.encode("ascii"), dtype=np.uint8) == ord("N")
        self.is_n = is_n[first : first + size]
        self.values = np.full((len(scores), size), np.nan, dtype=np.float32)

        to_predict = _at_most_half(is_n, starts, ends)
        self.has_value = np.repeat(to_predict, core_sizes) & ~self.is_n
        selected, skipped_values = self._select_windows(text, windows["core_start"] - origin, size)
        if selected is not None:
            self.task = replace(task, selected=selected)
            if "probability" in scores:
                skipped = np.repeat(to_predict & ~selected, core_sizes)
                np.copyto(self.values[scores.index("probability")], skipped_values, where=skipped)
            to_predict &= selected

        rows = np.flatnonzero(to_predict)
        self.is_predicted = np.repeat(to_predict, core_sizes)
        self.core_sizes = core_sizes[rows]
        self.bases_without_model = size - int(self.core_sizes.sum())
        self.sequences = SequenceWindows(text, starts[rows], ends[rows])
        bounds_on_contig = np.stack([windows["start"], windows["end"]], axis=1)[rows]
        self.features = predictor.read_features(task.contig, bounds_on_contig)
        core_starts = (windows["core_start"] - windows["start"])[rows]
        self.cores = np.stack([core_starts, core_starts + self.core_sizes], axis=1)
        if predictor.both_strands:
            self._append_reverse_strand()
        self.output_rows = predictor.decoder.output_rows(scores)
        self.outputs = _CoreValues(predictor, self.cores, self.core_sizes, self.output_rows.count)

    def _select_windows(
        self, text: str, core_starts: np.ndarray, size: int
    ) -> tuple[np.ndarray | None, np.ndarray | float]:
        """Return which windows the model reads, None for all, and the probabilities of bases in the others.

        Sets the propensity if a score needs it.
        """
        # after a screen, early exit would find little more
        exits_early = self.task.selected is None and self.task.early_exit
        if not exits_early and not set(self.scores) & set(FACTORS):
            return self.task.selected, SKIPPED_PROBABILITY
        logits, cores = self.predictor.upper_bound_logits(text), slice(core_starts[0], core_starts[0] + size)
        if logits is not None and set(self.scores) & set(FACTORS):
            self.propensity = sigmoid(logits)[cores]
        if self.scores == ("propensity",):
            return np.zeros(len(core_starts), dtype=bool), SKIPPED_PROBABILITY
        if not exits_early or logits is None:
            return self.task.selected, SKIPPED_PROBABILITY
        bounds = self.predictor.decoder.upper_bounds(logits)
        # also for the activity alone, so that batches, and the last bits of values, depend on it as little as possible
        selected = _may_exceed(bounds, core_starts, ROUNDS_TO_ZERO)
        if "activity" in self.scores:
            selected |= _may_exceed(sigmoid(logits), core_starts, MIN_PROPENSITY)
        return selected, bounds[cores]

    def _append_reverse_strand(self) -> None:
        """Add each window's reverse complement after all forward windows."""
        if self.features is not None:
            self.features += [tracks[:, ::-1] for tracks in self.features]
        reverse_cores = (self.sequences.widths[:, None] - self.cores)[:, ::-1]
        self.cores = np.concatenate([self.cores, reverse_cores])
        self.sequences = self.sequences.with_reverse_complement()

    def batches(self) -> list[Batch]:
        """Tokenize the windows of the task."""
        return list(self.predictor.batches(self.sequences, self.cores, self.features, *self.output_rows))

    def gather(self, pending: PendingOutput) -> np.ndarray:
        """Wait for the output of a batch; name the region in an error."""
        try:
            return self.predictor.executor.gather(pending)
        except NotANumberError as error:
            raise NotANumberError(f"{self.region}: {error}") from None

    @property
    def region(self) -> str:
        """The part of the genome that the task reads, in samtools syntax."""
        windows = self.task.windows
        return f"{self.task.contig}:{windows['start'].min() + 1:,}-{windows['end'].max():,}"

    def add(self, batch: Batch, output: np.ndarray) -> int:
        """Add the output of a batch; return the number of bases that it decides."""
        self.outputs.add(batch, output)
        forward = batch.indices[batch.indices < len(self.core_sizes)]
        return int(self.core_sizes[forward].sum())

    def finish(self) -> np.ndarray:
        """Return all scores, NaN at N: float32, shape (scores, bases)."""
        outputs = self.outputs.merge()
        own = np.arange(outputs.shape[2]) < self.core_sizes[:, None]
        merged = outputs.swapaxes(0, 1)[:, own]
        for score, values in zip(self.scores, self.values, strict=True):
            if score == "propensity":
                np.copyto(values, self.propensity, where=self.has_value)
                if not np.isfinite(values[self.has_value]).all():
                    raise NotANumberError(
                        f"{self.region}: {NOT_A_NUMBER}; check the weights with zflipon doctor"
                    )
                continue
            values[self.is_predicted] = self.predictor.decoder.score(merged, score)
            if score == "activity":
                values[self.propensity <= MIN_PROPENSITY] = np.nan
            values[self.is_n] = np.nan
        return self.values


class _CoreValues:
    """Collects the outputs of batches and adds up the values of both strands in each core.

    Parameters
    ----------
    predictor : Predictor
    cores : numpy.ndarray
        int64, shape (windows, 2), or (2 × windows, 2) with the reverse strand: range of the core in the sequence.
    core_sizes : numpy.ndarray
        int64, shape (windows,).
    rows : int
        Values of a base in an output.
    """

    def __init__(self, predictor: Predictor, cores: np.ndarray, core_sizes: np.ndarray, rows: int):
        self.decoder, self.windows = predictor.decoder, len(core_sizes)
        self.weights = self.decoder.strand_weights
        shape = (self.windows, rows, core_sizes.max(initial=0))
        self.values = np.zeros(shape, dtype=np.float32)
        # nearly all cores have the same range in their window, so each range is copied in one operation
        self.ranges, self.range_of_sequence = np.unique(cores, axis=0, return_inverse=True)
        self._waiting: list[tuple[Batch, np.ndarray]] = []

    def add(self, batch: Batch, output: np.ndarray) -> None:
        """Add the output of a batch. Outputs are decoded many at a time, because small calls are slow."""
        self._waiting.append((batch, output))
        if sum(len(waiting.indices) for waiting, _ in self._waiting) >= POOL_WINDOWS:
            self._decode_waiting()

    def merge(self) -> np.ndarray:
        """Return the merged values of all cores: float32, shape (windows, values, longest core)."""
        self._decode_waiting()
        return self.values

    def _decode_waiting(self) -> None:
        if not self._waiting:
            return
        batches, outputs = zip(*self._waiting, strict=True)
        self._waiting.clear()
        values = self.decoder.base_values(batches, outputs)
        sequences = np.concatenate([batch.indices for batch in batches])
        is_reverse, ranges = sequences >= self.windows, self.range_of_sequence[sequences]
        windows = sequences - self.windows * is_reverse
        for number in np.unique(ranges):
            start, end = self.ranges[number]
            # one strand at a time: a window may occur twice, once per strand
            for strand, weight in enumerate(self.weights):
                rows = np.flatnonzero((ranges == number) & (is_reverse == bool(strand)))
                core = values[rows, :, start:end]
                self.values[windows[rows], :, : end - start] += weight * (core[..., ::-1] if strand else core)


def _at_most_half(is_n: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return whether at most half of each window is N: bool, shape (windows,)."""
    n_before = np.concatenate([[0], np.cumsum(is_n)])
    return 2 * (n_before[ends] - n_before[starts]) <= ends - starts


def _may_exceed(bounds: np.ndarray, core_starts: np.ndarray, limit: float) -> np.ndarray:
    """Return which cores may hold a base above a limit: bool, shape (windows,)."""
    # written so that NaN counts as true: the model then reads the window and reports the error
    return ~(np.maximum.reduceat(bounds, core_starts) <= limit)


def _read_tasks(
    predictor: Predictor, genome: Genome, tasks: Iterable[ScanTask], scores: Sequence[str]
) -> Iterator[_TaskState]:
    """Read the sequence of one task after the other."""
    for task in tasks:
        with predictor.timer("read"):
            start, end = int(task.windows["start"].min()), int(task.windows["end"].max())
            state = _TaskState(task, genome.fetch(task.contig, start, end), predictor, tuple(scores))
        yield state


def _batches_of(
    predictor: Predictor, states: Iterable[_TaskState]
) -> Iterator[tuple[_TaskState, Batch | None]]:
    """Yield the batches of each task, followed by None for its end."""

    def tokenize(state: _TaskState) -> tuple[_TaskState, list[Batch]]:
        with predictor.timer("tokenize"):
            return state, state.batches()

    run = map if predictor.tokenizer_pool is None else predictor.tokenizer_pool.map
    for state, batches in run(tokenize, states):
        yield from ((state, batch) for batch in batches)
        yield state, None
