"""One group of scan tasks in progress: which windows the model reads, its inputs, and the scores of the cores.

Groups are read, tokenized and run in `zflipon.inference.genome_scan`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from zflipon.config import FACTORS, MIN_PROPENSITY, PROBABILITY_DECIMALS
from zflipon.errors import NotANumberError, format_names
from zflipon.genome.intervals import merge
from zflipon.genome.sequence_windows import SequenceWindows
from zflipon.inference.batching import Batch
from zflipon.inference.core_values import CoreValues
from zflipon.inference.decoding import sigmoid
from zflipon.inference.executor import NOT_A_NUMBER, PendingOutput
from zflipon.inference.predictor import Predictor
from zflipon.inference.text_windows import TextWindows
from zflipon.models.heads.base_resolution import CORE_FLANK

SKIPPED_PROBABILITY = 0.0
"""Probability of bases in windows that did not pass the screen."""

ROUNDS_TO_ZERO = 0.4 * 10**-PROBABILITY_DECIMALS
"""Largest upper bound at which a base does not need the model: a probability of half a last digit is written as 0, and
a tenth of a digit is left for rounding errors."""


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


class ScanGroup:
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
        text = "".join(texts)
        windows = TextWindows.place(self.windows, self._shifts(texts))
        self.first_factor = self._read_first_factor(text, texts, windows)
        first, last = self.first_windows[:-1], self.first_windows[1:] - 1
        ranges = zip(windows.core_starts[first], windows.core_ends[last], strict=True)
        self.core_ranges = [slice(*pair) for pair in ranges]
        is_n = np.frombuffer(text.encode("ascii"), dtype=np.uint8) == ord("N")
        self.is_n = self._in_cores(is_n)
        self.values = np.full((len(scores), len(self.is_n)), np.nan, dtype=np.float32)

        to_predict = _at_most_half(is_n, windows.starts, windows.ends)
        in_predicted = np.repeat(to_predict, windows.core_sizes)
        self.has_value = in_predicted & ~self.is_n
        bounds, needs_model = self._read_upper_bounds(windows.core_sizes)
        if "probability" in scores:
            np.copyto(self.values[scores.index("probability")], bounds, where=in_predicted)
        selected = self._select_windows(needs_model, windows.first_bases)
        if selected is not None:
            to_predict &= selected
            self._set_selected(selected)

        self.rows = np.flatnonzero(to_predict)
        windows = windows.select(self.rows)
        self.row_sizes = windows.core_sizes
        self.bases_without_model = len(self.is_n) - int(self.row_sizes.sum())
        if needs_model is not None:
            windows = windows.narrow(needs_model)
        self.core_sizes, self.is_predicted = windows.core_sizes, windows.core_mask(len(self.is_n))
        self.sequences = SequenceWindows(text, windows.starts, windows.ends)
        self.features = self._read_features()
        self.first_factors = self._cut_first_factor(windows)
        self.cores = windows.cores
        if predictor.both_strands:
            self._append_reverse_strand()
        self.output_rows = predictor.decoder.output_rows(scores)
        self.outputs = CoreValues(predictor.decoder, self.cores, self.core_sizes, self.output_rows.count)

    def _shifts(self, texts: Sequence[str]) -> np.ndarray:
        """Return, for each window, its position in the joined text less that on its contig: int64."""
        offsets = np.cumsum([0, *map(len, texts)])[:-1]
        origins = np.array([read_range(task)[0] for task in self.tasks])
        return np.repeat(offsets - origins, np.diff(self.first_windows))

    def _in_cores(self, values: np.ndarray) -> np.ndarray:
        """Return the values in the cores of all tasks, of values in the joined text."""
        if len(self.core_ranges) == 1:
            return values[self.core_ranges[0]]
        return np.concatenate([values[core] for core in self.core_ranges])

    def _screened(self) -> np.ndarray | None:
        """Return the windows that a screen selected: bool, shape (windows,); None if the tasks were not screened."""
        screened = [task.selected for task in self.tasks if task.selected is not None]
        return np.concatenate(screened) if screened else None

    def _set_selected(self, selected: np.ndarray) -> None:
        """Set which windows of each task the model reads, where a screen did not."""
        self.tasks = [
            replace(task, selected=selected[low:high]) if task.selected is None else task
            for task, (low, high) in zip(self.tasks, pairwise(self.first_windows), strict=True)
        ]

    def _read_first_factor(self, text: str, texts: Sequence[str], windows: TextWindows) -> np.ndarray | None:
        """Return the first factor of each base of the joined text, once for both strands and all windows.

        After a screen, it is read in the selected windows only, unless the propensity is requested.
        """
        selected = self._screened()
        if selected is None or set(self.scores) & set(FACTORS):
            factors = self.predictor.first_factors(texts)
            return None if factors is None else np.concatenate(factors, axis=1)
        # calls reach out of a window, so bases next to it decide too
        ranges = merge(np.stack([windows.starts - CORE_FLANK, windows.ends + CORE_FLANK], axis=1)[selected])
        ranges = _split_at(ranges.clip(0, len(text)), np.cumsum([len(each) for each in texts]))
        factors = self.predictor.first_factors([text[start:end] for start, end in ranges])
        if factors is None:
            return None
        # elsewhere the lowest value, which most bases have: their upper bounds are then computed once
        lowest = np.min([factor[0].min() for factor in factors], initial=0)
        result = np.zeros((2, len(text)), dtype=np.float32)
        result[0] = lowest
        for (start, end), factor in zip(ranges, factors, strict=True):
            result[:, start:end] = factor
        return result

    def _cut_first_factor(self, windows: TextWindows) -> list[np.ndarray] | None:
        """Return the first factor in some windows."""
        factor = self.first_factor
        if factor is None:
            return None
        ranges = zip(windows.starts.tolist(), windows.ends.tolist(), strict=True)
        return [factor[:, start:end] for start, end in ranges]

    def _read_upper_bounds(self, core_sizes: np.ndarray) -> tuple[np.ndarray | float, np.ndarray | None]:
        """Return the probabilities of bases that the model does not read, and which bases it must read.

        The latter is bool, shape (bases of cores,), or None for all bases. Sets the propensity if a score needs it.
        """
        if self.first_factor is None:
            return SKIPPED_PROBABILITY, None
        logits, selected = self._in_cores(self.first_factor[0]), self._screened()
        bounds = self.predictor.decoder.upper_bounds(logits)
        if selected is not None:
            bounds[~np.repeat(selected, core_sizes)] = SKIPPED_PROBABILITY
        # written so that NaN counts as true: the model then reads the window and reports the error
        needs_model = ~(bounds <= ROUNDS_TO_ZERO)
        if set(self.scores) & set(FACTORS):
            self.propensity = sigmoid(logits)
        # also for the activity alone, so that batches, and the last bits of values, depend on it as little as possible
        if "activity" in self.scores:
            needs_model |= self.propensity > MIN_PROPENSITY
        return bounds, needs_model

    def _select_windows(self, needs_model: np.ndarray | None, first_bases: np.ndarray) -> np.ndarray | None:
        """Return which windows the model reads: bool, shape (windows,); None for all."""
        if self.scores == ("propensity",):
            return np.zeros(len(first_bases), dtype=bool)
        selected = self._screened()
        # after a screen, early exit would find little more
        if selected is not None or needs_model is None or not self.tasks[0].early_exit:
            return selected
        return np.logical_or.reduceat(needs_model, first_bases)

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
        if self.first_factors is not None:
            self.first_factors += [factor[:, ::-1] for factor in self.first_factors]
        reverse_cores = (self.sequences.widths[:, None] - self.cores)[:, ::-1]
        self.cores = np.concatenate([self.cores, reverse_cores])
        self.sequences = self.sequences.with_reverse_complement()

    def batches(self) -> list[Batch]:
        """Tokenize the windows of the group."""
        batches = self.predictor.batches(
            self.sequences,
            self.cores,
            self.features,
            *self.output_rows,
            first_factors=self.first_factors,
            needs_tokens=not self.predictor.decoder.decoding.per_base,
        )
        return list(batches)

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
        ranges = [(self.tasks[number].contig, *read_range(self.tasks[number])) for number in tasks]
        return format_names(f"{contig}:{start + 1:,}-{end:,}" for contig, start, end in ranges)

    def add(self, batch: Batch, output: np.ndarray) -> int:
        """Add the output of a batch; return the number of bases that it decides."""
        self.outputs.add(batch, output)
        forward = batch.indices[batch.indices < len(self.rows)]
        return int(self.row_sizes[forward].sum())

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


def _split_at(ranges: np.ndarray, positions: np.ndarray) -> list[tuple[int, int]]:
    """Return sorted ranges, cut at the given positions.

    Examples
    --------
    >>> _split_at(np.array([[0, 4], [5, 9]]), np.array([2, 5, 9]))
    [(0, 2), (2, 4), (5, 9)]
    """
    pieces = []
    for start, end in ranges.tolist():
        inside = positions[(positions > start) & (positions < end)].tolist()
        pieces += pairwise([start, *inside, end])
    return pieces


def _at_most_half(is_n: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return whether at most half of each window is N: bool, shape (windows,)."""
    n_before = np.concatenate([[0], np.cumsum(is_n)])
    return 2 * (n_before[ends] - n_before[starts]) <= ends - starts


def read_range(task: ScanTask) -> tuple[int, int]:
    """Return the range of the contig that the windows of a task read."""
    return int(task.windows["start"].min()), int(task.windows["end"].max())
