"""Records and the scores of their alleles → VCF, BCF or a table."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pysam
import pysam.bcftools

from zflipon import __version__
from zflipon.errors import InputError, OutputError, printable
from zflipon.models.structure import Z_DNA, Structure
from zflipon.workflows.variants.fields import GENE_FIELDS, Scores, info_fields, plain_scores, table_columns
from zflipon.workflows.variants.parquet import open_parquet
from zflipon.workflows.variants.vcf import ENCODING, VcfHeader, VcfRecord, open_vcf

WriteRecord = Callable[[VcfRecord, Sequence[Scores]], None]
"""Writes a record with the scores of its alleles."""

EXTENSIONS = {
    ".vcf.gz": "vcf.gz",
    ".vcf": "vcf",
    ".bcf": "bcf",
    ".tsv.gz": "tsv.gz",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
"""Extension of an output → format. ``tsv``, ``tsv.gz`` and ``parquet`` are tables with one row per allele."""

INDEXED = ("vcf.gz", "bcf", "tsv.gz", "parquet")
"""Formats in which positions can be looked up, and which therefore need sorted records."""

IDENTITY = "zflipon_table"
"""Key of the JSON text in the header of a table that says by which model, genome and settings it was made."""

_ESCAPES = str.maketrans({character: f"%{ord(character):02X}" for character in "%;=, \t"})
"""Characters with a meaning in INFO → their escapes."""

_TBI_LIMIT = 1 << 29  # tabix's own index format ends at half a gigabase; CSI goes further


@dataclass(frozen=True)
class OutputHeader:
    """What the header of an output says.

    Attributes
    ----------
    vcf : VcfHeader
        Header of the input.
    settings : mapping
        How the alleles were scored.
    identity : mapping
        JSON values that a table must have in common with a run that looks alleles up in it.
    structure : Structure
        The structure that the model predicts.
    with_genes : bool
        Whether the fields of an annotation follow the scores.
    """

    vcf: VcfHeader
    settings: Mapping[str, object]
    identity: Mapping[str, object]
    structure: Structure = Z_DNA
    with_genes: bool = False


def format_of(output: Path) -> str:
    """Return the format of an output, by its extension; raise `OutputError` if it has none of `EXTENSIONS`."""
    for extension, kind in EXTENSIONS.items():
        if output.name.lower().endswith(extension):
            return kind
    raise OutputError(f"{output}: unknown extension; expected one of {', '.join(EXTENSIONS)}")


@contextmanager
def open_writer(part: Path, kind: str, header: OutputHeader) -> Iterator[WriteRecord]:
    """Open an output; yield a function that writes a record.

    Parameters
    ----------
    part : Path
        File to write.
    kind : str
        A value of `EXTENSIONS`.
    header : OutputHeader
    """
    if kind == "bcf":
        text = part.with_name(part.name + ".vcf.gz")
        try:
            with open_writer(text, "vcf.gz", header) as write:
                yield write
            _convert_to_bcf(text, part)
        finally:
            text.unlink(missing_ok=True)
        return
    if kind == "parquet":
        metadata = {**header.settings, IDENTITY: json.dumps(header.identity)}
        with open_parquet(part, metadata, header.with_genes) as write:
            yield write
        return
    with pysam.BGZFile(str(part), "w", None) if kind.endswith(".gz") else open(part, "wb") as file:

        def write_text(text: str) -> None:
            file.write(text.encode(**ENCODING))

        if kind.startswith("tsv"):
            write_text("".join(f"{line}\n" for line in _table_header(kind, header)))
            yield lambda record, scores: write_text(_table_rows(record, scores))
        else:
            fields = info_fields(header.structure, header.with_genes)
            write_text(_declare_fields(header, fields).text())
            yield lambda record, scores: write_text("\t".join(_with_scores(record, scores, fields)) + "\n")


def write_batch(
    write: WriteRecord,
    batch: Sequence[VcfRecord],
    scores: np.ndarray,
    min_delta: float,
    counts: dict[str, int],
    genes: Sequence[tuple] | None = None,
) -> None:
    """Write records with the scores of their alleles, and count them.

    Parameters
    ----------
    write : callable
    batch : sequence of VcfRecord
    scores : numpy.ndarray
        `SCORE_DTYPE`: the alleles of the records, in order.
    min_delta : float
        A record is left out if all its alleles are scored and change every base by less than this.
    counts : dict of str to int
        Totals of the run, updated in place.
    genes : sequence of tuple, optional
        Values of `zflipon.workflows.variants.fields.GENE_FIELDS` of each allele.
    """
    is_skipped = scores["why"] != ""
    is_written = (scores["gain"] >= min_delta) | (-scores["loss"] >= min_delta) | is_skipped
    counts["records"] += len(batch)
    counts["alleles"] += len(scores) - int(is_skipped.sum())
    for why, count in zip(*np.unique(scores["why"][is_skipped], return_counts=True), strict=True):
        counts[str(why)] += int(count)
    rows = list(plain_scores(scores))
    if genes is not None:
        rows = [row + values for row, values in zip(rows, genes, strict=True)]
    first = 0
    for record in batch:
        alleles = slice(first, first + len(record.alts))
        first = alleles.stop
        if is_written[alleles].any() or not min_delta:
            write(record, rows[alleles])
            counts["written"] += 1


def write_index(part: Path, kind: str, header: OutputHeader, longest: int) -> None:
    """Write the index of a finished output, if its format has one.

    Parameters
    ----------
    part : Path
    kind : str
        A value of `EXTENSIONS`.
    header : OutputHeader
        As given to `open_writer`.
    longest : int
        Bases of the longest contig.
    """
    if kind == "bcf":
        pysam.tabix_index(str(part), preset="bcf", force=True)  # pyright: ignore[reportArgumentType]: missing in the stubs
    elif kind == "vcf.gz":
        pysam.tabix_index(str(part), preset="vcf", csi=longest > _TBI_LIMIT, force=True)
    elif kind == "tsv.gz":
        pysam.tabix_index(
            str(part),
            seq_col=0,
            start_col=1,
            end_col=1,
            line_skip=sum(1 for _ in _table_header(kind, header)),
            csi=longest > _TBI_LIMIT,
            force=True,
        )


def require_convertible(path: Path, header: VcfHeader) -> None:
    """Raise `InputError` if a VCF cannot be written as BCF, which is stricter about types than text.

    Parameters
    ----------
    path : Path
        The input.
    header : VcfHeader
        Its header, with a declaration for every name that the records use.
    """
    try:
        _convert_to_bcf(path, Path(os.devnull))
        return
    except OSError:  # perhaps for a reason that our output does not share, such as an undeclared name
        pass
    with tempfile.TemporaryDirectory(prefix="zflipon-") as folder:
        copy = Path(folder) / "copy.vcf.gz"
        plain = OutputHeader(header, {"model": "none"}, {})
        with open_vcf(path) as (_, records), open_writer(copy, "vcf.gz", plain) as write:
            for record in records:
                if record.samples != header.samples:
                    raise _not_convertible(
                        path,
                        f"the record at {printable(record.contig)}:{record.position} has {record.samples} sample "
                        f"columns, the header {header.samples}",
                    )
                write(record, ())
        try:
            _convert_to_bcf(copy, Path(os.devnull))
        except OSError as error:
            raise _not_convertible(path, str(error)) from error


def _not_convertible(path: Path, reason: str) -> InputError:
    return InputError(f"{path}: cannot be written as BCF ({reason}); name an output that ends in .vcf.gz")


def _convert_to_bcf(text: Path, part: Path) -> None:
    """Convert with bcftools: pysam's own writer changes INFO/END."""
    try:
        pysam.bcftools.view("--no-version", "-Ob", "-o", str(part), str(text), catch_stdout=False)
    except pysam.SamtoolsError as error:
        raise OSError(f"bcftools: {_bcftools_reason(error)}") from error


