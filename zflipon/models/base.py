"""What all families share: one class that puts any head on a family's encoder.

A family gives an encoder, `(input_ids, attention_mask) → token states`, and the
names under which the official code keeps it; everything else is here.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.utils import ModelOutput

from zflipon.errors import ModelError
from zflipon.models.heads.base_resolution import BaseCalls, BaseHead, BaseInputs
from zflipon.models.heads.decoding import BASE_DECODING, FACTOR_DECODING, TOKEN_DECODING, HeadDecoding
from zflipon.models.metadata import OBJECTIVES, View
from zflipon.models.network import Network
from zflipon.tokenization.alignment import IGNORE

BASE_HEAD_DEFAULTS = {
    "channels": 32,
    "kernel": 9,
    "dilations": [1, 2, 4],
    "dropout": 0.1,
    "context": 96,
    "context_dilations": [1, 2, 4, 8, 16],
    "zhunt": [6, 12],
    "tracks": 0,
    "words": 0,
    "distances": [0, 64, 256, 512, 1024, 4096],
    "omics": 512,
}
"""Shape of the base head where a config says nothing."""

CANDIDATES_WEIGHT, TRACKS_WEIGHT = 1.0, 0.1
"""Weights in the loss of what can form Z-DNA, and of the tracks, beside the labels' 1."""


HEADS = (
    "classifier.",
    "base_head.omics.",
    "base_head.",
    "cls.predictions.",
    "cls.seq_relationship.",
    "bert.pooler.",
    "head.",
    "decoder.",
)
"""Beginnings of the names of task heads: what a module has none of is left out, and only these may be new."""


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
    forms : Tensor or None
        float32, (batch, bases), of the base objective: log-odds that a base can form Z-DNA at all.
    flips : Tensor or None
        float32, (batch, bases), of a base head: log-odds that it does, if it can.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    forms: Tensor | None = None
    flips: Tensor | None = None


