"""Base heads that read omics tracks: the omics head itself, training on a decisive track, and every command."""

import csv
import hashlib
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyBigWig
import pytest
import torch
from conftest import dna, make_fasta

from zflipon.config import AttributionConfig, DataConfig, FeaturesConfig, InferenceConfig
from zflipon.errors import ModelError, ZfliponError
from zflipon.explain.attribution import AttributionTarget
from zflipon.explain.calls import read_track_inputs
from zflipon.explain.integrated_gradients import IntegratedGradientsExplainer
from zflipon.explain.locus import omics_contributions
from zflipon.genome.windows import tile_windows
from zflipon.inference.genome_scan import predict_windows
from zflipon.inference.predictor import Predictor
from zflipon.models import create, load, save
from zflipon.models.heads.omics import OmicsHead
from zflipon.omics.features import open_model_features
from zflipon.training.dataset import read_training_data
from zflipon.training.omics_readout import Candidates, fit_omics
from zflipon.training.readout import fit_readout
from zflipon.training.sampling import drop_tracks
from zflipon.workflows.annotate import annotate
from zflipon.workflows.variants import score_variants

SHAPE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture
def omics():
    torch.manual_seed(0)
    checkpoint = OmicsHead(
        context=6, tracks=3, distances=[0, 16, 48], bin_size=16, hidden=8, dropout=0.5
    ).eval()
    assert checkpoint.view == (16, 48)
    return checkpoint


def test_the_omics_head_equals_a_slow_loop(omics):
    rng = np.random.default_rng(1)
    context = torch.tensor(rng.normal(size=(2, 5, 6)), dtype=torch.float32)
    features = torch.tensor(rng.normal(size=(2, 3, 5 + 6)), dtype=torch.float32)
    present = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
    with torch.no_grad():
        result = omics(context, features, present).numpy()
        for row in range(2):
            for at in range(5):
                read = [*context[row, at]]
                for track in range(3):
                    for reach in (0, 1, 3):
                        near = features[row, track, 3 + at - reach : 3 + at + reach + 1].mean()
                        read.append(near * present[row, track])
                read = torch.stack([*read, *present[row]])
                expected = omics.exit(torch.nn.functional.gelu(omics.entry(read))).item()
                assert result[row, at] == pytest.approx(expected, abs=1e-5)


def test_absent_tracks_have_no_effect(omics):
    rng = np.random.default_rng(2)
    context = torch.tensor(rng.normal(size=(1, 5, 6)), dtype=torch.float32)
    features = torch.tensor(rng.normal(size=(1, 3, 11)), dtype=torch.float32)
    with torch.no_grad():
        assert (omics(context, features, torch.zeros(1, 3)) == 0).all()
        present, other = torch.tensor([[1.0, 0.0, 1.0]]), features.clone()
        other[:, 1] += 100
        assert torch.equal(omics(context, features, present), omics(context, other, present))
        other[:, 0] += 1
        assert not torch.equal(omics(context, features, present), omics(context, other, present))


@pytest.mark.parametrize("distances", [[], [0, 8], [-16]])
def test_distances_must_be_multiples_of_the_step(distances):
    with pytest.raises(ModelError, match="distances must be multiples of 16 bases, 0 or more"):
        OmicsHead(context=6, tracks=3, distances=distances, bin_size=16, hidden=8, dropout=0.5)


@pytest.mark.parametrize("hidden", [5, 21])
def test_hidden_units_need_not_divide_evenly(hidden):
    torch.manual_seed(1)
    checkpoint = OmicsHead(context=2, tracks=1, distances=[0], bin_size=16, hidden=hidden, dropout=0.0).eval()
    around = torch.rand(200, 1, 1)
    calls = Candidates(torch.randn(200, 2), around, torch.zeros(200), (around[:, 0, 0] > 0.5).float())
    fit_omics(checkpoint, calls, np.ones(1, dtype=np.float32), 0.0, seed=3)
    with torch.no_grad():
        read = checkpoint.layer_inputs(calls.context, around, torch.ones(200, 1))
        added = checkpoint.exit(torch.nn.functional.gelu(checkpoint.entry(read)))[:, 0]
    assert rank_accuracy((added[calls.labelled == 1].numpy(), added[calls.labelled == 0].numpy())) > 0.9


