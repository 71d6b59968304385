"""What is kept apart judges a model: whole contigs base by base, or stored windows, by objective."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from zflipon.config import InferenceConfig, Selection, StageConfig
from zflipon.errors import InputError
from zflipon.genome.fasta import Genome
from zflipon.genome.intervals import Intervals, interval_mask
from zflipon.genome.shards import make_plan
from zflipon.inference.decoding import base_log_odds
from zflipon.inference.genome_scan import ScanTask, scan_genome
from zflipon.inference.predictor import Predictor
from zflipon.metrics import Confusion, ScoreHistogram, ratio
from zflipon.models import Calibration, Checkpoint
from zflipon.omics.features import FeatureTracks
from zflipon.tokenization.alignment import IGNORE
from zflipon.tokenization.tokens import Tokens
from zflipon.tracks.atomic import atomic_file
from zflipon.training.batching import tensors, token_labels
from zflipon.training.stored_windows import StoredWindows

_LOGIT_STEP = 1024
"""Log-odds are kept to 1/1024 in a histogram, which bounds its size."""

Measures = dict[str, float]
"""Name, as in `zflipon.config.MONITORS` → figure."""

Counts = dict[str, ScoreHistogram]
"""Protocol (``'genome'``: every base, ``'sampled'``: the published models' sample) → bases by log-odds and label."""

_COLUMNS = ("scores", "without", "labelled")


class Evaluator(Protocol):
    """Measures a checkpoint."""

    def measure(self, checkpoint: Checkpoint, stage: StageConfig) -> Measures:
        """Return figures, each the better the higher."""


@dataclass
class ContigEvaluator:
    """Contigs kept apart: every base that is neither N nor ignored counts.

    Attributes
    ----------
    genome : Genome
    contigs : sequence of str
    labels, ignored : Intervals
    sample : Intervals
        Windows of the published models' protocol.
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
        """Return what every base of the contigs tells."""
        return of_bases(self.histograms(checkpoint, stage)["genome"])

    def histograms(self, checkpoint: Checkpoint, stage: StageConfig) -> Counts:
        """Predict the contigs and count log-odds by label: of every base, and of the published models' sample."""
        counts = {"genome": ScoreHistogram(), "sampled": ScoreHistogram()}
        predictor = Predictor(checkpoint, InferenceConfig(precision=stage.precision), features=self.features)
        metadata = checkpoint.metadata
        plan = make_plan(
            self.genome, Selection(contigs=tuple(self.contigs)), metadata.window, metadata.margin
        )
        # a shard at a time, so that windows and their tracks take no more memory on longer contigs
        # where the first factor leaves a base next to nothing, that tells enough of it
        stretches = (ScanTask(shard.contig, shard.windows, early_exit=True) for shard in plan.shards)
        for stretch, found in scan_genome(predictor, self.genome, stretches):
            start = int(stretch.windows["core_start"][0])
            place = (start, start + len(found))
            counted = ~np.isnan(found) & ~interval_mask(self.ignored.get(stretch.contig), *place)
            labels = interval_mask(self.labels.get(stretch.contig), *place)
            inside = {
                "genome": counted,
                "sampled": counted & interval_mask(self.sample.get(stretch.contig), *place),
            }
            for protocol, chosen in inside.items():
                counts[protocol].add(log_odds(found[chosen].astype(np.float64)), labels[chosen])
        return counts


@dataclass
class WindowEvaluator:
    """Stored windows: the published models' way, and the only one for whole sequences and masked tokens.

    Attributes
    ----------
    windows : StoredWindows
    """

    windows: StoredWindows

    def measure(self, checkpoint: Checkpoint, stage: StageConfig) -> Measures:
        """Return figures of the stage's objective; bases and tokens are called at a probability of 0.5."""
        if stage.objective == "mlm":
            return {"masked_accuracy": self._masked_accuracy(checkpoint, stage)}
        if stage.objective == "sequence":
            return self._sequences(checkpoint, stage)
        histogram, tokens = ScoreHistogram(), Confusion()
        for index, found, logits in self._logits(checkpoint, stage):
            labels = self.windows.labels[index].astype(np.int64)
            known = labels != IGNORE
            histogram.add(rounded(base_log_odds(logits, found)[known]), labels[known] == 1)
            if stage.objective == "token":
                tokens += _token_confusion(logits, labels, found, stage)
        measured = of_bases(histogram)
        if stage.objective == "token":
            measured |= {"token_f1": tokens.f1, "token_mcc": tokens.mcc}
        return measured

    def histogram(self, checkpoint: Checkpoint, stage: StageConfig, weights: np.ndarray) -> ScoreHistogram:
        """Count log-odds by label; each window stands for `weights` (int, shape (n,)) like it."""
        histogram = ScoreHistogram()
        for index, found, logits in self._logits(checkpoint, stage):
            known = self.windows.labels[index] != IGNORE
            labels = self.windows.labels[index][known] == 1
            histogram.add(rounded(base_log_odds(logits, found)[known]), labels, int(weights[index]))
        return histogram

    def _logits(self, checkpoint: Checkpoint, stage: StageConfig) -> Iterator[tuple[int, Tokens, np.ndarray]]:
        predictor = Predictor(checkpoint, InferenceConfig(precision=stage.precision), (stage.objective,))
        return predictor.predict_logits(self.windows.sequences)

    def _sequences(self, checkpoint: Checkpoint, stage: StageConfig) -> Measures:
        called = np.zeros(len(self.windows), dtype=bool)
        for index, _, logits in self._logits(checkpoint, stage):
            called[index] = logits[1] > logits[0]
        found = Confusion.from_calls(called, self.windows.positive)
        return {name: getattr(found, name) for name in ("mcc", "f1", "accuracy", "precision", "recall")}

    @torch.inference_mode()
    def _masked_accuracy(self, checkpoint: Checkpoint, stage: StageConfig) -> float:
        """Return the share of hidden tokens that are told right; the same ones are hidden each time."""
        predictor = Predictor(checkpoint, InferenceConfig(precision=stage.precision), ("mlm",))
        right = hidden = 0
        for first in range(0, len(self.windows), stage.batch_size):
            chosen = range(first, min(first + stage.batch_size, len(self.windows)))
            rng = np.random.default_rng([stage.seed, first, 2])
            batch = tensors([self.windows.window(i) for i in chosen], checkpoint.tokenizer, stage, rng)
            labels = batch.pop("labels")
            batch = {name: tensor.to(predictor.device) for name, tensor in batch.items()}
            told = predictor.module(**batch).logits.argmax(-1).cpu()
            right += int((told == labels)[labels != IGNORE].sum())
            hidden += int((labels != IGNORE).sum())
        return ratio(right, hidden)


@dataclass
class GenomeEstimate:
    """What every base of a genome would tell, from a sample of its windows, each standing for others like it.

    Where windows are split at random, no contig is kept apart. But the windows with a label that are kept apart stand
    for all that have one, and those without that were never drawn for all without.

    Attributes
    ----------
    windows : StoredWindows
    weights : numpy.ndarray
        int64, shape (n,): windows that each one stands for.
    """

    windows: StoredWindows
    weights: np.ndarray

    def histograms(self, checkpoint: Checkpoint, stage: StageConfig) -> Counts:
        """Predict the windows and count log-odds by label."""
        return {"genome": WindowEvaluator(self.windows).histogram(checkpoint, stage, self.weights)}


def pooled(each: Iterable[Counts]) -> Counts:
    """Add up what several judges counted, by protocol."""
    found: Counts = {}
    for counts in each:
        for protocol, histogram in counts.items():
            found.setdefault(protocol, ScoreHistogram()).merge(histogram)
    return found


def write_counts(path: Path, counts: Counts) -> None:
    """Store histograms by protocol, whole or not at all."""
    arrays = {
        f"{protocol}/{name}": array
        for protocol, histogram in counts.items()
        for name, array in zip(_COLUMNS, histogram.counts(), strict=True)
    }
    with atomic_file(path) as part:
        np.savez_compressed(part, **arrays)


def read_counts(path: Path) -> Counts:
    """Return what `write_counts` stored.

    Raises
    ------
    InputError
        If the file is missing or damaged.
    """
    try:
        with np.load(path) as stored:
            protocols = dict.fromkeys(name.partition("/")[0] for name in stored.files)
            return {
                protocol: ScoreHistogram.from_counts(*(stored[f"{protocol}/{name}"] for name in _COLUMNS))
                for protocol in protocols
            }
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); expected what a twin counted on its contigs: remove the twin's "
            "folder to train it again"
        ) from error


