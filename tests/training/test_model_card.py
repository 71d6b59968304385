"""Tables, training curves and the model card."""

import json
import math
import re
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest

from zflipon.config import StageConfig
from zflipon.errors import OutputError
from zflipon.models import Calibration, ModelMetadata
from zflipon.training import curves  # modules, since pytest would collect test_table
from zflipon.training import model_card as card
from zflipon.training import result_tables as tables

SAMPLED = {"windows": 800, "f1": 0.8908, "mcc": 0.8878, "precision": 0.8399, "recall": 0.95}
TOKENS = {"token_f1": 0.81, "token_mcc": 0.8}
GENOME = {
    "average_precision": 0.45,
    "f1": 0.42,
    "mcc": 0.43,
    "precision": 0.3,
    "recall": 0.7,
    "threshold": 0.39,
}
SEQUENCES = {"mcc": 0.7, "f1": 0.8, "accuracy": 0.85, "precision": 0.75, "recall": 0.9}
QUALITY = {
    "contigs": ["chr14", "chr21"],
    "protocol": "genome",
    "average_precision": 0.6885,
    "f1": 0.7169,
    "precision": 0.6364,
    "recall": 0.8206,
    "mcc": 0.722,
    "by_threshold": {"0.3": [0.606, 0.869], "0.8": [None, 0.04]},
    "note": "the threshold was chosen on these contigs",
    "validation": {
        "on": "chr14, chr21",
        "step": 400,
        "base_f1": 0.8482,
        "base_mcc": 0.8454,
        "base_precision": 0.7751,
        **TOKENS,
    },
    "test": {"on": "chr22", "sampled": SAMPLED, "genome": GENOME},
}


def read_tables(text):
    """Return the Markdown tables in a text, each as a list of rows (heading → cell)."""
    read = []
    for block in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        lines = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in block.splitlines()]
        read.append([dict(zip(lines[0], line, strict=True)) for line in lines[2:]])
    return read


def test_test_table_starts_with_the_columns_of_the_paper():
    sampled, genome = read_tables(tables.test_table({"DNABERT-2": QUALITY}))
    assert list(sampled[0]) == ["", "F1", "MCC", "Precision", "Recall"]
    assert list(sampled[0].values()) == ["DNABERT-2", "0.8908", "0.8878", "0.8399", "0.9500"]
    assert list(genome[0]) == ["", "AP", "F1", "MCC", "Precision", "Recall", "at"]
    assert list(genome[0].values()) == [
        "DNABERT-2",
        "0.4500",
        "0.4200",
        "0.4300",
        "0.3000",
        "0.7000",
        "0.390",
    ]


def test_missing_figure_is_blank():
    token = {"test": {"sampled": {**SAMPLED, **TOKENS, "precision": None, "recall": math.nan}}}
    sampled, genome = read_tables(tables.test_table({"with": QUALITY, "with|out": token}))
    assert [row["token F1"] for row in sampled] == ["", "0.8100"]
    assert [row["token MCC"] for row in sampled] == ["", "0.8000"]
    assert sampled[1]["Precision"] == sampled[1]["Recall"] == ""
    assert list(genome[1].values()) == [r"with\|out", "", "", "", "", "", ""]
    assert tables.test_table({"nothing": {}}) == tables.test_table({}) == tables.folds_table([]) == ""


def test_title_names_the_data_and_the_threshold():
    other = {"test": {"on": "chrX", "sampled": {**SAMPLED, "threshold": 0.25}}}
    text = tables.test_table({"one": QUALITY, "other": other})
    above = [line for line in text.splitlines() if line.endswith(":")]
    assert "(chr22; chrX)" in above[0]
    assert above[0].endswith("called at the probability 'at', or 0.5 where it is missing:")
    assert "(chr22)" in above[1]
    assert "called at a probability of 0.5:" in tables.test_table({"one": QUALITY})


def test_estimated_figures_are_marked():
    estimated = {**QUALITY, "test": {"sampled": SAMPLED, "genome": {**GENOME, "estimated": True}}}
    text = tables.test_table({"one": estimated, "other": QUALITY})
    assert [row[""] for row in read_tables(text)[1]] == ["one †", "other"]
    assert text.splitlines()[-1].startswith("† estimated from a weighted sample")
    assert "†" not in tables.test_table({"other": QUALITY})
    assert "genome AP †" in tables.sweep_table([({"a.b": 1}, estimated), ({"a.b": 2}, estimated)])


def test_sequences_and_masked_tokens_have_separate_tables():
    results = {
        "bases": QUALITY,
        "promoters": {"test": {"sampled": SEQUENCES}},
        "language": {"test": {"sampled": {"masked_accuracy": 0.4}}},
    }
    sampled, genome, sequences, masked = read_tables(tables.test_table(results))
    assert [len(table) for table in (sampled, genome, sequences, masked)] == [1, 1, 1, 1]
    assert list(sequences[0]) == ["", "MCC", "F1", "Accuracy", "Precision", "Recall"]
    assert list(sequences[0].values())[:4] == ["promoters", "0.7000", "0.8000", "0.8500"]
    assert masked == [{"": "language", "Accuracy": "0.4000"}]


