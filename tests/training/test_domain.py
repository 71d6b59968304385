"""Domains: fitted to training sequence, written into checkpoints, refused if damaged."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import make_fasta
from synthetic_genomes import human_like_dna

from zflipon.cli import cli
from zflipon.errors import InputError, ModelError
from zflipon.genome.composition import CompositionCounter
from zflipon.genome.fasta import Genome
from zflipon.genome.sketch import decode_sketch, shared_fraction, sketch_sequence
from zflipon.models import ModelMetadata, load
from zflipon.tracks.bigwig_writer import write_bigwig_values
from zflipon.training.domain import fit_domain, fit_scores, read_domain


@pytest.fixture(scope="module")
def sequence():
    return human_like_dna(5_200_000, 1)


@pytest.fixture(scope="module")
def domain(sequence):
    counter = CompositionCounter()
    counter.add(sequence)
    return fit_domain(counter.windows(), sketch_sequence(sequence))


def test_one_in_a_hundred_training_windows_is_outside(sequence, domain):
    counter = CompositionCounter()
    counter.add(sequence)
    comparison = domain.compare(counter.windows())
    assert 0 < comparison.outside.mean() < 0.04
    assert domain.windows == len(comparison.outside) == 103


def test_training_sequence_is_recognised_by_its_sketch(sequence, domain):
    sketch = decode_sketch(domain.sketch)
    assert shared_fraction(sketch_sequence(sequence[500_000:1_500_000]), sketch) == 1.0


def test_few_windows_are_refused(sequence):
    counter = CompositionCounter()
    counter.add(sequence[:500_000])
    with pytest.raises(InputError, match=r"9 windows.*at least 100"):
        fit_domain(counter.windows(), sketch_sequence(""))


def test_usual_scores_come_from_tracks_of_long_contigs(tmp_path):
    path, values = tmp_path / "z.bw", np.zeros(2_000_000, dtype=np.float32)
    values[:1000], values[1000:5000] = 0.9, 0.2
    values[1_500_000:1_500_500] = 0.5
    short = np.full(50_000, 0.9, dtype=np.float32)  # a chosen region: does not count
    write_bigwig_values(path, {"a": 2_000_000, "b": 50_000}, {"a": [(0, values)], "b": [(0, short)]})
    scores = fit_scores([path], 0.5)
    assert scores.windows == 2
    assert scores.called == pytest.approx((0.000505 / 2, 0.000995 * 2), rel=1e-3)
    assert scores.low == pytest.approx((0.000545 / 2, 0.004955 * 2), rel=1e-3)
    assert fit_scores([], 0.5) is None


def test_metadata_with_a_domain_survive_json(domain):
    metadata = ModelMetadata("compact", "base", 256, 64, domain=domain)
    assert ModelMetadata.from_dict(json.loads(json.dumps(metadata.to_dict()))) == metadata
    assert (
        ModelMetadata.from_dict(
            {"family": "compact", "objective": "base", "window": 256, "margin": 64}
        ).domain
        is None
    )


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("kmers", [0.0], r"domain.kmers must have shape \(256,\)"),
        ("precision", [[1.0]], r"domain.precision must have shape \(10, 10\)"),
        ("sketch", "?", "domain.sketch a sketch of sequence cannot be read"),
        ("max_distance", 0.0, "domain.max_distance"),
        ("wrong", 1, "unknown key 'domain.wrong'"),
    ],
)
def test_damaged_domains_are_refused(domain, key, value, message):
    values = json.loads(json.dumps(ModelMetadata("compact", "base", 256, 64, domain=domain).to_dict()))
    values["domain"][key] = value
    with pytest.raises(ModelError, match=message):
        ModelMetadata.from_dict(values)


def test_the_command_writes_a_domain_and_keeps_the_weights(tmp_path, tiny_checkpoint, sequence):
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "model")
    genome = make_fasta(tmp_path, {"a": sequence, "b": "ACGT" * 100, "c": "A" * 1000})
    words = ["models", "fit-domain", str(folder), "--genome", str(genome), "--exclude-contigs", "c"]
    result = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    assert "104 windows" in result.stderr
    before, after = load(tiny_checkpoint), load(folder)
    assert before.metadata.domain is None
    assert after.sha256 == before.sha256
    with Genome(genome) as opened:
        assert after.metadata.domain == read_domain([(opened, ["a", "b"])])
    result = CliRunner().invoke(cli, [*words[:-1], "d"])
    assert "no contig 'd'" in str(result.exception)
