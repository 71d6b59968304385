"""Windows of a genome → the probabilities of their cores, read and tokenized ahead of the model.

The windows of a genome come from `zflipon.genome.shards`; probabilities are written by `zflipon.tracks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from zflipon.genome.fasta import Genome
from zflipon.inference.batching import Batch
from zflipon.inference.concurrency import Prefetch
from zflipon.inference.executor import MODEL_STAGE
from zflipon.inference.predictor import Predictor
from zflipon.inference.scan_group import ScanGroup, ScanTask, read_range


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
    with (
        Prefetch(iter(groups), 1) as screened,  # the screen takes as long as what follows
        _read_ahead(predictor, _read_groups(predictor, genome, screened, scores)) as states,
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


def _read_ahead(
    predictor: Predictor, states: Iterator[ScanGroup]
) -> AbstractContextManager[Iterator[ScanGroup]]:
    """Read groups in a thread if others tokenize them; without these, the thread that forms batches reads them."""
    return nullcontext(states) if predictor.tokenizer_pool is None else Prefetch(states, 1)


def _read_groups(
    predictor: Predictor, genome: Genome, groups: Iterable[Sequence[ScanTask]], scores: Sequence[str]
) -> Iterator[ScanGroup]:
    """Read the sequences of one group after the other."""
    for tasks in groups:
        with predictor.timer("read"):
            texts = [genome.fetch(task.contig, *read_range(task)) for task in tasks]
            state = ScanGroup(tasks, texts, predictor, tuple(scores))
        yield state


def _batches_of(
    predictor: Predictor, states: Iterable[ScanGroup]
) -> Iterator[tuple[ScanGroup, Batch | None]]:
    """Yield the batches of each group, followed by None for its end."""

    def tokenize(state: ScanGroup) -> tuple[ScanGroup, list[Batch]]:
        with predictor.timer("tokenize"):
            return state, state.batches()

    run = map if predictor.tokenizer_pool is None else predictor.tokenizer_pool.map
    for state, batches in run(tokenize, states):
        yield from ((state, batch) for batch in batches)
        yield state, None
