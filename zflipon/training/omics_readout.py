"""What omics tracks add, learnt from whole calls: small networks that are averaged, each seen with some tracks missing.

A genome has a thousand labels, and forty tracks at several distances say much of the same. So networks are
small, most of what they read and know is dropped at random while they learn, and what they end with is their mean. Of
the tracks, too, some are dropped: all networks have met every number of tracks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zflipon.models.heads.omics import Omics

MEMBERS = 8
"""Networks that share the units of the layer between."""

_PASSES, _BATCH, _RATE, _DECAY = 45, 128, 2e-3, 0.05
_LEAST_STEPS = 16  # of a pass, however few calls there are
_INPUTS_DROPPED, _UNITS_DROPPED = 0.3, 0.5


@dataclass(frozen=True)
class Calls:
    """Calls to learn from.

    Attributes
    ----------
    context : Tensor
        float32, shape (n, context).
    around : Tensor
        float32, shape (n, tracks, distances).
    sequence : Tensor
        float32, shape (n,): log-odds by sequence alone.
    flips : Tensor
        float32, shape (n,): 1 where labelled.
    """

    context: Tensor
    around: Tensor
    sequence: Tensor
    flips: Tensor


def fit_omics(omics: Omics, calls: Calls, present: np.ndarray, drop: float, seed: int) -> None:
    """Fit the whole of a head's reading of tracks, in place.

    Parameters
    ----------
    omics : Omics
    calls : Calls
    present : numpy.ndarray
        float32, shape (tracks,): the tracks that there are.
    drop : float
        Share of the looks at a call in which some tracks are missing.
    seed : int
    """
    scale = _Scale.of(omics, calls)
    units, rest = divmod(omics.entry.out_features, MEMBERS)
    sizes = [units + (i < rest) for i in range(MEMBERS)]
    there = torch.from_numpy(present)
    found = [
        _member(omics, calls, scale, there, drop, size, seed + i) for i, size in enumerate(sizes) if size
    ]
    with torch.no_grad():
        entry = torch.cat([member[1].weight for member in found])
        bias = torch.cat([member[1].bias for member in found])
        omics.entry.weight.copy_(entry / scale.spread)
        omics.entry.bias.copy_(bias - (entry * scale.mean / scale.spread)[:, : scale.own].sum(1))
        # the mean of a track is taken off only where the track is there
        tracks = (entry * scale.mean / scale.spread)[:, scale.own : -omics.tracks]
        omics.entry.weight[:, -omics.tracks :] -= tracks.unflatten(1, (omics.tracks, -1)).sum(2)
        omics.exit.weight.copy_(torch.cat([member[4].weight for member in found], dim=1) / len(found))
        omics.exit.bias.copy_(torch.stack([member[4].bias for member in found]).mean(0))


@dataclass(frozen=True)
class _Scale:
    """Mean and spread of what the first layer reads, shape (inputs,), and how many of them are of the context."""

    mean: Tensor
    spread: Tensor
    own: int

    @classmethod
    def of(cls, omics: Omics, calls: Calls) -> _Scale:
        there = torch.ones(len(calls.flips), omics.tracks)
        values = omics.inputs(calls.context, calls.around, there).double()
        mean, spread = values.mean(0), values.std(0, unbiased=False)
        mean[-omics.tracks :] = 0
        return cls(mean.float(), torch.where(spread > 1e-6, spread, 1.0).float(), calls.context.shape[1])

    def inputs(self, omics: Omics, calls: Calls, chosen: Tensor, there: Tensor) -> Tensor:
        """Return what the first layer reads of some calls, each about 0 with a spread of 1, and 0 if not there."""
        values = omics.inputs(calls.context[chosen], calls.around[chosen], torch.ones_like(there))
        values = (values - self.mean) / self.spread
        near = values[:, self.own : -omics.tracks].unflatten(1, (omics.tracks, -1)) * there[..., None]
        return torch.cat([values[:, : self.own], near.flatten(1), there], dim=1)


def _member(
    omics: Omics, calls: Calls, scale: _Scale, present: Tensor, drop: float, units: int, seed: int
) -> nn.Sequential:
    """Train one of the networks, of so many units."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Dropout(_INPUTS_DROPPED),
            nn.Linear(omics.entry.in_features, units),
            nn.GELU(),
            nn.Dropout(_UNITS_DROPPED),
            nn.Linear(units, 1),
        )
        size = min(_BATCH, max(1, len(calls.flips) // _LEAST_STEPS))
        steps = len(calls.flips) // size
        optimizer = torch.optim.AdamW(net.parameters(), _RATE, weight_decay=_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, _PASSES * steps)
        for _ in range(_PASSES):
            order = torch.randperm(len(calls.flips))
            for chosen in order[: size * steps].view(steps, size):
                there = _kept(present, size, drop)
                odds = net(scale.inputs(omics, calls, chosen, there)).squeeze(1) + calls.sequence[chosen]
                loss = F.binary_cross_entropy_with_logits(odds, calls.flips[chosen])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return net


def _kept(present: Tensor, size: int, drop: float) -> Tensor:
    """Return which tracks each of a batch's calls is seen with; as `zflipon.training.sampling.kept_tracks`."""
    share = torch.where(torch.rand(size, 1) < drop, torch.rand(size, 1), 1.0)
    return present * (torch.rand(size, len(present)) < share).float()
