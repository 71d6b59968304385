"""Pairs of windows → what an allele does to the probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zflipon.inference.predictor import Predictor
from zflipon.workflows.variants.alleles import Pair, Pool

RESULT_DTYPE = np.dtype(
    [(name, np.float64) for name in ("gain", "loss", "sum", "pos", "ref", "alt", "spread")] + [("why", "U20")]
)
"""What is told of one allele; NaN where nothing is."""


def seen(predictor: Predictor, pool: Pool) -> list[np.ndarray] | None:
    """Return what the model sees of omics tracks in a pool's windows; None for a model that reads none.

    Tracks are read as they lie on the reference, with either allele.
    """
    if predictor.features is None:
        return None
    known: dict[tuple[str, int, int], np.ndarray] = {}
    found = []
    for (contig, start), sequence in zip(pool.places, pool.sequences, strict=True):
        place = contig, start, len(sequence)
        if place not in known:
            bounds = np.array([(start, start + len(sequence))], dtype=np.int64)
            (known[place],) = predictor.read_features(contig, bounds)
        found.append(known[place])
    return found


def scores(pairs: Sequence[Pair | str], probabilities: Sequence[np.ndarray]) -> np.ndarray:
    """Return what is told of each allele, `RESULT_DTYPE`.

    Parameters
    ----------
    pairs : sequence of Pair or str
        As a `zflipon.workflows.variants.alleles.Pool` has them.
    probabilities : sequence of numpy.ndarray
        Of its sequences.
    """
    found = np.zeros(len(pairs), dtype=RESULT_DTYPE)
    for row, pair in zip(found, pairs, strict=True):
        unfit = isinstance(pair, str)
        told = [np.nan] * 7 if unfit else summary(pair, probabilities)
        for name, value in zip(RESULT_DTYPE.names, told, strict=False):
            row[name] = value
        row["why"] = pair if unfit else ""
    return found


def summary(pair: Pair, probabilities: Sequence[np.ndarray]) -> tuple[float, ...]:
    """Return gain, loss, sum, position, highest of the reference, of the alternative, and spread."""
    laid = [
        aligned(
            pair,
            probabilities[ref][pair.low - first : pair.high - first],
            probabilities[alt][pair.low - first : pair.high + pair.grown - first],
        )
        for first, ref, alt in pair.windows
    ]
    before, after = np.array(laid, dtype=np.float64).transpose(1, 0, 2)
    each = after - before
    delta = each.mean(axis=0)
    at = int(np.nanargmax(np.abs(delta)))
    return (
        max(0.0, float(np.nanmax(delta))),
        min(0.0, float(np.nanmin(delta))),
        float(np.nansum(delta)),
        (_place(pair, at) if delta[at] else pair.start) + 1,
        float(np.nanmax(before.mean(axis=0))),
        float(np.nanmax(after.mean(axis=0))),
        float(each[:, at].std()) if len(each) > 1 else np.nan,
    )


def _place(pair: Pair, column: int) -> int:
    """Return which base of the reference a column is; inserted bases have the place of the one before them."""
    place = pair.low + column
    if place < pair.split:
        return place
    return max(place - max(0, pair.grown), pair.split - (pair.grown > place - pair.split))


def aligned(pair: Pair, before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lay both alleles' probabilities against each other; a base that one of them lacks has 0 there."""
    at = pair.split - pair.low
    absent = np.zeros(abs(pair.grown), dtype=before.dtype)
    before = np.where(pair.unknown, np.nan, before)
    mask = pair.unknown
    if pair.grown > 0:
        before = np.concatenate([before[:at], absent, before[at:]])
        mask = np.concatenate([mask[:at], absent > 0, mask[at:]])
    elif pair.grown < 0:
        after = np.concatenate([after[:at], absent, after[at:]])
    return before, np.where(mask, np.nan, after)
