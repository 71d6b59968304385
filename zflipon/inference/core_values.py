"""The outputs of batches → the values of the cores of a scan, added up over both strands.

Which windows are predicted is decided in `zflipon.inference.genome_scan`.
"""

from __future__ import annotations

import numpy as np

from zflipon.inference.batching import POOL_WINDOWS, Batch
from zflipon.inference.decoding import Decoder


class CoreValues:
    """Collects the outputs of batches and adds up the values of both strands in each core.

    Parameters
    ----------
    decoder : Decoder
    cores : numpy.ndarray
        int64, shape (windows, 2), or (2 × windows, 2) with the reverse strand: range of the core in the sequence.
    core_sizes : numpy.ndarray
        int64, shape (windows,).
    rows : int
        Values of a base in an output.
    """

    def __init__(self, decoder: Decoder, cores: np.ndarray, core_sizes: np.ndarray, rows: int):
        self.decoder, self.windows = decoder, len(core_sizes)
        self.values = np.zeros((rows, int(core_sizes.sum())), dtype=np.float32)
        self.offsets = np.cumsum(core_sizes) - core_sizes
        # nearly all cores have the same range in their window, so each range is copied in one operation
        self.ranges, self.range_of_sequence = np.unique(cores, axis=0, return_inverse=True)
        self._waiting: list[tuple[Batch, np.ndarray]] = []

    def add(self, batch: Batch, output: np.ndarray) -> None:
        """Add the output of a batch. Outputs are decoded many at a time, because small calls are slow."""
        self._waiting.append((batch, output))
        if sum(len(waiting.indices) for waiting, _ in self._waiting) >= POOL_WINDOWS:
            self._decode_waiting()

    def merge(self) -> np.ndarray:
        """Return the merged values of all cores, one after the other: float32, shape (values, bases)."""
        self._decode_waiting()
        return self.values

    def _decode_waiting(self) -> None:
        if not self._waiting:
            return
        batches, outputs = zip(*self._waiting, strict=True)
        self._waiting.clear()
        values = self.decoder.base_values(batches, outputs)
        sequences = np.concatenate([batch.indices for batch in batches])
        is_reverse, ranges = sequences >= self.windows, self.range_of_sequence[sequences]
        windows = sequences - self.windows * is_reverse
        order = np.argsort(ranges, kind="stable")
        for rows_of_range in np.split(order, np.flatnonzero(np.diff(ranges[order])) + 1):
            start, end = self.ranges[ranges[rows_of_range[0]]]
            # one strand at a time: a window may occur twice, once per strand
            for strand, weight in enumerate(self.decoder.strand_weights):
                rows = rows_of_range[is_reverse[rows_of_range] == bool(strand)]
                core = values[rows, :, start:end]
                positions = self.offsets[windows[rows], None] + np.arange(end - start)
                self.values[:, positions] += (weight * (core[..., ::-1] if strand else core)).swapaxes(0, 1)
