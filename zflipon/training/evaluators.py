"""Evaluation of a model on validation and test data: whole contigs base by base, or windows, by objective.

Counts and measures only. Calibration and the choice of a threshold are in `zflipon.training.assessment`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch.nn import functional as F

from zflipon.config import InferenceConfig, Selection, StageConfig
from zflipon.errors import InputError
from zflipon.genome.fasta import Genome
from zflipon.genome.intervals import Intervals, interval_mask
from zflipon.genome.shards import make_plan
from zflipon.inference.decoding import base_log_odds
from zflipon.inference.genome_scan import scan_genome
from zflipon.inference.predictor import Predictor
from zflipon.inference.scan_group import ScanTask
from zflipon.metrics import Confusion, ScoreHistogram, ratio
from zflipon.models import Calibration, Checkpoint
from zflipon.omics.features import FeatureTracks
from zflipon.tokenization.alignment import IGNORE
from zflipon.tokenization.tokens import Tokens
from zflipon.tracks.atomic import atomic_file
from zflipon.training.batching import build_batch, token_labels
from zflipon.training.labelled_windows import LabelledWindows

LOGIT_RESOLUTION = 1024
"""Log-odds are rounded to multiples of 1 / `LOGIT_RESOLUTION`, which bounds the size of a histogram."""

MAX_LOG_ODDS = 30.0
_LEAST_PROBABILITY = 1e-13

Measures = dict[str, float]
"""Name of a measure, as in `zflipon.config.MONITORS` → value."""

Histograms = dict[str, ScoreHistogram]
"""Protocol → log-odds of bases by label. ``'genome'`` counts every base, ``'sampled'`` the bases of the windows that
the published models were tested on."""

_ARRAYS = ("scores", "negatives", "positives")


class Evaluator(Protocol):
    """Measures a checkpoint."""

    def measure(self, checkpoint: Checkpoint, stage: StageConfig) -> Measures:
        """Return the measures of the stage's objective."""
        ...


@dataclass
class ContigEvaluator:
    """Evaluates every base of some contigs that is neither N nor ignored.

    Attributes
    ----------
    genome : Genome
    contigs : sequence of str
    labels, ignored : Intervals
    sample : Intervals
        Windows of the protocol ``'sampled'``.
    features : FeatureTracks or None
        Omics tracks that the model reads.
    """

    genome: Genome
    contigs: Sequence[str]
    labels: Intervals
    ignored: Intervals
    sample: Intervals
    features: FeatureTracks | None = None

    def measure(self, checkpoint: Checkpoint, stage: StageConfig) -> Measures:
        """Return the measures of all bases."""
        return base_measures(self.histograms(checkpoint, stage)["genome"], stage)

    def histograms(self, checkpoint: Checkpoint, stage: StageConfig) -> Histograms:
        """Predict the contigs and count log-odds by label, for both protocols."""
        counts = {"genome": ScoreHistogram(), "sampled": ScoreHistogram()}
        predictor = Predictor(checkpoint, InferenceConfig(precision=stage.precision), features=self.features)
        metadata = checkpoint.metadata
        plan = make_plan(
            self.genome, Selection(contigs=tuple(self.contigs)), metadata.window, metadata.margin
        )
        # Span by span, so that memory does not grow with the length of contigs. Bases whose upper bound is written
        # as 0 keep that bound, which ranks them well enough.
        tasks = (ScanTask(span.contig, span.windows, early_exit=True) for span in plan.spans)
        for task, probabilities in scan_genome(predictor, self.genome, tasks):
            start = int(task.windows["core_start"][0])
            span = (start, start + len(probabilities))
            ignored = interval_mask(self.ignored.get(task.contig), *span)
            labels = interval_mask(self.labels.get(task.contig), *span)
            counted = ~np.isnan(probabilities) & ~ignored
            sampled = counted & interval_mask(self.sample.get(task.contig), *span)
            for protocol, chosen in (("genome", counted), ("sampled", sampled)):
                counts[protocol].add(log_odds(probabilities[chosen].astype(np.float64)), labels[chosen])
        return counts


