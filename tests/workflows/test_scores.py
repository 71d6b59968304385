"""`annotate --score`: what each score answers, its files and thresholds, and what a run computes for it."""

import json

import numpy as np
import pyBigWig
import pytest
from click.testing import CliRunner
from conftest import dna, make_fasta
from scipy.special import logit

import zflipon
from zflipon.cli import cli
from zflipon.config import ACTIVITY_THRESHOLD, MIN_PROPENSITY, SCORES, CallConfig, InferenceConfig
from zflipon.errors import InputError, ModelError, OutputError, ZfliponError
from zflipon.inference.decoding import calibrate, sigmoid
from zflipon.workflows.annotate import annotate
from zflipon.workflows.verification import verify

REPEATS = {1000: "CG" * 10, 2000: "TG" * 12, 3000: "CG" * 6, 4000: "CA" * 20, 4500: "GC" * 15}
"""Textbook Z-DNA by its start in the random sequence."""

LENGTH = 6000


def planted_text():
    text = dna(LENGTH, 4)
    for start, repeat in REPEATS.items():
        text = text[:start] + repeat + text[start + len(repeat) :]
    return text[:5500] + "N" * 100 + text[5600:]


def score(folder, outputs, scores, model="compact", **settings):
    """Annotate ``genome.fa`` of a folder."""
    names = [str(folder / output) for output in outputs]
    defaults = {"settings": InferenceConfig(device="cpu")}
    return annotate(folder / "genome.fa", names, model, scores=scores, **defaults | settings)


