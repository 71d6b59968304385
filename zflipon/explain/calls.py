"""Calls of a model and their attributions, many windows at a time.

The caller decides which calls are explained and how the attributions are used: in tables of tokens
(`zflipon.explain.token_tables`) or a track (`zflipon.explain.attribution_track`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from zflipon.config import InferenceConfig
from zflipon.explain.attribution import Attribution, AttributionTarget
from zflipon.explain.call_rules import call_threshold, calling_checkpoint
from zflipon.explain.integrated_gradients import OBJECTIVES, IntegratedGradientsExplainer
from zflipon.inference.decoding import calibrate
from zflipon.inference.predictor import Predictor
from zflipon.models import ModelMetadata
from zflipon.tokenization.alignment import labels_to_tokens, token_of_base
from zflipon.tokenization.tokens import Tokens

_WINDOWS_AT_ONCE = 256
"""Windows that are called before their calls are explained; memory grows with it, results do not depend on it."""

TargetWeights = Callable[[int, Tokens, np.ndarray], Sequence[np.ndarray]]
"""Index of a window, its tokens and its calls → the weights of each target to explain (`AttributionTarget`)."""


def predict_log_odds(
    predictor: Predictor, sequences: Sequence[str], track_inputs: Sequence[np.ndarray] | None = None
) -> list[tuple[Tokens, np.ndarray]]:
    """Return the tokens and the calibrated log-odds of class 1 of each sequence.

    Parameters
    ----------
    predictor : Predictor
    sequences : sequence of str
    track_inputs : sequence of numpy.ndarray, optional
        Omics tracks of each sequence, float32 of shape (tracks, steps).

    Returns
    -------
    list of (Tokens, numpy.ndarray)
        float32, shape (tokens,) for a token head, (bases,) for a base head, (1,) for a sequence head.
    """
    results: dict[int, tuple[Tokens, np.ndarray]] = {}
    for index, tokens, logits in predictor.predict_logits(sequences, track_inputs):
        if predictor.metadata.objective != "base":
            others = np.delete(logits, 1, axis=-1)
            logits = np.atleast_1d(logits[..., 1] - np.logaddexp.reduce(others, axis=-1))
        results[index] = (tokens, calibrate(logits, predictor.metadata.calibration))
    return [results[index] for index in range(len(sequences))]


def true_positive_weights(
    metadata: ModelMetadata, tokens: Tokens, called: np.ndarray, labels: np.ndarray
) -> list[np.ndarray]:
    """Return the target weights of each true positive of a window.

    For a token head, a true positive is a token that is called and labelled; its target is the output of that token.
    For a base head, a token counts as called if its share of called bases passes the label threshold of the model;
    its target is the mean over its bases. For a sequence head, the true positive is the sequence.

    Parameters
    ----------
    metadata : ModelMetadata
    tokens : Tokens
    called : numpy.ndarray
        bool, one for each output of the head.
    labels : numpy.ndarray
        bool, shape (bases,), or (1,) for a sequence head.
    """
    if metadata.objective == "sequence":
        return [np.ones(1, dtype=np.float32)] if called[0] and labels.any() else []

    def is_positive(bases: np.ndarray) -> np.ndarray:
        rule = (metadata.label_threshold, metadata.label_comparison)
        return labels_to_tokens(bases, tokens.lengths, *rule) == 1

    has_base_head = metadata.objective == "base"
    token_called = is_positive(called) if has_base_head else called
    positives = np.flatnonzero(is_positive(labels) & token_called & (tokens.lengths > 0))
    token_of_output = token_of_base(tokens.lengths) if has_base_head else np.arange(len(tokens.ids))
    rows = (token_of_output == positives[:, None]).astype(np.float32)
    return list(rows / rows.sum(1, keepdims=True)) if len(positives) else []


def explain_calls(
    explainer: IntegratedGradientsExplainer,
    sequences: Sequence[str],
    intervals: Sequence[tuple[str, int, int]],
    target_weights: TargetWeights,
    threshold: float | str | None = None,
    batch_size: int | None = None,
    progress: Callable[[int, int], object] = lambda windows, total: None,
) -> Iterator[Attribution]:
    """Call windows, and attribute the targets that `target_weights` derives from the calls.

    Parameters
    ----------
    explainer : IntegratedGradientsExplainer
    sequences : sequence of str
    intervals : sequence of (str, int, int)
        Contig, start and end of each sequence, for models that read omics tracks.
    target_weights : callable
    threshold : float or str, optional
        Probability from which an output is called, or ``'argmax'``; the threshold of the model by default.
    batch_size : int, optional
        Windows of a forward pass of the calls.
    progress : callable
        Called with the number of windows that were just finished and the number of all windows.

    Yields
    ------
    Attribution
        ``target.sequence`` is the index of the window in `sequences`.
    """
    config = InferenceConfig(device=str(explainer.device), precision="float32", batch_size=batch_size)
    checkpoint = calling_checkpoint(explainer.checkpoint, threshold)
    predictor = Predictor(checkpoint, config, OBJECTIVES, explainer.features)
    cutoff = _logit(call_threshold(explainer.metadata, threshold))
    for first in range(0, len(sequences), _WINDOWS_AT_ONCE):
        chunk = slice(first, first + _WINDOWS_AT_ONCE)
        track_inputs = read_track_inputs(explainer, intervals[chunk])
        predictions = predict_log_odds(predictor, sequences[chunk], track_inputs)
        targets = [
            AttributionTarget(index, weights)
            for index, (tokens, log_odds) in enumerate(predictions)
            for weights in target_weights(first + index, tokens, log_odds >= cutoff)
        ]
        remaining = Counter(target.sequence for target in targets)
        progress(len(predictions) - len(remaining), len(sequences))
        tokens = [tokens for tokens, _ in predictions]
        for attribution in explainer.attribute(sequences[chunk], targets, tokens, track_inputs):
            target = attribution.target
            yield replace(attribution, target=replace(target, sequence=first + target.sequence))
            remaining[target.sequence] -= 1
            if not remaining[target.sequence]:
                progress(1, len(sequences))


def read_track_inputs(
    explainer: IntegratedGradientsExplainer, intervals: Sequence[tuple[str, int, int]]
) -> list[np.ndarray] | None:
    """Return the omics tracks of intervals (contig, start, end) as the model reads them; None without tracks."""
    tracks, view = explainer.features, explainer.module.view
    return tracks and [tracks.window(contig, start, end, view) for contig, start, end in intervals]


def _logit(probability: float) -> float:
    if probability <= 0 or probability >= 1:
        return math.copysign(math.inf, probability - 0.5)
    return math.log(probability / (1 - probability))
