"""What the base head's second factor is read with, fitted again: a penalised logistic regression on whole calls.

Gradient descent sees every base, but the bases of a call are all but one example, and a genome has a
thousand labels. So the layer that tells from the context which call flips is fitted to one example a
call, read on the other strand, with a price on its weights, by Newton's method. What words of the surroundings speak
for is weighed with it, and becomes one table for each reach. All else stays as trained.

How dense labels are differs by contig for no reason of its sequence: where cells have a chromosome once, say, half as
many would be found. So each contig has odds of its own while weights are fitted, and what stays is their mean.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from zflipon.genome.alphabet import base_codes, reverse_complement
from zflipon.genome.intervals import find_overlapping, merge
from zflipon.models import Checkpoint
from zflipon.models.collate import collate
from zflipon.models.heads.base_resolution import (
    BIN,
    FLIPS_PRIOR,
    WORD_REACHES,
    BaseHead,
    around_bins,
    said_by_words,
)
from zflipon.training.dataset import TrainingData
from zflipon.training.kmers import word_tables
from zflipon.training.omics_readout import Calls, fit_omics

log = logging.getLogger("zflipon")

_BATCH = 16

_REPEATS_PRICE, _PAIRS_PRICE, _TRACKS_PRICE = 1.0, 10.0, 30.0
"""Of the weights of what words say of repeats, which the context does not learn, of pairs of letters, and of tracks,
which it does."""

_OWN_PRICE = 1.0
_LEAST_CALLS = 50
"""Price of the odds that a contig has of its own, and calls for which it has them; contigs with fewer share theirs."""


def refit(checkpoint: Checkpoint, training_data: TrainingData, penalty: float) -> None:
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
    head = checkpoint.module.base_head
    learnt = head.flips.weight.requires_grad
    tables, costs = _tables(head, training_data) if learnt and head.words else (None, None)
    found = [
        example
        for contig in training_data.contigs["train"]
        for example in _examples(checkpoint, training_data, contig, tables)
    ]
    context, flips = np.stack([each.context for each in found]), np.array([each.flips for each in found])
    contigs = _numbered([each.contig for each in found])
    log.info("readout: %d calls, %d of them labelled", len(flips), int(flips.sum()))
    if learnt:
        said = None if tables is None else np.stack([each.said for each in found])
        context = _fit_flips(head, context, said, flips, contigs, penalty, tables, costs)
    if head.omics is not None:
        known = torch.from_numpy(context)
        with torch.no_grad():
            sequence = head.flips(known.to(head.flips.weight.device)).squeeze(1).cpu() + FLIPS_PRIOR
        around = torch.from_numpy(np.stack([each.around for each in found]))
        calls = Calls(known, around, sequence, torch.from_numpy(flips).float())
        fit_omics(
            head.omics, calls, training_data.features.present, training_data.drop, training_data.data.seed
        )


def _tables(head: BaseHead, training_data: TrainingData) -> tuple[np.ndarray, np.ndarray]:
    """Count what words speak for on the contigs that train.

    Returns
    -------
    tables : numpy.ndarray
        float32, shape (tables, words), as `word_tables`.
    costs : numpy.ndarray
        float64, shape (tables,): price of the weights of each.
    """
    tables = word_tables(
        training_data.genome, training_data.contigs["train"], training_data.tracks, head.words
    )
    log.info("words of %d bases tell of repeats and %d tracks", head.words, len(training_data.tracks))
    costs = np.full(len(tables), _PAIRS_PRICE)
    costs[0] = _REPEATS_PRICE
    costs[len(tables) - len(training_data.tracks) :] = _TRACKS_PRICE
    return tables, costs


def _numbered(contigs: list[str]) -> np.ndarray:
    """Return a number for the contig of each call, the same for all contigs of few calls: int64, shape (calls,)."""
    _, number, count = np.unique(contigs, return_inverse=True, return_counts=True)
    return np.where(count[number] < _LEAST_CALLS, len(count), number)


def _fit_flips(
    head: BaseHead,
    context: np.ndarray,
    said: np.ndarray | None,
    flips: np.ndarray,
    contigs: np.ndarray,
    penalty: float,
    tables: np.ndarray | None,
    costs: np.ndarray | None,
) -> np.ndarray:
    """Fit what the second factor is read with, and weigh the tables of words by it.

    Parameters
    ----------
    head : BaseHead
    context : numpy.ndarray
        float32, shape (calls, features): as `BaseHead.surroundings` has it.
    said : numpy.ndarray or None
        float32, shape (calls, reaches, tables): what words say around each call; None where none are read.
    flips : numpy.ndarray
        bool, shape (calls,).
    contigs : numpy.ndarray
        int64, shape (calls,): number of each call's contig.
    penalty : float
    tables : numpy.ndarray or None
        float32, shape (tables, words).
    costs : numpy.ndarray or None
        float64, shape (tables,): price of the weights of each, but for no more than `penalty`.

    Returns
    -------
    numpy.ndarray
        float32, shape (calls, features): the context as it is read from now on.
    """
    width = head.context_norm.normalized_shape[0]
    features, prices = context[:, :width], np.full(width, penalty)
    if said is not None:
        features = np.concatenate([features, said.reshape(len(said), -1)], axis=1)
        prices = np.append(prices, np.broadcast_to(np.minimum(costs, penalty), said.shape[1:]))
    weights, bias = logistic(features, flips, prices, contigs)
    if said is not None:
        weighed = weights[width:].reshape(said.shape[1:])
        head.word_odds.copy_(torch.from_numpy(weighed @ tables))
        weights = np.append(weights[:width], np.ones(len(weighed)))
        context = np.concatenate([context[:, :width], (said * weighed).sum(2)], axis=1).astype(np.float32)
    with torch.no_grad():
        head.flips.weight.copy_(torch.from_numpy(weights)[None])
        head.flips.bias.fill_(bias - FLIPS_PRIOR)
    return context


def logistic(
    features: np.ndarray,
    labels: np.ndarray,
    penalty: float | np.ndarray,
    groups: np.ndarray | None = None,
    steps: int = 50,
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
    groups : numpy.ndarray, optional
        int, shape (n,): of each example. Each group has odds of its own beside the bias, at a price of `_OWN_PRICE`.
    steps : int
        Newton steps at most.

    Returns
    -------
    weights : numpy.ndarray
        float64, shape (features,), of the features as they are.
    bias : float
        With the mean over the examples of their groups' odds.
    """
    mean, spread = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
    spread = np.where(spread > 0, spread, 1.0)
    own = np.empty((len(labels), 0)) if groups is None else groups[:, None] == np.unique(groups)
    design = np.concatenate([(features - mean) / spread, own, np.ones((len(features), 1))], axis=1)
    width = features.shape[1]
    price = np.concatenate([np.broadcast_to(penalty, width), np.full(own.shape[1], _OWN_PRICE), [0.0]])
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
    weights = beta[:width] / spread
    return weights, float(beta[-1] + own.mean(0) @ beta[width:-1] - weights @ mean)


