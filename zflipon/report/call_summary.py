"""The calls of a run and what its bases add up to, read a chunk at a time; only the calls are held together."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zflipon.errors import InputError
from zflipon.genome.interval_files import read_bed_rows
from zflipon.genome.intervals import merge
from zflipon.report.sources import Run
from zflipon.tracks.bigwig import BigWig, value_range
from zflipon.tracks.calling import CALL_DTYPE, SCALE, ContigTrack, call_track, quantize

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Found:
    """What a run holds.

    Attributes
    ----------
    calls : dict of str to numpy.ndarray
        Contig → `zflipon.tracks.calling.CALL_DTYPE` in order; probabilities are NaN where the BED has none. Contigs without
        calls are left out.
    assessed : dict of str to int or None
        Contig → bases with a value; None without a bigWig.
    bases_at : numpy.ndarray or None
        Bases at each thousandth of probability: int64, shape (1001,); None where values are not probabilities.
    limits : (float, float)
        Of the signal, for browsers.
    called : bool
        Whether calls are known at all, be they none.
    """

    calls: dict[str, np.ndarray]
    assessed: dict[str, int] | None
    bases_at: np.ndarray | None
    limits: tuple[float, float]
    called: bool

    @property
    def scored(self) -> bool:
        """Whether the calls have probabilities."""
        return all(not np.isnan(calls["mean"]).any() for calls in self.calls.values())

    @property
    def number(self) -> int:
        """How many calls there are."""
        return sum(map(len, self.calls.values()))

    def called_bases(self, contig: str) -> int:
        """Return how many bases of a contig lie in a call, those of overlapping calls once."""
        return int(np.diff(merge(spans(self.calls[contig]))).sum()) if contig in self.calls else 0


def spans(calls: np.ndarray) -> np.ndarray:
    """Return starts and ends of calls: int64, shape (n, 2)."""
    return np.stack([calls["start"], calls["end"]], axis=1)


def ranked(
    calls: Mapping[str, np.ndarray], key: Callable[[np.ndarray], np.ndarray], most: int
) -> list[tuple[str, np.void]]:
    """Return the calls of the highest keys, with their contigs; the longer, then the earlier, of those that are alike.

    Parameters
    ----------
    calls : mapping of str to numpy.ndarray
        Contig → `zflipon.tracks.calling.CALL_DTYPE`, in the genome's order.
    key : callable
        Calls of a contig → their keys, numbers.
    most : int
    """
    best: list[tuple] = []
    for contig, found in calls.items():
        keys = key(found)
        order = np.lexsort((found["start"], found["start"] - found["end"], -keys))[:most]
        best += [(-keys[at], found["start"][at] - found["end"][at], contig, found[at]) for at in order]
    best.sort(key=lambda row: row[:2])
    return [(contig, call) for _, _, contig, call in best[:most]]


def find(run: Run, lengths: Mapping[str, int], progress: Callable[[int], None] = lambda bases: None) -> Found:
    """Read a run: its bigWig once, and its calls from the BED or else from the bigWig at the recorded threshold.

    Parameters
    ----------
    run : Run
    lengths : mapping of str to int
        Contigs in the genome's order.
    progress : callable
        Called with the bases that were read of a bigWig.

    Raises
    ------
    InputError
        If a file is malformed or does not fit the contigs.
    """
    signal = Signal(run.signal) if run.signal else None
    assessed, bases_at = signal.totals(lengths, progress) if signal else (None, None)
    calls, called = {}, True
    if run.calls is not None:
        calls = read_calls(run.calls, lengths)
    elif signal.probable and run.record.get("call", {}).get("threshold") is not None:
        calls = signal.call(lengths, run.record["call"])
    else:
        called = False
    return Found(calls, assessed, bases_at, signal.limits if signal else (0.0, 1.0), called)


def read_calls(path: Path, lengths: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Read the calls of a BED file: contig → `zflipon.tracks.calling.CALL_DTYPE`, sorted.

    The columns after the ninth are mean and highest probability, as annotate writes them; without them the score stands
    for both, and without a score they are NaN.
    """
    rows: dict[str, tuple[array, array]] = {}
    for contig, start, end, rest in read_bed_rows(path, lengths, "calls"):
        if start == end:
            continue
        places, scores = rows.setdefault(contig, (array("q"), array("d")))
        places.extend((start, end))
        scores.extend(_scores(path, contig, start, rest))
    calls = {}
    for contig in lengths:
        if contig in rows:
            places, scores = (np.frombuffer(part, part.typecode).reshape(-1, 2) for part in rows[contig])
            table = np.empty(len(places), dtype=CALL_DTYPE)
            table["start"], table["end"] = places.T
            table["mean"], table["max"] = scores.T
            calls[contig] = np.sort(table, order=("start", "end"))
    return calls


