"""`zflipon doctor`: models that are intact or damaged, trials that agree or not, and the printed report."""

import json
import shutil
from dataclasses import replace

import pytest
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

import zflipon.workflows.doctor
import zflipon.workflows.environment
from zflipon.cli import cli
from zflipon.config import DEFAULT_MODEL
from zflipon.genome.reference_sequences import reference_sequences
from zflipon.models import load
from zflipon.models.files import BUNDLED, WEIGHTS_SHA256, bundled
from zflipon.workflows.doctor import Trial, check_model
from zflipon.workflows.fingerprints import bundled_fingerprints


@pytest.fixture(autouse=True)
def fast_checks(monkeypatch):
    """Measure the speed in a single pass, and accept the calls of models with random weights."""
    monkeypatch.setattr(zflipon.workflows.doctor, "MIN_SECONDS", 0.0)
    monkeypatch.setattr(zflipon.workflows.doctor, "MIN_SAME_CALLS", 0.985)


@pytest.fixture
def damaged(tmp_path):
    """Return a copy of the default model, which tests damage."""
    shutil.copytree(BUNDLED / DEFAULT_MODEL, tmp_path / "copy")
    return tmp_path / "copy"


def forget_checksum(folder):
    """Remove the recorded SHA-256 of the weights, as after a deliberate change."""
    config = json.loads((folder / "config.json").read_text())
    del config["zflipon_sha256"]
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("name", bundled())
def test_bundled_models_have_no_problems(name):
    report = check_model(name, threads=1)
    assert report.problems == []
    assert report.model["name"] == name
    first, *others = report.trials
    assert (first.device, first.precision, first.difference, first.alike) == ("cpu", "float32", 0.0, 1.0)
    assert all(trial.agrees and trial.speed > 0 for trial in report.trials)
    assert {trial.precision for trial in others if trial.device == "cpu"} == {"bfloat16"}


def test_every_bundled_model_has_a_fingerprint_and_a_record_of_its_weights():
    assert set(bundled_fingerprints()) == set(bundled())
    for name in bundled():
        assert WEIGHTS_SHA256 in json.loads((BUNDLED / name / "config.json").read_text())


def test_the_default_model_calls_part_of_the_reference_sequences():
    report = check_model(DEFAULT_MODEL, threads=1)
    bases = sum(map(len, reference_sequences(load(DEFAULT_MODEL).metadata.window)))
    assert 100 < report.model["called"] < bases / 2


@pytest.mark.parametrize("key", ["mean", "highest"])
def test_a_different_fingerprint_is_a_problem(monkeypatch, key):
    known = bundled_fingerprints()
    known[DEFAULT_MODEL][key][3] += 0.01
    monkeypatch.setattr(zflipon.workflows.doctor, "bundled_fingerprints", lambda: known)
    (problem,) = check_model(DEFAULT_MODEL, threads=1).problems
    assert f"{DEFAULT_MODEL} predicts the reference sequences differently than at its release" in problem
    assert "by up to 0.0100" in problem


def test_other_models_have_no_fingerprint(monkeypatch, tiny_checkpoint):
    monkeypatch.setattr(
        zflipon.workflows.doctor, "bundled_fingerprints", lambda: {tiny_checkpoint.name: {"mean": [0.0] * 8}}
    )
    report = check_model(str(tiny_checkpoint), threads=1)
    assert report.problems == []
    assert report.model["sha256_recorded"]
    assert report.model["tensors"] > 10


def test_changed_weights_do_not_match_the_recorded_checksum(damaged):
    weights = load_file(damaged / "model.safetensors")
    name = next(iter(weights))
    weights[name][0] += 1e-3
    save_file(weights, damaged / "model.safetensors")
    (problem,) = check_model(str(damaged), threads=1).problems
    assert "the weights are damaged or were replaced" in problem


def test_a_missing_tokenizer(damaged):
    (damaged / "tokenizer.json").unlink()
    (problem,) = check_model(str(damaged), threads=1).problems
    assert "tokenizer.json" in problem


def test_a_missing_tensor(damaged):
    weights = load_file(damaged / "model.safetensors")
    name = next(iter(weights))
    del weights[name]
    save_file(weights, damaged / "model.safetensors")
    forget_checksum(damaged)
    (problem,) = check_model(str(damaged), threads=1).problems
    assert name in problem