class Example(NamedTuple):
    """A candidate.

    Attributes
    ----------
    contig : str
    context : numpy.ndarray
        float32, shape (context,): the mean over its bins.
    flips : bool
        Whether it is labelled.
    around : numpy.ndarray or None
        float32, shape (tracks, distances): what tracks say around it.
    said : numpy.ndarray or None
        float32, shape (reaches, tables): what words say around it.
    """

    contig: str
    context: np.ndarray
    flips: bool
    around: np.ndarray | None
    said: np.ndarray | None


@torch.inference_mode()
def _examples(
    checkpoint: Checkpoint, training_data: TrainingData, contig: str, tables: np.ndarray | None
) -> Iterator[Example]:
    """Yield the candidates of a contig, each from a window around it.

    The window is read on the other strand. What surrounds a call has no strand, but the context of training calls, as
    they are predicted, is half known by heart, and a regression on it trusts it too much: read on the other strand
    it looks more like that of calls never seen.
    """
    window, module = checkpoint.metadata.window, checkpoint.module.eval()
    length, device = training_data.genome.lengths[contig], module.device
    calls, labels, ignored = (
        merge(each[contig]) if contig in each else np.empty((0, 2), dtype=np.int64)
        for each in (training_data.candidates, training_data.labels, training_data.blacklist)
    )
    places = [place for place in calls.tolist() if not len(find_overlapping(ignored, *place))]
    for first in range(0, len(places), _BATCH):
        chosen = places[first : first + _BATCH]
        begins = [max(0, min((start + end - window) // 2, length - window)) for start, end in chosen]
        sequences = [
            training_data.genome.fetch(contig, begin, min(begin + window, length)) for begin in begins
        ]
        turned = [reverse_complement(sequence) for sequence in sequences]
        context = _contexts(checkpoint, turned, device)
        around = _around(checkpoint, training_data, contig, begins, sequences)
        said = _said(tables, turned, module.base_head.words)
        rows = zip(context, around, said, begins, sequences, chosen, strict=True)
        for row, tracks, spoken, begin, sequence, (start, end) in rows:
            low, high = len(sequence) - (end - begin), len(sequence) - (start - begin)
            bins = slice(low // BIN, (high - 1) // BIN + 1)
            flips = bool(len(find_overlapping(labels, start, end)))
            tracks, spoken = (None if each is None else each[bins].mean(0) for each in (tracks, spoken))
            yield Example(contig, row[bins].mean(0), flips, tracks, spoken)


def _around(
    checkpoint: Checkpoint, training_data: TrainingData, contig: str, begins: list[int], sequences: list[str]
) -> Iterator[np.ndarray | None]:
    """Yield what tracks say around the bins of each window, read on the other strand: (bins, tracks, distances)."""
    omics = checkpoint.module.base_head.omics
    for begin, sequence in zip(begins, sequences, strict=True):
        if omics is None:
            yield None
            continue
        seen = training_data.features.window(contig, begin, begin + len(sequence), omics.view)
        turned = torch.from_numpy(seen[None, :, ::-1].copy()).to(omics.entry.weight.device)
        yield omics.around(turned, -(-len(sequence) // BIN))[0].cpu().numpy()


def _said(tables: np.ndarray | None, sequences: list[str], size: int) -> Iterator[np.ndarray | None]:
    """Yield what words say around the bins of each sequence: float32, shape (bins, reaches, tables)."""
    for sequence in sequences:
        if tables is None:
            yield None
            continue
        bases = torch.from_numpy(base_codes(sequence))[None]
        more = (0, -bases.shape[1] % BIN)
        said = F.pad(said_by_words(bases, torch.from_numpy(tables), size), more)
        inside = F.pad(torch.ones_like(bases, dtype=torch.float32), more).unsqueeze(1)
        means = [around_bins(said, inside, reach)[0] for reach in WORD_REACHES]
        yield torch.stack(means, dim=1).numpy()


def _contexts(checkpoint: Checkpoint, sequences: list[str], device: torch.device) -> np.ndarray:
    """Return the context of each bin: float32, shape (sequences, bins, features)."""
    tokens = checkpoint.tokenizer.encode(sequences)
    batch = collate(tokens, sequences, checkpoint.tokenizer.pad_id, with_bases=True)
    context = checkpoint.module.surroundings(**{name: tensor.to(device) for name, tensor in batch.items()})
    return context.float().cpu().numpy()
