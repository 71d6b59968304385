"""DNABERT-2 (Zhou et al. 2024): BPE tokens, attention with linear biases, a gated MLP.

Attention with linear biases (ALiBi; Press et al. 2022) subtracts distance times a slope from each score. There are no
position embeddings, so a window may have any number of tokens.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig
from transformers.modeling_layers import GradientCheckpointingLayer

from zflipon.models.families.bert import (
    Attention,
    BertEncoder,
    BertModel,
    Embeddings,
    LayerStack,
    attend,
    attention_dtype,
    attention_heads,
)
from zflipon.models.registry import ModelFamily
from zflipon.tokenization.tokenizers import BpeTokenizer

_BIAS_ALIGNMENT = 8
"""The rows of a bias are this multiple of elements apart: GPU kernels copy a bias that is not aligned."""

_PADDING_SCORE = -(2.0**15)
"""Score of padding; representable in float16, and far below any score of a token."""


class SharedBias(NamedTuple):
    """Linear biases that all sequences of a batch share, and their padding.

    Biases that mask the padding would have batch × heads × tokens² elements: 6 GB for 256 windows of 1,000 tokens.

    Attributes
    ----------
    linear : Tensor
        Shape (1, heads, tokens, tokens).
    is_padding : Tensor
        bool, shape (batch, tokens).
    """

    linear: Tensor
    is_padding: Tensor


class DnaBert2Config(BertConfig):
    """Shape of DNABERT-2; the defaults are those of the published model."""

    model_type = "zflipon-dnabert2"
    vocab_size: int = 4096
    attention_probs_dropout_prob: float | int = 0.0
    alibi_starting_size: int = 512


class DnaBert2Embeddings(Embeddings):
    """Token and type embeddings; positions enter through the attention biases."""

    has_positions = False


class FusedSelfAttention(nn.Module):
    """Self-attention with one layer for queries, keys and values."""

    def __init__(self, config: DnaBert2Config):
        super().__init__()
        self.heads = attention_heads(config)
        self.Wqkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.dropout = config.attention_probs_dropout_prob

    def forward(self, x: Tensor, bias: Tensor | SharedBias) -> Tensor:
        """Map (batch, tokens, hidden) to the same shape; `bias` is added to the attention scores."""
        batch, tokens, _ = x.shape
        q, k, v = self.Wqkv(x).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        if isinstance(bias, SharedBias):
            return attend_shared(q, k, v, bias, dropout)
        return attend(q, k, v, bias, dropout)


class GatedMlp(nn.Module):
    """A gated linear unit with residual and layer norm."""

    def __init__(self, config: DnaBert2Config):
        super().__init__()
        self.gated_layers = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=False)
        self.wo = nn.Linear(config.intermediate_size, config.hidden_size)
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, tokens, hidden) to the same shape."""
        gate, value = self.gated_layers(x).chunk(2, dim=-1)
        return self.layernorm(self.wo(self.dropout(F.gelu(gate) * value)) + x)


class DnaBert2Layer(GradientCheckpointingLayer):
    """Attention and MLP, each with its layer norm after the residual."""

    def __init__(self, config: DnaBert2Config):
        super().__init__()
        self.attention = Attention(config, FusedSelfAttention)
        self.mlp = GatedMlp(config)

    def forward(self, x: Tensor, bias: Tensor | SharedBias) -> Tensor:
        """Map (batch, tokens, hidden) to the same shape."""
        return self.mlp(self.attention(x, x, bias))


class DnaBert2Stack(LayerStack):
    """All layers of the encoder."""

    layer_class = DnaBert2Layer


