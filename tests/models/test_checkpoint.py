"""Checkpoints: locating, strict loading, starting, saving, and their metadata."""

import hashlib
import json
import logging
import random
import shutil
import subprocess
import sys
from itertools import product

import pytest
import torch
from click.testing import CliRunner
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file

from zflipon.cli.models import describe, models
from zflipon.config import ScreenConfig
from zflipon.errors import ModelError, OutputError
from zflipon.models import (
    Calibration,
    ModelMetadata,
    create,
    family_names,
    files,
    get_family,
    load,
    load_module,
    recognize_family,
    save,
    start,
)
from zflipon.models.metadata import FORMAT_VERSION, OBJECTIVES, Feature
from zflipon.tokenization.bpe_training import SPECIAL_TOKENS, train_bpe
from zflipon.tokenization.tokenizers import KmerTokenizer

LANGUAGES = [name for name in family_names() if get_family(name).reads_tokens]

SHAPE = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
SEQUENCES = ["ACGTGCGCGCGTATATACCAGGTTACGNACG", "ttgaca", "GCGCGCGC"]


@pytest.fixture(scope="module")
def bpe():
    return train_bpe(["ACGTGCGCGCGTATATACCAGGTTACGACGTTTGCACAGGA" * 20], 40, 6)


@pytest.fixture(scope="module")
def kmers():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map("".join, product("ACGT", repeat=3))]
    return KmerTokenizer({word: index for index, word in enumerate(words)})


@pytest.fixture
def make(bpe, kmers):
    """Return a function that makes a tiny checkpoint with random weights."""

    def tiny(name="dnabert2", objective="token", **settings):
        torch.manual_seed(0)
        tokenizer = kmers if name == "dnabert" else bpe
        if name == "modernbert":
            settings = {
                "eos_token_id": 2,
                "bos_token_id": 1,
                "cls_token_id": 1,
                "sep_token_id": 2,
                **settings,
            }
        return create(name, objective, tokenizer, **{**SHAPE, "initializer_range": 0.2, **settings})

    return tiny


@pytest.fixture
def folder(make, tmp_path):
    """Return the folder of a tiny DNABERT-2 token checkpoint."""
    save(make(), tmp_path / "model")
    return tmp_path / "model"


def edit_config(folder, **values):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config.update(values)
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))


def edit_weights(folder, change):
    """Apply `change` to the state dict on disk, and remove the recorded checksum."""
    edit_config(folder, zflipon_sha256=...)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def run(checkpoint) -> torch.Tensor:
    ids = torch.tensor([[1, 5, 6, 7, 8, 2]])
    extra = {}
    if checkpoint.module.objective == "base":
        extra = {"base_tokens": torch.tensor([[1, 1, 2, 3, 4]]), "bases": torch.tensor([[0, 1, 2, 3, 4]])}
    with torch.no_grad():
        return checkpoint.module.eval()(input_ids=ids, **extra).logits


# ---- saving and loading ----


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", LANGUAGES)
def test_saved_and_loaded_back_unchanged(name, objective, make, tmp_path):
    metadata = ModelMetadata(
        family=name,
        objective=objective,
        window=300,
        margin=40,
        max_token_length=1 if name == "dnabert" else 4,
        label_threshold=0.66,
        label_comparison=">",
        threshold=0.42,
        calibration=Calibration(1.25, -3.5, ((-6.0, 0.0), (1.0, 0.25))),
        training={"on": ["kouzine"], "stages": {"one": {"steps": 3}}},
        quality={"genome": {"f1": 0.7}},
        versions={"zflipon": "0.1.0"},
    )
    saved = make(name, objective, base_head={"channels": 8, "kernel": 3, "dilations": [1], "dropout": 0.0})
    saved.metadata = metadata
    save(saved, tmp_path)
    loaded = load(tmp_path, objectives=OBJECTIVES)
    assert loaded.metadata == metadata
    assert loaded.path == tmp_path
    ours, theirs = saved.module.state_dict(), loaded.module.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert torch.equal(run(saved), run(loaded))
    assert not loaded.module.training
    save(loaded, tmp_path / "twice")
    assert load(tmp_path / "twice", OBJECTIVES).sha256 == loaded.sha256


def test_the_tokenizer_is_saved(make, tmp_path):
    for name in ("gena", "dnabert"):
        checkpoint = make(name)
        save(checkpoint, tmp_path / name)
        before, after = (each.tokenizer.encode(SEQUENCES) for each in (checkpoint, load(tmp_path / name)))
        assert [row.ids.tolist() for row in before] == [row.ids.tolist() for row in after]


