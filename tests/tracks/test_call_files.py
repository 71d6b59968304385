"""Calls of BED files with all kinds of score columns, and of bigBed files."""

import numpy as np
import pytest
from report_files import LENGTHS

from zflipon.errors import InputError
from zflipon.tracks.bigbed import write_calls
from zflipon.tracks.call_files import read_calls
from zflipon.tracks.calling import CALL_DTYPE


@pytest.mark.parametrize(
    ("columns", "mean", "highest"),
    [
        ("n\t590\t.\t5\t15\t0,0,0\t0.588\t0.700", 0.588, 0.7),
        ("n\t590", 0.59, 0.59),
        ("n", np.nan, np.nan),
        ("", np.nan, np.nan),
    ],
)
def test_scores_of_a_bed(tmp_path, columns, mean, highest):
    (tmp_path / "a.bed").write_text("\t".join(filter(None, ["chr1\t5\t15", columns])) + "\n")
    (call,) = read_calls(tmp_path / "a.bed", LENGTHS)["chr1"]
    np.testing.assert_equal([call["mean"], call["max"]], [mean, highest])


@pytest.mark.parametrize("score", ["1001", "-1", "high", "nan"])
def test_a_score_that_is_no_probability_is_refused(tmp_path, score):
    (tmp_path / "a.bed").write_text(f"chr1\t5\t15\tn\t{score}\n")
    with pytest.raises(InputError, match="score from 0 to 1000"):
        read_calls(tmp_path / "a.bed", LENGTHS)


@pytest.mark.parametrize(
    ("offset", "value", "expected"),
    [
        (6, b"\x01\x7f", "32513 zoom levels"),  # libBigWig ended in a segmentation fault
        (8, b"\xff" * 8, "."),  # the list of contigs
        (24, b"\xff" * 8, "."),  # the index
        (52, b"\xff\xff\xff\x7f", "data blocks of"),
    ],
)
def test_a_damaged_bigbed_is_one_clear_error(tmp_path, offset, value, expected):
    calls = np.array([(5, 15, 0.5, 0.7)], dtype=CALL_DTYPE)
    path = tmp_path / "a.bb"
    write_calls(path, {"chr1": 100}, {"chr1": calls}, scored=True)
    assert read_calls(path, None)["chr1"].tolist() == [(5, 15, 0.5, 0.7)]
    content = bytearray(path.read_bytes())
    content[offset : offset + len(value)] = value
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.bb: cannot be read as bigBed \(.*{expected}.*\)"):
        read_calls(path, None)
