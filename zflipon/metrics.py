"""Agreement of calls and scores with labels, base by base: confusion counts, precision–recall and region recall.

All measures can be computed chunk by chunk in bounded memory, with the result of computing them at once. Own code
because scikit-learn needs all bases in memory. A ratio with denominator 0 is 0.0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

MAX_DISTINCT = 1 << 22
"""Largest number of distinct scores in a histogram; above it, scores are truncated to `MANTISSA_BITS`."""

MANTISSA_BITS = 12
"""Bits of a truncated score's mantissa, of 23: at most 2^21 values, each within 0.025 % of the score."""

_ROUNDING = 1e-9
"""Differences of recall below this are rounding errors; a share of a base is larger."""

_MIN_PENDING = 1 << 16
"""Scores that are collected before they are sorted into a small histogram."""


@dataclass(frozen=True)
class Confusion:
    """Counts of bases by call and label.

    Attributes
    ----------
    tp, fp, fn, tn : int
        True and false positives, false and true negatives.
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0

    @classmethod
    def from_calls(cls, called: np.ndarray, labels: np.ndarray) -> Confusion:
        """Return the counts of two bool arrays of the same shape."""
        tp = int(np.count_nonzero(called & labels))
        fp = int(np.count_nonzero(called)) - tp
        fn = int(np.count_nonzero(labels)) - tp
        return cls(tp, fp, fn, called.size - tp - fp - fn)

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn)

    @property
    def precision(self) -> float:
        """Share of the called bases that are labelled."""
        return ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """Share of the labelled bases that are called."""
        return ratio(self.tp, self.tp + self.fn)

    @property
    def accuracy(self) -> float:
        """Share of all bases that are called as they are labelled."""
        return ratio(self.tp + self.tn, self.tp + self.fp + self.fn + self.tn)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def mcc(self) -> float:
        """Matthews correlation coefficient (Matthews, Biochim. Biophys. Acta 405:442, 1975)."""
        tp, fp, fn, tn = self.tp, self.fp, self.fn, self.tn
        return ratio(tp * tn - fp * fn, math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)))


def ratio(part: float, whole: float) -> float:
    """Return ``part / whole``, or 0.0 if `whole` is 0."""
    return part / whole if whole else 0.0


class Curve(NamedTuple):
    """Precision and recall when bases at or above each distinct score are called.

    Attributes
    ----------
    threshold : numpy.ndarray
        float32, shape (n,), descending: every distinct score.
    precision, recall : numpy.ndarray
        float64, shape (n,).
    """

    threshold: np.ndarray
    precision: np.ndarray
    recall: np.ndarray


class ScoreHistogram:
    """Counts of bases with and without a label for each distinct score.

    All threshold-free measures are computed from it exactly, in any order and division of the bases. Scores are stored
    as float32, the precision of a bigWig. If there are more than `max_distinct` values, their mantissas are truncated
    to `MANTISSA_BITS`, and `rounded` is True.

    Parameters
    ----------
    max_distinct : int
    """

    def __init__(self, max_distinct: int = MAX_DISTINCT):
        self._rounded = False
        self._max_distinct = max_distinct
        self._values = np.empty(0, dtype=np.float32)
        self._counts = np.empty((0, 2), dtype=np.int64)  # without and with a label
        self._pending: list[tuple[np.ndarray, np.ndarray]] = []
        self._pending_count = 0

    @classmethod
    def from_counts(cls, scores: np.ndarray, negatives: np.ndarray, positives: np.ndarray) -> ScoreHistogram:
        """Return the histogram that has these `counts`."""
        histogram = cls()
        histogram._pending.append((scores.astype(np.float32), np.stack([negatives, positives], axis=1)))
        histogram._merge_pending()
        return histogram

    @property
    def rounded(self) -> bool:
        """Whether scores were truncated because there were too many distinct ones."""
        self._merge_pending()
        return self._rounded

    def add(self, scores: np.ndarray, labels: np.ndarray, weight: int = 1) -> None:
        """Count bases.

        Parameters
        ----------
        scores : numpy.ndarray
            Any float dtype and shape; higher means more likely Z-DNA.
        labels : numpy.ndarray
            bool (or 0 and 1), the same shape.
        weight : int
            Number of bases that each one represents, for a sample of a genome.

        Raises
        ------
        ValueError
            If the shapes differ or a score is NaN.
        """
        scores, labels = np.asarray(scores, dtype=np.float32), np.asarray(labels, dtype=bool)
        if scores.shape != labels.shape:
            raise ValueError(f"scores have shape {scores.shape}, labels {labels.shape}")
        for column, chosen in enumerate((scores[~labels], scores[labels])):
            values, counts = np.unique(chosen, return_counts=True)
            if len(values) and np.isnan(values[-1]):  # NaN sorts last
                raise ValueError("scores hold NaN")
            both = np.zeros((len(values), 2), dtype=np.int64)
            both[:, column] = counts * weight
            self._pending.append((values, both))
            self._pending_count += len(values)
        # merging after every call would sort the whole histogram each time
        if self._pending_count > max(len(self._values), _MIN_PENDING):
            self._merge_pending()

    def merge(self, other: ScoreHistogram) -> None:
        """Add the counts of another histogram."""
        other._merge_pending()
        self._rounded |= other._rounded
        self._pending.append((other._values, other._counts))
        self._merge_pending()

    def curve(self) -> Curve:
        """Return precision and recall at each distinct score; equal scores are one threshold."""
        threshold, tp, fp = self._cumulative()
        positives = tp[-1] if len(tp) else 0
        return Curve(threshold, tp / (tp + fp), tp / max(positives, 1))

    def average_precision(self) -> float:
        """Return the step-wise area under the precision–recall curve, Σ (R_i − R_(i−1)) · P_i."""
        _, precision, recall = self.curve()
        return float(np.sum(np.diff(recall, prepend=0.0) * precision))

    def precision_at(self, recall: float) -> float | None:
        """Return the precision at the highest score whose recall is at least `recall`; None if no score reaches it."""
        _, precisions, recalls = self.curve()
        first = int(np.searchsorted(recalls, recall - _ROUNDING))
        return float(precisions[first]) if first < len(recalls) and recalls[first] > 0 else None

    def best_f1(self) -> tuple[float, float | None]:
        """Return the highest F1 and the highest score that reaches it; ``(0.0, None)`` if no base is labelled.

        The threshold is the shortest decimal number that rounds to the float32 score.
        """
        threshold, tp, fp = self._cumulative()
        if not len(tp) or tp[-1] == 0:
            return 0.0, None
        f1 = 2 * tp / (tp + fp + tp[-1])
        best = int(np.argmax(f1))
        return float(f1[best]), float(str(threshold[best]))

    def confusion_at(self, threshold: float) -> Confusion:
        """Return the counts when bases with a score of at least `threshold` are called."""
        self._merge_pending()
        first = np.searchsorted(self._values, np.float32(threshold), side="left")
        tn, fn = (int(count) for count in self._counts[:first].sum(axis=0))
        fp, tp = (int(count) for count in self._counts[first:].sum(axis=0))
        return Confusion(tp, fp, fn, tn)

    def counts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the distinct scores, ascending, and how many bases without and with a label have each.

        Returns
        -------
        scores, negatives, positives : numpy.ndarray
            float32, int64 and int64, each of shape (n,).
        """
        self._merge_pending()
        return self._values, self._counts[:, 0], self._counts[:, 1]

    def _cumulative(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return scores, descending, and the labelled and other bases at or above each."""
        self._merge_pending()
        fp, tp = np.cumsum(self._counts[::-1], axis=0).T
        return self._values[::-1], tp, fp

    def _merge_pending(self) -> None:
        """Merge pending scores into the counts; truncate scores if there are too many distinct ones.

        Truncation depends on the set of scores only, not on their order.
        """
        if not self._pending:
            return
        values = np.concatenate([self._values, *(values for values, _ in self._pending)])
        counts = np.concatenate([self._counts, *(counts for _, counts in self._pending)])
        self._pending, self._pending_count = [], 0
        values, counts = _combine(_truncate(values) if self._rounded else values, counts)
        if len(values) > self._max_distinct and not self._rounded:
            self._rounded = True
            values, counts = _combine(_truncate(values), counts)
        self._values, self._counts = values, counts


def _combine(values: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort scores and add up the counts of equal ones."""
    if not len(values):
        return values, counts
    order = np.argsort(values, kind="stable")
    values = values[order]
    first = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])
    return values[first], np.add.reduceat(counts[order], first, axis=0)


