"""Labels to tokens and tokens to bases: known answers, slow loops, and the round trip as a property."""

from fractions import Fraction

import numpy as np
import pytest
from conftest import dna
from hypothesis import given, settings
from hypothesis import strategies as st

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


def test_the_example_of_the_paper():
    """Three of the four bases of ATCT are Z-DNA: 0.75, positive at 0.6 and at 0.7, not at 0.8."""
    labels = np.array([1, 1, 1, 0])
    lengths = np.array([0, 4, 0])
    for threshold, expected in [(0.6, 1), (0.7, 1), (0.8, 0)]:
        for comparison in COMPARISONS:
            result = labels_to_tokens(labels, lengths, threshold, comparison)
            assert result.tolist() == [IGNORE, expected, IGNORE]


@pytest.mark.parametrize(
    ("labelled", "length", "threshold"), [(3, 4, 0.75), (3, 5, 0.6), (7, 10, 0.7), (1, 3, 1 / 3), (2, 2, 1.0)]
)
def test_a_fraction_equal_to_the_threshold(labelled, length, threshold):
    labels = np.arange(length) < labelled
    lengths = np.array([length])
    assert labels_to_tokens(labels, lengths, threshold, ">=").tolist() == [1]
    assert labels_to_tokens(labels, lengths, threshold, ">").tolist() == [0]
    assert labels_to_tokens(labels, lengths, threshold).tolist() == [1]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("comparison", [">=", ">"])
def test_labels_to_tokens_agrees_with_a_slow_loop(seed, comparison):
    rng = np.random.default_rng(seed)
    lengths = random_lengths(rng)
    labels = rng.random(lengths.sum()) < 0.6
    for threshold in (Fraction(3, 10), Fraction(1, 2), Fraction(2, 3), Fraction(7, 10), Fraction(1)):
        expected, base = [], 0
        for length in lengths.tolist():
            fraction = Fraction(int(labels[base : base + length].sum()), length) if length else None
            base += length
            if fraction is None:
                expected.append(-100)
            else:
                expected.append(int(fraction >= threshold if comparison == ">=" else fraction > threshold))
        result = labels_to_tokens(labels, lengths, float(threshold), comparison)
        assert result.tolist() == expected
        assert result.dtype == np.int64


def test_special_tokens_have_no_label_and_no_bases():
    result = labels_to_tokens(np.ones(15, dtype=bool), LENGTHS, 0.5)
    assert result.tolist() == [-100, 1, 1, 1, 1, 1, -100]
    assert labels_to_tokens(np.zeros(0), np.array([0, 0]), 0.5).tolist() == [-100, -100]
    assert tokens_to_bases(np.array([7, 8]), np.array([0, 0])).tolist() == []


@pytest.mark.parametrize("dtype", [np.float32, np.int64, bool])
def test_tokens_to_bases_agrees_with_a_slow_loop(dtype):
    values = np.array([9, 0, 1, 2, 3, 0, 9]).astype(dtype)
    expected = [value for value, length in zip(values.tolist(), LENGTHS, strict=True) for _ in range(length)]
    result = tokens_to_bases(values, LENGTHS)
    assert result.tolist() == expected
    assert result.dtype == dtype


def test_tokens_to_bases_of_a_matrix():
    values = np.arange(14).reshape(7, 2)
    result = tokens_to_bases(values, LENGTHS)
    assert result.shape == (15, 2)
    assert result[:4].tolist() == [[2, 3], [2, 3], [2, 3], [4, 5]]


def test_token_of_base():
    result = token_of_base(LENGTHS)
    assert result.tolist() == [1, 1, 1, 2, 2, 2, 2, 2, 3, 4, 4, 4, 4, 5, 5]
    values = np.arange(7) * 1.5
    assert tokens_to_bases(values, LENGTHS).tolist() == values[result].tolist()


@st.composite
def tokens_with_values(draw):
    """Draw token lengths, special tokens of length 0 among them, and one 0/1 value per token."""
    lengths = draw(st.lists(st.integers(0, 9), max_size=30))
    values = draw(st.lists(st.integers(0, 1), min_size=len(lengths), max_size=len(lengths)))
    return np.array(lengths, dtype=np.int64), np.array(values, dtype=np.int64)


@settings(deadline=None)
@given(tokens_with_values(), st.floats(0.01, 0.99), st.sampled_from(list(COMPARISONS)))
def test_token_labels_survive_the_round_trip_over_bases(tokens, threshold, comparison):
    lengths, values = tokens
    labels = tokens_to_bases(values, lengths)
    back = labels_to_tokens(labels, lengths, threshold, comparison)
    assert back.tolist() == [
        value if length else IGNORE for value, length in zip(values, lengths, strict=True)
    ]
    assert tokens_to_bases(back, lengths).tolist() == labels.tolist()


@settings(deadline=None)
@given(st.text("ACGTNRYacgtn", max_size=300), st.data())
def test_base_labels_survive_the_round_trip_except_at_their_edges(tokenizer, sequence, data):
    (tokens,) = tokenizer.encode([sequence])
    assert tokens.lengths.sum() == len(sequence)
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(sequence))] * 2)))
    labels = np.zeros(len(sequence), dtype=bool)
    labels[start:end] = True
    back = tokens_to_bases(labels_to_tokens(labels, tokens.lengths, 0.5), tokens.lengths)
    wrong = np.flatnonzero(back != labels)
    owners = token_of_base(tokens.lengths)
    edges = {owners[base] for edge in (start, end) for base in (edge - 1, edge) if 0 <= base < len(sequence)}
    assert {owners[base] for base in wrong} <= edges


def test_round_trip_over_the_tokens_of_a_sequence(tokenizer):
    sequence = dna(400, 1) + "NRY" + dna(400, 2)
    lengths = tokenizer.encode([sequence])[0].lengths
    labels = np.zeros(len(sequence), dtype=bool)
    labels[100:140] = labels[402:420] = True
    back = tokens_to_bases(labels_to_tokens(labels, lengths, 0.5), lengths)
    # only tokens that straddle an edge of a label can change, each by less than half of its bases
    wrong = np.flatnonzero(back != labels)
    edges = token_of_base(lengths)[[99, 100, 139, 140, 401, 402, 419, 420]]
    assert set(token_of_base(lengths)[wrong].tolist()) <= set(edges.tolist())
    assert len(wrong) <= 4 * (lengths.max() // 2)
    assert len(back) == len(sequence)
