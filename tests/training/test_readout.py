"""The refitted readout: its penalised logistic regression, and how it ranks candidates by their surroundings."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import dna, make_fasta

from zflipon.config import DataConfig
from zflipon.errors import InputError
from zflipon.genome.fasta import Genome
from zflipon.models import create, load, save
from zflipon.models.collate import collate
from zflipon.training.dataset import TrainingData
from zflipon.training.readout import contig_groups, fit_logistic, fit_readout
from zflipon.training.readout_sources import unseen_sources


def loss(features, labels, weights, bias, penalty):
    """Return the loss with the penalty on the weights of standardised features."""
    odds = features @ weights + bias
    penalty_term = penalty / 2 * np.sum((weights * features.std(0)) ** 2)
    return np.sum(np.logaddexp(0, odds) - labels * odds) + penalty_term


@pytest.mark.parametrize("penalty", [0.1, 10.0, 1000.0])
def test_weights_minimise_the_penalised_loss(penalty):
    rng = np.random.default_rng(1)
    features = rng.normal(size=(400, 5)) * [1, 10, 0.1, 1, 3] + [0, 5, 0, -2, 0]
    labels = rng.random(400) < 1 / (1 + np.exp(-features[:, 0] - 0.3 * (features[:, 1] - 5)))
    weights, bias = fit_logistic(features, labels, penalty)
    best = loss(features, labels, weights, bias, penalty)
    for at in range(6):
        for step in (-1e-3, 1e-3):
            other, moved = weights.copy(), bias + step * (at == 5)
            if at < 5:
                other[at] += step / features[:, at].std()
            assert loss(features, labels, other, moved, penalty) > best


def test_penalty_shrinks_weights_and_keeps_the_mean_prediction():
    rng = np.random.default_rng(2)
    features = rng.normal(size=(1000, 3))
    labels = rng.random(1000) < 1 / (1 + np.exp(-2 * features[:, 0] + 1))
    sizes = []
    for penalty in (1, 100, 1e9):
        weights, bias = fit_logistic(features, labels, penalty)
        sizes.append(np.abs(weights).max())
        # the bias has no penalty, so that probabilities add up to the number of labels
        assert np.sum(1 / (1 + np.exp(-features @ weights - bias))) == pytest.approx(labels.sum(), abs=0.01)
    assert sizes[0] > sizes[1] > sizes[2]
    assert sizes[2] < 1e-4


def test_each_feature_has_its_penalty():
    rng = np.random.default_rng(2)
    features = rng.normal(size=(1000, 3))
    labels = rng.random(1000) < 1 / (1 + np.exp(-features.sum(1)))
    weights, _ = fit_logistic(features, labels, np.array([1e9, 1e9, 0.0]))
    assert np.abs(weights[:2]).max() < 1e-4
    assert weights[2] == pytest.approx(fit_logistic(features[:, 2:], labels, 0.0)[0][0], rel=1e-3)


def test_group_intercepts_absorb_differences_between_groups():
    # labels are dense in one group and rare in the other; the second feature only indicates the group
    rng = np.random.default_rng(5)
    group = np.repeat([0, 1], 2000)
    features = np.stack([rng.normal(size=4000), group + 0.3 * rng.normal(size=4000)], axis=1)
    labels = rng.random(4000) < 1 / (1 + np.exp(-features[:, 0] - 2 * group + 1.5))
    confounded, _ = fit_logistic(features, labels, 1.0)
    weights, bias = fit_logistic(features, labels, 1.0, group)
    assert confounded[1] > 1
    assert weights == pytest.approx([1, 0], abs=0.3)
    # the bias is the mean of the intercepts -1.5 and 0.5
    assert bias == pytest.approx(-0.5, abs=0.25)


def newton(features, labels, penalties, groups):
    """Solve the penalised regression of `fit_logistic` by Newton's method, without scikit-learn."""
    mean, spread = features.mean(0), features.std(0)
    one_hot = groups[:, None] == np.unique(groups)
    design = np.concatenate([(features - mean) / spread, one_hot, np.ones((len(labels), 1))], axis=1)
    penalty = np.concatenate([penalties, np.ones(one_hot.shape[1]), [0.0]])
    beta = np.zeros(design.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-design @ beta))
        hessian = (design * (p * (1 - p))[:, None]).T @ design + np.diag(penalty)
        beta = beta - np.linalg.solve(hessian, design.T @ (p - labels) + penalty * beta)
    width = features.shape[1]
    weights = beta[:width] / spread
    return weights, beta[-1] + one_hot.mean(0) @ beta[width:-1] - weights @ mean


