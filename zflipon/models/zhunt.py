"""Z-HUNT as a model: no language and nothing to train, but run and written as the others are.

The log-odds of a base are ln(Z / cutoff), Z being the best Z-score of the windows
that cover it, each taken two bases further at its end. So its probability is one half
at the cutoff of published calls, and calls reach as far as those do.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PretrainedConfig

from zflipon.errors import ModelError
from zflipon.models.base import DnaModel, DnaOutput
from zflipon.models.heads import PADDING_BASE
from zflipon.tokens import KmerTokenizer
from zflipon.zhunt import LONGEST, MIN_DINUCLEOTIDES, log_z_score, window_linking

CUTOFF = 700.0
"""Z-score from which a window is called in published human maps."""

LONGEST_CALLED, FURTHER = 7, 2
"""Dinucleotides of the longest windows of those maps, and bases by which their calls pass a window's end."""


class ZhuntConfig(PretrainedConfig):
    """Windows of the formula, in dinucleotides.

    Parameters
    ----------
    min_dinucleotides, max_dinucleotides : int
    further : int
        Bases beyond a window's end that it stands for.
    vocab_size, pad_token_id : int
        Of the tokenizer, whose tokens are single bases.
    """

    model_type = "zflipon-zhunt"

    def __init__(
        self,
        min_dinucleotides: int = MIN_DINUCLEOTIDES,
        max_dinucleotides: int = LONGEST_CALLED,
        further: int = FURTHER,
        vocab_size: int = 9,
        pad_token_id: int = 0,
        **rest,
    ):
        super().__init__(pad_token_id=pad_token_id, **rest)
        self.min_dinucleotides, self.max_dinucleotides = min_dinucleotides, max_dinucleotides
        self.further = further
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
        self.log_cutoff = nn.Parameter(torch.tensor([math.log(CUTOFF)]), requires_grad=False)
        self.post_init()

    def forward(self, bases: Tensor, **_ignored) -> DnaOutput:
        """Return the log-odds of bases: float32, of the shape of `bases` (int64, (batch, bases))."""
        config, size = self.config, bases.shape[1]
        dtype = torch.float32 if bases.device.type == "mps" else torch.float64  # which MPS has none of
        padded = F.pad(bases, (0, 2 * config.max_dinucleotides), value=PADDING_BASE)
        best = None
        for dinucleotides, linking in window_linking(
            padded, config.min_dinucleotides, config.max_dinucleotides, dtype, as_program=True
        ):
            length = 2 * dinucleotides
            score = log_z_score(linking[:, :size])
            fits = padded[:, length - 1 : length - 1 + size] != PADDING_BASE
            score = torch.where(fits, score, -math.inf)
            reach = length + config.further
            shifted = F.pad(score, (reach - 1, 0), value=-math.inf).unsqueeze(1)
            covering = F.max_pool1d(shifted, reach, 1).squeeze(1)
            best = covering if best is None else torch.maximum(best, covering)
        # in a sequence shorter than a window nothing turns
        return DnaOutput(logits=(best.clamp(min=-30) - self.log_cutoff).float())


class BaseTokenizer(KmerTokenizer):
    """Single bases: the formula reads them, and the tokens only say where they are."""

    def __init__(self):
        letters = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"ACGT"]
        super().__init__({letter: index for index, letter in enumerate(letters)})

    @classmethod
    def from_file(cls, _path) -> BaseTokenizer:
        """Return the one that there is."""
        return cls()

    def save(self, folder) -> None:
        """Write nothing."""


MODEL = ZhuntModel
CONFIG = ZhuntConfig
TOKENIZER, TOKENIZER_FILE = BaseTokenizer, ""
STORY = {"window": 4096, "margin": 2 * LONGEST + FURTHER, "objective": "base"}
LORA_TARGETS: list[str] = []


def recognises(config: dict) -> bool:
    """Tell whether a ``config.json`` is of this family."""
    return config.get("model_type") == ZhuntConfig.model_type
