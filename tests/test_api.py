"""The Python API: examples of the docstrings, agreement with the tracks, no side effects."""

import doctest
import json
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from conftest import dna, make_fasta

import zflipon
import zflipon.api
from zflipon.errors import InputError, ModelError, Stopped, ZfliponError
from zflipon.jobs.signals import StopRequest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def genome(tmp_path):
    return make_fasta(
        tmp_path, {"one": dna(3000, 1) + "N" * 60 + dna(900, 2) + "NN", "two": dna(200, 3).lower()}
    )


@pytest.fixture
def model(tiny_checkpoint):
    return zflipon.load_model(tiny_checkpoint, device="cpu")


@pytest.mark.parametrize(
    "name", [*(name for name in zflipon.api.__all__ if name != "Model"), "calibrate", "merge"]
)
def test_examples_run(name, tmp_path, monkeypatch):
    for file in ("demo.fa", "demo_truth.bed", "tiny.toml"):
        shutil.copy(EXAMPLES / file, tmp_path)
    monkeypatch.chdir(tmp_path)
    (test,) = doctest.DocTestFinder(recurse=False).find(getattr(zflipon, name), name)
    assert test.examples, f"{name} has no example"
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    report = []
    runner.run(test, out=report.append)
    assert not runner.failures, "".join(report)


def test_the_package_exports_the_api_and_imports_no_torch():
    assert set(zflipon.api.__all__) <= set(zflipon.__all__) <= set(dir(zflipon))
    code = "import sys, zflipon; zflipon.__version__; dir(zflipon); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    with pytest.raises(AttributeError, match="no attribute 'prophesy'"):
        zflipon.prophesy  # noqa: B018


def test_predict_region_and_genome_agree_with_the_track(genome, model, tmp_path):
    import pyBigWig

    zflipon.annotate(genome, tmp_path / "z.bw", model)
    texts = {"one": dna(3000, 1) + "N" * 60 + dna(900, 2) + "NN", "two": dna(200, 3)}
    whole = dict(zip(texts, zflipon.predict(list(texts.values()), model), strict=True))
    streamed = {name: np.full(len(text), np.nan, dtype=np.float32) for name, text in texts.items()}
    for contig, start, values in zflipon.predict_genome(genome, model):
        streamed[contig][start : start + len(values)] = values
    with pyBigWig.open(str(tmp_path / "z.bw")) as track:
        for name, text in texts.items():
            expected = np.array(track.values(name, 0, len(text)))
            np.testing.assert_allclose(whole[name], expected, atol=6e-4)
            np.testing.assert_allclose(streamed[name], whole[name], atol=1e-5)
    part = zflipon.predict_region(genome, "one:2,901-3,100", model)
    np.testing.assert_allclose(part, whole["one"][2900:3100], atol=1e-5)


def test_the_probability_is_the_calibrated_product_of_both_scores(model):
    from zflipon.inference.decoding import calibrate, sigmoid

    text = dna(700, 5)
    probability, propensity, activity = (
        zflipon.predict(text, model, score=score)[0] for score in ("probability", "propensity", "activity")
    )
    product = propensity * activity
    expected = sigmoid(calibrate(np.log(product) - np.log1p(-product), model.metadata.calibration))
    np.testing.assert_allclose(probability, expected, atol=1e-4)
    assert 0 <= propensity.min() <= propensity.max() <= 1


def test_models_without_factors_and_unknown_scores_are_refused():
    with pytest.raises(ModelError, match="no separate scores"):
        zflipon.predict("ACGT" * 20, model="zhunt", score="activity")
    with pytest.raises(InputError, match="unknown score 'certainty'"):
        zflipon.predict("ACGT", model="zhunt", score="certainty")
    with pytest.raises(InputError, match="sequence 2 holds 'E' at base 3"):
        zflipon.predict(["ACGT", "ACEF"], model="zhunt")


def test_short_empty_and_unknown_sequences(model):
    values = zflipon.predict(["", "A", "N" * 80, "acgtn"], model)
    assert [len(each) for each in values] == [0, 1, 80, 5]
    assert np.isnan(values[2]).all()
    assert np.isnan(values[3]).tolist() == [False] * 4 + [True]
    assert zflipon.predict([], model) == []


def test_an_omics_model_predicts_without_tracks_only_if_asked():
    with pytest.raises(ZfliponError, match="tracks are missing"):
        zflipon.predict("ACGT" * 20, model="compact-omics")
    model = zflipon.load_model("compact-omics", device="cpu", missing_features="zero")
    (values,) = zflipon.predict(dna(300, 1), model)
    assert np.isfinite(values).all()


def test_the_library_works_in_a_thread_and_twice_and_leaves_signals_and_streams_alone(
    genome, model, tmp_path, capsys
):
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    reports, errors = [], []

    def run(name):
        try:
            zflipon.annotate(genome, tmp_path / name, model, progress=lambda *counts: reports.append(counts))
        except BaseException as error:
            errors.append(error)

    for name in ("a.bed", "b.bed"):
        thread = threading.Thread(target=run, args=(name,))
        thread.start()
        thread.join()
    assert errors == []
    assert (tmp_path / "a.bed").read_bytes() == (tmp_path / "b.bed").read_bytes()
    assert sum(done for done, _ in reports) == 2 * reports[0][1] == 2 * 4100
    assert handlers == {number: signal.getsignal(number) for number in handlers}
    assert capsys.readouterr().out == ""
    assert json.loads((tmp_path / "a.bed.json").read_text())["command"] == "zflipon.annotate()"


def test_a_run_can_be_stopped_by_its_caller_and_resumed(genome, model, tmp_path):
    stop = StopRequest()
    stop.request()
    with pytest.raises(Stopped, match="same command again"):
        zflipon.annotate(genome, tmp_path / "z.bed", model, stop=stop)
    assert list(tmp_path.glob("z.bed.unfinished/*.shard"))
    zflipon.annotate(genome, tmp_path / "z.bed", model)
    assert (tmp_path / "z.bed").exists()
