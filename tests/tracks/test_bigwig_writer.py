"""The bigWig writer, compared with pyBigWig and pybigtools as readers and with plain loops."""

import resource
from itertools import pairwise

import numpy as np
import pybigtools
import pyBigWig
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zflipon.errors import OutputError
from zflipon.tracks.bigwig import BigWig, value_range
from zflipon.tracks.bigwig_layout import ZOOM_DTYPE
from zflipon.tracks.bigwig_writer import BigWigWriter, write_bigwig_values
from zflipon.tracks.bigwig_zoom import bin_sizes, merge_bins


def random_track(rng, length, longest_run=40):
    """Return values in runs, a fifth of them without a value."""
    values = np.empty(0)
    while len(values) < length:
        value = np.nan if rng.random() < 0.2 else np.float32(rng.normal())
        values = np.append(values, np.full(rng.integers(1, longest_run), value))
    return values[:length]


def test_both_libraries_read_what_was_written(tmp_path):
    rng = np.random.default_rng(0)
    tracks = {
        "chr2": random_track(rng, 90_000, 3),
        "chr10": random_track(rng, 20_000, 3000),
        "a b;c": random_track(rng, 7),
    }
    lengths = {name: len(values) for name, values in tracks.items()}
    write_bigwig_values(tmp_path / "a.bw", lengths, {name: [(0, values)] for name, values in tracks.items()})
    with pyBigWig.open(str(tmp_path / "a.bw")) as first, pybigtools.open(str(tmp_path / "a.bw")) as second:
        assert first.chroms() == second.chroms() == lengths
        for name, values in tracks.items():
            np.testing.assert_array_equal(
                first.values(name, 0, len(values), numpy=True), values.astype(np.float32)
            )
            read = np.full(len(values), np.nan)
            for start, end, value in second.records(name):
                read[start:end] = value
            np.testing.assert_array_equal(read, values)
        every = np.concatenate(list(tracks.values()))
        every = every[~np.isnan(every)]
        assert first.header()["nBasesCovered"] == len(every)
        summary = second.info()["summary"]
        assert summary["min"] == every.min()
        assert summary["max"] == every.max()
        assert summary["mean"] == pytest.approx(every.mean())


def test_zoom_levels_summarize_the_values(tmp_path):
    """Each record of each level is compared with the values that it covers."""
    rng = np.random.default_rng(1)
    tracks = {
        "one": random_track(rng, 150_000),
        "two": random_track(rng, 60_000, 5000),
        "three": random_track(rng, 500),
    }
    lengths = {name: len(values) for name, values in tracks.items()}
    write_bigwig_values(tmp_path / "a.bw", lengths, {name: [(0, values)] for name, values in tracks.items()})
    with pybigtools.open(str(tmp_path / "a.bw")) as file:
        sizes = file.zooms()
        assert len(sizes) >= 3
        assert all(second == 4 * first for first, second in pairwise(sizes))
        for size in sizes:
            for name, values in tracks.items():
                covered = np.zeros(len(values), dtype=bool)
                for start, end, record in file.zoom_records(size, name):
                    part = values[start:end]
                    part = part[~np.isnan(part)]
                    covered[start:end] = True
                    assert record["bases_covered"] == len(part)
                    assert record["sum"] == pytest.approx(part.sum(), rel=1e-5, abs=1e-4)
                    assert record["sum_squares"] == pytest.approx((part**2).sum(), rel=1e-5, abs=1e-4)
                    assert (record["min_val"], record["max_val"]) == (part.min(), part.max())
                    assert start // size == (end - 1) // size or len(set(part)) == 1
                assert covered[~np.isnan(values)].all()
    with pyBigWig.open(str(tmp_path / "a.bw")) as file:
        means = file.stats("one", 0, 150_000, nBins=5)
        assert means == pytest.approx([np.nanmean(part) for part in np.split(tracks["one"], 5)], abs=0.02)
        assert file.stats("two", type="max") == pytest.approx([np.nanmax(tracks["two"])])


def test_more_contigs_and_blocks_than_a_node_has_items(tmp_path):
    lengths = {f"contig_{number}": 400 + number for number in range(70_000)}
    chunks = {f"contig_{number}": [(5, np.array([0.25, number]))] for number in range(0, 70_000, 100)}
    write_bigwig_values(tmp_path / "a.bw", lengths, chunks)
    with pyBigWig.open(str(tmp_path / "a.bw")) as file:
        assert list(file.chroms().items()) == list(lengths.items())
        for number in range(0, 70_000, 1000):
            assert file.intervals(f"contig_{number}") == ((5, 6, 0.25), (6, 7, number))
        assert file.intervals("contig_1") is None
        assert file.stats("contig_200", type="max") == [200]
        assert file.header()["nLevels"] > 3
    assert len(BigWig(tmp_path / "a.bw").lengths) == len(lengths)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 50), st.floats(-1e6, 1e6, width=32)), max_size=30),
    st.integers(1, 6),
)
def test_any_runs_are_read_back_however_they_are_divided(tmp_path_factory, runs, chunk):
    path = tmp_path_factory.mktemp("runs") / "a.bw"
    ends = np.cumsum([gap + width for gap, width, _ in runs], dtype=np.int64)
    starts = ends - np.array([width for _, width, _ in runs], dtype=np.int64)
    values = np.array([value for *_, value in runs])
    contents = []
    for size in (chunk, 1000):
        writer = BigWigWriter(path, {"c": 2000})
        for first in range(0, len(runs), size):
            part = slice(first, first + size)
            writer.add_runs("c", starts[part], ends[part], values[part])
        writer.finish()
        writer.release()
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]
    with pyBigWig.open(str(path)) as file:
        expected = tuple(zip(starts.tolist(), ends.tolist(), values.tolist(), strict=True))
        assert (file.intervals("c") or ()) == expected
    assert value_range(path) == ((values.min(), values.max()) if runs else None)


def test_a_long_run_is_one_record_of_a_zoom_level():
    run = np.zeros(1, dtype=ZOOM_DTYPE)
    run["start"], run["end"], run["valid"], run["sum"] = 3, 1_000_000, 999_997, 999_997
    merged = np.concatenate(list(merge_bins([run], 10)))
    assert merged[["start", "end", "valid"]].tolist() == [(3, 10, 7), (10, 1_000_000, 999_990)]
    assert merged["sum"].tolist() == [7, 999_990]


def test_bin_sizes_follow_the_entries():
    assert bin_sizes(1000, 3000, 10_000) == [30, 120, 480, 1920, 7680]
    assert bin_sizes(1000, 3000, 20) == []
    assert bin_sizes(0, 0, 1000) == []
    assert len(bin_sizes(1, 1, 1 << 32)) == 10


@pytest.mark.parametrize("limit", [100, 2_000, 30_000, 200_000])
def test_a_limit_of_file_size_is_an_error(tmp_path, limit):
    """Writes fail in the header, in the blocks or in the zoom levels. An earlier file stays."""
    values = np.random.default_rng(0).random(50_000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    (tmp_path / "a.bw").write_text("old")
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(OutputError, match=r"a\.bw: cannot be written \(File too large\)$"):
            write_bigwig_values(tmp_path / "a.bw", {"c": 50_000}, {"c": [(0, values)]})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.bw", "old")]
