"""Task heads that every family can carry.

The token, sequence and masked-LM heads have the parameter names of the official
code, so that published checkpoints load as they are. The base head is ours: it
decides per base, which lifts the ceiling that whole-token calls put on precision.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

NUCLEOTIDES = {letter: code for code, letter in enumerate("ACGT")}
"""Letter → code of the base head's input; any other letter is `UNKNOWN_BASE`."""

UNKNOWN_BASE = 4
PADDING_BASE = 5

PRIOR_LOG_ODDS = -5.0
"""Where the base head's logits start: hardly a base is Z-DNA, and from even odds the first steps learn only that."""


class BaseHead(nn.Module):
    """Token states, upsampled to bases and joined with nucleotides, through dilated convolutions.

    Parameters
    ----------
    hidden_size : int
        Width of the token states.
    channels : int
        Width of the convolutions.
    kernel : int
        Bases a convolution sees; odd.
    dilations : sequence of int
        One residual convolution each.
    dropout : float
        Share of channels dropped while training.
    """

    def __init__(self, hidden_size: int, channels: int, kernel: int, dilations: list[int], dropout: float):
        super().__init__()
        self.token_norm = nn.LayerNorm(hidden_size)
        self.token_projection = nn.Linear(hidden_size, channels)
        self.nucleotides = nn.Embedding(PADDING_BASE + 1, channels, padding_idx=PADDING_BASE)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel, padding=dilation * (kernel // 2), dilation=dilation)
            for dilation in dilations
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in dilations)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(channels, 1)

    def forward(self, states: Tensor, base_tokens: Tensor, bases: Tensor) -> Tensor:
        """Return one logit a base.

        Parameters
        ----------
        states : Tensor
            float, shape (batch, tokens, hidden_size).
        base_tokens : Tensor
            int64, shape (batch, bases): position of each base's token.
        bases : Tensor
            int64, shape (batch, bases): nucleotide codes, `PADDING_BASE` beyond a sequence's end.

        Returns
        -------
        Tensor
            float, shape (batch, bases).
        """
        inside = (bases != PADDING_BASE).unsqueeze(-1)
        context = self.token_projection(self.token_norm(states))
        index = base_tokens.unsqueeze(-1).expand(-1, -1, context.shape[-1])
        x = (context.gather(1, index) + self.nucleotides(bases)) * inside
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            y = convolution(norm(x).mul(inside).transpose(1, 2)).transpose(1, 2)
            # bases beyond the end stay 0, so that a result does not depend on the padding of its batch
            x = x + self.dropout(F.gelu(y)) * inside
        return self.output(x).squeeze(-1) + PRIOR_LOG_ODDS
