"""Files of weights: wrapper prefixes, unusable tensors, damaged headers, checksums and parameter counts."""

import json
import shutil
import struct

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from small_models import make_small_models

from zflipon.cli import cli
from zflipon.cli.models import describe
from zflipon.errors import ModelError
from zflipon.models import load, save, start
from zflipon.models.files import bundled
from zflipon.models.weight_files import read_json, read_tensor_sizes, read_tensors
from zflipon.models.weights import count_parameters


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Return the folder of a small DNABERT-2 in the published layout."""
    return make_small_models(tmp_path_factory.mktemp("published"))["dnabert2"]


@pytest.fixture
def state_dict(published, tmp_path):
    """Return the state dict of a token classifier, and a folder with its config and tokenizer."""
    torch.manual_seed(3)
    made = start(published, "token")
    folder = tmp_path / "model"
    folder.mkdir()
    config = json.loads((published / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config))
    made.tokenizer.save(folder)
    return made.module.state_dict(), folder


@pytest.fixture
def saved(published, tmp_path):
    """Return the folder of a checkpoint that zflipon has saved."""
    torch.manual_seed(3)
    save(start(published, "token"), tmp_path / "saved")
    return tmp_path / "saved"


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "base_model.model.", "model.module."])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "last.ckpt", "model.safetensors"])
def test_prefixes_of_wrappers_are_removed(state_dict, prefix, name):
    tensors, folder = state_dict
    named = {prefix + key: each.contiguous() for key, each in tensors.items()}
    if name.endswith(".ckpt"):
        torch.save({"state_dict": named, "epoch": 1, "pytorch-lightning_version": "2.0"}, folder / name)
    elif name.endswith(".bin"):
        torch.save(named, folder / name)
    else:
        save_file(named, folder / name)
    loaded = load(folder)
    assert loaded.metadata.objective == "token"
    assert all(each.equal(tensors[key]) for key, each in loaded.module.state_dict().items())
    assert describe(folder)["parameters"] == count_parameters(loaded.module)


def test_weights_without_a_known_head_are_named(state_dict):
    tensors, folder = state_dict
    named = {key.replace("classifier", "score"): each for key, each in tensors.items()}
    torch.save(named, folder / "pytorch_model.bin")
    with pytest.raises(
        ModelError, match=r"no token or base head: none of its \d+ tensors \(bert\..*\) belongs to one"
    ):
        load(folder)


@pytest.mark.parametrize(
    ("tensor", "problem"),
    [
        (torch.eye(3).to_sparse(), "is sparse"),
        (torch.empty(2, device="meta"), "on the meta device"),
        (torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "is quantized"),
        (torch.ones(2, dtype=torch.complex64), "has complex numbers"),
    ],
)
def test_tensors_without_plain_numbers_are_refused(tmp_path, tensor, problem):
    torch.save({"weight": tensor}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match=rf"(tensor weight .*{problem}|holds more than tensors)"):
        read_tensors([tmp_path / "pytorch_model.bin"])


def test_integers_in_place_of_floats_are_refused(state_dict):
    tensors, folder = state_dict
    name = "bert.encoder.layer.0.attention.self.Wqkv.weight"
    torch.save(
        {**tensors, name: torch.ones_like(tensors[name], dtype=torch.int8)}, folder / "pytorch_model.bin"
    )
    with pytest.raises(ModelError, match=rf"{name} is 144 x 48 of int8"):
        load(folder)


@pytest.mark.parametrize("header", [b"[]", b"3", b"{" * 100_000, b'{"a": 3}', b'{"a": {"dtype": "F32"}}'])
def test_damaged_headers_are_refused(tmp_path, header):
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    for read in (read_tensors, read_tensor_sizes):
        with pytest.raises(ModelError, match="not a safetensors file, or cut short") as caught:
            read([path])
        assert "\n" not in str(caught.value)


def test_deeply_nested_json_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"a":' * 100_000)
    with pytest.raises(ModelError, match=r"config.json: (nested too deeply|not JSON)"):
        read_json(tmp_path / "config.json")


def test_shards_outside_the_folder_are_refused(state_dict):
    _, folder = state_dict
    index = {"weight_map": {"a": "../secret.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"shards must be in the same folder, not \.\./secret"):
        load(folder)


def test_one_flipped_bit_is_refused_by_every_command(saved, tmp_path):
    path = saved / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        ModelError, match=r"the weights are damaged or were replaced: their SHA-256 is .* records"
    ):
        load(saved)
    with pytest.raises(ModelError, match="damaged or were replaced"):
        start(saved, "token")
    for words in (
        ["show", saved],
        ["convert", saved, "-o", tmp_path / "out"],
        ["import", saved, "-o", tmp_path / "out"],
    ):
        done = CliRunner().invoke(cli, ["models", *map(str, words)])
        assert done.exit_code == 1
        assert "damaged or were replaced" in str(done.exception)
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", bundled())
def test_show_counts_the_parameters_of_the_network(name):
    assert describe(name)["parameters"] == count_parameters(load(name).module)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("num_hidden_layers", 100_000, "num_hidden_layers must be an integer from 0 to 1,000, not 100000"),
        ("num_hidden_layers", "2", "num_hidden_layers must be an integer from 0 to 1,000, not '2'"),
        ("hidden_size", 48.5, "hidden_size must be an integer"),
        ("hidden_size", [48], "hidden_size must be an integer"),
        ("vocab_size", -1, "vocab_size must be an integer"),
        ("layer_norm_eps", float("nan"), "layer_norm_eps must be a finite number, not nan"),
        ("layer_norm_eps", "tiny", "config.json"),
        ("hidden_dropout_prob", "a", "config.json"),
        ("id2label", 3, "config.json"),
        ("num_attention_heads", 5, "config.json"),
    ],
)
def test_impossible_values_in_a_config_are_refused(state_dict, key, value, message):
    tensors, folder = state_dict
    torch.save(tensors, folder / "pytorch_model.bin")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(ModelError, match=message) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "extra",
    [
        {"sparse_config_cls": "deepspeed.ops.sparse_attention:BigBirdSparsityConfig"},
        {"sparse_attention": {"block": 64}},
        {"rotary_dim": 64, "position_embedding_type": "rotary"},
        {"position_embedding_type": "relative_key"},
    ],
)
def test_sparse_and_rotary_models_of_gena_are_refused(tmp_path_factory, extra):
    folder = make_small_models(tmp_path_factory.mktemp("published"))["gena"]
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **extra}))
    with pytest.raises(ModelError, match=f"config.json: .*{next(iter(extra))}.*supported"):
        start(folder, "token")


@pytest.mark.parametrize("key", [None, "calibration", "threshold", "window", "margin"])
def test_a_base_head_without_its_metadata_is_refused(tiny_checkpoint, tmp_path, key):
    """Defaults in place of its calibration gave no calls, or calls everywhere, with status 0."""
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "tiny")
    config = json.loads((folder / "config.json").read_text())
    del (config if key is None else config["zflipon"])[key or "zflipon"]
    (folder / "config.json").write_text(json.dumps(config))
    expected = key or "window, margin, calibration, threshold"
    with pytest.raises(ModelError, match=rf"config\.json: section 'zflipon' lacks {expected}, without which"):
        load(folder)


def test_huge_token_ids_are_refused(saved):
    path = saved / "tokenizer.json"
    content = json.loads(path.read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary[max(vocabulary, key=vocabulary.get)] = 2**31
    path.write_text(json.dumps(content))
    with pytest.raises(ModelError, match=r"tokenizer.json|ids up to"):
        load(saved)


def test_weights_that_were_changed_on_purpose_load_without_the_record(saved):
    tensors = load_file(saved / "model.safetensors")
    save_file({key: each * 2 for key, each in tensors.items()}, saved / "model.safetensors")
    config = json.loads((saved / "config.json").read_text())
    del config["zflipon_sha256"]
    (saved / "config.json").write_text(json.dumps(config))
    assert load(saved).metadata.objective == "token"
    shutil.rmtree(saved)
