"""Tokens and sequences → the padded tensors of one forward pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from zflipon.genome import base_codes
from zflipon.models.heads import PADDING_BASE
from zflipon.project import token_of_base
from zflipon.tokens import Tokens


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
    input_ids = pad([found.ids for found in tokens], pad_id)
    sizes = torch.tensor([len(found.ids) for found in tokens])
    batch = {"input_ids": input_ids}
    if int(sizes.min()) < input_ids.shape[1]:
        batch["attention_mask"] = (torch.arange(input_ids.shape[1]) < sizes[:, None]).long()
    if with_bases:
        batch["base_tokens"] = pad([token_of_base(found.lengths) for found in tokens], 0)
        batch["bases"] = pad([base_codes(sequence) for sequence in sequences], PADDING_BASE)
    if features is not None:
        batch["features"] = pad(features, 0)
        rows = np.broadcast_to(present, (len(features), features[0].shape[0]))
        batch["present"] = torch.from_numpy(rows.astype(np.float32))
    return batch


def pad(rows: Sequence[np.ndarray], value: float) -> Tensor:
    """Stack rows of unequal length, filled up with `value`: shape (rows, …, longest)."""
    width = max(row.shape[-1] for row in rows)
    filled = np.full((len(rows), *rows[0].shape[:-1], width), value, dtype=rows[0].dtype)
    for line, row in zip(filled, rows, strict=True):
        line[..., : row.shape[-1]] = row
    return torch.from_numpy(filled)
