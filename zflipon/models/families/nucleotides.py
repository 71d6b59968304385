"""Base class of the families that read single nucleotides instead of tokens: DeepZ and GraphZ.

Each base has its letter, its Z-HUNT energies and the omics tracks as input, and gets one logit. The tokenizer has one
token per base, so that these models run through the same code as language models.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PretrainedConfig
from transformers import initialization as init

from zflipon.energetics.energies import DINUCLEOTIDE_LIMIT
from zflipon.errors import suggest
from zflipon.genome.alphabet import NUCLEOTIDES, PADDING_BASE
from zflipon.models.base import DnaModel, DnaOutput
from zflipon.models.heads.base_inputs import BaseInputs, one_hot
from zflipon.models.heads.base_resolution import BaseHeadOutput
from zflipon.models.heads.first_factor import CAN_FORM_PRIOR
from zflipon.models.metadata import View
from zflipon.tokenization.tokenizers import BaseTokenizer


class NucleotideConfig(PretrainedConfig):
    """Shape of a network over nucleotides.

    Parameters
    ----------
    variant : str
        Which network of the family; the first of `variants` if empty.
    hidden_size, num_hidden_layers : int
    hidden_dropout_prob : float
        Fraction of units dropped in training.
    zhunt : sequence of int
        Dinucleotides of the shortest and longest Z-HUNT window; empty: Z-HUNT is not used.
    features : int
        Number of omics tracks.
    vocab_size, pad_token_id : int
        Of the tokenizer, whose tokens are single bases.

    Raises
    ------
    ValueError
        If a setting is out of range.
    """

    variants: tuple[str, ...] = ()

    def __init__(
        self,
        variant: str = "",
        hidden_size: int = 64,
        num_hidden_layers: int = 2,
        hidden_dropout_prob: float = 0.2,
        zhunt: Sequence[int] = (6, 12),
        features: int = 0,
        vocab_size: int = 9,
        pad_token_id: int = 0,
        **others,
    ):
        others["pad_token_id"] = pad_token_id
        super().__init__(**others)
        self.variant = variant or next(iter(self.variants), "")
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.hidden_dropout_prob = hidden_dropout_prob
        self.zhunt = list(zhunt)
        self.features = features
        self.vocab_size = vocab_size
        self._validate(bool(others.get("base_head")))

    def require(self, name: str, is_valid: bool, expected: str) -> None:
        """Raise `ValueError` with the setting's name and value unless it is valid."""
        if not is_valid:
            raise ValueError(f"{name} must be {expected}, not {getattr(self, name)!r}")

    def _validate(self, has_base_head: bool) -> None:
        if self.variant not in self.variants:
            raise ValueError(
                f"variant '{self.variant}' is unknown; expected one of {', '.join(self.variants)}"
                f"{suggest(self.variant, self.variants)}"
            )
        for name in ("hidden_size", "num_hidden_layers"):
            self.require(name, is_integer(getattr(self, name), 1), "an integer, 1 or more")
        self.require("features", is_integer(self.features, 0), "a number of tracks, 0 or more")
        dropout = self.hidden_dropout_prob
        is_fraction = isinstance(dropout, int | float) and 0 <= dropout < 1
        self.require("hidden_dropout_prob", is_fraction, "from 0 up to, but not including, 1")
        are_windows = not self.zhunt or (
            len(self.zhunt) == 2
            and all(is_integer(size, 1) for size in self.zhunt)
            and self.zhunt[0] <= self.zhunt[1] <= DINUCLEOTIDE_LIMIT
        )
        self.require(
            "zhunt",
            are_windows,
            f"the fewest and most dinucleotides of a window, at most {DINUCLEOTIDE_LIMIT}, or empty",
        )
        if has_base_head:
            raise ValueError("a network over nucleotides has no base head; remove the base_head settings")


