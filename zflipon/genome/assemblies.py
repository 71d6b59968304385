"""Genome assemblies that are recognised by the length of chr1; a new build is one line here.

Contig names and their aliases are handled in `zflipon.genome.fasta`.
"""

from __future__ import annotations

from collections.abc import Mapping

ASSEMBLIES = {
    248_956_422: "hg38",
    249_250_621: "hg19",
    248_387_328: "hs1",
    195_471_971: "mm10",
    195_154_279: "mm39",
}
"""Length of chr1 → name of the assembly in the UCSC browser and IGV."""


def assembly_name(lengths: Mapping[str, int]) -> str | None:
    """Return the UCSC name of an assembly that is recognised by the length of chr1, else None.

    Examples
    --------
    >>> assembly_name({"chr1": 249_250_621, "chr2": 243_199_373})
    'hg19'
    """
    return ASSEMBLIES.get(lengths.get("chr1", 0))
