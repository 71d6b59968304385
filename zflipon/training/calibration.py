"""Calibration: the map of log-odds under which probabilities mean what they say on a genome.

Training draws labelled windows far more often than a genome holds them, so raw
probabilities are too high by orders of magnitude. Platt's method (Advances in
Large Margin Classifiers, 1999) fits a scale and a bias on every base of contigs. Nearly
all of these are far from any Z-DNA and decide that line, so it is then bent where
probabilities are of use.
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


KNOTS = np.array([-6.0, -3.0, *np.arange(-2.0, 3.5, 0.5)])
"""Scaled log-odds at which the line may bend; at the first, and below, it stays."""

_STIFF = 20.0
"""Bases that a bend by one unit between two knots must be worth: neighbours in a call are much the same base."""

_LEAST_SLOPE = 0.1  # between knots, so that the order of bases is kept


def bend(
    histogram: ScoreHistogram, scale: float, bias: float, steps: int = 30
) -> tuple[tuple[float, float], ...]:
    """Return what to add to the scaled log-odds at `KNOTS`, on straight lines between.

    Parameters
    ----------
    histogram : ScoreHistogram
        Of log-odds.
    scale, bias : float
        As `platt` gives them.
    steps : int
        Newton steps.

    Returns
    -------
    tuple of (float, float)
        Knot and addition, of the highest likelihood less a price for bending; no order of bases is turned round. None
        where labels are all alike.
    """
    scores, negatives, positives = (part.astype(np.float64) for part in histogram.counts())
    if not positives.sum() or not negatives.sum() or scale <= 0:
        return ()
    line, total = scale * scores + bias, negatives + positives
    free = len(KNOTS) - 1
    hats = np.stack([np.interp(line, KNOTS, row) for row in np.eye(len(KNOTS))[1:]])
    rise = np.eye(free) - np.eye(free, k=-1)
    price = _STIFF * rise.T @ rise
    added = np.zeros(free)
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(line + added @ hats, -80, 80)))
        gradient = hats @ (total * p - positives) + price @ added
        hessian = (hats * (total * p * (1 - p))) @ hats.T + price
        # a step of more than a unit of log-odds is no step that a parabola can tell
        added = added - np.clip(np.linalg.solve(hessian, gradient), -1, 1)
    bent = KNOTS + np.concatenate([[0.0], added])
    for at in range(1, len(bent)):
        bent[at] = max(bent[at], bent[at - 1] + _LEAST_SLOPE * (KNOTS[at] - KNOTS[at - 1]))
    return tuple(
        (float(knot), round(float(found - knot), 4)) for knot, found in zip(KNOTS, bent, strict=True)
    )


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