def test_metadata_limit_the_tokenizer(folder):
    assert load(folder).tokenizer.max_token_length > 2
    edit_config(folder, zflipon={"max_token_length": 2})
    assert load(folder).tokenizer.max_token_length == 2
    assert start(folder, "token", max_token_length=1).tokenizer.max_token_length == 1


def test_saving_keeps_other_files_and_leaves_no_temporary_ones(folder, make):
    (folder / "README.md").write_text("a card")
    save(make(hidden_size=16), folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert load(folder).module.config.hidden_size == 16
    modes = {path.name: path.stat().st_mode for path in folder.iterdir()}
    assert modes["model.safetensors"] == modes["config.json"] == modes["README.md"]


def test_saving_where_a_file_exists(make, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(OutputError, match=r"taken: the checkpoint cannot be written"):
        save(make(), tmp_path / "taken")


def test_sha256_is_that_of_the_weights(folder):
    expected = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert load(folder).sha256 == expected


# ---- locating ----


def test_bundled_models_are_found_by_name(folder, monkeypatch):
    monkeypatch.setattr(files, "BUNDLED", folder.parent)
    assert files.bundled() == ["model"]
    assert load("model").path == folder


def test_bare_state_dict_beside_a_config(make, tmp_path):
    """As the GENA-LM model of the reference work was saved: the config is that of the pretrained model."""
    saved = make("gena")
    save(saved, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    edit_config(tmp_path, objective=..., zflipon=..., model_type="bert", architectures=["BertForMaskedLM"])
    state = {f"module.{key}": value for key, value in saved.module.state_dict().items()}
    torch.save({"model_state_dict": state, "epoch": 3}, tmp_path / "best.pt")
    for name in (tmp_path, tmp_path / "best.pt"):
        loaded = load(name)
        assert (loaded.metadata.family, loaded.metadata.objective) == ("gena", "token")
        assert torch.equal(run(saved), run(loaded))


def test_a_folder_without_metadata_gets_the_defaults_of_its_family(make, tmp_path):
    save(make("gena"), tmp_path)
    edit_config(
        tmp_path, objective=..., zflipon=..., model_type="bert", architectures=["BertForTokenClassification"]
    )
    metadata = load(tmp_path).metadata
    assert metadata == ModelMetadata("gena", "token", **get_family("gena").default_metadata)
    assert metadata.label_comparison == ">"
    assert metadata.window + 2 <= 512


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_shards(suffix, make, tmp_path):
    saved = make("gena")
    save(saved, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    state = {key: value.contiguous() for key, value in saved.module.state_dict().items()}
    stem = {"safetensors": "model", "bin": "pytorch_model"}[suffix]
    index = {}
    for number, keys in enumerate((list(state)[::2], list(state)[1::2])):
        part = {key: state[key] for key in keys}
        path = tmp_path / f"{stem}-{number}.{suffix}"
        save_file(part, path) if suffix == "safetensors" else torch.save(part, path)
        index.update(dict.fromkeys(keys, path.name))
    (tmp_path / f"{stem}.{suffix}.index.json").write_text(json.dumps({"weight_map": index}))
    loaded = load(tmp_path)
    assert torch.equal(run(saved), run(loaded))
    assert len(loaded.sha256) == 64
    (tmp_path / f"{stem}-1.{suffix}").unlink()
    with pytest.raises(ModelError, match=rf"names {stem}-1\.{suffix}, which does not exist"):
        load(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_on_disk_is_loaded_as_float32(dtype, folder):
    edit_weights(folder, lambda tensors: tensors.update({key: t.to(dtype) for key, t in tensors.items()}))
    edit_config(folder, dtype=str(dtype).removeprefix("torch."))
    loaded = load(folder)
    assert {value.dtype for value in loaded.module.parameters()} == {torch.float32}


def test_hub_id(folder, monkeypatch):
    calls = {}

    def snapshot_download(repository, revision, allow_patterns):
        calls.update(repository=repository, revision=revision, patterns=allow_patterns)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert load("zhihan1996/DNABERT-2-117M").path == folder
    assert calls["repository"] == "zhihan1996/DNABERT-2-117M"
    assert not any(pattern.endswith(".py") for pattern in calls["patterns"])


def test_hub_out_of_reach(monkeypatch):
    def offline(*_args, **_rest):
        raise LocalEntryNotFoundError("no connection. And much\nmore besides")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(
        ModelError, match=r"^AIRI-Institute/gena-lm-bert-base-t2t: .*no connection\)"
    ) as caught:
        load("AIRI-Institute/gena-lm-bert-base-t2t")
    assert "\n" not in str(caught.value)


def test_no_such_model():
    with pytest.raises(ModelError, match=r"^nowhere: no such model; expected a bundled one"):
        load("nowhere")


# ---- families ----


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"model_type": "bert", "vocab_size": 4096, "alibi_starting_size": 512}, "dnabert2"),
        ({"model_type": "bert", "auto_map": {"AutoModel": "bert_layers.BertModel"}}, "dnabert2"),
        ({"model_type": "bert", "vocab_size": 32000, "pre_layer_norm": True}, "gena"),
        ({"model_type": "bert", "vocab_size": 32000, "pre_layer_norm": False}, "gena"),
        ({"model_type": "bert", "vocab_size": 4101}, "dnabert"),
        ({"model_type": "bert", "vocab_size": 69}, "dnabert"),
        ({"model_type": "modernbert", "vocab_size": 32768}, "modernbert"),
        ({"model_type": "zflipon-compact"}, "compact"),
        ({"model_type": "bert", "zflipon": {"family": "gena"}}, "gena"),
    ],
)
def test_family_is_recognised(config, name):
    assert recognize_family(config, "config.json") == name


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "bert", "vocab_size": 30522},
        {"model_type": "llama"},
        {},
        {"zflipon": {"family": "other"}},
    ],
)
def test_unknown_family(config, folder):
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"unknown model family .*known are compact, dnabert2, gena"):
        load(folder)


