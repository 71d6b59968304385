"""Soft-masked bases → how full of repeats a place's surroundings are, in the form of tracks that a context learns.

Which sequence turns in a cell hangs on how full of repeats its surroundings are, and the lower-case letters of a
FASTA tell that for any genome. A model may not read them, since the same sequence comes in either case; but it can
learn to tell repeats by their sequence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from zflipon.errors import InputError
from zflipon.genome import Genome
from zflipon.intervals import Intervals, merge, runs_of

REACH = 512
"""Bases on either side whose soft-masked share is told; no more than the context of the bundled model sees."""

SHARES = (0.25, 0.5, 0.75)
"""A track says where more than this share is masked."""

_PIECE = 1 << 20


def repeat_tracks(genome: Genome, contigs: Mapping[str, int]) -> list[Intervals]:
    """Return where more than each of `SHARES` of the bases within `REACH` is soft-masked.

    Parameters
    ----------
    genome : Genome
    contigs : mapping of str to int
        Contigs to look at, with their lengths.

    Raises
    ------
    InputError
        If no base is soft-masked.
    """
    tracks: list[Intervals] = [{} for _ in SHARES]
    for contig, length in contigs.items():
        found: list[list[np.ndarray]] = [[] for _ in SHARES]
        for start, masked in _masked_shares(genome, contig, length):
            for share, rows in zip(SHARES, found, strict=True):
                rows.append(runs_of(masked > share) + start)
        for track, rows in zip(tracks, found, strict=True):
            # runs that a piece cut in two touch each other
            track[contig] = merge(np.concatenate(rows))
    if not any(len(rows) for track in tracks for rows in track.values()):
        raise InputError(
            f"{genome.path}: no repeats are soft-masked (lower-case) on the training contigs, as data.repeats needs; "
            "take the soft-masked FASTA, or --set data.repeats=false"
        )
    return tracks


def _masked_shares(genome: Genome, contig: str, length: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield pieces of a contig: where they start, and each base's share of soft-masked bases around; float64."""
    for start in range(0, length, _PIECE):
        end = min(start + _PIECE, length)
        first, last = max(0, start - REACH), min(length, end + REACH)
        before = np.concatenate([[0], np.cumsum(genome.soft_masked(contig, first, last))])
        places = np.arange(start, end)
        low, high = np.maximum(places - REACH, 0), np.minimum(places + REACH + 1, length)
        yield start, (before[high - first] - before[low - first]) / (high - low)
