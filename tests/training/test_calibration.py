"""Calibration of simulated log-odds."""

import numpy as np
import pytest

from zflipon.inference.decoding import calibrate
from zflipon.metrics import ScoreHistogram
from zflipon.models import Calibration
from zflipon.training.calibration import KNOTS, fit_correction, fit_platt


def histogram(scores, labels):
    counts = ScoreHistogram()
    counts.add(np.asarray(scores, dtype=float), np.asarray(labels, dtype=bool))
    return counts


def likelihood(scores, labels, scale, bias):
    odds = scale * np.asarray(scores, dtype=float) + bias
    return -np.logaddexp(0, np.where(labels, -odds, odds)).sum()


@pytest.mark.parametrize(("scale", "bias"), [(1.0, 0.0), (0.5, -4.0), (2.0, 3.0), (1.0, -6.0), (-0.7, 1.0)])
def test_platt_finds_a_known_scale_and_bias(scale, bias):
    rng = np.random.default_rng(0)
    scores = np.round(rng.normal(0, 2, 200_000), 2)
    labels = rng.random(len(scores)) < 1 / (1 + np.exp(-(scale * scores + bias)))
    estimate = fit_platt(histogram(scores, labels))
    # standard errors, from the information that the sample holds
    p = 1 / (1 + np.exp(-(scale * scores + bias)))
    design = np.stack([scores, np.ones_like(scores)])
    errors = np.sqrt(np.diag(np.linalg.inv((design * p * (1 - p)) @ design.T)))
    assert np.abs(np.array(estimate) - (scale, bias)).max() < 4 * errors.max()


def test_calibrated_probabilities_equal_frequencies():
    rng = np.random.default_rng(1)
    odds = rng.normal(-4, 2, 200_000)
    labels = rng.random(len(odds)) < 1 / (1 + np.exp(-odds))
    scores = (odds + 9) / 0.3  # a model that is far too confident
    scale, bias = fit_platt(histogram(scores, labels))
    p = 1 / (1 + np.exp(-(scale * scores + bias)))
    assert p.sum() == pytest.approx(labels.sum(), rel=0.01)
    for low, high in [(0, 0.01), (0.01, 0.1), (0.1, 0.5), (0.5, 1)]:
        chosen = (p >= low) & (p < high)
        assert p[chosen].mean() == pytest.approx(labels[chosen].mean(), rel=0.1)


def test_platt_maximises_the_likelihood():
    rng = np.random.default_rng(2)
    scores = np.round(rng.normal(0, 3, 5000), 1)
    labels = rng.random(5000) < 0.2 / (1 + np.exp(-scores))  # not a logistic function
    scale, bias = fit_platt(histogram(scores, labels))
    best = likelihood(scores, labels, scale, bias)
    for step in (0.03, 0.3):
        for move in [(step, 0), (-step, 0), (0, step), (0, -step), (step, step), (-step, step)]:
            assert likelihood(scores, labels, scale + move[0], bias + move[1]) < best


@pytest.mark.parametrize("label", [False, True])
def test_platt_without_both_labels_changes_nothing(label):
    assert fit_platt(histogram([-1.0, 0.0, 3.0], [label] * 3)) == (1.0, 0.0)


@pytest.mark.parametrize("score", [0.0, 0.1, -60.0])
@pytest.mark.parametrize("count", [10, 1_000_000])
def test_platt_of_a_single_score_gives_the_base_rate(score, count):
    scale, bias = fit_platt(histogram(np.full(count, score), np.arange(count) < count // 10))
    assert scale == pytest.approx(0, abs=1e-9)
    targets = count // 10 / count
    assert 1 / (1 + np.exp(-bias)) == pytest.approx(targets, abs=2 / count)


@pytest.mark.parametrize("width", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("shift", [0.0, -50.0])
def test_platt_of_separated_labels_has_a_finite_scale(width, shift):
    scores = np.array([-2.0, -1.0, 1.0, 2.0]) * width + shift
    labels = scores > shift
    scale, bias = fit_platt(histogram(scores, labels))
    assert 0 < scale * width < 100
    odds = scale * scores + bias
    assert ((odds > 0) == labels).all()


@pytest.mark.parametrize(
    ("scores", "labels"),
    [
        ([-1e4, 1e4, -1e4, 1e4], [0, 1, 1, 0]),
        ([-60.0] * 1000 + [50.0], [1] + [0] * 1000),
        ([-60.0] * 1000 + [50.0], [0] * 1000 + [1]),
        ([-30.0, -29.9, -29.8, 80.0], [0, 1, 0, 1]),
    ],
)
def test_platt_of_extreme_scores_is_not_worse_than_the_base_rate(scores, labels):
    scale, bias = fit_platt(histogram(scores, labels))
    rate = np.log(sum(labels) / (len(labels) - sum(labels)))
    assert np.isfinite([scale, bias]).all()
    # pseudo-counts cost a little
    assert likelihood(scores, labels, scale, bias) > likelihood(scores, labels, 0.0, rate) - 0.5


def test_correction_of_an_overconfident_model_preserves_the_order():
    rng = np.random.default_rng(3)
    scores = np.concatenate([rng.normal(-9, 1, 400_000), rng.uniform(-4, 4, 40_000)])
    truth = 1 / (1 + np.exp(-scores))
    truth[scores > -4] = 0.35 + 0.08 * scores[scores > -4]  # flatter than any logistic function
    truth = np.clip(truth, 0, 1)
    labels = rng.random(len(scores)) < truth
    counts = histogram(np.round(scores, 2), labels)
    scale, bias = fit_platt(counts)
    calibration = Calibration(scale, bias, fit_correction(counts, scale, bias))
    odds = calibrate(scores, calibration)
    p = 1 / (1 + np.exp(-odds))
    for low in np.arange(0, 1, 0.1):
        chosen = (p >= low) & (p < low + 0.1)
        if chosen.sum() > 500:
            assert p[chosen].mean() == pytest.approx(labels[chosen].mean(), abs=0.04)
    line = np.linspace(-20, 20, 400)
    assert (np.diff(calibrate(line, calibration)) > 0).all()
    assert calibrate(np.array([-30.0]), calibration) == pytest.approx(scale * -30 + bias)


def test_correction_of_a_calibrated_model_is_small():
    rng = np.random.default_rng(4)
    scores = rng.normal(-3, 3, 200_000)
    labels = rng.random(len(scores)) < 1 / (1 + np.exp(-scores))
    points = fit_correction(histogram(np.round(scores, 2), labels), 1.0, 0.0)
    assert points[0] == (KNOTS[0], 0.0)
    assert max(abs(added) for _, added in points) < 0.2


def test_no_correction_without_both_labels():
    assert fit_correction(histogram([-1.0, 0.0, 3.0], [True] * 3), 1.0, 0.0) == ()
