"""Labels to tokens and tokens to bases: known answers, slow loops, and there and back."""

from fractions import Fraction

import numpy as np
import pytest
from conftest import dna

from zflipon.tokenization.alignment import (
    COMPARISONS,
    IGNORE,
    labels_to_tokens,
    token_of_base,
    tokens_to_bases,
)

LENGTHS = np.array([0, 3, 5, 1, 4, 2, 0])  # the special tokens at the ends hold no base


def random_lengths(rng):
    return np.array([0, *rng.integers(1, 8, rng.integers(0, 12)), 0])


def test_the_token_of_the_paper():
    """Three of the four bases of ATCT are Z-DNA: 0.75, positive at 0.6 and at 0.7, not at 0.8."""
    labels = np.array([1, 1, 1, 0])
    lengths = np.array([0, 4, 0])
    for threshold, expected in [(0.6, 1), (0.7, 1), (0.8, 0)]:
        for comparison in COMPARISONS:
            found = labels_to_tokens(labels, lengths, threshold, comparison)
            assert found.tolist() == [IGNORE, expected, IGNORE]


@pytest.mark.parametrize(
    ("labelled", "length", "threshold"), [(3, 4, 0.75), (3, 5, 0.6), (7, 10, 0.7), (1, 3, 1 / 3), (2, 2, 1.0)]
)
def test_share_of_exactly_the_threshold(labelled, length, threshold):
    labels = np.arange(length) < labelled
    lengths = np.array([length])
    assert labels_to_tokens(labels, lengths, threshold, ">=").tolist() == [1]
    assert labels_to_tokens(labels, lengths, threshold, ">").tolist() == [0]
    assert labels_to_tokens(labels, lengths, threshold).tolist() == [1]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("comparison", [">=", ">"])
def test_labels_to_tokens_against_a_slow_loop(seed, comparison):
    rng = np.random.default_rng(seed)
    lengths = random_lengths(rng)
    labels = rng.random(lengths.sum()) < 0.6
    for threshold in (Fraction(3, 10), Fraction(1, 2), Fraction(2, 3), Fraction(7, 10), Fraction(1)):
        expected, base = [], 0
        for length in lengths.tolist():
            share = Fraction(int(labels[base : base + length].sum()), length) if length else None
            base += length
            if share is None:
                expected.append(-100)
            else:
                expected.append(int(share >= threshold if comparison == ">=" else share > threshold))
        found = labels_to_tokens(labels, lengths, float(threshold), comparison)
        assert found.tolist() == expected
        assert found.dtype == np.int64


def test_special_tokens_have_no_label_and_no_base():
    found = labels_to_tokens(np.ones(15, dtype=bool), LENGTHS, 0.5)
    assert found.tolist() == [-100, 1, 1, 1, 1, 1, -100]
    assert labels_to_tokens(np.zeros(0), np.array([0, 0]), 0.5).tolist() == [-100, -100]
    assert tokens_to_bases(np.array([7, 8]), np.array([0, 0])).tolist() == []


@pytest.mark.parametrize("dtype", [np.float32, np.int64, bool])
def test_tokens_to_bases_against_a_slow_loop(dtype):
    values = np.array([9, 0, 1, 2, 3, 0, 9]).astype(dtype)
    expected = [value for value, length in zip(values.tolist(), LENGTHS, strict=True) for _ in range(length)]
    found = tokens_to_bases(values, LENGTHS)
    assert found.tolist() == expected
    assert found.dtype == dtype


def test_tokens_to_bases_of_rows():
    values = np.arange(14).reshape(7, 2)
    found = tokens_to_bases(values, LENGTHS)
    assert found.shape == (15, 2)
    assert found[:4].tolist() == [[2, 3], [2, 3], [2, 3], [4, 5]]


def test_token_of_base():
    found = token_of_base(LENGTHS)
    assert found.tolist() == [1, 1, 1, 2, 2, 2, 2, 2, 3, 4, 4, 4, 4, 5, 5]
    values = np.arange(7) * 1.5
    assert tokens_to_bases(values, LENGTHS).tolist() == values[found].tolist()


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("comparison", [">=", ">"])
def test_labels_that_follow_tokens_come_back(seed, comparison):
    rng = np.random.default_rng(seed)
    lengths = random_lengths(rng)
    chosen = rng.integers(0, 2, len(lengths))
    labels = tokens_to_bases(chosen, lengths)
    for threshold in (0.01, 0.5, 0.99):
        tokens = labels_to_tokens(labels, lengths, threshold, comparison)
        assert tokens[lengths > 0].tolist() == chosen[lengths > 0].tolist()
        assert tokens_to_bases(tokens, lengths).tolist() == labels.tolist()


def test_there_and_back_over_a_tokenizer(tokenizer):
    sequence = dna(400, 1) + "NRY" + dna(400, 2)
    lengths = tokenizer.encode([sequence])[0].lengths
    labels = np.zeros(len(sequence), dtype=bool)
    labels[100:140] = labels[402:420] = True
    back = tokens_to_bases(labels_to_tokens(labels, lengths, 0.5), lengths)
    # only tokens that straddle an edge of a label can be wrong, each by less than half of it
    wrong = np.flatnonzero(back != labels)
    edges = token_of_base(lengths)[[99, 100, 139, 140, 401, 402, 419, 420]]
    assert set(token_of_base(lengths)[wrong].tolist()) <= set(edges.tolist())
    assert len(wrong) <= 4 * (lengths.max() // 2)
    assert len(back) == len(sequence)