def test_tracks_are_dropped_from_a_share_of_windows():
    rng, present = np.random.default_rng(3), np.array([1, 1, 0, 1] * 10, dtype=np.float32)
    present_tracks = np.stack([drop_tracks(present, 0.5, rng) for _ in range(2000)])
    assert (present_tracks[:, present == 0] == 0).all()
    counts = present_tracks.sum(1)
    assert (counts == 30).mean() == pytest.approx(0.5 + 0.5 / 31, abs=0.03)
    lost = counts[counts < 30]
    assert lost.mean() == pytest.approx(14.5, abs=1)  # every number is equally likely
    assert all((drop_tracks(present, 0.0, rng) == present).all() for _ in range(20))


CALLS = 160


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    """Return files of a genome in which every third call is labelled; its sequence context equals that of the others.

    Track 'decides' covers labelled calls; 'idle' covers as many calls at random.
    """
    folder = tmp_path_factory.mktemp("omics")
    unit, rng = 400, np.random.default_rng(7)
    flanks = [dna(192, seed) for seed in range(2 * CALLS)]
    sequence = "".join(flanks[2 * i] + "CG" * 8 + flanks[2 * i + 1] for i in range(CALLS))
    calls = [(unit * i + 192, unit * i + 208) for i in range(CALLS)]
    labelled = np.arange(CALLS) % 3 == 0
    idle = rng.permutation(labelled)
    make_fasta(folder, {"c": sequence})

    def bed(name, rows):
        (folder / name).write_text("".join(f"c\t{start}\t{end}\n" for start, end in rows))

    bed("labels.bed", [call for call, flip in zip(calls, labelled, strict=True) if flip])
    bed("candidates.bed", calls)
    for name, chosen in (("decides", labelled), ("idle", idle)):
        bed(f"{name}.bed", [(s - 40, e + 40) for (s, e), here in zip(calls, chosen, strict=True) if here])
    (folder / "tracks.tsv").write_text("decides\tdecides.bed\tbinary\nidle\tidle.bed\tbinary\n")
    return folder


@pytest.fixture(scope="module")
def trained(genome, tokenizer):
    """Return a model whose readout was fitted to that genome, and the training data."""
    torch.manual_seed(0)
    head = {"channels": 8, "context": 16, "distances": [0, 64], "omics": 64}
    checkpoint = create("compact", "base", tokenizer, **SHAPE, features=2, base_head=head)
    data = DataConfig(
        genome=str(genome / "genome.fa"),
        labels=str(genome / "labels.bed"),
        candidates=str(genome / "candidates.bed"),
    )
    training_data = read_training_data(data, features=FeaturesConfig(str(genome / "tracks.tsv"), 0.5))
    metadata = replace(
        checkpoint.metadata,
        window=256,
        margin=64,
        features=training_data.features.features,
        allows_missing_features=True,
    )
    checkpoint = replace(checkpoint, metadata=metadata)
    fit_readout(checkpoint, training_data, penalty=10.0)
    return checkpoint, training_data


def call_log_odds(trained, features):
    """Return the mean log-odds of labelled calls and of the other calls."""
    checkpoint, training_data = trained
    length = training_data.genome.lengths["c"]
    predictor = Predictor(checkpoint, InferenceConfig(threads=1), features=features)
    result = predict_windows(predictor, training_data.genome, "c", tile_windows(0, length, 256, 64))
    odds = np.log(result / (1 - result))
    calls = training_data.candidates["c"]
    labelled = np.isin(calls[:, 0], training_data.labels["c"][:, 0])
    means = np.array([odds[start:end].mean() for start, end in calls])
    return means[labelled], means[~labelled]


def rank_accuracy(pair):
    """Return the share of pairs in which the labelled call scores higher."""
    return np.mean(pair[0][:, None] > pair[1])


