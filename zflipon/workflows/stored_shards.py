"""Stored shards of an annotation: their bytes, and the tracks that are written from them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from zflipon.config import CallConfig
from zflipon.errors import OutputError
from zflipon.genome.shards import StoredSpan
from zflipon.tracks.calling import NO_VALUE, ContigTrack, LazyChunks, call_track
from zflipon.tracks.outputs import TrackOutputs

_WINDOWS_READ = struct.Struct("<I")


def encode_shard(values: np.ndarray, windows_read: int) -> bytes:
    """Return the journal's content for a shard: scores as of `quantize`, and the windows the model read."""
    return _WINDOWS_READ.pack(windows_read) + np.asarray(values, dtype="<u2").tobytes()


def decode_shard(content: bytes, scores: int, bases: int) -> tuple[np.ndarray, int]:
    """Return uint16 scores, shape (scores, bases), and the windows read; raise `OutputError` if the size is wrong."""
    if len(content) != _WINDOWS_READ.size + 2 * scores * bases:
        raise OutputError(
            f"a stored shard has {len(content)} bytes, expected those of {bases} bases; give --restart to recompute"
        )
    (windows_read,) = _WINDOWS_READ.unpack_from(content)
    return np.frombuffer(content, "<u2", offset=_WINDOWS_READ.size).reshape(scores, bases), windows_read


class ShardStore(Protocol):
    """Stored shards: a `zflipon.jobs.journal.Journal`, or the parts of a run."""

    def read(self, number: int) -> bytes:
        """Return the content of a shard; raise `OutputError` if it is damaged."""
        ...


class ContigWriter:
    """Writes contigs to the tracks, in genome order, from stored shards.

    Parameters
    ----------
    tracks : mapping of str to TrackOutputs
        Score → its outputs.
    calls : mapping of str to CallConfig
        Score → how its bases are called; each has a threshold.
    sizes : sequence of int
        Bases of each shard.
    store : ShardStore
    observe : callable
        Called with contig, score and quantized values of each chunk that is written.

    Attributes
    ----------
    totals : dict of str to dict of str to int
        Score → calls, called bases, bases with a value, and windows read so far.
    """

    def __init__(
        self,
        tracks: Mapping[str, TrackOutputs],
        calls: Mapping[str, CallConfig],
        sizes: Sequence[int],
        store: ShardStore,
        observe: Callable[[str, str, np.ndarray], object] = lambda contig, score, values: None,
    ):
        self._observe = observe
        self._tracks, self._calls, self._sizes, self._store = tracks, calls, sizes, store
        self._loaded, self._values = -1, np.empty((0, 0), dtype=np.uint16)
        self._counted = -1
        counts = ("calls", "called_bases", "bases", "windows_read")
        self.totals: dict[str, dict[str, int]] = {score: dict.fromkeys(counts, 0) for score in calls}

    def write(self, contig: str, spans: Sequence[StoredSpan]) -> None:
        """Write the next contig."""
        for row, score in enumerate(self._calls):
            totals = self.totals[score]
            calls = self._call(contig, spans, row, score)
            self._tracks[score].add(self._track(contig, spans, row), calls)
            totals["calls"] += len(calls)
            totals["called_bases"] += int((calls["end"] - calls["start"]).sum())

    def _call(self, contig: str, spans: Sequence[StoredSpan], row: int, score: str) -> np.ndarray:
        """Return the calls of a contig; count its values and observe them meanwhile, since calling reads each once."""

        def count(values: np.ndarray) -> None:
            self.totals[score]["bases"] += int(np.count_nonzero(values != NO_VALUE))
            self._observe(contig, score, values)

        call = self._calls[score]
        assert call.threshold is not None  # resolved by calls_of_scores
        track = self._track(contig, spans, row, count)
        return call_track(track, call.threshold, call.min_length, call.merge_gap)

    def _track(
        self,
        contig: str,
        spans: Sequence[StoredSpan],
        row: int,
        visit: Callable[[np.ndarray], object] = lambda values: None,
    ) -> ContigTrack:
        """Return a score of a contig, read span by span: a contig may be longer than what fits into memory."""

        def read(number: int) -> np.ndarray:
            values = self._read(spans[number])[row]
            visit(values)
            return values

        return ContigTrack(contig, LazyChunks([(span.start, span.end) for span in spans], read))

    def _read(self, span: StoredSpan) -> np.ndarray:
        """Return the values of a span: uint16, shape (scores, bases)."""
        if span.shard != self._loaded:  # short contigs share a shard
            content = self._store.read(span.shard)
            self._values, windows_read = decode_shard(content, len(self._calls), self._sizes[span.shard])
            self._loaded = span.shard
            if span.shard > self._counted:  # the outputs read a shard once each
                self._counted = span.shard
                for totals in self.totals.values():
                    totals["windows_read"] += windows_read
        return self._values[:, span.offset : span.offset + span.end - span.start]
