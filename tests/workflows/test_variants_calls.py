"""Calls that are lost and gained, values near the allele, and the fields of other structures."""

from dataclasses import replace

import numpy as np
import pytest

from zflipon.config import CallConfig
from zflipon.models.structure import Z_DNA
from zflipon.workflows.variants import FIELDS
from zflipon.workflows.variants.fields import info_fields, parse_calls, plain_scores
from zflipon.workflows.variants.scoring import AlleleShape, score_shape

WIDTH, LOW = 400, 1000
CALLS = CallConfig(threshold=0.5)


def track(*intervals, size=WIDTH):
    values = np.zeros(size, dtype=np.float32)
    for start, end, height in intervals:
        values[start:end] = height
    return values


def score(before, after, start=200, ref_length=1, change=0):
    split = start + (min(ref_length, ref_length + change) if change else ref_length)
    shape = AlleleShape(WIDTH, start, ref_length, split, change)
    unknown = np.zeros((1, WIDTH), dtype=bool)
    (scores,) = score_shape(shape, np.array([LOW]), before[None, None], after[None, None], unknown, CALLS)
    return scores


def intervals(calls):
    return [tuple(row) for row in (calls - LOW).tolist() if row[0] >= -LOW and row[0] != -1 - LOW]


def test_deleting_a_call_does_not_report_a_neighbour():
    """A call of 20 bases is deleted; another call lies 100 bases off."""
    before = track((200, 220, 0.9), (320, 340, 0.95))
    after = track((301, 321, 0.95), size=WIDTH - 19)
    scores = score(before, after, start=200, ref_length=20, change=-19)
    assert scores["ref"] == pytest.approx(0.9)
    assert scores["alt"] == 0
    assert (scores["lost"], scores["gained"]) == (1, 0)
    assert intervals(scores["ref_calls"]) == [(200, 220)]
    assert intervals(scores["alt_calls"]) == []


def test_the_extreme_far_from_the_allele_has_a_signed_distance():
    near, far = track((198, 206, 0.9), (50, 60, 0.6)), track((198, 206, 0.8), (50, 60, 0.2))
    scores = score(near, far)
    assert scores["pos"] == LOW + 59 + 1  # of equal changes the nearest
    assert scores["distance"] == 59 - 200
    assert (scores["lost"], scores["gained"]) == (1, 0)
    assert intervals(scores["ref_calls"]) == [(50, 60), (198, 206)]  # lost, and at the allele
    assert intervals(scores["alt_calls"]) == [(198, 206)]
    assert scores["ref"] == pytest.approx(0.9)
    assert scores["alt"] == pytest.approx(0.8)


def test_calls_come_go_grow_and_stay():
    before = track((100, 110, 0.9), (200, 210, 0.9), (300, 310, 0.9), (350, 354, 0.9))
    after = track((100, 110, 0.9), (200, 215, 0.9), (250, 260, 0.7))
    scores = score(before, after)
    assert (scores["lost"], scores["gained"]) == (1, 1)  # four bases are no call
    assert intervals(scores["ref_calls"]) == [(200, 210), (300, 310)]
    assert intervals(scores["alt_calls"]) == [(200, 215), (250, 260)]


def test_calls_in_inserted_bases_lie_on_the_base_before():
    after = track((201, 209, 0.9), size=WIDTH + 8)
    scores = score(track(), after, change=8)
    assert (scores["lost"], scores["gained"]) == (0, 1)
    assert intervals(scores["alt_calls"]) == [(200, 201)]
    assert scores["pos"] == LOW + 200 + 1
    assert scores["alt"] == pytest.approx(0.9)


def test_at_most_four_calls_are_listed_the_nearest():
    before = track(*((start, start + 8, 0.9) for start in range(20, 400, 40)))
    scores = score(before, track())
    assert scores["lost"] == 10
    assert intervals(scores["ref_calls"]) == [(140, 148), (180, 188), (220, 228), (260, 268)]


def test_changes_that_round_to_zero_are_at_the_allele():
    scores = score(track((300, 310, 0.3)), track((300, 310, 0.30004)))
    assert scores["pos"] == LOW + 200 + 1
    assert scores["distance"] == 0


def test_written_calls_are_read_back():
    scores = score(track((195, 210, 0.9), (50, 60, 0.9)), track())
    (row,) = plain_scores(np.array([scores]))
    assert row[9] == "1051-1060&1196-1210"
    assert (parse_calls(row[9]) == scores["ref_calls"]).all()


def test_fields_have_the_prefix_of_the_structure():
    other = info_fields(replace(Z_DNA, name="G4", vcf_prefix="GQ"))
    assert [name.replace("GQ_", "ZF_") for name in other] == list(FIELDS)
    assert "probability of G4" in other["GQ_SUM"][1]
    assert "GQ_POS" in other["GQ_DIST"][1]
    assert "Z-DNA" not in " ".join(description for _, description in other.values())
