"""Low-rank adapters: which weights they train, saving and loading, peft's own files, and merging."""

import json
import shutil
from dataclasses import replace

import peft
import pytest
import torch
from click.testing import CliRunner
from conftest import dna, make_fasta
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from small_models import make_small_models
from transformers import Trainer, TrainingArguments, default_data_collator

from zflipon.cli import cli
from zflipon.config import LoraConfig, StageConfig
from zflipon.errors import ModelError, OutputError
from zflipon.models import create, family_names, get_family, load, load_module, save, start
from zflipon.models.adapters import attach, is_adapted, unfreeze
from zflipon.models.collate import collate
from zflipon.models.files import locate
from zflipon.models.heads.standard import HEAD_PREFIXES
from zflipon.models.importers import merge_adapters
from zflipon.models.metadata import OBJECTIVES
from zflipon.reproduction.small_inputs import SHAPE
from zflipon.training.batching import LOSS_WEIGHT, loss_weight
from zflipon.training.initialization import freeze_weights
from zflipon.training.loop import StageTrainer

LORA = LoraConfig(r=4, alpha=8, dropout=0.0)

TRAINED = [name for name in family_names() if get_family(name).reads_tokens]


@pytest.fixture(scope="module")
def bases(tmp_path_factory, tokenizer):
    """Return folders of small models by family, in the official layouts where there is one."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    save(create("compact", "mlm", tokenizer, **SHAPE), folder / "compact")
    return {**make_small_models(folder), "compact": folder / "compact"}


def adapted(base, objective="token", lora=LORA):
    """Start from a base, attach adapters and change every trained weight at random."""
    torch.manual_seed(5)
    made = start(base, objective)
    attach(made.module, lora, get_family(made.metadata.family).lora_targets)
    with torch.no_grad():
        for weights in made.module.parameters():
            if weights.requires_grad:
                weights.add_(0.2 * torch.randn_like(weights))
    made.module.eval()
    return made


def outputs(checkpoint, module=None):
    module = checkpoint.module if module is None else module
    sequences = [dna(90, seed) for seed in range(3)]
    tokens = checkpoint.tokenizer.encode(sequences)
    batch = collate(tokens, sequences, checkpoint.tokenizer.pad_id, checkpoint.module.objective == "base")
    with torch.no_grad():
        return module(**batch).logits


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", TRAINED)
def test_saved_adapters_give_the_same_logits_here_and_in_peft(bases, tmp_path, name, objective):
    made = adapted(bases[name], objective, replace(LORA, bias="all"))
    save(made, tmp_path / "lora")
    assert not (tmp_path / "lora" / "model.safetensors").exists()
    again, expected = load(tmp_path / "lora", OBJECTIVES), outputs(made)
    assert is_adapted(again.module)
    assert not again.module.training
    assert outputs(again).equal(expected)
    plain = load_module(bases[name], objective)
    assert not expected.equal(outputs(made, plain))
    theirs = PeftModel.from_pretrained(plain, str(tmp_path / "lora")).eval()
    torch.testing.assert_close(outputs(made, theirs), expected, atol=1e-4, rtol=0)
    count = sum(weights.numel() for weights in again.module.parameters())
    assert sum(locate(tmp_path / "lora").tensor_sizes().values()) == count


@pytest.mark.parametrize("name", TRAINED)
def test_by_default_every_attention_layer_gets_adapters(bases, name):
    made = adapted(bases[name])
    layers = [name for name, each in made.module.named_modules() if hasattr(each, "lora_A")]
    assert len(layers) == SHAPE["num_hidden_layers"] * len(get_family(name).lora_targets)
    assert all("att" in layer for layer in layers)


@pytest.mark.parametrize("name", TRAINED)
def test_merging_changes_no_probability(bases, name):
    made = adapted(bases[name], "base")
    before = outputs(made)
    merged = merge_adapters(made)
    assert not is_adapted(merged.module)
    assert not any("lora" in key for key in merged.module.state_dict())
    torch.testing.assert_close(torch.sigmoid(outputs(merged)), torch.sigmoid(before), atol=1e-5, rtol=0)
    with pytest.raises(ModelError, match="has no adapters to merge"):
        merge_adapters(merged)


def test_merged_weights_are_those_of_the_base_plus_the_scaled_product(bases):
    made = adapted(bases["dnabert2"])
    layer = made.module.bert.encoder.layer[0].attention.self.Wqkv
    base, a, b = layer.base_layer.weight, layer.lora_A["default"].weight, layer.lora_B["default"].weight
    expected = (base + LORA.alpha / LORA.r * b @ a).detach().clone()
    found = merge_adapters(made).module.bert.encoder.layer[0].attention.self.Wqkv.weight
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("bias", ["none", "lora_only", "all"])
def test_adapters_head_and_the_requested_biases_are_trained(bases, tmp_path, bias):
    made = adapted(bases["gena"], lora=LoraConfig(r=2, bias=bias))
    trained = {name for name, weights in made.module.named_parameters() if weights.requires_grad}
    encoder = {name for name in trained if not name.startswith(HEAD_PREFIXES) and "lora_" not in name}
    assert {name for name in trained if name.startswith("classifier.")}
    if bias == "none":
        assert not encoder
    else:
        assert all(name.endswith(".bias") for name in encoder)
        assert (bias == "all") == any("LayerNorm" in name for name in encoder)
    save(made, tmp_path / "lora")
    assert outputs(load(tmp_path / "lora")).equal(outputs(made))


@pytest.mark.parametrize(("objective", "bias"), [("sequence", "lora_only"), ("mlm", "none")])
def test_the_head_gets_no_adapters_in_peft_either(bases, tmp_path, objective, bias):
    made = adapted(bases["dnabert"], objective, replace(LORA, targets=("dense",), bias=bias))
    assert not any(
        "lora_" in name for name, _ in made.module.named_parameters() if name.startswith(HEAD_PREFIXES)
    )
    save(made, tmp_path / "lora")
    theirs = PeftModel.from_pretrained(
        load_module(bases["dnabert"], objective), str(tmp_path / "lora")
    ).eval()
    torch.testing.assert_close(outputs(made, theirs), outputs(made))


class ItemTrainer(StageTrainer):
    """A trainer with the batches of transformers, to each of which the weight of its loss is added."""

    get_train_dataloader = Trainer.get_train_dataloader


def collate_weighted(items):
    batch = default_data_collator(items)
    return {**batch, LOSS_WEIGHT: loss_weight(batch)}


def test_training_resumes_with_adapters(bases, tmp_path):
    sequences = [dna(60, seed) for seed in range(8)]

    def trained(objective, **resume):
        torch.manual_seed(5)
        made = start(bases["gena"], objective)
        attach(made.module, replace(LORA, dropout=0.1), get_family("gena").lora_targets)
        tokens = made.tokenizer.encode(sequences)
        batch = collate(tokens, sequences, made.tokenizer.pad_id, objective == "base")
        batch["labels"] = torch.ones_like(batch["bases" if objective == "base" else "input_ids"])
        settings = {"max_steps": 4, "save_steps": 2, "per_device_train_batch_size": 2, "learning_rate": 0.01}
        fixed = {"report_to": [], "disable_tqdm": True, "use_cpu": True, "remove_unused_columns": False}
        items = [{key: each[number] for key, each in batch.items()} for number in range(len(sequences))]
        arguments = TrainingArguments(str(tmp_path / objective), **settings, **fixed)
        ItemTrainer(made.module, arguments, collate_weighted, train_dataset=items).train(**resume)
        return made.module.state_dict()

    for objective in ("base", "mlm"):  # the latter with tied weights
        whole = trained(objective)
        again = trained(objective, resume_from_checkpoint=str(tmp_path / objective / "checkpoint-2"))
        assert whole.keys() == again.keys()
        assert all(each.equal(again[name]) for name, each in whole.items())
        assert any(each.any() for name, each in whole.items() if "lora_B" in name)


def test_weights_frozen_by_a_stage_are_saved_and_can_be_unfrozen(bases, tmp_path):
    made = adapted(bases["gena"], "base")
    trained = {name for name, weights in made.module.named_parameters() if weights.requires_grad}
    for name, weights in made.module.named_parameters():
        weights.requires_grad = "lora_" in name
    save(made, tmp_path / "lora")
    again = load(
        tmp_path / "lora"
    ).module.state_dict()  # logits differ in the last digit between frozen and trainable weights
    assert all(each.equal(again[name]) for name, each in made.module.state_dict().items())
    unfreeze(made.module)
    assert {name for name, weights in made.module.named_parameters() if weights.requires_grad} == trained


def test_whole_weights_replace_adapters_but_adapters_never_their_base(bases, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(bases["dnabert2"], base)
    made = adapted(base)
    with pytest.raises(OutputError, match="holds the base that the adapters need"):
        save(made, base)
    save(adapted(bases["dnabert2"], "base"), tmp_path / "lora")
    expected = outputs(made)
    save(merge_adapters(made), tmp_path / "lora")
    again = load(tmp_path / "lora")
    assert not is_adapted(again.module)
    torch.testing.assert_close(outputs(again), expected)
    assert not any(
        "base_sha256" in key for key in json.loads((tmp_path / "lora" / "config.json").read_text())
    )


def test_training_starts_from_adapters_with_the_same_or_another_head(bases, tmp_path):
    save(adapted(bases["gena"], "mlm"), tmp_path / "lora")
    same, other = start(tmp_path / "lora", "mlm"), start(tmp_path / "lora", "base")
    for name, weights in other.module.named_parameters():
        assert weights.requires_grad == ("lora_" in name or name.startswith(HEAD_PREFIXES))
        if "lora_" in name:
            assert weights.equal(dict(same.module.named_parameters())[name])
    with pytest.raises(ModelError, match="has adapters already"):
        attach(other.module, LORA, ["query"])
    save(other, tmp_path / "again")  # the base is still the first one
    assert json.loads((tmp_path / "again" / "adapter_config.json").read_text())[
        "base_model_name_or_path"
    ] == str(bases["gena"])
    assert outputs(load(tmp_path / "again")).equal(outputs(other, other.module.eval()))


def test_unknown_target_layers_are_refused(bases):
    made = start(bases["dnabert2"], "token")
    with pytest.raises(ModelError, match=r"no layer is called querry; the linear layers are .*Wqkv"):
        attach(made.module, LoraConfig(r=2, targets=("querry",)), ["Wqkv"])
    with pytest.raises(ModelError, match=r"lora\.r must be 1 or more for adapters, not 0"):
        attach(made.module, LoraConfig(), ["Wqkv"])
    with pytest.raises(ModelError, match="ZhuntModel has no linear layers"):
        attach(load("zhunt").module, LORA, get_family("zhunt").lora_targets)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("use_qalora", True, "setting use_qalora is not supported; merge the adapters with peft"),
        ("trainable_token_indices", [1], "setting trainable_token_indices is not supported"),
        ("use_dorra", True, r"setting use_dorra is unknown \(did you mean 'use_dora'\?\)"),
        ("init_lora_weights", "pissa_niter_4", "init_lora_weights 'pissa_niter_4' is not supported"),
        ("init_lora_weights", "corda", "init_lora_weights 'corda' is not supported"),
        ("init_lora_weights", "loftq", "init_lora_weights 'loftq' is not supported"),
        ("lora_alpha", None, "lora_alpha must be a positive number, not None"),
        ("lora_alpha", "8", "lora_alpha must be a positive number, not '8'"),
        ("r", 0, "r must be a positive integer, not 0"),
        ("r", True, "r must be a positive integer, not True"),
        ("bias", "some", "bias must be none, all or lora_only, not 'some'"),
        ("target_modules", 3, "target_modules must be a list of names, or one regular expression"),
        ("target_modules", ["nothing"], "adapter_config.json: No modules were targeted"),
        ("peft_type", "IA3", "only LoRA adapters are supported, not IA3"),
        ("base_model_name_or_path", None, "names no base model"),
        ("base_model_name_or_path", "{folder}", "holds adapters, not whole weights"),
    ],
)
def test_unsupported_settings_of_adapters_are_refused(bases, tmp_path, key, value, expected):
    folder = tmp_path / "lora"
    save(adapted(bases["dnabert2"]), folder)
    stored = json.loads((folder / "adapter_config.json").read_text())
    stored[key] = value.format(folder=folder) if isinstance(value, str) else value
    (folder / "adapter_config.json").write_text(json.dumps(stored))
    with pytest.raises(ModelError, match=expected) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_a_missing_or_changed_base_is_refused(bases, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(bases["dnabert2"], base)
    save(adapted(base), tmp_path / "lora")
    weights = torch.load(base / "pytorch_model.bin", weights_only=True)
    weights["bert.embeddings.word_embeddings.weight"] += 1
    torch.save(weights, base / "pytorch_model.bin")
    with pytest.raises(ModelError, match="were trained on other weights") as caught:
        load(tmp_path / "lora")
    assert "\n" not in str(caught.value)
    shutil.rmtree(base)
    with pytest.raises(ModelError, match="the base model of these adapters cannot be loaded"):
        load(tmp_path / "lora")


def without_checksum(folder):
    """Remove the recorded checksum, so that the weights may be changed."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    del config["zflipon_sha256"]
    path.write_text(json.dumps(config))


