"""What all families share: one class that puts any head on a family's encoder.

A family gives an encoder, `(input_ids, attention_mask) → token states`, and the
names under which the official code keeps it; everything else is here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from zflipon.errors import ModelError
from zflipon.models.heads import BaseHead
from zflipon.models.story import OBJECTIVES
from zflipon.project import IGNORE

BASE_HEAD_DEFAULTS = {"channels": 96, "kernel": 9, "dilations": [1, 2, 4], "dropout": 0.1}
"""Shape of the base head where a config says nothing."""


@dataclass
class DnaOutput(ModelOutput):
    """Result of a forward pass.

    Attributes
    ----------
    loss : Tensor or None
        float32 scalar, where labels were given.
    logits : Tensor
        float32: (batch, tokens, labels) for tokens, (batch, bases) for bases,
        (batch, labels) for sequences, (batch, tokens, vocabulary) for masked-LM.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None


class DnaModel(PreTrainedModel):
    """An encoder under the head that ``config.objective`` names.

    Subclasses set `config_class`, `base_model_prefix` (the encoder's name in the
    official checkpoints) and `encoder_class`, and override `build_classifier`,
    `build_mlm_head`, `pooled` or `features` where the official code differs.
    """

    encoder_class: type[nn.Module]
    main_input_name = "input_ids"
    supports_gradient_checkpointing = False
    _supports_sdpa = True

    def __init__(self, config):
        super().__init__(config)
        self.objective: str = getattr(config, "objective", "token")
        if self.objective not in OBJECTIVES:
            raise ModelError(
                f"objective '{self.objective}' is unknown; expected one of {', '.join(OBJECTIVES)}"
            )
        setattr(self, self.base_model_prefix, self.encoder_class(config))
        self.dropout = nn.Dropout(getattr(config, "hidden_dropout_prob", 0.0) or 0.0)
        if self.objective == "base":
            shape = {**BASE_HEAD_DEFAULTS, **(getattr(config, "base_head", None) or {})}
            self.base_head = BaseHead(config.hidden_size, **shape)
        elif self.objective == "mlm":
            self.build_mlm_head(config)
        else:
            self.build_classifier(config)
        self.post_init()

    def build_classifier(self, config) -> None:
        """Make the head of the token and sequence objectives."""
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)

    def build_mlm_head(self, config) -> None:
        """Make the masked-LM head."""
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)

    def masked_lm(self, states: Tensor) -> Tensor:
        """Return vocabulary logits of token states."""
        return self.decoder(states)

    def pooled(self, states: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Return one state a sequence, shape (batch, hidden): the first token's."""
        return states[:, 0]

    def features(self, states: Tensor) -> Tensor:
        """Return what the classifier sees of token or pooled states: these themselves."""
        return states

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        base_tokens: Tensor | None = None,
        bases: Tensor | None = None,
        labels: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **_ignored,
    ) -> DnaOutput:
        """Run the encoder and the head.

        Parameters
        ----------
        input_ids : Tensor
            int64, shape (batch, tokens).
        attention_mask : Tensor, optional
            0 at padding, shape (batch, tokens).
        base_tokens, bases : Tensor, optional
            For the base objective; see `BaseHead.forward`.
        labels : Tensor, optional
            Of the logits' shape less the class axis; `zflipon.project.IGNORE` is left out of the loss.
        inputs_embeds : Tensor, optional
            Token embeddings in the place of `input_ids`, shape (batch, tokens, hidden).
        """
        states = self.base_model(
            input_ids=input_ids, attention_mask=attention_mask, inputs_embeds=inputs_embeds
        )
        if self.objective == "base":
            logits = self.base_head(states, base_tokens, bases)
        elif self.objective == "token":
            logits = self.classifier(self.dropout(self.features(states)))
        elif self.objective == "sequence":
            logits = self.classifier(self.dropout(self.features(self.pooled(states, attention_mask))))
        else:
            logits = self.masked_lm(states)
        logits = logits.float()
        return DnaOutput(loss=None if labels is None else self.loss(logits, labels), logits=logits)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss over labelled positions.

        Cross-entropy, weighted by ``config.class_weights`` if there are any; for bases its
        two-class form, where the weights' ratio counts for labelled bases.
        """
        weights = getattr(self.config, "class_weights", None)
        weights = None if weights is None else torch.tensor(weights, device=logits.device, dtype=logits.dtype)
        if self.objective == "base":
            known = labels != IGNORE
            positive = None if weights is None else weights[1] / weights[0]
            return F.binary_cross_entropy_with_logits(
                logits[known], labels[known].float(), pos_weight=positive
            )
        if self.objective == "mlm":
            weights = None
        return F.cross_entropy(logits.flatten(0, -2), labels.flatten(), weight=weights, ignore_index=IGNORE)

    def get_input_embeddings(self) -> nn.Module:
        """Return the token embedding table."""
        return self.base_model.get_input_embeddings()

    def set_input_embeddings(self, table: nn.Module) -> None:
        """Replace the token embedding table."""
        self.base_model.set_input_embeddings(table)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # transformers' own functions leave alone what a checkpoint has filled
        spread = getattr(self.config, "initializer_range", 0.02)
        if isinstance(module, nn.Linear | nn.Embedding):
            init.normal_(module.weight, 0.0, spread)
            if getattr(module, "bias", None) is not None:
                init.zeros_(module.bias)
            padding = getattr(module, "padding_idx", None)
            if padding is not None and not getattr(module.weight, "_is_hf_initialized", False):
                init.zeros_(module.weight[padding])
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
