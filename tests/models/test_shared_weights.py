"""Checkpoints that leave tensors to a bundled model."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from zflipon.errors import ModelError
from zflipon.models import load
from zflipon.models.files import BUNDLED, SHARED_WEIGHTS, WEIGHTS_SHA256, locate
from zflipon.models.shared_weights import share_weights

CHANGED = "base_head.is_formed.bias"


@pytest.fixture
def changed(tmp_path):
    """A copy of the bundled model compact in which one tensor differs."""
    folder = tmp_path / "changed"
    shutil.copytree(BUNDLED / "compact", folder)
    tensors = load_file(folder / "model.safetensors")
    tensors[CHANGED] = tensors[CHANGED] + 1
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    del config[WEIGHTS_SHA256]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_only_tensors_that_differ_are_kept(changed):
    whole = {name: each.clone() for name, each in load(changed).module.state_dict().items()}
    size = locate(changed).size
    removed = share_weights(changed, "compact")
    assert list(load_file(changed / "model.safetensors")) == [CHANGED]
    assert removed == len(whole) - 1
    loaded = load(changed)
    assert all(torch.equal(each, whole[name]) for name, each in loaded.module.state_dict().items())
    assert loaded.required_files.parameter_count() == locate("compact").parameter_count()
    assert loaded.sha256 != load("compact").sha256
    assert locate(changed).size == pytest.approx(size, rel=0.01)  # the tensors of both files


def test_another_version_of_the_bundled_model_is_refused(changed):
    share_weights(changed, "compact")
    config = json.loads((changed / "config.json").read_text())
    config[SHARED_WEIGHTS]["sha256"] = "0" * 64
    (changed / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        ModelError, match=r"another version of the bundled model compact .* install the version"
    ):
        load(changed)


def test_only_bundled_models_can_be_named(changed):
    share_weights(changed, "compact")
    config = json.loads((changed / "config.json").read_text())
    config[SHARED_WEIGHTS]["model"] = "../compact"
    (changed / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"names the model '\.\./compact'; expected a bundled one"):
        load(changed)


def test_nothing_to_share(changed):
    with pytest.raises(ModelError, match="no tensor equals one of zhunt"):
        share_weights(changed, "zhunt")