def test_adapters_that_do_not_fit_are_refused(bases, tmp_path):
    save(adapted(bases["dnabert2"]), tmp_path / "lora")
    without_checksum(tmp_path / "lora")
    path = tmp_path / "lora" / "adapter_model.safetensors"
    stored = load_file(path)
    name = next(name for name in stored if "lora_A" in name)
    for changed, message in (
        ({key: each for key, each in stored.items() if key != name}, "1 tensors are missing: .*lora_A"),
        ({**stored, "base_model.model.score.weight": torch.ones(1)}, "1 tensors are unknown: score.weight"),
        ({**stored, name: torch.ones(1, 2)}, "1 tensors have the wrong shape: .*lora_A"),
    ):
        save_file(changed, path)
        with pytest.raises(ModelError, match=f"the adapters do not fit DnaBert2Model: {message}"):
            load(tmp_path / "lora")
    head = {key: each for key, each in stored.items() if "classifier" not in key}
    save_file(head, path)
    with pytest.raises(ModelError, match=r"modules_to_save names classifier, but classifier\..* is not in"):
        load(tmp_path / "lora")
    save_file(stored, path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ModelError, match="not a safetensors file, or cut short"):
        load(tmp_path / "lora")
    path.unlink()
    with pytest.raises(ModelError, match=r"no adapter_model\.safetensors"):
        load(tmp_path / "lora")


