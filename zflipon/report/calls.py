"""Calls and value counts of a run, read from its tracks a chunk at a time.

Only the calls are held in memory. Grouping of tracks into runs is in `zflipon.report.runs`.
"""

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
from zflipon.report.runs import PEAK_EXTENSIONS, Run
from zflipon.tracks.bigwig import BigWig, value_range
from zflipon.tracks.calling import CALL_DTYPE, SCALE, ContigTrack, call_track, quantize

CHUNK = 1 << 20
"""Bases read at a time."""


@dataclass(frozen=True)
class RunSummary:
    """Calls and value counts of one run.

    Attributes
    ----------
    calls : dict of str to numpy.ndarray
        Contig → `zflipon.tracks.calling.CALL_DTYPE`, sorted; probabilities are NaN if the BED has none. Contigs
        without calls are absent.
    assessed : dict of str to int or None
        Contig → number of bases with a value; None without a bigWig.
    bases_by_probability : numpy.ndarray or None
        Number of bases at each thousandth of probability: int64, shape (1001,); None if the values are not
        probabilities.
    limits : (float, float)
        Limits of the signal's axis in browsers.
    has_calls : bool
        Whether calls are known; a run may have none although they are known.
    """

    calls: dict[str, np.ndarray]
    assessed: dict[str, int] | None
    bases_by_probability: np.ndarray | None
    limits: tuple[float, float]
    has_calls: bool

    @property
    def scored(self) -> bool:
        """Whether the calls have probabilities."""
        return all(not np.isnan(calls["mean"]).any() for calls in self.calls.values())

    @property
    def number_of_calls(self) -> int:
        """Number of calls on all contigs."""
        return sum(map(len, self.calls.values()))

    def called_bases(self, contig: str) -> int:
        """Return the number of bases of a contig inside calls; bases of overlapping calls count once."""
        return int(np.diff(merge(call_intervals(self.calls[contig]))).sum()) if contig in self.calls else 0


def call_intervals(calls: np.ndarray) -> np.ndarray:
    """Return starts and ends of calls: int64, shape (n, 2)."""
    return np.stack([calls["start"], calls["end"]], axis=1)


def top_calls(
    calls: Mapping[str, np.ndarray], key: Callable[[np.ndarray], np.ndarray], limit: int
) -> list[tuple[str, np.void]]:
    """Return the calls with the highest keys, best first; ties are broken by length, then by position.

    Parameters
    ----------
    calls : mapping of str to numpy.ndarray
        Contig → `zflipon.tracks.calling.CALL_DTYPE`, in the order of the genome.
    key : callable
        Calls of a contig → numbers of shape (n,).
    limit : int
        Highest number of calls.

    Returns
    -------
    list of (str, numpy.void)
        Contig and call.
    """
    best: list[tuple] = []
    for contig, rows in calls.items():
        keys = key(rows)
        order = np.lexsort((rows["start"], rows["start"] - rows["end"], -keys))[:limit]
        best += [(-keys[row], rows["start"][row] - rows["end"][row], contig, rows[row]) for row in order]
    best.sort(key=lambda entry: entry[:2])
    return [(contig, call) for _, _, contig, call in best[:limit]]


def summarize_run(
    run: Run, lengths: Mapping[str, int], progress: Callable[[int], object] = lambda bases: None
) -> RunSummary:
    """Read a run's tracks once.

    Calls come from the BED. Without a BED, the bigWig is called with the settings in the run record, as annotate
    would call it; without those, the calls are unknown.

    Parameters
    ----------
    run : Run
    lengths : mapping of str to int
        Contigs in the order of the genome.
    progress : callable
        Called with the number of bases just read from a bigWig.

    Raises
    ------
    InputError
        If a file is malformed or does not match the contigs.
    """
    signal = SignalFile(run.signal) if run.signal else None
    assessed, bases_by_probability = signal.count_values(lengths, progress) if signal else (None, None)
    calls: dict[str, np.ndarray] = {}
    has_calls = True
    if run.calls is not None:
        calls = read_calls(run.calls, lengths)
    elif signal and signal.is_probability and run.record.get("call", {}).get("threshold") is not None:
        calls = signal.call(lengths, run.record["call"])
    else:
        has_calls = False
    limits = signal.limits if signal else (0.0, 1.0)
    return RunSummary(calls, assessed, bases_by_probability, limits, has_calls)