def test_equals_a_direct_solution():
    rng = np.random.default_rng(7)
    features = rng.normal(size=(300, 4)) * [1, 5, 0.2, 30] + [0, 3, -1, 100]
    groups = rng.integers(0, 3, 300)
    labels = rng.random(300) < 1 / (1 + np.exp(-features[:, 0] - 0.2 * features[:, 1] - groups + 1))
    penalties = np.array([1.0, 10.0, 30.0, 500.0])
    weights, bias = fit_logistic(features, labels, penalties, groups)
    expected, expected_bias = newton(features, labels, penalties, groups)
    np.testing.assert_allclose(weights, expected, rtol=1e-4, atol=1e-6)
    assert bias == pytest.approx(expected_bias, abs=1e-4)


@pytest.mark.parametrize("penalty", [0.0, 1e-12, 1.0])
def test_collinear_and_separable_features_give_finite_weights(penalty):
    column = np.repeat([0.0, 1.0], 40)
    features = np.stack([column, column, 2 * column + 1, np.zeros(80)], axis=1)
    weights, bias = fit_logistic(features, column == 1, penalty, np.repeat([0, 1], 40))
    assert np.isfinite([*weights, bias]).all()


@pytest.mark.parametrize("label", [False, True])
def test_a_single_class_gives_weights_of_zero(label):
    weights, bias = fit_logistic(np.arange(12.0).reshape(6, 2), np.full(6, label), 1.0)
    assert not weights.any()
    assert bias == pytest.approx(np.log(6.5 / 0.5) * (1 if label else -1))


def test_contigs_with_few_candidates_share_an_intercept():
    contigs = ["few"] * 3 + ["many"] * 60 + ["fewer"] * 2 + ["most"] * 70
    few, many, fewer, most = contig_groups(contigs)[[0, 10, 64, 100]]
    assert few == fewer
    assert len({few, many, most}) == 3


def test_constant_feature_has_weight_zero():
    features = np.stack([np.arange(10.0), np.full(10, 7.0)], axis=1)
    weights, bias = fit_logistic(features, np.arange(10) > 4, 1.0)
    assert np.isfinite([*weights, bias]).all()
    assert weights[1] == 0


def test_ranks_identical_candidates_by_their_surroundings(tmp_path, tokenizer):
    pieces, calls, labels, at = [], [], [], 0
    for number in range(120):
        flank = dna(200, number, "GGCCAT" if number % 3 == 0 else "AATTGC")
        pieces += [flank, "CG" * 8, flank]
        calls.append((at + 200, at + 216))
        if number % 3 == 0:
            labels.append(calls[-1])
        at += 416
    path = make_fasta(tmp_path, {"c": "".join(pieces)})
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    made = create("compact", "base", tokenizer, **shape, base_head={"channels": 8, "context": 24})
    made.module.eval()
    made = replace(made, metadata=replace(made.metadata, window=256, margin=64))
    with Genome(path) as genome:
        intervals = {
            name: {"c": np.array(rows)} for name, rows in (("candidates", calls), ("labels", labels))
        }
        training_data = TrainingData(DataConfig(), genome, contigs={"train": {"c": at}}, **intervals)
        fit_readout(made, training_data, penalty=1.0)
        predicted = []
        for start, end in calls:
            begin = max(0, min((start + end - 256) // 2, at - 256))
            sequence = genome.fetch("c", begin, begin + 256)
            batch = collate(tokenizer.encode([sequence]), [sequence], tokenizer.pad_id, with_bases=True)
            with torch.no_grad():
                predicted.append(made.module(**batch).logits[0, start - begin : end - begin].mean().item())
    labelled = np.array([row in labels for row in calls])
    # GC-rich surroundings are recognised in the context of a random network
    assert np.mean(np.array(predicted)[labelled][:, None] > np.array(predicted)[~labelled]) > 0.9


def test_unseen_contigs_are_read_by_the_held_out_models_that_never_saw_them(tmp_path, tokenizer):
    shape = {"hidden_size": 8, "num_hidden_layers": 0, "num_attention_heads": 1, "intermediate_size": 8}
    made = create("compact", "base", tokenizer, **shape, base_head={"channels": 4, "context": 8})

    def write(folder, **training):
        save(replace(made, metadata=replace(made.metadata, training=training)), tmp_path / folder)

    write("model", contigs=["a", "b", "c", "d"])
    write("model/held-out/1", contigs=["c", "d"], validation_contigs=["a", "b"])
    write("model/held-out/2", contigs=["a", "b", "d"], validation_contigs=["c"])
    data = TrainingData(DataConfig(), None, contigs={"train": {"b": 1, "c": 1, "d": 1}})
    sources = unseen_sources(load(tmp_path / "model"), data)
    assert [(each.checkpoint.path.name, each.contigs) for each in sources] == [("1", ("b",)), ("2", ("c",))]
    # a held-out model has no models below it; it reads contigs outside of its training
    ((model, contigs),) = unseen_sources(load(tmp_path / "model/held-out/1"), data)
    assert (model.path.name, contigs) == ("1", ("b",))
    seen = TrainingData(DataConfig(), None, contigs={"train": {"d": 1}})
    with pytest.raises(InputError, match="trained on all training contigs; name a checkpoint"):
        unseen_sources(load(tmp_path / "model"), seen)
