"""Loading weights: earlier parameter names, missing heads, buffers, and the methods of transformers."""

from types import SimpleNamespace

import pytest
import torch
from conftest import dna
from test_heads import codes
from transformers import AutoModel

from zflipon.models import create, family_names, get_family, load, register_auto_classes
from zflipon.models.files import BUNDLED
from zflipon.models.weights import build_empty, current_name, load_weights
from zflipon.tokenization.tokenizers import BaseTokenizer

SHAPE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.mark.parametrize(
    ("earlier", "current"),
    [
        ("base_head.forms.weight", "base_head.can_form.weight"),
        ("base_head.flips.bias", "base_head.is_formed.bias"),
        ("base_head.word_odds", "base_head.kmers.log_odds"),
        ("base_head.motifs.weight", "base_head.context.motifs.weight"),
        ("base_head.context_norms.2.bias", "base_head.context.norms.2.bias"),
        ("base_head.context_convolutions.0.weight", "base_head.context.convolutions.0.weight"),
        ("base_head.context_norm.weight", "base_head.context.output_norm.weight"),
        ("decide.weight", "output.weight"),
        ("base_head.flips", "base_head.is_formed"),  # prefixes, as recipes freeze them
        ("base_head.motifs", "base_head.context.motifs"),
    ],
)
def test_earlier_parameter_names_are_renamed(earlier, current):
    assert current_name(earlier) == current
    assert current_name(current) == current


@pytest.mark.parametrize(
    "name", ["base_head", "base_head.entry", "encoder.layers.0.qkv.weight", "output.weight"]
)
def test_other_names_stay(name):
    assert current_name(name) == name


def tiny(family, objective):
    """Return model class and config of a small model."""
    kind = get_family(family)
    shape = SHAPE if kind.reads_tokens else {"hidden_size": 8, "num_hidden_layers": 1}
    shape = {} if not kind.trainable else shape
    return kind.model, kind.config(objective=objective, vocab_size=69, pad_token_id=3, **shape)


def logits(module):
    sequence = codes(dna(64))
    tokens = torch.arange(64)[None] % 60
    with torch.no_grad():
        return module.eval()(input_ids=tokens, bases=sequence, base_tokens=torch.arange(64)[None]).logits


CASES = [
    (family, objective)
    for family in family_names()
    for objective in (("token", "base", "sequence", "mlm") if get_family(family).reads_tokens else ("base",))
]


@pytest.mark.parametrize(("family", "objective"), CASES)
def test_weights_loaded_on_the_meta_device_give_the_same_logits(family, objective):
    model_class, config = tiny(family, objective)
    torch.manual_seed(1)
    module = model_class(config)
    tensors = {
        name: tensor
        for name, tensor in module.state_dict().items()
        if name not in module.all_tied_weights_keys
    }
    empty = build_empty(model_class, config)
    assert all(parameter.is_meta for parameter in empty.parameters())
    load_weights(empty, tensors)
    assert not any(tensor.is_meta for tensor in [*empty.parameters(), *empty.buffers()])
    assert torch.equal(logits(empty), logits(module))
    name = next(iter(tensors))
    assert empty.get_parameter(name).data_ptr() == tensors[name].data_ptr()
    for target, source in module.all_tied_weights_keys.items():
        assert empty.get_parameter(target) is empty.get_parameter(source)


@pytest.mark.parametrize(("family", "objective"), CASES)
def test_a_missing_head_starts_from_random_weights(family, objective):
    if not get_family(family).reads_tokens:
        pytest.skip("the whole network is its head")
    model_class, config = tiny(family, objective)
    module = model_class(config)
    prefix = module.base_model_prefix + "."
    tensors = {name: tensor for name, tensor in module.state_dict().items() if name.startswith(prefix)}
    loaded = []
    for _ in range(2):
        torch.manual_seed(5)
        empty = build_empty(model_class, config)
        load_weights(empty, tensors)
        assert all(torch.equal(empty.state_dict()[name], tensor) for name, tensor in tensors.items())
        loaded.append(logits(empty))
    assert torch.isfinite(loaded[0]).all()
    assert torch.equal(*loaded)


def test_random_weights_have_the_spread_of_the_config(tokenizer):
    torch.manual_seed(0)
    module = create("compact", "token", tokenizer, initializer_range=0.5, **SHAPE).module
    assert module.encoder.embeddings.weight.std().item() == pytest.approx(0.5, rel=0.1)
    assert not module.encoder.embeddings.weight[tokenizer.pad_id].any()
    assert not module.classifier.bias.any()
    assert torch.equal(module.encoder.norm.weight, torch.ones(16))


def test_from_pretrained_and_save_pretrained_keep_the_logits(tmp_path):
    folder = BUNDLED / "compact"
    module = load("compact").module
    opened = get_family("compact").model.from_pretrained(folder)
    assert torch.equal(logits(opened), logits(module))
    opened.save_pretrained(tmp_path)
    again = type(opened).from_pretrained(tmp_path)
    assert torch.equal(logits(again), logits(module))
    assert "base_head.is_formed.weight" in again.state_dict()


def test_networks_over_nucleotides_rebuild_their_letters(tmp_path):
    module = create("deepz", "base", BaseTokenizer(), variant="cnn", hidden_size=8).module
    module.save_pretrained(tmp_path)
    again = type(module).from_pretrained(tmp_path)
    assert torch.equal(again.letters.weight, module.letters.weight)
    assert torch.equal(logits(again), logits(module))


def test_automodel_opens_the_bundled_models():
    register_auto_classes()
    for name in ("compact", "compact-omics", "zhunt"):
        module = AutoModel.from_pretrained(BUNDLED / name)
        assert torch.equal(logits(module), logits(load(name).module))


def test_push_to_hub_uploads_config_and_weights(monkeypatch):
    uploaded = {}

    def upload(_self, folder, *_arguments, **_named):
        uploaded.update({path.name: path.stat().st_size for path in type(BUNDLED)(folder).iterdir()})

    model_class = get_family("compact").model
    monkeypatch.setattr(model_class, "_upload_modified_files", upload)
    monkeypatch.setattr(
        "huggingface_hub.HfApi.create_repo", lambda _self, repo_id, **_: SimpleNamespace(repo_id=repo_id)
    )
    load("compact").module.push_to_hub("someone/compact", token="none")
    assert set(uploaded) >= {"config.json", "model.safetensors"}