def read_calls(path: Path, lengths: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Read the calls of a BED file.

    Columns 10 and 11 are the mean and the highest probability, as annotate writes them. Without these columns, the
    score (column 5, in thousandths) is used for both; without a score, and in narrowPeak files, whose scores are not
    probabilities, both are NaN.

    Returns
    -------
    dict of str to numpy.ndarray
        Contig → `zflipon.tracks.calling.CALL_DTYPE`, sorted; contigs without calls are absent.

    Raises
    ------
    InputError
        If the file is malformed, or a score is not a probability.
    """
    is_peaks = path.name.lower().endswith(PEAK_EXTENSIONS)
    columns: dict[str, tuple[array, array]] = {}
    for contig, start, end, rest in read_bed_rows(path, lengths, "calls"):
        if start == end:
            continue
        positions, scores = columns.setdefault(contig, (array("q"), array("d")))
        positions.extend((start, end))
        scores.extend((math.nan, math.nan) if is_peaks else _read_scores(path, contig, start, rest))
    calls = {}
    for contig in lengths:
        if contig in columns:
            positions, scores = (
                np.frombuffer(column, column.typecode).reshape(-1, 2) for column in columns[contig]
            )
            table = np.empty(len(positions), dtype=CALL_DTYPE)
            table["start"], table["end"] = positions.T
            table["mean"], table["max"] = scores.T
            calls[contig] = np.sort(table, order=("start", "end"))
    return calls


def _read_scores(path: Path, contig: str, start: int, rest: Sequence[str]) -> tuple[float, float]:
    """Return mean and highest probability from the columns after the third."""
    try:
        if len(rest) >= 8:
            mean, highest = float(rest[6]), float(rest[7])
        elif len(rest) >= 2:
            mean = highest = float(rest[1]) / 1000
        else:
            return math.nan, math.nan
    except ValueError:
        mean = highest = math.nan
    if not (0 <= mean <= 1 and 0 <= highest <= 1):
        raise InputError(
            f"{path}: the call at {contig}:{start + 1} has neither probabilities in columns 10 and 11 nor a score "
            "from 0 to 1000 in column 5. Give a BED file of annotate, or one with three or four columns"
        )
    return mean, highest


class SignalFile:
    """Values of a bigWig file; values that are not finite count as missing.

    Parameters
    ----------
    path : Path

    Raises
    ------
    InputError
        If the file is missing, is no bigWig, or is truncated.
    """

    def __init__(self, path: Path):
        self.path = path
        self._file = BigWig(path)
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
        values = self._file.values(contig, start, end)
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
            contig: call_track(_LazyTrack(contig, chunks), threshold, min_length, merge_gap)
            for contig, chunks in self._contigs(lengths, progress)
        }
        return {contig: rows for contig, rows in calls.items() if len(rows)}

    def _contigs(
        self, lengths: Mapping[str, int], progress: Callable[[int], object] = lambda bases: None
    ) -> Iterator[tuple[str, _Chunks]]:
        in_file = self._file.lengths
        for contig, length in lengths.items():
            if contig in in_file:
                yield contig, _Chunks(self, contig, length, progress)


class _LazyTrack(ContigTrack):
    """A track whose chunks are read on demand; checking their order first would read the file twice."""

    def __post_init__(self) -> None:
        """Skip the check: `_Chunks` are in order by construction."""


class _Chunks(Sequence):
    """Chunks of a contig's probabilities, each read when it is accessed; memory does not grow with the contig."""

    def __init__(self, signal: SignalFile, contig: str, length: int, progress: Callable[[int], object]):
        self._signal, self._contig, self._progress = signal, contig, progress
        self.bounds = [(start, min(start + CHUNK, length)) for start in range(0, length, CHUNK)]

    def __len__(self) -> int:
        return len(self.bounds)

    def __getitem__(self, number: int) -> tuple[int, np.ndarray]:
        start, end = self.bounds[number]
        values = self._signal.values(self._contig, start, end)
        self._progress(end - start)
        return start, quantize(values)
