"""`Predictor`: probabilities do not depend on how they are computed, and what the metadata decide."""

from dataclasses import replace

import numpy as np
import pytest
from inference_models import CPU, compact_checkpoint, generator, mixed_sequences, predict, random_dna

from zflipon.errors import ModelError
from zflipon.inference.predictor import Predictor


@pytest.fixture
def rng():
    return generator()


@pytest.mark.parametrize("objective", ["base", "token"])
def test_probabilities_do_not_depend_on_the_batch_size(tokenizer, rng, objective):
    checkpoint, sequences = compact_checkpoint(tokenizer, objective), mixed_sequences(rng)
    results = [predict(checkpoint, sequences, replace(CPU, batch_size=size)) for size in (1, 8, 64)]
    for one, eight, many, sequence in zip(*results, sequences, strict=True):
        assert one.shape == (len(sequence),)
        np.testing.assert_allclose(eight, one, atol=1e-5)
        np.testing.assert_allclose(many, one, atol=1e-5)
    assert np.ptp(np.concatenate(results[0])) > 0.05  # constant values would agree too


def test_probabilities_do_not_depend_on_the_order(tokenizer, rng):
    predictor = Predictor(compact_checkpoint(tokenizer, "base"), CPU)
    sequences = mixed_sequences(rng)
    forward = predictor.predict_probabilities(sequences)
    backward = predictor.predict_probabilities(sequences[::-1])[::-1]
    for one, other in zip(forward, backward, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("both_strands", [False, True])
def test_cores_limit_what_is_computed_and_not_its_values(tokenizer, rng, both_strands):
    predictor = Predictor(compact_checkpoint(tokenizer, "base"), replace(CPU, both_strands=both_strands))
    sequences = [random_dna(rng, 300) for _ in range(5)]
    cores = np.tile([100, 180], (5, 1))
    expected = predictor.predict_probabilities(sequences)
    for core, full in zip(predictor.predict_probabilities(sequences, cores=cores), expected, strict=True):
        np.testing.assert_allclose(core[100:180], full[100:180], atol=1e-5)
    assert predictor.predict_probabilities([]) == []


@pytest.mark.parametrize(("both_strands", "expected"), [(False, 70), (True, 140)])
def test_progress_counts_each_strand(tokenizer, rng, both_strands, expected):
    counts = []
    predictor = Predictor(compact_checkpoint(tokenizer, "base"), replace(CPU, both_strands=both_strands))
    predictor.predict_probabilities(mixed_sequences(rng), advance=counts.append)
    assert sum(counts) == expected


def test_two_predictors_in_one_process_do_not_disturb_each_other(tokenizer, rng):
    sequences = mixed_sequences(rng)
    base, token = (compact_checkpoint(tokenizer, objective) for objective in ("base", "token"))
    first = Predictor(base, CPU)
    expected = np.concatenate(first.predict_probabilities(sequences))
    predict(token, sequences, replace(CPU, threads=2))
    np.testing.assert_array_equal(np.concatenate(first.predict_probabilities(sequences)), expected)


def test_a_model_without_base_calls_is_refused(tokenizer):
    with pytest.raises(ModelError, match="'mlm' calls no bases; expected 'base' or 'token'"):
        Predictor(compact_checkpoint(tokenizer, "mlm"), CPU)


def test_the_metadata_decide_the_strands_unless_the_user_does(tokenizer, rng):
    forward = compact_checkpoint(tokenizer, "base")
    both = compact_checkpoint(tokenizer, "base", both_strands=True)
    text = random_dna(rng, 300)

    def result(checkpoint, both_strands):
        predictor = Predictor(checkpoint, replace(CPU, both_strands=both_strands))
        return predictor.both_strands, predictor.predict_probabilities([text])[0].tolist()

    assert result(forward, None) == result(forward, False) == result(both, False)
    assert result(both, None) == result(forward, True) == result(both, True)
    assert result(both, None) != result(both, False)


def test_logits_are_those_of_the_given_strand_whatever_the_metadata_say(tokenizer, rng):
    text = random_dna(rng, 300)
    (one,), (other,) = (
        [
            logits
            for _, _, logits in Predictor(
                compact_checkpoint(tokenizer, "base", both_strands=both), CPU
            ).predict_logits([text])
        ]
        for both in (False, True)
    )
    assert one.shape == (300,)
    np.testing.assert_array_equal(other, one)
