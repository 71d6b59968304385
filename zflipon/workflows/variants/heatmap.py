"""Figure of a saturated region: the change by each allele at each position, under the probability of the reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from zflipon import plots
from zflipon.errors import InputError
from zflipon.genome.alphabet import NUCLEOTIDES
from zflipon.workflows.variants.vcf import VcfRecord

MAX_BASES = 5000
"""Longest region of a figure: longer ones have more columns than pixels."""

MIN_RANGE = 0.5
"""Least limit of the colour scale, in bases, so that changes that mean nothing look like nothing."""

_LETTER_BASES = 120  # most bases whose letters are drawn
_INDEL_ROWS = ("+A", "+C", "+G", "+T", "del")


class HeatMaps:
    """Collects the scores of regions while they are written, and draws a figure of each.

    Parameters
    ----------
    path : Path
        Of the figure; with several regions, the region is added to the name.
    regions : sequence of (str, int, int)
        Contig, start and end; 0-based half-open.
    structure : str
        Name of the structure, for the axes.
    """

    def __init__(self, path: Path, regions: Sequence[tuple[str, int, int]], structure: str):
        self._structure = structure
        self._maps = [_HeatMap(region) for region in regions]
        self.paths = figure_paths(path, regions)

    def add(self, records: Sequence[VcfRecord], scores: np.ndarray) -> None:
        """Add the scores of some records, one allele each."""
        for heat_map in self._maps:
            heat_map.add(records, scores)

    def save(self, predict: Callable[[tuple[str, int, int]], np.ndarray]) -> None:
        """Draw and write all figures.

        Parameters
        ----------
        predict : callable
            Returns the probabilities of a region: float, shape (bases,).
        """
        for path, heat_map in zip(self.paths, self._maps, strict=True):
            reference = predict((heat_map.contig, heat_map.start, heat_map.end))
            heat_map.save(path, self._structure, reference)


def figure_paths(path: Path, regions: Sequence[tuple[str, int, int]]) -> list[Path]:
    """Return the path of each region's figure.

    Raises
    ------
    InputError
        If a region is too long to draw.
    OutputError
        If the format of a figure is unknown.
    """
    plots.check_figure_path(path)
    plots.require_matplotlib("a heat map")
    for contig, start, end in regions:
        if end - start > MAX_BASES:
            raise InputError(
                f"{contig}:{start + 1}-{end}: {end - start:,} bases are too many for a figure; expected regions of at "
                f"most {MAX_BASES:,}. Leave out --figure, or draw a part of the region"
            )
    if len(regions) == 1:
        return [path]
    names = [f"{contig}_{start + 1}-{end}".replace("/", "_") for contig, start, end in regions]
    return [path.with_name(f"{path.stem}.{name}{path.suffix}") for name in names]


class _HeatMap:
    """The changes of one region, summed over bases: the largest change of an insertion is that of the inserted base."""

    def __init__(self, region: tuple[str, int, int]):
        self.contig, self.start, self.end = region
        width = self.end - self.start
        self.rows = [*NUCLEOTIDES, *_INDEL_ROWS]
        self.changes = np.full((len(self.rows), width), np.nan)
        self.letters = ["N"] * width

    def add(self, records: Sequence[VcfRecord], scores: np.ndarray) -> None:
        for record, value in zip(records, scores["sum"].tolist(), strict=True):
            column = record.start - self.start
            if record.contig != self.contig or not 0 <= column < self.end - self.start:
                continue
            alt, ref = record.columns[4], record.ref
            row = alt if len(alt) == len(ref) else "+" + alt[1:] if len(alt) > len(ref) else "del"
            self.changes[self.rows.index(row), column] = value
            self.letters[column] = ref[0]

    def save(self, path: Path, structure: str, reference: np.ndarray) -> None:
        used = [index for index, row in enumerate(self.changes) if index < 4 or np.isfinite(row).any()]
        changes = self.changes[used]
        for column, letter in enumerate(self.letters):
            if letter in NUCLEOTIDES:
                changes[NUCLEOTIDES[letter], column] = np.nan  # drawn as the reference
        limit = max(MIN_RANGE, float(np.nanmax(np.abs(changes), initial=0)))
        with plots.figure_style():
            height = 1.6 + 0.22 * len(used)
            figure = plots.new_figure(7.5, height)
            top, below = figure.subplots(2, 1, sharex=True, height_ratios=[1, 0.25 * len(used)])
            plots.draw_signal(top, reference, self.start)
            top.set_ylim(0, 1)
            top.set_ylabel(f"P({structure})")
            below.set_facecolor(plots.GRID_COLOUR)
            image = below.pcolormesh(
                np.arange(self.start, self.end + 1),
                np.arange(len(used) + 1),
                np.ma.masked_invalid(changes),
                cmap=plots.DIVERGING_COLOURS,
                vmin=-limit,
                vmax=limit,
                rasterized=True,
            )
            below.set_yticks(np.arange(len(used)) + 0.5, [self.rows[index] for index in used])
            below.set_ylabel("alternative")
            below.invert_yaxis()
            plots.position_axis(below, self.contig, self.start, self.end)
            if self.end - self.start <= _LETTER_BASES:
                for column, letter in enumerate(self.letters):
                    top.text(self.start + column + 0.5, 1.02, letter, ha="center", va="bottom", fontsize=5)
            figure.colorbar(
                image,
                ax=[top, below],
                label=f"change of P({structure}),\nsummed over bases",
                fraction=0.03,
                pad=0.01,
            )
            plots.save_figure(figure, path)