def peft_layout(base, folder, lora, weights="adapter_model.safetensors", config=True, change=None):
    """Train adapters with peft alone and save them as peft does; return the network in peft's own class.

    Parameters
    ----------
    base : Path
    folder : Path
        Gets the adapters, and the config and tokenizer of the base if `config`.
    lora : peft.LoraConfig
    weights : str
        Name of the file of weights.
    config : bool
    change : callable, optional
        Changes the adapter config on disk.
    """
    torch.manual_seed(5)
    model = get_peft_model(load_module(base, "token"), lora)
    with torch.no_grad():
        for each in model.parameters():
            if each.requires_grad:
                each.add_(0.2 * torch.randn_like(each))
    model.save_pretrained(str(folder), safe_serialization=weights.endswith(".safetensors"))
    path = folder / "adapter_config.json"
    stored = json.loads(path.read_text()) | {"base_model_name_or_path": str(base)}
    if change:
        change(stored)
    path.write_text(json.dumps(stored))
    if config:
        for name in ("config.json", "tokenizer.json"):
            shutil.copy(base / name, folder)
        edited = json.loads((folder / "config.json").read_text())
        edited["architectures"] = ["BertForTokenClassification"]
        (folder / "config.json").write_text(json.dumps(edited))
    return model.eval()


