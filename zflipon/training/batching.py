"""Windows → tensors of one training step: tokenization, token labels and masks.

A batch depends on the seed and its number alone. Processes, and the parts of gradient accumulation, each take their
share of the same batch, so that training does not depend on their number or on a resume.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import Dataset

from zflipon.config import StageConfig
from zflipon.models.collate import collate, pad
from zflipon.tokenization.alignment import IGNORE, labels_to_tokens
from zflipon.tokenization.tokenizers import DnaTokenizer
from zflipon.tokenization.tokens import Tokens
from zflipon.training.labelled_windows import Window

Batch = dict[str, torch.Tensor]
"""Arguments of a model's ``forward``."""

_MASK_SHARE, _RANDOM_SHARE = 0.8, 0.1
"""Of the tokens that are chosen for masking, shares that become ``[MASK]`` and a random token; the others stay."""


class BatchSource(Protocol):
    """Windows for the steps of a stage.

    Attributes
    ----------
    stage : StageConfig
    steps : int
        Number of batches.
    """

    stage: StageConfig
    steps: int

    def batch(self, step: int, part: slice = slice(None)) -> list[Window]:
        """Return the windows of a step, or some of its ``stage.batch_size`` windows."""
        ...


LOSS_WEIGHT = "loss_weight"
"""Key of a batch of `BatchDataset`: float, the denominator of the model's mean loss; see `loss_weight`."""


class BatchDataset(Dataset):
    """Dataset whose items are the tensors of one forward pass of this process, and their `LOSS_WEIGHT`.

    Only the windows of this process are read. The weight is computed here, next to the data: on a GPU, each count of
    labels would make the host wait.

    Parameters
    ----------
    source : BatchSource
    tokenizer : DnaTokenizer
    processes, rank : int
        Number of processes that share each batch, and the number of this one.
    class_weights : sequence of float, optional
        Weights of the classes by which the model's loss divides.
    """

    def __init__(
        self,
        source: BatchSource,
        tokenizer: DnaTokenizer,
        processes: int = 1,
        rank: int = 0,
        class_weights: Sequence[float] | None = None,
    ):
        self.source, self.tokenizer = source, tokenizer
        self.processes, self.rank = processes, rank
        self.class_weights = class_weights

    def __len__(self) -> int:
        return self.source.steps * self.source.stage.gradient_accumulation

    def __getitem__(self, number: int) -> dict[str, torch.Tensor | float]:
        stage = self.source.stage
        step, turn = divmod(number, stage.gradient_accumulation)
        part = turn * self.processes + self.rank
        size = stage.batch_size // (stage.gradient_accumulation * self.processes)
        own = self.source.batch(step, slice(part * size, (part + 1) * size))
        batch = build_batch(own, self.tokenizer, stage, np.random.default_rng([stage.seed, step, part]))
        return {**batch, LOSS_WEIGHT: loss_weight(batch, self.class_weights)}


def loss_weight(batch: Batch, class_weights: Sequence[float] | None = None) -> float:
    """Return the denominator of a model's mean loss: the number of labelled positions, or their summed class weights.

    The losses of labels, candidates and tracks leave out the same positions, so that the first one present counts.
    """
    labels = next(batch[name] for name in ("labels", "candidates", "tracks") if name in batch)
    known = labels[labels != IGNORE]
    if class_weights is None:
        return float(known.numel())
    return float(torch.as_tensor(class_weights, dtype=torch.float64)[known].sum())


