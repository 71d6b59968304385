"""GFF3 tracks: calls as features, with 1-based positions and escaped names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import numpy as np

from zflipon.config import PROBABILITY_DECIMALS
from zflipon.tracks.base import UNDESCRIBED
from zflipon.tracks.bed import call_blocks
from zflipon.tracks.calling import ContigTrack, call_summits
from zflipon.tracks.description import TrackDescription, call_name
from zflipon.tracks.text import TextTrackWriter

FEATURE_TYPE = "DNA_sequence_secondary_structure"
"""Type of the features: SO:0000142. The Sequence Ontology has no term for Z-DNA itself."""

SOURCE = "zflipon"

_CONTIG_CHARACTERS = ".:^*$@!+?|-"
"""Characters of a contig, beside letters and digits, that GFF3 allows without escapes."""

_VALUE_CHARACTERS = _CONTIG_CHARACTERS + " /()[]{}<>#~'\""
"""Characters of an attribute that are not escaped; among the others are ``;``, ``=``, ``&``, ``,`` and ``%``."""


class Gff3Writer(TextTrackWriter):
    """Writes calls as GFF3; the score is the mean probability.

    Each contig with calls gets a ``##sequence-region`` line.
    """

    indexed_as = "gff"

    def __init__(
        self, path: Path | None, lengths: Mapping[str, int], description: TrackDescription = UNDESCRIBED
    ):
        super().__init__(path, lengths, description)
        self._write("##gff-version 3\n")

    def format_contig(self, track: ContigTrack, calls: np.ndarray) -> Iterator[str]:
        """Yield the lines of a contig's calls."""
        if not len(calls):
            return
        contig, prefix = quote(track.contig, _CONTIG_CHARACTERS), self.description.call_prefix
        yield f"##sequence-region {contig} 1 {self.lengths[track.contig]}\n"
        summits = iter(call_summits(track, calls).tolist())
        for block, _ in call_blocks(calls):
            lines = []
            for start, end, mean, highest in block.tolist():
                name = quote(call_name(prefix, track.contig, start, end), _VALUE_CHARACTERS)
                lines.append(
                    f"{contig}\t{SOURCE}\t{FEATURE_TYPE}\t{start + 1}\t{end}\t{mean:.{PROBABILITY_DECIMALS}f}\t.\t.\t"
                    f"ID={name};Name={name};max={highest:.{PROBABILITY_DECIMALS}f};summit={next(summits) + 1}\n"
                )
            yield "".join(lines)
