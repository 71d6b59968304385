"""Recipes: those that come with the package, inheritance, --set, and mistakes."""

import math
import os
from pathlib import Path

import pytest
import torch

from zflipon.config import DataConfig, Recipe, StageConfig
from zflipon.errors import RecipeError
from zflipon.models import create, get_family
from zflipon.models.adapters import attach
from zflipon.training.recipe import load_recipe, planned_runs, stage_settings

RECIPES = sorted((Path(__file__).parents[2] / "train").glob("*.toml"))

PLAIN = """
name = "plain"
[tokenizer]
train = true
[model]
family = "compact"
[[stage]]
name = "first"
window = 512
margin = 128
learning_rate = 1
class_weights = [1, 8]
[[stage]]
name = "second"
margin = 64
"""


@pytest.fixture
def read(tmp_path):
    """Return a function that reads a recipe from its text."""

    def call(text, *settings):
        path = tmp_path / "recipe.toml"
        path.write_text(text)
        return load_recipe(path, settings)

    return call


@pytest.fixture
def refused(read, tmp_path):
    """Return a function that returns the problems in a wrong recipe."""

    def call(text, *settings):
        with pytest.raises(RecipeError) as caught:
            read(text, *settings)
        file, _, problems = str(caught.value).partition(": ")
        assert file == str(tmp_path / "recipe.toml")
        assert "\n" not in problems
        return problems

    return call


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_included_recipes_are_valid(path):
    tables = path.stem.startswith("core-promoter")
    files = ["data.sequences=train.csv", "data.test_sequences=test.csv"]
    data = files if tables else ["data.genome=genome.fa", "data.labels=labels.bed"]
    recipe = load_recipe(path, data)
    assert recipe.name == path.stem
    assert recipe.description
    assert all(stage.steps > 0 or stage.readout_penalty > 0 for stage in recipe.stage)
    head, *_ = path.read_text().partition("\nname = ")
    assert head.startswith("#")
    assert f"zflipon train train/{path.name}" in head  # the comment contains the command
    names = [run.name for run in planned_runs(path, data)]
    count = math.prod(map(len, recipe.sweep.values())) * (recipe.data.folds or 1)
    assert len(set(names)) == len(names) == count


STAGE_KEYS = [
    "window",
    "label_threshold",
    "label_comparison",
    "learning_rate",
    "weight_decay",
    "batch_size",
    "gradient_accumulation",
    "epochs",
    "evaluations",
    "monitor",
    "schedule",
    "warmup",
    "class_weights",
    "background",
]

SPLIT_KEYS = ["split", "validation_share", "test_share", "select_on", "folds"]

GENA_STAGES = [(510, 0.3), (110, 0.66), (70, 0.7)]

AS_PRINTED = ("stratified", 0.24, 0.2, "validation", 0)
ON_TEST = ("stratified", 0, 0.2, "test", 0)
NO_STRATA = ("random", 0.2, 0.2, "validation", 0)


def gena(window, share, decay=0.0, batch=32, parts=1, epochs=10, monitor="token_f1"):
    """Return the values of `STAGE_KEYS` of a stage of GENA-LM."""
    own = (window, share, ">", 2e-5, decay, batch, parts, epochs, epochs, monitor)
    return (*own, "constant", 0.1, None, 3)


def dnabert2(share, monitor="token_f1"):
    """Return the values of `STAGE_KEYS` of the stage of DNABERT-2."""
    return (128, share, ">=", 5e-5, 0.01, 32, 1, 10, 10, monitor, "constant", 0.1, (1, 8), 3)


