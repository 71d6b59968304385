"""What the base head's second factor is read with, fitted again: a penalised logistic regression on whole calls.

Gradient descent sees every base, but the bases of a call are all but one example, and a genome has a
thousand labels. So the layer that tells from the context which call flips is fitted to one example a
call, read on the other strand, with a price on its weights, by Newton's method. All else stays as trained.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from zflipon.genome import reverse_complement
from zflipon.intervals import merge, overlapping
from zflipon.models import Checkpoint
from zflipon.models.batch import collate
from zflipon.models.heads import BIN, FLIPS_PRIOR
from zflipon.training.data import kept_tracks
from zflipon.training.material import Material

log = logging.getLogger("zflipon")

_BATCH = 16

_LOOKS = 4
"""How often a call is looked at where tracks may be missing: once with all tracks, then with some of them."""


def refit(checkpoint: Checkpoint, material: Material, penalty: float) -> None:
    """Fit the readout of the context, and of the omics tracks, to the candidates of the training contigs, in place.

    Where the weights of the context are frozen, those of the tracks alone are fitted.

    Parameters
    ----------
    checkpoint : Checkpoint
        With a base head.
    material : Material
    penalty : float
        Half of it times the squared weights of standardised features goes beside the loss, summed over calls.
    """
    found = [
        example for contig in material.contigs["train"] for example in _examples(checkpoint, material, contig)
    ]
    contexts, flips = np.stack([each.context for each in found]), np.array([each.flips for each in found])
    log.info("readout: %d calls, %d of them labelled", len(flips), int(flips.sum()))
    layer, omics = checkpoint.module.base_head.flips, checkpoint.module.base_head.omics
    if layer.weight.requires_grad:
        weights, bias = logistic(contexts, flips, penalty)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(weights)[None])
            layer.bias.fill_(bias - FLIPS_PRIOR)
    if omics is not None:
        around = np.stack([each.around for each in found])
        _refit_omics(checkpoint, material, contexts, around, flips, penalty)


@torch.no_grad()
def _refit_omics(
    checkpoint: Checkpoint,
    material: Material,
    contexts: np.ndarray,
    around: np.ndarray,
    flips: np.ndarray,
    penalty: float,
) -> None:
    """Fit what tracks add to what sequence says, seen with all tracks and with some of them."""
    head = checkpoint.module.base_head
    rng, present = np.random.default_rng(material.data.seed), material.features.present
    design, counts = [], []
    context, near = torch.from_numpy(contexts).cpu(), torch.from_numpy(around)
    for look in range(_LOOKS if material.drop else 1):
        kept = np.stack([kept_tracks(present, float(look > 0), rng) for _ in flips])
        design.append(head.omics.design(context, near, torch.from_numpy(kept)).numpy())
        share = material.drop / (_LOOKS - 1) if look else 1 - material.drop
        counts.append(np.full(len(flips), share))
    layer = head.flips.cpu()
    sequence = (layer(context).squeeze(1) + FLIPS_PRIOR).numpy()
    looks = len(design)
    weights = added_logistic(
        np.concatenate(design),
        np.tile(flips, looks),
        np.tile(sequence, looks),
        np.concatenate(counts),
        penalty,
    )
    head.omics.take(torch.from_numpy(weights).float())


def logistic(features: np.ndarray, labels: np.ndarray, penalty: float) -> tuple[np.ndarray, float]:
    """Fit a logistic regression with a price on the weights of standardised features.

    Parameters
    ----------
    features : numpy.ndarray
        float, shape (n, features).
    labels : numpy.ndarray
        bool, shape (n,).
    penalty : float
        Half of it times the squared weights is added to the summed loss; the bias is free.

    Returns
    -------
    weights : numpy.ndarray
        float64, shape (features,), of the features as they are.
    bias : float
    """
    mean, spread = features.mean(0, dtype=np.float64), _spread(features)
    design = np.concatenate([(features - mean) / spread, np.ones((len(features), 1))], axis=1)
    price = np.append(np.full(features.shape[1], penalty), 0.0)
    start = np.zeros(design.shape[1])
    start[-1] = np.log((labels.sum() + 0.5) / ((~labels).sum() + 0.5))
    beta = _newton(design, labels, price, start, np.zeros(len(labels)), np.ones(len(labels)))
    weights = beta[:-1] / spread
    return weights, float(beta[-1] - weights @ mean)


def added_logistic(
    features: np.ndarray, labels: np.ndarray, known: np.ndarray, counts: np.ndarray, penalty: float
) -> np.ndarray:
    """Fit what features add to log-odds that are known, without a bias: where all are 0, nothing is added.

    Parameters
    ----------
    features : numpy.ndarray
        float, shape (n, features).
    labels : numpy.ndarray
        bool, shape (n,).
    known : numpy.ndarray
        float, shape (n,): log-odds to begin with.
    counts : numpy.ndarray
        float, shape (n,): how much each example counts.
    penalty : float
        Half of it times the squared weights of features, each divided by its standard deviation, is added to the loss.

    Returns
    -------
    numpy.ndarray
        float64, shape (features,).
    """
    spread = _spread(features)
    price = np.full(features.shape[1], penalty)
    beta = _newton(features / spread, labels, price, np.zeros(features.shape[1]), known, counts)
    return beta / spread


def _spread(features: np.ndarray) -> np.ndarray:
    spread = features.std(0, dtype=np.float64)
    return np.where(spread > 0, spread, 1.0)


def _newton(
    design: np.ndarray,
    labels: np.ndarray,
    price: np.ndarray,
    start: np.ndarray,
    known: np.ndarray,
    counts: np.ndarray,
    steps: int = 50,
) -> np.ndarray:
    """Return the weights of least loss and price; `known` log-odds are added to those of the design."""
    beta = start
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(design @ beta + known, -80, 80)))
        gradient = design.T @ (counts * (p - labels)) + price * beta
        hessian = (design * (counts * p * (1 - p))[:, None]).T @ design + np.diag(price)
        move = np.linalg.solve(hessian, gradient)
        beta = beta - move
        if np.abs(move).max() < 1e-8:
            break
    return beta


class Example(NamedTuple):
    """A candidate.

    Attributes
    ----------
    context : numpy.ndarray
        float32, shape (context,): the mean over its bins.
    flips : bool
        Whether it is labelled.
    around : numpy.ndarray or None
        float32, shape (tracks, distances): what tracks say around it.
    """

    context: np.ndarray
    flips: bool
    around: np.ndarray | None


@torch.inference_mode()
def _examples(checkpoint: Checkpoint, material: Material, contig: str) -> Iterator[Example]:
    """Yield the candidates of a contig, each from a window around it.

    The window is read on the other strand. What surrounds a call has no strand, but the context of training calls, as
    they are predicted, is half known by heart, and a regression on it trusts it too much: read on the other strand
    it looks more like that of calls never seen.
    """
    window, module = checkpoint.story.window, checkpoint.module.eval()
    length, device = material.genome.lengths[contig], next(module.parameters()).device
    calls, labels, ignored = (
        merge(each[contig]) if contig in each else np.empty((0, 2), dtype=np.int64)
        for each in (material.candidates, material.labels, material.blacklist)
    )
    places = [place for place in calls.tolist() if not len(overlapping(ignored, *place))]
    for first in range(0, len(places), _BATCH):
        chosen = places[first : first + _BATCH]
        begins = [max(0, min((start + end - window) // 2, length - window)) for start, end in chosen]
        sequences = [material.genome.fetch(contig, begin, min(begin + window, length)) for begin in begins]
        context = _contexts(checkpoint, [reverse_complement(sequence) for sequence in sequences], device)
        around = _around(checkpoint, material, contig, begins, sequences)
        rows = zip(context, around, begins, sequences, chosen, strict=True)
        for row, tracks, begin, sequence, (start, end) in rows:
            low, high = len(sequence) - (end - begin), len(sequence) - (start - begin)
            bins = slice(low // BIN, (high - 1) // BIN + 1)
            flips = bool(len(overlapping(labels, start, end)))
            yield Example(row[bins].mean(0), flips, None if tracks is None else tracks[..., bins].mean(-1))


def _around(
    checkpoint: Checkpoint, material: Material, contig: str, begins: list[int], sequences: list[str]
) -> Iterator[np.ndarray | None]:
    """Yield what tracks say around the bins of each window, read on the other strand: (tracks, distances, bins)."""
    omics = checkpoint.module.base_head.omics
    for begin, sequence in zip(begins, sequences, strict=True):
        if omics is None:
            yield None
            continue
        seen = material.features.window(contig, begin, begin + len(sequence), omics.view)
        turned = torch.from_numpy(seen[None, :, ::-1].copy())
        yield omics.around(turned, -(-len(sequence) // BIN))[0].numpy()


def _contexts(checkpoint: Checkpoint, sequences: list[str], device: torch.device) -> np.ndarray:
    """Return the context of each bin: float32, shape (sequences, bins, features)."""
    tokens = checkpoint.tokenizer.encode(sequences)
    batch = collate(tokens, sequences, checkpoint.tokenizer.pad_id, with_bases=True)
    context = checkpoint.module.surroundings(**{name: tensor.to(device) for name, tensor in batch.items()})
    return context.float().cpu().numpy()
