"""Windows and their cores, compared with a loop over bases."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zflipon.genome.windows import WINDOW_DTYPE, find_windows, tile_windows

SHAPES = [(1, 0), (2, 0), (7, 0), (7, 3), (8, 2), (10, 1), (64, 16)]


def reference_windows(start, end, window, margin):
    """Tile base by base: a core ends a margin before the end of its window, and the last window has full width."""
    windows, base = [], start
    while base < end:
        low = base if base == start else base - margin
        low = max(start, min(low, end - window))
        high = min(low + window, end)
        core_end = end if high == end else high - margin
        windows.append((low, high, base, core_end))
        base = core_end
    return windows


@pytest.mark.parametrize(("window", "margin"), SHAPES)
@pytest.mark.parametrize("start", [0, 1000])
def test_windows_equal_a_loop(window, margin, start):
    for length in [*range(4 * window + 3), 1001]:
        found = tile_windows(start, start + length, window, margin)
        assert found.dtype == WINDOW_DTYPE
        assert found.tolist() == reference_windows(start, start + length, window, margin)


@given(st.integers(1, 70), st.data(), st.integers(0, 10**12), st.integers(1, 400))
def test_every_base_is_decided_exactly_once(window, data, start, length):
    margin = data.draw(st.integers(0, (window - 1) // 2))
    end = start + length
    windows = tile_windows(start, end, window, margin)
    decided = [base for _, _, low, high in windows.tolist() for base in range(low, high)]
    assert decided == list(range(start, end))
    for low, high, core_low, core_high in windows.tolist():
        assert high - low == min(window, length)
        assert low == start or core_low - low >= margin
        assert high == end or high - core_high >= margin
        assert low <= core_low < core_high <= high
    first = data.draw(st.integers(0, len(windows)))
    last = data.draw(st.integers(first, len(windows)))
    assert tile_windows(start, end, window, margin, first, last).tolist() == windows[first:last].tolist()


def test_the_last_window_is_moved_inward():
    assert tile_windows(0, 21, 10, 2).tolist() == [(0, 10, 0, 8), (6, 16, 8, 14), (11, 21, 14, 21)]
    assert tile_windows(5, 15, 10, 2).tolist() == [(5, 15, 5, 15)]
    assert tile_windows(5, 8, 10, 2).tolist() == [(5, 8, 5, 8)]
    assert tile_windows(5, 5, 10, 2).tolist() == []


@pytest.mark.parametrize(("window", "margin"), [(10, 5), (10, 6), (10, -1), (0, 0)])
def test_margin_that_leaves_no_core(window, margin):
    with pytest.raises(ValueError, match="leaves no core"):
        tile_windows(0, 100, window, margin)


@pytest.mark.parametrize(("window", "margin"), SHAPES)
def test_find_windows_equals_a_loop(window, margin):
    windows = tile_windows(100, 100 + 5 * window + 1, window, margin)
    rng = np.random.default_rng(0)
    for _ in range(100):
        start = int(rng.integers(90, 110 + 5 * window))
        end = start + int(rng.integers(1, 2 * window + 2))
        expected = [
            row for row in windows.tolist() if any(row[2] <= base < row[3] for base in range(start, end))
        ]
        assert find_windows(windows, start, end).tolist() == expected
