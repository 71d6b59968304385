"""Model outputs → base probabilities: strands, calibration and upper bounds.

How a head's output is to be read is declared by the head (`zflipon.models.heads.decoding`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from zflipon.inference.batching import Batch
from zflipon.models.heads.decoding import HeadDecoding
from zflipon.tokenization.alignment import tokens_to_bases
from zflipon.tokenization.tokens import Tokens, pad_rows

if TYPE_CHECKING:
    from zflipon.models.metadata import Calibration

_MIN_PROBABILITY = np.float32(1e-30)
"""Smallest product of two factors that float32 distinguishes from 0."""

_MAX_LOG_ODDS = 80
"""Log-odds are clipped to this, where exp does not overflow in float32."""


class OutputRows(NamedTuple):
    """What the model returns for each base; see `zflipon.inference.batching.Batch`."""

    return_factors: bool = False
    return_product: bool = False

    @property
    def count(self) -> int:
        """Number of values of a base."""
        return 2 + self.return_product if self.return_factors else 1


class Decoder:
    """Decodes the output of one head.

    Each base has one value per strand and factor: its calibrated probability, or, if factors are merged, the
    probabilities of the two factors before calibration. Values of both strands are added with `strand_weights`, and
    `to_probabilities` turns the sum into probabilities.

    Parameters
    ----------
    decoding : HeadDecoding
    calibration : Calibration
    both_strands : bool
    """

    def __init__(self, decoding: HeadDecoding, calibration: Calibration, both_strands: bool):
        self.decoding, self.calibration, self.both_strands = decoding, calibration, both_strands

    @property
    def merges_factors(self) -> bool:
        """Whether strands are merged for each factor of the probability separately."""
        return self.both_strands and self.decoding.has_factors

    def output_rows(self, scores: Sequence[str]) -> OutputRows:
        """Return what the model must return for some scores. The propensity needs no run of the model."""
        if self.merges_factors:
            return OutputRows(return_factors=True)
        with_activity = "activity" in scores
        return OutputRows(with_activity, with_activity)

    @property
    def strand_weights(self) -> tuple[np.ndarray, np.ndarray]:
        """Weights of the forward and of the reverse strand: float32, shape (values, 1) each."""
        pairs = self.decoding.strand_weights if self.both_strands else ((1.0, 0.0),)
        forward, reverse = np.array(pairs, dtype=np.float32).T[..., None]
        return forward, reverse

    def base_values(self, batches: Sequence[Batch], outputs: Sequence[np.ndarray]) -> np.ndarray:
        """Return the values of the bases of some batches, on the strand that was read.

        Parameters
        ----------
        batches : sequence of Batch
            At least one; all with factors, or none.
        outputs : sequence of numpy.ndarray
            What the executor returned for each batch.

        Returns
        -------
        numpy.ndarray
            float32, shape (total sequences, values, longest). Positions after the end of a sequence are undefined.
        """
        if self.decoding.per_base:
            values = _stack_rows(outputs)
            if batches[0].return_product:
                values = values.copy()
                values[:, 0] = sigmoid(calibrate(values[:, 0], self.calibration))
            if batches[0].return_factors:
                return values
            return sigmoid(calibrate(values, self.calibration))[:, None]
        log_odds = [
            (output[..., 1] - output[..., 0])[np.arange(output.shape[1]) < batch.tokens.counts[:, None]]
            for batch, output in zip(batches, outputs, strict=True)
        ]
        probabilities = sigmoid(calibrate(np.concatenate(log_odds), self.calibration))
        lengths = np.concatenate([batch.tokens.lengths for batch in batches])
        widths = np.concatenate([batch.widths for batch in batches])
        return pad_rows(tokens_to_bases(probabilities, lengths), widths, 0)[:, None]

    def to_probabilities(self, values: np.ndarray) -> np.ndarray:
        """Return the probabilities of merged values: float32, shape (bases,) from (values, bases)."""
        if not self.merges_factors:
            return values[0]
        product = np.maximum(values[0] * values[1], _MIN_PROBABILITY)
        return sigmoid(calibrate(np.log(product) - np.log1p(-product), self.calibration))

    def score(self, values: np.ndarray, name: str) -> np.ndarray:
        """Return a score of merged values: float32, shape (bases,).

        Parameters
        ----------
        values : numpy.ndarray
            float32, shape (values, bases), with the rows that `output_rows` asks for.
        name : str
            ``'probability'`` or ``'activity'``.
        """
        return values[-1] if name == "activity" else self.to_probabilities(values)

    def upper_bounds(self, logits: np.ndarray) -> np.ndarray:
        """Return upper bounds of probabilities from upper bounds of logits: float32, same shape."""
        # nearly all bases have one logit, that of bases far from Z-HUNT calls
        lowest = logits.min(initial=0)
        others = logits != lowest
        bounds = np.full(logits.shape, sigmoid(calibrate(lowest, self.calibration)))
        bounds[others] = sigmoid(calibrate(logits[others], self.calibration))
        return bounds


def base_log_odds(logits: np.ndarray, tokens: Tokens) -> np.ndarray:
    """Return the log-odds of each base of one sequence, before calibration: float32, shape (bases,).

    Parameters
    ----------
    logits : numpy.ndarray
        Shape (bases,) of a base head, or (tokens, 2) of a token head.
    tokens : Tokens
    """
    if logits.ndim == 1:
        return logits
    return tokens_to_bases(logits[:, 1] - logits[:, 0], tokens.lengths)


def calibrate(log_odds: np.ndarray, calibration: Calibration) -> np.ndarray:
    """Return calibrated log-odds, of the same shape: scaled, shifted, and corrected by linear interpolation."""
    log_odds = calibration.scale * log_odds + calibration.bias
    if calibration.correction:
        positions, offsets = zip(*calibration.correction, strict=True)
        log_odds = log_odds + np.interp(log_odds, positions, offsets).astype(np.float32)
    return log_odds


def sigmoid(log_odds: np.ndarray) -> np.ndarray:
    """Return probabilities of log-odds: float32, same shape."""
    return (1 / (1 + np.exp(-np.clip(log_odds, -_MAX_LOG_ODDS, _MAX_LOG_ODDS)))).astype(np.float32)


def _stack_rows(outputs: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenate outputs along the first axis, padded on the last axis to the longest."""
    longest = max(output.shape[-1] for output in outputs)
    if any(output.shape[-1] < longest for output in outputs):
        outputs = [
            np.pad(output, [(0, 0)] * (output.ndim - 1) + [(0, longest - output.shape[-1])])
            for output in outputs
        ]
    return np.concatenate(outputs) if len(outputs) > 1 else outputs[0]
