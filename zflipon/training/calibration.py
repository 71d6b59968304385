"""Calibration: a map of log-odds after which predicted probabilities equal observed frequencies on a genome.

Platt scaling (Advances in Large Margin Classifiers, 1999) is scikit-learn's logistic regression. The correction of the
resulting line is our own: it is piecewise linear with a smoothness penalty and strictly increasing, and for neither
has scikit-learn an equivalent (isotonic regression gives steps, which would tie bases that the model ranks).

Why calibrate: training samples labelled windows far more often than a genome contains them, so that uncalibrated
probabilities are too high by orders of magnitude.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np

from zflipon.errors import MissingExtraError
from zflipon.metrics import ScoreHistogram
from zflipon.models import Calibration

Points = tuple[tuple[float, float], ...]

KNOTS = np.array([-10.0, -8.0, -6.0, -4.5, -3.0, *np.arange(-2.0, 3.5, 0.5)])
"""Scaled log-odds between which the correction is linear. It is 0 at the first knot and below."""

BEND_PENALTY = 20.0
"""Penalty on the squared change of the correction between two knots, in bases. It is large because neighbouring bases
of a call are almost the same observation."""

LEAST_SLOPE = 0.1
"""Lowest slope of corrected against scaled log-odds, so that the order of bases is preserved."""

_MAX_STEP = 1.0
_CORRECTION_DECIMALS = 4
_ODDS_LIMIT = 80.0
_MAX_ITERATIONS = 1000


def require_scikit_learn() -> None:
    """Raise `MissingExtraError` if scikit-learn is not installed."""
    if find_spec("sklearn") is None:
        raise MissingExtraError("zflipon train", "scikit-learn", "train")


def fit_calibration(histogram: ScoreHistogram) -> Calibration:
    """Return the calibration of a model: Platt scaling, then a correction.

    Parameters
    ----------
    histogram : ScoreHistogram
        Uncalibrated log-odds of bases by label.

    Raises
    ------
    MissingExtraError
        If scikit-learn is not installed.
    """
    scale, bias = fit_platt(histogram)
    return Calibration(scale, bias, fit_correction(histogram, scale, bias))


def fit_platt(histogram: ScoreHistogram) -> tuple[float, float]:
    """Return the scale and bias of log-odds that maximise the likelihood of Platt's targets.

    Parameters
    ----------
    histogram : ScoreHistogram
        Log-odds by label.

    Returns
    -------
    scale, bias : float
        1 and 0 if all labels are equal, which determines nothing.
    """
    scores, negatives, positives = (part.astype(np.float64) for part in histogram.counts())
    if not positives.sum() or not negatives.sum():
        return 1.0, 0.0
    total = negatives + positives
    # Platt's targets, a pseudo-count away from 0 and 1, keep the scale finite if a score separates the labels
    low, high = 1 / (negatives.sum() + 2), 1 - 1 / (positives.sum() + 2)
    positives = low * negatives + high * positives
    negatives = total - positives
    mean = np.average(scores, weights=total)
    spread = np.sqrt(np.average((scores - mean) ** 2, weights=total))
    if spread == 0:  # one score alone determines the bias
        return 0.0, float(np.log(positives.sum() / negatives.sum()))
    standardised = np.concatenate([scores, scores])[:, None]
    standardised = (standardised - mean) / spread
    labels = np.repeat([0, 1], len(scores))
    model = logistic_regression(penalised=False)
    model.fit(standardised, labels, sample_weight=np.concatenate([negatives, positives]))
    scale, bias = float(model.coef_[0, 0]), float(model.intercept_[0])
    return float(scale / spread), float(bias - scale * mean / spread)


def logistic_regression(penalised: bool) -> Any:
    """Return an unfitted `sklearn.linear_model.LogisticRegression` that converges to high precision.

    Parameters
    ----------
    penalised : bool
        Whether half of the squared weights is added to the summed loss.

    Raises
    ------
    MissingExtraError
        If scikit-learn is not installed.
    """
    require_scikit_learn()
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(
        C=1.0 if penalised else np.inf, solver="newton-cholesky", tol=1e-10, max_iter=_MAX_ITERATIONS
    )


def fit_correction(histogram: ScoreHistogram, scale: float, bias: float, steps: int = 30) -> Points:
    """Return the values to add to scaled log-odds at `KNOTS`; between knots they are interpolated linearly.

    Almost all bases of a genome are far from any label and determine the line of Platt scaling. The correction fits the
    range of scores in which labels are found. It maximises the likelihood less `BEND_PENALTY` and keeps the order
    of bases.

    Parameters
    ----------
    histogram : ScoreHistogram
        Log-odds by label.
    scale, bias : float
        From `fit_platt`.
    steps : int
        Newton steps.

    Returns
    -------
    tuple of (float, float)
        Knots and added values; empty if all labels are equal, or the scale is not positive.
    """
    scores, negatives, positives = (part.astype(np.float64) for part in histogram.counts())
    if not positives.sum() or not negatives.sum() or scale <= 0:
        return ()
    scaled, total = scale * scores + bias, negatives + positives
    free = len(KNOTS) - 1
    basis = np.stack([np.interp(scaled, KNOTS, row) for row in np.eye(len(KNOTS))[1:]])
    differences = np.eye(free) - np.eye(free, k=-1)
    penalty = BEND_PENALTY * differences.T @ differences
    added = np.zeros(free)
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(scaled + added @ basis, -_ODDS_LIMIT, _ODDS_LIMIT)))
        gradient = basis @ (total * p - positives) + penalty @ added
        hessian = (basis * (total * p * (1 - p))) @ basis.T + penalty
        # beyond this the quadratic approximation of the likelihood is poor
        added = added - np.clip(np.linalg.solve(hessian, gradient), -_MAX_STEP, _MAX_STEP)
    corrected = KNOTS + np.concatenate([[0.0], added])
    for i in range(1, len(corrected)):
        corrected[i] = max(corrected[i], corrected[i - 1] + LEAST_SLOPE * (KNOTS[i] - KNOTS[i - 1]))
    return tuple(
        (float(knot), round(float(value - knot), _CORRECTION_DECIMALS))
        for knot, value in zip(KNOTS, corrected, strict=True)
    )
