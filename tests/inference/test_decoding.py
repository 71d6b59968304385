"""Logits to probabilities: softmax of tokens, both strands, calibration and upper bounds."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from inference_models import CPU, compact_checkpoint, generator, predict, random_dna

from zflipon.genome.alphabet import reverse_complement
from zflipon.inference.decoding import base_log_odds, calibrate
from zflipon.inference.devices import DEVICE_PROFILES
from zflipon.inference.predictor import Predictor
from zflipon.inference.sequences import predict_factors
from zflipon.models import Calibration
from zflipon.models.collate import collate
from zflipon.tokenization.tokens import Tokens

BOTH_STRANDS = replace(CPU, both_strands=True)
CORRECTED = Calibration(0.8, -0.5, ((-2.0, 0.3), (1.0, -0.2)))


def test_calibration_scales_shifts_and_interpolates():
    log_odds = np.array([-3.0, 0.0, 1.0], dtype=np.float32)
    assert calibrate(log_odds, Calibration()).tolist() == log_odds.tolist()
    assert calibrate(log_odds, Calibration(2.0, 1.0)).tolist() == [-5.0, 1.0, 3.0]
    corrected = calibrate(log_odds, Calibration(1.0, 0.0, ((-1.0, 0.5), (1.0, -0.5))))
    np.testing.assert_allclose(corrected, [-2.5, 0.0, 0.5])


def test_log_odds_of_bases_from_either_head():
    tokens = Tokens(np.array([1, 5, 6, 2]), np.array([0, 3, 1, 0]))
    logits = np.array([[9.0, 9.0], [0.0, 2.0], [1.0, 0.0], [9.0, 9.0]])
    assert base_log_odds(logits, tokens).tolist() == [2.0, 2.0, 2.0, -1.0]
    assert base_log_odds(np.array([0.5, 1.5]), tokens).tolist() == [0.5, 1.5]


def test_the_probability_of_a_base_is_the_softmax_of_its_token(tokenizer):
    checkpoint = compact_checkpoint(tokenizer, "token")
    sequence = random_dna(generator(), 200)
    tokens = checkpoint.tokenizer.encode([sequence])[0]
    checkpoint.module.eval()
    with torch.no_grad():
        logits = checkpoint.module(input_ids=torch.from_numpy(tokens.ids)[None]).logits[0]
    expected = []
    for probability, length in zip(logits.softmax(-1)[:, 1].tolist(), tokens.lengths, strict=True):
        expected += [probability] * int(length)
    np.testing.assert_allclose(predict(checkpoint, [sequence])[0], expected, atol=1e-5)


def test_a_token_head_averages_probabilities_over_strands(tokenizer):
    checkpoint = compact_checkpoint(tokenizer, "token")
    sequence = random_dna(generator(), 300)
    forward, reverse = predict(checkpoint, [sequence, reverse_complement(sequence)])
    (both,) = predict(checkpoint, [sequence], BOTH_STRANDS)
    np.testing.assert_allclose(both, (forward + reverse[::-1]) / 2, atol=1e-6)
    assert not np.allclose(forward, reverse[::-1], atol=1e-4)


@pytest.mark.parametrize("calibration", [Calibration(), CORRECTED])
def test_a_base_resolution_head_averages_only_its_activity_score_over_strands(tokenizer, calibration):
    checkpoint = compact_checkpoint(tokenizer, "base", calibration=calibration)
    sequence = random_dna(generator(), 300)
    factors = []
    for text in (sequence, reverse_complement(sequence)):
        tokens = checkpoint.tokenizer.encode([text])
        batch = collate(tokens, [text], checkpoint.tokenizer.pad_id, with_bases=True)
        with torch.inference_mode():
            output = checkpoint.module.eval()(**batch)
        factors.append(
            [
                torch.sigmoid(logit)[0].double().numpy()
                for logit in (output.can_form_logit, output.is_formed_logit)
            ]
        )
    (forming, activity), (_, reverse_activity) = factors
    product = forming * (activity + reverse_activity[::-1]) / 2
    log_odds = calibration.scale * np.log(product / (1 - product)) + calibration.bias
    log_odds += np.interp(log_odds, *zip(*calibration.correction or [(0, 0)], strict=True))
    (both,) = predict(checkpoint, [sequence], BOTH_STRANDS)
    np.testing.assert_allclose(both, 1 / (1 + np.exp(-log_odds)), atol=1e-5)
    assert not np.allclose(activity, reverse_activity[::-1], atol=1e-4)


def test_all_bases_of_a_call_have_one_activity_on_both_strands(tokenizer):
    text = random_dna(generator(), 150) + "CG" * 9 + random_dna(generator(), 150)
    predictor = Predictor(compact_checkpoint(tokenizer, "base"), BOTH_STRANDS)
    ((_, activity),) = predict_factors(predictor, [text])
    ((_, in_call),) = predictor.first_factors([text])
    assert np.ptp(activity[in_call > 0]) < 1e-6
    assert np.ptp(activity[in_call == 0]) > 1e-3


def test_calibration_maps_the_log_odds_of_the_model(tokenizer):
    sequence = random_dna(generator(), 100)
    raw, mapped = (
        predict(compact_checkpoint(tokenizer, "base", calibration=calibration), [sequence])[0].astype(float)
        for calibration in (Calibration(), Calibration(2.0, -1.0))
    )
    log_odds = 2.0 * np.log(raw / (1 - raw)) - 1.0
    np.testing.assert_allclose(mapped, 1 / (1 + np.exp(-log_odds)), rtol=1e-4)


@pytest.mark.parametrize("both_strands", [False, True])
@pytest.mark.parametrize("correction", [(), ((-2.0, 0.3), (1.0, -0.2))])
def test_no_probability_exceeds_its_upper_bound(tokenizer, both_strands, correction):
    rng, calibration = generator(), Calibration(0.8, 5.0, correction)
    checkpoint = compact_checkpoint(tokenizer, "base", calibration=calibration, margin=120)
    profile = replace(DEVICE_PROFILES["cpu"], bases_per_first_factor=700)
    predictor = Predictor(checkpoint, replace(CPU, both_strands=both_strands), profile=profile)
    text = random_dna(rng, 1000) + "N" * 30 + random_dna(rng, 1300)
    bounds, (probabilities,) = (
        predictor.probability_upper_bounds(text),
        predictor.predict_probabilities([text]),
    )
    assert bounds.shape == probabilities.shape
    assert (probabilities <= bounds + 1e-6).all()
    assert (probabilities > 0.9 * bounds).any()
    assert bounds.std() > 0.01


def test_a_token_head_has_no_upper_bounds(tokenizer):
    predictor = Predictor(compact_checkpoint(tokenizer, "token"), CPU)
    assert predictor.probability_upper_bounds("ACGT" * 50) is None
