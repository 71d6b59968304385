"""Attention with linear biases on GPUs: padding is masked without a bias per sequence."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from zflipon.models.families.bert import attend
from zflipon.models.families.dnabert2 import (
    DnaBert2Config,
    DnaBert2Encoder,
    SharedBias,
    attend_shared,
    linear_bias,
)

BATCH, HEADS, TOKENS, WIDTH = 3, 4, 21, 16
COUNTS = torch.tensor([21, 13, 1])


def random_heads(dtype=torch.float32):
    generator = torch.Generator().manual_seed(4)
    return [torch.randn(BATCH, HEADS, TOKENS, WIDTH, generator=generator).to(dtype) for _ in range(3)]


def biases(dtype=torch.float32):
    """Return the shared biases, and the biases of each sequence that mask its padding."""
    linear = linear_bias(HEADS, TOKENS)[None].to(dtype)
    is_padding = torch.arange(TOKENS) >= COUNTS[:, None]
    masked = linear.masked_fill(is_padding[:, None, None, :], torch.finfo(dtype).min)
    return SharedBias(linear, is_padding), masked


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 0.02), (torch.float16, 0.003)]
)
def test_shared_biases_mask_padding_as_a_bias_per_sequence_does(dtype, tolerance):
    q, k, v = random_heads(dtype)
    shared, masked = biases(dtype)
    expected = attend(q, k, v, masked, 0.0)
    torch.testing.assert_close(attend_shared(q, k, v, shared, 0.0), expected, atol=tolerance, rtol=0)


def test_gradients_of_shared_biases_are_those_of_a_bias_per_sequence():
    shared, masked = biases()
    gradients = []
    for compute, bias in ((attend_shared, shared), (attend, masked)):
        inputs = [each.requires_grad_() for each in random_heads()]
        compute(*inputs, bias, 0.0).square().sum().backward()
        gradients.append([each.grad for each in inputs])
    for actual, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4)


def test_values_of_padding_do_not_matter():
    q, k, v = random_heads()
    shared, _ = biases()
    changed = [each.clone() for each in (k, v)]
    for each in changed:
        each[shared.is_padding[:, None, :, None].expand_as(each)] = 100.0
    torch.testing.assert_close(
        attend_shared(q, *changed, shared, 0.0), attend_shared(q, k, v, shared, 0.0), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("tokens", [64, 61])
def test_no_bias_grows_with_the_batch_on_a_gpu(monkeypatch, tokens):
    """The device meta stands for a GPU: shapes are computed, values are not."""
    config = DnaBert2Config(
        vocab_size=32, hidden_size=32, num_hidden_layers=2, num_attention_heads=HEADS, intermediate_size=32
    )
    encoder = DnaBert2Encoder(config).to("meta").eval()
    calls = []

    def record(q, k, v, attn_mask=None, **_options):
        calls.append(SimpleNamespace(mask=attn_mask, widths={q.shape[-1], k.shape[-1]}))
        return torch.empty_like(v)

    monkeypatch.setattr(F, "scaled_dot_product_attention", record)
    ids = torch.zeros(50, tokens, dtype=torch.int64, device="meta")
    states = encoder(input_ids=ids, attention_mask=torch.ones_like(ids))
    assert states.shape == (50, tokens, 32)
    assert len(calls) == 2
    for call in calls:
        assert call.mask.shape == (1, HEADS, tokens, tokens)
        assert call.mask.untyped_storage().nbytes() == 4 * HEADS * 64 * 64
        assert [step % 8 for step in call.mask.stride()[:-1]] == [0, 0, 0]
        assert [width % 8 for width in call.widths] == [0]