class DnaBert2Encoder(BertEncoder):
    """Token ids → token states."""

    embeddings_class = DnaBert2Embeddings
    stack_class = DnaBert2Stack

    def __init__(self, config: DnaBert2Config):
        super().__init__(config)
        self._biases: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def attention_bias(self, x: Tensor, attention_mask: Tensor | None) -> Tensor | SharedBias:
        """Return linear biases, in `attention_dtype`.

        Returns
        -------
        Tensor or SharedBias
            Shape (1, heads, tokens, tokens) without padding. On a CPU, whose batches are small, biases that mask the
            padding: shape (batch, heads, tokens, tokens). On other devices both, separately.
        """
        bias = self._linear_bias(x.shape[1], x.device, attention_dtype(x))
        if attention_mask is None:
            return bias
        is_token = attention_mask.bool()
        if x.device.type != "cpu":
            return SharedBias(bias, ~is_token)
        # the lowest finite number: minus infinity would give NaN in a row that is all padding
        return torch.where(is_token[:, None, None, :], bias, torch.finfo(bias.dtype).min)

    def _linear_bias(self, tokens: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return the biases for a length, cut from those of the longest length so far, which are cached."""
        cached = self._biases.get((device, dtype))
        if cached is None or cached.shape[-1] < tokens:
            size = tokens + -tokens % _BIAS_ALIGNMENT
            # tensors created in inference mode could not be used in training later
            with torch.inference_mode(False):
                cached = linear_bias(self.config.num_attention_heads, size).to(device, dtype)[None]
            self._biases[device, dtype] = cached
        return cached[..., :tokens, :tokens]


class DnaBert2Model(BertModel):
    """The DNABERT-2 encoder under any head."""

    config_class = DnaBert2Config
    encoder_class = DnaBert2Encoder
    own_mlm_bias = False


def attend_shared(q: Tensor, k: Tensor, v: Tensor, bias: SharedBias, dropout: float) -> Tensor:
    """Compute attention: (batch, heads, tokens, width) → (batch, tokens, heads x width).

    Padding is masked by one more channel: 1 in each query, and in each key 0 for a token and a low score for padding.
    The scores of tokens are unchanged.
    """
    score = _PADDING_SCORE * bias.is_padding.to(k.dtype)
    channel = score[:, None, :, None].expand(*k.shape[:-1], 1)
    # whole groups of channels, because GPU kernels need aligned widths
    keys = F.pad(torch.cat([k, channel], dim=-1), (0, _BIAS_ALIGNMENT - 1))
    queries = F.pad(F.pad(q, (0, 1), value=1.0), (0, _BIAS_ALIGNMENT - 1))
    # the scale is that of the original width
    y = F.scaled_dot_product_attention(
        queries, keys, v, attn_mask=bias.linear.to(q.dtype), dropout_p=dropout, scale=q.shape[-1] ** -0.5
    )
    return y.transpose(1, 2).flatten(2)


def slopes(heads: int) -> list[float]:
    """Return the slope of each attention head (Press et al. 2022).

    If `heads` is a power of two: the geometric series 2^(-8/heads), 2^(-16/heads), …. Otherwise the series of the
    next lower power of two, followed by every other term of the next higher one.
    """
    below = 2 ** int(math.log2(heads))
    series = [2 ** (-8 * i / below) for i in range(1, below + 1)]
    between = [2 ** (-4 * i / below) for i in range(1, 2 * below, 2)]
    return series + between[: heads - below]


def linear_bias(heads: int, tokens: int) -> Tensor:
    """Return minus distance times slope: float32, shape (heads, tokens, tokens)."""
    position = torch.arange(tokens)
    distance = (position[None, :] - position[:, None]).abs()
    return -torch.tensor(slopes(heads))[:, None, None] * distance


def recognizes(config: dict) -> bool:
    """Return whether a ``config.json`` is DNABERT-2's, by its linear biases or the name of its published code."""
    auto_map = config.get("auto_map") or {}
    return (
        config.get("model_type") == DnaBert2Config.model_type
        or "alibi_starting_size" in config
        or any("bert_layers" in str(code) for code in auto_map.values())
    )


FAMILY = ModelFamily(
    model=DnaBert2Model,
    config=DnaBert2Config,
    tokenizer=BpeTokenizer,
    recognizes=recognizes,
    tokenizer_file="tokenizer.json",
    default_metadata={"window": 128, "margin": 16, "label_threshold": 0.7},
    lora_targets=("Wqkv",),
)
