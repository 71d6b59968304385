"""Contig names of annotations and interval files, translated to those of the calls: chr1 and 1, chrM and MT.

All files of one analysis are brought to the names of the calls here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from zflipon.errors import InputError, format_count, format_names

log = logging.getLogger(__name__)

MITOCHONDRIA = ("chrM", "MT", "M", "chrMT")
"""Names of the mitochondrial genome."""


def other_names(name: str) -> Iterable[str]:
    """Yield other usual names of a contig.

    Examples
    --------
    >>> list(other_names("1")), list(other_names("chrM"))
    (['chr1'], ['MT', 'M', 'chrMT'])
    """
    if name in MITOCHONDRIA:
        yield from (other for other in MITOCHONDRIA if other != name)
    elif name.startswith("chr"):
        yield name.removeprefix("chr")
    else:
        yield f"chr{name}"


class ContigNames:
    """Translates the contig names of one file to known ones, and counts what has none.

    Parameters
    ----------
    path : str or Path
        The file, for messages.
    contigs : iterable of str
        The known names.
    owner : str
        What has the known names, for messages.
    """

    def __init__(self, path: str | Path, contigs: Iterable[str], owner: str = "the calls"):
        self.path, self._owner = path, owner
        self._contigs = dict.fromkeys(contigs)
        self._translated: dict[str, str | None] = {}

    def find(self, name: str) -> str | None:
        """Return the known name of a contig; None if it has none."""
        if name not in self._translated:
            known = [other for other in (name, *other_names(name)) if other in self._contigs]
            self._translated[name] = known[0] if known else None
        return self._translated[name]

    def report(self) -> None:
        """Log which names were translated.

        Raises
        ------
        InputError
            If no name of the file is known, or two of its names are names of one contig.
        """
        known = {name: contig for name, contig in self._translated.items() if contig is not None}
        if not known:
            raise InputError(
                f"{self.path}: no contig of {self._owner}: the file has {format_names(self._translated)}, "
                f"{self._owner} {format_names(self._contigs)}; rename the contigs of one of them"
            )
        origins: dict[str, str] = {}
        for name, contig in known.items():
            if contig in origins:
                raise InputError(
                    f"{self.path}: {origins[contig]} and {name} are both names of {contig}; leave one of them in the "
                    "file"
                )
            origins[contig] = name
        renamed = [f"{name} to {contig}" for name, contig in known.items() if name != contig]
        if renamed:
            log.info(
                "%s: %s translated (%s)",
                self.path,
                format_count(len(renamed), "contig name"),
                format_names(renamed, 3),
            )


def check_lengths(path: str | Path, ends: Mapping[str, int], lengths: Mapping[str, int]) -> None:
    """Raise `InputError` if the last end on a contig, in a file, passes the end of the contig."""
    for contig, end in ends.items():
        if contig in lengths and end > lengths[contig]:
            raise InputError(
                f"{path}: reaches base {end:,} of {contig}, which has {lengths[contig]:,} bases; are both of the same "
                "assembly?"
            )
