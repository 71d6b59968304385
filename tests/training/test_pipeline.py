"""Training runs on a genome in which a motif is labelled: the model learns it, and interrupted runs resume."""

import json
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import dna, make_fasta
from transformers import TrainerState

from zflipon.cli import cli
from zflipon.config import ModelConfig, Recipe, TokenizerConfig
from zflipon.errors import InputError, OutputError, RecipeError, ZfliponError
from zflipon.genome.fasta import Genome
from zflipon.metrics import ScoreHistogram
from zflipon.models import load
from zflipon.models.heads.kmers import KMER_RADII
from zflipon.training import pipeline
from zflipon.training.calibration import fit_platt
from zflipon.training.callbacks import LossMonitor, WeightAverage
from zflipon.training.evaluators import read_histograms
from zflipon.training.kmer_tables import kmer_tables
from zflipon.training.pipeline import train
from zflipon.training.recipe import load_recipe

MOTIF = "CGCGCGCGCGCG"

SHORT = ("stage.steps=20", "stage.evaluations=0", "stage.some.evaluations=0")
HELD_OUT = (*SHORT, "data.validation_contigs=[]", 'data.held_out_models=[["val"], ["train"]]')

RECIPE = """
name = "motif"

[data]
genome = "{folder}/genome.fa"
labels = "{folder}/labels.bed"
candidates = "{folder}/candidates.bed"
validation_contigs = ["val"]

[tokenizer]
train = true
vocab_size = 64
max_token_length = 5

[model]
family = "compact"
shape = {{ hidden_size = 16, num_hidden_layers = 1, num_attention_heads = 2, intermediate_size = 32 }}
base_head = {{ channels = 16, kernel = 9, dilations = [1, 2], dropout = 0.0 }}

[[stage]]
name = "all"
objective = "{objective}"
target = "candidates"
window = 256
margin = 32
hard_negatives = 0
steps = 40
batch_size = 8
learning_rate = 5e-3
evaluations = 0

[[stage]]
name = "some"
target = "labels"
label_threshold = 0.5
hard_negatives = 1
steps = 60
evaluations = 2
"""


@pytest.fixture
def recipe(tmp_path):
    """Return a function that builds recipes for a genome with the motif; a fifth of the motifs have no label."""

    def make(objective="base", *settings):
        rng = np.random.default_rng(5)
        contigs, labels, candidates = {}, [], []
        for name, length in (("train", 40_000), ("val", 12_000)):
            letters = list(dna(length, seed=length, letters="AACTTG"))
            for start in range(150, length - 100, 200):
                at = start + int(rng.integers(100))
                letters[at : at + len(MOTIF)] = MOTIF
                row = f"{name}\t{at}\t{at + len(MOTIF)}\n"
                candidates.append(row)
                if rng.random() < 0.8:
                    labels.append(row)
            contigs[name] = "".join(letters)
        make_fasta(tmp_path, contigs)
        (tmp_path / "labels.bed").write_text("".join(labels))
        (tmp_path / "candidates.bed").write_text("".join(candidates))
        path = tmp_path / "motif.toml"
        path.write_text(RECIPE.format(folder=tmp_path, objective=objective))
        return load_recipe(path, settings)

    return make


def from_checkpoint(recipe: Recipe, model: ModelConfig) -> Recipe:
    """Return the recipe with another model, whose tokenizer is not trained."""
    return replace(recipe, model=model, tokenizer=TokenizerConfig())


def validation_rows(out):
    return [
        json.loads(line) for line in (out / "stages" / "2-some" / "validation.jsonl").read_text().splitlines()
    ]


