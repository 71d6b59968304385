"""Calls of BED files with all kinds of score columns."""

import numpy as np
import pytest
from report_files import LENGTHS

from zflipon.errors import InputError
from zflipon.tracks.call_files import read_calls


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
