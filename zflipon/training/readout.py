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
from zflipon.training.material import Material
from zflipon.training.omics import Calls, fit_omics

log = logging.getLogger("zflipon")

_BATCH = 16

_REPEATS_PRICE = 1.0
"""Of the weight of what is told of repeats: a number by itself, where those of the context say much of the same."""


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
        prices = np.full(contexts.shape[1], penalty)
        if checkpoint.module.base_head.repeats:
            prices[-1] = min(_REPEATS_PRICE, penalty)
        weights, bias = logistic(contexts, flips, prices)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(weights)[None])
            layer.bias.fill_(bias - FLIPS_PRIOR)
    if omics is not None:
        context = torch.from_numpy(contexts)
        with torch.no_grad():
            sequence = layer(context.to(layer.weight.device)).squeeze(1).cpu() + FLIPS_PRIOR
        around = torch.from_numpy(np.stack([each.around for each in found]))
        calls = Calls(context, around, sequence, torch.from_numpy(flips).float())
        fit_omics(omics, calls, material.features.present, material.drop, material.data.seed)


def logistic(
    features: np.ndarray, labels: np.ndarray, penalty: float | np.ndarray, steps: int = 50
) -> tuple[np.ndarray, float]:
    """Fit a logistic regression with a price on the weights of standardised features.

    Parameters
    ----------
    features : numpy.ndarray
        float, shape (n, features).
    labels : numpy.ndarray
        bool, shape (n,).
    penalty : float or numpy.ndarray
        Half of it times the squared weights is added to the summed loss, of all features or, shape (features,), of
        each; the bias is free.
    steps : int
        Newton steps at most.

    Returns
    -------
    weights : numpy.ndarray
        float64, shape (features,), of the features as they are.
    bias : float
    """
    mean, spread = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
    spread = np.where(spread > 0, spread, 1.0)
    design = np.concatenate([(features - mean) / spread, np.ones((len(features), 1))], axis=1)
    price = np.append(np.broadcast_to(penalty, features.shape[1]), 0.0)
    beta = np.zeros(design.shape[1])
    beta[-1] = np.log((labels.sum() + 0.5) / ((~labels).sum() + 0.5))
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(design @ beta, -80, 80)))
        gradient = design.T @ (p - labels) + price * beta
        hessian = (design * (p * (1 - p))[:, None]).T @ design + np.diag(price)
        move = np.linalg.solve(hessian, gradient)
        beta = beta - move
        if np.abs(move).max() < 1e-8:
            break
    weights = beta[:-1] / spread
    return weights, float(beta[-1] - weights @ mean)


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
            yield Example(row[bins].mean(0), flips, None if tracks is None else tracks[bins].mean(0))


def _around(
    checkpoint: Checkpoint, material: Material, contig: str, begins: list[int], sequences: list[str]
) -> Iterator[np.ndarray | None]:
    """Yield what tracks say around the bins of each window, read on the other strand: (bins, tracks, distances)."""
    omics = checkpoint.module.base_head.omics
    for begin, sequence in zip(begins, sequences, strict=True):
        if omics is None:
            yield None
            continue
        seen = material.features.window(contig, begin, begin + len(sequence), omics.view)
        turned = torch.from_numpy(seen[None, :, ::-1].copy()).to(omics.entry.weight.device)
        yield omics.around(turned, -(-len(sequence) // BIN))[0].cpu().numpy()


def _contexts(checkpoint: Checkpoint, sequences: list[str], device: torch.device) -> np.ndarray:
    """Return the context of each bin: float32, shape (sequences, bins, features)."""
    tokens = checkpoint.tokenizer.encode(sequences)
    batch = collate(tokens, sequences, checkpoint.tokenizer.pad_id, with_bases=True)
    context = checkpoint.module.surroundings(**{name: tensor.to(device) for name, tensor in batch.items()})
    return context.float().cpu().numpy()
