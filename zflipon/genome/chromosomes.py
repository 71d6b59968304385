"""Names of the main chromosomes of common assemblies at UCSC, Ensembl, RefSeq and GenBank, with their lengths.

Data only; names are translated in `zflipon.genome.names`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Chromosome(NamedTuple):
    """A chromosome of an assembly.

    Attributes
    ----------
    assembly : str
        Name at UCSC.
    length : int
        Bases.
    names : tuple of str
        All its names.
    """

    assembly: str
    length: int
    names: tuple[str, ...]


_HUMAN = [*map(str, range(1, 23)), "X", "Y"]
_MOUSE = [*map(str, range(1, 20)), "X", "Y"]

_HG19_VERSIONS = (10, 11, 11, 11, 9, 11, 13, 10, 11, 10, 9, 11, 10, 8, 9, 9, 10, 9, 9, 10, 8, 10, 10, 9)
"""Versions of NC_000001 … NC_000024 in GRCh37; those of GRCh38 are the next ones."""

_LENGTHS = {
    "hg19": (
        249250621, 243199373, 198022430, 191154276, 180915260, 171115067, 159138663, 146364022, 141213431, 135534747,
        135006516, 133851895, 115169878, 107349540, 102531392, 90354753, 81195210, 78077248, 59128983, 63025520,
        48129895, 51304566, 155270560, 59373566,
    ),
    "hg38": (
        248956422, 242193529, 198295559, 190214555, 181538259, 170805979, 159345973, 145138636, 138394717, 133797422,
        135086622, 133275309, 114364328, 107043718, 101991189, 90338345, 83257441, 80373285, 58617616, 64444167,
        46709983, 50818468, 156040895, 57227415,
    ),
    "hs1": (
        248387328, 242696752, 201105948, 193574945, 182045439, 172126628, 160567428, 146259331, 150617247, 134758134,
        135127769, 133324548, 113566686, 101161492, 99753195, 96330374, 84276897, 80542538, 61707364, 66210255,
        45090682, 51324926, 154259566, 62460029,
    ),
    "mm10": (
        195471971, 182113224, 160039680, 156508116, 151834684, 149736546, 145441459, 129401213, 124595110, 130694993,
        122082543, 120129022, 120421639, 124902244, 104043685, 98207768, 94987271, 90702639, 61431566, 171031299,
        91744698,
    ),
    "mm39": (
        195154279, 181755017, 159745316, 156860686, 151758149, 149588044, 144995196, 130127694, 124359700, 130530862,
        121973369, 120092757, 120883175, 125139656, 104073951, 98008968, 95294699, 90720763, 61420004, 169476592,
        91455967,
    ),
}  # fmt: skip
"""Assembly → lengths of chromosomes 1, 2, …, X, Y."""


def _accessions(assembly: str) -> Iterator[tuple[str, str]]:
    """Yield RefSeq and GenBank accession of chromosomes 1, 2, …, X, Y."""
    if assembly in ("hg19", "hg38"):
        later = assembly == "hg38"
        for number, version in enumerate(_HG19_VERSIONS):
            yield f"NC_{number + 1:06d}.{version + later}", f"CM000{663 + number}.{1 + later}"
    elif assembly == "hs1":
        for number in range(len(_HUMAN)):  # Y is of another individual
            genbank = "CP086569.2" if number == 23 else f"CP068{277 - number}.2"
            yield f"NC_{60925 + number:06d}.1", genbank
    else:
        later = assembly == "mm39"
        for number in range(len(_MOUSE)):
            refseq = f"NC_{67 + number:06d}.{6 + later + (number >= 19)}"
            yield refseq, f"CM{994 + number:06d}.{2 + later}"


def _chromosomes() -> Iterator[Chromosome]:
    for assembly, lengths in _LENGTHS.items():
        names: Iterable[str] = _MOUSE if assembly.startswith("mm") else _HUMAN
        for name, length, accessions in zip(names, lengths, _accessions(assembly), strict=True):
            yield Chromosome(assembly, length, (f"chr{name}", name, *accessions))
    # chrM of hg19 at UCSC is another sequence than MT of GRCh37
    yield Chromosome("hg19", 16571, ("chrM", "NC_001807.4"))
    yield Chromosome("hg19", 16569, ("MT", "chrMT", "NC_012920.1", "J01415.2"))
    yield Chromosome("hg38", 16569, ("chrM", "MT", "NC_012920.1", "J01415.2"))
    yield Chromosome("hs1", 16569, ("chrM", "MT", "CP068254.1"))
    for assembly in ("mm10", "mm39"):
        yield Chromosome(assembly, 16299, ("chrM", "MT", "NC_005089.1", "AY172335.1"))


CHROMOSOMES = tuple(_chromosomes())
"""The chromosomes of hg19 (GRCh37), hg38 (GRCh38), hs1 (T2T-CHM13v2.0), mm10 (GRCm38) and mm39 (GRCm39)."""
