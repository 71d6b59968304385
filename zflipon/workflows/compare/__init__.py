"""Comparison of call sets and tracks: overlap, correlation, changed loci.

Importing this package does not import pandas; its function does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zflipon.workflows.table_files import require_gene_packages

if TYPE_CHECKING:
    from zflipon.workflows.compare.run import Comparison


def compare(
    paths: Sequence[str | Path],
    *,
    names: Sequence[str] = (),
    threshold: float | None = None,
    progress: Callable[[int, int], object] = lambda bases, total: None,
    contig_aliases: str | Path | None = None,
) -> Comparison:
    r"""Compare two or more call sets or tracks of one assembly.

    Parameters
    ----------
    paths : sequence of str or Path
        BED, narrowPeak, bigBed or bigWig. A bigWig is called at the threshold of its run record. Contig names are
        translated to those of the first file.
    names : sequence of str
        Names of the sets; by default the file names.
    threshold : float, optional
        Probability from which a base of a bigWig is called; by default that of its run record, else 0.5.
    progress : callable
        Called with the bases of bigWigs read since the last call, and with all bases to read.
    contig_aliases : str or Path, optional
        Table of contig aliases; see `zflipon.genome.names.read_aliases`.

    Returns
    -------
    Comparison
        Tables of pairs and of loci, as `pandas.DataFrame`.

    Raises
    ------
    InputError
        If a file cannot be used, files share no contig, or a contig has two lengths.
    MissingExtraError
        If bioframe or pyarrow is not installed.

    Examples
    --------
    >>> import zflipon
    >>> _ = Path("a.bed").write_text("chr1\t10\t30\nchr1\t50\t60\n"), Path("b.bed").write_text("chr1\t20\t40\n")
    >>> comparison = zflipon.compare(["a.bed", "b.bed"])
    >>> comparison.pairs[["shared_a", "unique_a", "unique_b", "jaccard"]].to_dict("records")
    [{'shared_a': 1, 'unique_a': 1, 'unique_b': 0, 'jaccard': 0.25}]
    """
    require_gene_packages()
    from zflipon.workflows.compare.run import compare_sets

    return compare_sets(paths, names, threshold, progress, contig_aliases)
