"""DNABERT-2 (Zhou et al. 2024): BPE tokens, attention with linear biases, a gated MLP.

Attention with linear biases (ALiBi; Press et al. 2022) takes distance times a slope
off each score, so that no position is learnt and any length can be read.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig

from zflipon.models.families.bert import (
    Attention,
    BertEncoder,
    BertModel,
    Embeddings,
    LayerStack,
    attend,
    attention_heads,
)
from zflipon.models.network import RecomputedLayer
from zflipon.models.registry import ModelFamily
from zflipon.tokenization.tokenizers import BpeTokenizer


class DnaBert2Config(BertConfig):
    """Shape of DNABERT-2; the defaults are those of the published model."""

    model_type = "zflipon-dnabert2"
    vocab_size: int = 4096
    attention_probs_dropout_prob: float | int = 0.0
    alibi_starting_size: int = 512


class DnaBert2Embeddings(Embeddings):
    """Token and type embeddings; distance enters by the attention."""

    has_positions = False


class FusedSelfAttention(nn.Module):
    """Queries, keys and values by one layer."""

    def __init__(self, config: DnaBert2Config):
        super().__init__()
        self.heads = attention_heads(config)
        self.Wqkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.dropout = config.attention_probs_dropout_prob

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Map (batch, tokens, hidden) to the same shape; `bias` is added to the attention scores."""
        batch, tokens, _ = x.shape
        q, k, v = self.Wqkv(x).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return attend(q, k, v, bias, self.dropout if self.training else 0.0)


class GatedMlp(nn.Module):
    """A gated linear unit, joined to the residual and normed."""

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


class DnaBert2Layer(RecomputedLayer):
    """Attention and MLP, each with its layer norm after the residual."""

    def __init__(self, config: DnaBert2Config):
        super().__init__()
        self.attention = Attention(config, FusedSelfAttention)
        self.mlp = GatedMlp(config)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Map (batch, tokens, hidden) to the same shape."""
        return self.mlp(self.attention(x, x, bias))


class DnaBert2Stack(LayerStack):
    """The layers, one after the other."""

    layer_class = DnaBert2Layer


class DnaBert2Encoder(BertEncoder):
    """Token ids → token states."""

    embeddings_class = DnaBert2Embeddings
    stack_class = DnaBert2Stack

    def __init__(self, config: DnaBert2Config):
        super().__init__(config)
        self._biases: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def attention_bias(self, x: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Return linear biases that hide the padding: (batch or 1, heads, tokens, tokens), of `x`'s dtype."""
        bias = self._linear_bias(x.shape[1], x.device, x.dtype)
        if attention_mask is None:
            return bias
        # the least finite number: minus infinity would make a row of padding alone not a number
        return torch.where(attention_mask.bool()[:, None, None, :], bias, torch.finfo(x.dtype).min)

    def _linear_bias(self, tokens: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return the biases for a length; the longest so far is kept, and a shorter one is its corner."""
        kept = self._biases.get((device, dtype))
        if kept is None or kept.shape[-1] < tokens:
            # what is made in inference mode could not be trained with later
            with torch.inference_mode(False):
                kept = linear_bias(self.config.num_attention_heads, tokens).to(device, dtype)[None]
            self._biases[device, dtype] = kept
        return kept[..., :tokens, :tokens]


class DnaBert2Model(BertModel):
    """The DNABERT-2 encoder under any head."""

    config_class = DnaBert2Config
    encoder_class = DnaBert2Encoder
    own_mlm_bias = False


def slopes(heads: int) -> list[float]:
    """Return the slope of each attention head (Press et al. 2022).

    For a power of two, the geometric series 2^(-8/heads), 2^(-16/heads), …; else
    that of the power of two below, then every other one of the power of two above.
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
