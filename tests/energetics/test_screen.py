"""The screen of windows: which windows it selects, and that it loses no calls."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import SHARED, dna, make_fasta, needs_shared

from zflipon.cli import cli
from zflipon.config import ScreenConfig
from zflipon.energetics.published import SEED_CUTOFF, SEED_LINKING, call_mask, published_call_starts
from zflipon.energetics.screen import _BLOCKS_PER_STEP, candidate_intervals, screen_windows
from zflipon.energetics.zhunt import log_z_score
from zflipon.errors import ModelError
from zflipon.genome.alphabet import base_codes
from zflipon.genome.fasta import Genome
from zflipon.genome.windows import tile_windows
from zflipon.models import ModelMetadata, load

LOOSE, PUBLISHED = ScreenConfig(), ScreenConfig(published=True)


def codes_of(text):
    return torch.from_numpy(base_codes(text))


def covered(text, screen):
    found = np.zeros(len(text) + 40, dtype=bool)
    for start, end in zip(
        *(each.tolist() for each in candidate_intervals(codes_of(text), screen)), strict=True
    ):
        found[start:end] = True
    return found[: len(text)]


def test_candidates_are_runs_that_flip_readily():
    text = "AT" * 300 + "CG" * 8 + "AT" * 300 + "CA" * 12 + "AT" * 300
    for screen in (LOOSE, PUBLISHED):
        found = covered(text, screen)
        assert found[600:616].all()
        assert not found[:580].any()
        assert not found[-560:].any()
    assert covered(text, LOOSE)[1216:1240].all()
    assert covered(dna(100_000, 2, "ACGTAT"), PUBLISHED).mean() < 0.01


def test_candidates_include_published_calls():
    text = dna(60_000, 3, "CGCGCATG")
    _, excess, ends = published_call_starts(codes_of(text)[None], 6, 12)
    called = call_mask(excess >= 0, ends)[0].numpy()
    assert 0.02 < called.mean() < 0.9
    assert covered(text, PUBLISHED)[called].all()
    assert covered(text, ScreenConfig(linking=SEED_LINKING))[excess[0].numpy() >= 0].all()


def test_the_linking_of_a_seed_has_the_cutoff_as_score():
    near = torch.tensor([SEED_LINKING, SEED_LINKING + 1e-4], dtype=torch.float64)
    above, below = log_z_score(near).exp().tolist()
    assert above >= SEED_CUTOFF > below


@pytest.mark.parametrize("screen", [LOOSE, ScreenConfig(published=True, strong=0.55)])
def test_results_do_not_depend_on_blocks(monkeypatch, screen):
    text = dna(5_000, 4, "CGCGCATG") + "N" * 30 + dna(9_000, 5, "ACGTAT") + dna(3_001, 6, "CGCGCATG")
    whole = [each.tolist() for each in candidate_intervals(codes_of(text), screen)]
    assert len(whole[0]) > 20
    for block, blocks in ((64, 3), (100_000, 1)):
        monkeypatch.setattr("zflipon.energetics.screen._BLOCK", block)
        monkeypatch.setitem(_BLOCKS_PER_STEP, "cpu", blocks)
        assert [each.tolist() for each in candidate_intervals(codes_of(text), screen)] == whole


def test_candidates_need_gc_around_them():
    poor, rich = "AT" * 600 + "CG" * 8 + "AT" * 600, "GA" * 600 + "CG" * 8 + "GA" * 600
    with_gc = ScreenConfig(published=True, strong=0.4)
    assert covered(poor, PUBLISHED).any()
    assert not covered(poor, with_gc).any()
    assert covered(rich, with_gc)[1200:1216].all()


@pytest.mark.parametrize("screen", [LOOSE, PUBLISHED])
def test_a_window_is_selected_if_its_core_has_a_candidate(tmp_path, screen):
    text = dna(30_000, 6, "ACGTAT") + "CG" * 30 + dna(9_000, 7, "ACGTAT") + "CG" * 6
    with Genome(make_fasta(tmp_path, {"c": text})) as genome:
        for window, margin in ((128, 32), (512, 100)):
            windows = tile_windows(0, len(text), window, margin)
            found = covered(text, screen)
            expected = [found[w["core_start"] : w["core_end"]].any() for w in windows]
            assert screen_windows(genome, "c", windows, screen).tolist() == expected
            assert 0 < sum(expected) < len(expected)
            part = windows[37:90]
            assert screen_windows(genome, "c", part, screen).tolist() == expected[37:90]


@pytest.fixture
def run(tmp_path):
    def call(*words):
        result = CliRunner().invoke(cli, ["annotate", *map(str, words), "--device", "cpu"])
        assert result.exit_code == 0, result.output
        return result

    return call


def read_bedgraph(path):
    rows = (line.split("\t") for line in path.read_text().splitlines())
    values = np.full(60_000, np.nan)
    for _, start, end, value in rows:
        values[int(start) : int(end)] = float(value)
    return values


def test_selected_windows_have_the_values_of_a_run_without_screen(run, tmp_path):
    text = dna(80_000, 8, "AAATTTC") + "GCGCGCGCGCGCGCGC" + dna(30_000, 9) + "N" * 60 + dna(3_000, 10)
    fasta = make_fasta(tmp_path, {"c": text})
    run(fasta, "-o", tmp_path / "all.bedgraph")
    run(fasta, "-o", tmp_path / "screened.bedgraph", "-o", tmp_path / "screened.bed", "--screen")
    everything, screened = (read_bedgraph(tmp_path / f"{name}.bedgraph") for name in ("all", "screened"))
    assert np.array_equal(np.isnan(everything), np.isnan(screened))
    read = ~np.isnan(screened) & (screened != 0)
    np.testing.assert_allclose(screened[read], everything[read], atol=1.001e-3)
    record = json.loads((tmp_path / "screened.bed.json").read_text())
    assert record["screen"] == {"linking": 23.0, "published": True, "strong": 0.46}
    assert 0 < record["tracks"]["windows_read"] < record["windows"] / 2
    record = json.loads((tmp_path / "all.bedgraph.json").read_text())
    assert record["screen"] is None
    assert 0 < record["tracks"]["windows_read"] < record["windows"]  # early exit by the model's upper bounds


@needs_shared
def test_the_screen_loses_no_real_calls():
    """Calls of Z-DNABERT on a contig that the default was not chosen on."""
    from zflipon.genome.interval_files import read_bed

    with Genome(SHARED / "hg19" / "hg19_part.fa.gz") as genome:
        contig = "chr22_50M"
        calls = read_bed(SHARED / "hg19" / "zdnabert.bed", genome.lengths)[contig]
        windows = tile_windows(0, genome.length(contig), 128, 32)
        read = screen_windows(genome, contig, windows, LOOSE)
        bases = np.repeat(read, windows["core_end"] - windows["core_start"])
        share = sum(bases[start:end].sum() for start, end in calls) / (calls[:, 1] - calls[:, 0]).sum()
        assert share > 0.995
        assert read.mean() < 0.15


def test_metadata_stores_the_screen():
    metadata = ModelMetadata("gena", "token", 128, 32, screen=ScreenConfig(22.5, True, 0.3))
    assert ModelMetadata.from_dict(json.loads(json.dumps(metadata.to_dict()))) == metadata
    assert load("compact").metadata.screen.published
    with pytest.raises(ModelError, match=r"unknown key 'screen\.linkin' \(did you mean 'linking'"):
        ModelMetadata.from_dict({"family": "gena", "window": 128, "margin": 32, "screen": {"linkin": 3}})
    with pytest.raises(ModelError, match=r"screen\.linking must be a number"):
        ModelMetadata.from_dict({"family": "gena", "window": 128, "margin": 32, "screen": {"linking": "low"}})