@pytest.fixture(scope="module")
def token_base(bases, tmp_path_factory):
    """Return the folder of a small DNABERT-2 with a token head, in the layout of transformers."""
    torch.manual_seed(7)
    folder = tmp_path_factory.mktemp("token") / "dnabert2"
    shutil.copytree(bases["dnabert2"], folder)
    torch.save(start(bases["dnabert2"], "token").module.state_dict(), folder / "pytorch_model.bin")
    return folder


LORA_VARIANTS = {
    "plain": {},
    "rank-stabilized": {"use_rslora": True},
    "dora": {"use_dora": True},
    "gaussian": {"init_lora_weights": "gaussian"},
    "pissa": {"init_lora_weights": "pissa"},
    "olora": {"init_lora_weights": "olora"},
    "orthogonal": {"init_lora_weights": "orthogonal"},
    "bias-all": {"bias": "all"},
    "lora-bias": {"lora_bias": True},
    "ranks": {
        "rank_pattern": {"layer.0.attention.self.Wqkv": 2},
        "alpha_pattern": {"layer.1.attention.self.Wqkv": 3},
    },
    "one-layer": {"layers_to_transform": [1]},
    "regular-expression": {"target_modules": r".*layer\.1\..*Wqkv"},
    "excluded": {"exclude_modules": ["layer.0.attention.self.Wqkv"]},
    "whole-head": {"modules_to_save": ["classifier"]},
    "mlp": {"target_modules": ["Wqkv", "gated_layers", "wo"]},
}