def build_batch(
    windows: list[Window], tokenizer: DnaTokenizer, stage: StageConfig, rng: np.random.Generator
) -> Batch:
    """Tokenize windows and build the tensors that the model reads and learns.

    Parameters
    ----------
    windows : list of (str, dict)
    tokenizer : DnaTokenizer
    stage : StageConfig
        Its objective decides which labels are built.
    rng : numpy.random.Generator
        For masks.
    """
    sequences, targets = zip(*windows, strict=True)
    tokens = tokenizer.encode(sequences)
    features = present = None
    if "features" in targets[0]:
        features = tuple(row["features"] for row in targets)
        present = np.stack([row["present"] for row in targets])
    batch = collate(
        tokens, sequences, tokenizer.pad_id, stage.objective == "base", features=features, present=present
    )
    if stage.objective == "token":
        batch["labels"] = _pad_token_labels(tokens, targets, stage)
    elif stage.objective == "sequence":
        batch["labels"] = torch.tensor([int((row["labels"] == 1).any()) for row in targets])
    elif stage.objective == "mlm":
        masked = [mask_tokens(each, tokenizer, stage.mlm_probability, rng) for each in tokens]
        batch["input_ids"] = pad([ids for ids, _ in masked], tokenizer.pad_id)
        batch["labels"] = pad([labels for _, labels in masked], IGNORE)
    else:
        names = [name for name in targets[0] if name not in ("features", "present")]
        batch |= {name: pad([row[name] for row in targets], IGNORE) for name in names}
    return batch


def _pad_token_labels(tokens: Sequence[Tokens], targets: Sequence[dict], stage: StageConfig) -> torch.Tensor:
    """Label the tokens of all windows at once, which is faster than window by window."""
    lengths = [each.lengths for each in tokens]
    labels = np.concatenate([row["labels"] for row in targets])
    rows = token_labels(labels, np.concatenate(lengths), stage.label_threshold, stage.label_comparison)
    return pad(np.split(rows, np.cumsum([len(each) for each in lengths])[:-1]), IGNORE)


def token_labels(labels: np.ndarray, lengths: np.ndarray, threshold: float, comparison: str) -> np.ndarray:
    """Return the labels of tokens: 1, 0, or `IGNORE` where all bases of a token have the label `IGNORE`.

    Parameters
    ----------
    labels : numpy.ndarray
        int, shape (bases,).
    lengths : numpy.ndarray
        int, shape (tokens,): bases of each token.
    threshold, comparison : float, {'>=', '>'}
        As `zflipon.tokenization.alignment.labels_to_tokens`.
    """
    positive = labels_to_tokens(labels == 1, lengths, threshold, comparison)
    unknown = labels_to_tokens(labels == IGNORE, lengths, 1.0)
    return np.where(unknown == 1, IGNORE, positive)


def mask_tokens(
    tokens: Tokens, tokenizer: DnaTokenizer, probability: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Mask tokens for masked language modelling (Devlin et al. 2019).

    Parameters
    ----------
    tokens : Tokens
    tokenizer : DnaTokenizer
        If its tokens overlap, runs of `tokens_per_base` tokens are masked.
    probability : float
        Share of the tokens with bases that is masked; at least one token.
    rng : numpy.random.Generator

    Returns
    -------
    ids : numpy.ndarray
        int64: of ten masked tokens, eight are ``[MASK]``, one is a random token and one is unchanged.
    labels : numpy.ndarray
        int64: the ids of the masked tokens, `IGNORE` elsewhere.
    """
    positions = np.flatnonzero(np.isin(tokens.ids, tokenizer.base_ids))
    ids, labels = tokens.ids.copy(), np.full(len(tokens.ids), IGNORE)
    if not len(positions):
        return ids, labels
    runs = max(1, round(probability * len(positions) / tokenizer.tokens_per_base))
    first = rng.choice(
        max(1, len(positions) - tokenizer.tokens_per_base + 1), min(runs, len(positions)), replace=False
    )
    offsets = (first[:, None] + np.arange(tokenizer.tokens_per_base)).clip(max=len(positions) - 1)
    masked = positions[np.unique(offsets)]
    labels[masked] = ids[masked]
    draw = rng.random(len(masked))
    ids[masked[draw < _MASK_SHARE]] = tokenizer.mask_id
    replaced = masked[(draw >= _MASK_SHARE) & (draw < _MASK_SHARE + _RANDOM_SHARE)]
    ids[replaced] = rng.choice(tokenizer.base_ids, len(replaced))
    return ids, labels
