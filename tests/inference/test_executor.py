"""Execution of batches: lack of memory, CUDA streams, invalid values and the precision of the encoder."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from inference_models import (
    CPU,
    compact_checkpoint,
    generator,
    mixed_sequences,
    predict,
    random_dna,
    transformer_checkpoint,
)

from zflipon.config import InferenceConfig
from zflipon.errors import ModelError, NotANumberError, ZfliponError
from zflipon.inference.batching import Batcher
from zflipon.inference.devices import DEVICE_PROFILES
from zflipon.inference.executor import Executor
from zflipon.inference.predictor import Predictor
from zflipon.inference.settings import InferenceSettings

CUBLAS = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"


@pytest.fixture
def base_checkpoint(tokenizer):
    return compact_checkpoint(tokenizer, "base")


class LimitedMemory(torch.nn.Module):
    """A model that fits `most` rows into memory, and returns the first token of each row as its logit."""

    def __init__(self, most, error):
        super().__init__()
        self.most, self.error, self.sizes = most, error, []

    def forward(self, input_ids, core=None, **_inputs):
        self.sizes.append(len(input_ids))
        if len(input_ids) > self.most:
            raise self.error
        return SimpleNamespace(logits=input_ids[:, :1].float())


def run(module, batches):
    executor = Executor(module, InferenceSettings(torch.device("cpu"), torch.float32, threads=1), 256)
    return [executor.gather(executor.submit(batch)) for batch in batches]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("out of memory"), RuntimeError(CUBLAS)])
def test_a_lack_of_memory_halves_this_batch_and_limits_later_ones(tokenizer, error):
    batcher = Batcher(tokenizer, torch.device("cpu"), with_bases=False, batch_size=8)
    batches = list(batcher.batches(["ACGT" * 20] * 24))
    module = LimitedMemory(3, error)
    outputs = run(module, batches)
    assert [len(output) for output in outputs] == [8, 8, 8]
    for batch, output in zip(batches, outputs, strict=True):
        assert output[:, 0].tolist() == batch.inputs["input_ids"][:, 0].tolist()
    # 8 and 4 rows fail once; later batches are split before they are tried
    assert module.sizes == [8, 4, 2, 2, 2, 2] + [2] * 8


def test_one_window_that_does_not_fit_is_an_error(tokenizer):
    (batch,) = Batcher(tokenizer, torch.device("cpu"), with_bases=False).batches(["ACGT"])
    with pytest.raises(ZfliponError, match="one window of 256 bases does not fit the memory of cpu"):
        run(LimitedMemory(0, torch.OutOfMemoryError("out of memory")), [batch])


def test_other_errors_are_raised_as_they_are(tokenizer):
    (batch,) = Batcher(tokenizer, torch.device("cpu"), with_bases=False).batches(["ACGT"] * 4)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        run(LimitedMemory(0, RuntimeError("shapes cannot be multiplied")), [batch])


def test_a_lack_of_memory_halves_the_chunks_of_upper_bounds(base_checkpoint, monkeypatch):
    predictor = Predictor(base_checkpoint, CPU)
    text = random_dna(generator(), 12_000)
    expected = predictor.probability_upper_bounds(text)
    compute, sizes, most = predictor.module.first_factor, [], 3000

    def limited(bases):
        sizes.append(bases.shape[1])
        if sizes[-1] > most:
            raise torch.OutOfMemoryError("out of memory")
        return compute(bases)

    monkeypatch.setattr(predictor.module, "first_factor", limited)
    np.testing.assert_allclose(predictor.probability_upper_bounds(text), expected, rtol=1e-5)
    assert max(sizes) == len(text)
    most = 10
    with pytest.raises(ZfliponError, match=f"one window of {predictor.metadata.window} bases does not fit"):
        predictor.probability_upper_bounds(text)


def test_upper_bounds_are_computed_in_float32_whatever_the_precision(base_checkpoint, monkeypatch):
    predictor = Predictor(base_checkpoint, InferenceConfig(device="cpu", precision="bfloat16"))
    compute, casts = predictor.module.first_factor, []

    def observed(bases):
        casts.append(torch.is_autocast_enabled("cpu"))
        return compute(bases)

    monkeypatch.setattr(predictor.module, "first_factor", observed)
    text = random_dna(generator(), 2000)
    bounds = predictor.probability_upper_bounds(text)
    assert casts == [False]
    np.testing.assert_array_equal(bounds, Predictor(base_checkpoint, CPU).probability_upper_bounds(text))


def test_the_event_is_recorded_on_the_stream_of_the_output_device(monkeypatch):
    """The current device may be cuda:0 while the model and its copy to the host run on cuda:1."""
    recorded = []

    class Event:
        def record(self, stream):
            recorded.append(stream)

    device = torch.device("cuda:1")
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    host = SimpleNamespace(copy_=lambda output, non_blocking: None)
    monkeypatch.setattr(torch, "empty", lambda *_shape, **_options: host)
    executor = object.__new__(Executor)
    executor._workers = None
    executor._forward = lambda *_: SimpleNamespace(device=device, shape=(1,), dtype=torch.float32)
    pending = executor.submit(
        SimpleNamespace(
            inputs={}, widths=np.array([4]), core=None, return_factors=False, return_product=False
        )
    )
    assert recorded == ["stream of cuda:1"]
    assert pending.output is host


@pytest.mark.parametrize("both_strands", [False, True])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_value_that_is_not_a_number_is_an_error(base_checkpoint, value, both_strands):
    with torch.no_grad():
        base_checkpoint.module.base_head.is_formed.bias.fill_(float(value))
    with pytest.raises(ModelError, match="not a number; check the weights with zflipon doctor"):
        predict(base_checkpoint, ["ACGT"], replace(CPU, both_strands=both_strands))
    with pytest.raises(NotANumberError, match="not a number; try --precision float32"):
        predict(base_checkpoint, ["ACGT"], replace(CPU, both_strands=both_strands, precision="bfloat16"))


def test_bfloat16_agrees_with_float32(base_checkpoint):
    sequences = mixed_sequences(generator())
    full = np.concatenate(predict(base_checkpoint, sequences))
    half = np.concatenate(predict(base_checkpoint, sequences, replace(CPU, precision="bfloat16")))
    assert 0 < np.abs(half - full).mean() < 0.01


@pytest.mark.parametrize("family", ["dnabert2", "gena", "modernbert"])
def test_bfloat16_of_large_families_agrees_with_float32(tokenizer, family):
    checkpoint = transformer_checkpoint(tokenizer, family)
    before = {name: tensor.clone() for name, tensor in checkpoint.module.state_dict().items()}
    sequences = mixed_sequences(generator())
    full, half = (
        np.concatenate(predict(checkpoint, sequences, replace(CPU, precision=precision)))
        for precision in ("float32", "bfloat16")
    )
    assert np.ptp(full) > 0.05
    assert 0 < np.abs(half - full).max() < 0.02
    is_clear = np.abs(full - 0.5) > 0.02
    assert ((full >= 0.5) == (half >= 0.5))[is_clear].all()
    for name, tensor in checkpoint.module.state_dict().items():  # the checkpoint's own weights are not cast
        assert tensor.dtype == before[name].dtype
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_number_of_threads_changes_no_bit_and_not_that_of_torch(base_checkpoint, precision):
    sequences, before = mixed_sequences(generator()), torch.get_num_threads()
    one, three = (
        np.concatenate(
            predict(
                base_checkpoint,
                sequences,
                InferenceConfig(batch_size=8, device="cpu", precision=precision, threads=threads),
            )
        )
        for threads in (1, 3)
    )
    np.testing.assert_array_equal(one, three)
    assert torch.get_num_threads() == before


def test_chunks_of_upper_bounds_change_nothing(base_checkpoint):
    text = random_dna(generator(), 3000)
    small = replace(DEVICE_PROFILES["cpu"], bases_per_first_factor=700)
    bounds = Predictor(base_checkpoint, CPU, profile=small).probability_upper_bounds(text)
    np.testing.assert_allclose(
        bounds, Predictor(base_checkpoint, CPU).probability_upper_bounds(text), atol=1e-6
    )
