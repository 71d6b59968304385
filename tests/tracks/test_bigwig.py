"""The value range of a bigWig: exact, read from all values, and safe for NaN and infinity."""

import struct

import numpy as np
import pyBigWig
import pytest
from conftest import SHARED, needs_shared

from zflipon.tracks.bigwig import value_range, write_bigwig_values

LENGTHS = {"chr1": 1000, "chr2": 500}


def write_with_pybigwig(path, values):
    """Write one value per base from position 0 of chr1, as programs other than zflipon do."""
    with pyBigWig.open(str(path), "w") as file:
        file.addHeader([("chr1", 1000)])
        starts = np.arange(len(values), dtype=np.int64)
        file.addEntries(
            ["chr1"] * len(values), starts, ends=starts + 1, values=np.asarray(values, dtype=float)
        )


def set_summary(path, low, high):
    with open(path, "rb+") as file:
        file.seek(0x2C)
        (offset,) = struct.unpack("<Q", file.read(8))
        file.seek(offset + 8)
        file.write(struct.pack("<dd", low, high))


@pytest.mark.parametrize("values", [[-0.4, 0.9], [0.25, 1.5], [0.1, 0.2], [-3.0, -2.5], [0.0, 0.0]])
def test_the_range_is_not_rounded(tmp_path, values):
    write_bigwig_values(
        tmp_path / "a.bw", LENGTHS, {"chr1": [(0, np.array(values))], "chr2": [(10, np.array(values))]}
    )
    assert value_range(tmp_path / "a.bw") == pytest.approx((min(values), max(values)), abs=1e-7)


def test_a_bigwig_without_values_has_no_range(tmp_path):
    write_bigwig_values(tmp_path / "a.bw", LENGTHS, {})
    assert value_range(tmp_path / "a.bw") is None


def test_nan_values_are_left_out(tmp_path):
    write_with_pybigwig(tmp_path / "a.bw", [0.5, np.nan, 0.75, -0.25])
    assert value_range(tmp_path / "a.bw") == (-0.25, 0.75)


def test_a_bigwig_of_nan_alone_has_no_range(tmp_path):
    write_with_pybigwig(tmp_path / "a.bw", [np.nan, np.nan])
    assert value_range(tmp_path / "a.bw") is None


@pytest.mark.parametrize(("low", "high"), [(np.nan, 1.0), (0.0, np.inf), (5.0, 1.0)])
def test_an_invalid_summary_is_replaced_by_a_scan(tmp_path, low, high):
    write_bigwig_values(tmp_path / "a.bw", LENGTHS, {"chr1": [(0, np.array([-2.0, 5.0]))]})
    set_summary(tmp_path / "a.bw", low, high)
    assert value_range(tmp_path / "a.bw") == (-2.0, 5.0)


@needs_shared
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bundle_near_unit/max1_5.bw", 1.5),
        ("bundle_near_unit/own_attributions.bw", None),
        ("bigwig_nan_segfault/nan.bw", None),
        ("bigwig_nan_segfault/large.bw", None),
    ],
)
def test_known_faulty_files_have_a_finite_range(name, expected):
    low, high = value_range(SHARED / "faults" / name)
    assert np.isfinite([low, high]).all()
    assert low <= high
    assert expected is None or high == expected