PAPER = {  # recipe → its split and its stages, after inheritance: as printed, and as in the notebooks
    "dnabert2": (AS_PRINTED, [dnabert2(0.7)]),
    "dnabert2-notebook": (ON_TEST, [dnabert2(0.7, "loss")]),
    "dnabert2-lora": (AS_PRINTED, [dnabert2(0.7)]),
    "gena-lm-3-stage": (AS_PRINTED, [gena(*each) for each in GENA_STAGES]),
    "gena-lm-3-stage-notebook": (
        NO_STRATA,
        [
            *(gena(*each, 0.01, monitor="loss") for each in GENA_STAGES[:2]),
            gena(*GENA_STAGES[2], 0.01, 128, 4, 5, "loss"),
        ],
    ),
    "gena-lm-lora": (AS_PRINTED, [gena(512, 0.66)]),
    "gena-lm-lora-notebook": (NO_STRATA, [gena(512, 0.66, 0.01, monitor="loss")]),
    "zdnabert-6mer": (
        ("stratified", 0, 0.2, "validation", 5),
        [(517, 0.5, ">=", 1e-5, 0.0, 24, 1, 3, 0, "", "one-cycle", 0.0, None, 2)],
    ),
}

PROMOTERS = {  # recipe → learning rate, decay, epochs, monitor, part that selects
    "core-promoter-dnabert2": (5e-5, 0.01, 10, "mcc", "validation"),
    "core-promoter-dnabert2-notebook": (5e-5, 0.01, 5, "f1", "test"),
    "core-promoter-gena-lm": (2e-5, 0.0, 10, "mcc", "validation"),
    "core-promoter-gena-lm-notebook": (2e-5, 0.0, 10, "loss", "test"),
}

ADAPTERS = {  # recipe → rank, alpha, dropout, biases
    "dnabert2-lora": (16, 32, 0.05, "none"),
    "gena-lm-lora": (16, 32, 0.05, "none"),
    "gena-lm-lora-notebook": (16, 16, 0.1, "all"),
}


def included(name, *settings):
    return load_recipe(Path(__file__).parents[2] / "train" / f"{name}.toml", settings)


def values(section, keys):
    return tuple(getattr(section, key) for key in keys)


@pytest.mark.parametrize("name", PAPER)
def test_settings_of_the_paper(name):
    recipe, (split, stages) = included(name), PAPER[name]
    assert values(recipe.data, SPLIT_KEYS) == split
    assert [values(stage, STAGE_KEYS) for stage in recipe.stage] == stages
    assert recipe.tokenizer.max_token_length == (None if name == "zdnabert-6mer" else 5)
    for stage in recipe.stage:
        assert (stage.positives, stage.hard_negatives, stage.sampling) == (1, 0, "tiled")
        assert not stage.reverse_complement


@pytest.mark.parametrize("name", PROMOTERS)
def test_settings_of_the_paper_for_core_promoters(name):
    recipe = included(name, "data.sequences=a.csv", "data.test_sequences=b.csv")
    (stage,) = recipe.stage
    keys = ("learning_rate", "weight_decay", "epochs", "monitor")
    assert (*values(stage, keys), recipe.data.select_on) == PROMOTERS[name]
    assert (stage.evaluations, stage.batch_size, stage.warmup) == (stage.epochs, 32, 0.1)
    assert recipe.sweep == {"tokenizer.max_token_length": [1000, 6, 5]}


@pytest.mark.parametrize(("name", "window", "comparison"), [("dnabert2", 128, ">="), ("gena-lm", 512, ">")])
def test_grid_of_table_5_1(name, window, comparison):
    recipe = included(f"table-5.1-{name}")
    (stage,) = recipe.stage
    assert (stage.window, stage.label_comparison) == (window, comparison)
    assert recipe.sweep == {
        "tokenizer.max_token_length": [4, 5, 6],
        "stage.label_threshold": [0.3, 0.6, 0.66, 0.7],
    }


@pytest.mark.parametrize("name", ADAPTERS)
def test_adapter_settings_of_the_paper(name):
    assert values(included(name).model.lora, ("r", "alpha", "dropout", "bias")) == ADAPTERS[name]


