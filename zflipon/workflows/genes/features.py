"""Features of a genome by priority: promoter, 5'UTR, 3'UTR, exon, intron, intergenic; and the genes of calls.

The feature map answers for millions of shuffled positions; bioframe joins the calls with genes.
"""

from __future__ import annotations

from dataclasses import dataclass

import bioframe
import numpy as np
import pandas as pd

from zflipon.genome.intervals import merge
from zflipon.workflows.genes.annotation import EXON_PART, UTR3, UTR5, Annotation

PROMOTER, INTRON, INTERGENIC = "promoter", "intron", "intergenic"

FEATURES = (PROMOTER, UTR5, UTR3, EXON_PART, INTRON, INTERGENIC)
"""Features by descending priority: an interval gets the first one that it overlaps by at least one base."""

COLUMNS = ("contig", "start", "end")
"""Columns of intervals, in the order that bioframe expects."""


@dataclass(frozen=True)
class FeatureMap:
    """The feature of highest priority at each base.

    Attributes
    ----------
    segments : dict of str to (numpy.ndarray, numpy.ndarray)
        Contig → starts of segments, int64, the first of them 0, and their features, int8 indices into `FEATURES`. A
        segment ends where the next one starts; the last one does not end.
    """

    segments: dict[str, tuple[np.ndarray, np.ndarray]]

    def find(self, contig: str, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Return the feature of highest priority that intervals overlap.

        Parameters
        ----------
        contig : str
            A contig without genes is intergenic.
        starts, ends : numpy.ndarray
            int64, shape (n,); no interval is empty.

        Returns
        -------
        numpy.ndarray
            int8, shape (n,): indices into `FEATURES`.

        Examples
        --------
        >>> features = FeatureMap({"chr1": (np.array([0, 100, 200]), np.array([5, 3, 5], dtype=np.int8))})
        >>> features.find("chr1", np.array([10, 90, 200]), np.array([100, 101, 300])).tolist()
        [5, 3, 5]
        """
        if contig not in self.segments or not len(starts):
            return np.full(len(starts), FEATURES.index(INTERGENIC), dtype=np.int8)
        edges, codes = self.segments[contig]
        order = np.argsort(starts, kind="stable")  # reduceat also reduces the part between two intervals
        first = np.searchsorted(edges, starts[order], side="right") - 1
        last = np.searchsorted(edges, ends[order], side="left")
        padded = np.append(codes, np.int8(FEATURES.index(INTERGENIC)))
        found = np.empty(len(starts), dtype=np.int8)
        found[order] = np.minimum.reduceat(padded, np.stack([first, last], axis=1).ravel())[::2]
        return found


def promoters(annotation: Annotation, upstream: int, downstream: int) -> pd.DataFrame:
    """Return the promoter of each transcript: `upstream` bases before its TSS and `downstream` bases from it on.

    Returns
    -------
    pandas.DataFrame
        ``contig``, ``start``, ``end`` and ``gene_row``, without duplicates.
    """
    transcripts = annotation.transcripts
    minus = (annotation.genes["strand"] == "-").to_numpy()[transcripts["gene_row"].to_numpy()]
    tss = transcripts["tss"].to_numpy()
    start = np.where(minus, tss - downstream + 1, tss - upstream).clip(0)
    end = np.where(minus, tss + upstream + 1, tss + downstream)
    table = transcripts[["contig", "gene_row"]].assign(start=start, end=end)
    return table[table["end"] > table["start"]].drop_duplicates(ignore_index=True)[[*COLUMNS, "gene_row"]]


def feature_tables(annotation: Annotation, upstream: int, downstream: int) -> dict[str, pd.DataFrame]:
    """Return the intervals of each feature but intergenic, with the row of their gene."""
    parts = annotation.parts
    tables = {PROMOTER: promoters(annotation, upstream, downstream)}
    for name in (UTR5, UTR3, EXON_PART):
        tables[name] = parts.loc[parts["part"] == name, [*COLUMNS, "gene_row"]].reset_index(drop=True)
    tables[INTRON] = annotation.genes[list(COLUMNS)].assign(gene_row=np.arange(len(annotation.genes)))
    return tables


def build_feature_map(tables: dict[str, pd.DataFrame]) -> FeatureMap:
    """Combine the intervals of features, as `feature_tables` returns them, to disjoint segments."""
    merged = {name: _merge_by_contig(table) for name, table in tables.items()}
    contigs = dict.fromkeys(contig for intervals in merged.values() for contig in intervals)
    segments = {}
    for contig in contigs:
        found = {name: intervals[contig] for name, intervals in merged.items() if contig in intervals}
        edges = np.unique(np.concatenate([[0], *(rows.ravel() for rows in found.values())]))
        codes = np.full(len(edges), FEATURES.index(INTERGENIC), dtype=np.int8)
        for name in reversed(FEATURES[:-1]):
            if name in found:
                depth = np.zeros(len(edges) + 1, dtype=np.int64)
                depth[np.searchsorted(edges, found[name][:, 0])] += 1
                depth[np.searchsorted(edges, found[name][:, 1])] -= 1
                codes[np.cumsum(depth[:-1]) > 0] = FEATURES.index(name)
        segments[contig] = (edges, codes)
    return FeatureMap(segments)


def _merge_by_contig(table: pd.DataFrame) -> dict[str, np.ndarray]:
    names = list(table["contig"].cat.categories)
    codes = table["contig"].cat.codes.to_numpy()
    intervals = table[["start", "end"]].to_numpy(dtype=np.int64)
    order = np.lexsort((intervals[:, 0], codes))
    codes, intervals = codes[order], intervals[order]
    edges = np.searchsorted(codes, np.arange(len(names) + 1))
    return {
        name: merge(intervals[low:high])
        for name, low, high in zip(names, edges[:-1], edges[1:], strict=True)
        if high > low
    }


def overlapping_pairs(calls: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Return all pairs of a call and a row of a table that overlap.

    Returns
    -------
    pandas.DataFrame
        ``call`` and ``row``: positions in the two tables; ``overlap``: bases.
    """
    left = calls[list(COLUMNS)].assign(call=np.arange(len(calls)))
    right = table[list(COLUMNS)].assign(row=np.arange(len(table)))
    pairs = bioframe.overlap(left, right, how="inner", cols1=COLUMNS, cols2=COLUMNS, ensure_int=False)
    bases = np.minimum(pairs["end"], pairs["end_"]) - np.maximum(pairs["start"], pairs["start_"])
    return pd.DataFrame({"call": pairs["call"], "row": pairs["row_"], "overlap": bases}).astype(np.int64)


def feature_genes(
    calls: pd.DataFrame, feature: np.ndarray, tables: dict[str, pd.DataFrame], annotation: Annotation
) -> np.ndarray:
    """Return the gene that gives each call its feature; of several, the one whose TSS is nearest.

    Parameters
    ----------
    calls : pandas.DataFrame
        ``contig``, ``start``, ``end``.
    feature : numpy.ndarray
        Indices into `FEATURES`, shape (n,).
    tables : dict of str to pandas.DataFrame
        As `feature_tables` returns them.
    annotation : Annotation

    Returns
    -------
    numpy.ndarray
        int64, shape (n,): rows of the genes, -1 for intergenic calls.
    """
    genes = annotation.genes
    gene_tss = np.where(genes["strand"] == "-", genes["end"] - 1, genes["start"])
    chosen = np.full(len(calls), -1, dtype=np.int64)
    for code, name in enumerate(FEATURES[:-1]):
        rows = np.flatnonzero(feature == code)
        if not len(rows):
            continue
        subset = calls.iloc[rows]
        pairs = overlapping_pairs(subset, tables[name])
        gene = tables[name]["gene_row"].to_numpy()[pairs["row"]]
        call = pairs["call"].to_numpy()
        middle = ((subset["start"] + subset["end"]) // 2).to_numpy()[call]
        order = np.lexsort((gene, np.abs(middle - gene_tss[gene]), call))
        first = np.unique(call[order], return_index=True)[1]
        chosen[rows[call[order][first]]] = gene[order][first]
    return chosen


def nearest_tss(calls: pd.DataFrame, annotation: Annotation) -> pd.DataFrame:
    """Return the nearest TSS of any transcript for each call.

    Returns
    -------
    pandas.DataFrame
        One row per call: ``gene_row``, -1 on a contig without genes, and ``tss_distance``: bases from the TSS to the
        nearest base of the call, in the direction of transcription, so that a call upstream has a negative one; 0 if
        the call holds the TSS. Of equal TSS, the gene that comes first in the annotation is returned.
    """
    tss = annotation.transcripts[["contig", "tss", "gene_row"]].drop_duplicates()
    sites = dict(list(tss.groupby("contig", observed=True)))
    minus = (annotation.genes["strand"] == "-").to_numpy()
    gene_row = np.full(len(calls), -1, dtype=np.int64)
    distance = np.zeros(len(calls), dtype=np.int64)
    for contig, rows in calls.groupby("contig", observed=True).indices.items():
        if contig in sites:
            order = np.lexsort((sites[contig]["gene_row"], sites[contig]["tss"]))
            site, gene = (np.asarray(sites[contig][name])[order] for name in ("tss", "gene_row"))
            start, end = (calls[name].to_numpy()[rows] for name in ("start", "end"))
            chosen, offset = _nearest(site, start, end)
            gene_row[rows] = gene[chosen]
            distance[rows] = np.where(minus[gene[chosen]], -offset, offset)
    distances = pd.Series(distance, dtype="Int64").mask(gene_row < 0)
    return pd.DataFrame({"gene_row": gene_row, "tss_distance": distances})


def _nearest(site: np.ndarray, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the index of the nearest of some sorted sites, and the signed distance of the intervals from it.

    `bioframe.closest` breaks ties by a column only if no interval overlaps, and fails otherwise.
    """
    inside = np.searchsorted(site, start)  # the first site that is not before the interval
    before = np.searchsorted(site, site[np.maximum(inside - 1, 0)])  # the first of equal sites
    behind = np.minimum(inside, len(site) - 1)
    to_before = np.where(inside > 0, start - site[before], np.iinfo(np.int64).max)
    to_behind = np.where(inside < len(site), np.maximum(site[behind] - (end - 1), 0), np.iinfo(np.int64).max)
    is_before = to_before < to_behind
    return np.where(is_before, before, behind), np.where(is_before, to_before, -to_behind)
