"""`zflipon train` on a genome where a motif is the label: it learns, resumes, and tells its story."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import dna, make_fasta

from zflipon.cli import cli
from zflipon.config import ModelConfig
from zflipon.errors import InputError, OutputError, RecipeError, ZfliponError
from zflipon.genome.fasta import Genome
from zflipon.metrics import ScoreHistogram
from zflipon.models import load
from zflipon.models.heads.base_resolution import WORD_REACHES
from zflipon.training import stages
from zflipon.training.calibration import platt
from zflipon.training.evaluators import read_counts
from zflipon.training.kmers import word_tables
from zflipon.training.loop import Average, Watch
from zflipon.training.recipe import load_recipe
from zflipon.training.stages import COUNTS, train

MOTIF = "CGCGCGCGCGCG"

SHORT = ("stage.steps=20", "stage.evaluations=0", "stage.some.evaluations=0")
TWINS = (*SHORT, "data.validation_contigs=[]", 'data.twins=[["val"], ["train"]]')

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
    """Return a maker of recipes over a genome with the motif planted, all of it labelled but for decoys."""

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


def validation_rows(out):
    return [
        json.loads(line) for line in (out / "stages" / "2-some" / "validation.jsonl").read_text().splitlines()
    ]


@pytest.mark.parametrize("objective", ["base", "token"])
def test_a_motif_is_learnt_and_the_story_told(recipe, tmp_path, objective):
    out = tmp_path / "out"
    train(recipe(objective), out)
    checkpoint = load(out)
    metadata = checkpoint.metadata
    assert (metadata.objective, metadata.window, metadata.margin) == (objective, 256, 32)
    assert 1 < metadata.max_token_length <= 5
    assert metadata.quality["contigs"] == ["val"]
    # about 6 % of the bases are motif: a model that has learnt nothing has an average precision of 0.06
    assert metadata.quality["average_precision"] > 0.5
    assert 0 < metadata.threshold < 1
    (few, many), (_, least) = metadata.quality["by_threshold"]["0.8"], metadata.quality["by_threshold"]["0.3"]
    assert many <= least
    assert 0 <= few <= 1
    assert metadata.training["contigs"] == ["train"]
    assert [stage["name"] for stage in metadata.training["stages"]] == ["all", "some"]
    assert [row["step"] for row in validation_rows(out)] == [30, 60]


def test_the_track_of_a_trained_model_is_calibrated_and_finds_the_motif(recipe, tmp_path):
    train(recipe(), tmp_path / "out")
    words = ["annotate", f"{tmp_path}/genome.fa", "-o", f"{tmp_path}/z.bw", "-o", f"{tmp_path}/z.bed"]
    words += ["--contigs", "val", "--model", f"{tmp_path}/out", "--device", "cpu"]
    assert CliRunner().invoke(cli, words, catch_exceptions=False).exit_code == 0
    words = [
        "evaluate",
        f"{tmp_path}/z.bw",
        "--labels",
        f"{tmp_path}/labels.bed",
        "--genome",
        f"{tmp_path}/genome.fa",
    ]
    words += ["--contigs", "val", "--json", f"{tmp_path}/z.json"]
    assert CliRunner().invoke(cli, words, catch_exceptions=False).exit_code == 0
    told = json.loads((tmp_path / "z.json").read_text())["tracks"]["z.bw"]["genome"]
    quality = load(tmp_path / "out").metadata.quality
    # three decimals are written: where calibration bends flat, bases tie that the model tells apart
    assert told["average_precision"] == pytest.approx(quality["average_precision"], abs=0.02)
    assert told["best_f1"] == pytest.approx(quality["f1"], abs=0.01)


def test_a_stopped_run_ends_like_one_that_was_not(recipe, tmp_path, monkeypatch):
    plan = recipe()
    train(plan, tmp_path / "whole")
    on_log = Watch.on_log

    def stop(self, args, state, control, logs=None, **rest):
        on_log(self, args, state, control, logs, **rest)
        if state.global_step >= 45 and "2-some" in args.output_dir:
            raise KeyboardInterrupt

    monkeypatch.setattr(Watch, "on_log", stop)
    with pytest.raises(KeyboardInterrupt):
        train(plan, tmp_path / "stopped")
    assert not (tmp_path / "stopped" / "config.json").exists()
    monkeypatch.setattr(Watch, "on_log", on_log)
    train(plan, tmp_path / "stopped")
    one, other = load(tmp_path / "whole"), load(tmp_path / "stopped")
    for name, weights in one.module.state_dict().items():
        torch.testing.assert_close(other.module.state_dict()[name], weights, atol=1e-5, rtol=1e-4)
    precision = one.metadata.quality["average_precision"]
    assert other.metadata.quality["average_precision"] == pytest.approx(precision, abs=1e-3)


def test_a_finished_folder_is_kept(recipe, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("precious")
    with pytest.raises(OutputError, match="is not empty"):
        train(recipe(), out)


def test_another_recipe_does_not_mix(recipe, tmp_path):
    out = tmp_path / "out"
    train(recipe("base", "stage.steps=2", "stage.evaluations=0"), out)
    with pytest.raises(OutputError, match="another recipe"):
        train(recipe("base", "stage.steps=3", "stage.evaluations=0"), out)


def test_a_loss_that_is_no_number_stops_the_run(recipe, tmp_path):
    with pytest.raises(ZfliponError, match="lower the learning rate"):
        train(recipe("base", "stage.learning_rate=1e30", "stage.warmup=0"), tmp_path / "out")


def test_what_is_missing_is_named(recipe, tmp_path):
    with pytest.raises(RecipeError, match=r"data\.genome"):
        train(recipe("base", "data.genome=''"), tmp_path / "a")
    with pytest.raises(InputError, match="chrQ not in"):
        train(recipe("base", "data.validation_contigs=['chrQ']"), tmp_path / "b")
    (tmp_path / "labels.bed").write_text("val\t10\t20\n")
    plan = recipe()
    (tmp_path / "labels.bed").write_text("val\t10\t20\n")
    with pytest.raises(InputError, match="no labels on the training contigs"):
        train(plan, tmp_path / "c")


def test_validation_counts_every_base_once():
    histogram = ScoreHistogram()
    histogram.add(np.array([2.0, -1.0, 0.5]), np.array([True, False, False]))
    scores, negatives, positives = histogram.counts()
    assert scores.tolist() == [-1.0, 0.5, 2.0]
    assert negatives.tolist() == [1, 1, 0]
    assert positives.tolist() == [0, 0, 1]


def test_a_context_learnt_from_tracks_and_an_average_of_weights(recipe, tmp_path):
    made = recipe(
        "base",
        f"data.tracks={tmp_path}/tracks",
        "stage.all.target=tracks",
        'stage.all.auxiliary=["candidates"]',
        'stage.some.auxiliary=["candidates", "tracks"]',
        "stage.some.average=0.9",
        "stage.some.dropout=0.1",
    )
    (tmp_path / "tracks").mkdir()
    with pytest.raises(InputError, match="no BED files"):
        train(made, tmp_path / "out")
    shutil.copy(tmp_path / "labels.bed", tmp_path / "tracks" / "one.bed")
    (tmp_path / "tracks" / "two.bed").write_text("train\t0\t40000\n")
    train(made, tmp_path / "out")
    found = load(tmp_path / "out")
    assert found.module.base_head.tracks.out_features == 2
    assert found.metadata.quality["average_precision"] > 0.3


def test_frozen_weights_stay_as_the_stage_before_left_them(recipe, tmp_path):
    short = ("stage.steps=3", "stage.some.evaluations=0")
    train(
        recipe("base", *short, 'stage.some.freeze=["base_head.entry", "base_head.forms"]'), tmp_path / "out"
    )
    before, after = (
        load(folder).module.state_dict() for folder in (tmp_path / "out/stages/1-all/model", tmp_path / "out")
    )
    kept = {name for name, weights in before.items() if weights.equal(after[name])}
    assert {"base_head.entry.weight", "base_head.forms.bias"} <= kept
    assert "base_head.flips.weight" not in kept
    with pytest.raises(RecipeError, match="no weights begin with 'nowhere'"):
        train(recipe("base", *short, 'stage.some.freeze=["nowhere"]'), tmp_path / "other")


def test_the_strands_of_the_recipe_go_into_the_story_and_into_the_judgement(recipe, tmp_path):
    short = ("stage.steps=3", "stage.some.evaluations=0")
    quality = {}
    for both in (False, True):
        train(recipe("base", *short, f"model.both_strands={str(both).lower()}"), tmp_path / str(both))
        metadata = load(tmp_path / str(both)).metadata
        assert metadata.both_strands is both
        quality[both] = metadata.quality["average_precision"]
    assert quality[True] != quality[False]
    assert "strands: both" in (tmp_path / "True" / "README.md").read_text()
    # what starts from a checkpoint is read as that, unless the recipe says otherwise
    for said, expected in ((None, True), (False, False)):
        made = recipe("base", *short)
        model = ModelConfig(checkpoint=str(tmp_path / "True"), both_strands=said)
        train(replace(made, model=model), tmp_path / f"on-{expected}")
        assert load(tmp_path / f"on-{expected}").metadata.both_strands is expected


def test_a_model_trained_on_everything_is_measured_by_twins(recipe, tmp_path):
    out = tmp_path / "out"
    made = train(recipe("base", *TWINS), out)
    counts = []
    for number, apart in ((1, "val"), (2, "train")):
        alone = train(
            recipe("base", *SHORT, f"data.validation_contigs=['{apart}']"), tmp_path / f"alone-{apart}"
        )
        twin = load(out / "held-out" / str(number))
        # a twin is what the recipe gives without its contigs, to the last weight
        for name, weights in alone.module.state_dict().items():
            assert weights.equal(twin.module.state_dict()[name])
        assert twin.metadata.quality == alone.metadata.quality
        told = made.metadata.quality["held_out_models"][number - 1]
        assert told["contigs"] == [apart]
        assert told["average_precision"] == twin.metadata.quality["average_precision"]
        counts.append(read_counts(out / "held-out" / str(number) / "stages" / COUNTS)["genome"].counts())
    # the model has learnt from both contigs, and what its twins say of both, taken together, measures it
    assert made.metadata.training["contigs"] == ["train", "val"]
    assert made.metadata.quality["contigs"] == ["val", "train"]
    assert not made.module.base_head.flips.weight.equal(twin.module.base_head.flips.weight)
    scores = np.concatenate([np.repeat(each[0], each[1] + each[2]) for each in counts])
    labels = np.concatenate([np.tile([False, True], len(each[0])).repeat(_pairs(each)) for each in counts])
    assert sum(labels) == made.metadata.training["labels"] * len(MOTIF)
    both = ScoreHistogram()
    both.add(scores, labels)
    assert made.metadata.quality["average_precision"] == round(both.average_precision(), 4)
    assert made.metadata.calibration[:2] == pytest.approx(platt(both))
    card = (out / "README.md").read_text()
    assert "**These figures are of twins**" in card
    assert "mean ± sd" in card
    assert "of twins" not in (out / "held-out" / "1" / "README.md").read_text()


def _pairs(counts):
    """How many bases without and with a label have each score, in turn."""
    return np.stack(counts[1:], axis=1).ravel()


def test_a_checkpoint_that_knows_what_is_kept_apart_is_named(recipe, tmp_path, caplog):
    train(recipe("base", *TWINS, "stage.steps=3"), tmp_path / "first")
    told = {}
    for folder in ("first", "first/held-out/1"):
        caplog.clear()
        model = ModelConfig(checkpoint=str(tmp_path / folder))
        train(replace(recipe("base", *SHORT), model=model), tmp_path / "on" / folder)
        told[folder] = [row.getMessage() for row in caplog.records if row.levelname == "WARNING"]
    first = tmp_path / "first"
    assert told["first"] == [f"{first} was trained on val, kept apart here: figures on them flatter it"]
    assert told["first/held-out/1"] == []


def test_twins_start_from_the_twins_of_a_checkpoint(recipe, tmp_path, caplog):
    train(recipe("base", *TWINS, "stage.steps=3"), tmp_path / "first")
    model = ModelConfig(checkpoint=str(tmp_path / "first"))
    caplog.clear()
    train(replace(recipe("base", *TWINS, "stage.steps=3"), model=model), tmp_path / "second")
    assert not [row for row in caplog.records if row.levelname == "WARNING"]
    for number in (1, 2):
        record = json.loads((tmp_path / f"second/held-out/{number}/stages/recipe.json").read_text())
        assert record["model"]["checkpoint"] == f"{tmp_path}/first/held-out/{number}"
    # other lists of contigs have no twin there: the model itself starts them, and it is said that it knows them
    other = recipe("base", *SHORT, "stage.steps=3", "data.validation_contigs=[]", 'data.twins=[["val"]]')
    shutil.rmtree(tmp_path / "first/held-out/1")
    train(replace(other, model=model), tmp_path / "third")
    assert any("was trained on val" in row.getMessage() for row in caplog.records)


def test_twins_go_on_where_they_were_stopped(recipe, tmp_path, monkeypatch):
    made, judged = recipe("base", *TWINS, "stage.steps=8"), stages._judged
    calls = []

    def stop(*arguments):
        calls.append(arguments)
        if len(calls) == 2:  # the second twin is trained, but not judged
            raise KeyboardInterrupt
        return judged(*arguments)

    monkeypatch.setattr(stages, "_judged", stop)
    with pytest.raises(KeyboardInterrupt):
        train(made, tmp_path / "out")
    assert (tmp_path / "out" / "held-out" / "1" / "config.json").exists()
    assert not (tmp_path / "out" / "held-out" / "2" / "config.json").exists()
    monkeypatch.setattr(stages, "_judged", judged)
    resumed, straight = train(made, tmp_path / "out"), train(made, tmp_path / "other")
    for name, weights in straight.module.state_dict().items():
        assert weights.equal(resumed.module.state_dict()[name])
    assert resumed.metadata.quality == straight.metadata.quality


def test_the_contigs_of_twins_are_looked_at_before_anything_is_trained(recipe, tmp_path):
    for twins, told in (
        ('[["val"], ["chrQ"]]', "data.twins, list 2: chrQ not in"),
        ('[["val"], ["val2", "val"]]', "each contig in one of them"),
        ('[["val", "train"]]', "every contig is kept apart"),
    ):
        with pytest.raises(ZfliponError, match=told):
            train(
                recipe("base", *SHORT, "data.validation_contigs=[]", f"data.twins={twins}"), tmp_path / "out"
            )
        assert not (tmp_path / "out").exists()


def test_counts_that_are_missing_or_damaged_are_named(tmp_path):
    for content in (None, b"", b"PK\x03\x04 damaged"):
        path = tmp_path / "counts.npz"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError, match="expected what a twin counted"):
            read_counts(path)


WORDS = (
    "stage.steps=3",
    "stage.some.evaluations=0",
    "stage.some.readout=10",
    "model.base_head.words=4",
)


def soften(tmp_path):
    """Write a fifth of each contig of the recipe's genome in lower case, as repeats."""
    with Genome(tmp_path / "genome.fa") as genome:
        contigs = {name: genome.fetch(name, 0, size) for name, size in genome.lengths.items()}
    make_fasta(
        tmp_path,
        {name: text[: len(text) // 5].lower() + text[len(text) // 5 :] for name, text in contigs.items()},
    )


def test_words_need_lower_case(recipe, tmp_path):
    with pytest.raises(RecipeError, match="no repeats in lower case"):
        train(recipe("base", *WORDS), tmp_path / "out")
    assert not list((tmp_path / "out").glob("stages/*/*"))  # it is said before anything is trained


def test_the_table_of_words_is_what_was_counted_on_what_trains_weighed(recipe, tmp_path):
    (tmp_path / "tracks").mkdir()
    (tmp_path / "tracks" / "one.bed").write_text("train\t20000\t30000\nval\t0\t9000\n")
    made = recipe("base", *WORDS, f"data.tracks={tmp_path}/tracks")
    soften(tmp_path)
    train(made, tmp_path / "out")
    head = load(tmp_path / "out").module.base_head
    with Genome(tmp_path / "genome.fa") as genome:
        tracks = [{"train": np.array([[20_000, 30_000]])}]
        counted = word_tables(genome, {"train": genome.length("train")}, tracks, 4)
    for odds in head.word_odds.numpy():
        weights, *_ = np.linalg.lstsq(counted.T, odds, rcond=None)
        np.testing.assert_allclose(weights @ counted, odds, atol=1e-4)
        assert np.abs(weights).min() > 1e-4
    assert head.flips.weight[0, -len(WORD_REACHES) :].tolist() == [1] * len(WORD_REACHES)


def test_words_that_decide_are_found(recipe, tmp_path):
    # motifs flip where a track lies, and a track lies where a word is often
    made = recipe("base", *WORDS, f"data.tracks={tmp_path}/tracks")
    letters, labels, candidates, track = list(dna(40_000, seed=3, letters="AACTTG")), [], [], []
    for block in range(40):
        start, flips = 1000 * block, block % 2 == 0
        if flips:
            track.append(f"train\t{start}\t{start + 1000}\n")
            for at in range(start + 20, start + 980, 40):
                letters[at : at + 8] = "GGATCCGG"
        at = start + 500
        letters[at : at + len(MOTIF)] = MOTIF
        row = f"train\t{at}\t{at + len(MOTIF)}\n"
        candidates.append(row)
        if flips:
            labels.append(row)
    (tmp_path / "tracks").mkdir()
    for name, rows in (("labels.bed", labels), ("candidates.bed", candidates), ("tracks/one.bed", track)):
        (tmp_path / name).write_text("".join(rows))
    make_fasta(tmp_path, {"train": "".join(letters), "val": dna(3000, 1)})
    soften(tmp_path)
    train(made, tmp_path / "out")
    module = load(tmp_path / "out").module
    word = int("".join(str("ACGT".index(letter)) for letter in "GATC"), 4)
    other = int("".join(str("ACGT".index(letter)) for letter in "TTAA"), 4)
    odds = module.base_head.word_odds.numpy()
    assert (odds[:, word] > odds[:, other]).all()
    assert odds[:, word].sum() > 0


def test_the_average_lags_behind_the_weights(tmp_path):
    module = torch.nn.Linear(1, 1, bias=False)
    module.weight.data.zero_()
    average = Average(module, 0.5, tmp_path)
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
    average.on_save(None, state, None)
    again = Average(module, 0.5, tmp_path)
    again.on_train_begin(None, state, None)
    assert again.weights["weight"].equal(average.weights["weight"])


def test_a_stage_needs_what_it_learns(recipe, tmp_path):
    with pytest.raises(RecipeError, match=r"stage some learns tracks; set data\.tracks"):
        train(recipe("base", 'stage.some.auxiliary=["tracks"]', "stage.all.steps=1"), tmp_path / "out")


@pytest.mark.parametrize("setting", ["model.family=zhunt", "model.checkpoint=zhunt"])
def test_a_formula_is_not_trained(recipe, tmp_path, setting):
    made = recipe("base", "stage.all.steps=1")
    model = ModelConfig(**dict([setting.removeprefix("model.").split("=")]))
    with pytest.raises(RecipeError, match="zhunt is a formula"):
        train(replace(made, model=model), tmp_path / "out")
