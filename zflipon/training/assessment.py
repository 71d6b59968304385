"""Calibration, threshold and figures of a finished model, from its validation and test data.

Returns plain dictionaries for `zflipon.models.metadata`. Tables for people are in `zflipon.training.result_tables`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from zflipon.config import PROBABILITY_DECIMALS, Recipe, StageConfig
from zflipon.inference.decoding import calibrate
from zflipon.jobs.distributed import process_state
from zflipon.metrics import Confusion, ScoreHistogram
from zflipon.models import Calibration, Checkpoint
from zflipon.models.metadata import ModelMetadata
from zflipon.training.calibration import fit_calibration
from zflipon.training.dataset import TrainingData
from zflipon.training.evaluators import (
    Histograms,
    Measures,
    WindowEvaluator,
    merge_histograms,
    without_calibration,
    write_histograms,
)
from zflipon.training.history import VALIDATION, best_row, read_rows

log = logging.getLogger("zflipon")

REPORTED_THRESHOLDS = (0.3, 0.5, 0.8)
"""Probabilities for which the metadata list precision and recall."""

FIGURE_DECIMALS = 4

MOST_LISTED, LISTED_LENGTH = 1000, 100_000
"""The metadata list the training contigs, or of more than `MOST_LISTED` those that have `LISTED_LENGTH` bases."""

_VALIDATION_NOTE = {
    False: "calibration, threshold and, if a stage was evaluated, weights were chosen on these data",
    True: "of held-out models, each trained without the contigs on which it is evaluated; calibration and threshold "
    "were chosen on these data",
}
_NO_TEST_DATA = {
    False: "validation data, which also chose the weights: there are no test data",
    True: "validation data, which also chose calibration and threshold: there are no test data",
}
"""Without and with held-out models."""

_SELECTED_ON_TEST = ", which also chose weights, calibration and threshold, so that the figures are too high"


def assess(
    checkpoint: Checkpoint,
    recipe: Recipe,
    training_data: TrainingData,
    stage_folder: Path,
    histograms_path: Path,
    held_out: Sequence[Histograms] = (),
) -> Checkpoint:
    """Calibrate a trained model, choose its threshold and measure it.

    Parameters
    ----------
    checkpoint : Checkpoint
    recipe : Recipe
    training_data : TrainingData
    stage_folder : Path
        Folder of the last stage.
    histograms_path : Path
        Gets the histograms of the validation data.
    held_out : sequence of Histograms
        Evaluations of held-out models on the contigs without which they were trained. They replace the validation data.

    Returns
    -------
    Checkpoint
        With complete metadata.
    """
    stage, test_part = recipe.stage[-1], training_data.test_part
    checkpoint = without_calibration(checkpoint)
    evaluators = {part: training_data.genome_evaluator(stage, part) for part in ("validation", test_part)}
    histograms = {part: each.histograms(checkpoint, stage) for part, each in evaluators.items() if each}
    if held_out:
        histograms["validation"] = merge_histograms(held_out)
    metadata = replace(checkpoint.metadata, training=_training_facts(recipe, training_data))
    quality: dict[str, Any] = {}
    best = best_row(read_rows(stage_folder / VALIDATION), stage.measure)
    if best:
        measures = {name: _round(value) for name, value in best.items() if name != "step"}
        on = training_data.describe_part("validation")
        quality["validation"] = {"on": on, "step": best["step"], **measures}
    if "validation" in histograms:
        _write_once(histograms["validation"], histograms_path)
        histogram = histograms["validation"]["genome"]
        metadata = _with_operating_point(metadata, histogram)
        quality |= _validation_figures(histogram, training_data)
        quality["by_threshold"] = _figures_by_threshold(histogram, metadata.calibration)
        quality["held_out_models"] = [
            {"contigs": list(contigs), **base_figures(each["genome"], metadata)}
            for contigs, each in zip(recipe.data.held_out_models, held_out, strict=bool(held_out))
        ]
        log.info("validation: %s; threshold %s", quality, metadata.threshold)
    quality["test"] = _test_figures(checkpoint, stage, training_data, metadata, histograms.get(test_part, {}))
    quality = {key: value for key, value in quality.items() if value}
    return replace(checkpoint, metadata=replace(metadata, quality=quality))


def _with_operating_point(metadata: ModelMetadata, histogram: ScoreHistogram) -> ModelMetadata:
    """Return the metadata with a calibration, and the threshold of the highest F1."""
    calibration = fit_calibration(histogram)
    _, odds = histogram.best_f1()
    return replace(
        metadata, calibration=calibration, threshold=_probability(0.0 if odds is None else odds, calibration)
    )


def base_figures(histogram: ScoreHistogram, metadata: ModelMetadata) -> Measures:
    """Return the figures of bases called at the calibration and the threshold of a model."""
    confusion = _confusion(histogram, metadata.threshold, metadata.calibration)
    called = {name: getattr(confusion, name) for name in ("f1", "mcc", "precision", "recall")}
    ranked = {"average_precision": histogram.average_precision(), "best_f1": histogram.best_f1()[0]}
    return _round_all({**ranked, **called, "threshold": metadata.threshold})


def _training_facts(recipe: Recipe, training_data: TrainingData) -> dict[str, Any]:
    """Return how and on what the model was trained, in types of JSON."""
    data = recipe.data
    facts: dict[str, Any] = {
        "recipe": recipe.name,
        "description": recipe.description,
        "stages": [_json_values(asdict(stage)) for stage in recipe.stage],
    }
    if training_data.sequences:
        files = (data.sequences, data.validation_sequences, data.test_sequences)
        labels = int(training_data.sequences["train"].positive.sum())
        return facts | {"sequences": [Path(path).name for path in files if path], "labels": labels}
    contigs = training_data.contigs
    listed = _listed_contigs(contigs["train"])
    return facts | {
        "contigs": listed,
        "shorter_contigs": len(contigs["train"]) - len(listed),
        "validation_contigs": list(contigs["validation"]),
        "test_contigs": list(contigs["test"]),
        "split": data.split,
        "select_on": data.select_on,
        "bases": sum(contigs["train"].values()),
        "labels": sum(
            len(rows) for contig, rows in training_data.labels.items() if contig in contigs["train"]
        ),
    }


def _listed_contigs(lengths: Mapping[str, int]) -> list[str]:
    """Return the names of contigs; of very many, those of `LISTED_LENGTH` and more."""
    if len(lengths) <= MOST_LISTED:
        return list(lengths)
    return [contig for contig, length in lengths.items() if length >= LISTED_LENGTH]


def _test_figures(
    checkpoint: Checkpoint,
    stage: StageConfig,
    training_data: TrainingData,
    metadata: ModelMetadata,
    histograms: Histograms,
) -> dict[str, Any]:
    """Measure the model on the test data by both protocols: the 1:3 sample of windows, and every base."""
    part, figures = training_data.test_part, {}
    evaluator = training_data.test_evaluator(stage, part)
    if evaluator is not None:
        figures |= _window_figures(checkpoint, stage, training_data, evaluator)
    for protocol, histogram in histograms.items():
        figures.setdefault(protocol, base_figures(histogram, metadata))
    if "genome" in figures:
        figures["genome"]["estimated"] = not training_data.evaluated_contigs(part)
    if not figures:
        return {}
    on = training_data.describe_part(part)
    if part != "test":
        on += f", {_NO_TEST_DATA[bool(training_data.data.held_out_models)]}"
    elif training_data.data.select_on == "test":
        on += _SELECTED_ON_TEST
    return {"on": on, **figures}


def _window_figures(
    checkpoint: Checkpoint, stage: StageConfig, training_data: TrainingData, evaluator: WindowEvaluator
) -> dict[str, Any]:
    """Measure the model on windows, called at 0.5 as published: all, and those apart from the training data."""
    part = training_data.test_part
    masks = training_data.test_subsets(stage, part)
    if masks:
        whole, subsets = evaluator.measure_subsets(checkpoint, stage, masks)
    else:
        whole, subsets = evaluator.measure(checkpoint, stage), {}
    measures = {"sampled": (len(evaluator.windows), whole)}
    measures |= {name: (int(masks[name].sum()), each) for name, each in subsets.items()}
    figures: dict[str, Any] = {
        name: {
            "windows": count,
            **_round_all({key.removeprefix("base_"): value for key, value in each.items()}),
        }
        for name, (count, each) in measures.items()
    }
    neighbours = training_data.neighbours(stage, part)
    return figures | ({"neighbours": neighbours} if neighbours else {})


def _validation_figures(histogram: ScoreHistogram, training_data: TrainingData) -> dict[str, Any]:
    best_f1, odds = histogram.best_f1()
    confusion = histogram.confusion_at(math.inf if odds is None else odds)
    on = list(training_data.evaluated_contigs("validation")) or training_data.describe_part("validation")
    figures = {
        "average_precision": histogram.average_precision(),
        "f1": best_f1,
        "precision": confusion.precision,
        "recall": confusion.recall,
        "mcc": confusion.mcc,
    }
    note = _VALIDATION_NOTE[bool(training_data.data.held_out_models)]
    return {"contigs": on, "protocol": "genome", **_round_all(figures), "note": note}


def _figures_by_threshold(histogram: ScoreHistogram, calibration: Calibration) -> dict[str, list[float]]:
    """Return precision and recall at `REPORTED_THRESHOLDS`."""
    figures = {}
    for threshold in REPORTED_THRESHOLDS:
        confusion = _confusion(histogram, threshold, calibration)
        figures[str(threshold)] = [round(confusion.precision, 3), round(confusion.recall, 3)]
    return figures


def _confusion(histogram: ScoreHistogram, threshold: float, calibration: Calibration) -> Confusion:
    """Count calls of bases whose probability, rounded as in a track, reaches a threshold."""
    odds, negatives, positives = histogram.counts()
    written = np.round(_sigmoid(calibrate(odds.astype(np.float64), calibration)), PROBABILITY_DECIMALS)
    called = written >= np.round(threshold, PROBABILITY_DECIMALS)
    tp, fp = int(positives[called].sum()), int(negatives[called].sum())
    return Confusion(tp, fp, int(positives.sum()) - tp, int(negatives.sum()) - fp)


def _probability(odds: float, calibration: Calibration) -> float:
    """Return the calibrated probability of log-odds, rounded as in a track."""
    return round(float(_sigmoid(calibrate(np.array(odds), calibration))), PROBABILITY_DECIMALS)


def _sigmoid(odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-odds))


def _write_once(histograms: Histograms, path: Path) -> None:
    """Write histograms in the main process, while the others wait."""
    state = process_state()
    if state.is_main_process:
        write_histograms(path, histograms)
    state.wait_for_everyone()


def _json_values(table: dict[str, Any]) -> dict[str, Any]:
    """Replace infinity, which JSON has no number for, by text."""
    return {key: str(value) if value == math.inf else value for key, value in table.items()}


def _round(value: float) -> float:
    return round(float(value), FIGURE_DECIMALS)


def _round_all(measures: Measures) -> Measures:
    return {name: _round(value) for name, value in measures.items()}