@pytest.mark.parametrize("objective", ["base", "token"])
def test_learns_a_motif_and_records_metadata(recipe, tmp_path, objective):
    out = tmp_path / "out"
    train(recipe(objective), out)
    checkpoint = load(out)
    metadata = checkpoint.metadata
    assert (metadata.objective, metadata.window, metadata.margin) == (objective, 256, 32)
    assert 1 < metadata.max_token_length <= 5
    assert metadata.quality["contigs"] == ["val"]
    # 6 % of the bases are in a motif, which is the average precision of a random model
    assert metadata.quality["average_precision"] > 0.5
    assert 0 < metadata.threshold < 1
    by_threshold = metadata.quality["by_threshold"]
    (precision, recall), (_, recall_at_low) = by_threshold["0.8"], by_threshold["0.3"]
    assert recall <= recall_at_low
    assert 0 <= precision <= 1
    assert metadata.training["contigs"] == ["train"]
    assert [stage["name"] for stage in metadata.training["stages"]] == ["all", "some"]
    assert [row["step"] for row in validation_rows(out)] == [30, 60]


def test_annotated_track_has_the_recorded_figures(recipe, tmp_path):
    train(recipe(), tmp_path / "out")
    command = ["annotate", f"{tmp_path}/genome.fa", "-o", f"{tmp_path}/z.bw", "-o", f"{tmp_path}/z.bed"]
    command += ["--contigs", "val", "--model", f"{tmp_path}/out", "--device", "cpu"]
    assert CliRunner().invoke(cli, command, catch_exceptions=False).exit_code == 0
    command = [
        "evaluate",
        f"{tmp_path}/z.bw",
        "--labels",
        f"{tmp_path}/labels.bed",
        "--genome",
        f"{tmp_path}/genome.fa",
    ]
    command += ["--contigs", "val", "--json", f"{tmp_path}/z.json"]
    assert CliRunner().invoke(cli, command, catch_exceptions=False).exit_code == 0
    figures = json.loads((tmp_path / "z.json").read_text())["tracks"]["z.bw"]["genome"]
    quality = load(tmp_path / "out").metadata.quality
    # a track has three decimals, so that some bases tie that the model ranks
    assert figures["average_precision"] == pytest.approx(quality["average_precision"], abs=0.02)
    assert figures["best_f1"] == pytest.approx(quality["f1"], abs=0.01)


