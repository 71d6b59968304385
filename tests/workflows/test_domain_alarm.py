"""Sequence and scores outside the domain of a model are reported once; human-like sequence is not."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import make_fasta
from synthetic_genomes import chain_dna, human_like_dna

import zflipon
from zflipon.cli import cli
from zflipon.genome.composition import CompositionCounter
from zflipon.genome.shuffles import shuffle_sequence
from zflipon.models import load, save
from zflipon.models.domain import ScoreDomain
from zflipon.report.domain import describe_domain, domain_warning
from zflipon.tracks.calling import NO_VALUE
from zflipon.training.domain import fit_domain
from zflipon.workflows.domain import DomainMonitor


@pytest.fixture(scope="module")
def domain():
    counter = CompositionCounter()
    counter.add(human_like_dna(5_200_000, 1))
    return fit_domain(counter.windows(), np.empty(0, np.uint32), ScoreDomain(9, (1e-4, 0.01), (1e-4, 0.02)))


def report(domain, *sequences):
    monitor = DomainMonitor(domain, 0.5)
    for sequence in sequences:
        monitor.add_sequence(sequence)
    return monitor.report()


OTHER_GENOMES = {
    "bacterial": (chain_dna(200_100, 0.51, "bacterial"), "CG observed/expected 1.1"),
    "rich in GC": (chain_dna(200_100, 0.68, "bacterial"), "GC 68 % (training"),
    "plant": (chain_dna(200_100, 0.36, "plant"), "CG observed/expected 0.7"),
    "rich in AT": (chain_dna(200_100, 0.2), "GC 20 % (training"),
    "shuffled bases": (chain_dna(200_100, 0.42), "CG observed/expected 1.0"),
    "shuffled dinucleotides": (
        shuffle_sequence(human_like_dna(200_100, 3), np.random.default_rng(0)),
        "the tetranucleotides, beyond what their dinucleotides explain",
    ),
}


@pytest.mark.parametrize("name", OTHER_GENOMES)
def test_other_genomes_are_outside_and_the_difference_is_named(domain, name):
    sequence, difference = OTHER_GENOMES[name]
    found = report(domain, sequence)
    assert found.status == "outside"
    assert found.outside > 0.9
    assert difference in "; ".join(found.differences)


@pytest.mark.parametrize("seed", range(3, 6))
def test_human_like_sequence_is_inside(domain, seed):
    found = report(domain, human_like_dna(300_000, seed))
    assert (found.status, found.differences) == ("inside", ())
    assert found.windows == 5


def test_too_little_sequence_is_not_compared(domain):
    promoter = chain_dna(1000, 0.7, "bacterial")
    assert report(domain, promoter).to_dict() == {
        "status": "unknown", "windows": 0, "outside": None, "differences": [],
    }  # fmt: skip
    assert report(domain, chain_dna(99_000, 0.5, "bacterial")).status == "unknown"


def test_a_fragmented_assembly_is_compared(domain):
    pieces = chain_dna(150_000, 0.51, "bacterial")
    fragments = [pieces[start : start + 1000] for start in range(0, 150_000, 1000)]
    assert report(domain, *fragments).status == "outside"


def test_a_minority_of_other_windows_is_counted_but_no_alarm(domain):
    found = report(domain, human_like_dna(300_000, 3), chain_dna(100_000, 0.5, "bacterial"))
    assert found.status == "inside"
    assert 0.1 < found.outside < 0.5


def test_scores_outside_the_usual_range_are_reported(domain):
    monitor = DomainMonitor(domain, 0.5)
    values = np.zeros(2_500_000, dtype=np.uint16)
    values[:500_000] = NO_VALUE
    values[500_000::20] = 600
    monitor.add_scores(values, 2_500_000)
    found = monitor.alarm()
    assert found.status == "outside"
    assert found.score_differences[0] == "5 % called bases (training 0.01-1 %)"
    assert monitor.alarm() is None  # once


def test_scores_of_chosen_regions_and_short_contigs_are_not_compared(domain):
    high = np.full(2_500_000, 900, dtype=np.uint16)
    regions = DomainMonitor(domain, 0.5, whole_contigs=False)
    regions.add_scores(high, 2_500_000)
    promoters = DomainMonitor(domain, 0.5)
    promoters.add_scores(high, 99_999)
    assert regions.report().score_differences == promoters.report().score_differences == ()


@pytest.fixture(scope="module")
def model(domain, tiny_checkpoint, tmp_path_factory):
    folder = shutil.copytree(tiny_checkpoint, tmp_path_factory.mktemp("models") / "tiny")
    checkpoint = load(folder)
    save(replace(checkpoint, metadata=replace(checkpoint.metadata, domain=domain)), folder)
    return folder


@pytest.fixture(scope="module")
def genomes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("genomes")
    contigs = {"bacterial": chain_dna(101_000, 0.51, "bacterial"), "human": human_like_dna(101_000, 3)}
    return {
        name: make_fasta(folder / f"{name}.fa", {name: sequence, "small": sequence[:3000]})
        for name, sequence in contigs.items()
    }


def annotate(genome, model, output, *words):
    given = ["annotate", str(genome), "-o", str(output), "--model", str(model), "--device", "cpu", *words]
    return CliRunner().invoke(cli, given, catch_exceptions=False)


def test_annotate_warns_once_and_points_to_the_propensity(genomes, model, tmp_path):
    output = tmp_path / "z.bed"
    result = annotate(genomes["bacterial"], model, output, "--contigs", "small")
    assert "unlike" not in result.stderr  # 3 kb
    result = annotate(genomes["bacterial"], model, output, "--force", "--region", "bacterial:1-600")
    assert result.stderr.count("unlike the training data of tiny in 100 % of 2 windows of 50 kb") == 1
    assert "use --score propensity, which is valid in any organism" in result.stderr
    record = json.loads((tmp_path / "z.bed.json").read_text())
    assert record["domain"]["status"] == "outside"
    assert any("observed/expected" in text for text in record["domain"]["differences"])
    assert "unlike the input" in describe_domain(record)
    assert "no known meaning" in domain_warning(record)


def test_annotate_is_silent_on_human_like_sequence_and_for_the_propensity(genomes, model, tmp_path):
    output = tmp_path / "z.bed"
    result = annotate(genomes["human"], model, output, "--region", "human:1-600")
    assert "unlike" not in result.stderr
    record = json.loads((tmp_path / "z.bed.json").read_text())
    assert record["domain"] == {"status": "inside", "windows": 2, "outside": 0.0, "differences": []}
    assert describe_domain(record) == "like the input, in 100% of 2 windows"
    assert domain_warning(record) == ""
    words = ("--force", "--region", "bacterial:1-600", "--score", "propensity")
    result = annotate(genomes["bacterial"], model, output, *words)
    assert "unlike" not in result.stderr
    record = json.loads((tmp_path / "z.bed.json").read_text())
    assert record["domain"]["status"] == "outside"
    assert domain_warning(record) == ""


def test_a_model_without_a_domain_compares_nothing(genomes, tmp_path):
    record = zflipon.annotate(genomes["human"], tmp_path / "z.bed", model="zhunt", contigs=["small"])
    assert record["domain"] is None
    assert describe_domain(record) is None
