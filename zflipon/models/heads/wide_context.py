"""The context of the base-resolution head from several kilobases of sequence, by the context network.

It takes the place of `zflipon.models.heads.bin_context.BinContext` where a model has ``base_head.wide_context``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zflipon.models.heads.bin_context import BIN_SIZE
from zflipon.models.heads.context_network import COARSE_BIN, FINE_BIN, ContextNetwork


class WideContext(nn.Module):
    """Describes the surroundings of each bin by the states of the context network.

    Parameters
    ----------
    widths, dilations, blocks : sequence of int
        See `ContextNetwork`.
    dropout : float
        Fraction of channels dropped in training.
    """

    def __init__(
        self,
        widths: Sequence[int],
        dilations: Sequence[int],
        blocks: Sequence[int] = (0, 1, 2),
        dropout: float = 0.1,
    ):
        super().__init__()
        self.network = ContextNetwork(widths, dilations, blocks, dropout)
        self.channels = self.network.width
        self.fine = nn.Linear(self.channels, self.channels)
        self.coarse = nn.Linear(self.channels, self.channels)

    def forward(
        self, one_hot: Tensor, states: Tensor | None, mask: Tensor, widths: Sequence[int] | None = None
    ) -> Tensor:
        """Compute the context of each bin; tokens are not read.

        Parameters
        ----------
        one_hot : Tensor
            float, shape (batch, 4, bases), of whole bins; 0 at N and padding.
        states : Tensor or None
            float, shape (batch, tokens, hidden_size): token states, without which token embeddings get no gradients.
        mask : Tensor
            bool, shape (batch, 1, bases): False at padding.
        widths : sequence of int, optional
            Bases of each sequence; default: those of the mask.

        Returns
        -------
        Tensor
            float, shape (batch, bins, channels).
        """
        bases = one_hot.shape[-1]
        missing = -bases % COARSE_BIN
        letters = F.pad(one_hot, (0, missing)) if missing else one_hot
        widths = mask.sum(dim=(1, 2)).tolist() if widths is None else widths
        hidden = self._read_rows(letters.transpose(1, 2), widths)
        bins = hidden.repeat_interleave(FINE_BIN // BIN_SIZE, dim=1)[:, : bases // BIN_SIZE]
        # a term of value 0: gradients with respect to token embeddings exist, and are 0
        return bins if states is None else bins + 0 * states.mean(dim=(1, 2), keepdim=True)

    def _read_rows(self, letters: Tensor, widths: Sequence[int]) -> Tensor:
        """Return the hidden units of `read`; each sequence is read without the padding of its batch.

        Convolutions would read states of padding, and the result of a short sequence would depend on the others.
        """
        used = [-(-width // COARSE_BIN) * COARSE_BIN for width in widths]
        if set(used) == {letters.shape[1]}:
            return self.read(letters)[0]
        batch, bases = letters.shape[:2]
        hidden = self.fine.weight.new_zeros(batch, bases // FINE_BIN, self.channels)
        for size in set(used) - {0}:
            rows = torch.tensor([row for row, each in enumerate(used) if each == size], device=letters.device)
            states = self.read(letters[rows, :size])[0]
            hidden[rows, : size // FINE_BIN] = states.to(hidden.dtype)
        return hidden

    def read(self, letters: Tensor) -> tuple[Tensor, Tensor]:
        """Return the hidden units of each 32-bp bin, and the states of each 128-bp bin.

        Parameters
        ----------
        letters : Tensor
            float, shape (batch, bases, 4), whose length is a multiple of 128.

        Returns
        -------
        hidden : Tensor
            float, shape (batch, bases / 32, channels).
        coarse : Tensor
            float, shape (batch, bases / 128, channels).
        """
        fine, coarse = self.network(letters)
        wide = self.coarse(coarse).repeat_interleave(COARSE_BIN // FINE_BIN, dim=1)
        return torch.relu(self.fine(fine) + wide), coarse