@pytest.mark.parametrize(
    ("name", "family", "trained"),
    [
        (
            "gena-lm-lora-notebook",
            "gena",
            693_506,
        ),  # as the notebook prints, for an encoder without last norm
        ("gena-lm-lora", "gena", 12 * 2 * 16 * 2 * 768 + 2 * 769),
        ("dnabert2-lora", "dnabert2", 12 * 16 * (768 + 2304) + 2 * 769),
    ],
)
def test_trainable_weights_of_the_adapters(name, family, trained, tokenizer):
    with torch.device("meta"):
        settings = {"last_layer_norm": False} if family == "gena" else {}
        module = create(family, "token", tokenizer, **settings).module
    attach(module, included(name).model.lora, get_family(family).lora_targets)
    assert sum(each.numel() for each in module.parameters() if each.requires_grad) == trained


def test_there_are_included_recipes():
    assert "compact" in {path.stem for path in RECIPES}


def test_missing_keys_have_defaults(read):
    recipe = read(PLAIN)
    assert isinstance(recipe, Recipe)
    assert recipe.data == DataConfig()
    assert recipe.model.shape == {}
    assert recipe.stage[0] == StageConfig(
        name="first", window=512, margin=128, learning_rate=1.0, class_weights=(1.0, 8.0)
    )
    assert isinstance(recipe.stage[0].learning_rate, float)


def test_stage_inherits_from_the_stage_before(read):
    recipe = read(PLAIN + '[[stage]]\nname = "third"\nlearning_rate = 0.5\n')
    assert [stage.window for stage in recipe.stage] == [512, 512, 512]
    assert [stage.margin for stage in recipe.stage] == [128, 64, 64]
    assert [stage.learning_rate for stage in recipe.stage] == [1.0, 1.0, 0.5]
    changed = [
        (stage.name, [f"{each.name} = {each.value}" for each in settings if not each.inherited])
        for stage, settings in stage_settings(recipe)
    ]
    assert changed == [
        ("first", ["window = 512", "margin = 128", "learning_rate = 1.0", "class_weights = (1.0, 8.0)"]),
        ("second", ["margin = 64"]),
        ("third", ["learning_rate = 0.5"]),
    ]


def test_stage_without_a_name_is_numbered(read):
    recipe = read(PLAIN + "[[stage]]\nsteps = 7\n[[stage]]\n")
    assert [stage.name for stage in recipe.stage] == ["first", "second", "stage-3", "stage-4"]
    assert [stage.steps for stage in recipe.stage] == [1000, 1000, 7, 7]


# ---- settings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("data.genome=a b.fa", "a b.fa"),
        ("data.genome=../hg19.fa.gz", "../hg19.fa.gz"),
        ('data.genome="7"', "7"),
        (" data.genome =x", "x"),
        ("data.genome=a=b", "a=b"),
    ],
)
def test_setting_is_toml_or_text(read, setting, value):
    assert read(PLAIN, setting).data.genome == value


def test_settings_of_every_type(read):
    recipe = read(
        PLAIN,
        "name=mine",
        "tokenizer.vocab_size=64",
        'data.validation_contigs=["chr1", "chr2"]',
        "model.shape={ hidden_size = 8 }",
        "model.shape.num_hidden_layers=2",
    )
    assert recipe.name == "mine"
    assert recipe.tokenizer.vocab_size == 64
    assert recipe.data.validation_contigs == ("chr1", "chr2")
    assert recipe.model.shape == {"hidden_size": 8, "num_hidden_layers": 2}


