"""The doctor finds what is broken and says that the rest is well."""

import importlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

import zflipon.workflows.doctor
import zflipon.workflows.environment
from zflipon.cli import cli
from zflipon.config import DEFAULT_MODEL
from zflipon.models import load
from zflipon.models.hub import BUNDLED, WEIGHTS_SHA256, bundled
from zflipon.workflows.doctor import Trial, examine, fingerprints, reference
from zflipon.workflows.environment import look


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Time for no longer than one pass takes."""
    monkeypatch.setattr(zflipon.workflows.doctor, "_TIMED", 0.0)
    # probabilities of random weights crowd around their threshold
    monkeypatch.setattr(zflipon.workflows.doctor, "ALIKE", 0.985)


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


def test_every_bundled_model_has_a_fingerprint_and_a_record_of_its_weights():
    assert set(fingerprints()) == set(bundled())
    for name in bundled():
        assert WEIGHTS_SHA256 in json.loads((BUNDLED / name / "config.json").read_text())


def test_the_default_model_calls_something_of_the_reference():
    found = examine(DEFAULT_MODEL, threads=1)
    bases = sum(map(len, reference(8, load(DEFAULT_MODEL).metadata.window)))
    assert 100 < found.model["called"] < bases / 2


@pytest.mark.parametrize("kind", ["mean", "highest"])
def test_a_fingerprint_that_is_another_is_a_problem(monkeypatch, kind):
    known = fingerprints()
    known[DEFAULT_MODEL][kind][3] += 0.01
    monkeypatch.setattr(zflipon.workflows.doctor, "fingerprints", lambda: known)
    (problem,) = examine(DEFAULT_MODEL, threads=1).problems
    assert f"{DEFAULT_MODEL} says something else of the reference sequences" in problem
    assert "by up to 0.0100" in problem


def test_a_model_of_ones_own_is_held_against_no_fingerprint(monkeypatch, tiny_checkpoint):
    monkeypatch.setattr(
        zflipon.workflows.doctor, "fingerprints", lambda: {tiny_checkpoint.name: {"mean": [0.0] * 8}}
    )
    found = examine(str(tiny_checkpoint), threads=1)
    assert found.problems == []
    assert found.model["sha256_recorded"]
    assert found.model["tensors"] > 10


def test_weights_that_were_changed_are_not_those_of_the_record(broken):
    weights = load_file(broken / "model.safetensors")
    name = next(iter(weights))
    weights[name][0] += 1e-3
    save_file(weights, broken / "model.safetensors")
    (problem,) = examine(str(broken), threads=1).problems
    assert "not those that were saved with this config.json" in problem


def test_a_tokenizer_that_is_gone(broken):
    (broken / "tokenizer.json").unlink()
    (problem,) = examine(str(broken), threads=1).problems
    assert "tokenizer.json" in problem


def test_a_tensor_that_is_gone(broken):
    weights = load_file(broken / "model.safetensors")
    name = next(iter(weights))
    del weights[name]
    save_file(weights, broken / "model.safetensors")
    (problem,) = examine(str(broken), threads=1).problems
    assert name in problem


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


def test_disagreement_is_told(monkeypatch, tiny_checkpoint):
    plain = zflipon.workflows.doctor._trials

    def off(*arguments):
        for trial in plain(*arguments):
            yield replace(trial, difference=0.3) if trial.precision == "bfloat16" else trial

    monkeypatch.setattr(zflipon.workflows.doctor, "_trials", off)
    done = CliRunner().invoke(cli, ["doctor", "--model", str(tiny_checkpoint), "--threads", "1", "--quiet"])
    assert done.exit_code == 1
    assert "DISAGREES" in done.output
    assert "bfloat16 on cpu differs from float32 on the CPU by up to 0.3000" in done.output


def test_a_device_that_fails_is_told(monkeypatch, tiny_checkpoint):
    monkeypatch.setattr(zflipon.workflows.doctor, "_devices", lambda: {"cpu": "", "cuda:7": ""})
    found = examine(str(tiny_checkpoint), threads=1)
    assert [trial.device for trial in found.trials if trial.problem] == ["cuda:7"] * 3
    assert len(found.problems) == 3


def test_json_and_words_say_the_same(tiny_checkpoint):
    done = CliRunner().invoke(
        cli, ["doctor", "--model", str(tiny_checkpoint), "--json", "--threads", "1", "--quiet"]
    )
    assert done.exit_code == 0
    told = json.loads(done.output)
    assert told["packages"]["torch"]
    assert [trial["agrees"] for trial in told["trials"]] == [True, True]
    words = (
        CliRunner()
        .invoke(cli, ["doctor", "--model", str(tiny_checkpoint), "--threads", "1", "--quiet"])
        .output
    )
    assert told["model"]["sha256"] in words
    assert words.rstrip().endswith("all is well")


def test_packages_that_lack_or_do_not_load_are_told(monkeypatch):
    monkeypatch.setattr(zflipon.workflows.environment, "PACKAGES", ("numpy", "no_such_package", "unsound"))
    monkeypatch.setattr(
        zflipon.workflows.environment.importlib.util,
        "find_spec",
        lambda name: None if name[0:2] == "no" else name,
    )
    imported = importlib.import_module

    def unsound(name, *rest):
        if name == "unsound":
            raise ImportError("libcuda.so.99: cannot open\nmore")
        return imported(name, *rest)

    monkeypatch.setattr(zflipon.workflows.environment.importlib, "import_module", unsound)
    problems = look().problems
    assert problems == [
        "no_such_package is not installed: pip install zflipon",
        "unsound is installed and does not load (libcuda.so.99: cannot open): install it anew",
    ]


def test_a_package_that_is_too_old_is_told(monkeypatch):
    monkeypatch.setattr(
        zflipon.workflows.environment, "_version", lambda name: "0.1" if name == "peft" else "99"
    )
    monkeypatch.setattr(
        zflipon.workflows.environment,
        "requires",
        lambda _: ["peft>=0.18", "numpy>=1.26", "wandb>=100; extra == 'log'"],
    )
    (problem,) = look().problems
    assert problem == "peft 0.1 is not what zflipon needs: pip install 'peft>=0.18'"


def test_a_broken_environment_ends_the_examination(monkeypatch):
    monkeypatch.setattr(
        zflipon.workflows.environment, "_lacking", lambda: ["torch is not installed: pip install zflipon"]
    )
    done = CliRunner().invoke(cli, ["doctor"])
    assert done.exit_code == 1
    assert done.output.rstrip().endswith("problem: torch is not installed: pip install zflipon")
    told = json.loads(CliRunner().invoke(cli, ["doctor", "--json"]).output)
    assert told["problems"] == ["torch is not installed: pip install zflipon"]
    assert "trials" not in told


def test_to_look_at_the_environment_needs_none_of_it():
    script = "import sys, zflipon.workflows.environment; print(*sorted({'torch', 'numpy', 'pysam'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not done.stdout.strip()


def test_agreement_asks_for_small_differences_or_for_the_same_calls():
    assert Trial("cpu", "float32", 0.0, 1.0, 1.0).agrees
    assert not Trial("cpu", "float32", 0.005, 1.0, 1.0).agrees
    assert Trial("cpu", "bfloat16", 0.05, 0.9995, 1.0).agrees
    assert not Trial("cpu", "bfloat16", 0.05, 0.98, 1.0).agrees
    assert Trial("cpu", "bfloat16", 0.005, 0.99, 1.0).agrees  # of a model that is undecided everywhere
    assert not Trial("cpu", "bfloat16", 0.2, 1.0, 1.0).agrees
    assert not Trial("cpu", "bfloat16", problem="no").agrees
