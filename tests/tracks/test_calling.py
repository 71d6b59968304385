"""Calls and runs, compared with loops over bases."""

import tracemalloc

import numpy as np
import pytest

from zflipon.tracks import calling as regions
from zflipon.tracks.calling import (
    NO_VALUE,
    ContigTrack,
    call_regions,
    call_track,
    dequantize,
    iterate_runs,
    quantize,
)


def reference_calls(values, start, threshold, min_length, merge_gap):
    """Call base by base: extend a call, merge it over a short gap of bases with values, or end it."""
    found, open_at, last = [], None, None
    for base, value in enumerate([*map(int, values), NO_VALUE]):
        if value == NO_VALUE or (open_at is not None and base - last - 1 > merge_gap):
            if open_at is not None:
                found.append((open_at, last + 1))
            open_at = None
        if value != NO_VALUE and value / 1000 >= threshold:
            open_at = base if open_at is None else open_at
            last = base
    return [
        (start + a, start + b, sum(map(int, values[a:b])) / (b - a) / 1000, int(max(values[a:b])) / 1000)
        for a, b in found
        if b - a >= min_length
    ]


def reference_runs(values, start):
    found = []
    for base, value in enumerate(map(int, values), start):
        if value == NO_VALUE:
            continue
        if found and found[-1][1] == base and found[-1][2] == value:
            found[-1][1] = base + 1
        else:
            found.append([base, base + 1, value])
    return found


def random_values(rng, n):
    """Runs of a few values, low, high and missing, so that gaps and touching runs are common."""
    levels = np.array([0, 100, 499, 500, 501, 999, 1000, NO_VALUE], dtype=np.uint16)
    return np.repeat(rng.choice(levels, n), rng.integers(1, 5, n))[:n]


def cut(rng, values, start):
    """Divide values into chunks that touch."""
    at = np.sort(rng.integers(0, len(values) + 1, 4))
    return [(start + a, values[a:b]) for a, b in zip([0, *at], [*at, len(values)], strict=True)]


def as_rows(calls):
    return [(int(c["start"]), int(c["end"]), float(c["mean"]), float(c["max"])) for c in calls]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("block", [7, 1 << 20])
def test_calls_equal_a_loop(seed, block, monkeypatch):
    monkeypatch.setattr(regions, "_BLOCK", block)
    rng = np.random.default_rng(seed)
    values = random_values(rng, 400)
    assert len(reference_calls(values, 0, 0.5, 1, 0)) > 10
    for threshold in (0.0, 0.1, 0.5, 0.5001, 1.0):
        for min_length in (1, 3, 12):
            for merge_gap in (0, 1, 4, 1000):
                expected = reference_calls(values, 1000, threshold, min_length, merge_gap)
                one = as_rows(call_regions(values, 1000, threshold, min_length, merge_gap))
                assert [row[:2] for row in one] == [row[:2] for row in expected]
                np.testing.assert_allclose(one, np.reshape(expected, (-1, 4)).tolist(), rtol=1e-12)
                track = ContigTrack("c", cut(rng, values, 1000))
                assert as_rows(call_track(track, threshold, min_length, merge_gap)) == one


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
def test_runs_equal_a_loop_for_any_chunks(block, monkeypatch):
    monkeypatch.setattr(regions, "_BLOCK", block)
    rng = np.random.default_rng(1)
    values = random_values(rng, 300)
    for _ in range(10):
        track = ContigTrack("c", cut(rng, values, 50))
        rows = [
            row for block in iterate_runs(track) for row in zip(*map(np.ndarray.tolist, block), strict=True)
        ]
        assert rows == [tuple(row) for row in reference_runs(values, 50)]


def test_the_written_probability_is_compared_with_the_threshold():
    values = quantize(np.array([0.4996, 0.5, 0.4994, 0.57, 0.29], dtype=np.float32))
    assert values.tolist() == [500, 500, 499, 570, 290]
    assert as_rows(call_regions(values, 0, 0.5, 1, 0)) == [(0, 2, 0.5, 0.5), (3, 4, 0.57, 0.57)]


def test_each_written_probability_reaches_itself_as_threshold():
    for value in range(1001):
        threshold = float(f"{value / 1000:.3f}")
        pair = np.array([value, NO_VALUE, max(value - 1, 0)], dtype=np.uint16)
        assert [row[:2] for row in as_rows(call_regions(pair, 0, threshold, 1, 0))] == (
            [(0, 1)] if value else [(0, 1), (2, 3)]
        )


def test_merging_never_crosses_bases_without_a_value():
    high, low = [900] * 5, [100] * 2
    known = np.array([*high, *low, *high], dtype=np.uint16)
    gap = np.array([*high, NO_VALUE, *high], dtype=np.uint16)
    assert as_rows(call_regions(known, 0, 0.5, 6, 2)) == [(0, 12, pytest.approx(9200 / 12 / 1000), 0.9)]
    assert len(call_regions(known, 0, 0.5, 1, 1)) == 2
    assert len(call_regions(gap, 0, 0.5, 1, 100)) == 2
    apart = ContigTrack("c", [(0, known[:5]), (6, known[:5])])
    assert len(call_track(apart, 0.5, 1, 100)) == 2


def test_without_called_bases():
    nothing = np.full(10, NO_VALUE, dtype=np.uint16)
    for values in (nothing, nothing[:0], np.zeros(10, dtype=np.uint16)):
        calls = call_regions(values, 0, 0.5, 1, 0)
        assert calls.shape == (0,)
        assert calls.dtype == regions.CALL_DTYPE
    assert len(call_track(ContigTrack("c", []), 0.5, 1, 0)) == 0
    assert list(iterate_runs(ContigTrack("c", [(3, nothing)]))) == []


def test_chunks_out_of_order_are_errors():
    values = np.zeros(5, dtype=np.uint16)
    with pytest.raises(ValueError, match="starts at 4"):
        ContigTrack("c", [(0, values), (4, values)])


def test_quantize_and_dequantize():
    probabilities = np.array([[0, 1, np.nan], [0.1234, 0.9996, 0.0004]], dtype=np.float32)
    values = quantize(probabilities)
    assert values.dtype == np.uint16
    assert values.tolist() == [[0, 1000, NO_VALUE], [123, 1000, 0]]
    back = dequantize(values)
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back, np.array([[0, 1, np.nan], [0.123, 1, 0]], dtype=np.float32))
    np.testing.assert_array_equal(quantize(back), values)


def test_memory_does_not_grow_with_the_contig():
    values = np.repeat(np.tile(np.array([0, 700], dtype=np.uint16), 500), 20_000)  # 20 Mb
    tracemalloc.start()
    calls = call_regions(values, 0, 0.5, 6, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(calls) == 500
    assert peak < 8e6
