"""ModernBERT (Warner et al. 2024) and modernGENA: the encoder of transformers under the heads of zflipon."""

from __future__ import annotations

from typing import cast

from torch import LongTensor, Tensor, nn
from transformers import ModernBertConfig
from transformers import ModernBertModel as Encoder
from transformers.models.modernbert.modeling_modernbert import ModernBertPredictionHead

from zflipon.models.base import DnaModel
from zflipon.models.registry import ModelFamily
from zflipon.tokenization.tokenizers import BpeTokenizer


class ModernBertEncoder(Encoder):
    """Token ids → token states."""

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> Tensor:
        """Return token states, shape (batch, tokens, hidden_size)."""
        # the annotations of transformers are too narrow for ids and too wide for states, which are always returned
        output = super().forward(
            input_ids=cast("LongTensor | None", input_ids),
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
        )
        return cast(Tensor, output.last_hidden_state)


class ModernBertModel(DnaModel):
    """The ModernBERT encoder under any head; token, sequence and masked-LM heads have a layer ``head`` before them."""

    config_class = ModernBertConfig
    base_model_prefix = "model"
    encoder_class = ModernBertEncoder

    def build_classifier(self, config) -> None:
        """Create the head of the token and sequence objectives."""
        self.head = ModernBertPredictionHead(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        super().build_classifier(config)

    def build_mlm_head(self, config) -> None:
        """Create the masked-LM head, whose decoder shares the token embeddings."""
        self.head = ModernBertPredictionHead(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size, bias=config.decoder_bias)
        self._tied_weights_keys = {"decoder.weight": "model.embeddings.tok_embeddings.weight"}

    def vocabulary_logits(self, states: Tensor) -> Tensor:
        """Map token states (batch, tokens, hidden) to (batch, tokens, vocabulary)."""
        return self.decoder(self.head(states))

    def pool(self, states: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Return one state per sequence, shape (batch, hidden): of the first token or the mean, as the config says."""
        if self.config.classifier_pooling == "cls":
            return states[:, 0]
        if attention_mask is None:
            return states.mean(dim=1)
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        return (states * mask).sum(dim=1) / mask.sum(dim=1)

    def classifier_inputs(self, states: Tensor) -> Tensor:
        """Map token or pooled states (..., hidden) to the inputs of the classifier, of the same shape."""
        return self.head(states)


def recognizes(config: dict) -> bool:
    """Return whether a ``config.json`` is this family's, by its ``model_type``."""
    return config.get("model_type") == ModernBertConfig.model_type


FAMILY = ModelFamily(
    model=ModernBertModel,
    config=ModernBertConfig,
    tokenizer=BpeTokenizer,
    recognizes=recognizes,
    tokenizer_file="tokenizer.json",
    default_metadata={"window": 1024, "margin": 128},
    lora_targets=("Wqkv",),
)
