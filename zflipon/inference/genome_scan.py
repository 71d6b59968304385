"""Windows of a genome → the probabilities of their cores, read and tokenized ahead of the model.

The windows of a genome come from `zflipon.genome.shards`; probabilities are written by `zflipon.tracks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from zflipon.config import FACTORS, MIN_PROPENSITY, PROBABILITY_DECIMALS
from zflipon.errors import NotANumberError, format_names
from zflipon.genome.fasta import Genome
from zflipon.genome.sequence_windows import SequenceWindows
from zflipon.inference.batching import Batch
from zflipon.inference.concurrency import Prefetch
from zflipon.inference.core_values import CoreValues
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
    for ((task, values),) in scan_groups(predictor, genome, ([task] for task in tasks), scores, progress):
        yield task, values


def scan_groups(
    predictor: Predictor,
    genome: Genome,
    groups: Iterable[Sequence[ScanTask]],
    scores: Sequence[str],
    progress: Callable[[int], object] = lambda bases: None,
) -> Iterator[list[tuple[ScanTask, np.ndarray]]]:
    """Yield the tasks and scores of each group, as `scan_scores`. The windows of a group share batches.

    Parameters
    ----------
    predictor, genome, scores, progress
        As in `scan_scores`.
    groups : iterable of sequence of ScanTask
        Tasks of any contigs. All screen their windows, or none does.

    Raises
    ------
    ModelError, NotANumberError
        As `scan_scores`.
    """
    predictor.require_scores(scores)
    states = _read_groups(predictor, genome, groups, scores)
    with (
        nullcontext(states) if predictor.tokenizer_pool is None else Prefetch(states, 1) as states,
        Prefetch(_batches_of(predictor, states), predictor.profile.prefetch_batches) as items,
    ):
        for state, batch, pending in predictor.executor.stream(items):
            if batch is None or pending is None:
                progress(state.bases_without_model)
                with predictor.timer("project"):
                    values = state.finish()
                yield values
                continue
            with predictor.timer(MODEL_STAGE):
                output = state.gather(batch, pending)
            with predictor.timer("project"):
                progress(state.add(batch, output))


class _GroupState:
    """A group of tasks in progress: the model's inputs, and the scores of its cores.

    The sequences of all tasks are joined to one text, in which windows do not reach from one task into the next. Cores
    of consecutive windows touch, so that a value per window becomes a value per base by `numpy.repeat`.
    """

    def __init__(
        self, tasks: Sequence[ScanTask], texts: Sequence[str], predictor: Predictor, scores: Sequence[str]
    ):
        self.tasks, self.predictor, self.scores = list(tasks), predictor, scores
        self.windows = np.concatenate([task.windows for task in tasks])
        self.first_windows = np.cumsum([0, *(len(task.windows) for task in tasks)])
        text, shifts = "".join(texts), self._shifts(texts)
        starts, ends = self.windows["start"] + shifts, self.windows["end"] + shifts
        core_starts, core_ends = self.windows["core_start"] + shifts, self.windows["core_end"] + shifts
        self.all_core_sizes = core_sizes = core_ends - core_starts
        first, last = self.first_windows[:-1], self.first_windows[1:] - 1
        self.core_ranges = [slice(*pair) for pair in zip(core_starts[first], core_ends[last], strict=True)]
        is_n = np.frombuffer(text.encode("ascii"), dtype=np.uint8) == ord("N")
        self.is_n = self._in_cores(is_n)
        self.values = np.full((len(scores), len(self.is_n)), np.nan, dtype=np.float32)

        to_predict = _at_most_half(is_n, starts, ends)
        self.has_value = np.repeat(to_predict, core_sizes) & ~self.is_n
        selected, skipped_values = self._select_windows(texts, core_starts)
        if selected is not None:
            self.tasks = [
                replace(task, selected=selected[low:high]) if task.selected is None else task
                for task, (low, high) in zip(self.tasks, pairwise(self.first_windows), strict=True)
            ]
            if "probability" in scores:
                skipped = np.repeat(to_predict & ~selected, core_sizes)
                np.copyto(self.values[scores.index("probability")], skipped_values, where=skipped)
            to_predict &= selected

        self.rows = rows = np.flatnonzero(to_predict)
        self.is_predicted = np.repeat(to_predict, core_sizes)
        self.core_sizes = core_sizes[rows]
        self.bases_without_model = len(self.is_n) - int(self.core_sizes.sum())
        self.sequences = SequenceWindows(text, starts[rows], ends[rows])
        self.features = self._read_features()
        self.cores = np.stack([core_starts - starts, core_ends - starts], axis=1)[rows]
        if predictor.both_strands:
            self._append_reverse_strand()
        self.output_rows = predictor.decoder.output_rows(scores)
        self.outputs = CoreValues(predictor.decoder, self.cores, self.core_sizes, self.output_rows.count)

    def _shifts(self, texts: Sequence[str]) -> np.ndarray:
        """Return, for each window, its position in the joined text less that on its contig: int64."""
        offsets = np.cumsum([0, *map(len, texts)])[:-1]
        origins = np.array([_read_range(task)[0] for task in self.tasks])
        return np.repeat(offsets - origins, np.diff(self.first_windows))

    def _in_cores(self, values: np.ndarray) -> np.ndarray:
        """Return the values in the cores of all tasks, of values in the joined text."""
        if len(self.core_ranges) == 1:
            return values[self.core_ranges[0]]
        return np.concatenate([values[core] for core in self.core_ranges])

    def _select_windows(
        self, texts: Sequence[str], core_starts: np.ndarray
    ) -> tuple[np.ndarray | None, np.ndarray | float]:
        """Return which windows the model reads, None for all, and the probabilities of bases in the others.

        Sets the propensity if a score needs it.
        """
        screened = [task.selected for task in self.tasks if task.selected is not None]
        selected = np.concatenate(screened) if screened else None
        # after a screen, early exit would find little more
        exits_early = selected is None and self.tasks[0].early_exit
        if not exits_early and not set(self.scores) & set(FACTORS):
            return selected, SKIPPED_PROBABILITY
        bounds_of_texts = self.predictor.upper_bound_logits_of(texts)
        logits = None if bounds_of_texts is None else np.concatenate(bounds_of_texts)
        if logits is not None and set(self.scores) & set(FACTORS):
            self.propensity = sigmoid(self._in_cores(logits))
        if self.scores == ("propensity",):
            return np.zeros(len(core_starts), dtype=bool), SKIPPED_PROBABILITY
        if not exits_early or logits is None:
            return selected, SKIPPED_PROBABILITY
        bounds = self._in_cores(self.predictor.decoder.upper_bounds(logits))
        first_bases = np.cumsum(self.all_core_sizes) - self.all_core_sizes
        # also for the activity alone, so that batches, and the last bits of values, depend on it as little as possible
        selected = _may_exceed(bounds, first_bases, ROUNDS_TO_ZERO)
        if "activity" in self.scores:
            selected |= _may_exceed(self.propensity, first_bases, MIN_PROPENSITY)
        return selected, bounds

    def _read_features(self) -> list[np.ndarray] | None:
        """Return the omics tracks of the windows that the model reads."""
        if self.predictor.features is None:
            return None
        features: list[np.ndarray] = []
        bounds = np.stack([self.windows["start"], self.windows["end"]], axis=1)
        for task, (low, high) in zip(self.tasks, pairwise(self.first_windows), strict=True):
            rows = self.rows[(self.rows >= low) & (self.rows < high)]
            features += self.predictor.read_features(task.contig, bounds[rows]) or []
        return features

    def _append_reverse_strand(self) -> None:
        """Add each window's reverse complement after all forward windows."""
        if self.features is not None:
            self.features += [tracks[:, ::-1] for tracks in self.features]
        reverse_cores = (self.sequences.widths[:, None] - self.cores)[:, ::-1]
        self.cores = np.concatenate([self.cores, reverse_cores])
        self.sequences = self.sequences.with_reverse_complement()

    def batches(self) -> list[Batch]:
        """Tokenize the windows of the group."""
        return list(self.predictor.batches(self.sequences, self.cores, self.features, *self.output_rows))

    def gather(self, batch: Batch, pending: PendingOutput) -> np.ndarray:
        """Wait for the output of a batch; name the regions in an error."""
        try:
            return self.predictor.executor.gather(pending)
        except NotANumberError as error:
            windows = self.rows[batch.indices % len(self.rows)]
            raise NotANumberError(f"{self._regions(windows)}: {error}") from None

    def _regions(self, windows: np.ndarray) -> str:
        """Return the parts of the genome that the tasks of some windows read, in samtools syntax."""
        tasks = np.unique(np.searchsorted(self.first_windows, windows, side="right") - 1)
        ranges = [(self.tasks[number].contig, *_read_range(self.tasks[number])) for number in tasks]
        return format_names(f"{contig}:{start + 1:,}-{end:,}" for contig, start, end in ranges)

    def add(self, batch: Batch, output: np.ndarray) -> int:
        """Add the output of a batch; return the number of bases that it decides."""
        self.outputs.add(batch, output)
        forward = batch.indices[batch.indices < len(self.core_sizes)]
        return int(self.core_sizes[forward].sum())

    def finish(self) -> list[tuple[ScanTask, np.ndarray]]:
        """Return the scores of each task, NaN at N: float32, shape (scores, bases)."""
        merged = self.outputs.merge()
        for score, values in zip(self.scores, self.values, strict=True):
            if score == "propensity":
                np.copyto(values, self.propensity, where=self.has_value)
                if not np.isfinite(values[self.has_value]).all():
                    regions = self._regions(np.arange(len(self.windows)))
                    raise NotANumberError(f"{regions}: {NOT_A_NUMBER}; check the weights with zflipon doctor")
                continue
            values[self.is_predicted] = self.predictor.decoder.score(merged, score)
            if score == "activity":
                values[self.propensity <= MIN_PROPENSITY] = np.nan
            values[self.is_n] = np.nan
        sizes = [core.stop - core.start for core in self.core_ranges]
        return list(zip(self.tasks, np.split(self.values, np.cumsum(sizes)[:-1], axis=1), strict=True))


