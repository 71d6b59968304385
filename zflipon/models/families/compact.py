"""The compact model of zflipon: a small pre-norm transformer over BPE tokens, with the base-resolution head.

Positions are rotary (Su et al. 2021), so a window may have any number of tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PretrainedConfig
from transformers.modeling_layers import GradientCheckpointingLayer

from zflipon.models.base import DnaModel
from zflipon.models.registry import ModelFamily
from zflipon.tokenization.tokenizers import BpeTokenizer


class CompactConfig(PretrainedConfig):
    """Shape of the compact model.

    Parameters
    ----------
    vocab_size, hidden_size, num_hidden_layers, num_attention_heads, intermediate_size : int
        As in BERT; ``hidden_size / num_attention_heads`` must be even.
    hidden_dropout_prob : float
        Fraction of units dropped in training.
    rotary_base : float
        The longest wavelength of the rotary positions is 2π times this number of tokens.
    """

    model_type = "zflipon-compact"

    def __init__(
        self,
        vocab_size: int = 512,
        hidden_size: int = 128,
        num_hidden_layers: int = 4,
        num_attention_heads: int = 4,
        intermediate_size: int = 512,
        hidden_dropout_prob: float = 0.1,
        rotary_base: float = 10000.0,
        pad_token_id: int = 3,
        initializer_range: float = 0.02,
        **rest,
    ):
        rest["pad_token_id"] = pad_token_id
        super().__init__(**rest)
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = intermediate_size
        self.hidden_dropout_prob = hidden_dropout_prob
        self.rotary_base = rotary_base
        self.initializer_range = initializer_range


class Attention(nn.Module):
    """Self-attention with rotary positions."""

    def __init__(self, config: CompactConfig):
        super().__init__()
        self.heads = config.num_attention_heads
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.output = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, mask: Tensor | None, rotation: tuple[Tensor, Tensor]) -> Tensor:
        """Map (batch, tokens, hidden) to the same shape."""
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(rotate(q, *rotation), rotate(k, *rotation), v, attn_mask=mask)
        return self.output(y.transpose(1, 2).reshape(batch, tokens, -1))


class Layer(GradientCheckpointingLayer):
    """Pre-norm attention and MLP, each with a residual."""

    def __init__(self, config: CompactConfig):
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.hidden_size)
        self.attention = Attention(config)
        self.mlp_norm = nn.LayerNorm(config.hidden_size)
        self.mlp = nn.Sequential(
            nn.Linear(config.hidden_size, config.intermediate_size),
            nn.GELU(),
            nn.Linear(config.intermediate_size, config.hidden_size),
        )
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, mask: Tensor | None, rotation: tuple[Tensor, Tensor]) -> Tensor:
        """Map (batch, tokens, hidden) to the same shape."""
        x = x + self.dropout(self.attention(self.attention_norm(x), mask, rotation))
        return x + self.dropout(self.mlp(self.mlp_norm(x)))


class CompactEncoder(nn.Module):
    """Token ids → token states."""

    def __init__(self, config: CompactConfig):
        super().__init__()
        self.config = config
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def get_input_embeddings(self) -> nn.Module:
        """Return the token embedding table."""
        return self.embeddings

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> Tensor:
        """Return token states, shape (batch, tokens, hidden_size)."""
        x = self.embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        x = self.dropout(x)
        mask = None if attention_mask is None else attention_mask.bool()[:, None, None, :]
        width = self.config.hidden_size // self.config.num_attention_heads
        rotation = rotary_table(x.shape[1], width, self.config.rotary_base, x.device)
        rotation = (rotation[0].to(x.dtype), rotation[1].to(x.dtype))
        for layer in self.layers:
            x = layer(x, mask, rotation)
        return self.norm(x)


class CompactModel(DnaModel):
    """The compact encoder under any head."""

    config_class = CompactConfig
    base_model_prefix = "encoder"
    encoder_class = CompactEncoder


def rotary_table(tokens: int, width: int, base: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return cosines and sines of the rotary angles, float32, each of shape (tokens, width)."""
    frequency = base ** (-torch.arange(0, width, 2, device=device, dtype=torch.float32) / width)
    angle = torch.outer(torch.arange(tokens, device=device, dtype=torch.float32), frequency)
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotate queries or keys, shape (..., tokens, width), by the angles of their positions."""
    first, second = x.chunk(2, dim=-1)
    return x * cosine + torch.cat([-second, first], dim=-1) * sine


def recognizes(config: dict) -> bool:
    """Return whether a ``config.json`` is this family's, by its ``model_type``."""
    return config.get("model_type") == CompactConfig.model_type


FAMILY = ModelFamily(
    model=CompactModel,
    config=CompactConfig,
    tokenizer=BpeTokenizer,
    recognizes=recognizes,
    tokenizer_file="tokenizer.json",
    default_metadata={"window": 1024, "margin": 256},
    lora_targets=("qkv",),
)
