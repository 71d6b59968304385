"""Layers that the BERT-like families share, under the parameter names of the published code.

The encoder is plain BERT (Devlin et al. 2019), with layer norm after each residual; GENA-LM and DNABERT-2 replace
some of its layers in their own modules.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer

from zflipon.errors import ModelError
from zflipon.models.base import DnaModel

BERT_TYPES = ("bert", "BERT")
"""Values of ``model_type`` in published configs of BERT-like models."""


class Embeddings(nn.Module):
    """Token, type and learnt position embeddings, then a layer norm."""

    has_positions = True

    def __init__(self, config):
        super().__init__()
        self.word_embeddings = nn.Embedding(
            config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id
        )
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        if self.has_positions:
            self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)

    def forward(self, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        """Return embeddings, shape (batch, tokens, hidden); every token is of type 0."""
        x = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        x = x + self.token_type_embeddings.weight[0]
        if self.has_positions:
            x = x + self._positions(x.shape[1])
        return self.dropout(self.LayerNorm(x))

    def _positions(self, tokens: int) -> Tensor:
        limit = self.position_embeddings.num_embeddings
        if tokens > limit:
            raise ModelError(
                f"a window has {tokens} tokens, but this model has only {limit} positions; use a smaller window"
            )
        return self.position_embeddings.weight[:tokens]


class SelfAttention(nn.Module):
    """Self-attention with separate layers for queries, keys and values."""

    def __init__(self, config):
        super().__init__()
        self.heads = attention_heads(config)
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = config.attention_probs_dropout_prob

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Map (batch, tokens, hidden) to the same shape; `bias` is added to the attention scores."""
        batch, tokens, _ = x.shape
        q, k, v = (
            layer(x).view(batch, tokens, self.heads, -1).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        return attend(q, k, v, bias, self.dropout if self.training else 0.0)


class AddNorm(nn.Module):
    """A linear layer whose output is added to the residual, optionally followed by a layer norm."""

    def __init__(self, config, width: int, norm: bool = True):
        super().__init__()
        self.dense = nn.Linear(width, config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        if norm:
            self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.norm = norm

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """Map (batch, tokens, width) to (batch, tokens, hidden)."""
        x = self.dropout(self.dense(x)) + residual
        return self.LayerNorm(x) if self.norm else x


class Attention(nn.Module):
    """Self-attention, its output projection and the residual."""

    def __init__(self, config, attention: type[nn.Module] = SelfAttention, norm: bool = True):
        super().__init__()
        self.self = attention(config)
        self.output = AddNorm(config, config.hidden_size, norm)

    def forward(self, x: Tensor, residual: Tensor, bias: Tensor | None) -> Tensor:
        """Map (batch, tokens, hidden) to the same shape."""
        return self.output(self.self(x, bias), residual)


class Intermediate(nn.Module):
    """First layer of the MLP, hidden to intermediate width."""

    def __init__(self, config):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACT2FN[config.hidden_act]

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, tokens, hidden) to (batch, tokens, intermediate)."""
        return self.activation(self.dense(x))


class PostNormLayer(GradientCheckpointingLayer):
    """Attention and MLP, each with its layer norm after the residual."""

    def __init__(self, config):
        super().__init__()
        self.attention = Attention(config)
        self.intermediate = Intermediate(config)
        self.output = AddNorm(config, config.intermediate_size)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Map (batch, tokens, hidden) to the same shape."""
        x = self.attention(x, x, bias)
        return self.output(self.intermediate(x), x)


class LayerStack(nn.Module):
    """All layers of the encoder."""

    layer_class: type[nn.Module] = PostNormLayer

    def __init__(self, config):
        super().__init__()
        self.layer = nn.ModuleList(self.layer_class(config) for _ in range(config.num_hidden_layers))

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Map (batch, tokens, hidden) to the same shape."""
        for layer in self.layer:
            x = layer(x, bias)
        return x


class Pooler(nn.Module):
    """The state of a sequence, computed from the state of its first token."""

    def __init__(self, config):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, states: Tensor) -> Tensor:
        """Map (batch, tokens, hidden) to (batch, hidden)."""
        return torch.tanh(self.dense(states[:, 0]))


class BertEncoder(nn.Module):
    """Token ids → token states, with a pooler for the sequence objective."""

    embeddings_class: type[Embeddings] = Embeddings
    stack_class: type[nn.Module] = LayerStack

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embeddings = self.embeddings_class(config)
        self.encoder = self.stack_class(config)
        if getattr(config, "objective", None) == "sequence":
            self.pooler = Pooler(config)

    def get_input_embeddings(self) -> nn.Module:
        """Return the token embedding table."""
        return self.embeddings.word_embeddings

    @property
    def replaceable_layers(self) -> nn.Module:
        """The layers, states and attention bias → states, which inference may replace by others."""
        return self.encoder

    def attention_bias(self, x: Tensor, attention_mask: Tensor | None) -> Tensor | None:
        """Return the bias of the attention scores that masks padding, in `attention_dtype`; None without padding."""
        return None if attention_mask is None else padding_bias(attention_mask, attention_dtype(x))

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> Tensor:
        """Return token states, shape (batch, tokens, hidden_size)."""
        x = self.embeddings(input_ids, inputs_embeds)
        return self.encoder(x, self.attention_bias(x, attention_mask))


class Transform(nn.Module):
    """The layer between token states and vocabulary logits."""

    def __init__(self, config):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = ACT2FN[config.hidden_act]
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, states: Tensor) -> Tensor:
        """Map (batch, tokens, hidden) to the same shape."""
        return self.LayerNorm(self.activation(self.dense(states)))


class Predictions(nn.Module):
    """The masked-LM head, ``cls.predictions`` in published checkpoints."""

    def __init__(self, config, own_bias: bool):
        super().__init__()
        self.transform = Transform(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        if own_bias:
            self.bias = self.decoder.bias
        self.own_bias = own_bias

    def reset_parameters(self) -> None:
        """Set the bias to 0."""
        if self.own_bias:
            init.zeros_(self.bias)

    def forward(self, states: Tensor) -> Tensor:
        """Map (batch, tokens, hidden) to (batch, tokens, vocabulary)."""
        return self.decoder(self.transform(states))


class BertModel(DnaModel):
    """A BERT-like encoder under any head."""

    bert: BertEncoder
    base_model_prefix = "bert"
    encoder_class = BertEncoder
    own_mlm_bias = True
    """Whether checkpoints have ``cls.predictions.bias`` beside ``cls.predictions.decoder.bias``; they are the same."""

    def build_mlm_head(self, config) -> None:
        """Create the masked-LM head, whose decoder shares the token embeddings."""
        self.cls = nn.ModuleDict({"predictions": Predictions(config, self.own_mlm_bias)})
        self._tied_weights_keys = {"cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight"}
        if self.own_mlm_bias:
            self._tied_weights_keys["cls.predictions.decoder.bias"] = "cls.predictions.bias"

    def vocabulary_logits(self, states: Tensor) -> Tensor:
        """Map token states (batch, tokens, hidden) to (batch, tokens, vocabulary)."""
        return self.cls["predictions"](states)

    def pool(self, states: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Return one state per sequence, shape (batch, hidden), from the encoder's pooler."""
        return self.bert.pooler(states)


def attention_heads(config) -> int:
    """Return the number of attention heads; raise `ModelError` unless it divides the hidden size."""
    if config.hidden_size % config.num_attention_heads:
        raise ModelError(
            f"hidden_size {config.hidden_size} is not a multiple of num_attention_heads "
            f"{config.num_attention_heads}; correct config.json"
        )
    return config.num_attention_heads


def attention_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype of the queries that are computed from `x`: under autocast that of autocast.

    A bias of this dtype is converted once and not in every layer.
    """
    kind = x.device.type
    enabled = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.get_autocast_dtype(kind) if enabled else x.dtype


def padding_bias(attention_mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return 0 at tokens and the lowest finite number at padding, shape (batch, 1, 1, tokens).

    Minus infinity would give NaN in a row that is all padding.
    """
    bias = torch.zeros(attention_mask.shape, dtype=dtype, device=attention_mask.device)
    return bias.masked_fill(attention_mask == 0, torch.finfo(dtype).min)[:, None, None, :]


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout: float) -> Tensor:
    """Compute attention: (batch, heads, tokens, width) → (batch, tokens, heads x width)."""
    # an explanation may compute in a dtype other than that of the bias
    bias = None if bias is None else bias.to(q.dtype)
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout)
    return y.transpose(1, 2).flatten(2)