def _at_most_half(is_n: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return whether at most half of each window is N: bool, shape (windows,)."""
    n_before = np.concatenate([[0], np.cumsum(is_n)])
    return 2 * (n_before[ends] - n_before[starts]) <= ends - starts


def _may_exceed(bounds: np.ndarray, core_starts: np.ndarray, limit: float) -> np.ndarray:
    """Return which cores may hold a base above a limit: bool, shape (windows,)."""
    # written so that NaN counts as true: the model then reads the window and reports the error
    return ~(np.maximum.reduceat(bounds, core_starts) <= limit)


def _read_range(task: ScanTask) -> tuple[int, int]:
    """Return the range of the contig that the windows of a task read."""
    return int(task.windows["start"].min()), int(task.windows["end"].max())


def _read_groups(
    predictor: Predictor, genome: Genome, groups: Iterable[Sequence[ScanTask]], scores: Sequence[str]
) -> Iterator[_GroupState]:
    """Read the sequences of one group after the other."""
    for tasks in groups:
        with predictor.timer("read"):
            texts = [genome.fetch(task.contig, *_read_range(task)) for task in tasks]
            state = _GroupState(tasks, texts, predictor, tuple(scores))
        yield state


def _batches_of(
    predictor: Predictor, states: Iterable[_GroupState]
) -> Iterator[tuple[_GroupState, Batch | None]]:
    """Yield the batches of each group, followed by None for its end."""

    def tokenize(state: _GroupState) -> tuple[_GroupState, list[Batch]]:
        with predictor.timer("tokenize"):
            return state, state.batches()

    run = map if predictor.tokenizer_pool is None else predictor.tokenizer_pool.map
    for state, batches in run(tokenize, states):
        yield from ((state, batch) for batch in batches)
        yield state, None
