"""Tables of the gene context: one row per call, one row per gene.

Columns are listed here; how they are computed is in `zflipon.workflows.genes.features`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from zflipon.genome.alternation import class_and_gc
from zflipon.genome.fasta import Genome
from zflipon.workflows.genes.annotation import Annotation
from zflipon.workflows.genes.features import (
    FEATURES,
    INTRON,
    PROMOTER,
    FeatureMap,
    feature_genes,
    nearest_tss,
    overlapping_pairs,
)

CALL_COLUMNS = ("contig", "start", "end", "mean", "max")
"""Columns of a call."""

CONTEXT_COLUMNS = (
    *("feature", "feature_gene", "feature_gene_id"),
    *("gene", "gene_id", "gene_type", "strand", "tss_distance"),
)
"""Columns of the annotation: the feature and its gene, then the gene with the nearest TSS."""

REPEAT_COLUMNS = ("repeat", "repeat_bases")
"""Columns of the overlapping repeat."""

SEQUENCE_COLUMNS = ("class", "gc", "sequence")
"""Columns of the sequence."""

GENE_COLUMNS = (
    *("gene", "gene_id", "gene_type", "contig", "start", "end", "strand"),
    *("calls", "promoter_calls", "body_calls", "best_score", "best_call"),
)
"""Columns of the table of genes."""


def context_columns(
    calls: pd.DataFrame, annotation: Annotation, tables: dict[str, pd.DataFrame], features: FeatureMap
) -> pd.DataFrame:
    """Return `CONTEXT_COLUMNS` of calls, one row per call; text is empty where there is no gene."""
    code = np.empty(len(calls), dtype=np.int8)
    for contig, rows in calls.groupby("contig", observed=True).indices.items():
        start, end = (calls[name].to_numpy()[rows] for name in ("start", "end"))
        code[rows] = features.find(str(contig), start, end)
    of_feature = feature_genes(calls, code, tables, annotation)
    nearest = nearest_tss(calls, annotation)
    of_tss = nearest["gene_row"].to_numpy()
    genes = annotation.genes
    columns = {
        "feature": np.array(FEATURES)[code],
        "feature_gene": _look_up(genes["gene"], of_feature),
        "feature_gene_id": _look_up(genes["gene_id"], of_feature),
        **{name: _look_up(genes[name], of_tss) for name in ("gene", "gene_id", "gene_type", "strand")},
        "tss_distance": nearest["tss_distance"].array,
    }
    return pd.DataFrame(columns).loc[:, list(CONTEXT_COLUMNS)]


def _look_up(column: pd.Series, rows: np.ndarray) -> np.ndarray:
    """Return the values of rows; an empty string for row -1."""
    return np.append(column.to_numpy(dtype=object), "")[rows]


def sequence_columns(calls: pd.DataFrame, genome: Genome) -> pd.DataFrame:
    """Return `SEQUENCE_COLUMNS` of calls: class, share of G and C among A, C, G and T, and upper-case sequence."""
    rows = []
    for contig, start, end in calls[["contig", "start", "end"]].itertuples(index=False):
        sequence = genome.fetch(contig, start, end)
        rows.append((*class_and_gc(sequence), sequence))
    return pd.DataFrame(rows, columns=list(SEQUENCE_COLUMNS))


def gene_table(calls: pd.DataFrame, annotation: Annotation, tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return one row for each gene with a call in its promoter or body.

    Returns
    -------
    pandas.DataFrame
        `GENE_COLUMNS`: ``calls`` in the promoter of a transcript or in the gene, the number of each, and the highest
        score of these calls with its call (``contig:start-end``, 0-based); sorted by score, number of calls and place.
    """
    pairs = []
    for name in (PROMOTER, INTRON):  # the rows of introns are whole genes
        found = overlapping_pairs(calls, tables[name])
        gene = tables[name]["gene_row"].to_numpy()[found["row"]]
        unique = pd.DataFrame({"gene_row": gene, "call": found["call"]}).drop_duplicates()
        pairs.append(unique.assign(**{name: True}))
    both = pairs[0].merge(pairs[1], on=["gene_row", "call"], how="outer")
    both = both.assign(score=calls["max"].to_numpy()[both["call"]])
    both = both.sort_values(["gene_row", "score", "call"], ascending=[True, False, True], na_position="last")
    groups = both.groupby("gene_row")
    best = groups.head(1).set_index("gene_row")
    chosen = calls.iloc[best["call"]]
    counts = groups.agg(
        calls=("call", "size"), promoter_calls=(PROMOTER, "count"), body_calls=(INTRON, "count")
    )
    table = annotation.genes.loc[counts.index].assign(
        **{name: counts[name] for name in counts},
        best_score=best["score"],
        best_call=[
            f"{contig}:{start}-{end}"
            for contig, start, end in zip(*(chosen[c] for c in CALL_COLUMNS[:3]), strict=True)
        ],
    )
    order = np.lexsort((table.index, -table["calls"], -table["best_score"].fillna(-np.inf)))
    return table.iloc[order][list(GENE_COLUMNS)].reset_index(drop=True)
