"""What omics tracks around a place add to whether Z-DNA forms there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zflipon.models.story import View


class Omics(nn.Module):
    """Adds to the log-odds of the base head's second factor what the tracks say, and weighs the sequence anew.

    Each track is read as its mean within some distances of a place. What a track is worth depends on which others
    there are, and so does what sequence alone tells of chromatin: weights lie on a straight line between those for
    all tracks and those for a single one, by the share s of the tracks that is there. Without any, nothing is added:
    the model is then the one of sequence alone.

    Parameters
    ----------
    context : int
        Width of the context that the second factor is read from.
    features : int
        Tracks.
    distances : sequence of int
        Bases on either side over which a track is averaged.
    step : int
        Bases of a bin, which has one value of each track.
    """

    def __init__(self, context: int, features: int, distances: Sequence[int], step: int):
        super().__init__()
        self.reaches = [distance // step for distance in distances]
        self.step, self.tracks = step, features
        self.context = nn.Parameter(torch.zeros(context))
        self.bias = nn.Parameter(torch.zeros(()))
        self.there = nn.Parameter(torch.zeros(features))
        self.together = nn.Parameter(torch.zeros(features, len(self.reaches)))
        self.alone = nn.Parameter(torch.zeros(features, len(self.reaches)))

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
        """
        share = present.mean(1, keepdim=True)
        there = present[:, :, None] * (self.together + (1 - share)[..., None] * self.alone)
        near = torch.einsum("btdn,btd->bn", self.around(features, context.shape[1]), there)
        return share * (context @ self.context + self.bias) + present @ self.there[:, None] + near

    def around(self, features: Tensor, bins: int) -> Tensor:
        """Return the mean of each track within each distance of each bin: float32, (batch, tracks, distances, bins)."""
        wide = max(self.reaches)
        sums = nn.functional.pad(features.float().cumsum(-1), (1, 0))
        first = [wide - reach for reach in self.reaches]
        means = [
            (sums[..., at + 2 * reach + 1 :][..., :bins] - sums[..., at:][..., :bins]) / (2 * reach + 1)
            for at, reach in zip(first, self.reaches, strict=True)
        ]
        return torch.stack(means, dim=2)

    # ---- the same as a linear model, to be fitted as one ---------------------------------------------------

    def design(self, context: Tensor, around: Tensor, present: Tensor) -> Tensor:
        """Return by what each weight is multiplied, in the order of `weights`.

        Parameters
        ----------
        context : Tensor
            float, shape (n, context).
        around : Tensor
            float, shape (n, tracks, distances).
        present : Tensor
            float, shape (n, tracks).

        Returns
        -------
        Tensor
            Shape (n, weights).
        """
        share = present.mean(1, keepdim=True)
        near = (around * present[..., None]).flatten(1)
        return torch.cat([share * context, share, present, near, (1 - share) * near], dim=1)

    @torch.no_grad()
    def take(self, weights: Tensor) -> None:
        """Take weights of shape (weights,), in the order of `design`."""
        own = (self.context, self.bias, self.there, self.together, self.alone)
        for mine, new in zip(own, weights.split([each.numel() for each in own]), strict=True):
            mine.copy_(new.view(mine.shape))
