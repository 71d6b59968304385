"""Integrated Gradients: completeness, agreement with a plain loop and with captum, batching, a closed form."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from explained_models import FAMILIES, OBJECTIVES, attribute, random_target, small_model, windows
from transformers import PretrainedConfig

from zflipon.config import AttributionConfig, InferenceConfig, LoraConfig
from zflipon.errors import InputError, MissingExtraError, ModelError
from zflipon.explain.attribution import AttributionTarget
from zflipon.explain.integrated_gradients import IntegratedGradientsExplainer
from zflipon.genome.alphabet import PADDING_BASE, base_codes
from zflipon.inference.predictor import Predictor
from zflipon.models import ModelMetadata, get_family, load
from zflipon.models.adapters import attach
from zflipon.models.base import DnaOutput
from zflipon.models.labels import class_log_odds


def integrate_by_plain_loop(checkpoint, sequence, weights, steps):
    """Return Integrated Gradients of one sequence, one midpoint step at a time, in double precision."""
    module = checkpoint.module.double()
    tokens = checkpoint.tokenizer.encode([sequence])[0]
    table = module.get_input_embeddings()
    embeddings = table(torch.from_numpy(tokens.ids))[None].detach()
    baseline = embeddings.clone()
    baseline[0, torch.from_numpy(tokens.lengths > 0)] = table(
        torch.from_numpy(checkpoint.tokenizer.base_ids)
    ).mean(0)
    inputs, arguments, base_inputs = [embeddings], {}, None
    if checkpoint.metadata.objective == "base":
        token_of_base = torch.from_numpy(np.repeat(np.arange(len(tokens.ids)), tokens.lengths))[None]
        bases = torch.from_numpy(base_codes(sequence))[None]
        base_inputs = module.base_head.read_bases(bases)
        inputs += [base_inputs.one_hot.double(), base_inputs.zhunt.double()]
        arguments = {"bases": bases, "base_tokens": token_of_base}
    baselines = [baseline.detach(), *(torch.zeros_like(value) for value in inputs[1:])]
    sums = [torch.zeros_like(value) for value in inputs]
    for step in range(steps):
        alpha = (step + 0.5) / steps
        points = [
            (a + alpha * (b - a)).detach().requires_grad_() for a, b in zip(baselines, inputs, strict=True)
        ]
        if base_inputs is not None:
            arguments["base_inputs"] = base_inputs._replace(one_hot=points[1], zhunt=points[2])
        logits = module(inputs_embeds=points[0], **arguments).logits[0].double()
        if checkpoint.metadata.objective != "base":
            logits = logits[..., 1] - logits[..., 0]
        value = (logits.reshape(-1) * torch.from_numpy(weights)).sum()
        for total, gradient in zip(sums, torch.autograd.grad(value, points), strict=True):
            total += gradient / steps
    module.float()
    parts = [s * (b - a) for s, a, b in zip(sums, baselines, inputs, strict=True)]
    return [part.sum(2 if i == 0 else 1)[0].numpy() for i, part in enumerate(parts)]


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("family", FAMILIES)
def test_attributions_are_complete_and_equal_a_plain_loop(family, objective):
    checkpoint, sequences = small_model(family, objective), windows(1)
    target = random_target(checkpoint, sequences, 0)
    (attribution,) = attribute(checkpoint, sequences, [target], steps=120)
    span = checkpoint.tokenizer.tokens_per_base
    change = attribution.output - attribution.baseline_output
    assert abs(change) > 1e-3
    # relative to all contributions, which may cancel in the change of the output
    contributions = np.abs(attribution.per_base(span)).sum()
    assert abs(attribution.completeness_error) < 0.001 * contributions + 1e-4
    assert attribution.total == pytest.approx(change + attribution.completeness_error, abs=1e-6)
    assert attribution.per_base(span).sum() == pytest.approx(attribution.total, abs=1e-4)
    assert attribution.per_token().sum() == pytest.approx(attribution.total, abs=1e-4)
    expected = integrate_by_plain_loop(checkpoint, sequences[0], target.weights, 300)
    tolerance = 0.01 * max(np.abs(part).max() for part in expected)
    np.testing.assert_allclose(attribution.embeddings, expected[0], atol=tolerance)
    if objective == "base":
        size = len(sequences[0])
        np.testing.assert_allclose(attribution.letters, expected[1][:size], atol=tolerance)
        np.testing.assert_allclose(attribution.zhunt, expected[2][:size], atol=tolerance)
        assert np.abs(attribution.zhunt).max() > 0


def test_kmer_attributions_are_zero_where_no_kmer_contributes():
    checkpoint, sequences = small_model("compact", "base", kmer_size=4), windows()
    log_odds = checkpoint.module.base_head.kmers.log_odds
    log_odds.copy_(torch.randn(log_odds.shape, generator=torch.Generator().manual_seed(3)))
    for attribution, sequence in zip(attribute(checkpoint, sequences, steps=64), sequences, strict=True):
        contributions = np.abs(attribution.per_base()).sum()
        assert abs(attribution.completeness_error) < 0.001 * contributions + 1e-4
        assert attribution.kmers.shape == (len(sequence),)
        inputs = checkpoint.module.base_head.read_bases(torch.from_numpy(base_codes(sequence))[None]).kmers[0]
        no_kmer = (inputs[:, : len(sequence)] == 0).all(0).numpy()
        assert (attribution.kmers != 0).sum() > 40
        assert not attribution.kmers[no_kmer].any()
        expected = attribution.letters + attribution.zhunt + attribution.kmers
        np.testing.assert_allclose(attribution.base_inputs(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_output_equals_the_prediction(family):
    checkpoint, sequences = small_model(family, "base"), windows(2)
    targets = [
        AttributionTarget(i, np.eye(len(text), dtype=np.float32)[25]) for i, text in enumerate(sequences)
    ]
    predictor = Predictor(checkpoint, InferenceConfig(device="cpu", precision="float32"))
    predicted = {index: rows[25] for index, _, rows in predictor.predict_logits(sequences)}
    outputs = [each.output for each in attribute(checkpoint, sequences, targets, steps=2)]
    assert outputs == pytest.approx([predicted[0], predicted[1]], abs=1e-4)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("family", FAMILIES)
def test_batches_equal_one_target_at_a_time(family, objective):
    checkpoint, sequences = small_model(family, objective), windows(4)
    targets = [random_target(checkpoint, sequences, index) for index in (2, 0, 3, 1, 0)]
    single = [attribute(checkpoint, sequences, [target], steps=8, batch_size=3)[0] for target in targets]
    for size in (1, 7, 64, None):
        batched = attribute(checkpoint, sequences, targets, steps=8, batch_size=size)
        for one, other in zip(single, batched, strict=True):
            np.testing.assert_allclose(other.per_base(), one.per_base(), atol=2e-5)
            assert other.output == pytest.approx(one.output, abs=1e-5)
            assert other.baseline_output == pytest.approx(one.baseline_output, abs=1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_contribute(family, objective):
    checkpoint, sequences = small_model(family, objective), windows(1)
    plain = attribute(checkpoint, sequences, steps=50)[0]
    attach(checkpoint.module, LoraConfig(r=2, alpha=4, dropout=0.5), get_family(family).lora_targets)
    untrained = attribute(checkpoint, sequences, steps=50)[0]
    np.testing.assert_allclose(untrained.embeddings, plain.embeddings, atol=1e-5)
    with torch.no_grad():
        for key, weights in checkpoint.module.named_parameters():
            if "lora_B" in key:
                weights.normal_(0, 0.3)
    trained = attribute(checkpoint, sequences, steps=50)[0]
    assert np.abs(trained.embeddings - plain.embeddings).max() > 1e-4
    change = trained.output - trained.baseline_output
    assert abs(trained.completeness_error) < 0.02 * abs(change) + 1e-3
    assert all(weights.grad is None for weights in checkpoint.module.parameters())


def test_completeness_error_equals_the_convergence_delta_of_captum():
    checkpoint, sequences = small_model("gena", "token"), windows(1)
    target = random_target(checkpoint, sequences, 0)
    explainer = IntegratedGradientsExplainer(checkpoint, AttributionConfig(steps=5), "cpu")
    (attribution,) = explainer.attribute(sequences, [target])
    batch = explainer.batches.build([target], checkpoint.tokenizer.encode(sequences), sequences)
    _, delta = IntegratedGradients(batch.target_values).attribute(
        batch.inputs,
        batch.baselines,
        additional_forward_args=batch.arguments,
        n_steps=5,
        return_convergence_delta=True,
    )
    assert attribution.completeness_error == pytest.approx(float(delta), abs=1e-5)


class LinearModel(torch.nn.Module):
    """A model whose logits are linear in each token embedding."""

    objective, config = "token", PretrainedConfig(num_labels=2)

    def __init__(self, vocabulary, width):
        super().__init__()
        self.table, self.classifier = torch.nn.Embedding(vocabulary, width), torch.nn.Linear(width, 2)

    def get_input_embeddings(self):
        return self.table

    def forward(self, inputs_embeds, **_ignored):
        return DnaOutput(logits=self.classifier(inputs_embeds))


@pytest.mark.parametrize("baseline", ["mean", "pad", "zero"])
def test_attributions_of_a_linear_model_are_weight_times_change(tokenizer, baseline):
    torch.manual_seed(0)
    module = LinearModel(tokenizer.vocab_size, 6)
    metadata = ModelMetadata("compact", "token", 64, 0)
    checkpoint = SimpleNamespace(module=module, tokenizer=tokenizer, metadata=metadata)
    (text,) = windows(1)
    tokens = tokenizer.encode([text])[0]
    weights = np.linspace(-1, 1, len(tokens.ids)).astype(np.float32)
    target = AttributionTarget(0, weights)
    (attribution,) = attribute(checkpoint, [text], [target], steps=1, baseline=baseline)
    table = module.table.weight.detach().numpy()
    start = {"pad": table[tokenizer.pad_id], "zero": 0, "mean": table[tokenizer.base_ids].mean(0)}[baseline]
    slope = np.subtract(*module.classifier.weight.detach().numpy()[::-1])
    expected = weights * ((table[tokens.ids] - start) @ slope) * (tokens.lengths > 0)
    np.testing.assert_allclose(attribution.embeddings, expected, atol=1e-5)
    assert abs(attribution.completeness_error) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_steps_double_until_the_tolerance_is_met(family):
    checkpoint, sequences = small_model(family, "token"), windows(3)

    def relative_error(attribution):
        change = attribution.output - attribution.baseline_output
        return abs(attribution.completeness_error) / abs(change)

    errors = [relative_error(each) for each in attribute(checkpoint, sequences, steps=2)]
    assert max(errors) > 0.002
    refined = attribute(checkpoint, sequences, steps=2, tolerance=0.002)
    for attribution, error in zip(refined, errors, strict=True):
        assert relative_error(attribution) <= 0.002 or attribution.steps == 64
        assert (attribution.steps == 2) == (error <= 0.002)


def test_the_probability_can_be_explained():
    checkpoint, sequences = small_model("dnabert2", "sequence"), windows(2)
    of_log_odds = attribute(checkpoint, sequences)
    of_probability = attribute(checkpoint, sequences, scalar="probability")
    for one, other in zip(of_log_odds, of_probability, strict=True):
        weight = float(one.target.weights[0])
        assert other.output == pytest.approx(weight / (1 + np.exp(-one.output / weight)), abs=1e-5)
        assert abs(other.completeness_error) < 1e-3


def test_special_tokens_and_padding_have_no_attribution():
    checkpoint, sequences = small_model("gena", "token"), windows(3)
    for attribution in attribute(checkpoint, sequences, steps=4):
        assert not attribution.embeddings[attribution.tokens.lengths == 0].any()
        assert len(attribution.embeddings) == len(attribution.tokens.ids)


def test_base_inputs_of_n_equal_the_baseline():
    head = small_model("compact", "base").module.base_head
    inputs = head.read_bases(torch.full((1, 40), 4))
    assert not inputs.one_hot.any()
    assert not inputs.zhunt.any()
    assert not head.read_bases(torch.full((1, 40), PADDING_BASE)).one_hot.any()


def test_the_attribution_of_a_kmer_token_is_spread_over_the_bases_that_it_reads():
    checkpoint = small_model("dnabert", "token")
    (attribution,) = attribute(checkpoint, ["ACGTACGT"])
    assert attribution.tokens.lengths.tolist() == [1, 1, 6]
    attribution = replace(attribution, embeddings=np.array([6, 0, 12], dtype=np.float32))
    np.testing.assert_allclose(attribution.per_base(span=6), [1, 1, 3, 3, 3, 3, 2, 2])
    np.testing.assert_allclose(attribution.per_base(), [6, 0, 2, 2, 2, 2, 2, 2])


def test_class_log_odds_compare_one_class_with_all_others():
    logits = torch.tensor([[1.0, 2.0], [0.5, -1.0]])
    torch.testing.assert_close(class_log_odds(logits), logits[:, 1] - logits[:, 0])
    torch.testing.assert_close(class_log_odds(logits, 0), logits[:, 0] - logits[:, 1])
    three = torch.tensor([0.0, 1.0, 0.5])
    expected = torch.log(three.softmax(0)[1] / (1 - three.softmax(0)[1]))
    torch.testing.assert_close(class_log_odds(three), expected)


def test_without_captum_the_error_names_the_extra(monkeypatch):
    checkpoint = small_model("compact", "token")
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(MissingExtraError, match=r"captum.*pip install 'zflipon\[explain\]'"):
        IntegratedGradientsExplainer(checkpoint)


def test_models_without_gradients_or_calls_and_wrong_settings_are_refused():
    with pytest.raises(ModelError, match="formula without token embeddings"):
        IntegratedGradientsExplainer(load("zhunt"))
    with pytest.raises(ModelError, match="objective 'mlm'"):
        IntegratedGradientsExplainer(small_model("compact", "mlm"))
    for settings, message in (
        ({"baseline": "median"}, "unknown baseline 'median'"),
        ({"scalar": "odds"}, "unknown scalar 'odds'"),
        ({"tolerance": 0.0}, "tolerance must be greater than 0"),
        ({"steps": 0}, "at least one step"),
    ):
        with pytest.raises(ModelError, match=message):
            IntegratedGradientsExplainer(small_model("compact", "token"), AttributionConfig(**settings))


def test_wrong_inputs_are_refused():
    explainer = IntegratedGradientsExplainer(small_model("compact", "token"), device="cpu")
    with pytest.raises(InputError, match="empty sequence"):
        next(explainer.attribute([""], []))
    with pytest.raises(ValueError, match="expected target weights of shape"):
        next(explainer.attribute(["ACGT"], [AttributionTarget(0, np.ones(99, np.float32))]))
