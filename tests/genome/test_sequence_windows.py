"""Windows of a sequence: the same letters as strings and as codes, on either strand."""

import numpy as np
import pytest
from conftest import dna

from zflipon.genome.alphabet import PADDING_BASE, base_codes, reverse_complement
from zflipon.genome.sequence_windows import SequenceWindows


def windows(text, is_reverse=False):
    starts = np.array([3, 0, 40, 17, 17, len(text)])
    ends = np.array([9, 30, len(text), 17, 18, len(text)])
    return SequenceWindows(text, starts, ends, np.full(6, is_reverse))


def assert_equal(windows, strings):
    """Compare the strings and the codes of windows with plain strings."""
    assert list(windows) == strings
    assert windows.widths.tolist() == [len(string) for string in strings]
    codes = windows.to_codes()
    assert codes.dtype == np.uint8
    assert codes.shape == (len(strings), max(map(len, strings), default=0))
    for row, string in zip(codes, strings, strict=True):
        assert row[: len(string)].tolist() == base_codes(string).tolist()
        assert (row[len(string) :] == PADDING_BASE).all()


TEXT = dna(30, 1) + "NNRYK" + dna(25, 2)
FORWARD = [TEXT[3:9], TEXT[0:30], TEXT[40:], "", TEXT[17], ""]
REVERSE = [reverse_complement(string) for string in FORWARD]


def test_windows_on_either_strand():
    assert_equal(windows(TEXT), FORWARD)
    assert_equal(windows(TEXT, is_reverse=True), REVERSE)


def test_reverse_complement():
    assert_equal(windows(TEXT).reverse_complement(), REVERSE)
    assert_equal(windows(TEXT, is_reverse=True).reverse_complement(), FORWARD)
    assert_equal(windows(TEXT).with_reverse_complement(), FORWARD + REVERSE)


@pytest.mark.parametrize(
    "index",
    [slice(1, 4), slice(4, 4), np.array([4, 0, 0, 2]), np.array([True, False, True, False, False, True])],
)
def test_several_windows_in_any_order(index):
    both = windows(TEXT).with_reverse_complement()
    chosen = np.concatenate([np.arange(6)[index], 6 + np.arange(6)[index]])
    assert_equal(both[chosen], [(FORWARD + REVERSE)[i] for i in chosen])
    assert_equal(windows(TEXT)[index], [FORWARD[i] for i in np.arange(6)[index]])


def test_from_sequences():
    sequences = [dna(7, 3), "", dna(30, 4).lower(), "acgtN"]
    assert_equal(SequenceWindows.from_sequences(sequences), [sequence.upper() for sequence in sequences])
    assert_equal(SequenceWindows.from_sequences([]), [])
    assert_equal(SequenceWindows.from_sequences([""]), [""])
    known = windows(TEXT)
    assert SequenceWindows.from_sequences(known) is known


def test_one_window_is_a_string():
    assert windows(TEXT, is_reverse=True)[2] == REVERSE[2]
    assert windows(TEXT)[np.int64(0)] == FORWARD[0]
    assert windows(TEXT)[-2] == FORWARD[-2]
