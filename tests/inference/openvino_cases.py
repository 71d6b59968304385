"""Tests that load OpenVINO; `test_int8.py` runs them in another process."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from inference_models import (
    CPU,
    TRANSFORMER_SHAPE,
    generator,
    mixed_sequences,
    predict,
    transformer_checkpoint,
)

from zflipon.cli import cli
from zflipon.config import LoraConfig
from zflipon.errors import ModelError, NotANumberError
from zflipon.inference.int8 import Int8Layers, RoundedLinear, find_layers, quantize_layers
from zflipon.inference.predictor import Predictor
from zflipon.models import create, save
from zflipon.models.adapters import attach
from zflipon.workflows import doctor

INT8 = replace(CPU, precision="int8")


@pytest.mark.parametrize("with_bias", [True, False])
def test_openvino_computes_layers_of_any_size_like_torch(with_bias):
    torch.manual_seed(1)

    class Layers(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = RoundedLinear(torch.nn.Linear(8, 16), -4, 4)
            self.second = RoundedLinear(torch.nn.Linear(16, 8), -8, 8)

        def forward(self, x, bias):
            return x + self.second(self.first(x).relu()) + bias.mean()

    layers = Layers()
    ours = Int8Layers(layers, torch.randn(2, 5, 8), torch.zeros(1, 1, 1, 5), threads=1)
    for sequences, tokens in ((2, 5), (7, 3), (1, 1), (4, 40)):
        x = torch.randn(sequences, tokens, 8)
        bias = torch.randn(sequences, 1, 1, tokens) if with_bias else None
        with torch.no_grad():
            expected = layers(x, torch.zeros(1) if bias is None else bias)
        assert (ours(x, bias) - expected).abs().max() < 0.05  # the rest may be in bfloat16


@pytest.mark.parametrize("family", ["dnabert2", "gena", "dnabert"])
def test_int8_agrees_with_float32_and_leaves_the_checkpoint_alone(tokenizer, family):
    checkpoint, sequences = transformer_checkpoint(tokenizer, family), mixed_sequences(generator())
    full = np.concatenate(predict(checkpoint, sequences))
    small = np.concatenate(predict(checkpoint, sequences, INT8))
    assert np.ptp(full) > 0.05
    assert 0 < np.abs(small - full).max() < 0.06
    assert np.corrcoef(small, full)[0, 1] > 0.98
    np.testing.assert_array_equal(np.concatenate(predict(checkpoint, sequences)), full)


def test_low_rank_adapters_are_part_of_int8_layers(tokenizer):
    checkpoint, sequences = transformer_checkpoint(tokenizer, "dnabert2"), mixed_sequences(generator())
    before = np.concatenate(predict(checkpoint, sequences))
    attach(checkpoint.module, LoraConfig(r=4, alpha=8, dropout=0.0), ["Wqkv"])
    with torch.no_grad():
        for name, parameter in checkpoint.module.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
    full, small = (np.concatenate(predict(checkpoint, sequences, config)) for config in (CPU, INT8))
    assert np.abs(full - before).max() > 0.06
    assert 0 < np.abs(small - full).max() < 0.06


def test_int8_does_not_depend_on_batches_and_threads(tokenizer):
    checkpoint, sequences = transformer_checkpoint(tokenizer, "dnabert2"), mixed_sequences(generator())
    one, other = (
        np.concatenate(predict(checkpoint, sequences, replace(INT8, batch_size=size, threads=threads)))
        for size, threads in ((1, 1), (16, 2))
    )
    assert np.abs(one - other).max() < 0.01  # other sizes may be summed in another order
    again = np.concatenate(predict(checkpoint, sequences, replace(INT8, batch_size=16, threads=1)))
    np.testing.assert_array_equal(again, other)


def test_a_base_head_reads_the_states_of_int8_layers(tokenizer):
    checkpoint = transformer_checkpoint(tokenizer, "dnabert2", "base")
    sequences = mixed_sequences(generator())[:9]
    full, small = (np.concatenate(predict(checkpoint, sequences, config)) for config in (CPU, INT8))
    assert 0 < np.abs(small - full).max() < 0.1


def test_weights_and_other_parts_are_shared(tokenizer):
    module = transformer_checkpoint(tokenizer, "gena").module.eval()
    predictor = Predictor(transformer_checkpoint(tokenizer, "gena"), INT8)
    batch = next(iter(predictor.batches(["ACGT" * 20])))
    small = quantize_layers(module, [batch.inputs], threads=1)
    assert isinstance(find_layers(small), Int8Layers)
    assert isinstance(find_layers(module), torch.nn.Module)
    assert not isinstance(find_layers(module), Int8Layers)
    assert small.classifier.weight is module.classifier.weight
    assert not any(module._forward_pre_hooks for module in module.modules())


@pytest.mark.parametrize("family", ["compact", "modernbert"])
def test_a_model_without_replaceable_layers_is_refused(tokenizer, family):
    own = {"base_head": {"channels": 8}} if family == "compact" else {}
    checkpoint = create(family, "base", tokenizer, **TRANSFORMER_SHAPE, **own)
    with pytest.raises(ModelError, match=r"precision 'int8' is for .* use float32 or bfloat16"):
        Predictor(checkpoint, INT8)


def test_damaged_weights_are_reported_by_int8_too(tokenizer):
    checkpoint = transformer_checkpoint(tokenizer, "dnabert2")
    with torch.no_grad():
        checkpoint.module.bert.embeddings.LayerNorm.weight[0] = torch.nan
    with pytest.raises(NotANumberError, match="not a number; check the weights with zflipon doctor"):
        Predictor(checkpoint, INT8)


def test_annotate_refuses_int8_for_compact_in_one_line(tmp_path):
    (tmp_path / "a.fa").write_text(">chr1\n" + "ACGT" * 500 + "\n")
    output = tmp_path / "a.bw"
    arguments = [
        "annotate",
        str(tmp_path / "a.fa"),
        "-o",
        str(output),
        "--precision",
        "int8",
        "--device",
        "cpu",
    ]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 1
    assert isinstance(result.exception, ModelError)
    assert "\n" not in str(result.exception)
    assert not output.exists()


def test_openvino_does_not_report_its_use():
    code = (
        "import sys\n"
        "from zflipon.inference.int8 import import_openvino\n"
        "import_openvino()\n"
        "print([name for name, module in sys.modules.items() if 'telemetry' in name and module is not None])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "'openvino_telemetry" not in output


def test_doctor_tries_int8_for_transformers_if_openvino_is_installed(monkeypatch, tmp_path, tokenizer):
    monkeypatch.setattr(doctor, "MIN_SECONDS", 0.0)
    folder = tmp_path / "transformer"
    save(transformer_checkpoint(tokenizer, "dnabert2"), folder)
    trial = doctor.check_model(str(folder), threads=1).trials[-1]
    assert (trial.device, trial.precision, trial.default) == ("cpu", "int8", False)
    assert 0 < trial.difference < 0.06
    assert trial.speed > 0
    monkeypatch.setattr(doctor, "has_openvino", lambda: False)
    report = doctor.check_model(str(folder), threads=1)
    assert [trial.precision for trial in report.trials] == ["float32", "bfloat16"]
