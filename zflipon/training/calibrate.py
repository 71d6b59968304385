"""Calibration: the linear map of log-odds under which probabilities mean what they say on a genome.

Training draws labelled windows far more often than a genome holds them, so raw
probabilities are too high by orders of magnitude. Platt's method (Advances in
Large Margin Classifiers, 1999) fits a scale and a bias on every base of contigs.
"""

from __future__ import annotations

import numpy as np

from zflipon.metrics import ScoreHistogram


def platt(histogram: ScoreHistogram, steps: int = 100) -> tuple[float, float]:
    """Return the scale and bias of log-odds that maximise the labels' likelihood.

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
    design = np.stack([scores, np.ones_like(scores)])
    beta = np.array([1.0, 0.0])
    loss = _loss(beta, scores, negatives, positives)
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(beta @ design, -80, 80)))
        gradient = design @ (total * p - positives)
        hessian = (design * (total * p * (1 - p))) @ design.T + 1e-9 * np.eye(2)
        move, size = np.linalg.solve(hessian, gradient), 1.0
        while _loss(beta - size * move, scores, negatives, positives) > loss and size > 1e-6:
            size /= 2
        beta = beta - size * move
        before, loss = loss, _loss(beta, scores, negatives, positives)
        if before - loss < 1e-9 * abs(loss):
            break
    return float(beta[0]), float(beta[1])


def _loss(beta: np.ndarray, scores: np.ndarray, negatives: np.ndarray, positives: np.ndarray) -> float:
    odds = beta[0] * scores + beta[1]
    return float(np.sum(positives * np.logaddexp(0, -odds) + negatives * np.logaddexp(0, odds)))
