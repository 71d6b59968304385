"""Where windows lie around an allele, and how far the sequence goes that they may hold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from zflipon.config import MIN_GAP, VariantConfig
from zflipon.errors import ZfliponError
from zflipon.genome.fasta import Genome


@dataclass(frozen=True)
class Geometry:
    """Where windows lie around an allele.

    Attributes
    ----------
    window, margin : int
        Of the model.
    grid : int
        Bases from one window's place to the next.
    longest : int
        Bases of the longest allele.
    flank : int
        Bases compared on either side of an allele.
    offsets : tuple of int
        By which windows are moved, each within half a grid.
    """

    window: int
    margin: int
    grid: int
    longest: int
    flank: int
    offsets: tuple[int, ...]

    @classmethod
    def of(cls, window: int, margin: int, config: VariantConfig) -> Geometry:
        """Fit what is asked for into a model's window; raise `ZfliponError` where it does not."""
        core = window - 2 * margin
        grid = max(1, core // 16)
        longest = config.max_length or max(1, core // 8)
        room = core // 2 - grid - (longest + 1) // 2
        flank = room if config.flank is None else config.flank
        if not 0 <= flank <= room:
            raise ZfliponError(
                f"alleles of {longest} bases with a flank of {max(flank, 0)} do not fit the core of the model's window "
                f"({core} bases); the flank may be {room} at most"
                + ("" if room >= 0 else ": lower --max-length")
            )
        offsets = tuple(round((k + 0.5) * grid / config.shifts - grid / 2) for k in range(config.shifts))
        return cls(window, margin, grid, longest, flank, offsets)

    def places(self, centre: int, around: Around, grown: int) -> list[int]:
        """Return where windows start on the contig, one an offset: on the grid, and within the sequence.

        Parameters
        ----------
        centre : int
            Of the allele.
        around : Around
        grown : int
            Bases by which the alternative allele is longer.
        """
        base = centre // self.grid * self.grid + self.grid // 2 - self.window // 2
        latest = max(around.start, around.end + max(0, grown) - self.window)
        return [min(max(base + offset, around.start), latest) for offset in self.offsets]

    def compared(
        self, start: int, end: int, around: Around, places: Sequence[int], grown: int
    ) -> tuple[int, int]:
        """Return which bases around ``[start, end)`` have full context, or all there is of it, in every window."""
        low, high = start - self.flank, end + self.flank
        for first in places:
            last = first + self.window - max(0, grown)
            low = max(low, first if first == around.start else first + self.margin)
            high = min(high, around.end if last >= around.end else last - self.margin)
        return low, high


@dataclass(frozen=True)
class Around:
    """Sequence around an allele: of one stretch between gaps of N, or as much of it as windows may reach.

    Attributes
    ----------
    start, end : int
        0-based half-open, on the contig.
    text : str
    """

    start: int
    end: int
    text: str


def surroundings(genome: Genome, contig: str, start: int, end: int, shape: Geometry) -> Around:
    """Return the sequence around ``[start, end)`` that windows may hold; it ends where a gap of N begins."""
    reach = shape.window + shape.grid + shape.longest
    low, high = max(0, start - reach), min(genome.length(contig), end + reach)
    text = genome.fetch(contig, low, high)
    first, last = 0, len(text)
    for gap in re.finditer("N+", text):
        at_end = (low == gap.start() == 0) or (gap.end() == len(text) and high == genome.length(contig))
        if gap.end() - gap.start() < MIN_GAP and not at_end:
            continue
        if gap.end() <= start - low:
            first = gap.end()
        elif gap.start() >= end - low:
            last = min(last, gap.start())
    return Around(low + first, low + last, text[first:last])
