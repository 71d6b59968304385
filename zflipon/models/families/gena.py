"""GENA-LM's BERT (Fishman et al. 2025): BPE tokens, learnt positions, layer norm before each sublayer.

Base and large models differ only in their config. Some published models have a last layer norm and some do not
(``last_layer_norm``); with ``pre_layer_norm`` false the model is plain BERT.
"""

from __future__ import annotations

from torch import Tensor, nn
from transformers import BertConfig
from transformers.modeling_layers import GradientCheckpointingLayer

from zflipon.models.families.bert import (
    AddNorm,
    Attention,
    BertEncoder,
    BertModel,
    Intermediate,
    LayerStack,
    PostNormLayer,
)
from zflipon.models.registry import ModelFamily
from zflipon.tokenization.tokenizers import BpeTokenizer


class GenaConfig(BertConfig):
    """Shape of GENA-LM; the defaults are those of the base models."""

    model_type = "zflipon-gena"
    vocab_size: int = 32000
    pad_token_id: int | None = 3
    pre_layer_norm: bool = True
    last_layer_norm: bool = True


class PreNormLayer(GradientCheckpointingLayer):
    """Attention and MLP, each with its layer norm before it, inside the residual."""

    def __init__(self, config: GenaConfig):
        super().__init__()
        self.pre_attention_ln = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.post_attention_ln = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = Attention(config, norm=False)
        self.intermediate = Intermediate(config)
        self.output = AddNorm(config, config.intermediate_size, norm=False)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Map (batch, tokens, hidden) to the same shape."""
        x = self.attention(self.pre_attention_ln(x), x, bias)
        return self.output(self.intermediate(self.post_attention_ln(x)), x)


class GenaStack(LayerStack):
    """All layers of the encoder, then a layer norm unless the config turns it off."""

    def __init__(self, config: GenaConfig):
        self.layer_class = PreNormLayer if config.pre_layer_norm else PostNormLayer
        super().__init__(config)
        if config.pre_layer_norm and config.last_layer_norm:
            self.last_layer_ln = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Map (batch, tokens, hidden) to the same shape."""
        x = super().forward(x, bias)
        return self.last_layer_ln(x) if hasattr(self, "last_layer_ln") else x


class GenaEncoder(BertEncoder):
    """Token ids → token states."""

    stack_class = GenaStack


class GenaModel(BertModel):
    """The GENA-LM encoder under any head."""

    config_class = GenaConfig
    encoder_class = GenaEncoder


def recognizes(config: dict) -> bool:
    """Return whether a ``config.json`` is GENA-LM's, by its own key ``pre_layer_norm``."""
    return config.get("model_type") == GenaConfig.model_type or "pre_layer_norm" in config


FAMILY = ModelFamily(
    model=GenaModel,
    config=GenaConfig,
    tokenizer=BpeTokenizer,
    recognizes=recognizes,
    tokenizer_file="tokenizer.json",
    # 510 bases give at most 512 tokens with the special ones: GENA-LM has 512 positions
    default_metadata={"window": 510, "margin": 64, "label_threshold": 0.7, "label_comparison": ">"},
    lora_targets=("query", "value"),
)
