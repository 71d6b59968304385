"""Contig names of annotations and interval files, translated to those of the calls.

All files of an analysis of genes, and of a comparison, are brought to one set of names here. The names of assemblies
are in `zflipon.genome.names`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from zflipon.errors import InputError, format_names
from zflipon.genome.names import RENAME_CONTIGS, ContigNames


def translate_contigs(
    path: str | Path,
    names: Iterable[str],
    lengths: Mapping[str, int],
    lengths_known: bool = True,
    owner: str = "the calls",
) -> dict[str, str]:
    """Translate the contig names of a file to known ones, and log how many were translated.

    Parameters
    ----------
    path : str or Path
        The file, for messages.
    names : iterable of str
    lengths : mapping of str to int
        The known contigs and their lengths.
    lengths_known : bool
        Whether the lengths are those of the contigs.
    owner : str
        What has the known contigs, for messages.

    Returns
    -------
    dict of str to str
        Name in the file → known name. Unknown names are left out.

    Raises
    ------
    InputError
        If no name is known, a name may be that of several contigs, or two names are of one contig.

    Examples
    --------
    >>> translate_contigs("genes.gtf", ["1", "scaffold_7"], {"chr1": 5000})
    {'1': 'chr1'}
    """
    names = list(names)
    contigs = ContigNames(path, lengths, lengths_known)
    translated = {name: contig for name in names if (contig := contigs.find(name)) is not None}
    if not translated:
        raise InputError(
            f"{path}: no contig of {owner}: the file has {format_names(names)}, {owner} {format_names(lengths)}; "
            f"{RENAME_CONTIGS}"
        )
    contigs.report()
    return translated


def check_lengths(path: str | Path, ends: Mapping[str, int], lengths: Mapping[str, int]) -> None:
    """Raise `InputError` if the last end on a contig, in a file, passes the end of the contig."""
    for contig, end in ends.items():
        if contig in lengths and end > lengths[contig]:
            raise InputError(
                f"{path}: reaches base {end:,} of {contig}, which has {lengths[contig]:,} bases; are both of the same "
                "assembly?"
            )
