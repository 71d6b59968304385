"""Alignment of tokens and bases: labels → tokens, and token values → bases.

It needs the token lengths only (`zflipon.tokenization.tokens`): tokens to bases is a repeat, bases to tokens a
difference of cumulative sums.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

IGNORE = -100
"""Label of a token that holds no base: the ``ignore_index`` of cross-entropy."""

COMPARISONS: dict[str, Callable] = {">=": np.greater_equal, ">": np.greater}
"""How the labelled fraction of a token is compared with the threshold: ``>=`` in DNABERT-2, ``>`` in GENA-LM."""


def labels_to_tokens(
    labels: np.ndarray, lengths: np.ndarray, threshold: float, comparison: str = ">="
) -> np.ndarray:
    """Label tokens by the fraction of their bases that is labelled.

    Parameters
    ----------
    labels : numpy.ndarray
        bool or 0/1, shape (bases,).
    lengths : numpy.ndarray
        int, shape (tokens,): bases of each token. They add up to ``len(labels)``.
    threshold : float
        Fraction of labelled bases from which a token is positive.
    comparison : str
        A key of `COMPARISONS`.

    Returns
    -------
    numpy.ndarray
        int64, shape (tokens,): 1, 0, or `IGNORE` for a token without bases.

    Examples
    --------
    >>> labels_to_tokens(np.array([1, 1, 1, 0, 0]), np.array([0, 4, 1, 0]), 0.7).tolist()
    [-100, 1, 0, -100]
    """
    ends = np.cumsum(lengths)
    labelled_before = np.concatenate([[0], np.cumsum(labels, dtype=np.int64)])
    labelled = labelled_before[ends] - labelled_before[ends - lengths]
    fraction = labelled / np.maximum(lengths, 1)
    return np.where(lengths > 0, COMPARISONS[comparison](fraction, threshold).astype(np.int64), IGNORE)


def tokens_to_bases(values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Repeat the value of each token for all of its bases.

    Parameters
    ----------
    values : numpy.ndarray
        Any dtype, shape (tokens, …).
    lengths : numpy.ndarray
        int, shape (tokens,): bases of each token.

    Returns
    -------
    numpy.ndarray
        Same dtype, shape (bases, …).

    Examples
    --------
    >>> tokens_to_bases(np.array([9, 1, 2, 9]), np.array([0, 3, 1, 0])).tolist()
    [1, 1, 1, 2]
    """
    return np.repeat(values, lengths, axis=0)


def token_of_base(lengths: np.ndarray) -> np.ndarray:
    """Return the index of the token that holds each base: int64, shape (bases,)."""
    return np.repeat(np.arange(len(lengths)), lengths)