def test_the_decisive_track_is_used_and_the_idle_one_is_not(trained):
    tracks = trained[1].features
    assert rank_accuracy(call_log_odds(trained, tracks)) > 0.99
    assert rank_accuracy(call_log_odds(trained, tracks.shift_track("idle"))) > 0.97
    assert rank_accuracy(call_log_odds(trained, tracks.drop_tracks(["idle"]))) > 0.97
    assert rank_accuracy(call_log_odds(trained, tracks.shift_track("decides"))) < 0.75
    assert rank_accuracy(call_log_odds(trained, tracks.drop_tracks(["decides"]))) < 0.75


def test_without_tracks_the_model_equals_the_sequence_model(trained):
    checkpoint, training_data = trained
    head = checkpoint.module.base_head
    none = training_data.features.drop_tracks(["decides", "idle"])
    result = np.concatenate(call_log_odds(trained, none))
    omics, head.omics = head.omics, None
    try:
        alone = np.concatenate(call_log_odds((checkpoint, training_data), none))
    finally:
        head.omics = omics
    np.testing.assert_array_equal(result, alone)
    assert not np.allclose(result, np.concatenate(call_log_odds(trained, training_data.features)))


def test_both_strands_read_the_same_tracks(trained):
    checkpoint, training_data = trained
    length = training_data.genome.lengths["c"]
    predictor = Predictor(
        checkpoint, InferenceConfig(threads=1, both_strands=True), features=training_data.features
    )
    result = predict_windows(predictor, training_data.genome, "c", tile_windows(0, length, 256, 64))
    called = np.array([result[start:end].mean() for start, end in training_data.candidates["c"]])
    labelled = np.isin(training_data.candidates["c"][:, 0], training_data.labels["c"][:, 0])
    assert rank_accuracy((called[labelled], called[~labelled])) > 0.97


def test_a_saved_model_stores_its_tracks(trained, tmp_path):
    checkpoint, training_data = trained
    save(checkpoint, tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.metadata.features == training_data.features.features
    assert again.metadata.allows_missing_features
    np.testing.assert_array_equal(
        call_log_odds((again, training_data), training_data.features)[0],
        call_log_odds(trained, training_data.features)[0],
    )


def test_missing_tracks_give_a_warning_if_the_model_needs_them(trained, caplog):
    checkpoint, training_data = trained
    lengths = training_data.genome.lengths
    open_model_features(checkpoint, None, lengths, "zero")
    assert not caplog.records
    needing = replace(checkpoint, metadata=replace(checkpoint.metadata, allows_missing_features=False))
    with caplog.at_level("WARNING", logger="zflipon"):  # whatever a command in another test has set
        open_model_features(needing, None, lengths, "zero")
    assert "not trained with missing tracks" in caplog.text


def test_a_model_with_tracks_needs_their_files(trained):
    with pytest.raises(
        ModelError,
        match=r"model reads 2 omics tracks \(decides, idle\), but none are given\. Name their files with --features",
    ):
        Predictor(trained[0])


@pytest.fixture(scope="module")
def saved(trained, tmp_path_factory):
    """Return the folder of the trained model."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    save(trained[0], folder)
    return folder


def run(*arguments):
    """Run a command; return its exit status and standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "zflipon", *map(str, arguments)], capture_output=True, text=True
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stderr


def in_other_formats(genome, folder):
    """Write the tracks as bigWig and bedGraph, and return their table."""
    rows = {
        name: [line.split("\t") for line in (genome / f"{name}.bed").read_text().splitlines()]
        for name in ("decides", "idle")
    }
    with pyBigWig.open(str(folder / "decides.bw"), "w") as track:
        track.addHeader([("c", 400 * CALLS)])
        starts, ends = ([int(row[column]) for row in rows["decides"]] for column in (1, 2))
        track.addEntries(["c"] * len(starts), starts, ends=ends, values=[2.5] * len(starts))
    (folder / "idle.bedgraph").write_text("".join("\t".join([*row, "0.5"]) + "\n" for row in rows["idle"]))
    table = folder / "packed.tsv"
    table.write_text("decides\tdecides.bw\tbinary\nidle\tidle.bedgraph\tbinary\n")
    return table


