"""Which windows a run that screens reads, and what it may not lose by it."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import SHARED, dna, make_fasta, needs_shared

from zflipon.cli import cli
from zflipon.config import ScreenConfig
from zflipon.energetics.screen import _BLOCKS, _SEED_LINKING, candidate_intervals, screen_windows
from zflipon.energetics.zhunt import SEED_CUTOFF, call_mask, log_z_score, published_call_starts
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


def test_what_turns_readily_is_a_candidate_and_random_dna_hardly_is():
    text = "AT" * 300 + "CG" * 8 + "AT" * 300 + "CA" * 12 + "AT" * 300
    for screen in (LOOSE, PUBLISHED):
        found = covered(text, screen)
        assert found[600:616].all()
        assert not found[:580].any()
        assert not found[-560:].any()
    assert covered(text, LOOSE)[1216:1240].all()
    assert covered(dna(100_000, 2, "ACGTAT"), PUBLISHED).mean() < 0.01


def test_published_candidates_hold_what_published_maps_call():
    text = dna(60_000, 3, "CGCGCATG")
    _, excess, ends = published_call_starts(codes_of(text)[None], 6, 12)
    called = call_mask(excess >= 0, ends)[0].numpy()
    assert 0.02 < called.mean() < 0.9
    assert covered(text, PUBLISHED)[called].all()
    assert covered(text, ScreenConfig(linking=_SEED_LINKING))[excess[0].numpy() >= 0].all()


def test_the_linking_of_a_seed_is_where_its_score_is():
    near = torch.tensor([_SEED_LINKING, _SEED_LINKING + 1e-4], dtype=torch.float64)
    above, below = log_z_score(near).exp().tolist()
    assert above >= SEED_CUTOFF > below


@pytest.mark.parametrize("screen", [LOOSE, ScreenConfig(published=True, strong=0.55)])
def test_blocks_make_no_difference(monkeypatch, screen):
    text = dna(5_000, 4, "CGCGCATG") + "N" * 30 + dna(9_000, 5, "ACGTAT") + dna(3_001, 6, "CGCGCATG")
    whole = [each.tolist() for each in candidate_intervals(codes_of(text), screen)]
    assert len(whole[0]) > 20
    for block, blocks in ((64, 3), (100_000, 1)):
        monkeypatch.setattr("zflipon.energetics.screen._BLOCK", block)
        monkeypatch.setitem(_BLOCKS, "cpu", blocks)
        assert [each.tolist() for each in candidate_intervals(codes_of(text), screen)] == whole


def test_surroundings_poor_in_gc_are_left_out():
    poor, rich = "AT" * 600 + "CG" * 8 + "AT" * 600, "GA" * 600 + "CG" * 8 + "GA" * 600
    asking = ScreenConfig(published=True, strong=0.4)
    assert covered(poor, PUBLISHED).any()
    assert not covered(poor, asking).any()
    assert covered(rich, asking)[1200:1216].all()


@pytest.mark.parametrize("screen", [LOOSE, PUBLISHED])
def test_a_window_is_read_if_its_core_holds_a_candidate(tmp_path, screen):
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


def test_what_is_read_has_the_values_of_the_whole_run_and_the_rest_the_floor(run, tmp_path):
    text = dna(20_000, 8, "ACGTAT") + "GCGCGCGCGCGCGCGC" + dna(30_000, 9) + "N" * 60 + dna(3_000, 10)
    fasta = make_fasta(tmp_path, {"c": text})
    run(fasta, "-o", tmp_path / "all.bedgraph")
    run(fasta, "-o", tmp_path / "screened.bedgraph", "-o", tmp_path / "screened.bed", "--screen")
    everything, screened = (read_bedgraph(tmp_path / f"{name}.bedgraph") for name in ("all", "screened"))
    assert np.array_equal(np.isnan(everything), np.isnan(screened))
    read = ~np.isnan(screened) & (screened != 0)
    np.testing.assert_allclose(screened[read], everything[read], atol=1.001e-3)
    told = json.loads((tmp_path / "screened.bed.json").read_text())
    assert told["screen"] == {"linking": 23.0, "published": True, "strong": 0.46}
    assert 0 < told["tracks"]["windows_read"] < told["windows"] / 2
    told = json.loads((tmp_path / "all.bedgraph.json").read_text())
    assert told["screen"] is None
    assert 0 < told["tracks"]["windows_read"] < told["windows"]  # the model's first factor settles the others


@needs_shared
def test_real_calls_survive_the_screen():
    """On a contig that the screen was not set on: windows of two sizes, against what Z-DNABERT and we call."""
    from zflipon.genome.interval_files import read_bed

    with Genome(SHARED / "hg19" / "hg19_part.fa.gz") as genome:
        contig = "chr22_50M"
        calls = read_bed(SHARED / "hg19" / "zdnabert.bed", genome.lengths)[contig]
        windows = tile_windows(0, genome.length(contig), 128, 32)
        read = screen_windows(genome, contig, windows, LOOSE)
        bases = np.repeat(read, windows["core_end"] - windows["core_start"])
        kept = sum(bases[start:end].sum() for start, end in calls) / (calls[:, 1] - calls[:, 0]).sum()
        assert kept > 0.995
        assert read.mean() < 0.15


def test_a_story_keeps_its_screen():
    metadata = ModelMetadata("gena", "token", 128, 32, screen=ScreenConfig(22.5, True, 0.3))
    assert ModelMetadata.from_dict(json.loads(json.dumps(metadata.to_dict()))) == metadata
    assert load("compact").metadata.screen.published
    with pytest.raises(ModelError, match=r"unknown key 'screen\.linkin' \(did you mean 'linking'"):
        ModelMetadata.from_dict({"family": "gena", "window": 128, "margin": 32, "screen": {"linkin": 3}})
    with pytest.raises(ModelError, match=r"screen\.linking must be a number"):
        ModelMetadata("gena", "token", 128, 32, screen=ScreenConfig(linking="low"))
