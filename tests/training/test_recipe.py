"""Recipes: those that are shipped, and every way to get one wrong."""

import math
from pathlib import Path

import pytest

from zflipon.config import DataConfig, Recipe, StageConfig
from zflipon.errors import RecipeError
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
    """Return a function that gives what is said of a wrong recipe, after the file's name, in parts."""

    def call(text, *settings):
        with pytest.raises(RecipeError) as caught:
            read(text, *settings)
        file, _, told = str(caught.value).partition(": ")
        assert file == str(tmp_path / "recipe.toml")
        assert "\n" not in told
        return told.split("; ")

    return call


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_are_good(path):
    tables = path.stem.startswith("core-promoter")
    data = ["data.sequences=train.csv"] if tables else ["data.genome=genome.fa", "data.labels=labels.bed"]
    recipe = load_recipe(path, data)
    assert recipe.name == path.stem
    assert recipe.description
    assert all(stage.steps > 0 or stage.readout > 0 for stage in recipe.stage)
    head, *_ = path.read_text().partition("\nname = ")
    assert head.startswith("#")
    assert f"zflipon train train/{path.name}" in head  # it says how it is run
    names = [name for name, _ in planned_runs(path, data)]
    assert len(set(names)) == len(names) == max(1, math.prod(map(len, recipe.sweep.values())))


PAPER = {  # Libina & Skvortsova 2025: window, label threshold, comparison, rate, decay, weights of the classes
    "dnabert2": [(128, 0.7, ">=", 5e-5, 0.01, (1, 8))],
    "gena-lm-3-stage": [
        (n, share, ">", 2e-5, 0.0, None) for n, share in ((510, 0.3), (110, 0.66), (70, 0.7))
    ],
}


@pytest.mark.parametrize("name", PAPER)
def test_the_paper_s_settings(name):
    recipe = load_recipe(Path(__file__).parents[2] / "train" / f"{name}.toml")
    found = [
        (s.window, s.label_threshold, s.label_comparison, s.learning_rate, s.weight_decay, s.class_weights)
        for s in recipe.stage
    ]
    assert found == PAPER[name]
    assert recipe.tokenizer.max_token_length == 5
    assert (recipe.data.split, recipe.data.validation_share, recipe.data.test_share) == (
        "stratified",
        0.24,
        0.2,
    )
    for stage in recipe.stage:
        assert (stage.epochs, stage.evaluations, stage.batch_size, stage.warmup) == (10, 10, 32, 0.1)
        assert (stage.positives, stage.hard_negatives, stage.background) == (1, 0, 3)
        assert (stage.schedule, stage.monitor, stage.sampling) == ("constant", "token_f1", "tiled")


@pytest.mark.parametrize("name", ["dnabert2-lora", "gena-lm-lora"])
def test_the_paper_s_adapters(name):
    lora = load_recipe(Path(__file__).parents[2] / "train" / f"{name}.toml").model.lora
    assert (lora.r, lora.alpha, lora.dropout, lora.bias) == (16, 32, 0.05, "none")


def test_there_are_shipped_recipes():
    assert "compact" in {path.stem for path in RECIPES}


def test_what_is_not_said_is_the_default(read):
    recipe = read(PLAIN)
    assert isinstance(recipe, Recipe)
    assert recipe.data == DataConfig()
    assert recipe.model.shape == {}
    assert recipe.stage[0] == StageConfig(
        name="first", window=512, margin=128, learning_rate=1.0, class_weights=(1.0, 8.0)
    )
    assert isinstance(recipe.stage[0].learning_rate, float)


def test_a_stage_inherits_from_the_one_before(read):
    recipe = read(PLAIN + '[[stage]]\nname = "third"\nlearning_rate = 0.5\n')
    assert [stage.window for stage in recipe.stage] == [512, 512, 512]
    assert [stage.margin for stage in recipe.stage] == [128, 64, 64]
    assert [stage.learning_rate for stage in recipe.stage] == [1.0, 1.0, 0.5]
    told = [
        (name, [f"{each.name} = {each.value}" for each in found if not each.inherited])
        for name, found in stage_settings(recipe)
    ]
    assert told == [
        ("first", ["window = 512", "margin = 128", "learning_rate = 1.0", "class_weights = (1.0, 8.0)"]),
        ("second", ["margin = 64"]),
        ("third", ["learning_rate = 0.5"]),
    ]


def test_a_stage_without_a_name_has_a_number(read):
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
def test_setting_is_toml_or_else_text(read, setting, value):
    assert read(PLAIN, setting).data.genome == value


def test_setting_of_every_kind(read):
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


def test_setting_of_one_stage_and_of_all(read):
    assert [stage.steps for stage in read(PLAIN, "stage.steps=3").stage] == [3, 3]
    assert [stage.margin for stage in read(PLAIN, "stage.margin=9").stage] == [9, 9]
    assert [stage.steps for stage in read(PLAIN, "stage.second.steps=3").stage] == [1000, 3]
    assert [stage.steps for stage in read(PLAIN, "stage.first.steps=3").stage] == [3, 3]  # inherited
    assert [stage.steps for stage in read(PLAIN, "stage.steps=3", "stage.steps=4").stage] == [4, 4]


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("data", "expected section.key=value"),
        ("=3", "expected section.key=value"),
        ("data..genome=3", "expected section.key=value"),
        ("tokenizer.train.deep=3", "'train' is no section"),
        ("stage.secnd.steps=3", "no stage of that name (did you mean 'second'?)"),
        ("stage=3", "expected stage.key or stage.NAME.key, then =value"),
        ("stage.first.a.b=3", "expected stage.key or stage.NAME.key, then =value"),
    ],
)
def test_setting_that_cannot_be(refused, setting, told):
    assert refused(PLAIN, setting) == [f"--set {setting!r}: {told}"]


