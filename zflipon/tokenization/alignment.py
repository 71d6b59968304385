"""Bases ↔ tokens, both directions, side by side.

Token lengths tile the sequence (see `zflipon.tokenization.tokenizers`), so going from tokens to
bases is a repeat and going from bases to tokens is a difference of cumulative sums.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

IGNORE = -100
"""Label of a token that holds no base, which cross-entropy leaves out."""

COMPARISONS: dict[str, Callable] = {">=": np.greater_equal, ">": np.greater}
"""How a token's share of labelled bases is held against the threshold: DNABERT-2's code has ``>=``, GENA-LM's ``>``."""


def labels_to_tokens(
    labels: np.ndarray, lengths: np.ndarray, threshold: float, comparison: str = ">="
) -> np.ndarray:
    """Label tokens by the share of their bases that is labelled.

    Parameters
    ----------
    labels : numpy.ndarray
        bool or 0/1, shape (bases,).
    lengths : numpy.ndarray
        int, shape (tokens,): bases of each token, adding up to ``len(labels)``.
    threshold : float
        Share of a token's bases.
    comparison : str
        A key of `COMPARISONS`.

    Returns
    -------
    numpy.ndarray
        int64, shape (tokens,): 1, 0, or `IGNORE` where a token has no base.
    """
    ends = np.cumsum(lengths)
    total = np.concatenate([[0], np.cumsum(labels, dtype=np.int64)])
    labelled = total[ends] - total[ends - lengths]
    share = labelled / np.maximum(lengths, 1)
    return np.where(lengths > 0, COMPARISONS[comparison](share, threshold).astype(np.int64), IGNORE)


def tokens_to_bases(values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Give every base the value of its token.

    Parameters
    ----------
    values : numpy.ndarray
        Any dtype, shape (tokens, …).
    lengths : numpy.ndarray
        int, shape (tokens,).

    Returns
    -------
    numpy.ndarray
        Same dtype, shape (bases, …).
    """
    return np.repeat(values, lengths, axis=0)


def token_of_base(lengths: np.ndarray) -> np.ndarray:
    """Return, for each base, the position of its token: int64, shape (bases,)."""
    return np.repeat(np.arange(len(lengths)), lengths)