@pytest.mark.parametrize("variant", LORA_VARIANTS)
def test_adapters_of_peft_give_the_probabilities_of_peft(token_base, tmp_path, variant):
    settings = {"r": 4, "lora_alpha": 8, "target_modules": ["Wqkv"], **LORA_VARIANTS[variant]}
    theirs = peft_layout(token_base, tmp_path / "lora", peft.LoraConfig(**settings))
    ours = load(tmp_path / "lora")
    expected = outputs(ours, theirs).softmax(-1)
    torch.testing.assert_close(outputs(ours).softmax(-1), expected, atol=1e-5, rtol=0)
    assert not torch.allclose(
        outputs(ours, load_module(token_base, "token")).softmax(-1), expected, atol=1e-3
    )
    save(ours, tmp_path / "again")
    torch.testing.assert_close(outputs(load(tmp_path / "again")).softmax(-1), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(outputs(merge_adapters(ours)).softmax(-1), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("weights", ["adapter_model.safetensors", "adapter_model.bin"])
def test_adapters_without_a_config_use_that_of_their_base(token_base, tmp_path, weights):
    lora = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["Wqkv"], modules_to_save=["classifier"])
    theirs = peft_layout(token_base, tmp_path / "lora", lora, config=False)
    path = tmp_path / "lora" / "adapter_model.safetensors"
    if weights.endswith(".bin"):
        torch.save(load_file(path), path.with_name(weights))
        path.unlink()
    ours = load(tmp_path / "lora")
    assert (ours.metadata.family, ours.metadata.objective) == ("dnabert2", "token")
    torch.testing.assert_close(outputs(ours), outputs(ours, theirs), atol=1e-5, rtol=0)
    assert "LoRA, r 4" in CliRunner().invoke(cli, ["models", "show", str(tmp_path / "lora")]).output


def test_missing_settings_of_adapters_take_the_defaults_of_peft(token_base, tmp_path):
    def remove(config):
        del config["lora_alpha"], config["lora_dropout"], config["bias"]

    theirs = peft_layout(
        token_base, tmp_path / "lora", peft.LoraConfig(r=4, target_modules=["Wqkv"]), change=remove
    )
    ours = load(tmp_path / "lora")
    assert ours.module.lora.alpha == peft.LoraConfig().lora_alpha == 8
    torch.testing.assert_close(outputs(ours), outputs(ours, theirs), atol=1e-5, rtol=0)


def test_heads_under_the_names_of_older_peft_versions_are_used(token_base, tmp_path):
    lora = peft.LoraConfig(r=4, target_modules=["Wqkv"], modules_to_save=["classifier"])
    theirs = peft_layout(token_base, tmp_path / "lora", lora)
    path = tmp_path / "lora" / "adapter_model.safetensors"
    for infix in ("modules_to_save", "modules_to_save.default"):
        stored = {
            name.replace(".classifier.", f".classifier.{infix}."): each
            for name, each in load_file(path).items()
        }
        (tmp_path / infix).mkdir()
        for name in ("config.json", "tokenizer.json", "adapter_config.json"):
            shutil.copy(tmp_path / "lora" / name, tmp_path / infix)
        save_file(stored, tmp_path / infix / path.name)
        ours = load(tmp_path / infix)
        torch.testing.assert_close(outputs(ours), outputs(ours, theirs), atol=1e-5, rtol=0)


def test_a_base_is_found_relative_to_the_adapters(token_base, tmp_path):
    shutil.copytree(token_base, tmp_path / "base")

    def relative(config):
        config["base_model_name_or_path"] = "../base"

    theirs = peft_layout(
        token_base, tmp_path / "lora", peft.LoraConfig(target_modules=["Wqkv"]), change=relative
    )
    ours = load(tmp_path / "lora")
    torch.testing.assert_close(outputs(ours), outputs(ours, theirs), atol=1e-5, rtol=0)


def test_commands_accept_adapters(bases, tmp_path):
    save(adapted(bases["dnabert2"], "base"), tmp_path / "lora")
    fasta = make_fasta(tmp_path, {"c": dna(3000, 1)})

    def run(*words, status=0):
        found = CliRunner().invoke(cli, [*map(str, words)])
        assert found.exit_code == status, found.output
        return found

    text = run("models", "show", tmp_path / "lora").output
    assert "LoRA, r 4, alpha 8, on Wqkv" in text
    assert str(bases["dnabert2"]) in text
    run("models", "merge", tmp_path / "lora", "-o", tmp_path / "whole")
    assert (tmp_path / "whole" / "model.safetensors").exists()
    assert "LoRA" not in run("models", "show", tmp_path / "whole").output
    for name in ("lora", "whole"):
        words = ("--model", tmp_path / name, "--device", "cpu", "--threshold", 0.5)
        run("annotate", fasta, "-o", tmp_path / f"{name}.bedgraph", *words)
    texts = [(tmp_path / f"{name}.bedgraph").read_text() for name in ("lora", "whole")]
    rows = [[line.split("\t") for line in text.splitlines()] for text in texts]
    at = [{int(row[1]): float(row[3]) for row in each} for each in rows]
    assert len(at[0]) > 10
    assert len(set(at[0]) ^ set(at[1])) < len(at[0]) / 50  # rounding to three decimals may fall either way
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("precious")
    found = CliRunner().invoke(cli, ["models", "merge", str(tmp_path / "lora"), "-o", str(tmp_path / "full")])
    assert "exists already; give --force" in str(found.exception)


def test_a_stage_freezes_and_unfreezes_trained_weights_only(bases):
    made = adapted(bases["dnabert2"], "base")
    trained = {name for name, weights in made.module.named_parameters() if weights.requires_grad}
    freeze_weights(made.module, StageConfig(freeze=("base_head.entry",)))
    found = {name for name, weights in made.module.named_parameters() if weights.requires_grad}
    assert found == {name for name in trained if not name.startswith("base_head.entry")} != trained
    freeze_weights(made.module, StageConfig())
    assert {name for name, weights in made.module.named_parameters() if weights.requires_grad} == trained
    plain = start(bases["dnabert2"], "base").module
    freeze_weights(plain, StageConfig(freeze=("bert.",)))
    freeze_weights(plain, StageConfig())
    assert all(weights.requires_grad for weights in plain.parameters())