def test_annotate_gives_the_same_bytes_with_two_processes(genome, saved, tmp_path):
    arguments = (genome / "genome.fa", "--model", saved, "--device", "cpu")
    packed = in_other_formats(genome, tmp_path)
    one, two = tmp_path / "one.bedgraph", tmp_path / "two.bedgraph"
    assert run("annotate", *arguments, "--features", genome / "tracks.tsv", "-o", one, "--threads", 1)[0] == 0
    assert run("annotate", *arguments, "--features", packed, "-o", two, "--threads", 1, "-n", 2)[0] == 0
    assert one.read_bytes() == two.read_bytes()
    recorded = json.loads((tmp_path / "one.bedgraph.json").read_text())["features"]
    assert set(recorded) == {"decides", "idle"}
    assert recorded["idle"]["sha256"] == hashlib.sha256((genome / "idle.bed").read_bytes()).hexdigest()


def test_annotate_names_missing_tracks(genome, saved, tmp_path):
    arguments = (
        "annotate",
        genome / "genome.fa",
        "--model",
        saved,
        "-o",
        tmp_path / "x.bedgraph",
        "--threads",
        1,
    )
    status, words = run(*arguments)
    assert status == 1
    assert "2 of the model's 2 tracks are missing (decides, idle)" in words
    assert not list(tmp_path.iterdir())
    status, words = run(*arguments, "--missing-features", "zero")
    assert status == 0
    assert json.loads((tmp_path / "x.bedgraph.json").read_text())["features"] == {
        "decides": None,
        "idle": None,
    }


def test_tracks_for_a_model_without_tracks_are_refused(genome, tiny_checkpoint, tmp_path):
    arguments = ("annotate", genome / "genome.fa", "--model", tiny_checkpoint, "-o", tmp_path / "x.bed")
    status, words = run(*arguments, "--features", genome / "tracks.tsv")
    assert status == 1
    assert "this model reads no omics tracks" in words


def test_a_stopped_run_does_not_resume_with_other_tracks(genome, saved, tmp_path, monkeypatch):
    out = tmp_path / "x.bedgraph"

    def annotate_with(table):
        return annotate(genome / "genome.fa", [str(out)], str(saved), features=table,
                        settings=InferenceConfig(threads=1))  # fmt: skip

    def fail(*_):
        raise OSError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr("zflipon.workflows.annotate.TrackOutputs.commit", fail)
        with pytest.raises(OSError, match="full"):
            annotate_with(genome / "tracks.tsv")
    other = genome / "other.tsv"
    other.write_text("decides\tidle.bed\nidle\tdecides.bed\n")
    with pytest.raises(ZfliponError, match="differs in features"):
        annotate_with(other)
    annotate_with(genome / "tracks.tsv")
    assert out.exists()


