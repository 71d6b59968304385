"""The registry of model families: entry points, duplicates, and a family from outside the package."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import dna
from torch import nn
from transformers import AutoConfig, AutoModel, PretrainedConfig

from zflipon.config import InferenceConfig
from zflipon.errors import ModelError
from zflipon.inference.predictor import Predictor
from zflipon.models import (
    ModelFamily,
    create,
    family_names,
    family_summaries,
    get_family,
    load,
    registry,
    save,
)
from zflipon.models.base import DnaModel
from zflipon.tokenization.tokenizers import BpeTokenizer


class ToyConfig(PretrainedConfig):
    model_type = "toy"

    def __init__(self, vocab_size=64, hidden_size=8, pad_token_id=0, **others):
        super().__init__(pad_token_id=pad_token_id, **others)
        self.vocab_size, self.hidden_size = vocab_size, hidden_size


class ToyEncoder(nn.Module):
    """Only an embedding table."""

    def __init__(self, config):
        super().__init__()
        self.table = nn.Embedding(config.vocab_size, config.hidden_size)

    def get_input_embeddings(self):
        return self.table

    def forward(self, input_ids=None, attention_mask=None, inputs_embeds=None):
        return self.table(input_ids) if inputs_embeds is None else inputs_embeds


class ToyModel(DnaModel):
    config_class = ToyConfig
    base_model_prefix = "encoder"
    encoder_class = ToyEncoder


TOY = ModelFamily(
    model=ToyModel,
    config=ToyConfig,
    tokenizer=BpeTokenizer,
    recognizes=lambda config: config.get("model_type") == "toy",
    tokenizer_file="tokenizer.json",
    default_metadata={"window": 128, "margin": 16},
)

TOY_LOCATION = f"{__name__}:TOY"


@pytest.fixture
def announce(monkeypatch):
    """Return a function that makes entry points appear as if a package were installed."""

    def set_entry_points(*entries):
        points = [SimpleNamespace(name=name, value=value) for name, value in entries]
        monkeypatch.setattr(registry, "entry_points", lambda group: points)
        registry._locations.cache_clear()

    yield set_entry_points
    monkeypatch.undo()
    registry._locations.cache_clear()


@pytest.mark.parametrize("objective", ["base", "token"])
def test_a_family_from_another_package_is_created_saved_loaded_and_run(
    announce, objective, tokenizer, tmp_path
):
    announce(("toy", TOY_LOCATION))
    assert "toy" in family_names()
    assert family_summaries()["toy"].startswith("The registry of model families")
    torch.manual_seed(0)
    checkpoint = create("toy", objective, tokenizer, hidden_size=8)
    assert isinstance(checkpoint.module, ToyModel)
    save(checkpoint, tmp_path / "toy")
    again = load(tmp_path / "toy")
    assert (again.metadata.family, again.metadata.window) == ("toy", 128)
    config, sequences = InferenceConfig(device="cpu"), [dna(128, 1), dna(90, 2)]
    expected = Predictor(checkpoint, config).predict_probabilities(sequences)
    for one, other, sequence in zip(
        Predictor(again, config).predict_probabilities(sequences), expected, sequences, strict=True
    ):
        assert one.shape == (len(sequence),)
        np.testing.assert_array_equal(one, other)


def test_a_family_is_recognized_by_its_config_without_metadata(announce):
    announce(("toy", TOY_LOCATION))
    assert registry.recognize_family({"model_type": "toy"}, "config.json") == "toy"


def test_a_registered_family_opens_through_the_auto_classes_of_transformers(tokenizer, tmp_path):
    registry.register_family("toy", TOY)
    try:
        checkpoint = create("toy", "token", tokenizer)
        checkpoint.module.save_pretrained(tmp_path)
        assert isinstance(AutoConfig.from_pretrained(tmp_path), ToyConfig)
        assert isinstance(AutoModel.from_pretrained(tmp_path), ToyModel)
        with pytest.raises(ModelError, match="model family 'toy' is registered already"):
            registry.register_family("toy", TOY)
    finally:
        registry.unregister_family("toy")
    assert "toy" not in family_names()
    with pytest.raises(ModelError, match="unknown model family 'toy'"):
        get_family("toy")


def test_two_packages_with_one_family_name_are_an_error(announce):
    announce(("toy", "one:FAMILY"), ("toy", "other:FAMILY"))
    with pytest.raises(ModelError, match=r"two packages provide .* 'toy': one:FAMILY and other:FAMILY"):
        family_names()


def test_a_built_in_family_cannot_be_replaced(announce):
    announce(("compact", "elsewhere:FAMILY"))
    with pytest.raises(ModelError, match="two packages provide the model family 'compact'"):
        get_family("compact")


def test_the_entry_points_of_this_package_are_no_duplicates(announce):
    announce(*registry.BUILT_IN.items())
    assert family_names() == tuple(registry.BUILT_IN)


@pytest.mark.parametrize("location", ["no_such_module:FAMILY", "zflipon.errors:FAMILY"])
def test_an_entry_point_that_cannot_be_loaded_is_named(announce, location):
    announce(("broken", location))
    with pytest.raises(ModelError, match=f"'broken' cannot be loaded from its entry point {location}"):
        get_family("broken")


def test_an_entry_point_must_be_a_family(announce):
    announce(("wrong", "zflipon.models.families.compact:CompactModel"))
    with pytest.raises(ModelError, match="'wrong' is not a ModelFamily"):
        get_family("wrong")


def test_the_entry_points_of_the_project_are_the_built_in_families():
    tomllib = pytest.importorskip("tomllib")
    path = registry.Path(__file__).parents[2] / "pyproject.toml"
    groups = tomllib.loads(path.read_text(encoding="utf-8"))["project"]["entry-points"]
    assert groups[registry.ENTRY_POINT_GROUP] == registry.BUILT_IN
