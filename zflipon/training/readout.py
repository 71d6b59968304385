"""Refit of the base head's readout: a logistic regression that separates labelled from unlabelled candidates.

Gradient descent sees every base, but the bases of one candidate are a single observation, and a genome has only about a
thousand labels. The readout is therefore fitted again with one example for each candidate, and with penalties. K-mer
tables (`zflipon.training.kmer_tables`) are weighted in the same regression. All other weights stay as trained. The part
of the readout that reads omics tracks is in `zflipon.training.omics_readout`.

The density of labels differs between contigs for reasons unrelated to sequence, such as the copy number of a
chromosome. Each contig therefore has a separate intercept while the weights are fitted; their mean becomes the bias.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from zflipon.errors import InputError, format_names
from zflipon.genome.alphabet import base_codes, reverse_complement
from zflipon.genome.intervals import find_overlapping, merge
from zflipon.models import Checkpoint
from zflipon.models.collate import collate
from zflipon.models.heads.base_resolution import IS_FORMED_PRIOR, BaseHead
from zflipon.models.heads.bin_context import BIN_SIZE
from zflipon.models.heads.kmers import KMER_RADII, kmer_values, mean_around_bins
from zflipon.models.heads.omics import OmicsHead
from zflipon.omics.features import FeatureTracks
from zflipon.training.calibration import logistic_regression
from zflipon.training.dataset import TrainingData
from zflipon.training.kmer_tables import kmer_tables
from zflipon.training.omics_readout import Candidates, fit_omics
from zflipon.training.readout_sources import Source

log = logging.getLogger("zflipon")

REPEAT_PENALTY, DINUCLEOTIDE_PENALTY, TRACK_PENALTY = 1.0, 10.0, 30.0
"""L2 penalties of the weights of k-mer tables. Repeats have the lowest, because the context network does not learn
them; dinucleotides and tracks, which it does learn, have higher ones."""

CONTIG_PENALTY = 1.0
"""L2 penalty of the intercept of a contig."""

LEAST_CANDIDATES = 50
"""Contigs with fewer candidates share one intercept."""

_LEAST_PENALTY = 1e-8
_BATCH_SIZE = 16


class CandidateExample(NamedTuple):
    """Inputs and label of the readout for one candidate, averaged over its bins.

    Attributes
    ----------
    contig : str
    context : numpy.ndarray
        float32, shape (features,): state of the context network.
    log_odds : float
        Prediction from this state.
    labelled : bool
    tracks : numpy.ndarray or None
        float32, shape (tracks, distances): omics tracks around it.
    kmers : numpy.ndarray or None
        float32, shape (reaches, tables): mean k-mer log-odds around it.
    """

    contig: str
    context: np.ndarray
    log_odds: float
    labelled: bool
    tracks: np.ndarray | None
    kmers: np.ndarray | None


class KmerTables(NamedTuple):
    """K-mer log-odds and the penalty of each table's weights.

    Attributes
    ----------
    tables : numpy.ndarray
        float32, shape (tables, 4^k).
    penalties : numpy.ndarray
        float64, shape (tables,).
    """

    tables: np.ndarray
    penalties: np.ndarray


def fit_readout(
    checkpoint: Checkpoint,
    training_data: TrainingData,
    penalty: float,
    sources: Sequence[Source] = (),
) -> None:
    """Fit the readout of a base head to the candidates of the training contigs, in place.

    If the weights of the readout are frozen, only the part that reads omics tracks is fitted.

    Parameters
    ----------
    checkpoint : Checkpoint
        With a base head.
    training_data : TrainingData
    penalty : float
        L2 penalty: half of it times the squared weights of standardised features is added to the summed loss.
    sources : sequence of Source
        Models that predict the candidates from sequence, each with its contigs; see `unseen_sources`. Default: the
        checkpoint itself, on all training contigs.

    Raises
    ------
    InputError
        If there are no candidates on the training contigs.
    """
    head = checkpoint.module.base_head
    contigs = training_data.contigs["train"]
    fits_context = head.is_formed.weight.requires_grad
    size = head.kmers.k if fits_context and head.kmers is not None else None
    tables = None if size is None else _count_kmers(head, size, training_data)
    examples = [
        example
        for source in sources or [Source(checkpoint, tuple(contigs))]
        for contig in source.contigs
        for example in _examples(source.checkpoint, training_data, contig, tables, head.omics)
    ]
    if not examples:
        raise InputError(f"readout: no candidates on the training contigs ({format_names(contigs)})")
    context = np.stack([each.context for each in examples])
    labelled = np.array([each.labelled for each in examples])
    log.info("readout: %d candidates, %d of them labelled", len(labelled), int(labelled.sum()))
    if fits_context:
        groups = contig_groups([each.contig for each in examples])
        kmers = None
        if tables is not None:
            kmers = np.stack([each.kmers for each in examples if each.kmers is not None])
        context = _fit_context(head, context, kmers, labelled, groups, penalty, tables)
        with torch.no_grad():
            states = torch.from_numpy(context).to(head.is_formed.weight.device)
            log_odds = head.is_formed(states).squeeze(1).cpu().numpy() + IS_FORMED_PRIOR
    else:
        log_odds = np.array([each.log_odds for each in examples], dtype=np.float32)
    if head.omics is not None:
        context = log_odds[:, None] if head.omics_reads_log_odds else context
        _fit_tracks(head.omics, examples, context, log_odds, labelled, training_data)


def _count_kmers(head: BaseHead, size: int, training_data: TrainingData) -> KmerTables:
    """Count k-mer log-odds on the training contigs."""
    tracks = training_data.tracks
    classes = head.structure.kmer_classes(size)
    tables = kmer_tables(training_data.required_genome, training_data.contigs["train"], tracks, size, classes)
    log.info("counted %d-mers in repeats and in %d tracks", size, len(tracks))
    penalties = np.full(len(tables), DINUCLEOTIDE_PENALTY)
    penalties[0] = REPEAT_PENALTY
    penalties[len(tables) - len(tracks) :] = TRACK_PENALTY
    return KmerTables(tables, penalties)


def contig_groups(contigs: Sequence[str]) -> np.ndarray:
    """Return the intercept group of each candidate: its contig, or one common group for contigs with few candidates.

    Parameters
    ----------
    contigs : sequence of str
        Contig of each candidate.

    Returns
    -------
    numpy.ndarray
        int64, shape (candidates,).
    """
    _, number, count = np.unique(contigs, return_inverse=True, return_counts=True)
    return np.where(count[number] < LEAST_CANDIDATES, len(count), number)


def _fit_context(
    head: BaseHead,
    context: np.ndarray,
    kmers: np.ndarray | None,
    labelled: np.ndarray,
    groups: np.ndarray,
    penalty: float,
    tables: KmerTables | None,
) -> np.ndarray:
    """Fit the weights of the context and of the k-mer tables.

    Parameters
    ----------
    head : BaseHead
    context : numpy.ndarray
        float32, shape (candidates, features): as `BaseHead.surroundings` returns it.
    kmers : numpy.ndarray or None
        float32, shape (candidates, reaches, tables).
    labelled : numpy.ndarray
        bool, shape (candidates,).
    groups : numpy.ndarray
        int64, shape (candidates,): from `contig_groups`.
    penalty : float
        Upper limit of the penalties of tables.
    tables : KmerTables or None

    Returns
    -------
    numpy.ndarray
        float32, shape (candidates, features): the context with the k-mer log-odds that the head reads from now on.
    """
    width = head.context.channels
    features, penalties = context[:, :width], np.full(width, penalty)
    if kmers is not None and tables is not None:
        features = np.concatenate([features, kmers.reshape(len(kmers), -1)], axis=1)
        of_tables = np.broadcast_to(np.minimum(tables.penalties, penalty), kmers.shape[1:])
        penalties = np.append(penalties, of_tables)
    weights, bias = fit_logistic(features, labelled, penalties, groups)
    if head.kmers is not None and kmers is not None and tables is not None:
        # the weighted tables are added up to one table for each reach, which the head then reads with a weight of 1
        table_weights = weights[width:].reshape(kmers.shape[1:])
        head.kmers.log_odds.copy_(torch.from_numpy(table_weights @ tables.tables))
        weights = np.append(weights[:width], np.ones(len(table_weights)))
        sums = (kmers * table_weights).sum(2)
        context = np.concatenate([context[:, :width], sums], axis=1).astype(np.float32)
    with torch.no_grad():
        head.is_formed.weight.copy_(torch.from_numpy(weights)[None])
        head.is_formed.bias.fill_(bias - IS_FORMED_PRIOR)
    return context


def _fit_tracks(
    omics: OmicsHead,
    examples: Sequence[CandidateExample],
    context: np.ndarray,
    log_odds: np.ndarray,
    labelled: np.ndarray,
    training_data: TrainingData,
) -> None:
    tracks = torch.from_numpy(np.stack([each.tracks for each in examples if each.tracks is not None]))
    inputs = [torch.from_numpy(each).float() for each in (context, log_odds, labelled)]
    candidates = Candidates(inputs[0], tracks, *inputs[1:])
    present = _required_features(training_data).present
    fit_omics(omics, candidates, present, training_data.drop, training_data.data.seed)


def _required_features(training_data: TrainingData) -> FeatureTracks:
    if training_data.features is None:
        raise InputError("readout: the model reads omics tracks, which the recipe lacks; set features.tracks")
    return training_data.features


def fit_logistic(
    features: np.ndarray,
    labels: np.ndarray,
    penalty: float | np.ndarray,
    groups: np.ndarray | None = None,
) -> tuple[np.ndarray, float]:
    """Fit a logistic regression with an L2 penalty for each standardised feature and an intercept for each group.

    scikit-learn has one penalty for all features. Dividing a feature by the square root of its penalty has the same
    effect; groups are one-hot columns with the penalty `CONTIG_PENALTY`.

    Parameters
    ----------
    features : numpy.ndarray
        float, shape (n, features).
    labels : numpy.ndarray
        bool, shape (n,).
    penalty : float or numpy.ndarray
        Half of it times the squared weight is added to the summed loss, for all features or, shape (features,), for
        each. The bias has no penalty.
    groups : numpy.ndarray, optional
        int, shape (n,).

    Returns
    -------
    weights : numpy.ndarray
        float64, shape (features,), of the features before standardisation. 0 if all labels are equal.
    bias : float
        With the mean of the intercepts of all examples.

    Raises
    ------
    MissingExtraError
        If scikit-learn is not installed.
    """
    width = features.shape[1]
    if (
        labels.all() or not labels.any()
    ):  # no weights separate one class; the pseudo-counts keep the bias finite
        return np.zeros(width), float(np.log((labels.sum() + 0.5) / ((~labels).sum() + 0.5)))
    mean, spread = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
    spread = np.where(spread > 0, spread, 1.0)
    one_hot = np.empty((len(labels), 0)) if groups is None else groups[:, None] == np.unique(groups)
    penalties = np.append(np.broadcast_to(penalty, width), np.full(one_hot.shape[1], CONTIG_PENALTY))
    scale = 1 / np.sqrt(np.maximum(penalties, _LEAST_PENALTY))
    design = np.concatenate([(features - mean) / spread, one_hot], axis=1) * scale
    model = logistic_regression(penalised=True).fit(design, labels)
    fitted = model.coef_[0] * scale
    weights = fitted[:width] / spread
    intercept = float(model.intercept_[0]) + float(one_hot.mean(0) @ fitted[width:])
    return weights, intercept - float(weights @ mean)


@torch.inference_mode()
def _examples(
    checkpoint: Checkpoint,
    training_data: TrainingData,
    contig: str,
    tables: KmerTables | None,
    omics: OmicsHead | None,
) -> Iterator[CandidateExample]:
    """Yield the candidates of a contig, each read from a window around it, with the tracks that `omics` reads.

    Windows are reverse-complemented. The context of a candidate has no strand, but the network has memorised part of
    the training windows as it saw them, and a regression would rely on that too much. Read from the other strand,
    training candidates resemble unseen ones more.
    """
    window, module = checkpoint.metadata.window, checkpoint.module.eval()
    genome, device = training_data.required_genome, module.device
    length = genome.lengths[contig]
    candidates, labels, ignored = (
        merge(each[contig]) if contig in each else np.empty((0, 2), dtype=np.int64)
        for each in (training_data.candidates, training_data.labels, training_data.blacklist)
    )
    kmers = module.base_head.kmers
    size = 0 if kmers is None else kmers.k
    usable = [row for row in candidates.tolist() if not len(find_overlapping(ignored, *row))]
    for first in range(0, len(usable), _BATCH_SIZE):
        batch = usable[first : first + _BATCH_SIZE]
        starts = [max(0, min((start + end - window) // 2, length - window)) for start, end in batch]
        sequences = [genome.fetch(contig, at, min(at + window, length)) for at in starts]
        reverse = [reverse_complement(sequence) for sequence in sequences]
        rows = zip(
            _contexts(checkpoint, reverse, device),
            _window_tracks(omics, training_data, contig, starts, sequences),
            _window_kmers(tables, reverse, size),
            starts,
            sequences,
            batch,
            strict=True,
        )
        for context, tracks, kmers, at, sequence, (start, end) in rows:
            # on the reverse strand, positions count from the end of the window
            low, high = len(sequence) - (end - at), len(sequence) - (start - at)
            bins = slice(low // BIN_SIZE, (high - 1) // BIN_SIZE + 1)
            labelled = bool(len(find_overlapping(labels, start, end)))
            tracks, kmers = (None if each is None else each[bins].mean(0) for each in (tracks, kmers))
            mean = context[bins].mean(0)
            yield CandidateExample(contig, mean, _log_odds(module.base_head, mean), labelled, tracks, kmers)


def _log_odds(head: BaseHead, state: np.ndarray) -> float:
    """Return the prediction of the readout from the state of one candidate."""
    weight = head.is_formed.weight
    return float(head.is_formed(torch.from_numpy(state).to(weight.device, weight.dtype))) + IS_FORMED_PRIOR


def _contexts(checkpoint: Checkpoint, sequences: list[str], device: torch.device) -> np.ndarray:
    """Return the context of each bin: float32, shape (sequences, bins, features)."""
    tokens = checkpoint.tokenizer.encode(sequences)
    batch = collate(tokens, sequences, checkpoint.tokenizer.pad_id, with_bases=True)
    context = checkpoint.module.context_features(
        **{name: tensor.to(device) for name, tensor in batch.items()}
    )
    return context.float().cpu().numpy()


def _window_tracks(
    omics: OmicsHead | None,
    training_data: TrainingData,
    contig: str,
    starts: list[int],
    sequences: list[str],
) -> Iterator[np.ndarray | None]:
    """Yield the omics tracks around the bins of each reversed window: float32, shape (bins, tracks, distances)."""
    for start, sequence in zip(starts, sequences, strict=True):
        if omics is None:
            yield None
            continue
        values = _required_features(training_data).window(contig, start, start + len(sequence), omics.view)
        reverse = torch.from_numpy(values[None, :, ::-1].copy()).to(omics.entry.weight.device)
        yield omics.local_means(reverse, -(-len(sequence) // BIN_SIZE))[0].cpu().numpy()


def _window_kmers(tables: KmerTables | None, sequences: list[str], size: int) -> Iterator[np.ndarray | None]:
    """Yield the mean k-mer log-odds around the bins of each sequence: float32, shape (bins, reaches, tables)."""
    for sequence in sequences:
        if tables is None:
            yield None
            continue
        bases = torch.from_numpy(base_codes(sequence))[None]
        padding = (0, -bases.shape[1] % BIN_SIZE)
        odds = F.pad(kmer_values(bases, torch.from_numpy(tables.tables), size), padding)
        inside = F.pad(torch.ones_like(bases, dtype=torch.float32), padding).unsqueeze(1)
        means = [mean_around_bins(odds, inside, radius)[0] for radius in KMER_RADII]
        yield torch.stack(means, dim=1).numpy()
