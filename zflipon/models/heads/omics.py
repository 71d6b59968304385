"""The omics head: log-odds that omics tracks add to the activity score of the base-resolution head.

Reading the tracks from files is `zflipon.omics`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zflipon.errors import ModelError
from zflipon.models.metadata import View


class OmicsHead(nn.Module):
    """Adds log-odds from omics tracks, and from the context in which they are read, to each bin.

    Each track is averaged over several distances around a bin and comes with a flag that says whether it is present,
    since the weight of a track depends on which others there are. Without any track nothing is added.

    Parameters
    ----------
    context : int
        Width of the context.
    tracks : int
        Number of tracks.
    distances : sequence of int
        Bases on either side of a bin over which a track is averaged; multiples of `bin_size`.
    bin_size : int
        Bases of a bin, which has one value of each track.
    hidden : int
        Units of the hidden layer.
    dropout : float
        Fraction of them dropped in training.

    Raises
    ------
    ModelError
        If a distance is negative or not a multiple of `bin_size`.
    """

    def __init__(
        self, context: int, tracks: int, distances: Sequence[int], bin_size: int, hidden: int, dropout: float
    ):
        super().__init__()
        if not distances or any(distance < 0 or distance % bin_size for distance in distances):
            raise ModelError(
                f"distances must be multiples of {bin_size} bases, 0 or more, at least one; not {list(distances)}"
            )
        self.bin_size, self.tracks = bin_size, tracks
        self.radii = [distance // bin_size for distance in distances]
        self.entry = nn.Linear(context + tracks * (len(distances) + 1), hidden)
        self.exit = nn.Linear(hidden, 1)
        self.dropout = nn.Dropout(dropout)

    @property
    def view(self) -> View:
        """Resolution and flank at which the head reads tracks."""
        return View(self.bin_size, max(self.radii) * self.bin_size)

    def forward(self, context: Tensor, features: Tensor, present: Tensor) -> Tensor:
        """Compute the log-odds to add to each bin.

        Parameters
        ----------
        context : Tensor
            float, shape (batch, bins, context).
        features : Tensor
            float32, shape (batch, tracks, steps): one value per bin of a window and its flanks.
        present : Tensor
            float32, shape (batch, tracks): 1 if a track is present, else 0.

        Returns
        -------
        Tensor
            float, shape (batch, bins); 0 if no track is present.
        """
        means = self.local_means(features, context.shape[1])
        present_in_bins = present.unsqueeze(1).expand(-1, context.shape[1], -1)
        hidden = F.gelu(self.entry(self.layer_inputs(context, means, present_in_bins)))
        return self.exit(self.dropout(hidden)).squeeze(-1) * present.amax(1, keepdim=True)

    def local_means(self, features: Tensor, bins: int) -> Tensor:
        """Average each track over each distance around each bin.

        Parameters
        ----------
        features : Tensor
            float, shape (batch, tracks, steps), as in `forward`.
        bins : int
            Bins of the window itself.

        Returns
        -------
        Tensor
            float32, shape (batch, bins, tracks, distances).
        """
        flank = max(self.radii)
        sums = F.pad(features.float().cumsum(-1), (1, 0))
        means = [
            (sums[..., flank + radius + 1 :][..., :bins] - sums[..., flank - radius :][..., :bins])
            / (2 * radius + 1)
            for radius in self.radii
        ]
        return torch.stack(means, dim=-1).transpose(1, 2)

    def layer_inputs(self, context: Tensor, means: Tensor, present: Tensor) -> Tensor:
        """Concatenate the inputs of the first layer: float, shape (..., inputs).

        Parameters
        ----------
        context : Tensor
            float, shape (..., context).
        means : Tensor
            float, shape (..., tracks, distances), see `local_means`; ignored for absent tracks.
        present : Tensor
            float, shape (..., tracks).
        """
        masked = (means * present.unsqueeze(-1)).flatten(-2)
        return torch.cat([context, masked.to(context.dtype), present], dim=-1)
