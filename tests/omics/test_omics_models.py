"""A base head that reads omics tracks: what it adds, without which tracks, and that a track which decides is learnt."""

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
    made = OmicsHead(context=6, tracks=3, distances=[0, 16, 48], bin_size=16, hidden=8, dropout=0.5).eval()
    assert made.view == (16, 48)
    return made


def test_what_is_added_by_a_slow_loop(omics):
    rng = np.random.default_rng(1)
    context = torch.tensor(rng.normal(size=(2, 5, 6)), dtype=torch.float32)
    features = torch.tensor(rng.normal(size=(2, 3, 5 + 6)), dtype=torch.float32)
    present = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
    with torch.no_grad():
        found = omics(context, features, present).numpy()
        for row in range(2):
            for at in range(5):
                read = [*context[row, at]]
                for track in range(3):
                    for reach in (0, 1, 3):
                        near = features[row, track, 3 + at - reach : 3 + at + reach + 1].mean()
                        read.append(near * present[row, track])
                read = torch.stack([*read, *present[row]])
                expected = omics.exit(torch.nn.functional.gelu(omics.entry(read))).item()
                assert found[row, at] == pytest.approx(expected, abs=1e-5)


def test_without_a_track_nothing_is_added_and_absent_ones_may_say_anything(omics):
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
def test_distances_that_are_no_whole_steps(distances):
    with pytest.raises(ModelError, match="distances must be multiples of 16 bases, 0 or more"):
        OmicsHead(context=6, tracks=3, distances=distances, bin_size=16, hidden=8, dropout=0.5)


@pytest.mark.parametrize("hidden", [5, 21])
def test_units_that_networks_cannot_share_evenly(hidden):
    torch.manual_seed(1)
    made = OmicsHead(context=2, tracks=1, distances=[0], bin_size=16, hidden=hidden, dropout=0.0).eval()
    around = torch.rand(200, 1, 1)
    calls = Candidates(torch.randn(200, 2), around, torch.zeros(200), (around[:, 0, 0] > 0.5).float())
    fit_omics(made, calls, np.ones(1, dtype=np.float32), 0.0, seed=3)
    with torch.no_grad():
        read = made.layer_inputs(calls.context, around, torch.ones(200, 1))
        told = made.exit(torch.nn.functional.gelu(made.entry(read)))[:, 0]
    assert told_apart((told[calls.flips == 1].numpy(), told[calls.flips == 0].numpy())) > 0.9


def test_tracks_are_dropped_from_a_share_of_the_windows():
    rng, present = np.random.default_rng(3), np.array([1, 1, 0, 1] * 10, dtype=np.float32)
    kept = np.stack([drop_tracks(present, 0.5, rng) for _ in range(2000)])
    assert (kept[:, present == 0] == 0).all()
    counts = kept.sum(1)
    assert (counts == 30).mean() == pytest.approx(0.5 + 0.5 / 31, abs=0.03)
    lost = counts[counts < 30]
    assert lost.mean() == pytest.approx(14.5, abs=1)  # any number as often as any other
    assert all((drop_tracks(present, 0.0, rng) == present).all() for _ in range(20))


CALLS = 160


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    """Return files of a genome whose every third call is labelled, in the same surroundings as others.

    Track 'decides' covers the surroundings of labelled calls, 'idle' those of any others, as often.
    """
    folder = tmp_path_factory.mktemp("omics")
    unit, rng = 400, np.random.default_rng(7)
    flanks = [dna(192, seed) for seed in range(2 * CALLS)]
    sequence = "".join(flanks[2 * i] + "CG" * 8 + flanks[2 * i + 1] for i in range(CALLS))
    calls = [(unit * i + 192, unit * i + 208) for i in range(CALLS)]
    flips = np.arange(CALLS) % 3 == 0
    idle = rng.permutation(flips)
    make_fasta(folder, {"c": sequence})

    def bed(name, rows):
        (folder / name).write_text("".join(f"c\t{start}\t{end}\n" for start, end in rows))

    bed("labels.bed", [call for call, flip in zip(calls, flips, strict=True) if flip])
    bed("candidates.bed", calls)
    for name, chosen in (("decides", flips), ("idle", idle)):
        bed(f"{name}.bed", [(s - 40, e + 40) for (s, e), here in zip(calls, chosen, strict=True) if here])
    (folder / "tracks.tsv").write_text("decides\tdecides.bed\tbinary\nidle\tidle.bed\tbinary\n")
    return folder


@pytest.fixture(scope="module")
def trained(genome, tokenizer):
    """Return a model whose readout was fitted to that genome, and its material."""
    torch.manual_seed(0)
    head = {"channels": 8, "context": 16, "distances": [0, 64], "omics": 64}
    made = create("compact", "base", tokenizer, **SHAPE, features=2, base_head=head)
    data = DataConfig(
        genome=str(genome / "genome.fa"),
        labels=str(genome / "labels.bed"),
        candidates=str(genome / "candidates.bed"),
    )
    training_data = read_training_data(data, features=FeaturesConfig(str(genome / "tracks.tsv"), 0.5))
    metadata = replace(
        made.metadata, window=256, margin=64, features=training_data.features.features, allows_missing_features=True
    )
    made = replace(made, metadata=metadata)
    fit_readout(made, training_data, penalty=10.0)
    return made, training_data


