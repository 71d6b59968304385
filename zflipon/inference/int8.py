"""The transformer layers of a model in int8, by OpenVINO, for CPUs with instructions for it (VNNI or AMX).

Each linear layer multiplies integers of 8 bits. Its weights have one scale per output, and its inputs have one scale
and offset, chosen by the range of the inputs in calibration sequences (Jacob et al. 2018). Everything else stays float.
"""

from __future__ import annotations

import copy
import math
import sys
import warnings
from collections import deque
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zflipon.errors import MissingExtraError, ModelError, NotANumberError
from zflipon.inference.executor import NOT_A_NUMBER

if TYPE_CHECKING:
    from zflipon.models.base import DnaModel

_LOWEST, _HIGHEST = -128, 127
"""Range of an integer of 8 bits; weights use the symmetric part of it."""


class Int8Layers(nn.Module):
    """Transformer layers that OpenVINO computes in int8.

    Parameters
    ----------
    layers : nn.Module
        Maps states and an attention bias to states. Its linear layers are `RoundedLinear`.
    states, bias : Tensor
        Example inputs: float32, shapes (batch, tokens, hidden) and (batch or 1, heads or 1, tokens or 1, tokens).
    threads : int
        Number of threads that call it, each on one core.
    """

    def __init__(self, layers: nn.Module, states: Tensor, bias: Tensor, threads: int):
        super().__init__()
        self._compiled = _compile(layers, states, bias, threads)
        self._idle: deque[Any] = deque()

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Map (batch, tokens, hidden) to the same shape, in float32; `bias` is added to the attention scores."""
        try:
            request = self._idle.pop()
        except IndexError:  # a request holds the memory of one call; each thread needs one
            request = self._compiled.create_infer_request()
        result = request.infer([x.numpy(), no_bias(x).numpy() if bias is None else bias.numpy()])
        self._idle.append(request)
        return torch.from_numpy(result[0])


class RoundedLinear(nn.Linear):
    """A linear layer whose weights and inputs are rounded to 256 steps, which OpenVINO turns into integers.

    Parameters
    ----------
    layer : nn.Linear
        Its weights are shared.
    lowest, highest : float
        Range of the inputs. It is extended to include 0; inputs outside of it are clipped.
    """

    steps: Tensor
    zeros: Tensor

    def __init__(self, layer: nn.Linear, lowest: float, highest: float):
        super().__init__(layer.in_features, layer.out_features, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        lowest, highest = min(lowest, 0.0), max(highest, 0.0)
        self.step = (highest - lowest) / (_HIGHEST - _LOWEST) or 1.0
        self.zero = _LOWEST - round(lowest / self.step)
        steps = layer.weight.detach().abs().amax(1) / _HIGHEST
        self.register_buffer("steps", steps.clamp(min=torch.finfo(steps.dtype).tiny))
        self.register_buffer("zeros", torch.zeros(len(steps), dtype=torch.int32))

    def forward(self, input: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs)."""
        x = torch.fake_quantize_per_tensor_affine(input, self.step, self.zero, _LOWEST, _HIGHEST)
        weight = torch.fake_quantize_per_channel_affine(
            self.weight, self.steps, self.zeros, 0, -_HIGHEST, _HIGHEST
        )
        return nn.functional.linear(x, weight, self.bias)


def quantize_layers(module: DnaModel, batches: Iterable[Mapping[str, Tensor]], threads: int) -> DnaModel:
    """Return a copy of a model whose transformer layers compute in int8; everything else is shared.

    Parameters
    ----------
    module : DnaModel
        In float32 on a CPU; set to evaluation mode.
    batches : iterable of dict
        Inputs of the encoder for calibration: ``input_ids`` and, with padding, ``attention_mask``.
    threads : int
        Number of threads that will call the model.

    Raises
    ------
    ModelError
        If the model has no transformer layers that can be replaced.
    NotANumberError
        If the layers compute NaN or an infinite value.
    MissingExtraError
        If OpenVINO is not installed.
    """
    layers = find_layers(module)
    if layers is None:
        raise ModelError(
            f"precision 'int8' is for models with transformer layers such as DNABERT-2's, and {type(module).__name__} "
            "has none; use float32 or bfloat16"
        )
    import_openvino()
    with torch.inference_mode():
        ranges, (states, bias) = _observe(module.eval(), layers, batches)
    rounded = _round(copy.deepcopy(layers, _shared(layers)), ranges)
    compiled = Int8Layers(rounded, states, no_bias(states) if bias is None else bias, threads)
    return copy.deepcopy(module, {**_shared(module), id(layers): compiled})