def test_settings_of_one_stage_and_of_all(read):
    assert [stage.steps for stage in read(PLAIN, "stage.steps=3").stage] == [3, 3]
    assert [stage.margin for stage in read(PLAIN, "stage.margin=9").stage] == [9, 9]
    assert [stage.steps for stage in read(PLAIN, "stage.second.steps=3").stage] == [1000, 3]
    assert [stage.steps for stage in read(PLAIN, "stage.first.steps=3").stage] == [3, 3]  # inherited
    assert [stage.steps for stage in read(PLAIN, "stage.steps=3", "stage.steps=4").stage] == [4, 4]


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("data", "expected section.key=value"),
        ("=3", "expected section.key=value"),
        ("data..genome=3", "expected section.key=value"),
        ("tokenizer.train.deep=3", "'train' is a value, not a section"),
        ("stage.secnd.steps=3", "no stage has this name (did you mean 'second'?)"),
        ("stage=3", "expected stage.key or stage.NAME.key, then =value"),
        ("stage.first.a.b=3", "expected stage.key or stage.NAME.key, then =value"),
    ],
)
def test_invalid_setting(refused, setting, problem):
    assert refused(PLAIN, setting) == f"--set {setting!r}: {problem}"


# ---- mistakes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("tokenizer.vocabsize=3", "tokenizer.vocabsize: unknown key (did you mean 'vocab_size'?)"),
        ("zzz=3", "zzz: unknown key"),
        ("data.genome=3", "data.genome: expected text in quotes, found 3"),
        ("data.validation_contigs=chr1", "data.validation_contigs: expected a list, found 'chr1'"),
        ("data.validation_contigs=[1]", "data.validation_contigs[0]: expected text in quotes, found 1"),
        ("tokenizer.train=1", "tokenizer.train: expected true or false, found 1"),
        ("tokenizer.vocab_size=true", "tokenizer.vocab_size: expected a whole number, found true"),
        ("tokenizer.vocab_size=1.5", "tokenizer.vocab_size: expected a whole number, found 1.5"),
        ("tokenizer.vocab_size=0", "tokenizer.vocab_size: expected a number above 0, found 0"),
        ("model.shape=3", "model.shape: expected a table, found 3"),
        ("model=3", "model: expected a table, found 3"),
        ("model.lora={ rank = 4 }", "model.lora.rank: unknown key"),
        ("name=3", "name: expected text in quotes, found 3"),
        ("stage.second.seed=-1", "stage.second.seed: expected a number of at least 0, found -1"),
        ("stage.second.learning_rate=fast", "stage.second.learning_rate: expected a number, found 'fast'"),
        ("stage.second.learning_rate=nan", "stage.second.learning_rate: expected a finite number, found nan"),
        ("stage.second.learning_rate=inf", "stage.second.learning_rate: expected a finite number, found inf"),
        (
            "stage.second.background=nan",
            "stage.second.background: expected a number of at least 0, found nan",
        ),
        ("stage.second.class_weights=8", "stage.second.class_weights: expected a list, found 8"),
        ("stage.second.class_weights=[1]", "stage.second.class_weights: expected 2 numbers, found [1]"),
        ("stage.second.class_weights=[1, 0]", "class_weights[1]: expected a number above 0, found 0"),
        (
            "stage.second.objective=tokens",
            "stage.second.objective: expected one of base, token, sequence, mlm, found 'tokens' "
            "(did you mean 'token'?)",
        ),
        ("stage.second.warmup=500", "stage.second.warmup: expected a number of at most 1, found 500"),
        ("stage.second.label_threshold=0", "label_threshold: expected a number above 0, found 0"),
        (
            "stage.second.margin=256",
            "stage.second.margin: expected less than half of the window of 512, found 256",
        ),
        ("stage.second.positives=0", "stage.second.positives: expected a number above 0"),
        ("stage.second.dropout=1.0", "stage.second.dropout: expected a number below 1, found 1.0"),
        ("stage.second.monitor=f1", "stage.second.monitor: expected one of average_precision"),
        (
            'stage.second.auxiliary=["labels"]',
            "stage.second.auxiliary: expected other targets than the stage's own",
        ),
        (
            'stage.second.auxiliary=["label"]',
            "stage.second.auxiliary[0]: expected one of labels, candidates, tracks, chromatin",
        ),
        (
            'data={held_out_models=[["a"]], validation_contigs=["b"]}',
            "data.held_out_models replaces validation_contigs, folds and sequences",
        ),
        (
            'data.held_out_models=[["a"], ["b"]]',
            "stage.second.evaluations: expected 0 with data.held_out_models",
        ),
        (
            'data.held_out_models=[["a"], ["b", "a"]]',
            "data.held_out_models: expected non-empty lists of contigs",
        ),
        ('data.held_out_models=[["a"], []]', "data.held_out_models: expected non-empty lists of contigs"),
        ('data.held_out_models=["a"]', "data.held_out_models[0]: expected a list, found 'a'"),
        ("data.validation_share=0.9", "data.validation_share and test_share leave no training data"),
        ("stage.second.name=first", "stage: expected a different name for each stage, found first, first"),
        ("stage.second.name=../up", "stage.../up.name: expected letters, digits"),
        ("model.checkpoint=dnabert2", "model: expected one of 'checkpoint' and 'family'"),
        ("sweep={ x = 3 }", "sweep.x: expected a list, found 3"),
        ("sweep={ x = [] }", "sweep.x: expected at least one value"),
        ('report_to=["tensorbord"]', "report_to[0]: expected one of tensorboard, wandb, found 'tensorbord'"),
    ],
)
def test_mistake_names_its_key(refused, setting, problem):
    assert problem in refused(PLAIN, setting)


