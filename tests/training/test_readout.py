"""The readout of the context: no step away from it is better, and it tells calls apart by their surroundings."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import dna, make_fasta

from zflipon.genome.fasta import Genome
from zflipon.models import create
from zflipon.models.collate import collate
from zflipon.training.readout import contig_groups, fit_logistic, fit_readout


def loss(features, labels, weights, bias, penalty):
    """Return the penalised loss, with the price on weights of standardised features."""
    odds = features @ weights + bias
    price = penalty / 2 * np.sum((weights * features.std(0)) ** 2)
    return np.sum(np.logaddexp(0, odds) - labels * odds) + price


@pytest.mark.parametrize("penalty", [0.1, 10.0, 1000.0])
def test_no_step_away_is_better(penalty):
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


def test_a_price_shrinks_weights_and_leaves_the_share_of_labels():
    rng = np.random.default_rng(2)
    features = rng.normal(size=(1000, 3))
    labels = rng.random(1000) < 1 / (1 + np.exp(-2 * features[:, 0] + 1))
    sizes = []
    for penalty in (1, 100, 1e9):
        weights, bias = fit_logistic(features, labels, penalty)
        sizes.append(np.abs(weights).max())
        # the bias is free: probabilities add up to the number of labels
        assert np.sum(1 / (1 + np.exp(-features @ weights - bias))) == pytest.approx(labels.sum(), abs=0.01)
    assert sizes[0] > sizes[1] > sizes[2]
    assert sizes[2] < 1e-4


def test_a_feature_has_a_price_of_its_own():
    rng = np.random.default_rng(2)
    features = rng.normal(size=(1000, 3))
    labels = rng.random(1000) < 1 / (1 + np.exp(-features.sum(1)))
    weights, _ = fit_logistic(features, labels, np.array([1e9, 1e9, 0.0]))
    assert np.abs(weights[:2]).max() < 1e-4
    assert weights[2] == pytest.approx(fit_logistic(features[:, 2:], labels, 0.0)[0][0], rel=1e-3)


def test_what_differs_between_groups_is_not_laid_to_a_feature():
    # labels are dense in the one group and rare in the other, and the second feature only tells which group it is
    rng = np.random.default_rng(5)
    group = np.repeat([0, 1], 2000)
    features = np.stack([rng.normal(size=4000), group + 0.3 * rng.normal(size=4000)], axis=1)
    labels = rng.random(4000) < 1 / (1 + np.exp(-features[:, 0] - 2 * group + 1.5))
    misled, _ = fit_logistic(features, labels, 1.0)
    weights, bias = fit_logistic(features, labels, 1.0, group)
    assert misled[1] > 1
    assert weights == pytest.approx([1, 0], abs=0.3)
    # the mean of the groups' odds is left: -1.5 of the one, 0.5 of the other
    assert bias == pytest.approx(-0.5, abs=0.25)


def test_contigs_of_few_calls_share_their_odds():
    contigs = ["few"] * 3 + ["many"] * 60 + ["fewer"] * 2 + ["most"] * 70
    few, many, fewer, most = contig_groups(contigs)[[0, 10, 64, 100]]
    assert few == fewer
    assert len({few, many, most}) == 3


def test_features_that_never_change_weigh_nothing():
    features = np.stack([np.arange(10.0), np.full(10, 7.0)], axis=1)
    weights, bias = fit_logistic(features, np.arange(10) > 4, 1.0)
    assert np.isfinite([*weights, bias]).all()
    assert weights[1] == 0


def test_calls_that_only_their_surroundings_tell_apart(tmp_path, tokenizer):
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
        known = {name: {"c": np.array(rows)} for name, rows in (("candidates", calls), ("labels", labels))}
        training_data = SimpleNamespace(genome=genome, contigs={"train": {"c": at}}, blacklist={}, **known)
        fit_readout(made, training_data, penalty=1.0)
        told = []
        for start, end in calls:
            begin = max(0, min((start + end - 256) // 2, at - 256))
            sequence = genome.fetch("c", begin, begin + 256)
            batch = collate(tokenizer.encode([sequence]), [sequence], tokenizer.pad_id, with_bases=True)
            with torch.no_grad():
                told.append(made.module(**batch).logits[0, start - begin : end - begin].mean().item())
    flips = np.array([row in labels for row in calls])
    # of a random network's context, a readout of the other strand tells GC-rich surroundings from others
    assert np.mean(np.array(told)[flips][:, None] > np.array(told)[~flips]) > 0.9
