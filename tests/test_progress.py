"""The progress bar: it never passes its total, and a log file gets lines of long jobs only."""

import pytest
from click.testing import CliRunner
from conftest import dna, make_fasta

from zflipon import progress
from zflipon.cli import cli
from zflipon.progress import job_progress, progress_bar, progress_callback


def test_a_bar_never_passes_its_total(capsys):
    with progress_bar("windows", logged=True) as bar:
        advance = progress_callback(bar)
        advance(70, 100)
        advance(70, 100)
    assert bar.n == bar.total == 100
    assert "100/100" in capsys.readouterr().err


def test_short_jobs_leave_no_line_in_a_capsys(capsys):
    with progress_bar("windows", 10) as bar:
        bar.update(10)
    assert capsys.readouterr().err == ""


def test_long_jobs_leave_lines_in_a_capsys(capsys, monkeypatch):
    monkeypatch.setattr(progress, "LOG_INTERVAL", 0.0)
    with progress_bar("windows", 2) as bar:
        bar.update(1)
        bar.update(1)
    assert "2/2" in capsys.readouterr().err


def test_quiet_jobs_show_nothing(capsys):
    with job_progress("b", quiet=True) as advance:
        advance(5, 10)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("region", ["a:1-1000", "a:501-1500", "a"])
def test_the_bar_of_annotate_ends_at_the_bases_of_the_region(tmp_path, region):
    fasta = make_fasta(tmp_path, {"a": dna(3000, 1)})
    words = ["annotate", str(fasta), "-o", str(tmp_path / "z.bed"), "--model", "zhunt", "--region", region]
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    last = done.stderr.split("\r")[-1]
    expected = "3.00k/3.00k" if region == "a" else "1.00k/1.00k"
    assert expected in last, last
    assert f"zflipon: wrote {tmp_path / 'z.bed'}" in done.stderr
