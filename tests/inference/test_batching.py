"""Which sequences share a batch."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from inference_models import generator, mixed_sequences

from zflipon.inference.batching import MAX_PADDING, Batcher
from zflipon.inference.devices import DEVICE_PROFILES

CPU = torch.device("cpu")


@pytest.fixture
def sequences():
    return mixed_sequences(generator())


def padding(batch):
    """Return the padded and the used number of tokens of a batch."""
    return batch.inputs["input_ids"].numel(), batch.tokens.counts.sum()


def test_every_sequence_is_in_one_batch_of_at_most_the_given_size(tokenizer, sequences):
    batches = list(Batcher(tokenizer, CPU, with_bases=True, batch_size=8).batches(sequences))
    assert sorted(np.concatenate([batch.indices for batch in batches])) == list(range(len(sequences)))
    assert [len(batch.indices) for batch in batches] == [8] * 8 + [6]
    for batch in batches:
        assert batch.widths.tolist() == [len(sequences[i]) for i in batch.indices]
        assert batch.base_mask.sum(axis=1).tolist() == batch.widths.tolist()
        assert batch.inputs["bases"].shape == (len(batch.indices), batch.widths.max())


def test_the_automatic_batch_size_limits_tokens(tokenizer, sequences):
    profile = replace(DEVICE_PROFILES["cpu"], tokens_per_batch=1000)
    batches = list(Batcher(tokenizer, CPU, with_bases=False, profile=profile).batches(sequences))
    longest = max(batch.tokens.counts.max() for batch in batches)
    for batch in batches[:-1]:
        # as many of the longest sequences as fit, or of shorter ones a multiple of that
        assert len(batch.indices) % (1000 // longest) == 0
        assert len(batch.indices) * batch.tokens.counts.max() <= 1000
    assert max(len(batch.indices) for batch in batches) > 1000 // longest
    assert "bases" not in batches[0].inputs


def test_the_core_of_a_batch_encloses_those_of_its_sequences(tokenizer):
    cores = np.array([[10, 20], [15, 40], [12, 18]])
    (batch,) = Batcher(tokenizer, CPU, with_bases=True, batch_size=8).batches(["ACGT" * 20] * 3, cores)
    assert batch.core == (10, 40)
    assert list(Batcher(tokenizer, CPU, with_bases=True).batches([])) == []


def test_the_core_of_a_batch_holds_whole_calls_of_its_sequences(tokenizer):
    factors = np.zeros((3, 2, 80), dtype=np.float32)
    factors[0, 1, 5:12] = factors[1, 1, 18:60] = factors[2, 1, 61:70] = factors[2, 1, :3] = 1
    cores = np.array([[10, 20], [10, 20], [10, 20]])
    batcher = Batcher(tokenizer, CPU, with_bases=True, batch_size=1)
    batches = list(batcher.batches(["ACGT" * 20] * 3, cores, first_factors=list(factors)))
    assert [batch.core for batch in batches] == [(5, 20), (10, 60), (10, 20)]


def test_sequences_whose_cores_are_close_share_a_batch(tokenizer):
    starts = np.random.default_rng(1).permutation(64)
    cores = np.stack([starts, starts + 5], axis=1)
    batches = list(Batcher(tokenizer, CPU, True, batch_size=8).batches(["ACGT" * 20] * 64, cores))
    assert [batch.core for batch in batches] == [(first, first + 12) for first in range(0, 64, 8)]


def test_trimmed_batches_hold_little_padding(tokenizer, sequences):
    batcher = Batcher(tokenizer, CPU, with_bases=True, batch_size=1000)
    (whole,) = batcher.batches(sequences)
    padded, used = padding(whole)
    assert padded - used > 0.2 * padded

    profile = replace(DEVICE_PROFILES["cpu"], trim_from_tokens=600)
    batches = list(Batcher(tokenizer, CPU, True, batch_size=1000, profile=profile).batches(sequences))
    assert len(batches) > 3
    assert sorted(np.concatenate([batch.indices for batch in batches])) == list(range(len(sequences)))
    for batch in batches:
        padded, used = padding(batch)
        assert padded - used <= MAX_PADDING * padded or used <= 600
    for batch, following in pairwise(batches):  # no batch ends earlier than it has to
        size, longest = len(batch.indices) + 1, following.tokens.counts[0]
        used = batch.tokens.counts.sum() + longest
        assert used > 600
        assert size * longest - used > MAX_PADDING * size * longest
