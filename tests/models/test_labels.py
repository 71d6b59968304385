"""Which output of a token head means Z-DNA: from the config, the same for every command."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import dna
from small_models import make_small_models
from transformers import PretrainedConfig

from zflipon.cli import cli
from zflipon.config import InferenceConfig
from zflipon.errors import ModelError
from zflipon.inference.predictor import Predictor
from zflipon.models import load, start
from zflipon.models.labels import (
    class_log_odds,
    find_z_output,
    find_z_output_in_file,
    to_binary_logits,
)

SEQUENCES = [dna(100, 1), dna(80, 2)]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Return the folder of a small DNABERT-2 in the published layout."""
    return make_small_models(tmp_path_factory.mktemp("published"))["dnabert2"]


@pytest.fixture
def token_head(published, tmp_path):
    """Return a function that writes a token classifier with given labels and returns its folder."""

    def write(id2label):
        torch.manual_seed(3)
        made = start(published, "token", num_labels=len(id2label))
        with torch.no_grad():
            made.module.classifier.weight.mul_(30)
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        config = json.loads((published / "config.json").read_text())
        config |= {"architectures": ["BertForTokenClassification"], "id2label": id2label}
        (folder / "config.json").write_text(json.dumps(config))
        torch.save(made.module.state_dict(), folder / "pytorch_model.bin")
        made.tokenizer.save(folder)
        return folder

    return write


@pytest.mark.parametrize(
    ("labels", "output"),
    [
        (["LABEL_0", "LABEL_1"], 1),
        (["LABEL_1", "LABEL_0"], 0),
        (["L0", "L1", "L2"], 1),
        (["B-DNA", "Z-DNA"], 1),
        (["Z-DNA", "B-DNA"], 0),
        (["Z-DNA", "A-DNA", "B-DNA"], 0),
        (["B-DNA", "quadruplex", "Z_DNA"], 2),
        (["negative", "positive"], 1),
        (["positive", "negative"], 0),
        (["background", "anything"], 1),
        (["no", "yes"], 1),
        (["L0"], 0),
        (["Z-DNA"], 0),
    ],
)
def test_the_z_dna_output_follows_from_the_labels(labels, output):
    id2label = dict(enumerate(labels))
    assert find_z_output(PretrainedConfig(id2label=id2label)) == output
    stored = {"id2label": {str(index): label for index, label in id2label.items()}}
    assert find_z_output_in_file(stored) == (output, len(labels))


@pytest.mark.parametrize(
    "labels",
    [["promoter", "enhancer"], ["Z-DNA", "Z-DNA"], ["A", "C", "G"], ["B-DNA"], ["class 1", "class 2"]],
)
def test_labels_without_one_z_dna_output_are_refused(labels):
    with pytest.raises(ModelError, match=r"^id2label"):
        find_z_output(PretrainedConfig(id2label=dict(enumerate(labels))))


def test_log_odds_are_those_of_sigmoid_and_softmax():
    one = torch.tensor([[0.3], [-2.0]])
    assert class_log_odds(one, 0).tolist() == one[:, 0].tolist()
    two = torch.tensor([[1.0, 3.0]])
    assert to_binary_logits(two, 1) is two
    assert class_log_odds(two, 0).item() == -2
    three = torch.tensor([-1.0, 0.0, 5.0])
    torch.testing.assert_close(torch.sigmoid(class_log_odds(three, 1)), three.softmax(0)[1])
    torch.testing.assert_close(torch.sigmoid(class_log_odds(three, 2)), three.softmax(0)[2])


@pytest.mark.parametrize(
    "labels", [["L0"], ["L0", "L1"], ["Z-DNA", "B-DNA"], ["L0", "L1", "L2"], ["B-DNA", "A-DNA", "Z-DNA"]]
)
def test_prediction_import_and_show_use_the_same_output(token_head, tmp_path, labels):
    folder = token_head({str(index): label for index, label in enumerate(labels)})
    output, count = find_z_output_in_file(json.loads((folder / "config.json").read_text()))
    loaded = load(folder)
    tokens = loaded.tokenizer.encode(SEQUENCES[:1])[0]
    with torch.no_grad():
        logits = loaded.module(input_ids=torch.from_numpy(tokens.ids)[None]).logits[0]
    each = logits[:, 0].sigmoid() if count == 1 else logits.softmax(-1)[:, output]
    expected = np.repeat(each.numpy(), tokens.lengths)
    predictor = Predictor(loaded, InferenceConfig(device="cpu", both_strands=False))
    np.testing.assert_allclose(predictor.predict_probabilities(SEQUENCES[:1])[0], expected, atol=1e-5)
    done = CliRunner().invoke(cli, ["models", "import", str(folder), "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    again = Predictor(load(tmp_path / "out"), InferenceConfig(device="cpu", both_strands=False))
    np.testing.assert_allclose(again.predict_probabilities(SEQUENCES[:1])[0], expected, atol=1e-5)
    for path in (folder, tmp_path / "out"):
        shown = json.loads(CliRunner().invoke(cli, ["models", "show", str(path), "--json"]).output)
        assert shown["z_dna_output"] == [output, count]


def test_unclear_labels_are_refused_by_every_command(token_head, tmp_path):
    folder = token_head({"0": "promoter", "1": "enhancer"})
    with pytest.raises(ModelError, match=r"config.json: id2label names the outputs promoter, enhancer"):
        load(folder)
    for words in (["show", str(folder)], ["import", str(folder), "-o", str(tmp_path / "out")]):
        done = CliRunner().invoke(cli, ["models", *words])
        assert "id2label" in str(done.exception)


def test_training_a_head_with_swapped_labels_is_refused(token_head):
    folder = token_head({"0": "Z-DNA", "1": "B-DNA"})
    with pytest.raises(ModelError, match="training uses output 1; swap the rows"):
        start(folder, "token")
