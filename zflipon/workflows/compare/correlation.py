"""Correlation of tracks over all bases where both have a value, a chunk at a time; memory does not grow.

Pearson's coefficient comes from running moments; Spearman's from counts of pairs of thousandths, for probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from zflipon.tracks.calling import SCALE
from zflipon.tracks.signal import CHUNK
from zflipon.workflows.compare.sets import ComparedSet

CORRELATION_COLUMNS = ("bases_compared", "pearson", "spearman")
"""Columns of the correlation of two tracks."""


@dataclass
class RunningCorrelation:
    """Correlation of pairs of values that arrive in chunks.

    Attributes
    ----------
    ranked : bool
        Whether to count pairs for Spearman's coefficient; values are then between 0 and 1 and are rounded to
        thousandths.

    Examples
    --------
    >>> running = RunningCorrelation(ranked=False)
    >>> running.add(np.array([1.0, 2.0]), np.array([2.0, 4.0]))
    >>> running.add(np.array([3.0, np.nan]), np.array([6.0, 1.0]))
    >>> running.bases, round(running.pearson, 6)
    (3, 1.0)
    """

    ranked: bool
    bases: int = 0
    _means: np.ndarray = field(default_factory=lambda: np.zeros(2))
    _moments: np.ndarray = field(default_factory=lambda: np.zeros((2, 2)))
    _pairs: np.ndarray | None = None

    def add(self, first: np.ndarray, second: np.ndarray) -> None:
        """Add values of the same bases, floating arrays of shape (n,); pairs with NaN do not count."""
        both = ~(np.isnan(first) | np.isnan(second))
        values = np.stack([first[both], second[both]]).astype(np.float64)
        number = values.shape[1]
        if not number:
            return
        means = values.mean(axis=1)
        centred = values - means[:, None]
        shift, total = means - self._means, self.bases + number
        self._moments += centred @ centred.T + np.outer(shift, shift) * self.bases * number / total
        self._means += shift * number / total
        self.bases = total
        if self.ranked:
            thousandths = np.rint(values.clip(0, 1) * SCALE).astype(np.int64)
            counts = np.bincount(thousandths[0] * (SCALE + 1) + thousandths[1], minlength=(SCALE + 1) ** 2)
            self._pairs = counts if self._pairs is None else self._pairs + counts

    @property
    def pearson(self) -> float:
        """Pearson's coefficient; NaN if a track is constant."""
        return _coefficient(self._moments)

    @property
    def spearman(self) -> float:
        """Spearman's coefficient with mean ranks for ties; NaN if pairs were not counted or a track is constant."""
        if self._pairs is None:
            return float("nan")
        pairs = self._pairs.reshape(SCALE + 1, SCALE + 1)
        ranks = []
        for axis in (1, 0):
            counts = pairs.sum(axis=axis)
            rank = np.cumsum(counts) - (counts - 1) / 2
            ranks.append(rank - (rank * counts).sum() / self.bases)
        variances = [
            float((rank**2 * pairs.sum(axis=axis)).sum()) for rank, axis in zip(ranks, (1, 0), strict=True)
        ]
        covariance = float(ranks[0] @ pairs @ ranks[1])
        return _coefficient(np.array([[variances[0], covariance], [covariance, variances[1]]]))


def _coefficient(moments: np.ndarray) -> float:
    scale = float(np.sqrt(moments[0, 0] * moments[1, 1]))
    return float(moments[0, 1] / scale) if scale > 0 else float("nan")


def correlate(
    sets: Sequence[ComparedSet],
    progress: Callable[[int, int], object] = lambda bases, total: None,
    chunk: int = CHUNK,
) -> dict[tuple[int, int], RunningCorrelation]:
    """Correlate all pairs of bigWigs.

    Parameters
    ----------
    sets : sequence of ComparedSet
        Sets without values are left out.
    progress : callable
        Called with the bases read since the last call, and with all bases to read.
    chunk : int
        Bases read at a time.

    Returns
    -------
    dict of (int, int) to RunningCorrelation
        Numbers of two sets → their correlation on the contigs that both have.
    """
    tracks = {number: each for number, each in enumerate(sets) if each.signal is not None}
    probability = {
        number: each.signal is not None and each.signal.is_probability for number, each in tracks.items()
    }
    pairs = {
        (one, other): RunningCorrelation(ranked=probability[one] and probability[other])
        for one, other in combinations(tracks, 2)
    }
    if not pairs:
        return {}
    lengths = {contig: length for each in tracks.values() for contig, length in each.lengths.items()}
    shared = {
        contig: length
        for contig, length in lengths.items()
        if sum(contig in each.lengths for each in tracks.values()) > 1
    }
    total = sum(shared.values())
    for contig, length in shared.items():
        for start in range(0, length, chunk):
            end = min(start + chunk, length)
            values = {number: each.values(contig, start, end) for number, each in tracks.items()}
            for (one, other), running in pairs.items():
                running.add(values[one], values[other])
            progress(end - start, total)
    return pairs
