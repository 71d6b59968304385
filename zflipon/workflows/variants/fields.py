"""The fields of a scored allele: names, types and descriptions in VCF and in tables, and how values are written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from zflipon.models.structure import Z_DNA, Structure
from zflipon.workflows.variants.alleles import SKIP_REASONS
from zflipon.workflows.variants.called_intervals import MAX_LISTED_CALLS
from zflipon.workflows.variants.scoring import NEAR_BASES, SCORE_DECIMALS

Scores = tuple[float | int | str | None, ...]
"""Scores of an allele, in the order of `SCORE_FIELDS`; None: missing."""


class ScoreField(NamedTuple):
    """One field of an allele in the outputs.

    Attributes
    ----------
    name : str
        Field of `SCORE_DTYPE`, or column of ``zflipon genes``.
    suffix : str
        INFO field without the prefix of the structure.
    column : str
        Column of a table.
    kind : str
        Type in VCF: Float, Integer or String.
    description : str
        With ``{structure}`` for the name of the structure and ``{prefix}`` for the prefix of its fields.
    """

    name: str
    suffix: str
    column: str
    kind: str
    description: str


_LISTED = f"start-end, 1-based, on the reference; & between calls; at most the {MAX_LISTED_CALLS} nearest"

SCORE_FIELDS = (
    ScoreField(
        "gain", "GAIN", "gain", "Float",
        "Largest gain of a base's probability of {structure} by the alternative allele, 0 or above",
    ),
    ScoreField(
        "loss", "LOSS", "loss", "Float",
        "Largest loss of a base's probability of {structure} by the alternative allele, 0 or below",
    ),
    ScoreField(
        "sum", "SUM", "sum", "Float",
        "Change of the probability of {structure}, summed over the bases around the allele",
    ),
    ScoreField(
        "pos", "POS", "at", "Integer",
        "Position (1-based, reference) of the base that changes most, of equal ones the nearest; inserted: the base "
        "before; if no base changes, of the allele",
    ),
    ScoreField(
        "distance", "DIST", "distance", "Integer",
        "Distance of {prefix}_POS from the allele in bases: 0 inside REF, negative before, positive after",
    ),
    ScoreField(
        "ref", "REF", "ref_max", "Float",
        f"Highest probability of {{structure}} within {NEAR_BASES} bases of the allele with the reference",
    ),
    ScoreField(
        "alt", "ALT", "alt_max", "Float",
        f"Highest probability of {{structure}} within {NEAR_BASES} bases of the allele with the alternative allele",
    ),
    ScoreField(
        "lost", "LOST", "lost", "Integer",
        "Calls of the reference of which no base is in a call with the alternative allele",
    ),
    ScoreField(
        "gained", "GAINED", "gained", "Integer",
        "Calls with the alternative allele of which no base is in a call of the reference",
    ),
    ScoreField(
        "ref_calls", "REFCALLS", "ref_calls", "String",
        f"Calls of the reference that overlap the allele or change ({_LISTED})",
    ),
    ScoreField(
        "alt_calls", "ALTCALLS", "alt_calls", "String",
        f"Calls with the alternative allele that overlap it or are not in the reference ({_LISTED})",
    ),
    ScoreField(
        "spread", "SPREAD", "spread", "Float",
        "Standard deviation over window offsets of the change at {prefix}_POS",
    ),
    ScoreField(
        "why", "WHY", "why", "String",
        "Why the allele is not scored: "
        + ", ".join(f"{code} ({explanation})" for code, explanation in SKIP_REASONS.items()),
    ),
)  # fmt: skip
"""All scores in the order of the outputs."""

GENE_FIELDS = (
    ScoreField(
        "feature", "FEATURE", "feature", "String",
        "Feature of the reference bases of the allele: the first of promoter, 5'UTR, 3'UTR, exon, intron, intergenic "
        "that they overlap",
    ),
    ScoreField("feature_gene", "FEATUREGENE", "feature_gene", "String", "Gene that gives the feature"),
    ScoreField("gene", "GENE", "gene", "String", "Gene with the nearest transcription start site"),
    ScoreField("gene_id", "GENEID", "gene_id", "String", "Identifier of {prefix}_GENE"),
    ScoreField(
        "tss_distance", "TSSDIST", "tss_distance", "Integer",
        "Bases from this transcription start site to the allele, negative upstream",
    ),
)  # fmt: skip
"""What an annotation adds to the scores, in the order of the outputs; names are columns of ``zflipon genes``."""

TABLE_COLUMNS = ("contig", "pos", "id", "ref", "alt", *(field.column for field in SCORE_FIELDS))
"""Columns of a table; with an annotation, those of `GENE_FIELDS` follow."""


def output_fields(with_genes: bool) -> tuple[ScoreField, ...]:
    """Return the fields of an output."""
    return (*SCORE_FIELDS, *GENE_FIELDS) if with_genes else SCORE_FIELDS


def table_columns(with_genes: bool) -> tuple[str, ...]:
    """Return the columns of a table."""
    return (*TABLE_COLUMNS, *(field.column for field in GENE_FIELDS)) if with_genes else TABLE_COLUMNS


def info_fields(structure: Structure = Z_DNA, with_genes: bool = False) -> dict[str, tuple[str, str]]:
    """Return the INFO fields for a structure: name → type and description.

    Examples
    --------
    >>> list(info_fields())[:2]
    ['ZF_GAIN', 'ZF_LOSS']
    """
    names = {"structure": structure.name, "prefix": structure.vcf_prefix}
    return {
        f"{structure.vcf_prefix}_{field.suffix}": (field.kind, field.description.format(**names))
        for field in output_fields(with_genes)
    }


FIELDS = info_fields()
"""INFO fields of Z-DNA: name → type and description."""


def plain_scores(scores: np.ndarray) -> Iterator[Scores]:
    """Yield the scores of alleles as they are written: rounded, None where missing.

    Parameters
    ----------
    scores : numpy.ndarray
        `SCORE_DTYPE`, shape (alleles,).
    """
    return zip(*(_plain_column(field, scores[field.name]) for field in SCORE_FIELDS), strict=True)


def parse_calls(text: str) -> np.ndarray:
    """Return intervals from the text of `plain_scores`: int64, shape (`MAX_LISTED_CALLS`, 2), -1 after the last."""
    intervals = np.full((MAX_LISTED_CALLS, 2), -1, dtype=np.int64)
    for row, part in zip(intervals, text.split("&"), strict=False):
        start, _, end = part.partition("-")
        row[:] = int(start) - 1, int(end)
    return intervals


def _plain_column(field: ScoreField, values: np.ndarray) -> list:
    if field.name in ("ref_calls", "alt_calls"):
        has_calls = (values[:, 0, 0] >= 0).tolist()
        return [_call_text(row) if some else None for row, some in zip(values, has_calls, strict=True)]
    if field.kind == "String":
        return [value or None for value in values.tolist()]
    missing = np.isnan(values)
    if field.kind == "Integer":
        plain = np.where(missing, 0, values).astype(np.int64).tolist()
    else:
        plain = (np.round(values, SCORE_DECIMALS) + 0.0).tolist()
    if not missing.any():
        return plain
    return [None if is_missing else value for value, is_missing in zip(plain, missing.tolist(), strict=True)]


def _call_text(intervals: np.ndarray) -> str:
    return "&".join(f"{start + 1}-{end}" for start, end in intervals.tolist() if start >= 0)
