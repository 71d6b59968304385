"""Collating tokenized sequences into the padded tensors of one forward pass.

Which sequences form a batch is decided elsewhere, in `zflipon.inference.batching` and `zflipon.training.batching`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from zflipon.genome.sequence_windows import SequenceWindows
from zflipon.tokenization.alignment import tokens_to_bases
from zflipon.tokenization.tokens import TokenBatch, Tokens, pad_rows


def collate(
    tokens: Sequence[Tokens],
    sequences: Sequence[str],
    pad_id: int,
    with_bases: bool,
    features: Sequence[np.ndarray] | None = None,
    present: np.ndarray | None = None,
    first_factors: Sequence[np.ndarray] | None = None,
) -> dict[str, Tensor]:
    """Pad tokenized sequences to the longest of them.

    Parameters
    ----------
    tokens : sequence of Tokens
    sequences : sequence of str
        The same sequences in upper case.
    pad_id : int
        Token id of the padding.
    with_bases : bool
        Whether the model has the base objective and needs nucleotide codes.
    features : sequence of numpy.ndarray, optional
        Omics tracks of each sequence: float32, shape (tracks, steps).
    present : numpy.ndarray, optional
        Which tracks are present: float32, shape (tracks,) or (batch, tracks).
    first_factors : sequence of numpy.ndarray, optional
        First factor of each sequence, see `zflipon.models.base.DnaModel.first_factor`: float32, shape (2, bases).

    Returns
    -------
    dict of str to Tensor
        Arguments of `zflipon.models.base.DnaModel.forward`:

        - ``input_ids`` and ``attention_mask``, int64, shape (batch, tokens). Without padding there is no mask:
          attention gives the same result faster.
        - with bases: ``base_tokens`` and ``bases``, int64, shape (batch, bases).
        - with features: ``features``, float32, shape (batch, tracks, steps), and ``present``, float32, shape
          (batch, tracks).
        - with first factors: ``first_factor``, float32, shape (batch, 2, bases).
    """
    tokens = TokenBatch.from_tokens(tokens)
    batch = {"input_ids": torch.from_numpy(pad_rows(tokens.ids, tokens.counts, pad_id))}
    if (size := tokens.counts.max()) > tokens.counts.min():
        batch["attention_mask"] = torch.from_numpy(
            (np.arange(size) < tokens.counts[:, None]).astype(np.int64)
        )
    if with_bases:
        sequences = SequenceWindows.from_sequences(sequences)
        base_tokens = tokens_to_bases(tokens.positions, tokens.lengths)
        batch["base_tokens"] = torch.from_numpy(pad_rows(base_tokens, sequences.widths, 0))
        batch["bases"] = torch.from_numpy(sequences.to_codes().astype(np.int64))
    if features is not None:
        if present is None:
            raise ValueError("features need present, which says which of the tracks are given")
        batch["features"] = pad(features, 0)
        rows = np.broadcast_to(present, (len(features), features[0].shape[0]))
        batch["present"] = torch.from_numpy(rows.astype(np.float32))
    if first_factors is not None:
        batch["first_factor"] = pad(first_factors, 0)
    return batch


def select_rows(
    inputs: dict[str, Tensor], rows: slice, counts: np.ndarray, widths: np.ndarray
) -> dict[str, Tensor]:
    """Select some rows of a collated batch, without the padding that these rows do not need.

    Parameters
    ----------
    inputs : dict of str to Tensor
        As returned by `collate`.
    rows : slice
    counts, widths : numpy.ndarray
        int64, shape (rows,): tokens and bases of the selected rows.

    Returns
    -------
    dict of str to Tensor
        What `collate` would return for these rows; views of `inputs`.
    """
    tokens, bases = int(counts.max()), int(widths.max())
    lengths: dict[str, int] = {
        "input_ids": tokens,
        "attention_mask": tokens,
        "base_tokens": bases,
        "bases": bases,
        "first_factor": bases,
    }
    selected = {name: tensor[rows, ..., : lengths.get(name)] for name, tensor in inputs.items()}
    if counts.min() == counts.max():
        selected.pop("attention_mask", None)
    return selected


def pad(rows: Sequence[np.ndarray], fill_value: float) -> Tensor:
    """Stack arrays of different length along their last axis, padded: shape (rows, ..., longest)."""
    length = max(row.shape[-1] for row in rows)
    padded = np.full((len(rows), *rows[0].shape[:-1], length), fill_value, dtype=rows[0].dtype)
    for target, row in zip(padded, rows, strict=True):
        target[..., : row.shape[-1]] = row
    return torch.from_numpy(padded)
