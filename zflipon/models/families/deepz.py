"""DeepZ (Beknazarov et al. 2020): recurrent and convolutional networks over nucleotides, energies and omics tracks.

As published: the inputs of a base are its letter, its energy of the B-to-Z transition and omics tracks; each base gets
a logit; there are three kinds of networks, of which the bidirectional LSTM was best. Different here: energies come from
the full Z-HUNT model, not from a dinucleotide table; tracks are those of the recipe, each with a flag for its presence,
not the thousand of the paper; layers have tens of units, not hundreds; convolutions are residual and dilated; labels,
windows and negatives are those of the recipe.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from zflipon.models.families.nucleotides import NucleotideConfig, NucleotideModel, is_integer
from zflipon.models.registry import ModelFamily
from zflipon.tokenization.tokenizers import BaseTokenizer


class DeepzConfig(NucleotideConfig):
    """Shape of a DeepZ network: `variant` is ``'lstm'``, ``'cnn'`` or ``'hybrid'`` (convolutions, then an LSTM).

    Parameters
    ----------
    kernel : int
        Bases that a convolution covers; odd.
    """

    model_type = "zflipon-deepz"
    variants = ("lstm", "cnn", "hybrid")

    def __init__(self, kernel: int = 11, **others):
        super().__init__(**others)
        self.kernel = kernel
        self.require("kernel", is_integer(kernel, 1) and kernel % 2 == 1, "an odd number of bases")


class Convolutions(nn.Module):
    """Residual convolutions; each has twice the dilation of the previous one."""

    def __init__(self, width: int, hidden: int, layers: int, kernel: int, dropout: float):
        super().__init__()
        self.entry = nn.Conv1d(width, hidden, kernel, padding=kernel // 2)
        self.layers = nn.ModuleList(
            nn.Conv1d(hidden, hidden, kernel, padding=(kernel // 2) << depth, dilation=1 << depth)
            for depth in range(1, layers)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map (batch, bases, width) to (batch, bases, hidden)."""
        mask = mask.transpose(1, 2)
        x = F.gelu(self.entry(x.transpose(1, 2))) * mask
        for layer in self.layers:
            x = x + self.dropout(F.gelu(layer(x))) * mask
        return x.transpose(1, 2)


class Recurrence(nn.Module):
    """A bidirectional LSTM that skips padding."""

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

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map (batch, bases, width) to (batch, bases, 2 × hidden)."""
        lengths = mask.sum((1, 2)).long().cpu()
        if int(lengths.min()) == x.shape[1]:
            return self.lstm(x)[0]
        packed = pack_padded_sequence(x, lengths.clamp(min=1), batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=x.shape[1])[0]


class DeepzModel(NucleotideModel):
    """The networks of DeepZ."""

    config_class = DeepzConfig

    def build_layers(self, config: DeepzConfig, width: int) -> int:
        """Create convolutions, an LSTM, or an LSTM on top of convolutions."""
        hidden, layers, dropout = config.hidden_size, config.num_hidden_layers, config.hidden_dropout_prob
        self.convolutions = self.recurrence = None
        if config.variant != "lstm":
            self.convolutions = Convolutions(width, hidden, layers, config.kernel, dropout)
            width = hidden
        if config.variant != "cnn":
            self.recurrence = Recurrence(width, hidden, layers, dropout)
            width = 2 * hidden
        return width

    def states(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return the state of each base."""
        for part in (self.convolutions, self.recurrence):
            if part is not None:
                x = part(x, mask)
        return x


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