def test_weights_that_are_nan(damaged):
    weights = load_file(damaged / "model.safetensors")
    name = next(iter(weights))
    weights[name][0] = float("nan")
    save_file(weights, damaged / "model.safetensors")
    forget_checksum(damaged)
    (problem,) = check_model(str(damaged), threads=1).problems
    assert f"{name} holds NaN or infinite values" in problem


def test_truncated_weights(damaged):
    path = damaged / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    result = CliRunner().invoke(cli, ["doctor", "--model", str(damaged), "--threads", "1"])
    assert result.exit_code == 1
    assert "problem: " in result.output
    assert "the weights are damaged" in result.output
    assert "no problems found" not in result.output


def test_a_disagreement_is_printed(monkeypatch, tiny_checkpoint):
    run_trials = zflipon.workflows.doctor._run_trials

    def disagreeing(*arguments):
        for trial in run_trials(*arguments):
            yield replace(trial, difference=0.3) if trial.precision == "bfloat16" else trial

    monkeypatch.setattr(zflipon.workflows.doctor, "_run_trials", disagreeing)
    result = CliRunner().invoke(cli, ["doctor", "--model", str(tiny_checkpoint), "--threads", "1", "--quiet"])
    assert result.exit_code == 1
    assert "DISAGREES" in result.output
    assert "bfloat16 on cpu differs from float32 on the CPU by up to 0.3000" in result.output


def test_a_device_that_fails_is_a_problem(monkeypatch, tiny_checkpoint):
    monkeypatch.setattr(zflipon.workflows.doctor, "_describe_devices", lambda: {"cpu": "", "cuda:7": ""})
    report = check_model(str(tiny_checkpoint), threads=1)
    assert [trial.device for trial in report.trials if trial.problem] == ["cuda:7"] * 3
    assert len(report.problems) == 3


def test_json_and_text_report_the_same(tiny_checkpoint):
    result = CliRunner().invoke(
        cli, ["doctor", "--model", str(tiny_checkpoint), "--json", "--threads", "1", "--quiet"]
    )
    assert result.exit_code == 0
    content = json.loads(result.output)
    assert content["packages"]["torch"]
    assert [trial["agrees"] for trial in content["trials"]] == [True, True]
    text = (
        CliRunner()
        .invoke(cli, ["doctor", "--model", str(tiny_checkpoint), "--threads", "1", "--quiet"])
        .output
    )
    assert content["model"]["sha256"] in text
    assert text.rstrip().endswith("no problems found")


def test_trials_agree_by_small_differences_or_by_the_same_calls():
    assert Trial("cpu", "float32", 0.0, 1.0, 1.0).agrees
    assert not Trial("cpu", "float32", 0.005, 1.0, 1.0).agrees
    assert Trial("cpu", "bfloat16", 0.05, 0.9995, 1.0).agrees
    assert not Trial("cpu", "bfloat16", 0.05, 0.98, 1.0).agrees
    assert Trial("cpu", "bfloat16", 0.005, 0.99, 1.0).agrees  # all bases may lie at the threshold
    assert not Trial("cpu", "bfloat16", 0.2, 1.0, 1.0).agrees
    assert not Trial("cpu", "bfloat16", problem="no").agrees


def test_progress_counts_the_trials(tiny_checkpoint):
    steps = []
    report = check_model(str(tiny_checkpoint), 1, lambda done, total: steps.append((done, total)))
    assert steps == [(1, len(report.trials))] * len(report.trials)


def test_a_broken_environment_ends_the_checks(monkeypatch):
    monkeypatch.setattr(
        zflipon.workflows.environment,
        "_find_problems",
        lambda: ["torch is not installed: pip install zflipon"],
    )
    result = CliRunner().invoke(cli, ["doctor"])
    assert result.exit_code == 1
    assert result.output.rstrip().endswith("problem: torch is not installed: pip install zflipon")
    content = json.loads(CliRunner().invoke(cli, ["doctor", "--json"]).output)
    assert content["problems"] == ["torch is not installed: pip install zflipon"]
    assert "trials" not in content
