"""Names of devices and precisions, and which errors mean a lack of memory."""

import pytest
import torch

from zflipon.config import InferenceConfig
from zflipon.errors import ModelError, ZfliponError
from zflipon.inference.devices import (
    PRECISIONS,
    is_out_of_memory,
    resolve_device,
    resolve_precision,
)
from zflipon.inference.settings import resolve_settings

CPU = torch.device("cpu")


def test_unknown_device_and_precision():
    with pytest.raises(ZfliponError, match="device 'warp' is not available"):
        resolve_device("warp")
    with pytest.raises(ModelError, match="precision 'float8' is unknown; expected auto, float32"):
        resolve_precision("float8", CPU)


@pytest.mark.parametrize(
    ("is_fast", "gains", "expected"),
    [(True, True, "bfloat16"), (True, False, "float32"), (False, True, "float32")],
)
def test_auto_is_bfloat16_for_a_model_that_gains_on_a_cpu_with_its_instructions(
    monkeypatch, is_fast, gains, expected
):
    for name in ("avx512_bf16", "amx_tile"):
        monkeypatch.setattr(f"torch.cpu._is_{name}_supported", lambda: is_fast, raising=False)
    assert resolve_precision("auto", CPU, gains) == PRECISIONS[expected]
    assert resolve_precision("float32", CPU, gains) == torch.float32


def test_auto_is_float32_if_torch_cannot_tell_the_instructions(monkeypatch):
    for name in ("avx512_bf16", "amx_tile"):
        monkeypatch.delattr(f"torch.cpu._is_{name}_supported", raising=False)
    assert resolve_precision("auto", CPU, gains=True) == torch.float32


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_errors_that_mean_a_lack_of_memory(error, expected):
    assert is_out_of_memory(error) == expected


def test_settings_are_resolved_once(tiny_checkpoint):
    from zflipon.models import load

    checkpoint = load(tiny_checkpoint)
    settings = resolve_settings(InferenceConfig(batch_size=3, device="cpu", threads=2), checkpoint)
    assert (settings.device, settings.dtype, settings.both_strands) == (CPU, torch.float32, False)
    assert settings.to_dict() == {
        "batch_size": 3,
        "precision": "float32",
        "device": "cpu",
        "threads": 2,
        "both_strands": False,
    }
    assert resolve_settings(InferenceConfig(device="cpu", both_strands=True), checkpoint).both_strands
