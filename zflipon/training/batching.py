"""Windows → the tensors of one step, tokenized together, ahead of the model.

A batch is a function of the seed and its number alone, whoever computes it. With
several processes, or with gradient accumulation, each takes its part of the same batch. So what is
learnt from does not depend on their number, nor on a resume.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch.utils.data import Dataset

from zflipon.config import StageConfig
from zflipon.models.collate import collate, pad
from zflipon.tokenization.alignment import IGNORE, labels_to_tokens
from zflipon.tokenization.tokenizers import DnaTokenizer
from zflipon.tokenization.tokens import Tokens
from zflipon.training.stored_windows import Known


class Source(Protocol):
    """Where windows come from.

    Attributes
    ----------
    stage : StageConfig
    steps : int
        How many batches there are.
    """

    stage: StageConfig
    steps: int

    def batch(self, step: int) -> list[tuple[str, Known]]:
        """Return the sequences of a step's windows and what is known of them."""


class Batches(Dataset):
    """A map from a number to the tensors of one forward pass of this process.

    Parameters
    ----------
    source : Source
    tokenizer : DnaTokenizer
    processes, rank : int
        How many share a batch, and which of them this is.
    """

    def __init__(self, source: Source, tokenizer: DnaTokenizer, processes: int = 1, rank: int = 0):
        self.source, self.tokenizer = source, tokenizer
        self.processes, self.rank = processes, rank

    def __len__(self) -> int:
        return self.source.steps * self.source.stage.gradient_accumulation

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        stage = self.source.stage
        step, turn = divmod(number, stage.gradient_accumulation)
        part = turn * self.processes + self.rank
        windows = self.source.batch(step)
        size = len(windows) // (stage.gradient_accumulation * self.processes)
        mine = windows[part * size : (part + 1) * size]
        return tensors(mine, self.tokenizer, stage, np.random.default_rng([stage.seed, step, part]))


def tensors(
    windows: list[tuple[str, Known]], tokenizer: DnaTokenizer, stage: StageConfig, rng: np.random.Generator
) -> dict[str, torch.Tensor]:
    """Return what the model reads and learns.

    Parameters
    ----------
    windows : list of (str, dict)
    tokenizer : DnaTokenizer
    stage : StageConfig
        Its objective decides on the labels.
    rng : numpy.random.Generator
        Of the masks.
    """
    sequences, known = zip(*windows, strict=True)
    tokens = tokenizer.encode(sequences)
    features = present = None
    if "features" in known[0]:
        features, present = zip(*((row["features"], row["present"]) for row in known), strict=True)
        present = np.stack(present)
    batch = collate(
        tokens, sequences, tokenizer.pad_id, stage.objective == "base", features=features, present=present
    )
    if stage.objective == "token":
        # tokens tile their windows, so that those of all windows are labelled in one go
        lengths = [found.lengths for found in tokens]
        labels = np.concatenate([row["labels"] for row in known])
        rows = token_labels(labels, np.concatenate(lengths), stage.label_threshold, stage.label_comparison)
        batch["labels"] = pad(np.split(rows, np.cumsum([len(each) for each in lengths])[:-1]), IGNORE)
    elif stage.objective == "sequence":
        batch["labels"] = torch.tensor([int((row["labels"] == 1).any()) for row in known])
    elif stage.objective == "mlm":
        ids, labels = zip(*(masked(found, tokenizer, stage.masked, rng) for found in tokens), strict=True)
        batch["input_ids"], batch["labels"] = pad(ids, tokenizer.pad_id), pad(labels, IGNORE)
    else:
        learnt = [name for name in known[0] if name not in ("features", "present")]
        batch |= {name: pad([row[name] for row in known], IGNORE) for name in learnt}
    return batch


def token_labels(labels: np.ndarray, lengths: np.ndarray, threshold: float, comparison: str) -> np.ndarray:
    """Label tokens from bases that may be `IGNORE`: a token with no known base is ignored too."""
    found = labels_to_tokens(labels == 1, lengths, threshold, comparison)
    unknown = labels_to_tokens(labels == IGNORE, lengths, 1.0)
    return np.where(unknown == 1, IGNORE, found)


def masked(
    tokens: Tokens, tokenizer: DnaTokenizer, share: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Hide tokens, to be told from the others (Devlin et al. 2019).

    Parameters
    ----------
    tokens : Tokens
    tokenizer : DnaTokenizer
        Where its tokens overlap, runs of `span` of them are hidden.
    share : float
        Of the tokens that hold bases; one at least.
    rng : numpy.random.Generator

    Returns
    -------
    ids : numpy.ndarray
        int64: of ten hidden tokens eight are ``[MASK]``, one is any other and one is itself.
    labels : numpy.ndarray
        int64: the hidden tokens' own ids, and `IGNORE` elsewhere.
    """
    places = np.flatnonzero(np.isin(tokens.ids, tokenizer.base_ids))
    ids, labels = tokens.ids.copy(), np.full(len(tokens.ids), IGNORE)
    if not len(places):
        return ids, labels
    runs = max(1, round(share * len(places) / tokenizer.tokens_per_base))
    first = rng.choice(max(1, len(places) - tokenizer.tokens_per_base + 1), min(runs, len(places)), replace=False)
    hidden = places[np.unique((first[:, None] + np.arange(tokenizer.tokens_per_base)).clip(max=len(places) - 1))]
    labels[hidden] = ids[hidden]
    fate = rng.random(len(hidden))
    ids[hidden[fate < 0.8]] = tokenizer.mask_id
    other = hidden[(fate >= 0.8) & (fate < 0.9)]
    ids[other] = rng.choice(tokenizer.base_ids, len(other))
    return ids, labels
