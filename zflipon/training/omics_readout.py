"""Fit of the part of a base head that reads omics tracks: an ensemble of small networks with one example a candidate.

A genome has about a thousand labels, and tracks at several distances are strongly correlated. The networks are
therefore small, most of their inputs and units are dropped during training, and their outputs are averaged. Random
subsets of the tracks are dropped as well, so that every number of available tracks is covered.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zflipon.models.heads.omics import OmicsHead

MEMBERS = 8
"""Networks in the ensemble. They share the hidden units of `OmicsHead`."""

EPOCHS, BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY = 20, 128, 2e-3, 0.05
LEAST_STEPS = 16
"""Steps in an epoch, however few candidates there are."""

INPUT_DROPOUT, UNIT_DROPOUT = 0.3, 0.5


@dataclass(frozen=True)
class Candidates:
    """Candidates to learn from.

    Attributes
    ----------
    context : Tensor
        float32, shape (n, features): inputs of the readout from the sequence.
    tracks : Tensor
        float32, shape (n, tracks, distances): omics tracks around each candidate.
    log_odds : Tensor
        float32, shape (n,): prediction from sequence alone.
    labelled : Tensor
        float32, shape (n,): 1 if labelled.
    """

    context: Tensor
    tracks: Tensor
    log_odds: Tensor
    labelled: Tensor


def fit_omics(omics: OmicsHead, candidates: Candidates, present: np.ndarray, drop: float, seed: int) -> None:
    """Fit all weights of a head's omics part, in place.

    Parameters
    ----------
    omics : OmicsHead
    candidates : Candidates
    present : numpy.ndarray
        float32, shape (tracks,): 1 for each track that is available.
    drop : float
        Share of the training examples from which some tracks are dropped.
    seed : int
    """
    scaler = _Scaler.fit(omics, candidates)
    units, rest = divmod(omics.entry.out_features, MEMBERS)
    sizes = [units + (i < rest) for i in range(MEMBERS)]
    available = torch.from_numpy(present)
    members = [
        _train_member(omics, candidates, scaler, available, drop, size, seed + i)
        for i, size in enumerate(sizes)
        if size
    ]
    with torch.no_grad():
        entry = torch.cat([first.weight for first, _ in members])
        bias = torch.cat([first.bias for first, _ in members])
        shift = entry * scaler.mean / scaler.spread
        omics.entry.weight.copy_(entry / scaler.spread)
        omics.entry.bias.copy_(bias - shift[:, : scaler.context_size].sum(1))
        # the mean of a track is subtracted only if the track is available
        of_tracks = shift[:, scaler.context_size : -omics.tracks]
        omics.entry.weight[:, -omics.tracks :] -= of_tracks.unflatten(1, (omics.tracks, -1)).sum(2)
        omics.exit.weight.copy_(torch.cat([last.weight for _, last in members], dim=1) / len(members))
        omics.exit.bias.copy_(torch.stack([last.bias for _, last in members]).mean(0))


@dataclass(frozen=True)
class _Scaler:
    """Mean and standard deviation of the inputs, shape (inputs,), and the number of inputs of the context."""

    mean: Tensor
    spread: Tensor
    context_size: int

    @classmethod
    def fit(cls, omics: OmicsHead, candidates: Candidates) -> _Scaler:
        available = torch.ones(len(candidates.labelled), omics.tracks)
        values = omics.layer_inputs(candidates.context, candidates.tracks, available).double()
        mean, spread = values.mean(0), values.std(0, unbiased=False)
        mean[-omics.tracks :] = 0
        return cls(mean.float(), torch.where(spread > 1e-6, spread, 1.0).float(), candidates.context.shape[1])

    def inputs(self, omics: OmicsHead, candidates: Candidates, rows: Tensor, available: Tensor) -> Tensor:
        """Return the standardised inputs of some candidates; 0 for tracks that are not available."""
        values = omics.layer_inputs(
            candidates.context[rows], candidates.tracks[rows], torch.ones_like(available)
        )
        values = (values - self.mean) / self.spread
        tracks = values[:, self.context_size : -omics.tracks].unflatten(1, (omics.tracks, -1))
        tracks = tracks * available[..., None]
        return torch.cat([values[:, : self.context_size], tracks.flatten(1), available], dim=1)


def _train_member(
    omics: OmicsHead,
    candidates: Candidates,
    scaler: _Scaler,
    present: Tensor,
    drop: float,
    units: int,
    seed: int,
) -> tuple[nn.Linear, nn.Linear]:
    """Train one network with this number of hidden units; return its first and its last layer."""
    count = len(candidates.labelled)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first, last = nn.Linear(omics.entry.in_features, units), nn.Linear(units, 1)
        network = nn.Sequential(nn.Dropout(INPUT_DROPOUT), first, nn.GELU(), nn.Dropout(UNIT_DROPOUT), last)
        size = min(BATCH_SIZE, max(1, count // LEAST_STEPS))
        steps = count // size
        optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, EPOCHS * steps)
        for _ in range(EPOCHS):
            order = torch.randperm(count)
            for rows in order[: size * steps].view(steps, size):
                available = _drop_tracks(present, size, drop)
                inputs = scaler.inputs(omics, candidates, rows, available)
                odds = network(inputs).squeeze(1) + candidates.log_odds[rows]
                loss = F.binary_cross_entropy_with_logits(odds, candidates.labelled[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return first, last


def _drop_tracks(present: Tensor, size: int, drop: float) -> Tensor:
    """Return the tracks of each example of a batch, as `zflipon.training.sampling.drop_tracks` does for a window."""
    share = torch.where(torch.rand(size, 1) < drop, torch.rand(size, 1), 1.0)
    return present * (torch.rand(size, len(present)) < share).float()
