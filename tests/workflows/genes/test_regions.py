"""Summaries of regions, compared with loops over bases."""

import numpy as np
import pytest
from click.testing import CliRunner
from report_files import CALLS, LENGTHS, probabilities, write_run
from workflows.genes.gene_files import write_bed

import zflipon
from zflipon.cli import cli
from zflipon.errors import InputError
from zflipon.tracks import bigbed
from zflipon.tracks.call_files import read_calls

REGIONS = [("chr1", 90, 135, "a"), ("chr1", 100, 5050, "b"), ("2", 0, 60, "c"), ("chr10", 1990, 2000, "d")]
NAMES = {"2": "chr2"}


def expected_calls(contig, start, end):
    touching = [call for call in CALLS.get(contig, ()) if call[0] < end and start < call[1]]
    covered = {base for low, high in touching for base in range(max(low, start), min(high, end))}
    return len(touching), len(covered), len(covered) / (end - start)


@pytest.fixture
def run(tmp_path):
    signal, calls = write_run(tmp_path)
    bigbed.write_calls(tmp_path / "z.bb", LENGTHS, read_calls(calls, LENGTHS), True)
    return {"bw": signal, "bed": calls, "bb": tmp_path / "z.bb"}


@pytest.mark.parametrize("kind", ["bw", "bed", "bb"])
def test_calls_in_regions_agree_with_a_loop(tmp_path, run, kind):
    table = zflipon.summarize_regions(run[kind], write_bed(tmp_path / "regions.bed", REGIONS))
    assert table["name"].tolist() == list("abcd")
    for row in table.itertuples():
        assert (row.calls, row.called_bases, pytest.approx(row.called_share)) == expected_calls(
            row.contig, row.start, row.end
        )


def test_values_in_regions_are_those_of_the_track(tmp_path, run):
    table = zflipon.summarize_regions(run["bw"], write_bed(tmp_path / "regions.bed", REGIONS))
    for row in table.itertuples():
        values = probabilities(row.contig)[row.start : row.end]
        values = values[values <= 1000] / 1000
        assert row.max == pytest.approx(values.max())
        assert row.mean == pytest.approx(values.mean(), abs=1e-6)


def test_scores_of_calls_are_weighted_by_their_overlap(tmp_path):
    calls = [("chr1", 0, 10, "Z1", 500), ("chr1", 20, 60, "Z2", 900), ("chr1", 70, 80, "Z3", 990)]
    bed, regions = (
        write_bed(tmp_path / "a.bed", calls),
        write_bed(tmp_path / "r.bed", [("chr1", 5, 30), ("chr1", 60, 70)]),
    )
    table = zflipon.summarize_regions(bed, regions)
    assert table["max"].tolist()[0] == 0.9
    assert table["mean"].tolist()[0] == pytest.approx((5 * 0.5 + 10 * 0.9) / 15)
    assert table["calls"].tolist() == [2, 0]
    assert np.isnan(table["max"][1])


def test_regions_beyond_the_end_or_on_no_contig_are_refused(tmp_path, run):
    with pytest.raises(InputError, match=r"r.bed: reaches base 9,001 of chr1, which has 9,000 bases"):
        zflipon.summarize_regions(run["bw"], write_bed(tmp_path / "r.bed", [("chr1", 8990, 9001)]))
    with pytest.raises(InputError, match="no contig of the calls"):
        zflipon.summarize_regions(run["bw"], write_bed(tmp_path / "r.bed", [("scaffold", 0, 5)]))
    (tmp_path / "r.bed").write_text("")
    with pytest.raises(InputError, match="no regions"):
        zflipon.summarize_regions(run["bw"], tmp_path / "r.bed")


def test_the_command_writes_one_row_per_region(tmp_path, run):
    regions = write_bed(tmp_path / "regions.bed", REGIONS)
    command = ["genes", str(run["bed"]), "--regions", str(regions), "-o", str(tmp_path / "t.tsv")]
    assert CliRunner().invoke(cli, command, catch_exceptions=False).exit_code == 0
    lines = [line for line in (tmp_path / "t.tsv").read_text().splitlines() if not line.startswith("#")]
    assert len(lines) == 1 + len(REGIONS)