def find_layers(module: DnaModel) -> nn.Module | None:
    """Return the transformer layers of a model's encoder; None if it has none that can be replaced."""
    return getattr(module.base_model, "replaceable_layers", None)


def no_bias(states: Tensor) -> Tensor:
    """Return an attention bias of 0 for states (batch, tokens, hidden): shape (1, 1, 1, tokens)."""
    return states.new_zeros(1, 1, 1, states.shape[1])


def has_openvino() -> bool:
    """Return whether OpenVINO is installed."""
    return find_spec("openvino") is not None


def import_openvino() -> ModuleType:
    """Import OpenVINO, and keep it from reporting its use to its makers.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # pyright: ignore[reportArgumentType]: an import of it fails
    try:
        import openvino
    except ImportError:
        raise MissingExtraError("precision 'int8'", "openvino", "int8") from None
    return openvino


def _observe(
    module: DnaModel, layers: nn.Module, batches: Iterable[Mapping[str, Tensor]]
) -> tuple[dict[str, tuple[float, float]], tuple[Tensor, Tensor | None]]:
    """Return the range of the inputs of each linear layer by its name, and the last inputs of all layers."""
    ranges: dict[str, tuple[float, float]] = {}
    example: list[tuple[Tensor, Tensor | None]] = []

    def extend(name: str):
        def hook(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            lowest, highest = (float(each) for each in inputs[0].aminmax())
            if not math.isfinite(highest - lowest):
                raise NotANumberError(f"{NOT_A_NUMBER}; check the weights with zflipon doctor")
            before = ranges.get(name, (lowest, highest))
            ranges[name] = min(before[0], lowest), max(before[1], highest)

        return hook

    def keep(_layers: nn.Module, inputs: tuple[Tensor, Tensor | None]) -> None:
        example[:] = [inputs]

    hooks = [
        layer.register_forward_pre_hook(extend(name))
        for name, layer in layers.named_modules()
        if isinstance(layer, nn.Linear)
    ]
    hooks.append(layers.register_forward_pre_hook(keep))
    try:
        for batch in batches:
            module.base_model(input_ids=batch["input_ids"], attention_mask=batch.get("attention_mask"))
    finally:
        for hook in hooks:
            hook.remove()
    return ranges, example[0]


def _round(layers: nn.Module, ranges: Mapping[str, tuple[float, float]]) -> nn.Module:
    """Replace the linear layers whose ranges are known, in place."""
    for name, bounds in ranges.items():
        layers.set_submodule(name, RoundedLinear(layers.get_submodule(name), *bounds))  # pyright: ignore[reportArgumentType]: it is linear
    return layers


def _shared(module: nn.Module) -> dict[int, Any]:
    """Return a memo for a copy that shares all tensors of a module."""
    return {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}


def _compile(layers: nn.Module, states: Tensor, bias: Tensor, threads: int):
    """Return the layers as a compiled OpenVINO model, for any number of sequences and tokens."""
    openvino = import_openvino()
    any_size = openvino.PartialShape([-1, -1, states.shape[2]]), openvino.PartialShape([-1] * 4)
    with warnings.catch_warnings(), torch.no_grad():
        # they are about sizes that are taken for constants, and the age of tracing in torch
        warnings.simplefilter("ignore")
        model = openvino.convert_model(
            layers.eval(), example_input=(states.clone(), bias.clone()), input=list(any_size)
        )
    # the rest of a layer is in the precision that OpenVINO chooses for this CPU: bfloat16 or float32
    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": threads}
    return openvino.Core().compile_model(model, "CPU", settings)
