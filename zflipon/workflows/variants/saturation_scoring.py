"""Scores of alleles that lie close together: those of one window share all that they do not change."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np

from zflipon.config import MIN_GAP
from zflipon.genome.fasta import Genome
from zflipon.inference.substitutions import EditedWindow, open_edited_window
from zflipon.workflows.variants.alleles import insertion_point
from zflipon.workflows.variants.scoring import AlleleShape, missing_scores, score_shape
from zflipon.workflows.variants.scoring_run import Advance, ScoringRun, score_one_by_one
from zflipon.workflows.variants.windows import Geometry, LocalSequence, read_local_sequence

Allele = tuple[str, int, str, str]
"""Contig, 0-based start, reference and alternative allele."""


class _Placed(NamedTuple):
    """An allele and its windows."""

    index: int
    start: int
    alt: str
    low: int
    windows: tuple[tuple[int, int], ...]
    shape: AlleleShape


def score_together(run: ScoringRun, alleles: Sequence[Allele], advance: Advance) -> np.ndarray:
    """Return the scores of alleles; one forward pass serves many of them if the model permits it.

    Parameters
    ----------
    run : ScoringRun
    alleles : sequence of (str, int, str, str)
        Sorted by position, with reference alleles that the genome has, and letters A, C, G and T alone.
    advance : callable

    Returns
    -------
    numpy.ndarray
        `SCORE_DTYPE`, shape (alleles,). They are those of `score_one_by_one`, up to rounding.
    """
    scores, rest = missing_scores(len(alleles)), np.ones(len(alleles), dtype=bool)
    total = len(alleles) * (2 if run.session.predictor.both_strands else 1)
    windows = _Windows(run)
    for contig, group in groupby(enumerate(alleles), key=lambda item: item[1][0]):
        placed = _place(run.genome, run.geometry, contig, [(index, *allele[1:]) for index, allele in group])
        for _, same in groupby(placed, key=lambda one: (one.windows, one.shape)):
            members = list(same)
            if not windows.supports(contig, members[0]):
                continue
            indices = [member.index for member in members]
            scores[indices] = windows.score(contig, members, advance, total)
            rest[indices] = False
    if rest.any():
        missing = [allele for allele, is_missing in zip(alleles, rest.tolist(), strict=True) if is_missing]
        scores[rest] = score_one_by_one(run, missing, lambda units, _: advance(units, total))
    return scores


def _place(
    genome: Genome, geometry: Geometry, contig: str, alleles: Sequence[tuple[int, int, str, str]]
) -> list[_Placed]:
    """Return the windows of alleles, so that those which can be scored together are neighbours."""
    placed = []
    first, end = alleles[0][1], max(start + len(ref) for _, start, ref, _ in alleles)
    gap_ends = [
        first + gap.end() for gap in re.finditer(f"N{{{MIN_GAP},}}", genome.fetch(contig, first, end))
    ]
    for _, group in groupby(alleles, key=lambda allele: bisect_right(gap_ends, allele[1])):
        segment = list(group)
        stop = max(start + len(ref) for _, start, ref, _ in segment)
        local = read_local_sequence(genome, contig, segment[0][1], stop, geometry)
        placed += [_place_allele(geometry, local, *allele) for allele in segment]
    return sorted(placed, key=lambda one: (one.windows, one.shape.length_change, one.shape.width, one.start))


def _place_allele(
    geometry: Geometry, local: LocalSequence, index: int, start: int, ref: str, alt: str
) -> _Placed:
    change = len(alt) - len(ref)
    starts = geometry.window_starts(start + max(len(ref), len(alt)) // 2, local, change)
    low, high = geometry.compared_range(start, start + len(ref), local, starts, change)
    split = start + insertion_point(ref, alt) - low
    windows = tuple((first, min(first + geometry.window, local.end)) for first in starts)
    return _Placed(
        index, start, alt, low, windows, AlleleShape(high - low, start - low, len(ref), split, change)
    )


class _Windows:
    """Opens edited windows; the last ones stay open."""

    def __init__(self, run: ScoringRun):
        self._run = run
        self._open: dict[tuple[str, int, int], EditedWindow | None] = {}

    def supports(self, contig: str, member: _Placed) -> bool:
        """Whether an allele can be scored in windows that others share."""
        shape = member.shape
        alt_length = shape.ref_length + shape.length_change
        return all(
            window is not None and window.supports(shape.ref_length, alt_length)
            for window in (self._window(contig, *bounds) for bounds in member.windows)
        )

    def score(self, contig: str, members: list[_Placed], advance: Advance, total: int) -> np.ndarray:
        """Return the scores of alleles of one shape in the same windows."""
        shape = members[0].shape
        positions = np.array([member.start for member in members])
        lows = np.array([member.low for member in members])
        core = int(lows.min()), int(lows.max()) + shape.width
        unknown = self._unknown(contig, *core)
        alts = [member.alt for member in members]
        streams = []
        for start, end in members[0].windows:
            window = self._window(contig, start, end)
            if window is None:
                raise ValueError("the window cannot be edited")
            bounds = core[0] - start, core[1] - start
            streams.append(
                (
                    window.reference[bounds[0] : bounds[1]],
                    window.alternatives(
                        positions - start, shape.ref_length, alts, bounds, lambda n: advance(n, total)
                    ),
                )
            )
        return np.concatenate(list(self._score_parts(shape, lows, core[0], unknown, streams)))

    def _score_parts(
        self,
        shape: AlleleShape,
        lows: np.ndarray,
        first: int,
        unknown: np.ndarray,
        streams: list[tuple[np.ndarray, Iterator[np.ndarray]]],
    ) -> Iterator[np.ndarray]:
        references = [reference for reference, _ in streams]
        done = 0
        for parts in zip(*(stream for _, stream in streams), strict=True):
            low = lows[done : done + len(parts[0])]
            done += len(low)
            columns = (low - first)[:, None] + np.arange(shape.width)
            after_columns = (low - first)[:, None] + np.arange(shape.width + shape.length_change)
            before = np.stack([reference[columns] for reference in references])
            after = np.stack([np.take_along_axis(part, after_columns, axis=1) for part in parts])
            yield score_shape(shape, low, before, after, unknown[columns], self._run.calls)

    def _window(self, contig: str, start: int, end: int) -> EditedWindow | None:
        if (contig, start, end) not in self._open:
            while len(self._open) >= 2 * len(self._run.geometry.offsets):
                self._open.pop(next(iter(self._open)))
            text = self._run.genome.fetch(contig, start, end)
            self._open[contig, start, end] = open_edited_window(self._run.session.predictor, text)
        return self._open[contig, start, end]

    def _unknown(self, contig: str, start: int, end: int) -> np.ndarray:
        letters = self._run.genome.fetch(contig, start, end).encode()
        return np.frombuffer(letters, dtype=np.uint8) == ord("N")
