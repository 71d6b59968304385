"""Tables of the paper: rankings and settings are exact, and the protocols of training and interpretation run."""

from dataclasses import replace

import pytest
from click.testing import CliRunner

from zflipon.cli import cli
from zflipon.errors import ConfigError, InputError
from zflipon.explain.table_files import read_table
from zflipon.genome.fasta import Genome
from zflipon.genome.split_files import read_split
from zflipon.reproduction.catalogue import find_item, paper_items, pretrained_models
from zflipon.reproduction.comparison import Comparison, Reproduction
from zflipon.reproduction.reproduce import KINDS, note_missing_positives, reproduce
from zflipon.reproduction.runs import RunInputs, parse_weights


@pytest.mark.parametrize("item", [item for item in paper_items() if not item.needs], ids=lambda item: item.id)
def test_tables_that_need_nothing_are_equal(item, tmp_path):
    made = reproduce(item.id, RunInputs(tmp_path))
    assert made.comparisons
    assert {each.verdict for each in made.comparisons} == {"equal"}
    assert not any(tmp_path.iterdir())
    assert "small models" not in made.to_text()


def test_rankings_agree_with_every_token_of_the_published_files(tmp_path):
    notes = reproduce("5.7", RunInputs(tmp_path)).notes + reproduce("5.8", RunInputs(tmp_path)).notes
    found = [note.rpartition(" ")[2] for note in notes if "largest difference" in note]
    assert len(found) == 3
    assert all(float(each) < 1e-6 for each in found)


@pytest.mark.parametrize(
    ("paper", "measured", "verdict"),
    [
        (0.83, 0.8399, "equal"),
        (0.83, 0.84, "+0.0100"),
        (1239, 1239.77, "equal"),
        (2e-5, 2e-5, "equal"),
        (0.8908, 0.8903, "-0.0005"),
        (0.5, None, ""),
        (None, 0.5, ""),
    ],
)
def test_values_are_equal_within_the_last_printed_digit(paper, measured, verdict):
    assert Comparison("row", "F1", paper, measured).verdict == verdict


def test_the_notebook_has_other_adapters(tmp_path):
    made = reproduce("section-5.5", RunInputs(tmp_path, variant="notebook"))
    differing = {(each.row, each.name) for each in made.comparisons if each.verdict != "equal"}
    assert differing == {("GENA-LM", "alpha"), ("GENA-LM", "dropout")}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Return the inputs of short runs of small models; runs of the tests of this module are shared."""
    settings = ("stage.epochs=3", "stage.evaluations=1")
    return RunInputs(tmp_path_factory.mktemp("paper"), settings=settings)


def one_row(name, number):
    item = find_item(name)
    return replace(item, rows=(item.rows[number],))


def test_training_and_tables_of_tokens_run_with_small_models(inputs):
    item = one_row("5.3", 1)
    made = KINDS[item.kind](item, inputs)
    figures = {(each.row, each.name): each.measured for each in made.comparisons}
    assert figures["DNABERT-2", "F1"] > 0.2  # 2 % of the bases are labelled
    assert ("DNABERT-2, apart", "F1") in figures
    assert any("border a training window" in note for note in made.notes)

    item = one_row("5.4", 1)
    made = KINDS[item.kind](item, inputs)
    path = inputs.out / "small" / "tables" / "printed" / "5.4_DNABERT-2.csv"
    header = read_table(path).header
    assert header["part"] == "test"
    assert header["called"].endswith("by argmax")
    assert "the published file dnabert2_tp_ratio.csv is equal to the printed rows" in " ".join(made.notes)
    genome, _ = inputs.genome_files()
    with Genome(genome) as source:
        rows = read_split(inputs.out / "small" / "dnabert2" / "run", "test", source.lengths)
    windows = sum(map(len, rows.values()))
    positive, negative = (int(word) for word in header["windows"].split() if word.isdigit() and word != "128")
    assert positive + negative == windows

    item = one_row("5.5", 1)
    made = KINDS[item.kind](item, inputs)
    header = read_table(path.with_name("5.5_DNABERT-2.csv")).header
    assert (header["baseline"], header["scalar"], header["threshold"]) == ("pad", "probability", "argmax")


def test_core_promoters_run_on_synthetic_sequences(inputs):
    item = one_row("4.2", 1)
    made = KINDS[item.kind](item, replace(inputs, variant="notebook", settings=("stage.epochs=1",)))
    assert all(0 <= each.measured <= 1 for each in made.comparisons if each.name == "F1")
    assert (inputs.out / "small" / "core-promoter-dnabert2-notebook").is_dir()


def test_a_small_model_without_true_positives_is_noted(tmp_path):
    item = one_row("5.4", 1)
    made = Reproduction(item)
    with note_missing_positives(made, item.rows[0], RunInputs(tmp_path)):
        raise InputError("no true positives in 8 sequences")
    assert made.notes == ["DNABERT-2: no true positives in 8 sequences"]
    published = RunInputs(tmp_path, weights=parse_weights(("hub",)))
    with pytest.raises(InputError), note_missing_positives(made, item.rows[0], published):
        raise InputError("no true positives in 8 sequences")


def test_small_figures_are_marked_and_not_compared(tmp_path):
    item = find_item("5.3")
    inputs = RunInputs(tmp_path)
    assert inputs.trains_small(item.needs)
    notes = " ".join(inputs.notes(item.needs))
    assert "small models with random weights" in notes
    assert "synthetic DNA" in notes


def test_weights_are_parsed():
    ids = {model.key: model.checkpoint for model in pretrained_models()}
    assert parse_weights(("small",)) == {}
    assert parse_weights(("hub",)) == {name: name for name in ids.values()}
    assert parse_weights(("hub", "gena=here")) == {
        **{name: name for name in ids.values()},
        ids["gena"]: "here",
    }
    for wrong in (("genna=here",), ("gena",), ("small", "gena=here")):
        with pytest.raises(ConfigError, match="--weights"):
            parse_weights(wrong)


def test_published_weights_need_real_data(tmp_path):
    command = ["reproduce", "-o", str(tmp_path), "--weights", "hub"]
    for table, option in (("5.3", "--genome"), ("4.2", "--gue")):
        result = CliRunner().invoke(cli, [*command, table])
        assert isinstance(result.exception, ConfigError)
        assert option in str(result.exception)
    with pytest.raises(ConfigError, match="give --labels"):
        RunInputs(tmp_path, genome=tmp_path / "genome.fa")
