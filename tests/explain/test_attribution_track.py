"""The track of attributions, and the command that writes tables, tracks and completeness errors."""

import csv
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyBigWig
import pytest
from click.testing import CliRunner
from conftest import dna, make_fasta
from explained_models import OBJECTIVES, Z_FORMING, small_model, windows

from zflipon.cli.explain.attributions import attributions as command
from zflipon.config import AttributionConfig, Selection
from zflipon.errors import InputError, OutputError
from zflipon.explain.attribution_track import attribution_track
from zflipon.explain.integrated_gradients import IntegratedGradientsExplainer
from zflipon.genome.fasta import Genome
from zflipon.models import Calibration, load, save


@pytest.fixture
def genome(tmp_path):
    """Return a FASTA with Z-forming sequence, a gap of N and a short run of N."""
    text = dna(700, 4)
    text = (
        text[:100] + Z_FORMING * 2 + text[136:300] + "N" * 80 + text[380:500] + Z_FORMING + "NNN" + text[521:]
    )
    return make_fasta(tmp_path, {"one": text, "void": "N" * 200})


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_track_is_the_sum_over_windows(genome, objective):
    checkpoint = small_model("compact", objective)
    checkpoint = replace(checkpoint, metadata=replace(checkpoint.metadata, window=128, margin=32))
    explainer = IntegratedGradientsExplainer(checkpoint, AttributionConfig(steps=20), "cpu")
    with Genome(genome) as source:
        track, attributions = attribution_track(explainer, source, Selection(), every_base=True)
        part, _ = attribution_track(explainer, source, Selection(("one:101-200",)), every_base=True)
        text = source.fetch("one", 0, 700)
    assert [(start, len(values)) for start, values in track["one"]] == [(0, 300), (380, 320)]
    total = sum(np.nansum(values) for _, values in track["one"])
    expected = sum(
        attribution.per_base()[i]
        for window, attribution in attributions
        for i in range(window.end - window.start)
        if text[window.start + i] != "N"
    )
    assert total == pytest.approx(expected, abs=1e-4)
    for start, values in track["one"]:
        letters = np.array(list(text[start : start + len(values)]))
        assert (np.isnan(values) == (letters == "N")).all()
    ((start, values),) = part["one"]
    assert (start, len(values)) == (100, 100)


def test_the_track_explains_called_bases(genome, tiny_checkpoint):
    explainer = IntegratedGradientsExplainer(load(tiny_checkpoint), AttributionConfig(steps=4), "cpu")
    with Genome(genome) as source:
        _, attributions = attribution_track(explainer, source, Selection(), threshold=0.01)
        assert attributions
        for window, attribution in attributions:
            weights = attribution.target.weights
            positions = np.flatnonzero(weights) + window.start
            assert window.core_start <= positions.min() <= positions.max() < window.core_end
            assert weights.sum() == pytest.approx(1, abs=1e-5)
        with pytest.raises(InputError, match="no base of the regions is called at a threshold of 1"):
            attribution_track(explainer, source, Selection(), threshold=1.0)
        with pytest.raises(InputError, match="hold no sequence"):
            attribution_track(explainer, source, Selection(("void:1-100",)))


def read(path):
    """Return title, header and rows of a CSV file."""
    lines = path.read_text().splitlines()
    pairs = (line[2:].partition(": ") for line in lines if line.startswith("#"))
    header = {key: value for key, _, value in pairs}
    return header["table"], header, list(csv.DictReader(line for line in lines if not line.startswith("#")))


def run(*arguments):
    return CliRunner().invoke(command, [str(each) for each in arguments])


def test_the_command_writes_table_track_and_completeness_errors(genome, tiny_checkpoint, tmp_path):
    labels = tmp_path / "labels.bed"
    labels.write_text("one\t100\t136\none\t500\t518\n")
    table, track, deltas = tmp_path / "scores.csv", tmp_path / "why.bw", tmp_path / "deltas.csv"
    arguments = [
        *(genome, "-o", table, "-o", track, "--deltas", deltas, "--model", tiny_checkpoint),
        *("--labels", labels, "--region", "one:51-250", "--bases", "all", "--threshold", 0.001),
        *("--steps", 4, "--device", "cpu", "--window", 100),
    ]
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert "completeness: " in result.output
    title, header, rows = read(table)
    assert "10 highest-attributed tokens of each true positive token" in title
    assert header["objective"] == "base"
    assert header["labels"] == "labels.bed"
    assert header["steps"] == "4"
    assert set(rows[0]) == {"token", "score", "count"}
    assert all(set(row["token"]) <= set("ACGT") for row in rows)
    _, _, rows = read(deltas)
    assert {row["sequence"] for row in rows} == {"one"}
    for row in rows:
        error = float(row["attributed"]) - (float(row["output"]) - float(row["reference"]))
        assert float(row["delta"]) == pytest.approx(error, abs=1e-3)
    with pyBigWig.open(str(track)) as file:
        assert file.chroms() == {"one": 700, "void": 200}
        values = file.values("one", 50, 250, numpy=True)
        assert np.isfinite(values).all()
        assert values.min() < 0 < values.max()
        assert np.isnan(file.values("one", 0, 50, numpy=True)).all()
    content = track.read_bytes()  # pyBigWig rounds the extremes of the summary to integers
    (summary,) = struct.unpack_from("<Q", content, 0x2C)
    assert struct.unpack_from("<dd", content, summary + 8) == pytest.approx((values.min(), values.max()))
    assert isinstance(run(*arguments).exception, OutputError)
    assert run(*arguments, "--force").exit_code == 0


def test_the_command_reads_a_table_of_sequences(tmp_path):
    checkpoint = small_model("gena", "sequence")
    checkpoint = replace(checkpoint, metadata=replace(checkpoint.metadata, calibration=Calibration(1, 9)))
    save(checkpoint, tmp_path / "model")
    table, out = tmp_path / "test.csv", tmp_path / "scores.csv"
    lines = [f"{text},{label}" for text, label in zip(windows(4), (1, 0, 1, 1), strict=True)]
    table.write_text("sequence,label\n" + "\n".join(lines) + "\n")
    arguments = (table, "-o", out, "--model", tmp_path / "model", "--steps", 3, "--device", "cpu")
    result = run(*arguments, "--raw")
    assert result.exit_code == 0, result.output
    title, header, rows = read(out)
    assert "mean score of tokens over true positive sequences" in title
    assert (header["sequences"], header["true_positives"]) == ("4", "3")
    assert header["normalised"] == "False"
    assert len(rows) > 5
    assert run(*arguments, "--limit", 3, "--force").exit_code == 0
    assert read(out)[1]["sequences"] == "3"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["g.fa", "-o", "x.tsv"], "unknown extension"),
        (["g.csv", "-o", "x.bw"], "a track needs a genome"),
        (["g.fa", "-o", "x.bw"], "needs --region or --regions"),
        (["g.fa", "-o", "x.csv"], "needs --labels"),
    ],
)
def test_wrong_options_are_usage_errors(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(arguments[0]).touch()
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.output
