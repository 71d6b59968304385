"""What omics tracks around a place add to whether Z-DNA forms there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zflipon.errors import ModelError
from zflipon.models.metadata import View


class Omics(nn.Module):
    """Adds to the log-odds of the base head's second factor, from tracks and from the context that they lie in.

    Each track is read as its mean within some distances of a place, beside a word on whether it is there at all: what
    a track is worth depends on which others there are. Without any track nothing is added, and the model is the one
    of sequence alone.

    Parameters
    ----------
    context : int
        Width of the context.
    tracks : int
    distances : sequence of int
        Bases on either side over which a track is averaged; whole steps.
    step : int
        Bases of a bin, which has one value of each track.
    hidden : int
        Units of the layer between.
    dropout : float
        Share of these dropped while training.
    """

    def __init__(
        self, context: int, tracks: int, distances: Sequence[int], step: int, hidden: int, dropout: float
    ):
        super().__init__()
        if not distances or any(distance < 0 or distance % step for distance in distances):
            raise ModelError(
                f"distances must be whole steps of {step} bases from 0 on, not {list(distances)}"
            )
        self.step, self.tracks = step, tracks
        self.reaches = [distance // step for distance in distances]
        self.entry = nn.Linear(context + tracks * (len(distances) + 1), hidden)
        self.exit = nn.Linear(hidden, 1)
        self.dropout = nn.Dropout(dropout)

    @property
    def view(self) -> View:
        """How it looks at tracks."""
        return View(self.step, max(self.reaches) * self.step)

    def forward(self, context: Tensor, features: Tensor, present: Tensor) -> Tensor:
        """Return what is added to the log-odds of each bin.

        Parameters
        ----------
        context : Tensor
            float, shape (batch, bins, context).
        features : Tensor
            float32, shape (batch, tracks, steps), of a window and its flanks.
        present : Tensor
            float32, shape (batch, tracks): 1 where a track is there.

        Returns
        -------
        Tensor
            float, shape (batch, bins).
        """
        around = self.around(features, context.shape[1])
        there = present.unsqueeze(1).expand(-1, context.shape[1], -1)
        added = self.exit(self.dropout(F.gelu(self.entry(self.inputs(context, around, there))))).squeeze(-1)
        return added * present.amax(1, keepdim=True)

    def around(self, features: Tensor, bins: int) -> Tensor:
        """Return the mean of each track within each distance of each bin: float32, (batch, bins, tracks, distances)."""
        wide = max(self.reaches)
        sums = F.pad(features.float().cumsum(-1), (1, 0))
        means = [
            (sums[..., wide + reach + 1 :][..., :bins] - sums[..., wide - reach :][..., :bins])
            / (2 * reach + 1)
            for reach in self.reaches
        ]
        return torch.stack(means, dim=-1).transpose(1, 2)

    def inputs(self, context: Tensor, around: Tensor, present: Tensor) -> Tensor:
        """Return what the first layer reads: float, shape (…, inputs).

        Parameters
        ----------
        context : Tensor
            float, shape (…, context).
        around : Tensor
            float, shape (…, tracks, distances).
        present : Tensor
            float, shape (…, tracks); what `around` says of tracks that are not there goes for nothing.
        """
        return torch.cat(
            [context, (around * present.unsqueeze(-1)).flatten(-2).to(context.dtype), present], dim=-1
        )
