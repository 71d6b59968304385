"""Substitutions, letters, logos and the picture of a locus."""

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import SHARED, dna, make_fasta, needs_shared

from zflipon.cli import cli
from zflipon.config import InferenceConfig
from zflipon.errors import InputError, OutputError, ZfliponError
from zflipon.explain.logo import align, draw_letters, find_sites, information, new_figure
from zflipon.explain.mutagenesis import mutagenesis
from zflipon.genome.alphabet import base_codes
from zflipon.genome.fasta import Genome
from zflipon.inference.predictor import Predictor
from zflipon.models import load

CPU = InferenceConfig(device="cpu")


@pytest.fixture
def predictor(tiny_checkpoint):
    return Predictor(load(tiny_checkpoint), CPU)


@pytest.mark.parametrize("start", [0, 700, 1970])
def test_mutagenesis_is_a_plain_loop_over_substitutions(predictor, tmp_path, start):
    """At the beginning, in the middle and at the end of a contig, where the window cannot be centred."""
    text = dna(2000, 1)
    text = text[: start + 3] + "N" + text[start + 4 :]
    end, window = start + 30, predictor.metadata.window
    target = np.arange(30) % 3 == 0
    with Genome(make_fasta(tmp_path, {"c": text})) as genome:
        found = mutagenesis(predictor, genome, "c", start, end, target)
    low = max(0, min((start + end - window) // 2, 2000 - window))

    def mean(sequence):
        (values,) = predictor.predict_probabilities([sequence[low : low + window]])
        return values[start - low : end - low][target].mean()

    for place in range(start, end):
        for row, letter in enumerate("ACGT"):
            effect = found[row, place - start]
            if text[place] == "N":
                assert np.isnan(effect)
            elif text[place] == letter:
                assert effect == 0
            elif place % 7 == 0:
                changed = text[:place] + letter + text[place + 1 :]
                assert effect == pytest.approx(mean(changed) - mean(text), abs=1e-5)
    assert np.nanmax(np.abs(found)) > 1e-4


@needs_shared
def test_a_substitution_within_a_real_call_breaks_it_and_one_beside_it_does_not():
    with Genome(SHARED / "hg19" / "hg19_part.fa.gz") as genome:
        predictor = Predictor(load("compact"), CPU)
        target = np.zeros(36, dtype=bool)
        target[10:26] = True  # chr22_50M:247,576-247,591, labelled and called
        found = mutagenesis(predictor, genome, "chr22_50M", 247_565, 247_601, target)
    assert (found[:, 13:24].min(axis=0) < -0.3).mean() > 0.8
    assert np.abs(found[:, 30:]).max() < 0.05


def test_a_region_wider_than_the_window_or_without_bases_is_refused(predictor, tmp_path):
    with Genome(make_fasta(tmp_path, {"c": dna(600, 1) + "N" * 400})) as genome:
        with pytest.raises(InputError, match="the model reads 256 at once"):
            mutagenesis(predictor, genome, "c", 0, 300, np.ones(300, dtype=bool))
        with pytest.raises(InputError, match="no known base"):
            mutagenesis(predictor, genome, "c", 700, 720, np.ones(20, dtype=bool))


def test_sites_on_either_strand_are_laid_on_one_another():
    rng = np.random.default_rng(5)
    motif, turned = "TGACGTTCA", "TGAACGTCA"
    sites = []
    for number in range(60):
        left = int(rng.integers(3, 9))
        inner = motif if number % 3 else turned
        sites.append(base_codes(dna(left, number) + inner + dna(12 - left, number + 100)))
    matrix = align(sites, 9)
    np.testing.assert_allclose(matrix.sum(axis=0), 1)
    consensus = "".join("ACGT"[row] for row in matrix.argmax(axis=0))
    assert any(consensus[1:-1] in each or each[1:-1] in consensus for each in (motif, turned))
    assert information(matrix).sum(axis=0).mean() > 1.5


def test_information_by_hand():
    matrix = np.array([[1.0, 0.25, 0.5], [0, 0.25, 0.5], [0, 0.25, 0], [0, 0.25, 0]])
    np.testing.assert_allclose(information(matrix).sum(axis=0), [2, 0, 1], atol=1e-9)
    np.testing.assert_allclose(information(matrix)[:, 2], [0.5, 0.5, 0, 0], atol=1e-9)


def test_a_site_that_is_too_short_or_a_track_without_values(tmp_path):
    with pytest.raises(InputError, match="no site has the 9 bases"):
        align([base_codes("ACGT")], 9)
    with Genome(make_fasta(tmp_path, {"c": dna(500, 1)})) as genome:
        regions = {"c": np.array([[100, 120], [300, 320]])}
        assert [len(site) for site in find_sites(genome, regions, 9, 10)] == [30, 30]
        with pytest.raises(InputError, match="no such file"):
            find_sites(genome, regions, 9, 10, tmp_path / "absent.bw")


def test_sites_are_taken_around_the_highest_attribution(tmp_path):
    import pyBigWig

    with pyBigWig.open(str(tmp_path / "a.bw"), "w") as track:
        track.addHeader([("c", 500)])
        track.addEntries("c", 100, values=[0.1] * 15 + [0.5] + [0.1] * 4, span=1, step=1)
        track.addEntries("c", 300, values=[0.1, 0.9, 0.1], span=1, step=1)
    text = dna(500, 1)
    with Genome(make_fasta(tmp_path, {"c": text})) as genome:
        regions = {"c": np.array([[100, 120], [300, 320], [400, 410]])}
        sites = find_sites(genome, regions, 5, 6, tmp_path / "a.bw")
    for site, peak in zip(sites, (301, 115), strict=True):
        np.testing.assert_array_equal(site, base_codes(text[peak - 6 : peak + 7]))


def test_letters_stand_on_one_another_and_hang_below_zero():
    axes = new_figure(2, 2).subplots()
    heights = np.array([[1.0, 0], [2.0, 0], [0, -3.0], [0, 0]])
    draw_letters(axes, heights, 10)
    boxes = [patch.get_path().get_extents() for patch in axes.patches]
    spans = sorted((round(box.x0, 2), round(box.y0, 6), round(box.y1, 6)) for box in boxes)
    assert spans == [(10.05, 0, 1), (10.05, 1, 3), (11.05, -3, 0)]


@pytest.fixture
def genome(tmp_path):
    text = dna(900, 8, "GCGCA") + "CG" * 12 + dna(900, 9, "GCGCA") + "N" * 300
    (tmp_path / "calls.bed").write_text("c\t900\t924\n")
    return make_fasta(tmp_path, {"c": text})


def explain(*words):
    return CliRunner().invoke(cli, ["explain", *map(str, words)])


@pytest.mark.parametrize("extension", ["png", "svg"])
def test_a_locus_is_drawn(genome, tmp_path, extension):
    pytest.importorskip("captum")
    out = tmp_path / f"locus.{extension}"
    track = f"calls={tmp_path / 'calls.bed'}"
    result = explain(
        "locus", "c:896-930", "--genome", genome, "--track", track, "-o", out, "--device", "cpu", "--steps", 8
    )
    assert result.exit_code == 0, result.output
    content = out.read_bytes()
    assert content.startswith(b"\x89PNG") if extension == "png" else b"<svg" in content
    if extension == "svg":
        assert content.count(b"<path") > 60  # letters, boxes, bars
    assert len(content) > 10_000


@pytest.mark.parametrize(
    ("words", "error", "expected"),
    [
        (["c:1-900", "-o", "x.png"], InputError, "900 bases; a picture shows 400 at most"),
        (["c:1850-1900", "-o", "x.png"], InputError, "holds no sequence|hold no sequence|no sequence"),
        (["c:10-40", "-o", "x.jpeg"], OutputError, "unknown extension"),
        (["d:10-40", "-o", "x.png"], InputError, "no such contig"),
        (["c:10-40", "-o", "x.png", "--track", "absent.bed"], InputError, "no such file"),
    ],
)
def test_bad_requests_for_a_locus(genome, tmp_path, monkeypatch, words, error, expected):
    pytest.importorskip("captum")
    monkeypatch.chdir(tmp_path)
    result = explain("locus", *words, "--genome", genome, "--device", "cpu")
    assert isinstance(result.exception, error), result.output
    import re

    assert re.search(expected, str(result.exception))
    assert "\n" not in str(result.exception)
    assert not (tmp_path / "x.png").exists()


def test_kmers_of_a_bed_file(genome, tmp_path):
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
    assert isinstance(
        explain("kmers", tmp_path / "many.bed", "--genome", genome, "-k", 2).exception, ZfliponError
    )
