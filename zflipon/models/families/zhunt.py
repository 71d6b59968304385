"""Z-HUNT as a model: a formula without trainable weights, run through the same code as the networks.

Calls follow the rule of published maps (`zflipon.energetics.published.published_call_starts`). The log-odds of a base
are ln(Z-score / cutoff) of the best window that covers it, so the probability is 0.5 at the cutoff.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PretrainedConfig
from transformers import initialization as init

from zflipon.energetics.energies import DINUCLEOTIDE_LIMIT
from zflipon.energetics.published import CALL_CUTOFF, CALL_EXTENSION, call_mask, published_call_starts
from zflipon.energetics.zhunt import MIN_DINUCLEOTIDES
from zflipon.models.base import DnaModel, DnaOutput
from zflipon.models.metadata import View
from zflipon.models.registry import ModelFamily
from zflipon.tokenization.tokenizers import BaseTokenizer

_LOWEST = -36.0
"""Lowest log-odds, of bases that no window covers."""

_MAX_OUTSIDE_CALLS = -0.01
"""Highest log-odds of bases outside calls, below those of any call."""


class ZhuntConfig(PretrainedConfig):
    """Window lengths of Z-HUNT.

    Parameters
    ----------
    min_dinucleotides, max_dinucleotides : int
        Shortest and longest window.
    vocab_size, pad_token_id : int
        Of the tokenizer, whose tokens are single bases.
    """

    model_type = "zflipon-zhunt"

    def __init__(
        self,
        min_dinucleotides: int = MIN_DINUCLEOTIDES,
        max_dinucleotides: int = DINUCLEOTIDE_LIMIT,
        vocab_size: int = 9,
        pad_token_id: int = 0,
        **others,
    ):
        others["pad_token_id"] = pad_token_id
        super().__init__(**others)
        self.min_dinucleotides, self.max_dinucleotides = min_dinucleotides, max_dinucleotides
        self.vocab_size = vocab_size


class ZhuntModel(DnaModel):
    """Z-HUNT scores as base logits; it has the base objective only."""

    objectives = ("base",)
    has_base_head = False

    config_class = ZhuntConfig
    base_model_prefix = "zhunt"
    supports_gradient_checkpointing = False

    def build(self, config: ZhuntConfig) -> None:
        """Create the only parameter, the logarithm of the cutoff."""
        self.log_cutoff = nn.Parameter(torch.tensor([math.log(CALL_CUTOFF)]), requires_grad=False)

    def reset_parameters(self) -> None:
        """Set the cutoff to that of published maps."""
        init.constant_(self.log_cutoff, math.log(CALL_CUTOFF))

    @property
    def view(self) -> View:
        """Z-HUNT reads no omics tracks."""
        return View()

    @property
    def reach(self) -> int:
        """Bases on either side that decide about a base: the longest call that holds it."""
        return 2 * self.config.max_dinucleotides + CALL_EXTENSION

    def forward(self, bases: Tensor, **_unused) -> DnaOutput:
        """Compute log-odds: float32, shape (batch, bases), from nucleotide codes, int64 of that shape."""
        least, most = self.config.min_dinucleotides, self.config.max_dinucleotides
        dtype = torch.float32 if bases.device.type == "mps" else torch.float64  # MPS has no float64
        _, excess, ends = published_call_starts(bases, least, most, dtype)
        excess = (excess - self.log_cutoff + math.log(CALL_CUTOFF)).clamp(min=_LOWEST)
        in_call = call_mask(excess >= 0, ends)
        positions = torch.arange(bases.shape[1], device=bases.device)
        best = torch.full_like(excess, _LOWEST)
        for length in range(2 * least + CALL_EXTENSION, 2 * most + CALL_EXTENSION + 1, 2):
            of_length = torch.where(ends - positions == length, excess, _LOWEST)
            shifted = F.pad(of_length, (length - 1, 0), value=_LOWEST).unsqueeze(1)
            best = torch.maximum(best, F.max_pool1d(shifted, length, 1).squeeze(1))
        return DnaOutput(logits=torch.where(in_call, best, best.clamp(max=_MAX_OUTSIDE_CALLS)).float())


def recognizes(config: dict) -> bool:
    """Return whether a ``config.json`` is this family's, by its ``model_type``."""
    return config.get("model_type") == ZhuntConfig.model_type


FAMILY = ModelFamily(
    model=ZhuntModel,
    config=ZhuntConfig,
    tokenizer=BaseTokenizer,
    recognizes=recognizes,
    default_metadata={"window": 4096, "margin": 2 * DINUCLEOTIDE_LIMIT + CALL_EXTENSION, "objective": "base"},
    trainable=False,
    reads_tokens=False,
)
