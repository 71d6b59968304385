"""Gene context of calls: nearest genes, features, repeats, enrichment, and summaries of regions.

Importing this package imports neither pandas nor bioframe; its functions do.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zflipon.config import GeneConfig
from zflipon.workflows.table_files import require_gene_packages

if TYPE_CHECKING:
    import pandas as pd

    from zflipon.workflows.genes.run import GeneReport


def find_genes(
    calls: str | Path,
    gtf: str | Path,
    *,
    genome: str | Path | None = None,
    repeats: str | Path | None = None,
    config: GeneConfig | None = None,
    contig_aliases: str | Path | None = None,
) -> GeneReport:
    r"""Find the genes, features and repeats of calls, and the features in which calls are enriched.

    Parameters
    ----------
    calls : str or Path
        BED, narrowPeak, bigBed or bigWig. A bigWig is called at the threshold of its run record.
    gtf : str or Path
        Annotation: GTF or GFF3 of GENCODE, Ensembl, RefSeq or another source, plain or gzip. ``chr1`` and ``1`` are
        the same contig.
    genome : str or Path, optional
        FASTA. Adds the class, GC share and sequence of each call, and keeps shuffled calls out of gaps.
    repeats : str or Path, optional
        BED of repeats; adds the repeat that overlaps each call most.
    config : GeneConfig, optional
        Width of promoters, shuffles, seed.
    contig_aliases : str or Path, optional
        Table of contig aliases; see `zflipon.genome.names.read_aliases`.

    Returns
    -------
    GeneReport
        Tables of calls, genes and enrichment, as `pandas.DataFrame`.

    Raises
    ------
    InputError
        If a file cannot be used, or files are of different assemblies.
    MissingExtraError
        If bioframe or pyarrow is not installed.

    Examples
    --------
    >>> import zflipon
    >>> row = 'chr1\tx\texon\t1001\t2000\t.\t+\t.\tgene_id "G1"; transcript_id "T1";\n'
    >>> _ = Path("genes.gtf").write_text(row), Path("calls.bed").write_text("chr1\t900\t920\n")
    >>> report = zflipon.find_genes("calls.bed", "genes.gtf")
    >>> report.calls[["feature", "gene_id", "tss_distance"]].to_dict("records")
    [{'feature': 'promoter', 'gene_id': 'G1', 'tss_distance': -81}]
    """
    require_gene_packages()
    from zflipon.workflows.genes.run import describe_calls

    return describe_calls(calls, gtf, genome, repeats, config, contig_aliases)


def summarize_regions(
    calls: str | Path,
    regions: str | Path,
    *,
    genome: str | Path | None = None,
    threshold: float | None = None,
    contig_aliases: str | Path | None = None,
) -> pd.DataFrame:
    r"""Summarize a track or calls in regions.

    Parameters
    ----------
    calls : str or Path
        BED, narrowPeak, bigBed or bigWig.
    regions : str or Path
        BED; the fourth column is the name. Regions may overlap.
    genome : str or Path, optional
        FASTA whose contigs and lengths the files must match.
    threshold : float, optional
        Probability from which a base of a bigWig is called; by default that of its run record, else 0.5.
    contig_aliases : str or Path, optional
        Table of contig aliases; see `zflipon.genome.names.read_aliases`.

    Returns
    -------
    pandas.DataFrame
        One row per region: ``contig``, ``start``, ``end``, ``name``, ``max`` and ``mean`` of the values of a bigWig or
        of the scores of calls (weighted by overlap), ``calls`` that overlap it, ``called_bases``, ``called_share``.

    Raises
    ------
    InputError
        If a file cannot be used.
    MissingExtraError
        If bioframe or pyarrow is not installed.

    Examples
    --------
    >>> import zflipon
    >>> _ = Path("calls.bed").write_text("chr1\t90\t120\tZ1\t700\n")
    >>> _ = Path("regions.bed").write_text("chr1\t100\t200\n")
    >>> zflipon.summarize_regions("calls.bed", "regions.bed")[["max", "calls", "called_share"]].to_dict("records")
    [{'max': 0.7, 'calls': 1, 'called_share': 0.2}]
    """
    require_gene_packages()
    from zflipon.workflows.genes.regions import summarize_regions as run

    return run(calls, regions, genome, threshold, contig_aliases)
