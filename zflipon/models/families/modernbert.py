"""ModernBERT (Warner et al. 2024), which modernGENA is, through transformers' own encoder."""

from __future__ import annotations

from torch import Tensor, nn
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
        found = super().forward(
            input_ids=input_ids, attention_mask=attention_mask, inputs_embeds=inputs_embeds
        )
        return found.last_hidden_state


class ModernBertModel(DnaModel):
    """The ModernBERT encoder under any head; token, sequence and masked-LM heads share a layer, ``head``."""

    config_class = ModernBertConfig
    base_model_prefix = "model"
    encoder_class = ModernBertEncoder

    def build_classifier(self, config) -> None:
        """Make the head of the token and sequence objectives."""
        self.head = ModernBertPredictionHead(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        super().build_classifier(config)

    def build_mlm_head(self, config) -> None:
        """Make the masked-LM head, whose decoder is the embedding table."""
        self.head = ModernBertPredictionHead(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size, bias=config.decoder_bias)
        self.tied = {"decoder.weight": "model.embeddings.tok_embeddings.weight"}

    def masked_lm(self, states: Tensor) -> Tensor:
        """Return vocabulary logits of token states."""
        return self.decoder(self.head(states))

    def pooled(self, states: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Return one state a sequence, (batch, hidden): the first token's or the mean, as the config says."""
        if self.config.classifier_pooling == "cls":
            return states[:, 0]
        if attention_mask is None:
            return states.mean(dim=1)
        kept = attention_mask.unsqueeze(-1).to(states.dtype)
        return (states * kept).sum(dim=1) / kept.sum(dim=1)

    def features(self, states: Tensor) -> Tensor:
        """Return what the classifier sees of token or pooled states."""
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