def _bcftools_reason(error: Exception) -> str:
    """Return the last line of what bcftools printed."""
    text = str(error).replace("\\n", "\n").rpartition("stderr=")[2]
    lines = [line.strip("' ()\t") for line in text.splitlines()]
    reason = next((line for line in reversed(lines) if line), "")
    if not reason or os.devnull in reason:  # bcftools names the output if htslib refuses a record
        return "a record does not fit the header"
    return printable(reason)


def _table_header(kind: str, header: OutputHeader) -> Iterator[str]:
    for name, value in header.settings.items():
        yield f"# {name}: {value}"
    if kind in INDEXED:
        yield f"# {IDENTITY}: {json.dumps(header.identity)}"
    yield "\t".join(table_columns(header.with_genes))


def _declare_fields(header: OutputHeader, fields: Mapping[str, tuple[str, str]]) -> VcfHeader:
    """Add our INFO fields to a header; those of an earlier run are replaced."""
    known = info_fields(header.structure, with_genes=True)
    earlier = (*(f"##INFO=<ID={name}," for name in known), f"##{IDENTITY}=")
    history = "##zflipon_variants=" + ";".join(f"{name}={value}" for name, value in header.settings.items())
    lines = [line for line in header.vcf.lines if not line.startswith(earlier) and line != history]
    for name, (kind, description) in fields.items():
        lines.append(
            f'##INFO=<ID={name},Number=A,Type={kind},Description="{description}",'
            f'Source="zflipon {header.settings["model"]}",Version="{__version__}">'
        )
    lines.append(history)
    if header.identity:
        lines.append(f"##{IDENTITY}={json.dumps(header.identity)}")
    return replace(header.vcf, lines=tuple(lines))


def _with_scores(
    record: VcfRecord, scores: Sequence[Scores], fields: Mapping[str, tuple[str, str]]
) -> list[str]:
    """Return the columns of a record with our INFO fields in place of those of an earlier run."""
    prefix = next(iter(fields)).partition("_")[0]
    earlier = {*fields, *(f"{prefix}_{field.suffix}" for field in GENE_FIELDS)}
    info = [entry for entry in record.info if entry.partition("=")[0] not in earlier]
    for name, values in zip(fields, zip(*scores, strict=True), strict=bool(scores)):
        if any(value is not None for value in values):
            info.append(f"{name}={','.join(map(_info_value, values))}")
    columns = record.columns.copy()
    columns[7] = ";".join(info) or "."
    return columns


def _info_value(value: float | int | str | None) -> str:
    """Return a value as htslib prints it."""
    if value is None:
        return "."
    if isinstance(value, float):
        return f"{np.float32(value):g}"
    return value.translate(_ESCAPES) if isinstance(value, str) else str(value)


def _table_rows(record: VcfRecord, scores: Sequence[Scores]) -> str:
    """Return one row per allele."""
    contig, position, name, ref = record.columns[:4]
    return "".join(
        "\t".join([contig, position, name, ref, alt, *("." if x is None else str(x) for x in row)]) + "\n"
        for alt, row in zip(record.alts, scores, strict=True)
    )