def _scores(path: Path, contig: str, start: int, rest: Sequence[str]) -> tuple[float, float]:
    try:
        if len(rest) >= 8:
            mean, peak = float(rest[6]), float(rest[7])
        elif len(rest) >= 2:
            mean = peak = float(rest[1]) / 1000
        else:
            return math.nan, math.nan
    except ValueError:
        mean = peak = math.nan
    if not (0 <= mean <= 1 and 0 <= peak <= 1):
        raise InputError(
            f"{path}: the call at {contig}:{start + 1} has no probability in its columns 10 and 11 nor a score from "
            "0 to 1000 in column 5; is it a BED file that annotate wrote?"
        )
    return mean, peak


class Signal:
    """The values of a bigWig file.

    Attributes
    ----------
    limits : (float, float)
        0 and 1 where all values lie between them.
    probable : bool
        Whether they do.
    """

    def __init__(self, path: Path):
        self.path = path
        self._file = BigWig(path)
        low, high = value_range(path) or (0.0, 0.0)
        self.probable = low >= 0 and high <= 1
        self.limits = (0.0, 1.0) if self.probable else (min(low, 0.0), high)

    def values(self, contig: str, start: int, end: int) -> np.ndarray:
        """Return the values of bases: float32, NaN where there is none."""
        return self._file.values(contig, start, end)

    def totals(
        self, lengths: Mapping[str, int], progress: Callable[[int], None]
    ) -> tuple[dict[str, int], np.ndarray | None]:
        """Return contig → bases with a value, and how many bases have each thousandth of probability."""
        assessed, bases_at = {}, np.zeros(SCALE + 1, dtype=np.int64)
        for contig, pieces in self._contigs(lengths):
            assessed[contig] = 0
            for start, end in pieces.bounds:
                values = self.values(contig, start, end)
                values = values[~np.isnan(values)]
                assessed[contig] += len(values)
                if self.probable:
                    bases_at += np.bincount(np.rint(values * SCALE).astype(int), minlength=SCALE + 1)
                progress(end - start)
        return assessed, bases_at if self.probable else None

    def call(
        self, lengths: Mapping[str, int], how: Mapping, progress: Callable[[int], None] = lambda bases: None
    ) -> dict[str, np.ndarray]:
        """Call what annotate would: contig → `zflipon.tracks.calling.CALL_DTYPE`; `progress` is told the bases read."""
        threshold, least, gap = how["threshold"], how.get("min_length", 1), how.get("merge_gap", 0)
        calls = {
            contig: call_track(_Ordered(contig, pieces), threshold, least, gap)
            for contig, pieces in self._contigs(lengths, progress)
        }
        return {contig: found for contig, found in calls.items() if len(found)}

    def _contigs(
        self, lengths: Mapping[str, int], progress: Callable[[int], None] = lambda bases: None
    ) -> Iterator[tuple[str, _Pieces]]:
        held = self._file.lengths
        for contig, length in lengths.items():
            if contig in held:
                yield contig, _Pieces(self, contig, length, progress)


class _Ordered(ContigTrack):
    """A track whose pieces are in order as they are made: to look at them would read the file once more."""

    def __post_init__(self) -> None:
        """Look at nothing."""


class _Pieces(Sequence):
    """The pieces of a contig's track, each read when it is asked for, so that no contig is held as a whole."""

    def __init__(self, signal: Signal, contig: str, length: int, progress: Callable[[int], None]):
        self._signal, self._contig, self._progress = signal, contig, progress
        self.bounds = [(start, min(start + _CHUNK, length)) for start in range(0, length, _CHUNK)]

    def __len__(self) -> int:
        return len(self.bounds)

    def __getitem__(self, number: int) -> tuple[int, np.ndarray]:
        start, end = self.bounds[number]
        values = quantize(self._signal.values(self._contig, start, end))
        self._progress(end - start)
        return start, values