def test_variants_reads_tracks_around_the_alleles(genome, saved, tmp_path):
    """Every third call is active, by the tracks around it; both alleles read the tracks of the reference."""
    text = (genome / "genome.fa").read_text().split("\n", 1)[1].replace("\n", "")
    rows = [(400 * i + 200, text[400 * i + 200 - 1]) for i in range(30)]
    lines = ["##fileformat=VCFv4.2", f"##contig=<ID=c,length={len(text)}>"]
    lines += ["#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    lines += [f"c\t{at}\t.\t{ref}\t{ref}AAA,{ref}\t.\t.\t." for at, ref in rows]
    (tmp_path / "in.vcf").write_text("\n".join(lines) + "\n")

    def maxima(name, **named):
        out = tmp_path / name
        predict = InferenceConfig(device="cpu", threads=1)
        score_variants(tmp_path / "in.vcf", genome / "genome.fa", out, str(saved), None, predict, **named)
        lines = [line for line in out.read_text().splitlines() if line[0] != "#"]
        same = list(csv.DictReader(lines, delimiter="\t"))[1::2]  # the second allele is that of the reference
        assert all(float(row["sum"]) == 0 for row in same)
        return np.array([float(row["ref_max"]) for row in same])

    named = {"features": genome / "tracks.tsv"}
    result = maxima("with.tsv", **named)
    labelled = np.arange(30) % 3 == 0
    # of the bases next to the allele alone, which rank the calls a little less well than their highest base
    assert rank_accuracy((result[labelled], result[~labelled])) > 0.93
    alone = maxima("without.tsv", missing_features="zero")
    assert rank_accuracy((alone[labelled], alone[~labelled])) < 0.9
    record = json.loads((tmp_path / "with.tsv.json").read_text())
    assert set(record["features"]) == {"decides", "idle"}


def test_explain_tracks_ranks_the_decisive_track_first(genome, saved, tmp_path):
    out = tmp_path / "tracks.csv"
    status, words = run(
        "explain", "tracks", genome / "genome.fa", "--features", genome / "tracks.tsv", "--model", saved,
        "--labels", genome / "labels.bed", "--all-windows", "--threads", 1, "-o", out,
    )  # fmt: skip
    assert status == 0, words
    about, rows = out.read_text().splitlines(), []
    rows = list(csv.DictReader(line for line in about if not line.startswith("#")))
    assert [row["track"] for row in rows] == ["decides", "idle"]
    whole = float(next(line for line in about if line.startswith("# average_precision")).split(":")[1])
    assert float(rows[0]["lost"]) > 0.1 > abs(float(rows[1]["lost"]))
    for row in rows:
        assert float(row["average_precision"]) + float(row["lost"]) == pytest.approx(whole, abs=1e-3)


def test_explain_tracks_needs_tracks(genome, saved):
    arguments = (
        "explain",
        "tracks",
        genome / "genome.fa",
        "--model",
        saved,
        "--labels",
        genome / "labels.bed",
    )
    status, words = run(*arguments, "--missing-features", "zero")
    assert status == 1
    assert "no omics tracks are given; list their files in a --features TABLE" in words


def test_track_attributions_add_up_and_name_the_decisive_track(trained):
    pytest.importorskip("captum")
    checkpoint, training_data = trained
    explainer = IntegratedGradientsExplainer(
        checkpoint, AttributionConfig(steps=64), "cpu", training_data.features
    )
    labelled = training_data.labels["c"][1]
    places = [("c", int(labelled[0]) - 120, int(labelled[0]) + 136)]
    sequences = [training_data.genome.fetch(*place) for place in places]
    weights = np.zeros(256, dtype=np.float32)
    weights[120:136] = 1 / 16
    (result,) = explainer.attribute(
        sequences, [AttributionTarget(0, weights)], track_inputs=read_track_inputs(explainer, places)
    )
    assert abs(result.completeness_error) < 0.01 * abs(result.output - result.baseline_output)
    (first, most), (second, other) = omics_contributions(explainer, [result])
    assert (first, second) == ("decides", "idle")
    assert most > 3 * abs(other)
    # without its intervals the track contributes nothing, and the output drops by about its attribution
    emptied = [each * np.array([[0], [1]], dtype=np.float32) for each in read_track_inputs(explainer, places)]
    (without,) = explainer.attribute(sequences, [AttributionTarget(0, weights)], track_inputs=emptied)
    assert without.tracks[0] == pytest.approx(np.zeros_like(without.tracks[0]))
    assert result.output - without.output == pytest.approx(most, rel=0.3)


def test_the_locus_figure_shows_tracks(genome, saved, tmp_path):
    pytest.importorskip("captum")
    start = 3 * 400 + 192
    out = tmp_path / "locus.svg"
    status, words = run(
        "explain", "locus", f"c:{start - 10}-{start + 30}", "--genome", genome / "genome.fa", "--model", saved,
        "--features", genome / "tracks.tsv", "--threads", 1, "--steps", 8, "-o", out,
    )  # fmt: skip
    assert status == 0, words
    assert "attribution of omics tracks" in out.read_text()
