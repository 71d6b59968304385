"""Parts of a text: the same letters as strings and as codes, on either strand."""

import numpy as np
import pytest
from conftest import dna

from zflipon.genome.alphabet import PADDING_BASE, base_codes, reverse_complement
from zflipon.genome.sequence_windows import SequenceWindows


def parts(text, turned=False):
    starts = np.array([3, 0, 40, 17, 17, len(text)])
    ends = np.array([9, 30, len(text), 17, 18, len(text)])
    return SequenceWindows(text, starts, ends, np.full(6, turned))


def expect(slices, strings):
    """Hold strings and codes against plain strings."""
    assert list(slices) == strings
    assert slices.widths.tolist() == [len(string) for string in strings]
    codes = slices.to_codes()
    assert codes.dtype == np.uint8
    assert codes.shape == (len(strings), max(map(len, strings), default=0))
    for row, string in zip(codes, strings, strict=True):
        assert row[: len(string)].tolist() == base_codes(string).tolist()
        assert (row[len(string) :] == PADDING_BASE).all()


TEXT = dna(30, 1) + "NNRYK" + dna(25, 2)
PLAIN = [TEXT[3:9], TEXT[0:30], TEXT[40:], "", TEXT[17], ""]
TURNED = [reverse_complement(string) for string in PLAIN]


def test_parts_of_a_text():
    expect(parts(TEXT), PLAIN)
    expect(parts(TEXT, turned=True), TURNED)


def test_both_strands():
    expect(parts(TEXT).reverse_complement(), TURNED)
    expect(parts(TEXT, turned=True).reverse_complement(), PLAIN)
    expect(parts(TEXT).with_reverse_complement(), PLAIN + TURNED)


@pytest.mark.parametrize(
    "which",
    [slice(1, 4), slice(4, 4), np.array([4, 0, 0, 2]), np.array([True, False, True, False, False, True])],
)
def test_some_of_them_in_any_order(which):
    both = parts(TEXT).with_reverse_complement()
    chosen = np.concatenate([np.arange(6)[which], 6 + np.arange(6)[which]])
    expect(both[chosen], [(PLAIN + TURNED)[i] for i in chosen])
    expect(parts(TEXT)[which], [PLAIN[i] for i in np.arange(6)[which]])


def test_sequences_are_laid_one_after_the_other():
    sequences = [dna(7, 3), "", dna(30, 4).lower(), "acgtN"]
    expect(SequenceWindows.from_sequences(sequences), [sequence.upper() for sequence in sequences])
    expect(SequenceWindows.from_sequences([]), [])
    expect(SequenceWindows.from_sequences([""]), [""])
    known = parts(TEXT)
    assert SequenceWindows.from_sequences(known) is known


def test_one_of_them_is_a_string():
    assert parts(TEXT, turned=True)[2] == TURNED[2]
    assert parts(TEXT)[np.int64(0)] == PLAIN[0]
    assert parts(TEXT)[-2] == PLAIN[-2]
