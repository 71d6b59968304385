"""Low-rank adapters: what they train, that they come back the same, and that merging changes no probability."""

import json
import shutil

import pytest
import torch
from click.testing import CliRunner
from conftest import dna, make_fasta
from peft import PeftModel
from safetensors.torch import load_file, save_file
from small_models import make_small_models

from zflipon.cli import cli
from zflipon.config import LoraConfig
from zflipon.errors import ModelError
from zflipon.models import family, load, load_module, save, start
from zflipon.models.adapters import attach, is_adapted, merge
from zflipon.models.base import HEADS
from zflipon.models.batch import collate
from zflipon.models.story import OBJECTIVES

LORA = LoraConfig(r=4, alpha=8, dropout=0.0)


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """Return folders of small models in the official layouts, by family."""
    return make_small_models(tmp_path_factory.mktemp("models"))


def adapted(base, objective="token", lora=LORA):
    """Start from a base, attach adapters and give every trained weight a value of its own."""
    torch.manual_seed(5)
    made = start(base, objective)
    attach(made.module, lora, family(made.story.family).LORA_TARGETS)
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
@pytest.mark.parametrize("name", ["dnabert2", "gena", "dnabert", "modernbert"])
def test_saved_and_loaded_they_say_the_same(bases, tmp_path, name, objective):
    made = adapted(bases[name], objective)
    save(made, tmp_path / "lora")
    assert not (tmp_path / "lora" / "model.safetensors").exists()
    again = load(tmp_path / "lora", OBJECTIVES)
    assert is_adapted(again.module)
    assert outputs(again).equal(outputs(made))
    plain = load_module(bases[name], objective)
    assert not outputs(made).equal(outputs(made, plain))


@pytest.mark.parametrize("name", ["dnabert2", "gena", "dnabert", "modernbert"])
def test_merged_they_say_the_same_without_them(bases, name):
    made = adapted(bases[name], "base")
    before = outputs(made)
    merged = merge(made)
    assert not is_adapted(merged.module)
    assert not any("lora" in key for key in merged.module.state_dict())
    torch.testing.assert_close(torch.sigmoid(outputs(merged)), torch.sigmoid(before), atol=1e-5, rtol=0)
    with pytest.raises(ModelError, match="has no adapters to merge"):
        merge(merged)


def test_merged_weights_are_the_base_s_and_a_product(bases):
    made = adapted(bases["dnabert2"])
    layer = made.module.bert.encoder.layer[0].attention.self.Wqkv
    base, a, b = layer.base_layer.weight, layer.lora_A["default"].weight, layer.lora_B["default"].weight
    expected = (base + LORA.alpha / LORA.r * b @ a).detach().clone()
    found = merge(made).module.bert.encoder.layer[0].attention.self.Wqkv.weight
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("bias", ["none", "lora_only", "all"])
def test_adapters_head_and_the_asked_for_biases_are_trained(bases, tmp_path, bias):
    made = adapted(bases["gena"], lora=LoraConfig(r=2, bias=bias))
    trained = {name for name, weights in made.module.named_parameters() if weights.requires_grad}
    encoder = {name for name in trained if not name.startswith(HEADS) and "lora_" not in name}
    assert {name for name in trained if name.startswith("classifier.")}
    if bias == "none":
        assert not encoder
    else:
        assert all(name.endswith(".bias") for name in encoder)
        assert (bias == "all") == any("LayerNorm" in name for name in encoder)
    save(made, tmp_path / "lora")
    assert outputs(load(tmp_path / "lora")).equal(outputs(made))


def test_peft_reads_what_we_write(bases, tmp_path):
    made = adapted(bases["dnabert2"])
    save(made, tmp_path / "lora")
    theirs = PeftModel.from_pretrained(load_module(bases["dnabert2"], "token"), str(tmp_path / "lora")).eval()
    torch.testing.assert_close(outputs(made, theirs), outputs(made))


def test_training_goes_on_from_adapters_and_with_another_head(bases, tmp_path):
    save(adapted(bases["gena"], "mlm"), tmp_path / "lora")
    same, other = start(tmp_path / "lora", "mlm"), start(tmp_path / "lora", "base")
    for name, weights in other.module.named_parameters():
        assert weights.requires_grad == ("lora_" in name or name.startswith(HEADS))
        if "lora_" in name:
            assert weights.equal(dict(same.module.named_parameters())[name])
    with pytest.raises(ModelError, match="has adapters already"):
        attach(other.module, LORA, ["query"])
    save(other, tmp_path / "again")  # the base stays the first one
    assert json.loads((tmp_path / "again" / "adapter_config.json").read_text())[
        "base_model_name_or_path"
    ] == str(bases["gena"])
    assert outputs(load(tmp_path / "again")).equal(outputs(other, other.module.eval()))


def test_layers_that_are_not_there(bases):
    made = start(bases["dnabert2"], "token")
    with pytest.raises(ModelError, match=r"no layer is called querry; the linear layers are .*Wqkv"):
        attach(made.module, LoraConfig(r=2, targets=("querry",)), ["Wqkv"])


def test_a_base_that_is_gone_or_another(bases, tmp_path):
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
    with pytest.raises(ModelError, match="the base model of these adapters is not to be had"):
        load(tmp_path / "lora")


def test_adapters_that_do_not_fit(bases, tmp_path):
    save(adapted(bases["dnabert2"]), tmp_path / "lora")
    path = tmp_path / "lora" / "adapter_model.safetensors"
    stored = load_file(path)
    name = next(name for name in stored if "lora_A" in name)
    save_file({key: each for key, each in stored.items() if key != name}, path)
    with pytest.raises(ModelError, match=r"the adapters do not fit DnaBert2Model: .*lora_A"):
        load(tmp_path / "lora")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ModelError, match="not a safetensors file, or cut short"):
        load(tmp_path / "lora")
    path.unlink()
    with pytest.raises(ModelError, match=r"no adapter_model\.safetensors"):
        load(tmp_path / "lora")


def test_on_the_command_line(bases, tmp_path):
    save(adapted(bases["dnabert2"], "base"), tmp_path / "lora")
    fasta = make_fasta(tmp_path, {"c": dna(3000, 1)})

    def run(*words, status=0):
        found = CliRunner().invoke(cli, [*map(str, words)])
        assert found.exit_code == status, found.output
        return found

    told = run("models", "show", tmp_path / "lora").output
    assert "LoRA, r 4, alpha 8, on Wqkv" in told
    assert str(bases["dnabert2"]) in told
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
    assert "is not empty; give --force" in str(found.exception)
