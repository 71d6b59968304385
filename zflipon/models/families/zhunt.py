"""Z-HUNT as a model: no language and nothing to train, but run and written as the others are.

It calls what published maps call, by `zflipon.energetics.zhunt.published_call_starts`. The log-odds of a base are
ln(Z / what is asked of Z) of the best window that covers it, so that its probability is one half at the cutoff.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PretrainedConfig

from zflipon.energetics.zhunt import (
    CALL_CUTOFF,
    CALL_EXTENSION,
    DINUCLEOTIDE_LIMIT,
    MIN_DINUCLEOTIDES,
    call_mask,
    published_call_starts,
)
from zflipon.errors import ModelError
from zflipon.models.base import DnaModel, DnaOutput
from zflipon.models.registry import ModelFamily
from zflipon.tokenization.tokenizers import BaseTokenizer

_LOWEST = -36.0
"""Log-odds where nothing turns."""

_OUTSIDE = -0.01
"""Log-odds at most of bases that a window covers and no call holds."""


class ZhuntConfig(PretrainedConfig):
    """Windows of the formula, in dinucleotides.

    Parameters
    ----------
    min_dinucleotides, max_dinucleotides : int
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
        **rest,
    ):
        super().__init__(pad_token_id=pad_token_id, **rest)
        self.min_dinucleotides, self.max_dinucleotides = min_dinucleotides, max_dinucleotides
        self.vocab_size = vocab_size


class ZhuntModel(DnaModel):
    """Z-scores under the base objective; any other is refused."""

    config_class = ZhuntConfig
    base_model_prefix = "zhunt"
    encoder_class = nn.Module

    def __init__(self, config: ZhuntConfig):
        super(DnaModel, self).__init__(config)
        self.objective = getattr(config, "objective", "base")
        if self.objective != "base":
            raise ModelError(f"Z-HUNT decides bases and cannot be trained; no objective '{self.objective}'")
        self.log_cutoff = nn.Parameter(torch.tensor([math.log(CALL_CUTOFF)]), requires_grad=False)
        self.post_init()

    def forward(self, bases: Tensor, **_ignored) -> DnaOutput:
        """Return the log-odds of bases: float32, of the shape of `bases` (int64, (batch, bases))."""
        least, most = self.config.min_dinucleotides, self.config.max_dinucleotides
        dtype = torch.float32 if bases.device.type == "mps" else torch.float64  # which MPS has none of
        _, excess, ends = published_call_starts(bases, least, most, dtype)
        excess = (excess - self.log_cutoff + math.log(CALL_CUTOFF)).clamp(min=_LOWEST)
        called = call_mask(excess >= 0, ends)
        places = torch.arange(bases.shape[1], device=bases.device)
        best = torch.full_like(excess, _LOWEST)
        for length in range(2 * least + CALL_EXTENSION, 2 * most + CALL_EXTENSION + 1, 2):
            mine = torch.where(ends - places == length, excess, _LOWEST)
            shifted = F.pad(mine, (length - 1, 0), value=_LOWEST).unsqueeze(1)
            best = torch.maximum(best, F.max_pool1d(shifted, length, 1).squeeze(1))
        return DnaOutput(logits=torch.where(called, best, best.clamp(max=_OUTSIDE)).float())


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
