"""The result of tokenization: ids and lengths of the tokens of one sequence, or of many.

The tokens of a sequence cover it without gaps or overlaps: their lengths, 0 for special tokens, add up to the length
of the sequence. Tokenizers are in `zflipon.tokenization.tokenizers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np


@dataclass(frozen=True)
class Tokens:
    """One tokenized sequence.

    Attributes
    ----------
    ids : numpy.ndarray
        int64, shape (tokens,): token ids, special tokens included.
    lengths : numpy.ndarray
        int64, shape (tokens,): bases of each token, 0 for special tokens.
    """

    ids: np.ndarray
    lengths: np.ndarray


class TokenBatch(Sequence[Tokens]):
    """Many tokenized sequences, stored one after the other in two flat arrays.

    Parameters
    ----------
    ids, lengths : numpy.ndarray
        int64, shape (total tokens,): as in `Tokens`.
    counts : numpy.ndarray
        int64, shape (sequences,): tokens of each sequence.
    """

    def __init__(self, ids: np.ndarray, lengths: np.ndarray, counts: np.ndarray):
        self.ids, self.lengths, self.counts = ids, lengths, counts
        self._ends = np.cumsum(counts)

    @classmethod
    def from_tokens(cls, sequences: Sequence[Tokens]) -> TokenBatch:
        """Concatenate tokenized sequences. A `TokenBatch` is returned as it is."""
        if isinstance(sequences, TokenBatch):
            return sequences
        empty = np.empty(0, dtype=np.int64)
        return cls(
            np.concatenate([empty, *(tokens.ids for tokens in sequences)]),
            np.concatenate([empty, *(tokens.lengths for tokens in sequences)]),
            np.array([len(tokens.ids) for tokens in sequences], dtype=np.int64),
        )

    def __len__(self) -> int:
        return len(self.counts)

    @overload
    def __getitem__(self, index: int | np.integer) -> Tokens: ...

    @overload
    def __getitem__(self, index: slice | np.ndarray) -> TokenBatch: ...

    def __getitem__(self, index: int | np.integer | slice | np.ndarray) -> Tokens | TokenBatch:
        """Return one sequence as `Tokens`, or several as a `TokenBatch`."""
        if isinstance(index, int | np.integer):
            end = self._ends[index]
            selected = slice(end - self.counts[index], end)
            return Tokens(self.ids[selected], self.lengths[selected])
        counts = self.counts[index]
        if isinstance(index, slice) and index.step is None and len(counts):
            first = self._ends[index][0] - counts[0]
            selected = slice(first, first + counts.sum())
        else:
            selected = concatenated_ranges(self._ends[index] - counts, counts)
        return TokenBatch(self.ids[selected], self.lengths[selected], counts)

    @property
    def positions(self) -> np.ndarray:
        """Position of each token in its own sequence: int64, shape (total tokens,)."""
        return concatenated_ranges(np.zeros(len(self), dtype=np.int64), self.counts)


def concatenate_batches(batches: Sequence[TokenBatch]) -> TokenBatch:
    """Return the sequences of several batches as one batch, in order."""
    return TokenBatch(
        np.concatenate([batch.ids for batch in batches]),
        np.concatenate([batch.lengths for batch in batches]),
        np.concatenate([batch.counts for batch in batches]),
    )


def single_tokens(widths: np.ndarray) -> TokenBatch:
    """Return each sequence as one token of number 0, for models that read bases alone.

    Parameters
    ----------
    widths : numpy.ndarray
        int64, shape (sequences,): bases of each sequence.
    """
    return TokenBatch(np.zeros_like(widths), widths, np.ones_like(widths))


def concatenated_ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return ``range(start, start + count)`` for each start, concatenated.

    Parameters
    ----------
    starts, counts : numpy.ndarray
        int64, shape (n,).

    Returns
    -------
    numpy.ndarray
        int64, shape (counts.sum(),).

    Examples
    --------
    >>> concatenated_ranges(np.array([0, 10]), np.array([2, 3])).tolist()
    [0, 1, 10, 11, 12]
    """
    return np.arange(counts.sum()) + np.repeat(starts - np.cumsum(counts) + counts, counts)


def pad_rows(values: np.ndarray, counts: np.ndarray, fill_value: float) -> np.ndarray:
    """Turn concatenated rows into a matrix, padded on the right.

    Parameters
    ----------
    values : numpy.ndarray
        Shape (counts.sum(),): the values of all rows.
    counts : numpy.ndarray
        int64, shape (rows,): values of each row.
    fill_value : float

    Returns
    -------
    numpy.ndarray
        Shape (rows, counts.max()), of the dtype of `values`.

    Examples
    --------
    >>> pad_rows(np.array([1, 2, 3]), np.array([1, 2]), -1).tolist()
    [[1, -1], [2, 3]]
    """
    width = int(counts.max(initial=0))
    if width * len(counts) == len(values):
        return values.reshape(len(counts), width)
    rows = np.full((len(counts), width), fill_value, dtype=values.dtype)
    rows[np.arange(width) < counts[:, None]] = values
    return rows