@dataclass
class WindowEvaluator:
    """Evaluates windows, as the published models were. The only evaluator of whole sequences and masked tokens.

    Attributes
    ----------
    windows : LabelledWindows
    """

    windows: LabelledWindows

    def measure(self, checkpoint: Checkpoint, stage: StageConfig) -> Measures:
        """Return the measures of the stage's objective; bases and tokens are called at a probability of 0.5."""
        if stage.objective == "mlm":
            return self._measure_masked(checkpoint, stage)
        if stage.objective == "sequence":
            return self._measure_sequences(checkpoint, stage)
        return self.measure_subsets(checkpoint, stage, {})[0]

    def measure_subsets(
        self, checkpoint: Checkpoint, stage: StageConfig, subsets: Mapping[str, np.ndarray]
    ) -> tuple[Measures, dict[str, Measures]]:
        """Return the measures of bases and, for the token objective, of tokens: of all windows, and of subsets of them.

        Parameters
        ----------
        checkpoint : Checkpoint
        stage : StageConfig
        subsets : mapping of str to numpy.ndarray
            Name → bool, shape (n,). All are measured in one pass over the windows.
        """
        whole = _PositionCounts(stage)
        counts = {name: _PositionCounts(stage) for name in subsets}
        for index, tokens, logits in self._logits(checkpoint, stage):
            labels = self.windows.labels[index].astype(np.int64)
            for each in (whole, *(counts[name] for name, chosen in subsets.items() if chosen[index])):
                each.add(labels, tokens, logits)
        return whole.measures(), {name: each.measures() for name, each in counts.items()}

    def histogram(self, checkpoint: Checkpoint, stage: StageConfig, weights: np.ndarray) -> ScoreHistogram:
        """Count log-odds of bases by label.

        Parameters
        ----------
        checkpoint : Checkpoint
        stage : StageConfig
        weights : numpy.ndarray
            int, shape (n,): number of times that each window counts.
        """
        histogram = ScoreHistogram()
        for index, tokens, logits in self._logits(checkpoint, stage):
            known = self.windows.labels[index] != IGNORE
            labels = self.windows.labels[index][known] == 1
            histogram.add(round_log_odds(base_log_odds(logits, tokens)[known]), labels, int(weights[index]))
        return histogram

    def _logits(self, checkpoint: Checkpoint, stage: StageConfig) -> Iterator[tuple[int, Tokens, np.ndarray]]:
        predictor = Predictor(checkpoint, InferenceConfig(precision=stage.precision), (stage.objective,))
        return predictor.predict_logits(self.windows.sequences)

    def _measure_sequences(self, checkpoint: Checkpoint, stage: StageConfig) -> Measures:
        odds = np.zeros(len(self.windows))
        for index, _, logits in self._logits(checkpoint, stage):
            odds[index] = logits[1] - logits[0]
        losses = _WeightedLoss(stage)
        losses.add(odds, self.windows.positive)
        confusion = Confusion.from_calls(odds > 0, self.windows.positive)
        names = ("mcc", "f1", "accuracy", "precision", "recall")
        return {**{name: getattr(confusion, name) for name in names}, "loss": losses.mean}

    @torch.inference_mode()
    def _measure_masked(self, checkpoint: Checkpoint, stage: StageConfig) -> Measures:
        """Return the accuracy on masked tokens; the same tokens are masked in each evaluation."""
        predictor = Predictor(checkpoint, InferenceConfig(precision=stage.precision), ("mlm",))
        correct = count = 0
        loss = 0.0
        for first in range(0, len(self.windows), stage.batch_size):
            chosen = range(first, min(first + stage.batch_size, len(self.windows)))
            rng = np.random.default_rng([stage.seed, first, 2])
            batch = build_batch([self.windows.window(i) for i in chosen], checkpoint.tokenizer, stage, rng)
            labels = batch.pop("labels")
            batch = {name: tensor.to(predictor.device) for name, tensor in batch.items()}
            logits = predictor.module(**batch).logits.float().cpu()
            known = labels != IGNORE
            correct += int((logits.argmax(-1) == labels)[known].sum())
            count += int(known.sum())
            loss += float(F.cross_entropy(logits[known], labels[known], reduction="sum"))
        return {"masked_accuracy": ratio(correct, count), "loss": ratio(loss, count)}


@dataclass
class GenomeEstimate:
    """Estimates the counts of all bases of a genome from a sample of its windows.

    If windows are split at random, no contig is left for evaluation. The windows of a part that have a label represent
    all windows with one, and windows that no part contains represent all windows without one.

    Attributes
    ----------
    windows : LabelledWindows
    weights : numpy.ndarray
        int64, shape (n,): number of windows that each one represents.
    """

    windows: LabelledWindows
    weights: np.ndarray

    def histograms(self, checkpoint: Checkpoint, stage: StageConfig) -> Histograms:
        """Predict the windows and count log-odds by label."""
        return {"genome": WindowEvaluator(self.windows).histogram(checkpoint, stage, self.weights)}