def told(trained, features):
    """Return the mean log-odds of each call, flips first."""
    made, training_data = trained
    length = training_data.genome.lengths["c"]
    predictor = Predictor(made, InferenceConfig(threads=1), features=features)
    found = predict_windows(predictor, training_data.genome, "c", tile_windows(0, length, 256, 64))
    odds = np.log(found / (1 - found))
    calls = training_data.candidates["c"]
    flips = np.isin(calls[:, 0], training_data.labels["c"][:, 0])
    means = np.array([odds[start:end].mean() for start, end in calls])
    return means[flips], means[~flips]


def told_apart(pair):
    """Return how often a labelled call is above another."""
    return np.mean(pair[0][:, None] > pair[1])


def test_a_track_that_decides_is_used_and_one_that_does_not_is_not(trained):
    tracks = trained[1].features
    assert told_apart(told(trained, tracks)) > 0.99
    assert told_apart(told(trained, tracks.shift_track("idle"))) > 0.97
    assert told_apart(told(trained, tracks.drop_tracks(["idle"]))) > 0.97
    assert told_apart(told(trained, tracks.shift_track("decides"))) < 0.75
    assert told_apart(told(trained, tracks.drop_tracks(["decides"]))) < 0.75


def test_without_tracks_it_is_the_model_of_sequence_alone(trained):
    made, training_data = trained
    head = made.module.base_head
    none = training_data.features.drop_tracks(["decides", "idle"])
    found = np.concatenate(told(trained, none))
    omics, head.omics = head.omics, None
    try:
        alone = np.concatenate(told((made, training_data), none))
    finally:
        head.omics = omics
    np.testing.assert_array_equal(found, alone)
    assert not np.allclose(found, np.concatenate(told(trained, training_data.features)))


def test_both_strands_see_the_same_tracks(trained):
    made, training_data = trained
    length = training_data.genome.lengths["c"]
    predictor = Predictor(
        made, InferenceConfig(threads=1, both_strands=True), features=training_data.features
    )
    found = predict_windows(predictor, training_data.genome, "c", tile_windows(0, length, 256, 64))
    called = np.array([found[start:end].mean() for start, end in training_data.candidates["c"]])
    flips = np.isin(training_data.candidates["c"][:, 0], training_data.labels["c"][:, 0])
    assert told_apart((called[flips], called[~flips])) > 0.97