class DnaModel(Network):
    """An encoder under the head that ``config.objective`` names.

    Subclasses set `config_class`, `base_model_prefix` (the encoder's name in the
    official checkpoints) and `encoder_class`, and override `build_classifier`,
    `build_mlm_head`, `pooled` or `features` where the official code differs.
    """

    encoder_class: type[nn.Module]
    has_base_head = True  # under the base objective

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
            self.base_head = BaseHead(
                config.hidden_size, features=getattr(config, "features", None) or 0, **shape
            )
        elif self.objective == "mlm":
            self.build_mlm_head(config)
        else:
            self.build_classifier(config)
        self.post_init()

    @property
    def view(self) -> View:
        """How it looks at omics tracks."""
        omics = self.base_head.omics if self.objective == "base" else None
        return omics.view if omics is not None else View()

    @property
    def decoding(self) -> HeadDecoding | None:
        """How the output becomes base probabilities; None if the head calls neither bases nor tokens."""
        if self.objective == "token":
            return TOKEN_DECODING
        if self.objective == "base":
            return FACTOR_DECODING if hasattr(self, "base_head") else BASE_DECODING
        return None

    def upper_bound_logits(self, bases: Tensor) -> Tensor:
        """Return an upper bound of each base's logit, if `decoding` has one: float32, shape (batch, bases).

        It is the log-odds of the Z-forming score, which reads neither tokens nor context. The probability is the
        product of this factor and the activity score.
        """
        return self.base_head.can_form(bases)

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
        candidates: Tensor | None = None,
        tracks: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        core: tuple[int, int] | None = None,
        seen: BaseInputs | None = None,
        features: Tensor | None = None,
        present: Tensor | None = None,
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
            Of the logits' shape less the class axis; `zflipon.tokenization.alignment.IGNORE` is left out of the loss.
        candidates, tracks : Tensor, optional
            Of the base objective, beside labels or in their place: what can form Z-DNA, int64 of shape
            (batch, bases), and which tracks cover each bin, int64 of shape (batch, tracks, bins).
        inputs_embeds : Tensor, optional
            Token embeddings in the place of `input_ids`, shape (batch, tokens, hidden).
        core : (int, int), optional
            Bases that are wanted; the base head leaves others undecided.
        seen : Seen, optional
            What the base head reads of the nucleotides, in the place of what `bases` say.
        features, present : Tensor, optional
            Omics tracks as `view` has them, float32 of shape (batch, tracks, steps), and which there are, float32 of
            shape (batch, tracks).
        """
        if self.training and candidates is not None and labels is None and tracks is None:
            # what can form Z-DNA shows in the nearest bases: tokens need not be read to learn it
            forms = self.base_head.can_form(bases)
            return DnaOutput(loss=_binary(forms, candidates), logits=forms, forms=forms)
        states = self.base_model(
            input_ids=input_ids, attention_mask=attention_mask, inputs_embeds=inputs_embeds
        )
        if self.objective == "base":
            # its convolutions are much of a small model's time, so that a GPU has them in the model's precision
            with _in_full(states.device) if states.device.type == "cpu" else nullcontext():
                states = states.to(self.base_head.flips.weight.dtype)
                if self.training and tracks is not None and labels is None and candidates is None:
                    # nor need single bases be looked at to learn the context
                    told = self.base_head.tell_tracks(states, base_tokens, bases)
                    return DnaOutput(loss=TRACKS_WEIGHT * _binary(told.float(), tracks), logits=told)
                calls = self.base_head(states, base_tokens, bases, core, seen, features, present)
            return self._base_output(calls, labels, candidates, tracks)
        if self.objective == "mlm":
            logits = self.masked_lm(states)
        else:
            if self.objective == "sequence":
                states = self.pooled(states, attention_mask)
            with _in_full(states.device):
                states = states.to(self.classifier.weight.dtype)
                logits = self.classifier(self.dropout(self.features(states)))
        logits = logits.float()
        return DnaOutput(loss=None if labels is None else self.loss(logits, labels), logits=logits)

    def look(self, bases: Tensor) -> BaseInputs:
        """Return what is read of nucleotide codes beside tokens; see `BaseHead.look`."""
        return self.base_head.look(bases)

    def surroundings(
        self,
        input_ids: Tensor,
        base_tokens: Tensor,
        bases: Tensor,
        attention_mask: Tensor | None = None,
        **_ignored,
    ) -> Tensor:
        """Return what the base head reads of the context of each bin; see `BaseHead.surroundings`."""
        states = self.base_model(input_ids=input_ids, attention_mask=attention_mask)
        return self.base_head.surroundings(states, base_tokens, bases)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy over labelled positions, weighted by ``config.class_weights``."""
        weights = None if self.objective == "mlm" else self._class_weights(logits)
        return F.cross_entropy(logits.flatten(0, -2), labels.flatten(), weight=weights, ignore_index=IGNORE)

    def _base_output(
        self, calls: BaseCalls, labels: Tensor | None, candidates: Tensor | None, tracks: Tensor | None
    ) -> DnaOutput:
        weights = self._class_weights(calls.logits)
        positive = None if weights is None else weights[1] / weights[0]
        terms = []
        if labels is not None:
            terms.append(_binary(calls.logits, labels, positive))
        if candidates is not None:
            terms.append(CANDIDATES_WEIGHT * _binary(calls.forms, candidates))
        if tracks is not None and calls.tracks is not None:
            terms.append(TRACKS_WEIGHT * _binary(calls.tracks.float(), tracks))
        loss = sum(terms) if terms else None
        return DnaOutput(loss=loss, logits=calls.logits, forms=calls.forms, flips=calls.flips)

    def _class_weights(self, like: Tensor) -> Tensor | None:
        weights = getattr(self.config, "class_weights", None)
        return None if weights is None else torch.tensor(weights, device=like.device, dtype=like.dtype)

    def get_input_embeddings(self) -> nn.Module:
        """Return the token embedding table."""
        return self.base_model.get_input_embeddings()


def _in_full(device: torch.device) -> torch.autocast:
    """Compute in the precision of weights and states, whatever the encoder computes in."""
    return torch.autocast(device.type, enabled=False)


def _binary(logits: Tensor, labels: Tensor, positive: Tensor | None = None) -> Tensor:
    """Return the mean binary cross-entropy over what is not `IGNORE`; 0 where all is."""
    known = labels != IGNORE
    if not known.any():
        return logits.sum() * 0
    return F.binary_cross_entropy_with_logits(logits[known], labels[known].float(), pos_weight=positive)
