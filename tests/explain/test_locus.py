"""The figures of a locus and of a motif, by the commands that draw them."""

import re

import pytest
from click.testing import CliRunner
from conftest import dna, make_fasta

from zflipon.cli import cli
from zflipon.errors import InputError, OutputError, ZfliponError


@pytest.fixture
def genome(tmp_path):
    text = dna(900, 8, "GCGCA") + "CG" * 12 + dna(900, 9, "GCGCA") + "N" * 300
    (tmp_path / "calls.bed").write_text("c\t900\t924\n")
    return make_fasta(tmp_path, {"c": text})


def explain(*arguments):
    return CliRunner().invoke(cli, ["explain", *map(str, arguments)])


@pytest.mark.parametrize("extension", ["png", "svg"])
def test_a_locus_is_drawn(genome, tmp_path, extension):
    pytest.importorskip("captum")
    out = tmp_path / f"locus.{extension}"
    options = ["--track", f"calls={tmp_path / 'calls.bed'}", "-o", out, "--device", "cpu", "--steps", 8]
    result = explain("locus", "c:896-930", "--genome", genome, *options)
    assert result.exit_code == 0, result.output
    content = out.read_bytes()
    assert content.startswith(b"\x89PNG") if extension == "png" else b"<svg" in content
    if extension == "svg":
        assert content.count(b"<path") > 60  # letters, tokens, bars
    assert len(content) > 10_000


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["c:1-900", "-o", "x.png"], InputError, "900 bases; a figure shows at most 400"),
        (["c:1850-1900", "-o", "x.png"], InputError, "no sequence"),
        (["c:10-40", "-o", "x.jpeg"], OutputError, "unknown figure format"),
        (["d:10-40", "-o", "x.png"], InputError, "no such contig"),
        (["c:10-40", "-o", "x.png", "--track", "absent.bed"], InputError, "no such file"),
    ],
)
def test_unusable_requests_are_one_clear_line(genome, tmp_path, monkeypatch, arguments, error, message):
    pytest.importorskip("captum")
    monkeypatch.chdir(tmp_path)
    result = explain("locus", *arguments, "--genome", genome, "--device", "cpu")
    assert isinstance(result.exception, error), result.output
    assert re.search(message, str(result.exception))
    assert "\n" not in str(result.exception)
    assert not (tmp_path / "x.png").exists()


def test_kmers_and_logo_of_a_bed_file(genome, tmp_path):
    out, logo = tmp_path / "kmers.csv", tmp_path / "logo.png"
    rows = "".join(f"c\t{start}\t{start + 40}\n" for start in range(0, 1700, 50))
    (tmp_path / "many.bed").write_text(rows)
    result = explain("kmers", tmp_path / "many.bed", "--genome", genome, "-o", out, "--logo", logo, "-k", 4)
    assert result.exit_code == 0, result.output
    lines = out.read_text().splitlines()
    assert "# number of regions: 34" in lines
    assert "kmer,observed,expected,spread,fold,z,p,q" in lines
    assert "classes: " in result.output
    assert logo.read_bytes().startswith(b"\x89PNG")
    result = explain("kmers", tmp_path / "many.bed", "--genome", genome, "-k", 2)
    assert isinstance(result.exception, ZfliponError)
