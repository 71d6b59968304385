"""The base-resolution head: its inputs, its two factors, its context and its losses."""

import numpy as np
import pytest
import torch
from conftest import dna

from zflipon.energetics import published
from zflipon.errors import ModelError
from zflipon.genome.alphabet import PADDING_BASE, base_codes
from zflipon.models import create
from zflipon.models.heads.base_inputs import ZHUNT_CHANNELS, zhunt_features
from zflipon.models.heads.base_resolution import (
    HEAD_DEFAULTS,
    BaseHead,
    mean_over_calls,
)
from zflipon.models.heads.bin_context import BIN_SIZE, interpolate_bins
from zflipon.models.heads.first_factor import FAR_FROM_CALLS
from zflipon.models.heads.kmers import KMER_RADII, kmer_indices
from zflipon.tokenization.alignment import IGNORE


def codes(*sequences: str) -> torch.Tensor:
    """Return a padded batch of nucleotide codes: int64, shape (sequences, longest)."""
    longest = max(map(len, sequences))
    batch = torch.full((len(sequences), longest), PADDING_BASE)
    for row, sequence in zip(batch, sequences, strict=True):
        row[: len(sequence)] = torch.from_numpy(base_codes(sequence))
    return batch


def head(**changes) -> BaseHead:
    torch.manual_seed(3)
    shape = {
        "channels": 8,
        "kernel": 5,
        "dilations": [1, 2],
        "dropout": 0.5,
        "context": 12,
        "context_dilations": [1, 2],
        "zhunt": [6, 12],
        "tracks": 3,
    }
    return BaseHead(6, **{**shape, **changes})