# ---- incomplete and unfitting checkpoints ----


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.json").unlink(), r"config.json: no such file"),
        (lambda f: (f / "config.json").write_text('{"model_type": "be'), r"config.json: not JSON"),
        (lambda f: (f / "config.json").write_text("[]"), r"config.json: expected a JSON object, found list"),
        (lambda f: (f / "model.safetensors").unlink(), r"no weights"),
        (lambda f: (f / "tokenizer.json").unlink(), r"tokenizer.json: no such file"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), r"tokenizer.json: not a valid tokenizer.json"),
        (
            lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:5000]),
            r"model.safetensors: the weights are damaged or were replaced: their SHA-256 is",
        ),
        (lambda f: (f / "model.safetensors").write_bytes(b""), r"damaged or were replaced"),
    ],
)
def test_incomplete(damage, message, folder):
    damage(folder)
    with pytest.raises(ModelError, match=message) as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError):
        load(folder / "model.safetensors")


def test_truncated_bin(make, tmp_path):
    saved = make()
    save(saved, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(saved.module.state_dict(), tmp_path / "pytorch_model.bin")
    whole = (tmp_path / "pytorch_model.bin").read_bytes()
    for size in (0, 100, len(whole) // 2):
        (tmp_path / "pytorch_model.bin").write_bytes(whole[:size])
        with pytest.raises(ModelError, match=r"pytorch_model.bin: .*file of weights"):
            load(tmp_path)


def test_code_in_pickles_is_not_executed(folder, tmp_path):
    class Malice:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    (folder / "model.safetensors").unlink()
    torch.save({"weight": Malice()}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"holds more than tensors"):
        load(folder)
    assert not (tmp_path / "ran").exists()


def test_a_file_without_a_state_dict(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"step": 3}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"holds no state dict"):
        load(folder)


def test_several_files_of_weights(folder):
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    shutil.copy(folder / "a.safetensors", folder / "b.safetensors")
    with pytest.raises(ModelError, match=r"several files of weights \(a.safetensors, b.safetensors\)"):
        load(folder)
    assert load(folder / "b.safetensors").metadata.family == "dnabert2"


WQKV = "bert.encoder.layer.1.attention.self.Wqkv.weight"


@pytest.mark.parametrize(
    "open_checkpoint", [load, lambda path: load_module(path, "token"), lambda p: start(p, "base")]
)
def test_encoder_tensors_that_do_not_fit_are_named(open_checkpoint, folder):
    edit_weights(folder, lambda tensors: tensors.pop(WQKV))
    with pytest.raises(ModelError, match=rf"1 tensors are missing: {WQKV}"):
        open_checkpoint(folder)
    edit_weights(
        folder, lambda tensors: tensors.update({WQKV: torch.zeros(3, 4), "bert.encoder.extra": torch.ones(1)})
    )
    with pytest.raises(
        ModelError, match=rf"unexpected: bert.encoder.extra; .*shape: {WQKV} is 3 x 4 .* 72 x 24"
    ):
        open_checkpoint(folder)


def test_weights_of_another_family_are_refused(make, tmp_path):
    """The trap of loading DNABERT-2 as plain BERT."""
    save(make(), tmp_path)
    edit_config(tmp_path, zflipon=..., model_type="bert", alibi_starting_size=..., pre_layer_norm=True)
    with pytest.raises(ModelError, match=r"missing: .*position_embeddings.*unexpected: .*Wqkv"):
        load(tmp_path)


def test_constants_and_other_heads_are_ignored(folder):
    before = run(load(folder))
    ignored = {
        "bert.embeddings.position_ids": torch.arange(512)[None],
        "bert.pooler.dense.weight": torch.ones(24, 24),
        "bert.pooler.dense.bias": torch.ones(24),
        "cls.predictions.decoder.bias": torch.ones(40),
        "cls.seq_relationship.weight": torch.ones(2, 24),
    }
    edit_weights(folder, lambda tensors: tensors.update(ignored))
    assert torch.equal(run(load(folder)), before)


def test_bare_encoder_names(folder):
    """A checkpoint that was saved from the encoder alone has names without its prefix."""

    def strip(tensors):
        for key in list(tensors):
            if key.startswith("bert."):
                tensors[key.removeprefix("bert.")] = tensors.pop(key)

    before = run(load(folder))
    edit_weights(folder, strip)
    assert torch.equal(run(load(folder)), before)


def test_tokenizer_of_another_checkpoint(folder):
    letters = random.Random(0).choices("ACGT", k=5000)
    train_bpe(["".join(letters)], 80, 8).save(folder)
    with pytest.raises(ModelError, match=r"not of one checkpoint"):
        load(folder)


@pytest.mark.parametrize("objective", ["mlm", "sequence"])
def test_prediction_needs_a_trained_head(objective, make, tmp_path):
    save(make(objective=objective), tmp_path)
    with pytest.raises(ModelError, match=rf"no token or base head \(it has {objective}\); train it first"):
        load(tmp_path)


def test_a_head_without_one_of_its_tensors_is_refused(folder):
    edit_weights(folder, lambda tensors: tensors.pop("classifier.bias"))
    for open_checkpoint in (load, lambda path: load_module(path, "token")):
        with pytest.raises(ModelError, match=r"missing: classifier.bias"):
            open_checkpoint(folder)


def test_bad_shape_in_config(folder):
    edit_config(folder, num_attention_heads="two")
    with pytest.raises(ModelError, match=r"config.json: .*num_attention_heads") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


# ---- training ----


@pytest.mark.parametrize("name", LANGUAGES)
def test_start_keeps_the_encoder_and_warns_about_a_new_head(name, make, tmp_path, caplog):
    pretrained = make(name, "mlm")
    save(pretrained, tmp_path)
    with caplog.at_level(logging.WARNING, logger="zflipon"):
        started = start(tmp_path, "base", class_weights=[1.0, 8.0], base_head={"channels": 8})
    assert "no trained head for 'base'; base_head starts with random weights" in caplog.text
    assert started.metadata.objective == started.module.objective == "base"
    assert started.module.config.class_weights == [1.0, 8.0]
    encoder = started.module.base_model.state_dict()
    assert all(
        torch.equal(value, encoder[key]) for key, value in pretrained.module.base_model.state_dict().items()
    )


def test_start_keeps_a_head_of_the_same_kind(folder, caplog):
    with caplog.at_level(logging.WARNING, logger="zflipon"):
        started = start(folder, "token")
    assert not caplog.records
    assert torch.equal(run(load(folder)), run(started))


def test_start_replaces_a_head_of_another_shape(folder, caplog):
    with caplog.at_level(logging.WARNING, logger="zflipon"):
        started = start(folder, "token", num_labels=3)
    assert "classifier starts with random weights" in caplog.text
    assert run(started).shape[-1] == 3


def test_start_keeps_the_metadata_but_not_the_quality(make, tmp_path):
    saved = make()
    saved.metadata = ModelMetadata(
        "dnabert2", "token", 200, 20, threshold=0.3, quality={"f1": 0.9}, versions={"torch": "0"}
    )
    save(saved, tmp_path)
    metadata = start(tmp_path, "token").metadata
    assert (metadata.window, metadata.margin, metadata.threshold, metadata.quality) == (200, 20, 0.3, {})
    assert metadata.versions["torch"] == torch.__version__


def test_unknown_settings_are_suggested(folder, bpe):
    with pytest.raises(ModelError, match=r"unknown setting 'hidden_dropout'.*'hidden_dropout_prob'"):
        start(folder, "token", hidden_dropout=0.2)
    with pytest.raises(ModelError, match=r"unknown setting 'layers'"):
        create("compact", "base", bpe, layers=3)


@pytest.mark.parametrize(
    ("head", "published"),
    [({"call_distance": 4}, True), ({}, False), ({"call_distance": 4, "zhunt": []}, False)],
)
def test_a_new_model_that_calls_only_near_published_calls_has_the_screen_of_these(bpe, head, published):
    checkpoint = create("compact", "base", bpe, base_head=head, **SHAPE)
    assert checkpoint.metadata.screen == ScreenConfig(published=published)


def test_create_takes_vocabulary_and_padding_from_the_tokenizer(bpe, kmers):
    config = create("compact", "base", bpe, **SHAPE).module.config
    assert (config.vocab_size, config.pad_token_id) == (bpe.vocab_size, SPECIAL_TOKENS.index("[PAD]"))
    assert create("dnabert", "token", kmers, **SHAPE).module.config.vocab_size == 69


# ---- metadata ----


def test_metadata_must_be_an_object(folder):
    edit_config(folder, zflipon=3)
    with pytest.raises(ModelError, match=r"config.json: metadata must be a JSON object, not 3"):
        load(folder)


def test_metadata_survives_json():
    metadata = ModelMetadata(
        "gena",
        "token",
        510,
        64,
        5,
        calibration=Calibration(0.5, -2.0, ((-1.0, 0.5), (2.0, 0.0))),
        quality={"f1": 0.5},
        features=(Feature("ATAC", "signal", 1.5, 2.0),),
    )
    assert ModelMetadata.from_dict(json.loads(json.dumps(metadata.to_dict()))) == metadata
    assert metadata.to_dict()["format_version"] == FORMAT_VERSION


def test_missing_metadata_fields_take_defaults():
    metadata = ModelMetadata.from_dict({"family": "gena", "window": 100}, margin=10, window=999)
    assert (metadata.window, metadata.margin, metadata.objective, metadata.threshold) == (100, 10, None, 0.5)
    with pytest.raises(ModelError, match=r"window is missing"):
        ModelMetadata.from_dict({"family": "gena"})


def test_metadata_of_format_1_is_read_with_the_new_key_names():
    old = {
        "family": "compact",
        "window": 100,
        "margin": 10,
        "bears_missing": True,
        "calibration": {"scale": 0.5, "bias": 1.0, "bend": [[-6.0, 0.0], [1.0, 0.25]]},
        "quality": {"at": {"0.3": [0.5, 0.9]}, "\x74wins": [{"f1": 0.7}], "f1": 0.7},
        "versions": {},
    }
    metadata = ModelMetadata.from_dict(old)
    assert metadata.allows_missing_features
    assert metadata.calibration == Calibration(0.5, 1.0, ((-6.0, 0.0), (1.0, 0.25)))
    assert metadata.quality == {
        "by_threshold": {"0.3": [0.5, 0.9]},
        "held_out_models": [{"f1": 0.7}],
        "f1": 0.7,
    }
    assert metadata.special_tokens
    assert "bend" in old["calibration"]  # the input is unchanged


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "1", None, True])
@pytest.mark.parametrize("name", ["scale", "bias"])
def test_calibration_must_be_finite_numbers(name, value):
    with pytest.raises(ModelError, match=rf"calibration.{name} must be a (finite )?number"):
        ModelMetadata.from_dict({"family": "gena", "window": 100, "margin": 10, "calibration": {name: value}})
    with pytest.raises(ModelError, match=rf"{name} must be a (finite )?number"):
        Calibration(**{name: value})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"treshold": 0.5}, r"unknown key 'treshold' \(did you mean 'threshold'\?\)"),
        ({"format_version": 2, "bears_missing": True}, r"unknown key 'bears_missing'"),
        ({"format_version": 3}, r"metadata has format 3, but this zflipon reads formats up to 2; upgrade"),
        ({"format_version": "two"}, r"format_version must be a positive integer, not 'two'"),
        ({"calibration": {"slope": 1}}, r"unknown key 'calibration.slope'"),
        ({"calibration": {"correction": [[1, 0], [0, 1]]}}, r"correction must be pairs of .* ascending"),
        ({"calibration": {"correction": [[1, float("nan")]]}}, r"correction.0.1 must be a finite number"),
        ({"calibration": 3}, r"calibration must be a JSON object, not 3"),
        ({"screen": {"linkin": 1}}, r"unknown key 'screen.linkin' \(did you mean 'linking'\?\)"),
        ({"screen": {"linking": float("nan")}}, r"screen.linking must be a finite number"),
        ({"threshold": 1.5}, r"threshold must be 1 or less, not 1.5"),
        ({"threshold": -0.5}, r"threshold must be 0 or more, not -0.5"),
        ({"threshold": float("nan")}, r"threshold must be a finite number, not nan"),
        ({"window": 0}, r"window must be 1 or more, not 0"),
        ({"window": "128"}, r"window must be an integer, not '128'"),
        ({"margin": 50}, r"margin must be less than half of the window \(100\), not 50"),
        ({"both_strands": "no"}, r"both_strands must be true or false, not 'no'"),
        ({"label_comparison": "<"}, r"label_comparison must be one of '>=' or '>', not '<'"),
        ({"objective": "tokens"}, r"objective must be one of 'token'"),
        ({"quality": [1]}, r"quality must be a JSON object"),
        ({"features": [{"kind": "binary"}]}, r"features.0.name is missing"),
        ({"features": [{"name": "a", "kind": "signal", "scale": 0.0}]}, r"features.0.scale must not be 0"),
        ({"features": [{"name": "a", "kind": "binary"}] * 2}, r"features must have different names"),
    ],
)
def test_invalid_metadata_is_refused(values, message, folder):
    with pytest.raises(ModelError, match=message):
        ModelMetadata.from_dict({"family": "gena", "window": 100, "margin": 10, **values})
    edit_config(folder, zflipon={"family": "dnabert2", "window": 100, "margin": 10, **values})
    with pytest.raises(ModelError, match=rf"config.json: .*{message}") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


