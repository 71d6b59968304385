"""Operations that make the host wait for a GPU, counted on a CPU: a batch may have one, a loss has none."""

import pytest
import torch
from conftest import dna
from torch.utils._python_dispatch import TorchDispatchMode

from zflipon.models import create
from zflipon.models.heads.standard import binary_cross_entropy, cross_entropy
from zflipon.tokenization.alignment import IGNORE

WAITING = {
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::masked_select",
    "aten::is_nonzero",
    "aten::equal",
}
"""Operators whose result, or its shape, the host needs."""

SHAPE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


class WaitCounter(TorchDispatchMode):
    """Lists the operators for which the host would wait if the tensors were on a GPU."""

    def __init__(self):
        super().__init__()
        self.operators = []

    def __torch_dispatch__(self, operator, types, arguments=(), named=None):
        name = operator._schema.name
        # an index of booleans is turned into positions, whose number the host needs
        masks = arguments[1] if name in ("aten::index", "aten::index_put", "aten::index_put_") else ()
        if name in WAITING or any(each is not None and each.dtype == torch.bool for each in masks):
            self.operators.append(name)
        return operator(*arguments, **(named or {}))


def base_inputs(tokenizer, rows=4, width=200):
    from zflipon.models.collate import collate

    sequences = [dna(width - 10 * row, row) for row in range(rows)]
    return collate(tokenizer.encode(sequences), sequences, tokenizer.pad_id, with_bases=True)


def test_the_counter_sees_what_waits():
    values = torch.arange(4.0)
    with WaitCounter() as counter:
        values[values > 1].sum().item()
        bool(values.any())
    assert counter.operators[0] in ("aten::index", "aten::nonzero")
    assert counter.operators.count("aten::_local_scalar_dense") == 2


@pytest.mark.parametrize("positive_weight", [None, torch.tensor(3.0)])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_of_bases_waits_for_nothing_and_is_the_mean_over_labels(positive_weight, smoothing):
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(1)).requires_grad_()
    labels = torch.randint(0, 2, (3, 50), generator=torch.Generator().manual_seed(2))
    labels[1, 20:], labels[2] = IGNORE, IGNORE
    with WaitCounter() as counter:
        loss = binary_cross_entropy(logits, labels, positive_weight, smoothing)
        loss.backward()
    assert counter.operators == []
    known = labels != IGNORE
    own = logits.detach().clone().requires_grad_()
    targets = labels[known].float() * (1 - smoothing) + smoothing / 2
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        own[known], targets, pos_weight=positive_weight
    )
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(logits.grad, own.grad)


def test_the_loss_without_labels_is_zero_even_next_to_values_that_are_not_numbers():
    logits = torch.tensor([[1.0, float("nan"), float("inf")]]).requires_grad_()
    loss = binary_cross_entropy(logits, torch.tensor([[IGNORE] * 3]))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.tolist() == [[0.0, 0.0, 0.0]]


def test_the_loss_of_classes_waits_for_nothing():
    logits = torch.randn(6, 2).requires_grad_()
    with WaitCounter() as counter:
        cross_entropy(logits, torch.tensor([0, 1, IGNORE, 1, 0, 0]), torch.tensor([1.0, 8.0])).backward()
    assert counter.operators == []


@pytest.mark.parametrize("objective", ["base", "token"])
def test_a_training_step_waits_only_for_the_starts_of_zhunt_calls(tokenizer, objective):
    torch.manual_seed(0)
    head = {"base_head": {"channels": 8, "context": 8}} if objective == "base" else {}
    module = create("compact", objective, tokenizer, **SHAPE, **head).module.train()
    module.config.class_weights = [1.0, 8.0]
    inputs = base_inputs(tokenizer)
    if objective == "token":
        inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    labels = torch.zeros_like(inputs["bases" if objective == "base" else "input_ids"])
    module(**inputs, labels=labels)  # tables are copied to the device once
    with WaitCounter() as counter:
        module(**inputs, labels=labels).loss.backward()
    assert counter.operators == (["aten::nonzero"] if objective == "base" else [])


@torch.no_grad()
def test_a_batch_of_inference_waits_only_for_the_starts_of_zhunt_calls(tokenizer):
    module = create("compact", "base", tokenizer, **SHAPE).module.eval()
    inputs = base_inputs(tokenizer)
    module(**inputs, core=(50, 150))
    with WaitCounter() as counter:
        module(**inputs, core=(50, 150))
    assert counter.operators == ["aten::nonzero"]


@torch.no_grad()
@pytest.mark.parametrize("rows", [1, 4])
def test_a_batch_of_a_wide_context_waits_for_nothing_if_the_first_factor_is_known(tokenizer, rows):
    context = {"widths": [8, 8, 8], "dilations": [1, 2], "blocks": [0, 1, 1]}
    settings = {"base_head": {"channels": 8, "call_distance": 4, "wide_context": context}}
    module = create("compact", "base", tokenizer, **SHAPE, **settings).module.eval()
    inputs = base_inputs(tokenizer, rows)
    inputs["first_factor"] = module.first_factor(inputs["bases"])
    widths = [200 - 10 * row for row in range(rows)]
    with WaitCounter() as counter:
        output = module(**inputs, core=(50, 150), widths=widths)
    assert counter.operators == []
    assert output.logits.equal(module(**inputs, core=(50, 150)).logits)
