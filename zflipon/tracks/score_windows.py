"""Shares of bases with a high score in windows of a track, to compare a genome with a model's training genome."""

from __future__ import annotations

import numpy as np

from zflipon.models.domain import LOW_SCORE, SCORE_WINDOW
from zflipon.tracks.calling import NO_VALUE, quantized_threshold

MIN_CONTIG_BASES = 100_000
"""Contigs from this length on have a natural density of calls; shorter ones are often chosen regions."""


class ScoreCounter:
    """Counts scores from a threshold on, in windows of `SCORE_WINDOW` bases with a score, pooled over contigs.

    Parameters
    ----------
    threshold : float
        Score from which a base is called.
    """

    def __init__(self, threshold: float):
        self._levels = quantized_threshold(threshold), quantized_threshold(LOW_SCORE)
        self._shares: list[tuple[float, ...]] = []
        self._open = np.zeros(2, dtype=np.int64)
        self._count = 0

    def add(self, values: np.ndarray, contig_length: int) -> None:
        """Count consecutive bases of a contig: uint16, as of `zflipon.tracks.calling.quantize`."""
        if contig_length < MIN_CONTIG_BASES:
            return
        known = values[values != NO_VALUE]
        while len(known):
            taken = known[: SCORE_WINDOW - self._count]
            self._open += [np.count_nonzero(taken >= level) for level in self._levels]
            self._count += len(taken)
            known = known[len(taken) :]
            if self._count == SCORE_WINDOW:
                self._shares.append(tuple(self._open / SCORE_WINDOW))
                self._open[:] = 0
                self._count = 0

    def shares(self) -> np.ndarray:
        """Return the shares of called bases and of bases from `LOW_SCORE` on: float64, shape (windows, 2)."""
        return np.array(self._shares, dtype=np.float64).reshape(-1, 2)