def is_integer(value: object, least: int) -> bool:
    """Return whether a setting is an integer of at least `least`; booleans are not."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


class LetterEmbedding(nn.Module):
    """One-hot embedding of tokens: the letter of a base, zeros for special tokens. It is not trained."""

    weight: Tensor

    def __init__(self, vocab_size: int):
        super().__init__()
        self.register_buffer("weight", torch.zeros(vocab_size, len(NUCLEOTIDES)), persistent=False)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Fill the table; it is computed, so no checkpoint stores it."""
        ids = torch.from_numpy(BaseTokenizer().base_ids).to(self.weight.device)
        table = torch.zeros_like(self.weight)
        table[ids] = torch.eye(len(NUCLEOTIDES), dtype=table.dtype, device=table.device)
        init.copy_(self.weight, table)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the letters of tokens: float32, shape (..., 4)."""
        return F.embedding(ids, self.weight)


class NucleotideModel(DnaModel, ABC):
    """A network over nucleotides, for the base objective.

    A subclass creates its layers in `build_layers` and maps the inputs of each base to a state in `states`.
    """

    objectives = ("base",)
    base_model_prefix = "network"
    has_base_head = False
    supports_gradient_checkpointing = False

    def build(self, config: NucleotideConfig) -> None:
        """Create the embedding, the layers and the output layer."""
        self.letters = LetterEmbedding(config.vocab_size)
        width = (
            len(NUCLEOTIDES)
            + (self.structure.energetics_channels if config.zhunt else 0)
            + 2 * config.features
        )
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.output = nn.Linear(self.build_layers(config, width), 1)

    @abstractmethod
    def build_layers(self, config: NucleotideConfig, width: int) -> int:
        """Create the layers, which read `width` numbers per base; return the width of their states."""

    @abstractmethod
    def states(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return the state of each base.

        Parameters
        ----------
        x : Tensor
            float, shape (batch, bases, width); 0 at padding.
        mask : Tensor
            float, shape (batch, bases, 1): 0 at padding, where states are ignored.

        Returns
        -------
        Tensor
            float, shape (batch, bases, states).
        """

    @property
    def view(self) -> View:
        """Resolution at which the model reads omics tracks: single bases, no flank."""
        return View()

    def get_input_embeddings(self) -> nn.Module:
        """Return the embedding of letters."""
        return self.letters

    def read_bases(self, bases: Tensor) -> BaseInputs:
        """Return the inputs that nucleotide codes, int64 of shape (batch, bases), have beside letters."""
        if not self.config.zhunt:
            return BaseInputs(None, None, None)
        return BaseInputs(None, *self.structure.energetics(bases, *self.config.zhunt))

    def forward(
        self,
        bases: Tensor,
        input_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        base_tokens: Tensor | None = None,
        labels: Tensor | None = None,
        candidates: Tensor | None = None,
        base_inputs: BaseInputs | None = None,
        features: Tensor | None = None,
        present: Tensor | None = None,
        **_unused,
    ) -> DnaOutput:
        """Compute a logit for each base; parameters are those of `DnaModel.forward`.

        Without labels, candidates serve as labels.
        """
        if inputs_embeds is None:
            letters = one_hot(bases).transpose(1, 2)
        else:
            if base_tokens is None:
                raise ValueError("inputs_embeds need base_tokens, the token of each base")
            index = base_tokens.unsqueeze(-1).expand(-1, -1, inputs_embeds.shape[-1])
            letters = inputs_embeds.gather(1, index)
        mask = (bases != PADDING_BASE).unsqueeze(-1).to(letters.dtype)
        zhunt = (base_inputs or self.read_bases(bases)).zhunt
        inputs = [letters] if zhunt is None else [letters, zhunt.transpose(1, 2).to(letters.dtype)]
        if self.config.features:
            inputs += self._omics_inputs(bases, features, present)
        states = self.states(torch.cat(inputs, dim=-1) * mask, mask)
        logits = self.output(self.dropout(states)).squeeze(-1).float() + CAN_FORM_PRIOR
        return self._base_output(BaseHeadOutput(logits, logits), candidates if labels is None else labels)

    def _omics_inputs(self, bases: Tensor, features: Tensor | None, present: Tensor | None) -> list[Tensor]:
        """Return the tracks, and which are present, for each base: both (batch, bases, tracks)."""
        shape = (*bases.shape, self.config.features)
        if features is None:
            zeros = torch.zeros(shape, device=bases.device)
            return [zeros, zeros]
        if present is None:
            raise ValueError("features need present, which says which of the tracks are given")
        return [features.transpose(1, 2), present.unsqueeze(1).expand(shape)]
