"""Rates of calls at every threshold, and the choice of the lowest threshold that reaches a target.

Counts are those of `zflipon.tracks.thresholds.ThresholdTally.blocks`.
"""

from __future__ import annotations

import logging

import numpy as np

from zflipon.errors import InputError
from zflipon.tracks.calling import SCALE
from zflipon.tracks.thresholds import COLUMNS

log = logging.getLogger(__name__)

BOOTSTRAP_DRAWS = 1000

FEW_CALLS = 50
"""Calls below which a warning is logged: the estimate is uncertain."""

BASES, LABELLED, CALLS = range(len(COLUMNS))
"""Rows of the counts."""


def precision_of(counts: np.ndarray) -> np.ndarray:
    """Return the share of called bases that are labelled, from counts of shape (…, 3, levels); NaN without calls."""
    called = counts[..., BASES, :]
    with np.errstate(invalid="ignore"):
        return np.where(called > 0, counts[..., LABELLED, :] / called, np.nan)


def fdr_of(calls: np.ndarray, null_calls: np.ndarray, scale: float) -> np.ndarray:
    """Return the estimated false-discovery rate at each threshold; NaN without calls.

    One is added to the calls in shuffled sequence, so that no call in little sequence does not mean a rate of 0.

    Parameters
    ----------
    calls, null_calls : numpy.ndarray
        Shape (…, levels): calls in the genome and in shuffled sequence.
    scale : float
        Bases of the genome for each shuffled base.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(calls > 0, np.minimum(1, (null_calls + 1) * scale / calls), np.nan)


def lowest_level(rates: np.ndarray, target: float, calls: np.ndarray, name: str, at_least: bool) -> int:
    """Return the lowest level above 0 that reaches a target."""
    reached = rates >= target if at_least else rates <= target
    levels = np.flatnonzero(reached[1:]) + 1  # NaN reaches nothing
    if len(levels):
        level = int(levels[0])
        if calls[level] < FEW_CALLS:
            log.warning("%s: only %d calls are left at the threshold, so that the estimate is uncertain", name,
                        calls[level])  # fmt: skip
        return level
    if np.isnan(rates[1:]).all():
        raise InputError(f"{name}: the track has no scores above 0 on the used contigs; choose other contigs")
    best = int(np.nanargmax(rates[1:]) if at_least else np.nanargmin(rates[1:])) + 1
    extreme = "highest" if at_least else "lowest"
    raise InputError(
        f"{name}: no threshold reaches {target:g}; the {extreme} is {rates[best]:.3f}, at {best / SCALE:g} with "
        f"{calls[best]:,} calls"
    )


def draw_blocks(blocks: np.ndarray, seed: int) -> np.ndarray | None:
    """Return the sums of blocks drawn with replacement: shape (draws, 3, levels); None for less than two blocks."""
    if len(blocks) < 2:
        return None
    share = np.full(len(blocks), 1 / len(blocks))
    weights = np.random.default_rng(seed).multinomial(len(blocks), share, BOOTSTRAP_DRAWS).astype(np.float32)
    sums = weights @ blocks.reshape(len(blocks), -1).astype(np.float32)
    return sums.reshape(BOOTSTRAP_DRAWS, *blocks.shape[1:])


def interval_of(values: np.ndarray) -> tuple[float, float] | None:
    """Return the 95 % interval of drawn values, without NaN; None without any."""
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    low, high = np.quantile(values, [0.025, 0.975])
    return round(float(low), 4), round(float(high), 4)
