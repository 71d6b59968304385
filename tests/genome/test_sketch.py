"""Sketches find shared sequence whatever the contigs are."""

import numpy as np
import pytest

from zflipon.errors import InputError
from zflipon.genome.sketch import (
    SKETCH_SCALE,
    decode_sketch,
    encode_sketch,
    merge_sketches,
    shared_fraction,
    sketch_sequence,
)


def dna(length, seed):
    codes = np.random.default_rng(seed).integers(0, 4, length)
    return np.frombuffer(b"ACGT", dtype=np.uint8)[codes].tobytes().decode()


SEQUENCE = dna(3_000_000, 1)
REFERENCE = sketch_sequence(SEQUENCE)


def test_a_sketch_has_one_hash_for_each_scale_bases():
    expected = len(SEQUENCE) / SKETCH_SCALE
    assert abs(len(REFERENCE) - expected) < 5 * np.sqrt(expected)


def test_a_part_of_a_sequence_is_found_at_any_offset():
    part = sketch_sequence(SEQUENCE[1_234_567:2_500_001])
    assert len(part) > 5
    assert shared_fraction(part, REFERENCE) == 1.0


def test_another_sequence_is_not_found():
    assert shared_fraction(sketch_sequence(dna(2_000_000, 2)), REFERENCE) == 0.0


def test_the_fraction_is_that_of_shared_sequence():
    mixed = merge_sketches([REFERENCE, sketch_sequence(dna(3_000_000, 3))])
    assert shared_fraction(mixed, REFERENCE) == pytest.approx(0.5, abs=0.15)


def test_unknown_bases_are_left_out():
    letters = np.frombuffer(SEQUENCE.encode(), dtype=np.uint8).copy()
    letters[::31] = ord("N")
    assert len(sketch_sequence(letters.tobytes().decode())) == 0
    assert len(sketch_sequence("ACGT")) == 0
    assert np.isnan(shared_fraction(sketch_sequence(""), REFERENCE))


def test_sketches_survive_text():
    assert (decode_sketch(encode_sketch(REFERENCE)) == REFERENCE).all()
    assert decode_sketch("").tolist() == []
    with pytest.raises(InputError, match="sketch"):
        decode_sketch("no sketch!")