class _PositionCounts:
    """Counts of bases and, for the token objective, of tokens, called at a probability of 0.5."""

    def __init__(self, stage: StageConfig):
        self._stage, self._histogram = stage, ScoreHistogram()
        self._confusion, self._losses = Confusion(), _WeightedLoss(stage)

    def add(self, labels: np.ndarray, tokens: Tokens, logits: np.ndarray) -> None:
        """Add a window by the labels of its bases."""
        stage, known = self._stage, labels != IGNORE
        self._histogram.add(round_log_odds(base_log_odds(logits, tokens)[known]), labels[known] == 1)
        if stage.objective == "token":
            truth = token_labels(labels, tokens.lengths, stage.label_threshold, stage.label_comparison)
            known = truth != IGNORE
            odds = (logits[:, 1] - logits[:, 0])[known]
            self._confusion += Confusion.from_calls(odds > 0, truth[known] == 1)
            self._losses.add(odds, truth[known])

    def measures(self) -> Measures:
        """Return the measures of the windows so far."""
        measures = base_measures(self._histogram, self._stage)
        if self._stage.objective == "token":
            confusion = self._confusion
            measures |= {"token_f1": confusion.f1, "token_mcc": confusion.mcc, "loss": self._losses.mean}
        return measures


class _WeightedLoss:
    """Mean cross-entropy of two classes, weighted by the class weights of a stage as in training."""

    def __init__(self, stage: StageConfig):
        self._weights = np.array(stage.class_weights or (1.0, 1.0))
        self._sum = self._total = 0.0

    def add(self, odds: np.ndarray, labels: np.ndarray) -> None:
        """Add examples by the log-odds of class 1 and their labels of 0 or 1."""
        weights = self._weights[labels.astype(np.int64)]
        self._sum += float(np.sum(weights * np.logaddexp(0, np.where(labels, -odds, odds))))
        self._total += float(weights.sum())

    @property
    def mean(self) -> float:
        return ratio(self._sum, self._total)


def base_measures(histogram: ScoreHistogram, stage: StageConfig) -> Measures:
    """Return the measures of bases: those without a threshold, and those of calls at a probability of 0.5."""
    confusion = histogram.confusion_at(0.0)
    scores, negatives, positives = histogram.counts()
    weight = stage.class_weights[1] / stage.class_weights[0] if stage.class_weights else 1.0
    loss = np.sum(negatives * np.logaddexp(0, scores) + weight * positives * np.logaddexp(0, -scores))
    return {
        "average_precision": histogram.average_precision(),
        "best_f1": histogram.best_f1()[0],
        "base_f1": confusion.f1,
        "base_mcc": confusion.mcc,
        "base_precision": confusion.precision,
        "base_recall": confusion.recall,
        "loss": ratio(float(loss), float(negatives.sum() + positives.sum())),
    }


def merge_histograms(each: Iterable[Histograms]) -> Histograms:
    """Add up histograms of the same protocol."""
    merged: Histograms = {}
    for histograms in each:
        for protocol, histogram in histograms.items():
            merged.setdefault(protocol, ScoreHistogram()).merge(histogram)
    return merged


def write_histograms(path: Path, histograms: Histograms) -> None:
    """Write histograms to an ``.npz`` file, which appears only once it is complete."""
    arrays: dict[str, Any] = {
        f"{protocol}/{name}": array
        for protocol, histogram in histograms.items()
        for name, array in zip(_ARRAYS, histogram.counts(), strict=True)
    }
    with atomic_file(path) as part:
        np.savez_compressed(part, **arrays)


def read_histograms(path: Path) -> Histograms:
    """Read histograms that `write_histograms` wrote.

    Raises
    ------
    InputError
        If the file is missing or damaged.
    """
    try:
        with np.load(path) as arrays:
            protocols = dict.fromkeys(name.partition("/")[0] for name in arrays.files)
            return {
                protocol: ScoreHistogram.from_counts(*(arrays[f"{protocol}/{name}"] for name in _ARRAYS))
                for protocol in protocols
            }
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); expected the evaluation of a held-out model. Remove the model's "
            "folder to train it again"
        ) from error


def without_calibration(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint with uncalibrated probabilities."""
    return replace(checkpoint, metadata=replace(checkpoint.metadata, calibration=Calibration()))


def log_odds(probability: np.ndarray) -> np.ndarray:
    """Return log-odds of probabilities, rounded by `round_log_odds`."""
    return round_log_odds(
        np.log(np.maximum(probability, _LEAST_PROBABILITY))
        - np.log(np.maximum(1 - probability, _LEAST_PROBABILITY))
    )


def round_log_odds(odds: np.ndarray) -> np.ndarray:
    """Round log-odds to multiples of 1/1024 within ±30."""
    return np.round(np.clip(odds, -MAX_LOG_ODDS, MAX_LOG_ODDS) * LOGIT_RESOLUTION) / LOGIT_RESOLUTION
