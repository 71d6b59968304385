"""The bundled models: size, model card, metadata, and what they predict."""

import fnmatch
import json

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import make_fasta

from zflipon.cli import cli
from zflipon.config import DEFAULT_MODEL, InferenceConfig
from zflipon.genome.fasta import Genome
from zflipon.inference.predictor import Predictor
from zflipon.models import get_family, load
from zflipon.models.files import BUNDLED, bundled

FLANK = "GGCGGGACCGCCAGGTCCGGAGCCTCCGCCGGGAGCTCCAGGCCCGGCTCC" * 5
"""GC-rich, as around a promoter, without a run of alternating purine and pyrimidine."""


def test_the_default_is_there():
    assert DEFAULT_MODEL in bundled()


@pytest.mark.parametrize("name", bundled())
def test_it_is_small_and_has_a_card(name):
    files = [path for path in (BUNDLED / name).iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 20e6
    card = (BUNDLED / name / "README.md").read_text()
    assert (
        "Nothing in it is trained" in card
        if not get_family(load(name).metadata.family).trainable
        else "trained on" in card
    )
    assert "F1" in card


TRAINED = [name for name in bundled() if get_family(load(name).metadata.family).trainable]


@pytest.mark.parametrize("name", TRAINED)
def test_metadata_say_what_it_was_trained_and_measured_on(name):
    metadata = load(name).metadata
    assert metadata.objective == "base"
    assert load(name).tokenizer.max_token_length == 5
    assert 0 < metadata.threshold < 1
    training, quality = metadata.training, metadata.quality
    assert set(training["contigs"]).isdisjoint(training["validation_contigs"])
    # figures are of held-out models, on contigs that this model has learnt from
    for pattern in quality["contigs"]:
        assert fnmatch.filter(training["contigs"], pattern), pattern
    measured = [contig for each in quality["held_out_models"] for contig in each["contigs"]]
    assert sorted(measured) == sorted(quality["contigs"])
    assert 0.7 < quality["average_precision"] < 1
    shown = CliRunner().invoke(cli, ["models", "show", name, "--full"])
    assert shown.exit_code == 0
    assert "average_precision" in shown.output


def test_it_finds_alternating_cg_and_not_its_shuffle():
    predictor = Predictor(load(DEFAULT_MODEL), InferenceConfig(device="cpu"))
    forming, shuffled = "CGCGCGCGCGCGCGCGCGCG", "CCGGGCCGCCGGCCGGGCGC"
    assert sorted(forming) == sorted(shuffled)
    one, other = predictor.predict_probabilities([FLANK + middle + FLANK for middle in (forming, shuffled)])
    inside = slice(len(FLANK), len(FLANK) + len(forming))
    assert one[inside].mean() > 3 * other[inside].mean()
    assert one[inside].mean() > 10 * np.delete(one, range(inside.start - 20, inside.stop + 20)).mean()


def test_the_help_says_what_a_threshold_gives():
    by_threshold = load(DEFAULT_MODEL).metadata.quality["by_threshold"]
    assert list(by_threshold) == ["0.3", "0.5", "0.8"]
    shown = " ".join(CliRunner().invoke(cli, ["annotate", "--help"]).output.split())
    for threshold, (precision, recall) in by_threshold.items():
        expected = f"{precision:.2f} and {recall:.2f} at" if recall else "hardly a base is called at"
        assert f"{expected} {threshold}" in shown


@pytest.mark.parametrize(
    ("words", "both"), [([], True), (["--one-strand"], False), (["--both-strands"], True)]
)
def test_annotate_reads_the_strands_that_the_model_or_its_user_says(tmp_path, words, both):
    fasta = make_fasta(tmp_path, {"c": FLANK + "CG" * 10 + FLANK + "TTGACC"})
    found = tmp_path / "z.bedgraph"
    result = CliRunner().invoke(cli, ["annotate", str(fasta), "-o", str(found), "--device", "cpu", *words])
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "z.bedgraph.json").read_text())["predict"]["both_strands"] is both
    with Genome(fasta) as genome:
        text = genome.fetch("c", 0, genome.lengths["c"])
    expected = Predictor(
        load(DEFAULT_MODEL), InferenceConfig(device="cpu", both_strands=both)
    ).predict_probabilities([text])
    values = np.zeros(len(text))
    for row in found.read_text().splitlines():
        _, start, end, value = row.split("\t")
        values[int(start) : int(end)] = float(value)
    np.testing.assert_allclose(values, expected[0], atol=0.00051)
    assert values.max() > 0.1
