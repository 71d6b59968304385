"""Thresholds for a stated precision or false-discovery rate, with closed-form answers, and their use by annotate."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import dna, make_fasta

import zflipon
from zflipon.cli import cli
from zflipon.errors import InputError
from zflipon.tracks.bigwig_writer import write_bigwig_values
from zflipon.tracks.thresholds import BLOCK_BASES, LEVELS
from zflipon.workflows.calibration_file import read_calibration, write_calibration
from zflipon.workflows.operating_points import CALLS, draw_blocks, fdr_of, lowest_level, precision_of

LENGTH = 2 * BLOCK_BASES + 1000


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    text = "ACGTTGCA" * (LENGTH // 8)
    return make_fasta(tmp_path_factory.mktemp("genome"), {"a": text})


def write_track(folder, calls, record=None):
    """Write a bigWig of (start, end, score) and a BED of the labelled ones."""
    values = np.zeros(LENGTH, dtype=np.float32)
    for start, end, score in calls:
        values[start:end] = score
    track = folder / "z.bw"
    write_bigwig_values(track, {"a": LENGTH}, {"a": [(0, values)]})
    if record is not None:
        (folder / "z.bw.json").write_text(json.dumps(record))
    return track


def steps(number, score, offset):
    """Return calls of 20 bases, alternately in both blocks of the genome."""
    return [(offset + 100 * i + BLOCK_BASES * (i % 2), offset + 100 * i + BLOCK_BASES * (i % 2) + 20, score)
            for i in range(number)]  # fmt: skip


def write_labels(folder, calls):
    labels = folder / "labels.bed"
    labels.write_text("".join(f"a\t{start}\t{end}\n" for start, end, _ in calls))
    return labels


def test_the_lowest_threshold_with_the_precision_is_chosen(tmp_path, genome):
    """80 of 100 calls at 0.9, 60 of 100 at 0.7 and 10 of 100 at 0.4 are labelled: 0.8, 0.7 and 0.5 precision."""
    high, middle, low = steps(100, 0.9, 0), steps(100, 0.7, 20_000), steps(100, 0.4, 40_000)
    track = write_track(tmp_path, high + middle + low)
    labels = write_labels(tmp_path, sorted(high[:80] + middle[:60] + low[:10]))
    for target, threshold, precision, recall in ((0.8, 0.701, 0.8, 80 / 150), (0.7, 0.401, 0.7, 140 / 150),
                                                 (0.5, 0.001, 0.5, 1.0)):  # fmt: skip
        found = zflipon.calibrate(track, genome, labels, precision=target)
        assert (found.threshold, found.estimate) == (threshold, pytest.approx(precision))
        assert found.recall == pytest.approx(recall)
        assert found.calls * 20 == found.called_bases
        low_end, high_end = found.interval
        assert low_end <= found.estimate <= high_end
    with pytest.raises(
        InputError, match=r"no threshold reaches 0.9; the highest is 0.800, at 0.701 with 100"
    ):
        zflipon.calibrate(track, genome, labels, precision=0.9)


def test_evaluate_agrees_with_the_chosen_precision(tmp_path, genome):
    calls = steps(80, 0.9, 0) + steps(80, 0.5, 20_000)
    track = write_track(tmp_path, calls)
    labels = write_labels(tmp_path, sorted(calls[:70] + calls[80:100]))
    found = zflipon.calibrate(track, genome, labels, precision=0.8)
    (tmp_path / "z.bw.json").write_text(json.dumps({"call": {"threshold": found.threshold}}))
    report = zflipon.evaluate(track, labels, genome)
    summary = report.summary()["tracks"]["z.bw"]["genome"]
    assert summary["precision"] == pytest.approx(found.estimate)
    assert summary["recall"] == pytest.approx(found.recall)


def test_blacklisted_and_other_bases_do_not_count(tmp_path, genome):
    calls = steps(60, 0.9, 0)
    track = write_track(tmp_path, calls)
    labels = write_labels(tmp_path, sorted(calls[::2]))
    blacklist = tmp_path / "black.bed"
    blacklist.write_text(f"a\t{BLOCK_BASES}\t{LENGTH}\n")  # odd calls, without label
    assert zflipon.calibrate(track, genome, labels, precision=0.5).estimate == pytest.approx(0.5)
    assert zflipon.calibrate(track, genome, labels, precision=0.9, blacklist=blacklist).estimate == 1.0


def test_rates_are_those_of_the_counts():
    counts = np.zeros((3, LEVELS))
    counts[:, 500] = 200, 150, 10
    assert precision_of(counts)[500] == 0.75
    assert np.isnan(precision_of(counts)[501])
    rates = fdr_of(np.array([100, 40, 8, 0]), np.array([49, 9, 0, 0]), scale=0.5)
    assert rates[:3].tolist() == [0.25, 0.125, 0.0625]
    assert np.isnan(rates[3])
    assert fdr_of(np.array([2]), np.array([90]), 1.0).tolist() == [1.0]
    assert lowest_level(rates, 0.13, np.array([100, 40, 8, 0]), "x", at_least=False) == 1
    with pytest.raises(
        InputError, match=r"no threshold reaches 0.01; the lowest is 0.062, at 0.002 with 8 calls"
    ):
        lowest_level(rates, 0.01, np.array([100, 40, 8, 0]), "x", at_least=False)


def test_draws_have_the_mean_and_spread_of_the_blocks():
    blocks = np.zeros((50, 3, 2), dtype=np.int64)
    blocks[:, CALLS, 1] = np.arange(50)
    draws = draw_blocks(blocks, 1)[:, CALLS, 1]
    assert draws.mean() == pytest.approx(blocks[:, CALLS, 1].sum(), rel=0.02)
    assert draws.std() == pytest.approx(np.sqrt(50) * np.arange(50).std(), rel=0.1)
    assert draw_blocks(blocks[:1], 1) is None


@pytest.fixture(scope="module")
def annotated(tmp_path_factory):
    """Random sequence with planted CG repeats, annotated by Z-HUNT."""
    folder = tmp_path_factory.mktemp("annotated")
    parts = [dna(700, seed) + "CG" * 12 for seed in range(120)]
    genome = make_fasta(folder, {"a": "".join(parts), "b": dna(3000, 999)})
    zflipon.annotate(genome, folder / "z.bw", model="zhunt")
    return folder, genome


def test_shuffles_estimate_the_false_discovery_rate(annotated):
    folder, genome = annotated
    found = zflipon.calibrate(folder / "z.bw", genome, fdr=0.2, shuffled_bases=10**6)
    assert (found.method, found.score, found.model) == ("fdr", "probability", "zhunt")
    assert found.estimate <= 0.2
    assert found.calls >= 100  # the planted repeats
    assert found.expected_calls == pytest.approx(found.estimate * found.calls)
    assert found.data["shuffled_bases"] == found.data["annotated_bases"] == 120 * 724 + 3000
    rate = (found.data["shuffled_calls"] + 1) / found.calls
    assert found.estimate == pytest.approx(rate)
    again = zflipon.calibrate(folder / "z.bw", genome, fdr=0.2, shuffled_bases=10**6)
    assert again == found


def run(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


def test_annotate_uses_the_calibration_and_records_it(annotated, tmp_path):
    folder, genome = annotated
    output = tmp_path / "c.json"
    result = run("calibrate", folder / "z.bw", "--genome", genome, "--fdr", 0.2, "-o", output,
                 "--shuffled-bases", 50_000)  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "false-discovery rate" in result.stdout
    calibration = read_calibration(output)
    result = run("annotate", genome, "-o", tmp_path / "z.bed", "--model", "zhunt", "--calibration", output)
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "z.bed.json").read_text())
    assert record["call"] == {"threshold": calibration.threshold, "min_length": 6, "merge_gap": 0}
    assert record["calibration"]["method"] == "fdr"
    assert record["calibration"]["estimate"] == calibration.estimate
    assert record["tracks"]["calls"] == calibration.calls
    assert record["tracks"]["called_bases"] == calibration.called_bases


def test_a_calibration_of_another_model_score_or_call_is_refused(annotated, tmp_path, tiny_checkpoint):
    folder, genome = annotated
    output = tmp_path / "c.json"
    write_calibration(output, zflipon.calibrate(folder / "z.bw", genome, fdr=0.2, shuffled_bases=20_000))

    def refused(message, **options):
        with pytest.raises(InputError, match=message):
            zflipon.annotate(genome, tmp_path / "no.bed", calibration=output, **{"model": "zhunt", **options})

    refused("was made for the model zhunt with other weights", model=tiny_checkpoint)
    refused(
        "is for the score probability, but the run has propensity",
        model=tiny_checkpoint,
        scores=["propensity"],
    )
    refused("has a threshold, and another one is given", threshold=0.5)
    refused("was made with --min-length 6, not 9", min_length=9)
    values = json.loads(output.read_text())
    output.write_text(json.dumps(values | {"model_sha256": None}))
    refused("its model is unknown")
    output.write_text(json.dumps(values | {"threshold": 7}))
    refused("a damaged calibration file: threshold")
    output.write_text("{}")
    refused("not a calibration file")
    output.unlink()
    refused("cannot be read")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--precision", "0.8"), "--precision needs --labels"),
        (("--fdr", "0.1", "--labels", "x.bed"), "--fdr is for calibration without labels"),
    ],
)
def test_targets_that_do_not_fit_are_refused(words, message, tmp_path):
    track, genome = tmp_path / "z.bw", tmp_path / "g.fa"
    track.touch()
    genome.touch()
    result = run("calibrate", track, "--genome", genome, "-o", tmp_path / "c.json", *words)
    assert result.exit_code == 2
    assert message in result.output


def test_tracks_that_cannot_be_calibrated_are_refused(tmp_path, genome):
    bed = tmp_path / "z.bed"
    bed.write_text("a\t0\t20\n")
    with pytest.raises(InputError, match="calls but no scores"):
        zflipon.calibrate(bed, genome, bed)
    with pytest.raises(InputError, match="has no record"):
        zflipon.calibrate(write_track(tmp_path, [(0, 20, 0.5)]), genome)
    with pytest.raises(InputError, match="scores outside of 0 to 1"):
        zflipon.calibrate(write_track(tmp_path, [(0, 20, 1.5)]), genome, bed)
