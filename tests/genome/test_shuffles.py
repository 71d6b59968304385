"""Shuffles keep dinucleotide counts exactly, and are drawn uniformly."""

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from conftest import dna
from hypothesis import given, settings
from hypothesis import strategies as st

from zflipon.genome.alphabet import base_codes
from zflipon.genome.shuffles import shuffle_dinucleotides, shuffle_sequence


def test_a_shuffle_keeps_dinucleotide_counts_and_ends():
    rng = np.random.default_rng(1)
    for seed in range(20):
        codes = base_codes(dna(60, seed))
        shuffle = shuffle_dinucleotides(codes, rng).tolist()
        assert Counter(pairwise(shuffle)) == Counter(pairwise(codes.tolist()))
        assert (shuffle[0], shuffle[-1]) == (codes[0], codes[-1])
        assert shuffle != codes.tolist()


def test_all_shuffles_are_equally_likely():
    """The three loops of ACATAGA from A back to A have six orders."""
    rng = np.random.default_rng(2)
    codes = base_codes("ACATAGA")
    counts = Counter(tuple(shuffle_dinucleotides(codes, rng).tolist()) for _ in range(6000))
    assert len(counts) == 6
    assert all(abs(count - 1000) < 5 * math.sqrt(1000) for count in counts.values())


def test_equal_steps_are_drawn_by_their_number():
    """AACAAA has the walks AACAAA, ACAAAA, AAACAA and AAAACA, each as likely."""
    rng = np.random.default_rng(3)
    counts = Counter(tuple(shuffle_dinucleotides([0, 0, 1, 0, 0, 0], rng).tolist()) for _ in range(4000))
    assert len(counts) == 4
    assert all(abs(count - 1000) < 5 * math.sqrt(750) for count in counts.values())


@settings(max_examples=60, deadline=None)
@given(text=st.text("ACGTN", max_size=120), window=st.integers(1, 50), seed=st.integers(0, 99))
def test_a_shuffled_sequence_has_the_same_dinucleotides_and_unknown_bases(text, window, seed):
    shuffled = shuffle_sequence(text, np.random.default_rng(seed), window)
    assert Counter(pairwise(shuffled)) == Counter(pairwise(text))
    assert [place for place, base in enumerate(shuffled) if base == "N"] == [
        place for place, base in enumerate(text) if base == "N"
    ]


@pytest.mark.parametrize("text", ["", "A", "ACG", "NNNN", "RYKM"])
def test_short_or_unknown_sequence_stays(text):
    assert shuffle_sequence(text, np.random.default_rng(0)) == text


def test_windows_keep_their_composition():
    text = "A" * 500 + "CG" * 250
    shuffled = shuffle_sequence(text, np.random.default_rng(0), window=500)
    assert shuffled == text  # each half has one order only
