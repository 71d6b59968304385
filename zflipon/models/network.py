"""What every model is: a torch module with a config, that fills itself at random, ties, saves, and recomputes.

transformers' own base class does all this and more, but to import it takes longer than all else that a small model
needs to be read. Files and names are those of transformers.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import init
from torch.utils.checkpoint import checkpoint

_WEIGHTS = "model.safetensors"


class Network(nn.Module):
    """A module with a config.

    Subclasses set `config_class` and `base_model_prefix`, the name of the part that is no head, call `post_init` when
    all is made, and may override `_init_weights`.

    Parameters
    ----------
    config : transformers.PretrainedConfig
    """

    config_class: type
    base_model_prefix: str
    supports_gradient_checkpointing = True
    _keys_to_ignore_on_save = None  # asked for by transformers' Trainer

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.tied: dict[str, str] = {}

    @property
    def base_model(self) -> nn.Module:
        """The module without its head, or the whole of one that has none."""
        return getattr(self, self.base_model_prefix, self)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return next(self.parameters()).dtype

    def post_init(self) -> None:
        """Fill with random weights, and tie; called when all parts are made."""
        self._randomise(self)
        self.tie_weights()

    def _randomise(self, module: nn.Module) -> None:
        for child in module.children():
            if not hasattr(child, "_init_weights"):  # an encoder of transformers' has done so itself
                self._randomise(child)
        self._init_weights(module)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        spread = getattr(self.config, "initializer_range", 0.02)
        if isinstance(module, nn.Linear | nn.Embedding):
            init.normal_(module.weight, 0.0, spread)
            if getattr(module, "bias", None) is not None:
                init.zeros_(module.bias)
            padding = getattr(module, "padding_idx", None)
            if padding is not None:
                init.zeros_(module.weight[padding])
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)

    @property
    def tied_weights(self) -> dict[str, str]:
        """Names of parameters that are others of another name → these; none where the config unties them."""
        return self.tied if getattr(self.config, "tie_word_embeddings", True) else {}

    def tie_weights(self) -> None:
        """Make one parameter of those that are one."""
        for name, source in self.tied_weights.items():
            parent, _, last = name.rpartition(".")
            setattr(self.get_submodule(parent), last, self.get_parameter(source))

    def save_pretrained(self, folder: str | Path, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        """Write ``config.json`` and ``model.safetensors``, tied parameters once; of other weights if given."""
        self.config.architectures = [type(self).__name__]
        self.config.dtype = str(self.dtype).removeprefix("torch.")
        self.config.save_pretrained(folder)
        tensors = {
            name: tensor.detach().contiguous()
            for name, tensor in (state_dict or self.state_dict()).items()
            if name not in self.tied_weights
        }
        save_file(tensors, Path(folder) / _WEIGHTS, metadata={"format": "pt"})

    def recompute(self) -> None:
        """Let layers compute their activations again in the backward pass, in the place of keeping them."""
        for module in self.modules():
            if isinstance(module, RecomputedLayer):
                module.recomputed = True
                continue
            # an encoder of transformers', which renames it on the way to its version 6
            names = "activation_checkpointing_enable", "gradient_checkpointing_enable"
            switch = next((getattr(module, name) for name in names if hasattr(module, name)), None)
            if switch:
                switch({"use_reentrant": False})


class RecomputedLayer(nn.Module):
    """A layer that may compute its activations again in the backward pass; see `Network.recompute`."""

    recomputed = False

    def __call__(self, *inputs, **named):
        """Run the layer."""
        run = super().__call__
        if self.recomputed and self.training:
            # not reentrant: so it also works where the embeddings are frozen
            return checkpoint(partial(run, **named), *inputs, use_reentrant=False)
        return run(*inputs, **named)


@contextmanager
def without_random_weights() -> Iterator[None]:
    """Make modules without filling them: random weights take longer than reading those that come in their place."""
    fillers = {
        name: getattr(init, name) for name in dir(init) if name.endswith("_") and not name.startswith("_")
    }
    with ExitStack() as stack:
        for name, filler in fillers.items():
            setattr(init, name, _as_it_is)
            stack.callback(setattr, init, name, filler)
        if foreign := sys.modules.get("transformers.initialization"):
            stack.enter_context(foreign.no_init_weights())
        yield


def _as_it_is(tensor: torch.Tensor, *_rest, **_named) -> torch.Tensor:
    return tensor
