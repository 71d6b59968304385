"""Transformer layers in int8: the arithmetic, agreement with float32, and models and devices that cannot use it."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from inference_models import CPU, compact_checkpoint, transformer_checkpoint

from zflipon.errors import MissingExtraError, ModelError
from zflipon.inference.devices import resolve_precision
from zflipon.inference.int8 import RoundedLinear
from zflipon.inference.predictor import Predictor

INT8 = replace(CPU, precision="int8")


def rounded_in_integers(layer, x, lowest, highest):
    """Return the output of a layer whose inputs and weights are integers of 8 bits, in numpy."""
    step = (highest - lowest) / 255
    zero = -128 - round(lowest / step)
    inputs = np.clip(np.rint(x / step) + zero, -128, 127) - zero
    weight = layer.weight.detach().numpy()
    steps = np.abs(weight).max(axis=1, keepdims=True) / 127
    products = inputs.astype(int) @ np.rint(weight / steps).astype(int).T
    return products * step * steps.T + layer.bias.detach().numpy()


def test_a_rounded_layer_multiplies_integers():
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(12, 5), 3 * torch.randn(7, 12)
    lowest, highest = -4.0, 6.0  # some inputs are outside
    assert x.min() < lowest
    expected = rounded_in_integers(layer, x.numpy().astype(float), lowest, highest)
    actual = RoundedLinear(layer, lowest, highest)(x).detach().numpy()
    np.testing.assert_allclose(actual, expected, atol=1e-4)
    assert np.abs(actual - layer(x).detach().numpy()).max() > 0.01


@pytest.mark.parametrize(("lowest", "highest"), [(0.0, 0.0), (1.0, 2.0), (-2.0, -1.0)])
def test_a_range_includes_0_which_stays_exact(lowest, highest):
    layer = torch.nn.Linear(3, 2)
    torch.nn.init.zeros_(layer.weight)
    rounded = RoundedLinear(layer, lowest, highest)
    assert torch.equal(rounded(torch.zeros(4, 3)), layer.bias.expand(4, 2))
    assert rounded(torch.full((1, 3), 1.5)).isfinite().all()


def test_int8_is_for_cpus():
    with pytest.raises(ModelError, match="precision 'int8' is for CPUs, and the device is cuda:1"):
        resolve_precision("int8", torch.device("cuda:1"))
    assert resolve_precision("int8", torch.device("cpu")) == torch.int8


def test_without_openvino_the_message_says_how_to_install_it(tokenizer, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"needs openvino.*pip install 'zflipon\[int8\]'"):
        Predictor(transformer_checkpoint(tokenizer, "dnabert2"), INT8)
    # installing it would not help other models
    with pytest.raises(ModelError, match="precision 'int8' is for models with transformer layers"):
        Predictor(compact_checkpoint(tokenizer, "token"), INT8)


def test_what_openvino_computes():
    """They run in another process, because other tests fork, limit memory and send signals."""
    pytest.importorskip("openvino")
    cases = Path(__file__).with_name("openvino_cases.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", str(cases), "-p", "no:cacheprovider"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
