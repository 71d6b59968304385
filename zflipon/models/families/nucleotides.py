"""What networks over single nucleotides share: what they read of a base, and one decision for each.

A base is read as its letter, by how readily it turns into Z-DNA (Z-HUNT's energies, computed inside the model), and by
the omics tracks there. No tokens are learnt: one stands for each base, so that all verbs run as with a language model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PretrainedConfig

from zflipon.energetics.zhunt import DINUCLEOTIDE_LIMIT
from zflipon.errors import ModelError, suggest
from zflipon.genome.alphabet import NUCLEOTIDES, PADDING_BASE
from zflipon.models.base import DnaModel, DnaOutput
from zflipon.models.heads.base_resolution import (
    FORMS_PRIOR,
    READINESS,
    BaseCalls,
    BaseInputs,
    one_hot,
    readiness,
)
from zflipon.models.metadata import View
from zflipon.tokenization.tokenizers import BaseTokenizer


class NucleotideConfig(PretrainedConfig):
    """Shape of a network over nucleotides.

    Parameters
    ----------
    variant : str
        Which of the family's networks.
    hidden_size, num_hidden_layers : int
    hidden_dropout_prob : float
        Share of units dropped while training.
    zhunt : sequence of int
        Least and most dinucleotides of the windows that Z-HUNT looks at; none if empty.
    features : int
        Omics tracks.
    vocab_size, pad_token_id : int
        Of the tokenizer, whose tokens are single bases.
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
        **rest,
    ):
        super().__init__(pad_token_id=pad_token_id, **rest)
        self.variant = variant or next(iter(self.variants), "")
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.hidden_dropout_prob = hidden_dropout_prob
        self.zhunt = list(zhunt)
        self.features = features
        self.vocab_size = vocab_size
        if self.variant not in self.variants:
            raise ValueError(
                f"variant '{self.variant}' is unknown; expected one of {', '.join(self.variants)}"
                f"{suggest(self.variant, self.variants)}"
            )
        for name in ("hidden_size", "num_hidden_layers"):
            self.require(name, whole(getattr(self, name), 1), "a whole number from 1 on")
        self.require("features", whole(features, 0), "a number of tracks")
        share = hidden_dropout_prob
        self.require(
            "hidden_dropout_prob", isinstance(share, int | float) and 0 <= share < 1, "a share below 1"
        )
        windows = not zhunt or (
            len(self.zhunt) == 2
            and all(whole(size, 1) for size in self.zhunt)
            and self.zhunt[0] <= self.zhunt[1] <= DINUCLEOTIDE_LIMIT
        )
        self.require(
            "zhunt",
            windows,
            f"least and most dinucleotides of a window, up to {DINUCLEOTIDE_LIMIT}, or nothing",
        )
        if rest.get("base_head"):
            raise ValueError(
                "a network over nucleotides has no base head to be shaped, and learns no tracks as targets"
            )

    def require(self, name: str, holds: bool, expected: str) -> None:
        """Raise `ValueError` where a setting is not what is expected."""
        if not holds:
            raise ValueError(f"{name} must be {expected}, not {getattr(self, name)!r}")


def whole(value: object, least: int) -> bool:
    """Tell whether a setting is a whole number from `least` on."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


class Letters(nn.Module):
    """The table of tokens: each base's is its letter, one-hot; special tokens have 0. Nothing in it is trained."""

    def __init__(self, vocab_size: int):
        super().__init__()
        table = torch.zeros(vocab_size, len(NUCLEOTIDES))
        table[torch.from_numpy(BaseTokenizer().base_ids)] = torch.eye(len(NUCLEOTIDES))
        self.register_buffer("weight", table, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the letters of tokens: float32, shape (…, 4)."""
        return F.embedding(ids, self.weight)


class NucleotideModel(DnaModel, ABC):
    """A network over nucleotides under the base objective.

    Subclasses build their layers in `build` and map what is read of the bases to one state each in `states`.
    """

    base_model_prefix = "network"
    has_base_head = False
    supports_gradient_checkpointing = False

    def __init__(self, config: NucleotideConfig):
        super(DnaModel, self).__init__(config)
        self.objective = getattr(config, "objective", "base")
        if self.objective != "base":
            raise ModelError(
                f"a network over nucleotides decides bases; no objective '{self.objective}', say objective = \"base\""
            )
        self.letters = Letters(config.vocab_size)
        width = len(NUCLEOTIDES) + (READINESS if config.zhunt else 0) + 2 * config.features
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.decide = nn.Linear(self.build(config, width), 1)
        self.post_init()

    @abstractmethod
    def build(self, config: NucleotideConfig, width: int) -> int:
        """Make the layers that read `width` numbers of each base; return how many they give."""

    @abstractmethod
    def states(self, x: Tensor, inside: Tensor) -> Tensor:
        """Return the state of each base.

        Parameters
        ----------
        x : Tensor
            float, shape (batch, bases, width); 0 beyond the end of a sequence.
        inside : Tensor
            float, shape (batch, bases, 1): 0 beyond the end of a sequence, where no state counts.

        Returns
        -------
        Tensor
            float, shape (batch, bases, states).
        """

    @property
    def view(self) -> View:
        """How it looks at omics tracks: base by base."""
        return View()

    def get_input_embeddings(self) -> nn.Module:
        """Return the table of letters."""
        return self.letters

    def look(self, bases: Tensor) -> BaseInputs:
        """Return what is read beside the letters of nucleotide codes, int64 of shape (batch, bases)."""
        if not self.config.zhunt:
            return BaseInputs(None, None, None)
        ready, called = readiness(bases, *self.config.zhunt)
        return BaseInputs(None, ready, called)

    def forward(
        self,
        bases: Tensor,
        input_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        base_tokens: Tensor | None = None,
        labels: Tensor | None = None,
        candidates: Tensor | None = None,
        seen: BaseInputs | None = None,
        features: Tensor | None = None,
        present: Tensor | None = None,
        **_ignored,
    ) -> DnaOutput:
        """Decide each base; parameters are those of `DnaModel.forward`.

        Candidates are learnt in the place of labels where there are no labels.
        """
        if inputs_embeds is None:
            letters = one_hot(bases).transpose(1, 2)
        else:
            index = base_tokens.unsqueeze(-1).expand(-1, -1, inputs_embeds.shape[-1])
            letters = inputs_embeds.gather(1, index)
        inside = (bases != PADDING_BASE).unsqueeze(-1).to(letters.dtype)
        ready = (seen or self.look(bases)).ready
        read = [letters] if ready is None else [letters, ready.transpose(1, 2).to(letters.dtype)]
        if self.config.features:
            read += self._omics(bases, features, present)
        x = torch.cat(read, dim=-1) * inside
        logits = self.decide(self.dropout(self.states(x, inside))).squeeze(-1).float() + FORMS_PRIOR
        known = candidates if labels is None else labels
        return self._base_output(BaseCalls(logits, logits), known, None, None)

    def _omics(self, bases: Tensor, features: Tensor | None, present: Tensor | None) -> list[Tensor]:
        """Return tracks, and which there are, base by base: each (batch, bases, tracks)."""
        shape = (*bases.shape, self.config.features)
        if features is None:
            nothing = torch.zeros(shape, device=bases.device)
            return [nothing, nothing]
        return [features.transpose(1, 2), present.unsqueeze(1).expand(shape)]
