"""DeepZ (Beknazarov et al. 2020): recurrent and convolutional networks over nucleotides, energies and omics tracks.

As published: one-hot sequence, the energy of turning and omics tracks at every base, a decision for every base, and
networks of the three kinds, of which a bidirectional LSTM was the best. Different: energies are Z-HUNT's whole model in
the place of a table of dinucleotides; tracks are those that a recipe names, with a word on which are there, in the
place of the thousand that were gathered; layers are tens of units wide, not hundreds; convolutions are residual and
dilated; labels, windows and negatives are the recipe's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from zflipon.models.families.nucleotides import NucleotideConfig, NucleotideModel, whole
from zflipon.models.registry import ModelFamily
from zflipon.tokenization.tokenizers import BaseTokenizer


class DeepzConfig(NucleotideConfig):
    """Shape of a DeepZ network: `variant` is ``'lstm'``, ``'cnn'`` or ``'hybrid'`` (convolutions, then an LSTM).

    Parameters
    ----------
    kernel : int
        Bases that a convolution sees; odd.
    """

    model_type = "zflipon-deepz"
    variants = ("lstm", "cnn", "hybrid")

    def __init__(self, kernel: int = 11, **rest):
        super().__init__(**rest)
        self.kernel = kernel
        self.require("kernel", whole(kernel, 1) and kernel % 2 == 1, "an odd number of bases")


class Convolutions(nn.Module):
    """Residual convolutions, each seeing twice as far as the one before."""

    def __init__(self, width: int, hidden: int, layers: int, kernel: int, dropout: float):
        super().__init__()
        self.entry = nn.Conv1d(width, hidden, kernel, padding=kernel // 2)
        self.layers = nn.ModuleList(
            nn.Conv1d(hidden, hidden, kernel, padding=(kernel // 2) << depth, dilation=1 << depth)
            for depth in range(1, layers)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, inside: Tensor) -> Tensor:
        """Map (batch, bases, width) to (batch, bases, hidden)."""
        inside = inside.transpose(1, 2)
        x = F.gelu(self.entry(x.transpose(1, 2))) * inside
        for layer in self.layers:
            x = x + self.dropout(F.gelu(layer(x))) * inside
        return x.transpose(1, 2)


class Recurrence(nn.Module):
    """A bidirectional LSTM, which ends where a sequence does."""

    def __init__(self, width: int, hidden: int, layers: int, dropout: float):
        super().__init__()
        self.lstm = nn.LSTM(
            width,
            hidden,
            layers,
            batch_first=True,
            bidirectional=True,
            dropout=dropout if layers > 1 else 0.0,
        )

    def forward(self, x: Tensor, inside: Tensor) -> Tensor:
        """Map (batch, bases, width) to (batch, bases, 2 × hidden)."""
        sizes = inside.sum((1, 2)).long().cpu()
        if int(sizes.min()) == x.shape[1]:
            return self.lstm(x)[0]
        packed = pack_padded_sequence(x, sizes.clamp(min=1), batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=x.shape[1])[0]


class DeepzModel(NucleotideModel):
    """The networks of DeepZ."""

    config_class = DeepzConfig

    def build(self, config: DeepzConfig, width: int) -> int:
        """Make convolutions, an LSTM, or the one upon the other."""
        hidden, layers, dropout = config.hidden_size, config.num_hidden_layers, config.hidden_dropout_prob
        self.convolutions = self.recurrence = None
        if config.variant != "lstm":
            self.convolutions = Convolutions(width, hidden, layers, config.kernel, dropout)
            width = hidden
        if config.variant != "cnn":
            self.recurrence = Recurrence(width, hidden, layers, dropout)
            width = 2 * hidden
        return width

    def states(self, x: Tensor, inside: Tensor) -> Tensor:
        """Return the state of each base."""
        for part in (self.convolutions, self.recurrence):
            if part is not None:
                x = part(x, inside)
        return x

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # convolutions and LSTMs keep what torch gives them
        if isinstance(module, nn.Linear):
            super()._init_weights(module)


def recognizes(config: dict) -> bool:
    """Return whether a ``config.json`` is this family's, by its ``model_type``."""
    return config.get("model_type") == DeepzConfig.model_type


FAMILY = ModelFamily(
    model=DeepzModel,
    config=DeepzConfig,
    tokenizer=BaseTokenizer,
    recognizes=recognizes,
    default_metadata={"window": 1024, "margin": 128, "objective": "base"},
    reads_tokens=False,
)
