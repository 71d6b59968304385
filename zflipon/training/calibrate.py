"""Calibration: the linear map of log-odds under which probabilities mean what they say on a genome.

Training draws labelled windows far more often than a genome holds them, so raw
probabilities are too high by orders of magnitude. Platt's method (Advances in
Large Margin Classifiers, 1999) fits a scale and a bias on every base of contigs.
"""

from __future__ import annotations

import numpy as np

from zflipon.metrics import ScoreHistogram


def platt(histogram: ScoreHistogram, steps: int = 100) -> tuple[float, float]:
    """Return the scale and bias of log-odds that maximise the likelihood of Platt's targets.

    Parameters
    ----------
    histogram : ScoreHistogram
        Of log-odds.
    steps : int
        Newton steps at most.

    Returns
    -------
    scale, bias : float
        (1, 0) where labels are all alike, which fit nothing.
    """
    scores, negatives, positives = (part.astype(np.float64) for part in histogram.counts())
    if not positives.sum() or not negatives.sum():
        return 1.0, 0.0
    total = negatives + positives
    start = np.array([0.0, np.log(positives.sum() / negatives.sum())])
    # Platt's targets, a pseudo-count short of 0 and 1, keep the scale finite where a score parts the labels cleanly
    low, high = 1 / (negatives.sum() + 2), 1 - 1 / (positives.sum() + 2)
    positives = low * negatives + high * positives
    negatives = total - positives
    mean = np.average(scores, weights=total)
    spread = np.sqrt(np.average((scores - mean) ** 2, weights=total)) or 1.0
    scale, bias = _fit((scores - mean) / spread, negatives, positives, start, steps)
    return float(scale / spread), float(bias - scale * mean / spread)


def _fit(
    scores: np.ndarray, negatives: np.ndarray, positives: np.ndarray, beta: np.ndarray, steps: int
) -> np.ndarray:
    """Return scale and bias by Newton's method; a step is halved until it is none for the worse."""
    total = negatives + positives
    design = np.stack([scores, np.ones_like(scores)])
    loss = _loss(beta, scores, negatives, positives)
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(beta @ design, -80, 80)))
        gradient = design @ (total * p - positives)
        hessian = (design * (total * p * (1 - p))) @ design.T
        move = np.linalg.lstsq(hessian, gradient, rcond=None)[0]  # singular where all scores are alike
        while (found := _loss(beta - move, scores, negatives, positives)) > loss:
            move = move / 2
        beta, before, loss = beta - move, loss, found
        if before - loss < 1e-9 * loss:
            break
    return beta


def _loss(beta: np.ndarray, scores: np.ndarray, negatives: np.ndarray, positives: np.ndarray) -> float:
    odds = beta[0] * scores + beta[1]
    return float(np.sum(positives * np.logaddexp(0, -odds) + negatives * np.logaddexp(0, odds)))
