"""Counts at every threshold equal those of the calls at this threshold."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zflipon.tracks.calling import SCALE, call_regions
from zflipon.tracks.thresholds import BLOCK_BASES, LEVELS, ThresholdTally


def tally_of(values, min_length, merge_gap, cuts=(), start=0, labels=None):
    tally = ThresholdTally(min_length, merge_gap)
    edges = [0, *sorted(cuts), len(values)]
    labels = np.zeros(len(values), dtype=bool) if labels is None else labels
    for low, high in pairwise(edges):
        tally.add("a", start + low, values[low:high], labels[low:high])
    return tally.blocks()


@settings(max_examples=80, deadline=None)
@given(data=st.data(), min_length=st.integers(0, 6), merge_gap=st.integers(0, 4))
def test_counts_are_those_of_the_calls(data, min_length, merge_gap):
    levels = st.sampled_from([0, 0, 0, 100, 250, 600, SCALE])
    values = np.array(data.draw(st.lists(levels, min_size=1, max_size=60)), dtype=np.uint16)
    labels = np.array(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))))
    cuts = data.draw(st.lists(st.integers(0, len(values)), max_size=3))
    counts = tally_of(values, min_length, merge_gap, cuts, labels=labels).sum(axis=0)
    for level in (1, 100, 101, 250, 600, SCALE):
        calls = call_regions(values, 0, level / SCALE, min_length, merge_gap)
        called = sum(int(end - start) for start, end in zip(calls["start"], calls["end"], strict=True))
        labelled = sum(
            int(labels[start:end].sum()) for start, end in zip(calls["start"], calls["end"], strict=True)
        )
        assert counts[:, level].tolist() == [called, labelled, len(calls)]


def test_blocks_divide_the_genome():
    values = np.zeros(3 * BLOCK_BASES, dtype=np.uint16)
    values[BLOCK_BASES - 10 : BLOCK_BASES + 30] = 500  # a call across two blocks counts where it starts
    values[2 * BLOCK_BASES + 5 : 2 * BLOCK_BASES + 25] = 900
    counts = tally_of(values, 6, 0, cuts=(BLOCK_BASES + 3, 2 * BLOCK_BASES + 7))
    assert counts.shape == (3, 3, LEVELS)
    assert counts[:, 0, 500].tolist() == [10, 30, 20]
    assert counts[:, 2, 500].tolist() == [1, 0, 1]
    assert counts[:, 2, 501].tolist() == [0, 0, 1]
    assert counts[:, 0, 0].sum() == len(values)


@pytest.mark.parametrize("min_length", [1, 10])
def test_contigs_are_separate(min_length):
    tally = ThresholdTally(min_length, 5)
    tally.add("a", 0, np.array([0, 0, 700, 700], dtype=np.uint16))
    tally.add("b", 0, np.array([700, 700], dtype=np.uint16))
    assert tally.blocks()[:, 2, 700].tolist() == ([1, 1] if min_length == 1 else [0, 0])