def sweep(f1, **test):
    return {"validation": {"base_f1": f1, "base_mcc": 0.5, "base_precision": 0.25}, **test}


def test_best_f1_of_a_sweep_is_bold():
    key = ("tokenizer.max_token_length", "stage.label_threshold")
    runs = [((5, 0.66), 0.855), ((5, 0.7), 0.8614), ((6, 0.7), 0.815)]
    (rows,) = read_tables(
        tables.sweep_table([(dict(zip(key, values, strict=True)), sweep(f1)) for values, f1 in runs])
    )
    assert rows == [
        {
            "max_token_length": "5",
            "label_threshold": "0.66",
            "F1": "0.8550",
            "MCC": "0.5000",
            "Precision": "0.2500",
        },
        {
            "max_token_length": "5",
            "label_threshold": "0.7",
            "F1": "**0.8614**",
            "MCC": "0.5000",
            "Precision": "0.2500",
        },
        {
            "max_token_length": "6",
            "label_threshold": "0.7",
            "F1": "0.8150",
            "MCC": "0.5000",
            "Precision": "0.2500",
        },
    ]


def test_sweep_shows_test_figures_and_all_equal_best_runs_in_bold():
    tested = {"test": {"sampled": SAMPLED, "genome": GENOME}}
    runs = [({"stage.window": 70}, sweep(0.8, **tested)), ({"stage.window": 110}, sweep(0.80004))]
    runs.append(({"stage.window": 510}, {}))
    (rows,) = read_tables(tables.sweep_table(runs))
    assert [row["F1"] for row in rows] == ["**0.8000**", "**0.8000**", ""]
    assert [row["test F1"] for row in rows] == ["0.8908", "", ""]
    assert [row["genome AP"] for row in rows] == ["0.4500", "", ""]


def test_ambiguous_keys_are_shown_in_full():
    settings = {
        "stage.a.window": 70,
        "stage.b.window": 510,
        "stage.seed": 1,
        "stage.class_weights": (1.0, 2.5),
    }
    (rows,) = read_tables(tables.sweep_table([(settings, sweep(0.8))]))
    assert list(rows[0].items())[:4] == [
        ("stage.a.window", "70"),
        ("stage.b.window", "510"),
        ("seed", "1"),
        ("class_weights", "[1, 2.5]"),
    ]


def test_sweep_of_sequences_and_sweep_without_evaluations():
    (rows,) = read_tables(tables.sweep_table([({"stage.seed": 1}, {"validation": SEQUENCES})]))
    assert rows == [{"seed": "1", "F1": "**0.8000**", "MCC": "0.7000", "Accuracy": "0.8500"}]
    without = {name: value for name, value in QUALITY.items() if name not in ("validation", "test")}
    text = tables.sweep_table([({"stage.seed": 1}, without)])
    assert "best threshold" in text
    assert read_tables(text) == [[{"seed": "1", "F1": "**0.7169**", "MCC": "0.7220", "Precision": "0.6364"}]]
    assert read_tables(tables.sweep_table([({"stage.seed": 1}, {})])) == [[{"seed": "1"}]]


def test_folds_of_one_combination_share_a_row():
    runs = [({"stage.seed": seed}, sweep(f1)) for seed, f1 in ((1, 0.7), (1, 0.8), (2, 0.76), (2, 0.76))]
    (rows,) = read_tables(tables.sweep_table(runs))
    assert [row["F1"] for row in rows] == ["0.7500 ± 0.0707", "**0.7600 ± 0.0000**"]


def test_folds_table_ends_with_mean_and_sample_deviation():
    runs = [
        {"test": {"on": f"fold {n} of 3", "sampled": {"f1": f1}}} for n, f1 in enumerate((0.7, 0.8, 0.9), 1)
    ]
    (rows,) = read_tables(tables.folds_table(runs))
    assert [row[""] for row in rows] == ["fold 1", "fold 2", "fold 3", "mean ± sd"]
    # deviations -0.1, 0, 0.1: sqrt(0.02 / (3 - 1)) = 0.1
    assert [row["F1"] for row in rows] == ["0.7000", "0.8000", "0.9000", "0.8000 ± 0.1000"]


def test_fold_names_its_contigs_and_a_single_fold_has_no_deviation():
    sampled, genome = read_tables(tables.folds_table([QUALITY]))
    assert [row[""] for row in sampled] == ["fold 1 (chr22)", "mean ± sd"]
    assert [row["F1"] for row in sampled] == ["0.8908", "0.8908"]
    assert list(genome[0])[1:] == ["AP", "F1", "MCC", "Precision", "Recall", "at"]