# ---- mistakes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("tokenizer.vocabsize=3", "unknown key 'tokenizer.vocabsize' (did you mean 'vocab_size'?)"),
        ("zzz=3", "unknown key 'zzz'"),
        ("data.genome=3", "'data.genome': expected a text, found 3"),
        (
            "data.validation_contigs=chr1",
            "'data.validation_contigs': expected a list, each a text, found 'chr1'",
        ),
        ("data.validation_contigs=[1]", "'data.validation_contigs': expected a list, each a text, found [1]"),
        ("tokenizer.train=1", "'tokenizer.train': expected true or false, found 1"),
        ("tokenizer.vocab_size=true", "'tokenizer.vocab_size': expected a whole number, found True"),
        ("tokenizer.vocab_size=1.5", "'tokenizer.vocab_size': expected a whole number, found 1.5"),
        ("tokenizer.vocab_size=0", "'tokenizer.vocab_size': expected a number above 0, found 0"),
        ("model.shape=3", "'model.shape': expected a table, found 3"),
        ("model=3", "'model': expected a table, found 3"),
        ("stage.second.seed=-1", "'stage.second.seed': expected a number from 0, found -1"),
        ("stage.second.learning_rate=fast", "'stage.second.learning_rate': expected a number, found 'fast'"),
        (
            "stage.second.class_weights=8",
            "'stage.second.class_weights': expected a list, each a number, found 8",
        ),
        (
            "stage.second.class_weights=[1]",
            "stage.second.class_weights: expected two weights above 0, found [1.0]",
        ),
        (
            "stage.second.objective=tokens",
            "'stage.second.objective': expected one of base, token, sequence, mlm, found 'tokens'",
        ),
        (
            "stage.second.warmup=500",
            "stage.second.warmup: expected a share of the steps, from 0 to 1, found 500.0",
        ),
        (
            "stage.second.label_threshold=0",
            "stage.second.label_threshold: expected a share above 0 and up to 1, found 0.0",
        ),
        ("stage.second.margin=256", "stage.second: a margin of 256 leaves no core in a window of 512"),
        (
            "stage.second.positives=0",
            "stage.second.positives: nothing is learnt without positive windows",
        ),
        (
            "stage.second.dropout=1.0",
            "'stage.second.dropout': expected a share from 0 to less than 1, found 1.0",
        ),
        (
            'stage.second.auxiliary=["labels"]',
            "stage.second.auxiliary: expected others of labels, candidates, tracks, found 'labels'",
        ),
        (
            'data={held_out_models=[["a"]], validation_contigs=["b"]}',
            "[data] twins name the contigs that judge: leave validation_contigs",
        ),
        (
            'data.held_out_models=[["a"], ["b"]]',
            "stage.second.evaluations: data.held_out_models judge in the end alone",
        ),
        (
            'data.held_out_models=[["a"], ["b", "a"]]',
            "[data] twins: expected lists of contigs, each contig in one of them",
        ),
        (
            'data.held_out_models=[["a"], []]',
            "[data] twins: expected lists of contigs, each contig in one of them",
        ),
        (
            'data.held_out_models=["a"]',
            "'data.held_out_models': expected a list, each a list, each a text, found ['a']",
        ),
        ("stage.second.name=first", "every stage needs a name of its own, found first, first"),
        ("model.checkpoint=dnabert2", "[model] needs one of 'checkpoint' and 'family'"),
    ],
)
def test_mistake_names_its_key(refused, setting, told):
    assert any(told in each for each in refused(PLAIN, setting))


def test_checkpoint_keeps_its_tokenizer(refused):
    text = PLAIN.replace('family = "compact"', 'checkpoint = "dnabert2"')
    assert refused(text) == [
        "[tokenizer] train = true: a checkpoint's embeddings fit its own tokenizer alone"
    ]


def test_all_mistakes_are_told_at_once_and_each_once(refused):
    text = (
        PLAIN.replace("window = 512", 'widow = 512\nwindow = "wide"').replace("plain", "p") + "[dta]\nx = 1\n"
    )
    told = refused(text, "tokenizer.sample_bases=-5", "nothing")
    assert sorted(told) == sorted(
        [
            "--set 'nothing': expected section.key=value",
            "unknown key 'stage.first.widow' (did you mean 'window'?)",
            "'stage.first.window': expected a whole number, found 'wide'",
            "unknown key 'dta' (did you mean 'data'?)",
            "'tokenizer.sample': expected a number above 0, found -5",
        ]
    )


@pytest.mark.parametrize(
    "stage", ["", '[stage]\nname = "x"\n', "stage = [1]\n", "stage = 3\n", "stage = []\n"]
)
def test_recipe_without_stages(refused, stage):
    text = 'tokenizer = { train = true }\nmodel = { family = "compact" }\n' + stage
    assert refused(text) == ["expected at least one [[stage]], in double brackets"]
    assert "expected at least one [[stage]], in double brackets" in refused(text, "stage.steps=3")


def test_file_that_is_no_recipe(tmp_path, refused):
    with pytest.raises(RecipeError, match=r"none\.toml: cannot be read \(No such file or directory\)"):
        load_recipe(tmp_path / "none.toml")
    assert refused("name = ")[0].startswith("not a TOML file (")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError, match="not a TOML file"):
        load_recipe(tmp_path / "binary.toml")


def test_a_stage_name_is_fit_for_a_folder(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text('[model]\nfamily = "compact"\n[tokenizer]\ntrain = true\n[[stage]]\nname = "../up"\n')
    with pytest.raises(RecipeError, match=r"stage '\.\./up': a stage's name is a folder's too"):
        load_recipe(path)