# ---- zflipon models ----


def test_models_lists_bundled_ones_and_families(folder, monkeypatch):
    for module in ("zflipon.models.files.BUNDLED", "zflipon.cli.models.BUNDLED"):
        monkeypatch.setattr(module, folder.parent)
    result = CliRunner().invoke(models, [])
    assert result.exit_code == 0
    assert "model  dnabert2, calls each token, 128 bp windows" in result.stdout
    assert all(f"  {name} " in result.stdout for name in family_names())


def test_models_show(make, tmp_path):
    saved = make("gena")
    saved.metadata = ModelMetadata(
        "gena", "token", 110, 10, 5, 0.66, ">", 0.25, quality={"genome": {"f1": 0.61}}
    )
    save(saved, tmp_path)
    text = CliRunner().invoke(models, ["show", str(tmp_path), "--full"]).stdout
    count = sum(value.numel() for value in saved.module.parameters())
    lines = [
        "110 bp, with a margin of 10 bp",
        "at most 5 bp",
        "probability >= 0.25",
        "> 0.66",
        "0.61",
        f"{count:,}",
    ]
    assert all(line in text for line in lines)
    facts = json.loads(CliRunner().invoke(models, ["show", str(tmp_path), "--json"]).stdout)
    assert facts == describe(tmp_path)
    assert facts["sha256"] == load(tmp_path).sha256
    assert ModelMetadata.from_dict({key: facts[key] for key in saved.metadata.to_dict()}) == saved.metadata


def test_models_show_of_a_checkpoint_from_elsewhere(folder):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    edit_config(folder, objective=..., zflipon=..., model_type="bert")
    facts = describe(folder)
    assert (facts["family"], facts["objective"]) == ("dnabert2", "token")
    assert facts["parameters"] == sum(value.numel() for value in tensors.values())


def test_listing_and_showing_models_imports_no_torch(folder):
    code = (
        "import sys; import zflipon.models; from zflipon.cli.models import describe, models;"
        "models.main([], standalone_mode=False); describe(sys.argv[1]);"
        "assert not {'torch', 'transformers', 'tokenizers'} & set(sys.modules), 'heavy import'"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, capture_output=True)