def write_stage(folder, losses=(), evaluations=()):
    folder.mkdir(parents=True)
    rows = [{"step": 50 * n, "loss": loss, "learning_rate": None} for n, loss in enumerate(losses, 1)]
    (folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = [{"step": 100 * n, **measures} for n, measures in enumerate(evaluations, 1)]
    (folder / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def pixels(png):
    from matplotlib.image import imread

    return imread(png)[..., :3]


def test_draws_curves(tmp_path):
    measures = [{"token_f1": 0.5, "base_f1": 0.6}, {"token_f1": 0.7, "base_f1": 0.65}]
    first = write_stage(tmp_path / "1-language", [3, 2, 1, 0.1], [{"masked_accuracy": 0.3}])
    second = write_stage(tmp_path / "2-width-510", [0.3, 0.2, 0.1, 0.05], measures)
    assert curves.plot_curves([first, second], tmp_path / "curves.png") is True
    image = pixels(tmp_path / "curves.png")
    assert min(image.shape[:2]) > 1000
    assert 0.01 < (image.min(axis=2) < 0.9).mean() < 0.5
    blue = np.array([0, 0x72, 0xB2]) / 255  # F1
    assert (np.abs(image - blue).max(axis=2) < 0.02).sum() > 100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1-language", "2-width-510", "curves.png"]


def test_stages_share_an_axis_and_the_caller_can_choose_the_measure(tmp_path):
    measures = [{"average_precision": 0.5, "base_f1": 0.8}, {"average_precision": 0.6, "base_f1": 0.7}]
    folders = [
        write_stage(tmp_path / f"{n}-{name}", [1, 2, 3, 4], measures) for n, name in ((1, "a"), (2, "b-2"))
    ]
    first, second = curves.read_curves(folders, ["base_f1"])
    assert (first.name, first.start, first.end) == ("a", 0, 200)
    assert (second.name, second.start, second.end) == ("b-2", 200, 400)
    assert (first.measure, second.measure) == ("base_f1", "average_precision")
    assert second.points(second.validation, "base_f1") == ([300, 400], [0.8, 0.7])


@pytest.mark.parametrize(
    ("losses", "evaluations"),
    [([1.0], []), ([], [{"mcc": 0.1, "accuracy": 0.6}]), ([0.0, 5.0], [{"base_f1": None}, {"base_f1": 0.5}])],
)
def test_draws_stages_with_missing_rows(tmp_path, losses, evaluations):
    folders = [tmp_path / "1-absent", write_stage(tmp_path / "2-here", losses, evaluations)]
    assert curves.plot_curves(folders, tmp_path / "curves.png")
    assert pixels(tmp_path / "curves.png").std() > 0.01


def test_incomplete_line_is_ignored(tmp_path):
    folder = write_stage(tmp_path / "1-a", [2.0, 1.0])
    with open(folder / "history.jsonl", "a") as lines:
        lines.write('{"step": 150, "lo')
    (curve,) = curves.read_curves([folder], ())
    assert curve.end == 100


def test_no_figure_without_rows_or_matplotlib(tmp_path, monkeypatch):
    assert curves.plot_curves([write_stage(tmp_path / "1-empty")], tmp_path / "curves.png") is False
    folder = write_stage(tmp_path / "2-full", [1.0, 0.5])
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert curves.plot_curves([folder], tmp_path / "curves.png") is False
    assert not (tmp_path / "curves.png").exists()


def token_metadata(**changes):
    first = StageConfig(
        name="wide", objective="token", window=510, margin=0, epochs=10.0, class_weights=(1.0, 2.0)
    )
    stages = [first, replace(first, name="narrow", window=110, label_threshold=0.66, class_weights=None)]
    training = {
        "recipe": "gena",
        "description": "GENA-LM in two stages.",
        "contigs": ["chr1", "chr2"],
        "validation_contigs": ["chr14", "chr21"],
        "test_contigs": ["chr22"],
        "split": "contigs",
        "bases": 32100813,
        "labels": 1068,
        "stages": [asdict(stage) for stage in stages],
    }
    metadata = ModelMetadata(
        "gena",
        "token",
        110,
        10,
        5,
        0.66,
        ">",
        0.39,
        Calibration(0.55, -0.136),
        training,
        QUALITY,
        {"torch": "2.9"},
    )
    return replace(metadata, **changes)


def write(folder, metadata, curves=False):
    card.write_card(folder, "gena-z", metadata, 110_000_123, curves)
    return (folder / "README.md").read_text(encoding="utf-8")


def test_card_contains_the_metadata(tmp_path):
    text = write(tmp_path, token_metadata(), curves=True)
    front = text.split("---\n")[1]
    assert front.splitlines()[:2] == ["library_name: zflipon", "tags:"]
    assert "license" not in front
    for expected in (
        "# gena-z\n",
        "GENA-LM in two stages.",
        "110,000,123",
        "110 bases, of which the middle 90 are predicted (margin 10)",
        "at most 5 bases",
        "Z-DNA if more than 0.66 of its bases are labelled",
        "log-odds × 0.55 − 0.136\n",
        "zflipon annotate GENOME.fa -o zdna.bw --model FOLDER",
        "chr1, chr2; 32,100,813 bases, 1,068 labelled regions",
        "validated on: chr14, chr21",
        "tested on: chr22",
        "![Training loss and validation measures against steps](training.png)",
        "Figures on sampled windows are too optimistic",
        "Note: the threshold was chosen on these contigs.",
        "default 0.39",
        "- torch 2.9",
    ):
        assert expected in text
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def test_stages_list_changes_and_only_used_settings(tmp_path):
    first, second = re.findall(r"^\d\. (.*)$", write(tmp_path, token_metadata()), re.MULTILINE)
    assert second == (
        "**narrow**: `window` 110 (was 510), `label_threshold` 0.66 (was 0.7), `class_weights` unset (was [1, 2])"
    )
    assert "`epochs` 10" in first
    assert "`steps`" not in first  # unused with epochs
    assert "`mlm_probability`" not in first
    assert "`dropout`" not in first


def test_card_has_the_figures_of_the_metadata(tmp_path):
    sampled, genome, validation, every_base, thresholds = read_tables(write(tmp_path, token_metadata()))
    assert (sampled[0]["F1"], genome[0]["AP"]) == ("0.8908", "0.4500")
    assert validation[0] == {
        "": "gena-z",
        "F1": "0.8482",
        "MCC": "0.8454",
        "Precision": "0.7751",
        "token F1": "0.8100",
        "token MCC": "0.8000",
    }
    assert (every_base[0]["AP"], every_base[0]["F1"]) == ("0.6885", "0.7169")
    assert thresholds == [
        {"threshold": "0.3", "Precision": "0.606", "Recall": "0.869"},
        {"threshold": "0.8", "Precision": "", "Recall": "0.040"},
    ]


def test_figures_of_windows_are_marked_as_estimated(tmp_path):
    quality = {**QUALITY, "contigs": "24 % of the windows, at random"}
    text = write(tmp_path, token_metadata(quality=quality))
    assert "(24 % of the windows, at random)" in text
    assert "gena-z †" in text
    assert "† estimated from" in text


@pytest.mark.parametrize("objective", ["token", "base", "sequence", "mlm", None])
@pytest.mark.parametrize("full", [True, False])
def test_missing_metadata_are_omitted(tmp_path, objective, full):
    metadata = ModelMetadata("gena", objective, 512, 64)
    if full:
        metadata = token_metadata(objective=objective, max_token_length=None)
    text = write(tmp_path, metadata)
    assert "None" not in text
    assert "none" not in text
    assert "nan" not in re.findall(r"\w+", text)
    assert "training.png" not in text
    assert ("zflipon annotate GENOME.fa" in text) == (objective in ("token", "base"))
    if not full:
        headings = re.findall("^## (.*)$", text, re.MULTILINE)
        assert headings == ["What it is", "How to use it", "Limits"]


def test_card_of_a_sequence_model(tmp_path):
    training = {"recipe": "promoters", "sequences": ["train.csv", "test.csv"], "labels": 1200}
    quality = {"validation": {"on": "dev.csv", **SEQUENCES}, "test": {"on": "test.csv", "sampled": SEQUENCES}}
    text = write(tmp_path, ModelMetadata("dnabert2", "sequence", 70, 0, training=training, quality=quality))
    assert "trained on: train.csv, test.csv; 1,200 training sequences with label 1" in text
    tested, validated = read_tables(text)
    assert tested == validated
    assert "too optimistic" not in text


def test_code_in_the_card_of_a_sequence_model_runs(tmp_path, tokenizer, capsys):
    import torch

    from zflipon.models import create, save

    torch.manual_seed(1)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    made = create("compact", "sequence", tokenizer, **shape)
    save(made, tmp_path)
    (code,) = re.findall("```python\n(.*?)```", write(tmp_path, made.metadata), re.DOTALL)
    exec(code.replace("FOLDER", str(tmp_path)), {})
    probabilities = [float(line.split()[1]) for line in capsys.readouterr().out.splitlines()]
    assert len(probabilities) == 2
    assert all(0 < probability < 1 for probability in probabilities)


def test_unwritable_card_raises_output_error(tmp_path):
    with pytest.raises(OutputError, match="cannot be written"):
        card.write_card(tmp_path / "absent", "x", ModelMetadata("gena", "token", 512, 64), 1, False)
