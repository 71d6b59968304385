"""Region strings, and interval arithmetic compared with loops over bases."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zflipon.errors import InputError, ZfliponError
from zflipon.genome.intervals import (
    complete_runs,
    contains_positions,
    count_covered,
    find_overlapping,
    interval_mask,
    merge,
    merge_by_contig,
    parse_region,
)

LENGTHS = {"chr2": 1000, "chr10": 500, "track1": 50, "HLA:A*01": 80, "a.1|x": 70}


# ---- regions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("chr2", ("chr2", 0, 1000)),
        ("chr2:1-1000", ("chr2", 0, 1000)),
        ("chr2:1-1,000", ("chr2", 0, 1000)),
        ("chr2:100-100", ("chr2", 99, 100)),
        ("chr2:100", ("chr2", 99, 1000)),
        ("chr2:100-", ("chr2", 99, 1000)),
        ("HLA:A*01", ("HLA:A*01", 0, 80)),
        ("HLA:A*01:5-8", ("HLA:A*01", 4, 8)),
        ("a.1|x:2-3", ("a.1|x", 1, 3)),
    ],
)
def test_region(text, expected):
    assert parse_region(text, LENGTHS) == expected


def test_a_contig_name_takes_precedence_over_a_range():
    lengths = {"chr2": 1000, "chr2:5-10": 60}
    assert parse_region("chr2:5-10", lengths) == ("chr2:5-10", 0, 60)
    assert parse_region("chr2:5-11", lengths) == ("chr2", 4, 11)
    assert parse_region("chr2:5-10:2-3", lengths) == ("chr2:5-10", 1, 3)


@pytest.mark.parametrize(
    "text", ["chr2:0-10", "chr2:0", "chr2:11-10", "chr2:1-1001", "chr2:1001", "chr2:1001-1002", "chr2:,-5"]
)
def test_positionsoutside_the_contig(text):
    with pytest.raises(InputError) as caught:
        parse_region(text, LENGTHS)
    assert str(caught.value) == f"region '{text}': expected 1 ≤ start ≤ end ≤ 1000, the length of chr2"


@pytest.mark.parametrize("text", ["II:1-10", "chr2:a-b", "chr2:-10", "chr2:1-2-3", "", ":1-10", "chr2 :1-10"])
def test_region_of_an_unknown_contig(text):
    with pytest.raises(InputError, match=r"no such contig; expected NAME or NAME:START-END .*chr2, chr10"):
        parse_region(text, LENGTHS)


def test_region_of_an_empty_contig():
    assert parse_region("void", {"void": 0}) == ("void", 0, 0)
    with pytest.raises(InputError, match="1 ≤ start ≤ end ≤ 0"):
        parse_region("void:1-1", {"void": 0})


@given(st.text(max_size=40), st.sampled_from(["", "chr2:", "chr2:1-"]))
def test_any_text_is_a_region_inside_its_contig_or_an_error(text, prefix):
    try:
        contig, start, end = parse_region(prefix + text, LENGTHS)
    except ZfliponError:
        return
    assert 0 <= start < end <= LENGTHS[contig]


# ---- arithmetic ---------------------------------------------------------------------------------------------


@st.composite
def interval_arrays(draw):
    """Sorted, non-empty intervals within 100 bases; they may overlap."""
    pairs = draw(st.lists(st.tuples(st.integers(0, 90), st.integers(1, 12)), max_size=15))
    rows = sorted((start, start + width) for start, width in pairs)
    return np.array(rows, dtype=np.int64).reshape(-1, 2)


def covered_bases(rows):
    return {base for start, end in rows.tolist() for base in range(start, end)}


@given(interval_arrays(), st.integers(0, 50))
def test_merge_equals_a_loop(rows, gap):
    before = rows.tolist()
    expected = []
    for start, end in rows.tolist():
        if expected and start - expected[-1][1] <= gap:
            expected[-1][1] = max(expected[-1][1], end)
        else:
            expected.append([start, end])
    assert merge(rows, gap).tolist() == expected
    assert rows.tolist() == before


def test_merge_joins_intervals_that_touch():
    rows = np.array([[0, 5], [5, 8], [9, 10]])
    assert merge(rows).tolist() == [[0, 8], [9, 10]]
    assert merge(rows, 1).tolist() == [[0, 10]]
    assert merge(np.empty((0, 2), dtype=np.int64)).shape == (0, 2)


@given(interval_arrays(), st.integers(0, 110), st.integers(0, 60))
def test_masks_and_counts_equal_sets_of_bases(rows, start, width):
    end, bases = start + width, covered_bases(rows)
    expected = [base in bases for base in range(start, end)]
    mask = interval_mask(rows, start, end)
    assert mask.dtype == bool
    assert mask.tolist() == expected
    assert contains_positions(merge(rows), np.arange(start, end)).tolist() == expected
    assert count_covered(merge(rows), np.array([start, end])).tolist() == [sum(expected)]


@given(interval_arrays(), st.lists(st.integers(0, 120), max_size=12))
def test_count_covered_between_many_edges(rows, edges):
    edges, bases = sorted(edges), covered_bases(rows)
    expected = [sum(base in bases for base in range(low, high)) for low, high in itertools.pairwise(edges)]
    assert count_covered(merge(rows), np.array(edges, dtype=np.int64)).tolist() == expected


@given(interval_arrays(), st.integers(0, 110), st.integers(1, 60))
def test_find_overlapping_equals_a_loop(rows, start, width):
    merged = merge(rows)
    expected = [row for row in merged.tolist() if row[0] < start + width and row[1] > start]
    assert find_overlapping(merged, start, start + width).tolist() == expected


def test_mask_without_intervals():
    assert interval_mask(None, 5, 8).tolist() == [False] * 3
    assert interval_mask(np.empty((0, 2), dtype=np.int64), 5, 8).tolist() == [False] * 3
    assert interval_mask(np.array([[6, 6]]), 5, 8).tolist() == [False] * 3


def test_merge_by_contig_drops_empty_intervals_and_contigs():
    intervals = {"a": np.array([[0, 5], [5, 9]]), "b": np.array([[3, 3]]), "c": np.array([[1, 2]])}
    merged = merge_by_contig(intervals, {"b": 10, "a": 10})
    assert {contig: rows.tolist() for contig, rows in merged.items()} == {"a": [[0, 9]]}


@pytest.mark.parametrize(
    ("positions", "expected"),
    [((0, 3), (0, 4)), ((3, 4), (0, 4)), ((4, 5), (4, 5)), ((6, 8), (5, 8)), ((4, 6), (4, 8))],
)
def test_runs_at_the_ends_of_a_positionsare_completed(positions, expected):
    mask = np.array([1, 1, 1, 1, 0, 1, 1, 1], dtype=bool)
    assert complete_runs(*positions, mask) == expected
