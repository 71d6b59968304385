"""Calls and value counts of a run: from BED, and from a bigWig with a recorded threshold."""

import numpy as np
import pytest
from report_files import CALLS, LENGTHS, write_run

from zflipon.report.calls import summarize_run, top_calls
from zflipon.report.runs import group_tracks
from zflipon.tracks.bigwig_writer import write_bigwig_values
from zflipon.tracks.call_files import read_calls


def test_a_bigwig_alone_is_called_like_annotate(tmp_path):
    signal, bed = write_run(tmp_path)
    (run,) = group_tracks([signal])
    summary = summarize_run(run, LENGTHS)
    expected = read_calls(bed, LENGTHS)
    assert list(summary.calls) == list(expected) == list(CALLS)
    for contig, rows in expected.items():
        assert summary.calls[contig]["start"].tolist() == rows["start"].tolist()
        assert summary.calls[contig]["end"].tolist() == rows["end"].tolist()
        np.testing.assert_allclose(summary.calls[contig]["mean"], rows["mean"], atol=6e-4)


def test_counts_of_a_run(tmp_path):
    (run,) = group_tracks(write_run(tmp_path))
    summary = summarize_run(run, LENGTHS)
    assert summary.assessed == {"chr1": 8500, "chr2": 5500, "chr10": 2500, "chrUn": 0}
    assert summary.bases_by_probability.sum() == 16_500
    assert summary.bases_by_probability[10] == 16_500 - 195
    assert summary.number_of_calls == 5
    assert {contig: summary.called_bases(contig) for contig in LENGTHS} == {
        "chr1": 140, "chr2": 20, "chr10": 32, "chrUn": 0,
    }  # fmt: skip


def test_top_calls_break_ties_by_length_then_position(tmp_path):
    (tmp_path / "a.bed").write_text(
        "chr2\t50\t60\tn\t500\nchr1\t30\t40\tn\t500\nchr1\t5\t15\tn\t500\nchr1\t90\t120\tn\t500\nchr1\t200\t201\tn\t900\n"
    )
    calls = read_calls(tmp_path / "a.bed", LENGTHS)
    best = top_calls(calls, lambda rows: rows["mean"], 4)
    assert [(contig, int(call["start"])) for contig, call in best] == [
        ("chr1", 200), ("chr1", 90), ("chr1", 5), ("chr1", 30),
    ]  # fmt: skip


def test_an_attribution_track_is_not_called(tmp_path):
    write_bigwig_values(tmp_path / "z.bw", LENGTHS, {"chr1": [(0, np.array([-0.4, 0.9]))]})
    (run,) = group_tracks([tmp_path / "z.bw"])
    summary = summarize_run(run, LENGTHS)
    assert not summary.has_calls
    assert summary.bases_by_probability is None
    assert summary.limits == pytest.approx((-0.4, 0.9))
