"""Records and what was found of their alleles → VCF, BCF or a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pysam

from zflipon import __version__
from zflipon.errors import OutputError
from zflipon.workflows.variants.alleles import REASONS
from zflipon.workflows.variants.scoring import RESULT_DTYPE

Told = tuple[float | int | str | None, ...]
"""What is told of an allele, in the order of `FIELDS`; None: missing."""

Write = Callable[[pysam.VariantRecord, Sequence[Told]], None]
"""Writes a record and what is told of its alleles."""

EXTENSIONS = {".vcf.gz": "wz", ".vcf": "w", ".bcf": "wb", ".tsv": "tsv"}
"""Extension of an output → how htslib calls its format; ``tsv``: a row an allele."""

FIELDS = {
    "ZF_GAIN": (
        "Float",
        "Largest gain of a base's probability of Z-DNA by the alternative allele, 0 or above",
    ),
    "ZF_LOSS": (
        "Float",
        "Largest loss of a base's probability of Z-DNA by the alternative allele, 0 or below",
    ),
    "ZF_SUM": ("Float", "Change of the probability of Z-DNA, summed over the bases around the allele"),
    "ZF_POS": (
        "Integer",
        "Position (1-based, reference) of the base that changes most; inserted: the base before",
    ),
    "ZF_REF": ("Float", "Highest probability of Z-DNA around the allele with the reference"),
    "ZF_ALT": ("Float", "Highest probability of Z-DNA around the allele with the alternative allele"),
    "ZF_SPREAD": ("Float", "Standard deviation over window offsets of the change at ZF_POS"),
    "ZF_WHY": (
        "String",
        "Why the allele is not scored: " + ", ".join(f"{code} ({words})" for code, words in REASONS.items()),
    ),
}
"""INFO field → type and description, without a comma that would end neither."""

INDEXED = ("wz", "wb")
"""Those that get an index, and hence need sorted records."""

COLUMNS = (
    *("contig", "pos", "id", "ref", "alt"),
    *("gain", "loss", "sum", "at", "ref_max", "alt_max", "spread", "why"),
)
"""Of a table: a row an allele."""

_DECIMALS = 4

_TBI_REACH = 1 << 29


def kind_of(output: Path) -> str:
    """Return how an output is written, by its extension; raise `OutputError` if it has none of `EXTENSIONS`."""
    for extension, kind in EXTENSIONS.items():
        if output.name.lower().endswith(extension):
            return kind
    raise OutputError(f"{output}: expected an extension out of {', '.join(EXTENSIONS)}")


@contextmanager
def writer(part: Path, kind: str, header: pysam.VariantHeader, about: dict[str, object]) -> Iterator[Write]:
    """Open an output; yield what writes a record.

    Parameters
    ----------
    part : Path
    kind : str
        Of `EXTENSIONS`.
    header : pysam.VariantHeader
        Of the input.
    about : dict
        How the alleles were scored: name → value, told in the header.
    """
    if kind == "tsv":
        with open(part, "w", encoding="utf-8") as text:
            text.writelines(f"# {key}: {value}\n" for key, value in about.items())
            text.write("\t".join(COLUMNS) + "\n")
            yield lambda record, rows: text.writelines(_lines(record, rows))
        return
    _declare(header, about)
    with _bcf(part, header) if kind == "wb" else _vcf(part, kind, header) as write:

        def annotated(record: pysam.VariantRecord, rows: Sequence[Told]) -> None:
            record.translate(header)
            _annotate(record, rows)
            write(record)

        yield annotated


@contextmanager
def _vcf(part: Path, kind: str, header: pysam.VariantHeader) -> Iterator[Callable]:
    """Write lines: pysam's own way would give an END to each record with a symbolic allele."""
    with pysam.BGZFile(str(part), "w") if kind == "wz" else open(part, "wb") as file:
        file.write(str(header).encode())
        yield lambda record: file.write(str(record).encode())


@contextmanager
def _bcf(part: Path, header: pysam.VariantHeader) -> Iterator[Callable]:
    if "END" not in header.info:  # pysam gives one to each record with a symbolic allele, declared or not
        header.info.add("END", 1, "Integer", "End position of the variant")
    with pysam.VariantFile(str(part), "wb", header=header) as file:

        def write(record: pysam.VariantRecord) -> None:
            record.translate(file.header)
            file.write(record)

        yield write


def write_pool(
    write: Write,
    pool: list[pysam.VariantRecord],
    found: np.ndarray,
    min_delta: float,
    told: dict[str, int],
) -> None:
    """Write records with what was found of their alleles, in their order."""
    at = 0
    unfit = found["why"] != ""
    large = (found["gain"] >= min_delta) | (-found["loss"] >= min_delta) | unfit
    told["records"] += len(pool)
    told["alleles"] += len(found) - int(unfit.sum())
    for why, count in zip(*np.unique(found["why"][unfit], return_counts=True), strict=True):
        told[str(why)] += int(count)
    values = [tuple(map(_value, RESULT_DTYPE.names, row)) for row in found.tolist()]
    for record in pool:
        own = slice(at, at + len(record.alts or ()))
        at = own.stop
        if large[own].any() or not min_delta:
            write(record, values[own])
            told["written"] += 1


def index(part: Path, kind: str, farthest: int) -> None:
    """Index a finished output of a kind that can have one.

    Parameters
    ----------
    part : Path
    kind : str
        Of `EXTENSIONS`.
    farthest : int
        Bases of the longest contig: beyond half a gigabase tabix's own format ends, and CSI begins.
    """
    if kind == "wb":
        pysam.tabix_index(str(part), preset="bcf", force=True)
    elif kind == "wz":
        pysam.tabix_index(str(part), preset="vcf", csi=farthest > _TBI_REACH, force=True)


def _declare(header: pysam.VariantHeader, about: dict[str, object]) -> None:
    """Add our INFO fields to a header, in the place of an earlier run's."""
    for name, (kind, words) in FIELDS.items():
        if name in header.info:
            header.info.remove_header(name)
        header.add_line(
            f'##INFO=<ID={name},Number=A,Type={kind},Description="{words}",Source="zflipon {about["model"]}",'
            f'Version="{__version__}">'
        )
    header.add_line("##zflipon_variants=" + ";".join(f"{key}={value}" for key, value in about.items()))


def _annotate(record: pysam.VariantRecord, rows: Sequence[Told]) -> None:
    for name in FIELDS:
        if name in record.info:
            del record.info[name]
    for name, values in zip(FIELDS, zip(*rows, strict=True), strict=bool(rows)):
        if any(value is not None for value in values):
            record.info[name] = values


def _value(key: str, value: float | str) -> float | int | str | None:
    """Return a value as a VCF has it; None: missing."""
    if key == "why":
        return value or None
    if value != value:  # NaN
        return None
    return int(value) if key == "pos" else round(value, _DECIMALS) + 0.0


def _lines(record: pysam.VariantRecord, rows: Sequence[Told]) -> Iterator[str]:
    """Yield a row an allele."""
    for alt, row in zip(record.alts or (), rows, strict=True):
        told = ("." if value is None else str(value) for value in row)
        yield "\t".join([record.contig, str(record.pos), record.id or ".", record.ref, alt, *told]) + "\n"
