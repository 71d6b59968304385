"""Shapes and receptive field of the context network."""

import pytest
import torch

from zflipon.models.heads.context_network import ContextNetwork, Convolution, TrackReadout
from zflipon.models.heads.wide_context import WideContext


@pytest.fixture
def network():
    torch.manual_seed(0)
    return ContextNetwork(widths=(8, 12, 16), dilations=(1, 4)).eval()


def test_states_have_one_row_per_bin(network):
    states = network(torch.rand(2, 1024, 4))
    assert states.fine.shape == (2, 32, 16)
    assert states.coarse.shape == (2, 8, 16)
    assert TrackReadout(16, 5)(states.coarse).shape == (2, 8, 5)


def test_a_base_reaches_no_further_than_the_dilations(network):
    """Both blocks see three bins: with dilations of 1 and 4, a base changes bins at most 5 away, and a stem's reach."""
    bases = torch.zeros(1, 4096, 4)
    changed = bases.clone()
    changed[0, 2048, 2] = 1
    difference = (network(changed).coarse - network(bases).coarse).abs().sum(-1)[0]
    reached = torch.nonzero(difference > 0).flatten()
    assert reached.min() >= 2048 // 128 - 5 - 2 - 3
    assert reached.max() <= 2048 // 128 + 5 + 2 + 3


@pytest.mark.parametrize(("kernel", "dilation"), [(5, 1), (5, 2), (3, 1), (3, 4)])
def test_convolution_equals_the_one_dimensional_one(kernel, dilation):
    torch.manual_seed(0)
    ours = Convolution(4, 6, kernel, dilation=dilation)
    plain = torch.nn.Conv1d(4, 6, kernel, padding=dilation * (kernel - 1) // 2, dilation=dilation)
    plain.weight.data, plain.bias.data = ours.weight.data.squeeze(2), ours.bias.data
    x = torch.rand(2, 4, 50)
    torch.testing.assert_close(ours(x.unsqueeze(2)).squeeze(2), plain(x))


def test_the_wide_context_has_one_row_per_bin_of_the_head():
    torch.manual_seed(0)
    context = WideContext(widths=(8, 12, 16), dilations=(1, 4), dropout=0.0).eval()
    letters, states = torch.rand(2, 4, 1040), torch.rand(2, 7, 3)
    mask = torch.ones(2, 1, 1040, dtype=torch.bool)
    bins = context(letters, states, mask)
    assert bins.shape == (2, 65, 16)
    padded = torch.nn.functional.pad(letters, (0, 112))
    hidden, _ = context.read(padded.transpose(1, 2))
    torch.testing.assert_close(bins[:, 10], hidden[:, 5])


def test_a_short_sequence_has_the_same_wide_context_alone_and_beside_longer_ones():
    torch.manual_seed(0)
    context = WideContext(widths=(8, 12, 16), dilations=(1, 4), dropout=0.0).eval()
    letters, states = torch.rand(3, 4, 2048), torch.rand(3, 7, 3)
    mask = torch.ones(3, 1, 2048, dtype=torch.bool)
    mask[1, :, 400:], letters[1, :, 400:] = False, 0
    bins = context(letters, states, mask)
    for row, size in ((0, 2048), (1, 400), (2, 2048)):
        part = slice(row, row + 1)
        alone = context(letters[part, :, :size], states[part], mask[part, :, :size])
        torch.testing.assert_close(bins[part, : size // 16], alone, rtol=1e-5, atol=1e-6)


def test_with_a_wide_context_a_core_has_the_logits_of_the_whole_window():
    from zflipon.models.heads.base_resolution import BaseHead, head_settings

    torch.manual_seed(1)
    wide = {"widths": [8, 8, 8], "dilations": [1]}
    head = BaseHead(4, **head_settings({"channels": 8, "wide_context": wide})).eval()
    bases = torch.randint(0, 4, (2, 4096))
    bases[:, 2000:2040] = torch.tensor([1, 2] * 20)
    tokens = torch.zeros(2, 4096, dtype=torch.long)
    states = torch.zeros(2, 1, 4)
    with torch.no_grad():
        whole = head(states, tokens, bases)
        core = head(states, tokens, bases, core=(1500, 2500))
    for name in ("logits", "can_form_logit", "is_formed_logit"):
        one, other = (getattr(each, name)[:, 1500:2500] for each in (whole, core))
        torch.testing.assert_close(one, other)