def test_interrupted_run_resumes_to_the_same_weights(recipe, tmp_path, monkeypatch):
    plan = recipe()
    train(plan, tmp_path / "uninterrupted")
    on_log = LossMonitor.on_log

    def interrupt(self, args, state, control, logs=None, **rest):
        on_log(self, args, state, control, logs, **rest)
        if state.global_step >= 45 and "2-some" in args.output_dir:
            raise KeyboardInterrupt

    monkeypatch.setattr(LossMonitor, "on_log", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(plan, tmp_path / "interrupted")
    assert not (tmp_path / "interrupted" / "config.json").exists()
    monkeypatch.setattr(LossMonitor, "on_log", on_log)
    train(plan, tmp_path / "interrupted")
    expected, resumed = load(tmp_path / "uninterrupted"), load(tmp_path / "interrupted")
    for name, weights in expected.module.state_dict().items():
        torch.testing.assert_close(resumed.module.state_dict()[name], weights, atol=1e-5, rtol=1e-4)
    precision = expected.metadata.quality["average_precision"]
    assert resumed.metadata.quality["average_precision"] == pytest.approx(precision, abs=1e-3)


def test_folder_with_other_files_is_refused(recipe, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("precious")
    with pytest.raises(OutputError, match="is not empty"):
        train(recipe(), out)


def test_folder_of_another_recipe_is_refused(recipe, tmp_path):
    out = tmp_path / "out"
    train(recipe("base", "stage.steps=2", "stage.evaluations=0"), out)
    with pytest.raises(OutputError, match="another recipe"):
        train(recipe("base", "stage.steps=3", "stage.evaluations=0"), out)


def test_infinite_loss_stops_the_run(recipe, tmp_path):
    with pytest.raises(ZfliponError, match="Lower the learning rate"):
        train(recipe("base", "stage.learning_rate=1e30", "stage.warmup=0"), tmp_path / "out")


def test_missing_data_are_named(recipe, tmp_path):
    with pytest.raises(RecipeError, match=r"data\.genome"):
        train(recipe("base", "data.genome=''"), tmp_path / "a")
    with pytest.raises(InputError, match="chrQ not among the contigs"):
        train(recipe("base", "data.validation_contigs=['chrQ']"), tmp_path / "b")
    (tmp_path / "labels.bed").write_text("val\t10\t20\n")
    plan = recipe()
    (tmp_path / "labels.bed").write_text("val\t10\t20\n")
    with pytest.raises(InputError, match="no labels on the training contigs"):
        train(plan, tmp_path / "c")


def test_histogram_counts_scores_by_label():
    histogram = ScoreHistogram()
    histogram.add(np.array([2.0, -1.0, 0.5]), np.array([True, False, False]))
    scores, negatives, positives = histogram.counts()
    assert scores.tolist() == [-1.0, 0.5, 2.0]
    assert negatives.tolist() == [1, 1, 0]
    assert positives.tolist() == [0, 0, 1]


def test_learns_tracks_with_a_weight_average(recipe, tmp_path):
    made = recipe(
        "base",
        f"data.tracks={tmp_path}/tracks",
        "stage.all.target=tracks",
        'stage.all.auxiliary=["candidates"]',
        'stage.some.auxiliary=["candidates", "tracks"]',
        "stage.some.ema_decay=0.9",
        "stage.some.dropout=0.1",
    )
    (tmp_path / "tracks").mkdir()
    with pytest.raises(InputError, match="contains no BED files"):
        train(made, tmp_path / "out")
    shutil.copy(tmp_path / "labels.bed", tmp_path / "tracks" / "one.bed")
    (tmp_path / "tracks" / "two.bed").write_text("train\t0\t40000\n")
    train(made, tmp_path / "out")
    checkpoint = load(tmp_path / "out")
    assert checkpoint.module.base_head.tracks.out_features == 2
    assert checkpoint.metadata.quality["average_precision"] > 0.3


def test_frozen_weights_do_not_change(recipe, tmp_path):
    short = ("stage.steps=3", "stage.some.evaluations=0")
    train(
        recipe("base", *short, 'stage.some.freeze=["base_head.entry", "base_head.can_form"]'),
        tmp_path / "out",
    )
    before, after = (
        load(folder).module.state_dict() for folder in (tmp_path / "out/stages/1-all/model", tmp_path / "out")
    )
    unchanged = {name for name, weights in before.items() if weights.equal(after[name])}
    assert {"base_head.entry.weight", "base_head.can_form.bias"} <= unchanged
    assert "base_head.is_formed.weight" not in unchanged
    with pytest.raises(RecipeError, match="no name of a weight starts with 'nowhere'"):
        train(recipe("base", *short, 'stage.some.freeze=["nowhere"]'), tmp_path / "other")


def test_both_strands_is_recorded_and_used_in_evaluation(recipe, tmp_path):
    short = ("stage.steps=3", "stage.some.evaluations=0")
    quality = {}
    for both in (False, True):
        train(recipe("base", *short, f"model.both_strands={str(both).lower()}"), tmp_path / str(both))
        metadata = load(tmp_path / str(both)).metadata
        assert metadata.both_strands is both
        quality[both] = metadata.quality["average_precision"]
    assert quality[True] != quality[False]
    assert "strands: both" in (tmp_path / "True" / "README.md").read_text()
    # a model that starts from a checkpoint inherits the setting unless the recipe changes it
    for setting, expected in ((None, True), (False, False)):
        made = recipe("base", *short)
        model = ModelConfig(checkpoint=str(tmp_path / "True"), both_strands=setting)
        train(from_checkpoint(made, model), tmp_path / f"on-{expected}")
        assert load(tmp_path / f"on-{expected}").metadata.both_strands is expected


def test_model_trained_on_all_contigs_is_measured_by_held_out_models(recipe, tmp_path):
    out = tmp_path / "out"
    made = train(recipe("base", *HELD_OUT), out)
    counts = []
    for number, held_out in ((1, "val"), (2, "train")):
        alone = train(
            recipe("base", *SHORT, f"data.validation_contigs=['{held_out}']"), tmp_path / f"alone-{held_out}"
        )
        model = load(out / "held-out" / str(number))
        # a held-out model equals the model of the recipe without its contigs
        for name, weights in alone.module.state_dict().items():
            assert weights.equal(model.module.state_dict()[name])
        assert model.metadata.quality == alone.metadata.quality
        figures = made.metadata.quality["held_out_models"][number - 1]
        assert figures["contigs"] == [held_out]
        assert figures["average_precision"] == model.metadata.quality["average_precision"]
        counts.append(
            read_histograms(out / "held-out" / str(number) / "stages" / "counts.npz")["genome"].counts()
        )
    # the model is trained on both contigs and measured by the pooled predictions of its held-out models
    assert made.metadata.training["contigs"] == ["train", "val"]
    assert made.metadata.quality["contigs"] == ["val", "train"]
    assert not made.module.base_head.is_formed.weight.equal(model.module.base_head.is_formed.weight)
    scores = np.concatenate([np.repeat(each[0], each[1] + each[2]) for each in counts])
    labels = np.concatenate([np.tile([False, True], len(each[0])).repeat(_pairs(each)) for each in counts])
    assert sum(labels) == made.metadata.training["labels"] * len(MOTIF)
    both = ScoreHistogram()
    both.add(scores, labels)
    assert made.metadata.quality["average_precision"] == round(both.average_precision(), 4)
    assert (made.metadata.calibration.scale, made.metadata.calibration.bias) == pytest.approx(fit_platt(both))
    card = (out / "README.md").read_text()
    assert "**These figures are of held-out models**" in card
    assert "mean ± sd" in card
    assert "of held-out models" not in (out / "held-out" / "1" / "README.md").read_text()


def _pairs(counts):
    """Return the number of bases with each score, without and with a label in turn."""
    return np.stack(counts[1:], axis=1).ravel()


def test_warns_if_a_checkpoint_was_trained_on_evaluation_contigs(recipe, tmp_path, caplog):
    train(recipe("base", *HELD_OUT, "stage.steps=3"), tmp_path / "first")
    warnings = {}
    for folder in ("first", "first/held-out/1"):
        caplog.clear()
        model = ModelConfig(checkpoint=str(tmp_path / folder))
        train(from_checkpoint(recipe("base", *SHORT), model), tmp_path / "on" / folder)
        warnings[folder] = [row.getMessage() for row in caplog.records if row.levelname == "WARNING"]
    first = tmp_path / "first"
    (warning,) = warnings["first"]
    assert warning.startswith(f"{first} was trained on val, which are validation or test contigs here")
    assert warnings["first/held-out/1"] == []


def test_held_out_models_start_from_those_of_the_checkpoint(recipe, tmp_path, caplog):
    train(recipe("base", *HELD_OUT, "stage.steps=3"), tmp_path / "first")
    model = ModelConfig(checkpoint=str(tmp_path / "first"))
    caplog.clear()
    train(from_checkpoint(recipe("base", *HELD_OUT, "stage.steps=3"), model), tmp_path / "second")
    assert not [row for row in caplog.records if row.levelname == "WARNING"]
    for number in (1, 2):
        record = json.loads((tmp_path / f"second/held-out/{number}/stages/recipe.json").read_text())
        assert record["model"]["checkpoint"] == f"{tmp_path}/first/held-out/{number}"
    # without a held-out model for these contigs, the model itself is used, with a warning
    other = recipe(
        "base", *SHORT, "stage.steps=3", "data.validation_contigs=[]", 'data.held_out_models=[["val"]]'
    )
    shutil.rmtree(tmp_path / "first/held-out/1")
    train(from_checkpoint(other, model), tmp_path / "third")
    assert any("was trained on val" in row.getMessage() for row in caplog.records)


def test_held_out_models_resume(recipe, tmp_path, monkeypatch):
    made, assess = recipe("base", *HELD_OUT, "stage.steps=8"), pipeline.assess
    calls = []

    def interrupt(*arguments):
        calls.append(arguments)
        if len(calls) == 2:  # the second held-out model is trained, but not assessed
            raise KeyboardInterrupt
        return assess(*arguments)

    monkeypatch.setattr(pipeline, "assess", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(made, tmp_path / "out")
    assert (tmp_path / "out" / "held-out" / "1" / "config.json").exists()
    assert not (tmp_path / "out" / "held-out" / "2" / "config.json").exists()
    monkeypatch.setattr(pipeline, "assess", assess)
    resumed, straight = train(made, tmp_path / "out"), train(made, tmp_path / "other")
    for name, weights in straight.module.state_dict().items():
        assert weights.equal(resumed.module.state_dict()[name])
    assert resumed.metadata.quality == straight.metadata.quality


def test_held_out_contigs_are_checked_before_training(recipe, tmp_path):
    for contigs, message in (
        ('[["val"], ["chrQ"]]', r"data\.held_out_models\[1\]: chrQ not among the contigs"),
        ('[["val"], ["val2", "val"]]', "each contig in one list"),
        ('[["val", "train"]]', "no contig is left to train on"),
    ):
        settings = (*SHORT, "data.validation_contigs=[]", f"data.held_out_models={contigs}")
        with pytest.raises(ZfliponError, match=message):
            train(recipe("base", *settings), tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_missing_or_damaged_histograms_are_named(tmp_path):
    for content in (None, b"", b"PK\x03\x04 damaged"):
        path = tmp_path / "counts.npz"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError, match="expected the evaluation of a held-out model"):
            read_histograms(path)


KMERS = (
    "stage.steps=3",
    "stage.some.evaluations=0",
    "stage.some.readout_penalty=10",
    "model.base_head.kmer_size=4",
)


def soft_mask(tmp_path):
    """Rewrite the genome with the first fifth of each contig in lower case."""
    with Genome(tmp_path / "genome.fa") as genome:
        contigs = {name: genome.fetch(name, 0, size) for name, size in genome.lengths.items()}
    make_fasta(
        tmp_path,
        {name: text[: len(text) // 5].lower() + text[len(text) // 5 :] for name, text in contigs.items()},
    )


def test_kmer_tables_need_a_soft_masked_genome(recipe, tmp_path):
    with pytest.raises(RecipeError, match="expected a soft-masked FASTA"):
        train(recipe("base", *KMERS), tmp_path / "out")
    assert not list((tmp_path / "out").glob("stages/*/*"))  # refused before training


def test_kmer_log_odds_are_weighted_sums_of_the_counted_tables(recipe, tmp_path):
    (tmp_path / "tracks").mkdir()
    (tmp_path / "tracks" / "one.bed").write_text("train\t20000\t30000\nval\t0\t9000\n")
    made = recipe("base", *KMERS, f"data.tracks={tmp_path}/tracks")
    soft_mask(tmp_path)
    train(made, tmp_path / "out")
    head = load(tmp_path / "out").module.base_head
    with Genome(tmp_path / "genome.fa") as genome:
        tracks = [{"train": np.array([[20_000, 30_000]])}]
        counted = kmer_tables(genome, {"train": genome.length("train")}, tracks, 4)
    for odds in head.kmers.log_odds.numpy():
        weights, *_ = np.linalg.lstsq(counted.T, odds, rcond=None)
        np.testing.assert_allclose(weights @ counted, odds, atol=1e-4)
        assert np.abs(weights).min() > 1e-4
    assert head.is_formed.weight[0, -len(KMER_RADII) :].tolist() == [1] * len(KMER_RADII)


def test_informative_kmers_get_high_log_odds(recipe, tmp_path):
    # motifs in a track are labelled, and the track is where GGATCCGG is frequent
    made = recipe("base", *KMERS, f"data.tracks={tmp_path}/tracks")
    letters, labels, candidates, track = list(dna(40_000, seed=3, letters="AACTTG")), [], [], []
    for block in range(40):
        start, labelled = 1000 * block, block % 2 == 0
        if labelled:
            track.append(f"train\t{start}\t{start + 1000}\n")
            for at in range(start + 20, start + 980, 40):
                letters[at : at + 8] = "GGATCCGG"
        at = start + 500
        letters[at : at + len(MOTIF)] = MOTIF
        row = f"train\t{at}\t{at + len(MOTIF)}\n"
        candidates.append(row)
        if labelled:
            labels.append(row)
    (tmp_path / "tracks").mkdir()
    for name, rows in (("labels.bed", labels), ("candidates.bed", candidates), ("tracks/one.bed", track)):
        (tmp_path / name).write_text("".join(rows))
    make_fasta(tmp_path, {"train": "".join(letters), "val": dna(3000, 1)})
    soft_mask(tmp_path)
    train(made, tmp_path / "out")
    module = load(tmp_path / "out").module
    frequent = int("".join(str("ACGT".index(letter)) for letter in "GATC"), 4)
    other = int("".join(str("ACGT".index(letter)) for letter in "TTAA"), 4)
    odds = module.base_head.kmers.log_odds.numpy()
    assert (odds[:, frequent] > odds[:, other]).all()
    assert odds[:, frequent].sum() > 0


def test_weight_average_follows_the_weights_and_is_restored(tmp_path):
    module = torch.nn.Linear(1, 1, bias=False)
    module.weight.data.zero_()
    average = WeightAverage(module, 0.5, tmp_path)
    state = SimpleNamespace(global_step=0, is_world_process_zero=True)
    average.on_train_begin(None, state, None)
    for state.global_step in range(1, 15):
        module.weight.data.fill_(1.0)
        average.on_step_end(None, state, None)
    assert 0.99 < average.weights["weight"].item() < 1
    module.weight.data.fill_(7.0)
    with average.applied():
        assert module.weight.item() < 1
    assert module.weight.item() == 7
    (tmp_path / "checkpoint-14").mkdir()
    average.on_save(None, state, None)
    again = WeightAverage(module, 0.5, tmp_path)
    again.on_train_begin(None, state, None)
    assert again.weights["weight"].equal(average.weights["weight"])


def test_stage_needs_the_file_of_its_target(recipe, tmp_path):
    with pytest.raises(RecipeError, match=r"stage some learns tracks: set data\.tracks"):
        train(recipe("base", 'stage.some.auxiliary=["tracks"]', "stage.all.steps=1"), tmp_path / "out")


@pytest.mark.parametrize("setting", ["model.family=zhunt", "model.checkpoint=zhunt"])
def test_formula_is_not_trained(recipe, tmp_path, setting):
    made = recipe("base", "stage.all.steps=1")
    model = ModelConfig(**dict([setting.removeprefix("model.").split("=")]))
    with pytest.raises(RecipeError, match="zhunt is a formula"):
        train(from_checkpoint(made, model), tmp_path / "out")


def test_slow_steps_are_reported_with_the_remaining_time(tmp_path, caplog):
    caplog.set_level("INFO", "zflipon")
    monitor, state = LossMonitor(tmp_path, interval=0.0), TrainerState(global_step=3, max_steps=7)
    monitor.on_train_begin(None, state, None)
    monitor.on_step_end(None, state, None)  # no step is finished since the start: the speed is unknown
    state.global_step = 5
    monitor.on_step_end(None, state, None)
    LossMonitor(tmp_path).on_step_end(None, state, None)  # a line is not due yet
    assert [re.sub(r"\d+:\d+:\d+", "TIME", line) for line in caplog.messages] == [
        "step 5 of 7, about TIME left"
    ]
