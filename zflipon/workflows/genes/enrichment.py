"""Enrichment of calls by feature, compared with calls of the same lengths at random positions of the same contigs.

Positions avoid gaps if the sequence is known. Intervals are of two kinds: the spread of the shuffles, and a bootstrap
of the calls over blocks of the genome, because neighbouring calls are not independent.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from zflipon.errors import format_count
from zflipon.workflows.evaluate import BLOCK_BASES, BOOTSTRAP_DRAWS
from zflipon.workflows.genes.features import FEATURES, FeatureMap

log = logging.getLogger(__name__)

ENRICHMENT_COLUMNS = (
    *("feature", "observed", "share", "expected", "expected_low", "expected_high"),
    *("fold", "fold_low", "fold_high", "p"),
)
"""Columns of the table of enrichment."""

_POSITIONS = 1 << 21
"""Shuffled positions held at a time."""


def draw_starts(
    length: int, segments: np.ndarray, size: tuple[int, ...], rng: np.random.Generator
) -> np.ndarray | None:
    """Draw random starts of intervals that fit into one of some segments; all such starts are equally likely.

    Parameters
    ----------
    length : int
        Bases of an interval.
    segments : numpy.ndarray
        int64, shape (n, 2): sorted and disjoint.
    size : tuple of int
        Shape of the result.
    rng : numpy.random.Generator

    Returns
    -------
    numpy.ndarray or None
        int64; None if no segment is long enough.

    Examples
    --------
    >>> draw_starts(5, np.array([[0, 3], [10, 15]]), (2,), np.random.default_rng(1)).tolist()
    [10, 10]
    """
    starts = (segments[:, 1] - segments[:, 0] - length + 1).clip(0)
    ends = np.cumsum(starts)
    if not len(ends) or not ends[-1]:
        return None
    drawn = rng.integers(0, ends[-1], size)
    segment = np.searchsorted(ends, drawn, side="right")
    return segments[segment, 0] + drawn - (ends - starts)[segment]


def feature_enrichment(
    calls: pd.DataFrame,
    features: FeatureMap,
    segments: Mapping[str, np.ndarray],
    shuffles: int = 200,
    seed: int = 42,
) -> pd.DataFrame:
    """Compare the number of calls with each feature with shuffled calls.

    Parameters
    ----------
    calls : pandas.DataFrame
        ``contig`` (categorical), ``start``, ``end``.
    features : FeatureMap
    segments : mapping of str to numpy.ndarray
        Contig → where shuffled calls may be, int64, shape (n, 2).
    shuffles : int
        At least 2.
    seed : int

    Returns
    -------
    pandas.DataFrame
        One row per feature, in the order of their priority: ``observed`` calls and their ``share``; the mean
        (``expected``) and the central 95 % of the shuffles; ``fold``, observed by expected, with its 95 % bootstrap
        interval; ``p``, two-sided, from the ranks of the shuffles. NaN if no shuffle has the feature.
    """
    rng = np.random.default_rng(seed)
    observed: list[np.ndarray] = []
    blocks: list[np.ndarray] = []
    counts = np.zeros((shuffles, len(FEATURES)), dtype=np.int64)
    unplaced = 0
    for contig, rows in calls.groupby("contig", observed=True):
        start, length = rows["start"].to_numpy(), (rows["end"] - rows["start"]).to_numpy()
        placed = np.zeros(len(rows), dtype=bool)
        for number, starts, same in _shuffle(length, segments[str(contig)], shuffles, rng):
            placed[same] = True
            found = features.find(str(contig), starts.ravel(), (starts + length[same]).ravel())
            cells = np.repeat(np.arange(number, number + len(starts)), len(same)) * len(FEATURES) + found
            counts += np.bincount(cells, minlength=counts.size).reshape(counts.shape)
        unplaced += int((~placed).sum())
        observed.append(features.find(str(contig), start[placed], start[placed] + length[placed]))
        blocks.append(_block_counts(start[placed], observed[-1]))
    if unplaced:
        log.warning(
            "%s longer than every segment without gaps left out of the enrichment",
            format_count(unplaced, "call"),
        )
    return _table(np.concatenate(observed), np.concatenate(blocks), counts, rng)


def _shuffle(
    length: np.ndarray, segments: np.ndarray, shuffles: int, rng: np.random.Generator
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield the number of the first shuffle, starts of shape (shuffles, calls) and the calls: equally long ones."""
    for bases in np.unique(length):
        same = np.flatnonzero(length == bases)
        step = max(1, _POSITIONS // len(same))
        for first in range(0, shuffles, step):
            starts = draw_starts(int(bases), segments, (min(step, shuffles - first), len(same)), rng)
            if starts is not None:
                yield first, starts, same


def _block_counts(start: np.ndarray, feature: np.ndarray) -> np.ndarray:
    """Count the features of calls in blocks of a contig: int64, shape (blocks with calls, features)."""
    _, block = np.unique(start // BLOCK_BASES, return_inverse=True)
    number = int(block.max(initial=-1)) + 1
    cells = np.bincount(block * len(FEATURES) + feature, minlength=number * len(FEATURES))
    return cells.reshape(number, len(FEATURES))


def _table(
    observed: np.ndarray, blocks: np.ndarray, counts: np.ndarray, rng: np.random.Generator
) -> pd.DataFrame:
    total = np.bincount(observed, minlength=len(FEATURES))
    expected = counts.mean(axis=0)
    low, high = np.quantile(counts, [0.025, 0.975], axis=0)
    shuffles, calls = len(counts), max(int(total.sum()), 1)
    drawn = (
        rng.multinomial(len(blocks), np.full(len(blocks), 1 / max(len(blocks), 1)), BOOTSTRAP_DRAWS) @ blocks
    )
    shares = drawn / np.maximum(drawn.sum(axis=1, keepdims=True), 1)
    share_low, share_high = np.quantile(shares, [0.025, 0.975], axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        expected_share = np.where(expected > 0, expected / calls, np.nan)
        tails = np.minimum((counts >= total).sum(axis=0), (counts <= total).sum(axis=0))
        columns = {
            "feature": FEATURES,
            "observed": total,
            "share": total / calls,
            "expected": expected,
            "expected_low": low,
            "expected_high": high,
            "fold": total / calls / expected_share,
            "fold_low": share_low / expected_share,
            "fold_high": share_high / expected_share,
            "p": np.minimum(2 * (1 + tails) / (1 + shuffles), 1.0),
        }
    return pd.DataFrame(columns).loc[:, list(ENRICHMENT_COLUMNS)]
