"""`DnaModel`, the base class of all families: an encoder under the head that the objective names.

Encoders are in `zflipon.models.families`, heads in `zflipon.models.heads`; checkpoints are read elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.utils.generic import ModelOutput

from zflipon.config import LoraConfig, ScreenConfig
from zflipon.errors import ModelError
from zflipon.models.heads.autocast import without_autocast
from zflipon.models.heads.base_inputs import BaseInputs
from zflipon.models.heads.base_resolution import BaseHead, BaseHeadOutput, head_settings
from zflipon.models.heads.decoding import BASE_DECODING, FACTOR_DECODING, TOKEN_DECODING, HeadDecoding
from zflipon.models.heads.standard import binary_cross_entropy, cross_entropy
from zflipon.models.heads.substitutions import SubstitutedWindow
from zflipon.models.heads.wide_context import WideContext
from zflipon.models.metadata import OBJECTIVES, View
from zflipon.models.shared_weights import read_if_shared
from zflipon.models.structure import Z_DNA, Structure, get_structure
from zflipon.models.weights import KEY_MAPPING

CANDIDATES_WEIGHT, TRACKS_WEIGHT = 1.0, 0.1
"""Weights in the loss of the candidates (which bases can form Z-DNA) and of the tracks; that of the labels is 1."""


@dataclass
class DnaOutput(ModelOutput):
    """Result of a forward pass.

    Attributes
    ----------
    loss : Tensor or None
        float32 scalar; None without labels.
    logits : Tensor
        float32, by objective: token (batch, tokens, classes), base (batch, bases), sequence (batch, classes),
        mlm (batch, tokens, vocabulary).
    can_form_logit : Tensor or None
        float32, shape (batch, bases): log-odds that a base can form Z-DNA; base objective only.
    is_formed_logit : Tensor or None
        float32, shape (batch, bases): log-odds that Z-DNA is formed where it can; only of a head with two factors.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    can_form_logit: Tensor | None = None
    is_formed_logit: Tensor | None = None


