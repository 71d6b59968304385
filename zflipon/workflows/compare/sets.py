"""The call sets and tracks of a comparison, brought to the contig names of the first one.

Reading of calls is in `zflipon.workflows.genes.calls`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zflipon.errors import InputError, format_names
from zflipon.genome.names import ContigLengths, read_aliases
from zflipon.tracks.calling import CALL_DTYPE
from zflipon.tracks.registry import BIGWIG
from zflipon.tracks.signal import SignalFile
from zflipon.workflows.evaluate import track_names
from zflipon.workflows.genes.calls import file_lengths, read_call_set
from zflipon.workflows.genes.contigs import translate_contigs

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ComparedSet:
    """One set of a comparison.

    Attributes
    ----------
    name : str
    calls : dict of str to numpy.ndarray
        Contig, named as in the first set → `zflipon.tracks.calling.CALL_DTYPE`, sorted; contigs without calls are
        absent.
    lengths : dict of str to int
        Contig → length; empty if the lengths are unknown.
    signal : SignalFile or None
        The values of a bigWig.
    own_names : dict of str to str
        Contig → its name in the file.
    """

    name: str
    calls: dict[str, np.ndarray]
    lengths: dict[str, int]
    signal: SignalFile | None
    own_names: dict[str, str]

    @property
    def scored(self) -> bool:
        """Whether the set has values, or a score for each call."""
        return self.signal is not None or not any(np.isnan(rows["max"]).any() for rows in self.calls.values())

    def values(self, contig: str, start: int, end: int) -> np.ndarray:
        """Return the values of a bigWig: float32, NaN for bases without one and for contigs that it lacks."""
        if self.signal is None or contig not in self.own_names:
            return np.full(end - start, np.nan, dtype=np.float32)
        return self.signal.values(self.own_names[contig], start, end)


def read_sets(
    paths: Sequence[str | Path],
    names: Sequence[str] = (),
    threshold: float | None = None,
    contig_aliases: str | Path | None = None,
) -> list[ComparedSet]:
    """Read the sets of a comparison; parameters are those of `zflipon.compare`.

    Raises
    ------
    InputError
        If there are fewer than two, names are not one each, a file cannot be read, shares no contig with the first
        one, or a contig has another length there.
    """
    if len(paths) < 2:
        raise InputError(f"{len(paths)} file to compare; expected at least two")
    names = list(names) or track_names(paths)
    if len(names) != len(paths) or len(set(names)) != len(names):
        raise InputError(
            f"names {format_names(names)}: expected {len(paths)} different names, one for each file"
        )
    aliases = read_aliases(contig_aliases) if contig_aliases is not None else ()
    sets: list[ComparedSet] = []
    contigs: dict[str, int | None] = {}
    for name, path in zip(names, paths, strict=True):
        calls, lengths, signal = _read(Path(path), threshold)
        translated = _translate(Path(path), [*dict.fromkeys([*lengths, *calls])], contigs, aliases)
        known = {translated[contig]: length for contig, length in lengths.items()}
        for contig, length in known.items():
            other = contigs.get(contig)
            if other is not None and other != length:
                raise InputError(
                    f"{path}: {contig} has {length:,} bases, in a file before it {other:,}; are both of the same "
                    "assembly?"
                )
        for contig in translated.values():
            contigs[contig] = contigs.get(contig) or known.get(contig)
        sets.append(
            ComparedSet(
                name,
                {translated[contig]: rows for contig, rows in calls.items()},
                known,
                signal,
                {contig: own for own, contig in translated.items()},
            )
        )
    return sets


def _read(
    path: Path, threshold: float | None
) -> tuple[dict[str, np.ndarray], dict[str, int], SignalFile | None]:
    """Return calls, lengths if they are known, and values of a file."""
    signal = SignalFile(path) if BIGWIG.matches(path) else None
    if signal is not None and not signal.is_probability:
        log.warning(
            "%s: the values are not probabilities, so there are no calls; only values are compared", path
        )
        return {}, file_lengths(path), signal
    found = read_call_set(path, threshold=threshold, allow_empty=signal is not None)
    calls = {}
    for contig, rows in found.table.groupby("contig", observed=True):
        table = np.empty(len(rows), dtype=CALL_DTYPE)
        for column in CALL_DTYPE.names or ():
            table[column] = rows[column]
        calls[str(contig)] = table
    return calls, found.lengths if found.lengths_known else {}, signal


def _translate(
    path: Path, own: list[str], contigs: dict[str, int | None], aliases: Iterable[Iterable[str]]
) -> dict[str, str]:
    """Return the name of each contig of a file in the files before it; a contig that they lack keeps its name."""
    if not contigs:
        return {contig: contig for contig in own}
    known = all(contigs.values())
    lengths = ContigLengths({contig: length or 0 for contig, length in contigs.items()}, aliases)
    translated = translate_contigs(path, own, lengths, known, "the files before it")
    return {contig: translated.get(contig, contig) for contig in own}
