"""The doctor finds what is broken and says that the rest is well."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

import zflipon.doctor
from zflipon.cli import cli
from zflipon.config import DEFAULT_MODEL
from zflipon.doctor import Trial, examine, fingerprints, reference
from zflipon.models.files import BUNDLED, bundled


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Time for no longer than one pass takes."""
    monkeypatch.setattr(zflipon.doctor, "_TIMED", 0.0)


@pytest.fixture
def broken(tmp_path):
    """Return a copy of the default model, to be broken."""
    shutil.copytree(BUNDLED / DEFAULT_MODEL, tmp_path / "copy")
    return tmp_path / "copy"


def test_the_reference_is_the_same_everywhere():
    first, second = reference(2, 2000)
    assert set(first + second) <= set("ACGT")
    assert len(first) == len(second) == 2000
    assert first[200:224] == "CG" * 12
    assert first[:20] == "CTTGCCGCATTTCGGTTCTG"
    assert np.mean([letter in "GC" for letter in second]) > np.mean([letter in "GC" for letter in first])


@pytest.mark.parametrize("name", bundled())
def test_bundled_models_are_well(name):
    found = examine(name, threads=1)
    assert found.problems == []
    assert found.model["name"] == name
    first, *others = found.trials
    assert (first.device, first.precision, first.difference, first.alike) == ("cpu", "float32", 0.0, 1.0)
    assert all(trial.agrees and trial.speed > 0 for trial in found.trials)
    assert {trial.precision for trial in others if trial.device == "cpu"} == {"bfloat16"}


def test_every_bundled_model_has_a_fingerprint():
    assert set(fingerprints()) == set(bundled())


def test_a_fingerprint_that_is_another_is_a_problem(monkeypatch):
    monkeypatch.setattr(zflipon.doctor, "fingerprints", lambda: {DEFAULT_MODEL: [0.5, 900.0]})
    (problem,) = examine(DEFAULT_MODEL, threads=1).problems
    assert "expected are 0.5 and 900.0" in problem


def test_weights_that_are_no_numbers(broken):
    weights = load_file(broken / "model.safetensors")
    name = next(iter(weights))
    weights[name][0] = float("nan")
    save_file(weights, broken / "model.safetensors")
    (problem,) = examine(str(broken), threads=1).problems
    assert f"{name} holds values that are no numbers" in problem


def test_weights_that_were_cut_short(broken):
    path = broken / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    done = CliRunner().invoke(cli, ["doctor", "--model", str(broken), "--threads", "1"])
    assert done.exit_code == 1
    assert "problem: " in done.output
    assert "cut short" in done.output
    assert "all is well" not in done.output


def test_disagreement_is_told(monkeypatch):
    plain = zflipon.doctor._trials

    def off(*arguments):
        for trial in plain(*arguments):
            yield replace(trial, difference=0.3) if trial.precision == "bfloat16" else trial

    monkeypatch.setattr(zflipon.doctor, "_trials", off)
    done = CliRunner().invoke(cli, ["doctor", "--threads", "1"])
    assert done.exit_code == 1
    assert "DISAGREES" in done.output
    assert "bfloat16 on cpu differs from float32 on the CPU by 0.3000" in done.output


def test_a_device_that_fails_is_told(monkeypatch):
    monkeypatch.setattr(zflipon.doctor, "_devices", lambda: ["cpu", "cuda:7"])
    found = examine(DEFAULT_MODEL, threads=1)
    assert [trial.device for trial in found.trials if trial.problem] == ["cuda:7"] * 3
    assert len(found.problems) == 3


def test_json_and_words_say_the_same():
    done = CliRunner().invoke(cli, ["doctor", "--json", "--threads", "1"])
    assert done.exit_code == 0
    told = json.loads(done.output)
    assert told["packages"]["torch"]
    assert [trial["agrees"] for trial in told["trials"]] == [True, True]
    words = CliRunner().invoke(cli, ["doctor", "--threads", "1"]).output
    assert told["model"]["sha256"] in words
    assert words.rstrip().endswith("all is well")


def test_agreement_asks_for_both():
    assert Trial("cpu", "float32", 0.0, 1.0, 1.0).agrees
    assert not Trial("cpu", "float32", 0.0, 0.999, 1.0).agrees
    assert not Trial("cpu", "bfloat16", 0.2, 1.0, 1.0).agrees
    assert not Trial("cpu", "bfloat16", problem="no").agrees
