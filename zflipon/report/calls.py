"""Calls and value counts of a run, read from its tracks a chunk at a time.

Only the calls are held in memory. Grouping of tracks into runs is in `zflipon.report.runs`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from zflipon.genome.intervals import merge
from zflipon.report.runs import Run
from zflipon.tracks.call_files import call_intervals, read_calls
from zflipon.tracks.signal import SignalFile


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