def test_a_saved_model_knows_its_tracks(trained, tmp_path):
    made, training_data = trained
    save(made, tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.metadata.features == training_data.features.features
    assert again.metadata.allows_missing_features
    np.testing.assert_array_equal(
        told((again, training_data), training_data.features)[0], told(trained, training_data.features)[0]
    )


def test_a_model_that_does_not_bear_to_do_without_is_warned_of(trained, caplog):
    made, training_data = trained
    lengths = training_data.genome.lengths
    open_model_features(made, None, lengths, "zero")
    assert not caplog.records
    open_model_features(
        replace(made, metadata=replace(made.metadata, allows_missing_features=False)), None, lengths, "zero"
    )
    assert "not trained with missing tracks" in caplog.text


def test_a_model_that_reads_tracks_is_not_run_without_a_word_on_them(trained):
    with pytest.raises(
        ModelError,
        match=r"the model reads 2 omics tracks \(decides, idle\); name their files with --features",
    ):
        Predictor(trained[0])


@pytest.fixture(scope="module")
def saved(trained, tmp_path_factory):
    """Return the folder of the trained model."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    save(trained[0], folder)
    return folder


def run(*arguments):
    """Run a command; return its status and what it said."""
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


def test_annotate_reads_tracks_however_many_processes(genome, saved, tmp_path):
    said = (genome / "genome.fa", "--model", saved, "--device", "cpu")
    packed = in_other_formats(genome, tmp_path)
    one, two = tmp_path / "one.bedgraph", tmp_path / "two.bedgraph"
    assert run("annotate", *said, "--features", genome / "tracks.tsv", "-o", one, "--threads", 1)[0] == 0
    assert run("annotate", *said, "--features", packed, "-o", two, "--threads", 1, "-n", 2)[0] == 0
    assert one.read_bytes() == two.read_bytes()
    told = json.loads((tmp_path / "one.bedgraph.json").read_text())["features"]
    assert set(told) == {"decides", "idle"}
    assert told["idle"]["sha256"] == hashlib.sha256((genome / "idle.bed").read_bytes()).hexdigest()


def test_annotate_says_which_tracks_it_lacks(genome, saved, tmp_path):
    said = ("annotate", genome / "genome.fa", "--model", saved, "-o", tmp_path / "x.bedgraph", "--threads", 1)
    status, words = run(*said)
    assert status == 1
    assert "2 of the model's 2 tracks are missing (decides, idle)" in words
    assert not list(tmp_path.iterdir())
    status, words = run(*said, "--missing-features", "zero")
    assert status == 0
    assert json.loads((tmp_path / "x.bedgraph.json").read_text())["features"] == {
        "decides": None,
        "idle": None,
    }


def test_tracks_for_a_model_that_reads_none(genome, tiny_checkpoint, tmp_path):
    said = ("annotate", genome / "genome.fa", "--model", tiny_checkpoint, "-o", tmp_path / "x.bed")
    status, words = run(*said, "--features", genome / "tracks.tsv")
    assert status == 1
    assert "this model reads no omics tracks" in words


def test_a_stopped_run_does_not_go_on_with_other_tracks(genome, saved, tmp_path, monkeypatch):
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


def test_variants_reads_tracks_where_the_alleles_lie(genome, saved, tmp_path):
    """Every third call flips, by what lies around it; with either allele the tracks are those of the reference."""
    text = (genome / "genome.fa").read_text().split("\n", 1)[1].replace("\n", "")
    rows = [(400 * i + 200, text[400 * i + 200 - 1]) for i in range(30)]
    lines = ["##fileformat=VCFv4.2", f"##contig=<ID=c,length={len(text)}>"]
    lines += ["#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    lines += [f"c\t{at}\t.\t{ref}\t{ref}AAA,{ref}\t.\t.\t." for at, ref in rows]
    (tmp_path / "in.vcf").write_text("\n".join(lines) + "\n")

    def maxima(name, **named):
        out = tmp_path / name
        predict = InferenceConfig(device="cpu", threads=1)
        score_variants(
            tmp_path / "in.vcf", genome / "genome.fa", out, str(saved), None, predict, **named
        )
        found = [line.split("\t") for line in out.read_text().splitlines() if line[0] != "#"][1:]
        assert all(float(line[7]) == 0 for line in found[1::2])  # the same allele
        return np.array([float(line[9]) for line in found[1::2]])

    named = {"features": genome / "tracks.tsv"}
    found = maxima("with.tsv", **named)
    flips = np.arange(30) % 3 == 0
    assert told_apart((found[flips], found[~flips])) > 0.97
    alone = maxima("without.tsv", missing_features="zero")
    assert told_apart((alone[flips], alone[~flips])) < 0.9
    record = json.loads((tmp_path / "with.tsv.json").read_text())
    assert set(record["features"]) == {"decides", "idle"}


def test_explain_tracks_ranks_the_one_that_decides(genome, saved, tmp_path):
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


def test_explain_tracks_asks_for_tracks(genome, saved):
    said = ("explain", "tracks", genome / "genome.fa", "--model", saved, "--labels", genome / "labels.bed")
    status, words = run(*said, "--missing-features", "zero")
    assert status == 1
    assert "no omics tracks are given; name their files with --features" in words


def test_attributions_of_tracks_add_up_and_name_the_one_that_decides(trained):
    pytest.importorskip("captum")
    made, training_data = trained
    explainer = IntegratedGradientsExplainer(made, AttributionConfig(steps=64), "cpu", training_data.features)
    flips = training_data.labels["c"][1]
    places = [("c", int(flips[0]) - 120, int(flips[0]) + 136)]
    sequences = [training_data.genome.fetch(*place) for place in places]
    weights = np.zeros(256, dtype=np.float32)
    weights[120:136] = 1 / 16
    (found,) = explainer.attribute(
        sequences, [AttributionTarget(0, weights)], track_inputs=read_track_inputs(explainer, places)
    )
    assert abs(found.completeness_error) < 0.01 * abs(found.output - found.baseline_output)
    (first, most), (second, other) = omics_contributions(explainer, [found])
    assert (first, second) == ("decides", "idle")
    assert most > 3 * abs(other)
    # without its intervals the track gives nothing, and the output falls by about its share
    emptied = [each * np.array([[0], [1]], dtype=np.float32) for each in read_track_inputs(explainer, places)]
    (without,) = explainer.attribute(sequences, [AttributionTarget(0, weights)], track_inputs=emptied)
    assert without.tracks[0] == pytest.approx(np.zeros_like(without.tracks[0]))
    assert found.output - without.output == pytest.approx(most, rel=0.3)


def test_a_picture_of_a_locus_shows_tracks(genome, saved, tmp_path):
    pytest.importorskip("captum")
    start = 3 * 400 + 192
    out = tmp_path / "locus.svg"
    status, words = run(
        "explain", "locus", f"c:{start - 10}-{start + 30}", "--genome", genome / "genome.fa", "--model", saved,
        "--features", genome / "tracks.tsv", "--threads", 1, "--steps", 8, "-o", out,
    )  # fmt: skip
    assert status == 0, words
    assert "attribution of omics tracks" in out.read_text()
