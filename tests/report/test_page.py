"""The HTML report: known numbers, order of its parts, links, many contigs, escaping, appearance in a browser."""

import subprocess
from urllib.parse import urlsplit

import numpy as np
from html_page import HtmlPage, read_page
from report_files import CHROMIUM, needs_chromium, write_run

from zflipon.report.bundle import bundle
from zflipon.report.call_blocks import CONTIGS_LISTED, contig_table
from zflipon.report.calls import RunSummary
from zflipon.report.page import report_page
from zflipon.report.runs import Run
from zflipon.report.sections import Section
from zflipon.tracks.calling import CALL_DTYPE


def test_the_page_shows_the_known_numbers(written):
    page = read_page(written[0] / "hub")
    assert not page.external
    columns, run = page.tables["overview"]
    assert run == ["z", "test-model", "16,500", "5", "192", "1.1636%", "303.0", "1"]
    assert columns[-1] == "calls on known Z-DNA"
    assert page.tables["contigs-1"][1:] == [
        ["chr1", "9,000", "8,500", "2", "140", "235.3"],
        ["chr2", "6,000", "5,500", "1", "20", "181.8"],
        ["chr10", "3,000", "2,500", "2", "32", "800.0"],
    ]
    longest = page.tables["longest-1"][1:]
    assert [row[:2] for row in longest[:2]] == [["chr1:5,001-5,100", "100"], ["chr1:101-140", "40"]]
    strongest = page.tables["strongest-1"][1:]
    assert [row[0] for row in strongest[:2]] == ["chr10:2,001-2,012", "chr1:101-140"]
    assert strongest[0][2:4] == ["0.999", "0.999"]
    assert strongest[1][2] == f"{(30 * 0.9 + 0.01 + 9 * 0.7) / 40:.3f}"
    assert set(page.figures) == {"along-1", "density-1", "lengths-1", "scores-1", "probabilities-1"}
    assert len(page.tables["kmers-1"]) > 5
    assert dict(page.tables["classes-1"][1:])["number of regions"] == "5"


def test_calls_come_first_and_provenance_last(written):
    page = read_page(written[0] / "hub")
    order = [heading for heading in page.headings if heading]
    assert order == [
        "Z-DNA on hg38", "z", "Strongest calls", "Longest calls", "Classes of the sequence", "Calls along the genome",
        "Lengths and scores", "Comparison with Z-HUNT", "k-mers of the calls", "Probabilities",
        "Open in a genome browser", "Files and provenance", "z",
    ]  # fmt: skip
    assert list(page.tables)[-1] == "provenance-1"
    facts = {row[0]: row[1] for row in page.tables["provenance-1"][1:]}
    assert facts["command"] == "zflipon annotate <genome> & more"
    assert facts["model SHA-256"] == "abc123"
    assert facts["threshold"] == "0.5"


def test_links_lead_to_the_locus_or_to_files(written):
    folder = written[0] / "hub"
    links = read_page(folder).links
    local = [link for link in links if not urlsplit(link).scheme]
    assert local
    assert all((folder / link).is_file() for link in local)
    remote = [link for link in links if urlsplit(link).scheme]
    assert {urlsplit(link).netloc for link in remote} == {"genome.ucsc.edu", "localhost:60151"}
    assert any("db=hg38&position=chr10%3A1789-2224" in link for link in remote)


def test_a_bed_alone_takes_its_number_of_bases_from_the_record(tmp_path):
    _, bed = write_run(tmp_path)
    bundle([bed], tmp_path / "hub")
    page = read_page(tmp_path / "hub")
    assert page.tables["overview"][1][2:5] == ["16,500", "5", "192"]
    assert "there are no links" in (tmp_path / "hub" / "index.html").read_text()
    assert page.tables["contigs-1"][0][2].startswith("bases (not known")


def many_contigs(number, with_calls):
    lengths = {f"contig{index}": 1000 + index for index in range(number)}
    calls = np.zeros(1, dtype=CALL_DTYPE)
    calls["start"], calls["end"], calls["mean"], calls["max"] = 10, 30, 0.7, 0.9
    summary = RunSummary(dict.fromkeys(with_calls, calls), dict(lengths), None, (0.0, 1.0), True)
    return lengths, summary


def test_contigs_with_calls_come_first_and_the_rest_is_summed():
    lengths, summary = many_contigs(20_000, ["contig150", "contig19000"])
    table = contig_table(1, summary, lengths)
    assert [row[0] for row in table.rows[:3]] == ["contig150", "contig19000", "contig0"]
    assert len(table.rows) == CONTIGS_LISTED + 1
    assert table.rows[-1][0] == f"{20_000 - CONTIGS_LISTED:,} more contigs"
    assert table.rows[-1][3:] == ["0", "0", "0.0"]
    lengths_shown = [int(row[1].replace(",", "")) for row in table.rows]
    assert sum(lengths_shown) == sum(lengths.values())


def test_a_page_of_20_000_contigs_is_small():
    lengths, summary = many_contigs(20_000, [f"contig{index}" for index in range(5000)])
    run = Run("z", None, None, {})
    page = report_page([Section(run, summary, None, None, [])], lengths, "genome", False)
    assert len(page) < 1_000_000
    assert "4,970 shorter contigs with calls are not drawn" in page


def test_names_are_escaped(tmp_path):
    tracks = write_run(tmp_path, model={"name": "<script>alert(1)</script>\x1b[31m"})
    bundle(tracks, tmp_path / "hub")
    page = read_page(tmp_path / "hub")
    assert not page.external
    assert page.tables["overview"][1][1] == r"<script>alert(1)</script>\x1b[31m"


@needs_chromium
def test_a_browser_shows_the_page(written, tmp_path):
    page = written[0] / "hub" / "index.html"
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
    done = subprocess.run(
        [CHROMIUM, *options, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120
    )
    shown = HtmlPage(done.stdout)
    expected = read_page(page.parent)
    assert shown.figures == expected.figures
    assert shown.tables == expected.tables