def of_bases(histogram: ScoreHistogram) -> Measures:
    """Return the measures of bases, called at a probability of 0.5, and those that need no threshold."""
    counts = histogram.confusion_at(0.0)
    return {
        "average_precision": histogram.average_precision(),
        "best_f1": histogram.best_f1()[0],
        "base_f1": counts.f1,
        "base_mcc": counts.mcc,
        "base_precision": counts.precision,
        "base_recall": counts.recall,
    }


def uncalibrated(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint with its model's own log-odds."""
    return replace(checkpoint, metadata=replace(checkpoint.metadata, calibration=Calibration()))


def log_odds(probability: np.ndarray) -> np.ndarray:
    """Return log-odds, rounded to 1/1024 and kept within ±30."""
    return rounded(np.log(np.maximum(probability, 1e-13)) - np.log(np.maximum(1 - probability, 1e-13)))


def rounded(odds: np.ndarray) -> np.ndarray:
    """Round log-odds to 1/1024 and keep them within ±30."""
    return np.round(np.clip(odds, -30, 30) * _LOGIT_STEP) / _LOGIT_STEP


def _token_confusion(logits: np.ndarray, labels: np.ndarray, tokens: Tokens, stage: StageConfig) -> Confusion:
    truth = token_labels(labels, tokens.lengths, stage.label_threshold, stage.label_comparison)
    known = truth != IGNORE
    return Confusion.from_calls((logits[:, 1] > logits[:, 0])[known], truth[known] == 1)
