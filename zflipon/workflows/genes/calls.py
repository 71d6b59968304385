"""Calls of a BED, narrowPeak, bigBed or bigWig file as a table, with the lengths of their contigs.

Lengths come from the genome, the header of the file or its run record; without these they are unknown.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from zflipon.errors import InputError
from zflipon.genome.names import ContigLengths
from zflipon.tracks.bigwig import BigWig
from zflipon.tracks.call_files import (
    BIGBED_EXTENSIONS,
    bigbed_lengths,
    is_bigbed,
    read_calls,
)
from zflipon.tracks.calling import CALL_DTYPE
from zflipon.tracks.records import read_record
from zflipon.tracks.registry import BED, BIGWIG, NARROWPEAK
from zflipon.tracks.signal import SignalFile
from zflipon.workflows.evaluate import DEFAULT_THRESHOLD

log = logging.getLogger(__name__)

EXTENSIONS = (*BED.extensions, *NARROWPEAK.extensions, *BIGBED_EXTENSIONS, *BIGWIG.extensions)
"""Extensions of files with calls."""


@dataclass(frozen=True)
class CallSet:
    """Calls of one file.

    Attributes
    ----------
    path : Path
    table : pandas.DataFrame
        ``contig`` (categorical), ``start``, ``end``, ``mean``, ``max``; NaN without scores. Sorted within contigs.
    lengths : ContigLengths
        Contig → length; if `lengths_known` is false, the end of the last call. Also the aliases of contigs.
    lengths_known : bool
    """

    path: Path
    table: pd.DataFrame
    lengths: ContigLengths
    lengths_known: bool

    @property
    def intervals(self) -> dict[str, np.ndarray]:
        """Contig → int64 array of shape (n, 2), sorted."""
        groups = self.table.groupby("contig", observed=True)
        return {str(name): rows[["start", "end"]].to_numpy(dtype=np.int64) for name, rows in groups}


def read_call_set(
    path: str | Path,
    lengths: Mapping[str, int] | None = None,
    threshold: float | None = None,
    allow_empty: bool = False,
    aliases: Iterable[Iterable[str]] = (),
) -> CallSet:
    """Read calls; a bigWig is called at a threshold.

    Parameters
    ----------
    path : str or Path
    lengths : mapping of str to int, optional
        The genome's contigs and their lengths.
    threshold : float, optional
        Probability from which a base of a bigWig is called: by default that of its run record, else
        `zflipon.workflows.evaluate.DEFAULT_THRESHOLD`.
    allow_empty : bool
        Whether a file without calls is accepted.
    aliases : iterable of iterables of str
        Names of one contig each, for files that are compared with the calls later.

    Raises
    ------
    InputError
        If the file cannot be read, has no calls, or does not match the contigs.
    """
    path = Path(path)
    if not path.name.lower().endswith(EXTENSIONS):
        raise InputError(
            f"{path}: unknown format of calls; expected a file name that ends in {', '.join(EXTENSIONS)}"
        )
    known = ContigLengths(lengths or file_lengths(path), aliases)
    calls = call_bigwig(path, known, threshold) if BIGWIG.matches(path) else read_calls(path, known or None)
    if not calls and not allow_empty:
        raise InputError(f"{path}: no calls; expected at least one")
    rows = np.concatenate([np.empty(0, CALL_DTYPE), *calls.values()])
    contigs = [contig for contig, called in calls.items() for _ in range(len(called))]
    table = pd.DataFrame(rows)
    table.insert(0, "contig", pd.Categorical(contigs, list(known or calls)))
    ends = {name: int(rows["end"].max()) for name, rows in calls.items()}
    return CallSet(path, table, known if known else ContigLengths(ends, aliases), bool(known))


def file_lengths(path: Path) -> dict[str, int]:
    """Return the contigs and lengths that a file or its run record states; empty if they are unknown."""
    if is_bigbed(path):
        return bigbed_lengths(path)
    if BIGWIG.matches(path):
        with BigWig(path) as file:
            return file.lengths
    contigs = read_record(path).get("contigs", {})
    return {name: int(contig["length"]) for name, contig in contigs.items() if "length" in contig}


def call_settings(path: Path, threshold: float | None) -> dict[str, float]:
    """Return the settings with which a bigWig is called: those of its run record, else the defaults."""
    settings = dict(read_record(path).get("call") or {})
    if threshold is not None:
        settings["threshold"] = threshold
    elif settings.get("threshold") is None:
        settings["threshold"] = DEFAULT_THRESHOLD
        log.warning(
            "%s: no run record states a threshold; bases of %g and more are called (set it with --threshold)",
            path, DEFAULT_THRESHOLD,
        )  # fmt: skip
    return settings


def call_bigwig(path: Path, lengths: Mapping[str, int], threshold: float | None) -> dict[str, np.ndarray]:
    """Call a bigWig as annotate does; raise `InputError` if its values are not probabilities."""
    signal = SignalFile(path, lengths)
    if not signal.is_probability:
        low, high = signal.value_range
        raise InputError(
            f"{path}: values from {low:g} to {high:g} are not probabilities and cannot be called; give the calls as BED"
        )
    return signal.call(lengths, call_settings(path, threshold))
