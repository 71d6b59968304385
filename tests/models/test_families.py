"""Families compared with stored reference logits and with transformers, and under training tools."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import BertConfig, ModernBertConfig, Trainer, TrainingArguments

from zflipon.errors import ModelError
from zflipon.genome.alphabet import PADDING_BASE
from zflipon.models import family_names, get_family, load_module
from zflipon.models.families.dnabert2 import linear_bias, slopes
from zflipon.models.metadata import OBJECTIVES
from zflipon.tokenization.alignment import IGNORE

LANGUAGES = [name for name in family_names() if get_family(name).reads_tokens]

GOLDEN = sorted(path for path in (Path(__file__).parents[1] / "data" / "golden").iterdir() if path.is_dir())

SHAPE = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 32,
    "vocab_size": 69,
    "pad_token_id": 3,
    "initializer_range": 0.3,
}
"""Three attention heads, which is not a power of two."""

OWN = {
    "compact": {"num_attention_heads": 2},
    "modernbert": {
        "local_attention": 8,
        "eos_token_id": 2,
        "bos_token_id": 1,
        "cls_token_id": 1,
        "sep_token_id": 2,
    },
}


def tiny(name: str, objective: str, **settings):
    torch.manual_seed(0)
    kind = get_family(name)
    shape = {**SHAPE, **OWN.get(name, {}), "base_head": {"channels": 8, "kernel": 3, "dilations": [1, 2]}}
    return kind.model(kind.config(objective=objective, **{**shape, **settings})).eval()


def batch(lengths: list[int], seed: int = 0) -> dict[str, torch.Tensor]:
    """Token ids of these lengths and three bases a token, padded."""
    rng = torch.Generator().manual_seed(seed)
    longest = max(lengths)
    mask = (torch.arange(longest) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(5, 69, (len(lengths), longest), generator=rng) * mask + 3 * (1 - mask)
    base_mask = mask.repeat_interleave(3, dim=1)
    bases = torch.randint(0, 4, base_mask.shape, generator=rng)
    bases = bases * base_mask + PADDING_BASE * (1 - base_mask)
    base_tokens = torch.arange(longest).repeat_interleave(3).expand(len(lengths), -1) * base_mask
    return {"input_ids": ids, "attention_mask": mask, "base_tokens": base_tokens, "bases": bases}


def logits(module, **inputs) -> torch.Tensor:
    with torch.no_grad():
        return module(**inputs).logits


@pytest.mark.parametrize("folder", GOLDEN, ids=lambda path: path.name)
def test_golden_logits(folder):
    objective = folder.name.split("-")[1]
    stored = np.load(folder / "expected.npz")
    mask = torch.from_numpy(stored["attention_mask"])
    module = load_module(folder, objective)
    assert not module.training
    actual = logits(module, input_ids=torch.from_numpy(stored["input_ids"]), attention_mask=mask)
    assert actual.shape == stored["logits"].shape
    tokens = slice(None) if objective == "sequence" else mask.bool()
    np.testing.assert_allclose(actual[tokens], torch.from_numpy(stored["logits"])[tokens], atol=1e-4, rtol=0)


def test_all_golden_folders_exist():
    assert len(GOLDEN) == 7


BERT = BertConfig(
    vocab_size=69,
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=48,
    max_position_embeddings=64,
)


def modern(pooling: str) -> ModernBertConfig:
    shape = {**SHAPE, **OWN["modernbert"], "num_hidden_layers": 4}
    return ModernBertConfig(**shape, classifier_pooling=pooling)


@pytest.mark.parametrize(
    ("reference", "config", "objective"),
    [
        ("BertForTokenClassification", BERT, "token"),
        ("BertForSequenceClassification", BERT, "sequence"),
        ("BertForMaskedLM", BERT, "mlm"),
        ("BertForPreTraining", BERT, "mlm"),
        ("ModernBertForTokenClassification", modern("cls"), "token"),
        ("ModernBertForSequenceClassification", modern("cls"), "sequence"),
        ("ModernBertForSequenceClassification", modern("mean"), "sequence"),
        ("ModernBertForMaskedLM", modern("cls"), "mlm"),
    ],
)
def test_same_logits_as_transformers(reference, config, objective, tmp_path):
    torch.manual_seed(1)
    theirs = getattr(transformers, reference)(config).eval()
    for parameter in theirs.parameters():
        parameter.data.normal_(0, 0.3)
    theirs.save_pretrained(tmp_path)
    inputs = {name: batch([40, 25, 7])[name] for name in ("input_ids", "attention_mask")}
    actual = logits(load_module(tmp_path, objective), **inputs)
    with torch.no_grad():
        output = theirs(**inputs)
    expected = output.prediction_logits if reference == "BertForPreTraining" else output.logits
    tokens = slice(None) if objective == "sequence" else inputs["attention_mask"].bool()
    assert expected[tokens].std() > 0.1
    torch.testing.assert_close(actual[tokens], expected[tokens], atol=1e-5, rtol=0)


def test_gena_without_pre_layer_norm_is_plain_bert(tmp_path):
    theirs = transformers.BertForTokenClassification(BERT).eval()
    theirs.save_pretrained(tmp_path)
    config = (tmp_path / "config.json").read_text().replace("{", '{"pre_layer_norm": false,', 1)
    (tmp_path / "config.json").write_text(config)
    module = load_module(tmp_path, "token")
    assert type(module).__name__ == "GenaModel"
    inputs = {name: batch([30, 9])[name] for name in ("input_ids", "attention_mask")}
    tokens = inputs["attention_mask"].bool()
    with torch.no_grad():
        expected = theirs(**inputs).logits
    torch.testing.assert_close(logits(module, **inputs)[tokens], expected[tokens], atol=1e-5, rtol=0)


def test_alibi_slopes_for_twelve_heads():
    eight = [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]
    four_of_sixteen = [2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5]
    assert slopes(12) == pytest.approx(eight + four_of_sixteen, rel=1e-12)
    assert slopes(8) == pytest.approx(eight, rel=1e-12)
    assert slopes(1) == [2**-8]


@pytest.mark.parametrize("heads", range(1, 33))
def test_alibi_slopes_by_the_published_recursion(heads):
    def power_of_two(n):
        start = 2 ** (-(2 ** -(math.log2(n) - 3)))
        return [start * start**i for i in range(n)]

    def published(n):
        if math.log2(n).is_integer():
            return power_of_two(n)
        closest = 2 ** math.floor(math.log2(n))
        return power_of_two(closest) + published(2 * closest)[0::2][: n - closest]

    assert slopes(heads) == pytest.approx(published(heads), rel=1e-12)


def test_linear_bias_is_symmetric_distance():
    bias = linear_bias(2, 4)
    assert bias.shape == (2, 4, 4)
    assert bias[0].tolist() == [[-abs(i - j) / 16 for j in range(4)] for i in range(4)]
    assert torch.equal(bias[1], bias[0] / 16)


def test_dnabert2_reads_more_tokens_than_its_starting_size():
    module = tiny("dnabert2", "token", alibi_starting_size=16)
    long = batch([100])
    actual = logits(module, input_ids=long["input_ids"])
    # biases are cached for the longest input, and cut for shorter ones
    short = logits(module, input_ids=long["input_ids"][:, :30])
    again = logits(tiny("dnabert2", "token"), input_ids=long["input_ids"][:, :30])
    assert actual.shape == (1, 100, 2)
    torch.testing.assert_close(short, again)
    torch.testing.assert_close(actual, logits(tiny("dnabert2", "token"), input_ids=long["input_ids"]))


def test_dnabert2_trains_after_predicting_in_inference_mode():
    module = tiny("dnabert2", "token").train()
    ids = batch([12, 12])["input_ids"]
    with torch.inference_mode():
        module(input_ids=ids)
    # without a mask the cached biases are part of the graph; inference tensors would be refused there
    assert not module.bert.attention_bias(torch.zeros(1, 12, 24), None).is_inference()
    module(input_ids=ids).logits.sum().backward()
    assert module.bert.encoder.layer[0].attention.self.Wqkv.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["gena", "dnabert"])
def test_too_many_tokens_for_the_positions(name):
    module = tiny(name, "token", max_position_embeddings=16)
    assert logits(module, input_ids=torch.full((1, 16), 5)).shape == (1, 16, 2)
    with pytest.raises(ModelError, match=r"17 tokens.*16 positions.*smaller window"):
        module(input_ids=torch.full((1, 17), 5))


def test_the_number_of_heads_divides_the_width():
    with pytest.raises(ModelError, match=r"hidden_size 24 is not a multiple of num_attention_heads 5"):
        tiny("dnabert2", "token", num_attention_heads=5)


def test_objective_must_be_known():
    with pytest.raises(ModelError, match=r"no objective 'tokens'; expected 'token' or 'base'"):
        tiny("gena", "tokens")


@pytest.mark.parametrize("name", LANGUAGES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_padding_changes_nothing(name, objective):
    module = tiny(name, objective)
    lengths = [31, 9, 2]
    inputs = batch(lengths)
    if objective != "base":
        inputs = {key: inputs[key] for key in ("input_ids", "attention_mask")}
    together = logits(module, **inputs)
    for row, length in enumerate(lengths):
        cut = {key: value[row : row + 1] for key, value in inputs.items()}
        size = {"token": length, "mlm": length, "base": 3 * length}.get(objective)
        for key in cut:
            cut[key] = cut[key][:, : 3 * length if key in ("base_tokens", "bases") else length]
        alone = logits(module, **{key: value for key, value in cut.items() if key != "attention_mask"})
        torch.testing.assert_close(together[row][:size], alone[0], atol=2e-5, rtol=1e-5)
    assert together[0].std() > 0


@pytest.mark.parametrize("name", LANGUAGES)
def test_a_row_of_padding_is_finite(name):
    inputs = batch([12, 7])
    inputs["attention_mask"][1] = 0
    actual = logits(
        tiny(name, "token"), input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]
    )
    assert torch.isfinite(actual).all()


@pytest.mark.parametrize("name", LANGUAGES)
def test_bfloat16_is_close(name):
    module = tiny(name, "token", initializer_range=0.05)
    inputs = {key: batch([40, 25])[key] for key in ("input_ids", "attention_mask")}
    tokens = inputs["attention_mask"].bool()
    expected = logits(module, **inputs)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = logits(module, **inputs)
    narrow = logits(module.to(torch.bfloat16), **inputs)
    assert mixed.dtype == narrow.dtype == torch.float32
    torch.testing.assert_close(mixed[tokens], expected[tokens], atol=0.05, rtol=0.05)
    torch.testing.assert_close(narrow[tokens], expected[tokens], atol=0.05, rtol=0.05)


@pytest.mark.parametrize("name", LANGUAGES)
def test_the_base_head_in_bfloat16_is_close(name):
    module = tiny(name, "base", initializer_range=0.05)
    inputs = batch([40, 25])
    expected = logits(module, **inputs)
    narrow = logits(module.to(torch.bfloat16), **inputs)
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow, expected, atol=0.1, rtol=0.05)


@pytest.mark.parametrize("name", LANGUAGES)
def test_embeddings_instead_of_ids(name):
    module = tiny(name, "token")
    ids = batch([20])["input_ids"]
    embedded = module.get_input_embeddings()(ids)
    torch.testing.assert_close(logits(module, inputs_embeds=embedded), logits(module, input_ids=ids))


@pytest.mark.parametrize("name", [name for name in LANGUAGES if name != "compact"])
def test_masked_lm_decoder_is_the_embedding_table(name):
    module = tiny(name, "mlm")
    (decoder,) = (key for key in module.all_tied_weights_keys if key.endswith("decoder.weight"))
    assert module.get_parameter(decoder) is module.get_input_embeddings().weight


@pytest.mark.parametrize("name", LANGUAGES)
def test_recomputed_activations_give_the_same_gradients(name):
    inputs = batch([20, 12])
    labels = inputs["attention_mask"].clone()
    gradients = []
    for recomputed in (False, True):
        module = tiny(name, "token").train()
        for each in module.modules():
            if isinstance(each, torch.nn.Dropout):
                each.p = 0.0
        if recomputed:
            module.enable_activation_recomputation()
        layers = next(
            each
            for each in module.base_model.modules()
            if isinstance(each, torch.nn.ModuleList) and len(each)
        )
        runs, linear = [], next(each for each in layers[0].modules() if isinstance(each, torch.nn.Linear))
        linear.register_forward_pre_hook(lambda *_, runs=runs: runs.append(1))
        module(**inputs, labels=labels).loss.backward()
        assert len(runs) == 1 + recomputed
        gradients.append([each.grad for each in module.parameters() if each.grad is not None])
    plain, again = gradients
    assert len(plain) == len(again) > 5
    for one, other in zip(plain, again, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", LANGUAGES)
def test_lora_trains_only_adapters_and_head(name):
    config = LoraConfig(
        r=2, target_modules=list(get_family(name).lora_targets), task_type="TOKEN_CLS", bias="none"
    )
    module = get_peft_model(tiny(name, "token"), config)
    trainable = {key for key, value in module.named_parameters() if value.requires_grad}
    assert any("lora_A" in key for key in trainable)
    assert all("lora_" in key or "classifier" in key for key in trainable)
    inputs = {key: batch([14, 9])[key] for key in ("input_ids", "attention_mask")}
    labels = torch.where(inputs["attention_mask"] == 1, inputs["input_ids"] % 2, IGNORE)
    module(**inputs, labels=labels).loss.backward()
    gradients = {key: value.grad for key, value in module.named_parameters() if value.requires_grad}
    assert all(gradient is not None for gradient in gradients.values())
    assert sum(gradient.abs().sum() for key, gradient in gradients.items() if "lora_B" in key) > 0


@pytest.mark.parametrize("name", LANGUAGES)
def test_trainer_lowers_the_loss(name, tmp_path):
    module = tiny(name, "token", class_weights=[1.0, 2.0], initializer_range=0.05)
    ids = batch([16] * 8)["input_ids"]
    data = [{"input_ids": row, "labels": row % 2} for row in ids]
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=4,
        per_device_train_batch_size=8,
        learning_rate=1e-2,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        save_strategy="no",
        logging_steps=1,
    )
    trainer = Trainer(model=module, args=arguments, train_dataset=data)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 4
    assert losses[-1] < losses[0]


def test_class_weights_count_in_the_loss():
    module = tiny("gena", "token", class_weights=[1.0, 8.0])
    inputs = batch([10])
    labels = inputs["input_ids"] % 2
    labels[0, 0] = IGNORE
    output = module(input_ids=inputs["input_ids"], labels=labels)
    known = labels[0] != IGNORE
    log_p = output.logits[0][known].log_softmax(-1)
    weight = torch.where(labels[0][known] == 1, 8.0, 1.0)
    picked = log_p[torch.arange(len(log_p)), labels[0][known]]
    torch.testing.assert_close(output.loss, -(weight * picked).sum() / weight.sum())


def test_unknown_family_is_named():
    with pytest.raises(ModelError, match=r"unknown model family 'dnabert3'.*did you mean 'dnabert"):
        get_family("dnabert3")
