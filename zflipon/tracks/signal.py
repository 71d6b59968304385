"""A bigWig file of any values: missing values, counts, axis limits and calls, a chunk at a time.

Memory does not grow with the file. As a track of scores, without missing values, it is read by `zflipon.tracks.bigwig`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from zflipon.tracks.bigwig import BigWig, names_of_contigs, value_range
from zflipon.tracks.calling import SCALE, ContigTrack, LazyChunks, call_track, quantize

CHUNK = 1 << 20
"""Bases read at a time."""


class SignalFile:
    """Values of a bigWig file; values that are not finite count as missing.

    Parameters
    ----------
    path : Path
    lengths : mapping of str to int, optional
        A genome's contigs and their lengths, to which the contigs of the file are translated.

    Raises
    ------
    InputError
        If the file is missing, is no bigWig, or is truncated, or does not match the genome.
    """

    def __init__(self, path: Path, lengths: Mapping[str, int] | None = None):
        self.path = path
        self._file = BigWig(path)
        self._names = (
            {name: name for name in self._file.lengths}
            if lengths is None
            else names_of_contigs(self._file, lengths)
        )
        self._range: tuple[float, float] | None = None

    @property
    def value_range(self) -> tuple[float, float]:
        """Lowest and highest value, (0, 0) without values; the first access reads the file unless it was counted."""
        if self._range is None:
            self._range = value_range(self.path) or (0.0, 0.0)
        return self._range

    @property
    def is_probability(self) -> bool:
        """Whether all values are between 0 and 1."""
        low, high = self.value_range
        return low >= 0 and high <= 1

    @property
    def limits(self) -> tuple[float, float]:
        """Axis limits: (0, 1) for probabilities, else the range of the values, extended to include 0."""
        low, high = self.value_range
        return (0.0, 1.0) if self.is_probability else (min(low, 0.0), max(high, 0.0))

    def values(self, contig: str, start: int, end: int) -> np.ndarray:
        """Return per-base values: float32, shape (end - start,), NaN for bases without a value."""
        values = self._file.values(self._names.get(contig, contig), start, end)
        return np.where(np.isinf(values), np.float32(np.nan), values)

    def count_values(
        self, lengths: Mapping[str, int], progress: Callable[[int], object] = lambda bases: None
    ) -> tuple[dict[str, int], np.ndarray | None]:
        """Count the bases with a value, by contig and by probability.

        Returns
        -------
        assessed : dict of str to int
            Contig → number of bases with a value.
        bases_by_probability : numpy.ndarray or None
            As in `RunSummary`.
        """
        assessed: dict[str, int] = {}
        counts = np.zeros(SCALE + 1, dtype=np.int64)
        low, high = math.inf, -math.inf
        for contig, chunks in self._contigs(lengths):
            assessed[contig] = 0
            for start, end in chunks.bounds:
                values = self.values(contig, start, end)
                values = values[~np.isnan(values)]
                if len(values):
                    assessed[contig] += len(values)
                    low, high = min(low, float(values.min())), max(high, float(values.max()))
                    thousandths = np.rint(values.clip(0, 1) * SCALE).astype(int)
                    counts += np.bincount(thousandths, minlength=SCALE + 1)
                progress(end - start)
        self._range = (low, high) if low <= high else (0.0, 0.0)
        return assessed, counts if self.is_probability else None

    def call(
        self,
        lengths: Mapping[str, int],
        settings: Mapping,
        progress: Callable[[int], object] = lambda bases: None,
    ) -> dict[str, np.ndarray]:
        """Call intervals as annotate does.

        Parameters
        ----------
        lengths : mapping of str to int
        settings : mapping
            ``threshold`` and optionally ``min_length`` and ``merge_gap``: section ``call`` of a run record.
        progress : callable
            Called with the number of bases just read.

        Returns
        -------
        dict of str to numpy.ndarray
            Contig → `zflipon.tracks.calling.CALL_DTYPE`; contigs without calls are absent.
        """
        threshold = settings["threshold"]
        min_length, merge_gap = settings.get("min_length", 1), settings.get("merge_gap", 0)
        calls = {
            contig: call_track(ContigTrack(contig, chunks), threshold, min_length, merge_gap)
            for contig, chunks in self._contigs(lengths, progress)
        }
        return {contig: rows for contig, rows in calls.items() if len(rows)}

    def _contigs(
        self, lengths: Mapping[str, int], progress: Callable[[int], object] = lambda bases: None
    ) -> Iterator[tuple[str, LazyChunks]]:
        for contig, length in lengths.items():
            if contig in self._names:
                yield contig, self._chunks(contig, length, progress)

    def _chunks(self, contig: str, length: int, progress: Callable[[int], object]) -> LazyChunks:
        """Return the probabilities of a contig, in chunks."""
        bounds = [(start, min(start + CHUNK, length)) for start in range(0, length, CHUNK)]

        def read(number: int) -> np.ndarray:
            start, end = bounds[number]
            values = self.values(contig, start, end)
            progress(end - start)
            return quantize(values)

        return LazyChunks(bounds, read)
