"""The comparison with Z-HUNT agrees with the calls of the model zhunt, whatever the blocks are."""

import numpy as np
import pytest
from conftest import dna, make_fasta

from zflipon.config import CallConfig, InferenceConfig
from zflipon.genome.fasta import Genome
from zflipon.report.zhunt import compare_with_zhunt
from zflipon.tracks.call_files import read_calls
from zflipon.tracks.calling import CALL_DTYPE
from zflipon.workflows.annotate import annotate

CONTIGS = {
    "a": "N" * 30 + dna(1500, 1) + "CG" * 9 + dna(700, 2) + "GTGTGCGCGTGCGCGC" + dna(900, 3),
    "b": "CGCGCGCACGCGCGCG" + dna(800, 4, "CG") + "NNN" + dna(400, 5),
    "c": "ACG",
}


@pytest.fixture(scope="module")
def zhunt(tmp_path_factory):
    """Return the genome, its extent, and the intervals that the model zhunt calls."""
    folder = tmp_path_factory.mktemp("zhunt")
    path = make_fasta(folder, CONTIGS)
    settings = InferenceConfig(device="cpu", precision="float32")
    annotate(path, [folder / "z.bed"], "zhunt", call=CallConfig(min_length=1, merge_gap=0), settings=settings)
    with Genome(path) as genome:
        extent = {name: np.array([[0, length]]) for name, length in genome.lengths.items()}
        called = read_calls(folder / "z.bed", genome.lengths)
        assert min(map(len, called.values())) > 2
        yield genome, extent, called


def calls_at(*intervals):
    calls = np.zeros(len(intervals), dtype=CALL_DTYPE)
    calls["start"], calls["end"] = np.array(intervals).T
    return calls


def test_its_own_calls_agree_completely(zhunt):
    genome, extent, called = zhunt
    found = compare_with_zhunt(genome, called, extent)
    number = sum(map(len, called.values()))
    assert found.share_in_zhunt == 1
    assert (found.zhunt_calls.sum(), found.also_called.sum()) == (number, number)
    bases = sum(len(sequence) - sequence.count("N") for sequence in CONTIGS.values())
    assert found.bases.sum() == bases
    assert found.zhunt_density()[0] == pytest.approx(number / bases * 1e6)
    assert np.isnan(found.zhunt_density()[1:]).all()


def test_single_bases_agree_with_the_calls_of_the_model(zhunt):
    genome, extent, called = zhunt
    inside = np.zeros(len(CONTIGS["a"]), dtype=bool)
    for start, end in zip(called["a"]["start"], called["a"]["end"], strict=True):
        inside[start:end] = True
    every_base = calls_at(*((base, base + 1) for base in range(len(inside))))
    found = compare_with_zhunt(genome, {"a": every_base}, extent)
    assert found.in_zhunt["a"].tolist() == inside.tolist()


@pytest.mark.parametrize("block", [211, 500])
def test_the_size_of_blocks_changes_no_count(zhunt, block):
    genome, extent, called = zhunt
    calls = {"a": called["a"][:1], "b": calls_at((300, 310))}
    whole = compare_with_zhunt(genome, calls, extent)
    parts = compare_with_zhunt(genome, calls, extent, sampled_blocks=1000, block=block)
    assert not parts.is_sample
    for name in ("bases", "zhunt_calls", "also_called"):
        assert getattr(parts, name).sum() == getattr(whole, name).sum()


def test_a_sample_of_blocks_has_intervals(zhunt):
    genome, extent, called = zhunt
    sample = compare_with_zhunt(genome, called, extent, sampled_blocks=20, block=100)
    assert sample.is_sample
    assert len(sample.bases) == 20
    density, low, high = sample.zhunt_density()
    assert low < density < high
    assert sample.share_also_called() == (1, 1, 1)


def test_only_the_extent_of_a_run_counts(zhunt):
    genome, _, called = zhunt
    start, end = int(called["a"]["start"][0]), int(called["a"]["end"][0])
    extent = {"a": np.array([[start - 5, start + 1], [end, end + 5]])}
    found = compare_with_zhunt(genome, called, extent)
    assert (found.bases.sum(), found.zhunt_calls.sum()) == (11, 1)