def test_checkpoint_needs_its_own_tokenizer(refused):
    text = PLAIN.replace('family = "compact"', 'checkpoint = "dnabert2"')
    assert (
        refused(text) == "tokenizer.train: expected false; the weights of a checkpoint need its own tokenizer"
    )


def test_all_mistakes_are_reported_once(refused):
    text = (
        PLAIN.replace("window = 512", 'widow = 512\nwindow = "wide"').replace("plain", "p") + "[dta]\nx = 1\n"
    )
    problems = refused(text, "tokenizer.sample_bases=-5", "nothing").split("; ")
    assert sorted(problems) == [
        "--set 'nothing': expected section.key=value",
        "dta: unknown key (did you mean 'data'?)",
        "stage.first.widow: unknown key (did you mean 'window'?)",
        "stage.first.window: expected a whole number, found 'wide'",
        "tokenizer.sample_bases: expected a number above 0, found -5",
    ]


@pytest.mark.parametrize(
    "stage", ["", '[stage]\nname = "x"\n', "stage = [1]\n", "stage = 3\n", "stage = []\n"]
)
def test_recipe_without_stages(refused, stage):
    text = 'tokenizer = { train = true }\nmodel = { family = "compact" }\n' + stage
    assert refused(text) == "expected at least one [[stage]], in double brackets"
    assert "expected at least one [[stage]], in double brackets" in refused(text, "stage.steps=3")


def test_large_sweep_is_refused_at_once(refused):
    text = PLAIN + '[sweep]\n"stage.seed" = [{0}]\n"stage.batch_size" = [{0}]\n"stage.window" = [{0}]\n'
    problem = refused(text.format(", ".join(map(str, range(1, 44)))))
    assert problem == "sweep: expected at most 1,000 combinations of values, found 79,507"


def test_file_that_is_not_a_recipe(tmp_path, refused):
    with pytest.raises(RecipeError, match=r"none\.toml: cannot be read \(No such file or directory\)"):
        load_recipe(tmp_path / "none.toml")
    assert refused("name = ").startswith("not a TOML file (")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError, match="not a TOML file"):
        load_recipe(tmp_path / "binary.toml")
    os.mkfifo(tmp_path / "pipe.toml")
    for path in (tmp_path / "pipe.toml", tmp_path, "/dev/zero"):
        with pytest.raises(RecipeError, match="not a regular file"):
            load_recipe(path)
    (tmp_path / "large.toml").write_bytes(b"#" * 2_000_000)
    with pytest.raises(RecipeError, match="larger than"):
        load_recipe(tmp_path / "large.toml")


def test_byte_order_mark_is_skipped(read):
    assert read("\ufeff" + PLAIN.lstrip()).name == "plain"
