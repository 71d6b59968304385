"""Where the windows around an allele lie, and the sequence that they may hold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from zflipon.config import MIN_GAP, VariantConfig
from zflipon.errors import ZfliponError
from zflipon.genome.fasta import Genome


@dataclass(frozen=True)
class Geometry:
    """Positions of the windows relative to an allele. All numbers are bases.

    Attributes
    ----------
    window, margin : int
        Window and margin of the model.
    grid : int
        Windows start at multiples of this, so that neighbouring variants share the window of the reference.
    longest : int
        Longest allele that is scored.
    flank : int
        Bases compared on either side of an allele.
    offsets : tuple of int
        Shifts of the window over which probabilities are averaged, each at most half a grid step.
    """

    window: int
    margin: int
    grid: int
    longest: int
    flank: int
    offsets: tuple[int, ...]

    @classmethod
    def fit(cls, window: int, margin: int, config: VariantConfig) -> Geometry:
        """Return the geometry for a model and a configuration.

        Raises
        ------
        ZfliponError
            If the longest allele and its flanks do not fit the core of a window.
        """
        core = window - 2 * margin
        grid = max(1, core // 16)
        longest = config.max_length or max(1, core // 8)
        room = core // 2 - grid - (longest + 1) // 2
        flank = room if config.flank is None else config.flank
        if not 0 <= flank <= room:
            hint = "" if room >= 0 else ": lower --max-length"
            raise ZfliponError(
                f"alleles of {longest} bases with a flank of {max(flank, 0)} do not fit the core of the model's window "
                f"({core} bases); the flank may be at most {room}{hint}"
            )
        offsets = tuple(round((k + 0.5) * grid / config.shifts - grid / 2) for k in range(config.shifts))
        return cls(window, margin, grid, longest, flank, offsets)

    def window_starts(self, centre: int, local: LocalSequence, length_change: int) -> list[int]:
        """Return the start of the window on the contig for each offset: on the grid, and inside the sequence.

        Parameters
        ----------
        centre : int
            Middle of the allele.
        local : LocalSequence
        length_change : int
            Bases by which the alternative allele is longer; negative if it is shorter.
        """
        base = centre // self.grid * self.grid + self.grid // 2 - self.window // 2
        latest = max(local.start, local.end + max(0, length_change) - self.window)
        return [min(max(base + offset, local.start), latest) for offset in self.offsets]

    def compared_range(
        self, start: int, end: int, local: LocalSequence, starts: Sequence[int], length_change: int
    ) -> tuple[int, int]:
        """Return the reference bases around ``[start, end)`` that have full context in every window.

        A base counts as having full context if it is at least a margin away from the window's edge, or if the
        window's edge is the end of the sequence.
        """
        low, high = start - self.flank, end + self.flank
        for first in starts:
            last = first + self.window - max(0, length_change)
            low = max(low, first if first == local.start else first + self.margin)
            high = min(high, local.end if last >= local.end else last - self.margin)
        return low, high


@dataclass(frozen=True)
class LocalSequence:
    """Sequence around an allele: its segment between gaps of N, as far as windows may reach.

    Attributes
    ----------
    start, end : int
        On the contig; 0-based, half-open.
    text : str
        Upper case.
    """

    start: int
    end: int
    text: str


def read_local_sequence(
    genome: Genome, contig: str, start: int, end: int, geometry: Geometry
) -> LocalSequence:
    """Return the sequence around ``[start, end)`` that windows may hold; it ends where a gap of N begins."""
    reach = geometry.window + geometry.grid + geometry.longest
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
    return LocalSequence(low + first, low + last, text[first:last])