class DnaModel(PreTrainedModel):
    """An encoder under the head that ``config.objective`` names.

    A subclass sets `config_class`, `base_model_prefix` (the attribute of the encoder, as in published checkpoints) and
    `encoder_class`, and overrides `build_classifier`, `build_mlm_head`, `vocabulary_logits`, `pool` or
    `classifier_inputs` where the published code differs. A model without an encoder overrides `build` and `forward`.

    Parameters
    ----------
    config : transformers.PretrainedConfig
        The shape of the encoder, and ``objective``, ``class_weights``, ``base_head`` (see
        `zflipon.models.heads.base_resolution.HEAD_DEFAULTS`), ``features`` (the number of omics tracks) and
        ``structure`` (see `zflipon.models.structure`).

    Raises
    ------
    ModelError
        If the objective is unknown, or the model does not have it.
    """

    objectives = OBJECTIVES
    encoder_class: type[nn.Module]
    lora: LoraConfig | None = None  # settings of the low-rank adapters inside the network
    has_base_head = True  # whether the base objective has a `BaseHead`
    label_smoothing = 0.0  # share of the target probability that is spread over the classes; set for training
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    def __init__(self, config):
        super().__init__(config)
        self.objective: str = getattr(config, "objective", None) or self.objectives[0]
        if self.objective not in self.objectives:
            raise ModelError(
                f"{type(self).__name__} has no objective '{self.objective}'; "
                f"expected {' or '.join(map(repr, self.objectives))}"
            )
        self.build(config)
        self.post_init()

    def build(self, config) -> None:
        """Create the encoder and the head."""
        setattr(self, self.base_model_prefix, self.encoder_class(config))
        self.dropout = nn.Dropout(getattr(config, "hidden_dropout_prob", 0.0) or 0.0)
        if self.objective == "base":
            settings = head_settings(getattr(config, "base_head", None))
            features = getattr(config, "features", None) or 0
            self.base_head = BaseHead(
                config.hidden_size, features=features, structure=self.structure, **settings
            )
        elif self.objective == "mlm":
            self.build_mlm_head(config)
        else:
            self.build_classifier(config)

    def build_classifier(self, config) -> None:
        """Create the head of the token and sequence objectives."""
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)

    def build_mlm_head(self, config) -> None:
        """Create the masked-LM head."""
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)

    def vocabulary_logits(self, states: Tensor) -> Tensor:
        """Map token states (batch, tokens, hidden) to (batch, tokens, vocabulary)."""
        return self.decoder(states)

    def pool(self, states: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Return one state per sequence, shape (batch, hidden): that of the first token."""
        return states[:, 0]

    def classifier_inputs(self, states: Tensor) -> Tensor:
        """Map token or pooled states (..., hidden) to the inputs of the classifier: the states themselves."""
        return states

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialize one module: linear layers and embeddings like BERT, all others by their own defaults."""
        std = getattr(self.config, "initializer_range", 0.02)
        if isinstance(module, nn.Linear):
            init.normal_(module.weight, 0.0, std)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            loaded = getattr(module.weight, "_is_hf_initialized", False)
            init.normal_(module.weight, 0.0, std)
            if module.padding_idx is not None and not loaded:
                init.zeros_(module.weight[module.padding_idx])
        elif (reset := getattr(module, "reset_parameters", None)) is not None:
            reset()

    @classmethod
    def from_pretrained(cls, source, *arguments, **settings):
        """Load a model as transformers does; parameters of earlier checkpoints are renamed.

        Tensors that a checkpoint shares with a bundled model are read from there. `zflipon.models.load` also reads
        metadata and the tokenizer, and is strict about missing tensors.
        """
        settings.setdefault("key_mapping", KEY_MAPPING)
        tensors = read_if_shared(source)
        if tensors is not None:
            config = cast(type[PretrainedConfig], cls.config_class)  # each family has one
            settings.setdefault("config", config.from_pretrained(source))
            source, settings["state_dict"] = None, tensors
        return super().from_pretrained(source, *arguments, **settings)

    def save_pretrained(self, *arguments, **settings) -> None:
        """Save a model as transformers does, always under the present parameter names."""
        settings.setdefault("save_original_format", False)
        super().save_pretrained(*arguments, **settings)

    @property
    def structure(self) -> Structure:
        """The DNA structure that the base objective predicts: that of the setting ``structure``, or Z-DNA."""
        return get_structure(getattr(self.config, "structure", None))

    @property
    def decoding(self) -> HeadDecoding | None:
        """How the output becomes base probabilities; None if it is neither of bases nor of tokens."""
        if self.objective == "token":
            return TOKEN_DECODING
        if self.objective == "base":
            return FACTOR_DECODING if self.has_base_head else BASE_DECODING
        return None

    @property
    def reach(self) -> int | None:
        """Bases on either side that decide about the logit of a base; None: all bases of the window may."""
        return None

    def substituted_window(
        self, bases: Tensor, first_factor: Tensor | None = None
    ) -> SubstitutedWindow | None:
        """Return the states of one window, for fast predictions of substitutions; None if the model has none.

        Parameters are those of `SubstitutedWindow`.
        """
        if not self.reads_wide_context or not self.base_head.can_substitute():
            return None
        return SubstitutedWindow(self.base_head, bases, first_factor)

    @property
    def view(self) -> View:
        """Resolution and flank at which the model reads omics tracks."""
        omics = self.base_head.omics if self.objective == "base" else None
        return omics.view if omics is not None else View()

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
        base_inputs: BaseInputs | None = None,
        features: Tensor | None = None,
        present: Tensor | None = None,
        first_factor: Tensor | None = None,
        widths: Sequence[int] | None = None,
        **_unused,
    ) -> DnaOutput:
        """Run the encoder and the head.

        Parameters
        ----------
        input_ids, attention_mask : Tensor
            int64, shape (batch, tokens); the mask is 0 at padding; None means no padding.
        base_tokens, bases, core, base_inputs, features, present, first_factor, widths
            For the base objective, see `zflipon.models.heads.base_resolution.BaseHead.forward`.
        labels : Tensor, optional
            int64, the shape of the logits without classes; `IGNORE` at positions without a label.
        candidates : Tensor, optional
            int64, shape (batch, bases): labels of the first factor, which bases can form Z-DNA.
        tracks : Tensor, optional
            int64, shape (batch, tracks, bins): labels of the bins, which tracks cover them.
        inputs_embeds : Tensor, optional
            float, shape (batch, tokens, hidden): token embeddings, instead of `input_ids`.
        """
        if self.training and candidates is not None and labels is None and tracks is None:
            if bases is None:
                raise ValueError("candidates need bases, the nucleotide codes")
            return self._candidates_loss(bases, candidates)
        tokens = {"input_ids": input_ids, "attention_mask": attention_mask, "inputs_embeds": inputs_embeds}
        if self.objective == "base":
            # a wide context needs token states for gradients only
            reads_states = not self.reads_wide_context or torch.is_grad_enabled()
            states = self.base_model(**tokens) if reads_states else None
            given = (base_tokens, bases, core, base_inputs, features, present, first_factor, widths)
            return self._base_forward(states, given, labels, candidates, tracks)
        logits = self._class_logits(self.base_model(**tokens), attention_mask).float()
        if labels is None:
            return DnaOutput(logits=logits)
        weights = None if self.objective == "mlm" else self._class_weights(logits)
        loss = cross_entropy(logits, labels, weights, self.label_smoothing)
        return DnaOutput(loss=loss, logits=logits)

    @property
    def reads_wide_context(self) -> bool:
        """Whether the base head reads several kilobases of sequence by convolutions, and not the states of tokens."""
        head = getattr(self, "base_head", None)  # Z-HUNT has none
        return self.objective == "base" and head is not None and isinstance(head.context, WideContext)

    @property
    def default_screen(self) -> ScreenConfig:
        """Screen of a new model: by published Z-HUNT calls if the first factor is negligible far from them."""
        head = getattr(self, "base_head", None)
        near_calls = head is not None and bool(head.zhunt) and head.call_distance is not None
        return ScreenConfig(published=near_calls and self.structure == Z_DNA)

    def read_bases(self, bases: Tensor) -> BaseInputs:
        """Return the inputs that nucleotide codes, int64 of shape (batch, bases), have beside tokens."""
        return self.base_head.read_bases(bases)

    def first_factor(self, bases: Tensor) -> Tensor:
        """Return the first factor of the probability, without running the encoder.

        Only if `decoding.has_upper_bound`: the log-odds of the first factor bound those of the product from above.

        Parameters
        ----------
        bases : Tensor
            int64, shape (batch, bases).

        Returns
        -------
        Tensor
            float32, shape (batch, 2, bases): log-odds, and 1 inside a Z-HUNT call.
        """
        return self.base_head.first_factor(bases)

    @property
    def first_factor_reach(self) -> int:
        """Bases on either side that decide about the first factor of a base."""
        return self.base_head.first_factor_reach

    def context_features(
        self,
        input_ids: Tensor,
        base_tokens: Tensor,
        bases: Tensor,
        attention_mask: Tensor | None = None,
        **_unused,
    ) -> Tensor:
        """Return the inputs of the second factor for each bin; see `BaseHead.context_features`."""
        states = self.base_model(input_ids=input_ids, attention_mask=attention_mask)
        return self.base_head.context_features(states, base_tokens, bases)

    def enable_activation_recomputation(self) -> None:
        """Recompute activations of the layers in the backward pass instead of storing them (gradient checkpointing)."""
        # renamed in transformers 5.20; not reentrant, so that it also works below frozen embeddings
        enable = getattr(self, "activation_checkpointing_enable", None) or self.gradient_checkpointing_enable
        enable({"use_reentrant": False})

    def get_input_embeddings(self) -> nn.Module:
        """Return the token embedding table."""
        encoder: Any = self.base_model
        return encoder.get_input_embeddings()

    def _class_logits(self, states: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Return the logits of the token, sequence and masked-LM heads."""
        if self.objective == "mlm":
            return self.vocabulary_logits(states)
        if self.objective == "sequence":
            states = self.pool(states, attention_mask)
        with without_autocast(states.device):
            states = states.to(self.classifier.weight.dtype)
            return self.classifier(self.dropout(self.classifier_inputs(states)))

    def _candidates_loss(self, bases: Tensor, candidates: Tensor) -> DnaOutput:
        """Train the first factor alone; it reads the nearest bases only, so the encoder need not run."""
        logits = self.base_head.can_form_logit(bases)
        return DnaOutput(binary_cross_entropy(logits, candidates), logits, can_form_logit=logits)

    def _base_forward(
        self,
        states: Tensor | None,
        given: tuple,
        labels: Tensor | None,
        candidates: Tensor | None,
        tracks: Tensor | None,
    ) -> DnaOutput:
        states = None if states is None else states.to(self.base_head.is_formed.weight.dtype)
        if self.training and tracks is not None and labels is None and candidates is None:
            # tracks alone are learnt from the context, without the factors of single bases
            logits = self.base_head.track_logits(states, *given[:2])
            return DnaOutput(TRACKS_WEIGHT * binary_cross_entropy(logits.float(), tracks), logits)
        output = self.base_head(states, *given)
        return self._base_output(output, labels, candidates, tracks)

    def _base_output(
        self,
        output: BaseHeadOutput,
        labels: Tensor | None,
        candidates: Tensor | None = None,
        tracks: Tensor | None = None,
    ) -> DnaOutput:
        """Add up the losses of the base objective: labels, candidates and tracks, as far as they are given."""
        weights = self._class_weights(output.logits)
        positive_weight = None if weights is None else weights[1] / weights[0]
        losses = []
        if labels is not None:
            losses.append(binary_cross_entropy(output.logits, labels, positive_weight, self.label_smoothing))
        if candidates is not None:
            losses.append(CANDIDATES_WEIGHT * binary_cross_entropy(output.can_form_logit, candidates))
        if tracks is not None and output.track_logits is not None:
            losses.append(TRACKS_WEIGHT * binary_cross_entropy(output.track_logits.float(), tracks))
        loss = sum(losses[1:], losses[0]) if losses else None
        return DnaOutput(loss, output.logits, output.can_form_logit, output.is_formed_logit)

    def _class_weights(self, like: Tensor) -> Tensor | None:
        weights = getattr(self.config, "class_weights", None)
        return None if weights is None else _vector(tuple(weights), like.dtype, like.device)


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # the first use may be an evaluation, the next one training
def _vector(numbers: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return numbers as a tensor that stays on its device: each copy would make the host wait for a GPU."""
    return torch.tensor(numbers, dtype=dtype, device=device)