def inputs(*sequences: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return token states with one token per base, the token of each base, and nucleotide codes."""
    bases = codes(*sequences)
    states = torch.randn(*bases.shape, 6, generator=torch.Generator().manual_seed(1))
    return states, torch.arange(bases.shape[1]).expand_as(bases).contiguous(), bases


def test_zhunt_channels_follow_zhunt():
    sequence = dna(120, seed=2) + "CG" * 9 + "NN" + dna(40, seed=4)
    channels, in_call = zhunt_features(codes(sequence, sequence[:50]), 6, 12)
    assert channels.shape == (2, ZHUNT_CHANNELS, len(sequence))
    shortest, excess, ends = published.published_call_starts(codes(sequence))
    readiness = np.maximum(26 - shortest[0].numpy(), 0) / 3
    np.testing.assert_allclose(channels[0, 0], readiness, atol=1e-5)
    np.testing.assert_allclose(
        channels[0, 1], [max(readiness[max(0, i - 11) : i + 1]) for i in range(len(sequence))]
    )
    torch.testing.assert_close(channels[0, 2], excess[0].clamp(min=0))
    assert (channels[0, 3] == (excess[0] >= 0)).all()
    assert (in_call[0] == published.call_mask(excess >= 0, ends)[0]).all()
    assert (channels[:, 4] == in_call).all()
    assert in_call[0, 120:138].all()
    assert (channels[1, :, 50:] == 0).all()
    assert (channels[1, 0, 39:] == 0).all()
    torch.testing.assert_close(channels[1, :, :50], zhunt_features(codes(sequence[:50]), 6, 12)[0][0])


def test_bases_of_one_call_get_their_mean():
    values = torch.tensor([[1.0, 2.0, 4.0, 3.0, 5.0, 7.0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]])
    in_call = torch.tensor([[0, 1, 1, 0, 1, 1], [0, 0, 0, 0, 0, 0]], dtype=torch.bool)
    means = mean_over_calls(values, in_call)
    torch.testing.assert_close(means[0], torch.tensor([1.0, 3.0, 3.0, 3.0, 6.0, 6.0]))
    torch.testing.assert_close(means[1], values[1])


def test_the_mean_of_a_long_call_is_exact_in_the_precision_of_a_gpu():
    """Sums of 2,000 values in bfloat16 would be off by several tenths."""
    values = torch.linspace(-3, 5, 2000).bfloat16()[None]
    means = mean_over_calls(values, torch.ones(1, 2000, dtype=torch.bool))
    assert means.dtype == torch.float32
    torch.testing.assert_close(means, values.double().mean().float().expand(1, 2000), atol=1e-5, rtol=0)


def test_the_activity_is_interpolated_and_averaged_in_float32_under_autocast():
    network = head().eval()
    states, base_tokens, bases = inputs(dna(60, 1) + "CG" * 20 + dna(60, 2))
    with torch.no_grad():
        expected = network(states, base_tokens, bases).is_formed_logit
        with torch.autocast("cpu", torch.bfloat16):
            actual = network(states, base_tokens, bases).is_formed_logit
    assert actual.dtype == torch.float32
    assert (actual - actual.bfloat16().float()).abs().max() > 0  # not rounded after the last layer
    torch.testing.assert_close(actual, expected, atol=0.05, rtol=0)


def test_the_probability_is_the_product_of_the_factors():
    network = head().eval()
    network.is_formed.weight.data.zero_()
    with torch.no_grad():
        calls = network(*inputs(dna(70)))
    is_formed = torch.sigmoid(network.is_formed.bias - 1.5)
    torch.testing.assert_close(
        calls.logits.sigmoid(), calls.can_form_logit.sigmoid() * is_formed, rtol=1e-4, atol=1e-7
    )
    assert calls.track_logits is None


def test_bases_far_from_every_call_hardly_form_z_dna():
    text = dna(200, seed=2) + "CG" * 9 + dna(200, seed=4)
    plain, limited = head().eval(), head(call_distance=3).eval()
    with torch.inference_mode():
        (learnt, in_call), (given, _) = (each.candidates(codes(text)) for each in (plain, limited))
    called = np.flatnonzero(in_call[0].numpy())
    assert len(called)
    distance = np.abs(np.arange(len(text))[:, None] - called).min(axis=1)
    expected = np.where(distance <= 3, learnt[0].numpy(), FAR_FROM_CALLS)
    np.testing.assert_allclose(given[0].numpy(), expected, atol=1e-5)


def test_the_first_factor_read_near_calls_equals_that_of_all_bases():
    # calls at both ends, next to each other, apart, in one row only; rows of different lengths
    texts = [
        "CG" * 8 + dna(300, seed=2) + "CG" * 9 + dna(20, seed=3) + "GT" * 12 + dna(600, seed=4) + "CG" * 20,
        dna(333, seed=5) + "CGCGCGCACGCG",
        dna(200, seed=6),
        "N" * 7 + "CG" * 7 + "N" * 9,
    ]
    network = head(call_distance=3).eval()
    bases = codes(*texts)
    with torch.inference_mode():
        near = network.first_factor(bases)
        logits, in_call = network.candidates(bases)
    assert in_call.any(dim=1).tolist() == [True, True, False, True]
    assert torch.equal(near[:, 1] > 0, in_call)
    known = bases != PADDING_BASE
    torch.testing.assert_close(near[:, 0][known], logits[known], rtol=0, atol=1e-5)
    assert (near[:, 0][known] > FAR_FROM_CALLS).sum() > in_call.sum()


def test_outside_the_core_only_what_is_needed_is_computed():
    network = head(call_distance=3).eval()
    given = inputs(dna(1500, seed=5) + "CG" * 9 + dna(1500, seed=6))
    with torch.inference_mode():
        factor = network.first_factor(given[2])
        whole = network(*given, first_factor=factor)
        part = network(*given, first_factor=factor, core=(1490, 1530))
    for expected, found in zip(whole[:3], part[:3], strict=True):
        torch.testing.assert_close(found[:, 1490:1530], expected[:, 1490:1530])
    assert (part.logits[:, :900] == 0).all()
    assert (whole.logits[:, :900] != 0).all()


@pytest.mark.parametrize("zhunt", [[6, 12], []])
def test_a_first_factor_that_is_known_is_not_computed_again(zhunt):
    base_head = head(zhunt=zhunt, call_distance=3).eval()
    given = inputs(dna(90, seed=5) + "CG" * 9 + dna(33, seed=6), dna(70, seed=7))
    with torch.inference_mode():
        expected = base_head(*given)
        factor = base_head.first_factor(given[2])
        found = base_head(*given, first_factor=factor)
        other = base_head(*given, first_factor=factor + torch.tensor([1.0, 0.0])[:, None])
    is_base = given[2] != PADDING_BASE
    for one, same in zip(expected[:3], found[:3], strict=True):
        torch.testing.assert_close(one[is_base], same[is_base], rtol=0, atol=1e-5)
    torch.testing.assert_close(other.can_form_logit, found.can_form_logit + 1)
    torch.testing.assert_close(other.is_formed_logit, found.is_formed_logit)


@pytest.mark.parametrize("size", [1, 15, 16, 17, 100])
def test_padding_changes_nothing(size):
    network = head().eval()
    sequence = dna(size, seed=size)
    states, tokens, bases = inputs(sequence, dna(131))
    with torch.no_grad():
        together = network(states, tokens, bases)
        alone = network(states[:1, :size], tokens[:1, :size], bases[:1, :size])
    for one, other in ((together.logits, alone.logits), (together.can_form_logit, alone.can_form_logit)):
        torch.testing.assert_close(one[:1, :size], other, rtol=1e-4, atol=1e-5)


def test_without_zhunt_and_without_tracks():
    network = head(zhunt=[], tracks=0).train()
    calls = network(*inputs(dna(33)))
    assert calls.logits.shape == (1, 33)
    assert calls.track_logits is None


@pytest.mark.parametrize("size", [1, 3, 8])
def test_kmers_are_numbered_in_base_four(size):
    sequence = dna(40)[:25] + "N" + dna(40)[25:]
    index, valid = (each[0].tolist() for each in kmer_indices(codes(sequence), size))
    assert len(index) == len(sequence) - size + 1
    for start, (number, known) in enumerate(zip(index, valid, strict=True)):
        kmer = sequence[start : start + size]
        assert known == ("N" not in kmer)
        if known:
            assert number == int("".join(str("ACGT".index(letter)) for letter in kmer), 4)


@pytest.mark.parametrize("size", [-1, 11])
def test_kmers_too_long_for_a_table_are_refused(size):
    with pytest.raises(ModelError, match="kmer_size must be from 1 to 10"):
        head(kmer_size=size)


def test_a_bin_reads_the_mean_log_odds_of_the_kmers_around_it():
    network = head(kmer_size=4).eval()
    network.kmers.log_odds.copy_(
        torch.randn(len(KMER_RADII), 256, generator=torch.Generator().manual_seed(2))
    )
    sequence = dna(1500, 1) + "N" * 30 + dna(600, 2)
    with torch.no_grad():
        features = network.context_features(*inputs(sequence))[0, :, -len(KMER_RADII) :].numpy()
    for row, radius in enumerate(KMER_RADII):
        log_odds = np.zeros(len(sequence))
        for start in range(len(sequence) - 3):
            kmer = sequence[start : start + 4]
            if "N" not in kmer:
                number = int("".join(str("ACGT".index(each)) for each in kmer), 4)
                log_odds[start + 1] = network.kmers.log_odds[row, number]
        for number in range(-(-len(sequence) // BIN_SIZE)):
            around = log_odds[max(0, number * BIN_SIZE - radius) : (number + 1) * BIN_SIZE + radius]
            assert features[number, row] == pytest.approx(around.mean(), abs=1e-5)


def test_kmers_change_the_second_factor_only():
    network = head(kmer_size=5).eval()
    states, tokens, bases = inputs(dna(60), dna(700, 1))
    with torch.no_grad():
        before = network(states, tokens, bases)
        network.kmers.log_odds.fill_(2.0)
        after = network(states, tokens, bases)
        alone = network(states[:1, :60], tokens[:1, :60], bases[:1, :60])
    assert after.can_form_logit.equal(before.can_form_logit)
    # 56 of 60 bases have a complete k-mer, and each radius covers all of them
    change = network.is_formed.weight[0, -len(KMER_RADII) :].sum() * 2.0 * 56 / 60
    torch.testing.assert_close(
        after.is_formed_logit[0, :60] - before.is_formed_logit[0, :60], change.expand(60), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(after.logits[:1, :60], alone.logits, rtol=1e-4, atol=1e-5)


def test_bins_are_interpolated_linearly():
    inside = torch.ones(1, 1, 3 * BIN_SIZE, dtype=torch.bool)
    line = interpolate_bins(torch.tensor([[[0.0], [16.0], [32.0]]]), inside)[0, 0]
    np.testing.assert_allclose(line[8:40].diff(), 1.0)
    assert (line[:8] == 0).all()
    assert (line[40:] == 32).all()


def test_each_target_trains_its_own_part(tokenizer):
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    module = create(
        "compact", "base", tokenizer, base_head={"channels": 8, "tracks": 2}, **shape
    ).module.train()
    sequence = dna(64)
    batch = {
        "input_ids": torch.zeros(1, 64, dtype=torch.long),
        "base_tokens": torch.arange(64)[None],
        "bases": codes(sequence),
    }
    none = torch.full((1, 64), IGNORE)
    ones = torch.ones(1, 64, dtype=torch.long)
    tracks = torch.ones(1, 2, 4, dtype=torch.long)
    assert module(**batch).loss is None
    assert module(**batch, labels=none, candidates=none).loss == 0
    losses = {}
    for given in ({"labels": ones}, {"candidates": ones}, {"tracks": tracks}):
        module.zero_grad()
        losses[next(iter(given))] = module(**batch, **given).loss
        losses[next(iter(given))].backward()
        touched = {
            name for name, each in module.named_parameters() if each.grad is not None and each.grad.any()
        }
        assert ("base_head.is_formed.weight" in touched) == ("labels" in given)
        assert ("base_head.can_form.weight" in touched) == ("tracks" not in given)
        assert ("base_head.tracks.weight" in touched) == ("tracks" in given)
        assert ("base_head.context.motifs.weight" in touched) == ("candidates" not in given)
    module.eval()
    assert module(**batch, labels=ones).loss > module(**batch, candidates=ones).loss > 4


def test_candidates_train_the_first_factor_without_the_encoder(tokenizer):
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    module = create("compact", "base", tokenizer, base_head={"channels": 8}, **shape).module
    bases = codes(dna(70), dna(40))
    ones = torch.where(bases == PADDING_BASE, IGNORE, 1)
    batch = {
        "input_ids": torch.zeros(2, 70, dtype=torch.long),
        "base_tokens": torch.zeros_like(bases),
        "bases": bases,
    }
    whole = module.eval()(**batch, candidates=ones)
    alone = module.train()(**batch, candidates=ones)
    inside = bases != PADDING_BASE
    torch.testing.assert_close(alone.can_form_logit[inside], whole.can_form_logit[inside])
    torch.testing.assert_close(alone.loss, whole.loss)


def test_tracks_train_the_context_without_single_bases(tokenizer, monkeypatch):
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    head = {"channels": 8, "tracks": 3, "dropout": 0.0}
    module = create(
        "compact", "base", tokenizer, base_head=head, hidden_dropout_prob=0.0, **shape
    ).module.train()
    bases = codes(dna(70), dna(40))
    tracks = torch.randint(0, 2, (2, 3, 5), generator=torch.Generator().manual_seed(0))
    batch = {
        "input_ids": torch.zeros(2, 70, dtype=torch.long),
        "base_tokens": torch.zeros_like(bases),
        "bases": bases,
    }
    none = torch.full_like(bases, IGNORE)
    whole = module(**batch, tracks=tracks, candidates=none).loss
    monkeypatch.setattr(module.base_head, "read_bases", None)
    torch.testing.assert_close(module(**batch, tracks=tracks).loss, whole)


def test_logits_of_a_core_are_those_of_the_whole_window():
    """Within a core, the first factor is computed from the bases in reach only."""
    torch.manual_seed(0)
    shape = {**HEAD_DEFAULTS, "dropout": 0.0}
    head = BaseHead(8, **shape).eval()
    bases = torch.randint(0, 4, (2, 500))
    states, base_tokens = (
        torch.randn(2, 100, 8),
        torch.arange(500).div(5, rounding_mode="floor").expand(2, -1),
    )
    whole = head(states, base_tokens, bases).logits
    for low, high in ((0, 500), (150, 350), (0, 40), (460, 500)):
        part = head(states, base_tokens, bases, (low, high)).logits
        assert part.shape == whole.shape
        torch.testing.assert_close(part[:, low:high], whole[:, low:high])
    assert not torch.allclose(head(states, base_tokens, bases, (200, 220)).logits, whole)
