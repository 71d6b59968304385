"""Reading bigWig files: the value range, and damaged structures."""

import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyBigWig
import pytest
from conftest import SHARED, needs_shared

from zflipon.errors import InputError
from zflipon.tracks.bigwig import BigWigReader, value_range
from zflipon.tracks.bigwig_writer import write_bigwig_values

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


# ---- damaged files ------------------------------------------------------------------------------------------


def scores_or_message(path):
    """Return the scores of all bases, or the message of the error that reading raises."""
    try:
        track = BigWigReader(path, LENGTHS)
        scores = [scores.tolist() for _, _, scores in track.chunks(LENGTHS, 300)]
        value_range(path)
        return scores
    except InputError as error:
        return str(error)


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "a.bw"
    values = np.random.default_rng(1).random(400)
    write_bigwig_values(path, LENGTHS, {"chr1": [(0, values)], "chr2": [(10, values[:50])]})
    return path


@pytest.mark.parametrize(
    ("offset", "content", "message"),
    [
        (6, b"\xff\xff", "65535 zoom levels, for which its header has no room"),
        (24, bytes(8), "data blocks but no index"),
        (8, struct.pack("<Q", 1 << 40), "truncated or was never finished"),
        (24, struct.pack("<Q", 200), "no index at 200"),
        (52, struct.pack("<I", 1 << 31), "data blocks of 2,147,483,648 bytes"),
        (0, struct.pack(">I", 0x888FFC26), "a big-endian bigWig"),
    ],
)
def test_an_invalid_header_is_an_error(written, offset, content, message):
    with open(written, "rb+") as file:
        file.seek(offset)
        file.write(content)
    assert message in scores_or_message(written)


def test_an_invalid_contig_number_is_an_error(written):
    """libBigWig would write outside of its array of contigs."""
    data = bytearray(written.read_bytes())
    (tree,) = struct.unpack_from("<Q", data, 8)
    (key_size,) = struct.unpack_from("<I", data, tree + 8)
    struct.pack_into("<I", data, tree + 32 + 4 + key_size, 1 << 30)
    written.write_bytes(data)
    assert "its list of contigs does not have the 2 entries" in scores_or_message(written)


def test_an_index_with_a_cycle_is_an_error(written):
    """libBigWig would descend forever."""
    data = bytearray(written.read_bytes())
    (index,) = struct.unpack_from("<Q", data, 24)
    root = index + 48
    struct.pack_into("<BBH", data, root, 0, 0, 1)
    struct.pack_into("<Q", data, root + 4 + 16, root)
    written.write_bytes(data)
    assert "contains a cycle" in scores_or_message(written)


def test_damaged_structures_never_crash(written, tmp_path):
    """Bytes of header, contig tree and index are changed at random, in a child process."""
    script = (
        "import sys, numpy as np; from pathlib import Path; from test_bigwig import scores_or_message\n"
        "data = Path(sys.argv[1]).read_bytes(); rng = np.random.default_rng(0); path = Path(sys.argv[2])\n"
        "index = int.from_bytes(data[24:32], 'little')\n"
        "places = [*range(4, 200), *range(index, min(len(data), index + 200))]\n"
        "for _ in range(400):\n"
        "    changed = bytearray(data)\n"
        "    for place in rng.choice(places, 3):\n"
        "        changed[place] = rng.integers(256)\n"
        "    path.write_bytes(changed)\n"
        "    scores_or_message(path)\n"
        "print('finished')\n"
    )
    command = [sys.executable, "-c", script, str(written), str(tmp_path / "changed.bw")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(p) for p in sys.path if p])}
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, cwd=Path(__file__).parent
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout == "finished\n"