def values(path):
    """Return the values of contig ``one``; NaN without a value."""
    with pyBigWig.open(str(path)) as track:
        return track.values("one", 0, LENGTH, numpy=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a genome, the default track, and tracks of all scores."""
    folder = tmp_path_factory.mktemp("scores")
    make_fasta(folder, {"one": planted_text()})
    score(folder, ["z.bw", "z.bed"], ["probability"])
    score(folder, ["all.bw", "all.bed"], SCORES[::-1])
    return folder


@pytest.fixture
def genome(tmp_path):
    make_fasta(tmp_path, {"one": planted_text()})
    return tmp_path


def test_propensity_calls_every_planted_repeat(folder):
    rows = [line.split("\t") for line in (folder / "all.propensity.bed").read_text().splitlines()]
    calls = [(int(row[1]), int(row[2])) for row in rows]
    for start, repeat in REPEATS.items():
        end = start + len(repeat)
        assert any(low < end and start < high for low, high in calls), repeat
    planted = sum(map(len, REPEATS.values()))
    assert sum(high - low for low, high in calls) < 2 * planted


def test_several_scores_are_written_in_one_run(folder):
    for extension in ("bw", "bed"):
        default, named = folder / f"z.{extension}", folder / f"all.probability.{extension}"
        assert named.read_bytes() == default.read_bytes()
    probability, propensity, activity = (values(folder / f"all.{each}.bw") for each in SCORES)
    is_n = np.array([letter == "N" for letter in planted_text()])
    assert (np.isnan(probability) == is_n).all()
    assert (np.isnan(propensity) == is_n).all()
    can_form = np.nan_to_num(propensity)
    assert not np.isnan(activity[can_form > MIN_PROPENSITY + 0.001]).any()
    assert np.isnan(activity[can_form < MIN_PROPENSITY - 0.001]).all()
    # the probability of both factors is at most that of the propensity, calibrated; tracks round both to 0.001
    calibration = zflipon.load_model("compact").metadata.calibration
    unsure = ~is_n & (propensity < 0.999)
    assert unsure.sum() > 1000
    bound = sigmoid(calibrate(logit(propensity[unsure] + 0.0005), calibration))
    assert (probability[unsure] <= bound + 0.0011).all()


def test_each_record_names_the_score_of_its_file(folder):
    metadata = zflipon.load_model("compact").metadata
    thresholds = (metadata.threshold, metadata.propensity_threshold, ACTIVITY_THRESHOLD)
    for name, threshold in zip(SCORES, thresholds, strict=True):
        record = json.loads((folder / f"all.{name}.bw.json").read_text())
        assert (record["score"], record["call"]["threshold"]) == (name, threshold)
        assert record["scores"] == {
            each: [str(folder / f"all.{each}.{extension}") for extension in ("bw", "bed")] for each in SCORES
        }
        calls = (folder / f"all.{name}.bed").read_text().splitlines()
        assert record["tracks"]["calls"] == len(calls)
    record = json.loads((folder / "z.bw.json").read_text())
    assert record["score"] == "probability"


def test_tracks_have_the_values_of_predict(folder):
    text = planted_text()
    for name in ("propensity", "activity"):
        (expected,) = zflipon.predict(text, score=name)
        found = values(folder / f"all.{name}.bw")
        known = ~np.isnan(found)
        assert known.any()
        # `predict` reads the whole text, `annotate` windows of it, whose context ends at their margins
        tolerance = 0.00051 if name == "propensity" else 0.01
        np.testing.assert_allclose(found[known], expected[known], atol=tolerance)


@pytest.mark.parametrize("both_strands", [True, False])
def test_each_score_alone_has_the_values_of_a_run_with_all(genome, both_strands):
    settings = {"settings": InferenceConfig(device="cpu", both_strands=both_strands)}
    score(genome, ["all.bw"], SCORES, **settings)
    for name in SCORES:
        score(genome, [f"{name}.bw"], [name], **settings)
        assert (genome / f"{name}.bw").read_bytes() == (genome / f"all.{name}.bw").read_bytes()


@pytest.mark.parametrize("model", ["compact", "compact-omics"])
def test_propensity_alone_runs_no_context_and_needs_no_omics_tracks(genome, monkeypatch, model):
    def fail(*_arguments):
        raise AssertionError("the model was run")

    monkeypatch.setattr("zflipon.inference.executor.Executor.submit", fail)
    record = score(genome, ["z.bw"], ["propensity"], model)
    assert record["tracks"]["windows_read"] == 0
    assert record["tracks"]["calls"] >= len(REPEATS)


def test_the_screen_leaves_the_propensity_unchanged(folder, genome):
    score(genome, ["z.bw"], SCORES, screen=True)
    assert (genome / "z.propensity.bw").read_bytes() == (folder / "all.propensity.bw").read_bytes()
    screened, full = values(genome / "z.activity.bw"), values(folder / "all.activity.bw")
    written = ~np.isnan(screened)
    np.testing.assert_allclose(screened[written], full[written], atol=0.0011)
    screened, full = values(genome / "z.probability.bw"), values(folder / "all.probability.bw")
    read = np.nan_to_num(screened) > 0
    np.testing.assert_allclose(screened[read], full[read], atol=0.0011)


def test_a_model_with_one_factor_has_the_probability_only(genome):
    for name in ("propensity", "activity"):
        with pytest.raises(ModelError, match="'zhunt' has no separate scores for propensity and activity"):
            score(genome, ["z.bw"], [name], "zhunt")
    assert not (genome / "z.bw").exists()


@pytest.mark.parametrize(
    ("outputs", "scores", "settings", "error", "message"),
    [
        (["-"], SCORES, {}, OutputError, "standard output takes one score"),
        (["z.bw"], ["propensity", "activity"], {"call": CallConfig(0.4)}, InputError, "for one score, but 2"),
        (["z.bw"], ["likelihood"], {}, InputError, "unknown score 'likelihood'"),
        (["z.bw"], [], {}, InputError, "no score is requested"),
    ],
)
def test_invalid_requests_are_refused(genome, outputs, scores, settings, error, message):
    names = [name if name == "-" else str(genome / name) for name in outputs]
    with pytest.raises(error, match=message):
        annotate(genome / "genome.fa", names, scores=scores, **settings)
    assert [path.name for path in genome.iterdir() if path.suffix == ".bw"] == []


def test_an_unfinished_run_of_another_score_is_not_resumed(genome, monkeypatch):
    def fail(*_arguments):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("zflipon.workflows.stored_shards.call_track", fail)
        with pytest.raises((OSError, ZfliponError)):
            score(genome, ["z.bw"], ["propensity"])
    with pytest.raises(ZfliponError, match="scores"):
        score(genome, ["z.bw"], ["activity"])
    record = score(genome, ["z.bw"], ["propensity"])
    assert record["score"] == "propensity"


def test_a_track_of_a_score_is_verified(folder):
    for name in ("propensity", "activity"):
        assert verify(folder / f"all.{name}.bw", "one:901-2,100").agrees


def test_the_command_reports_the_files_of_each_score(genome):
    words = ["annotate", str(genome / "genome.fa"), "-o", str(genome / "z.bw"), "--device", "cpu"]
    result = CliRunner().invoke(cli, [*words, "--score", "activity", "--score", "propensity"])
    assert result.exit_code == 0, result.output
    assert (
        f"propensity in {genome / 'z.propensity.bw'}; activity in {genome / 'z.activity.bw'}" in result.stderr
    )