def _truncate(values: np.ndarray) -> np.ndarray:
    """Truncate mantissas toward zero: the order is kept, and so is which scores reach a short threshold such as 0.5."""
    mask = np.uint32(0xFFFFFFFF >> (23 - MANTISSA_BITS) << (23 - MANTISSA_BITS))
    return (values.view(np.uint32) & mask).view(np.float32)


class RegionTally:
    """Counts regions along contigs, and how many of them overlap a target, chunk by chunk.

    A region is a run of consecutive marked bases. It is counted if one of its bases is evaluated, and a hit if one
    of its bases is a target.

    Attributes
    ----------
    total, hit : int
    """

    def __init__(self):
        self.total = 0
        self.hit = 0
        self._open: tuple[bool, bool] | None = None  # (evaluated, hit) of a region that may continue

    def add(self, marked: np.ndarray, evaluated: np.ndarray, target: np.ndarray) -> None:
        """Add the next chunk of a contig: three bool arrays of shape (bases,)."""
        if not marked.size:
            return
        edges = np.flatnonzero(np.diff(marked, prepend=False, append=False))
        if self._open and not marked[0]:
            self.end_contig()
        if not len(edges):
            return
        counts, hits = (_any_between(mask, edges) for mask in (evaluated, target))
        if self._open:
            counts[0] |= self._open[0]
            hits[0] |= self._open[1]
            self._open = None
        if marked[-1]:
            self._open = bool(counts[-1]), bool(hits[-1])
            counts, hits = counts[:-1], hits[:-1]
        self.total += int(np.count_nonzero(counts))
        self.hit += int(np.count_nonzero(counts & hits))

    def end_contig(self) -> None:
        """End the contig, and a region that reaches its end."""
        if self._open:
            counts, hit = self._open
            self.total += counts
            self.hit += counts and hit
            self._open = None

    @property
    def rate(self) -> float:
        """Share of the regions that are hit."""
        return ratio(self.hit, self.total)


def _any_between(mask: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return for each region (every other pair of edges) whether any of its bases is set in `mask`."""
    return np.logical_or.reduceat(np.append(mask, False), edges)[::2]  # the last edge may be the chunk's end
