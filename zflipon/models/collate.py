"""Tokens and sequences → the padded tensors of one forward pass."""

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
) -> dict[str, Tensor]:
    """Pad tokenized sequences to the longest of them.

    Parameters
    ----------
    tokens : sequence of Tokens
    sequences : sequence of str
        The same sequences, upper case.
    pad_id : int
        Token id of the padding.
    with_bases : bool
        Whether the model decides per base and so reads nucleotides too.
    features : sequence of numpy.ndarray, optional
        Omics tracks of each: float32, shape (tracks, steps).
    present : numpy.ndarray, optional
        Which of them there are: float32, shape (tracks,) or (batch, tracks).

    Returns
    -------
    dict of str to Tensor
        ``input_ids`` and ``attention_mask``, int64 of shape (batch, tokens); with bases also ``base_tokens`` and
        ``bases``, int64 of shape (batch, bases); with features also ``features``, float32 of shape
        (batch, tracks, steps), and ``present``, float32 of shape (batch, tracks). The mask is left out where
        nothing is padded, since attention without one is faster and gives the same.
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
        batch["features"] = pad(features, 0)
        rows = np.broadcast_to(present, (len(features), features[0].shape[0]))
        batch["present"] = torch.from_numpy(rows.astype(np.float32))
    return batch


def part_of(
    inputs: dict[str, Tensor], rows: slice, counts: np.ndarray, widths: np.ndarray
) -> dict[str, Tensor]:
    """Cut some rows out of what `collate` returned, no longer than the longest of them.

    Parameters
    ----------
    inputs : dict of str to Tensor
    rows : slice
    counts, widths : numpy.ndarray
        int64, shape (rows,): tokens and bases of each.

    Returns
    -------
    dict of str to Tensor
        As `collate` has it of these rows alone; views.
    """
    longest = dict.fromkeys(("input_ids", "attention_mask"), int(counts.max()))
    longest |= dict.fromkeys(("base_tokens", "bases"), int(widths.max()))
    part = {name: tensor[rows, ..., : longest.get(name)] for name, tensor in inputs.items()}
    if counts.min() == counts.max():
        part.pop("attention_mask", None)
    return part


def pad(rows: Sequence[np.ndarray], value: float) -> Tensor:
    """Stack rows of unequal length, filled up with `value`: shape (rows, …, longest)."""
    width = max(row.shape[-1] for row in rows)
    filled = np.full((len(rows), *rows[0].shape[:-1], width), value, dtype=rows[0].dtype)
    for line, row in zip(filled, rows, strict=True):
        line[..., : row.shape[-1]] = row
    return torch.from_numpy(filled)
