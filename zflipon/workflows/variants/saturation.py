"""Score every substitution, and maybe every insertion and deletion of one base, in some regions.

Alleles of one window are scored together, and what they have in common is computed once: see
`zflipon.inference.substitutions`.
The scores are those of `zflipon.workflows.variants.run` for the same alleles.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from zflipon.config import DEFAULT_MODEL, MIN_GAP, InferenceConfig, Selection, VariantConfig
from zflipon.errors import InputError, format_count
from zflipon.genome.fasta import Genome
from zflipon.genome.interval_files import read_bed
from zflipon.genome.intervals import Intervals, merge_by_contig, parse_region
from zflipon.genome.shards import make_plan
from zflipon.inference.genome_scan import predict_windows
from zflipon.inference.predictor import Predictor
from zflipon.jobs.distributed import broadcast_from_main, process_state
from zflipon.jobs.job import Job
from zflipon.jobs.outputs import check_outputs
from zflipon.jobs.signals import StopRequest
from zflipon.models import Checkpoint
from zflipon.tracks.atomic import check_output_path
from zflipon.workflows.session import FeatureFiles
from zflipon.workflows.variants.heatmap import HeatMaps
from zflipon.workflows.variants.saturation_scoring import score_together
from zflipon.workflows.variants.scoring_run import Advance, ScoringRun, execute, open_genes, open_scoring
from zflipon.workflows.variants.vcf import COLUMNS, VcfHeader, VcfRecord
from zflipon.workflows.variants.writing import format_of

log = logging.getLogger("zflipon")

POSITIONS_PER_BATCH = 1024
"""Bases of a region whose alleles are scored together, the unit of work that survives a kill."""

_LETTERS = "ACGT"


def saturate(
    regions: Sequence[str | Path],
    genome_path: str | Path,
    output: str | Path,
    model: str | Path | Checkpoint = DEFAULT_MODEL,
    config: VariantConfig | None = None,
    settings: InferenceConfig | None = None,
    *,
    indels: bool = False,
    figure: str | Path | None = None,
    force: bool = False,
    restart: bool = False,
    features: str | Path | None = None,
    missing_features: str = "error",
    batch_positions: int = POSITIONS_PER_BATCH,
    progress: Callable[[int, int], object] | None = None,
    stop: StopRequest | None = None,
    command: str = "zflipon.saturate()",
    contig_aliases: str | Path | None = None,
    gtf: str | Path | None = None,
) -> dict[str, int]:
    r"""Score every allele of one base in some regions.

    Parameters
    ----------
    regions : sequence of str or Path
        Regions in samtools syntax, or BED files. Overlapping regions are merged.
    genome_path : str or Path
        FASTA.
    output : str or Path
        Its extension chooses the format; see `zflipon.workflows.variants.EXTENSIONS`.
    model, config, settings, force, restart, features, missing_features, progress, stop, command
        As in `score_variants`; ``config.regions`` is not used.
    indels : bool
        Also score insertions and deletions of one base, each once: the leftmost of equal ones.
    figure : str or Path, optional
        Heat map of each region; with several regions, the region is added to the name.
    batch_positions : int
        Bases whose alleles are scored together.
    contig_aliases : str or Path, optional
        Table of contig aliases; see `zflipon.genome.names.read_aliases`.
    gtf : str or Path, optional
        Gene annotation, GTF or GFF3: adds feature, genes and distance to the TSS of each allele.

    Returns
    -------
    dict of str to int
        `COUNTS`. All zero in all processes but the main one.

    Raises
    ------
    ZfliponError
        If an input, the output or the model cannot be used, or the output has an unfinished run with other settings.
    Stopped
        If the run was asked to stop. Finished work is saved.

    Examples
    --------
    >>> _ = Path("repeat.fa").write_text(">chr1\n" + "AT" * 50 + "CG" * 12 + "AT" * 50 + "\n")
    >>> counts = saturate(["chr1:110-111"], "repeat.fa", "every.tsv", "zhunt")
    >>> counts["alleles"]
    6
    """
    started, settings, config = time.time(), settings or InferenceConfig(), config or VariantConfig()
    output = Path(output)
    format_of(output)
    files = [Path(region) for region in regions if _is_file(region)]
    check_outputs([output], [genome_path, *files, *(file for file in (features, gtf) if file)], force)
    state = process_state(settings.device)
    with Genome(genome_path, contig_aliases) as genome:
        intervals = broadcast_from_main(state, lambda: read_regions(regions, genome.lengths))
        contigs = broadcast_from_main(
            state, lambda: {contig: genome.scan(contig, MIN_GAP).md5 for contig in intervals}
        )
        tracks = FeatureFiles(features, missing_features)
        session, geometry = open_scoring(state, model, settings, tracks, genome, output, config)
        run = SaturationRun(genome, config, geometry, session, contigs, intervals, indels, batch_positions)
        log.info("%s", run.describe())
        maps, genes = _heat_maps(run, figure, force), open_genes(state, gtf, run)
        with Job([output], state, stop) as job:
            observe = maps.add if maps else None
            counts = execute(run, job, output, progress, restart, command, started, observe, genes)
        if maps and state.is_main_process:
            maps.save(lambda region: predict_region(session.predictor, genome, region))
        return counts


def _heat_maps(run: SaturationRun, figure: str | Path | None, force: bool) -> HeatMaps | None:
    """Return the figures to draw; refuse those that could not be written."""
    if figure is None:
        return None
    structure = run.session.predictor.module.structure.name
    maps = HeatMaps(Path(figure), list(run.regions()), structure)
    for path in maps.paths:
        check_output_path(path, force)
    return maps


def predict_region(predictor: Predictor, genome: Genome, region: tuple[str, int, int]) -> np.ndarray:
    """Return the probabilities of a region, as `annotate` has them: float32, shape (bases,), NaN at N."""
    contig, start, end = region
    selection = Selection(regions=(f"{contig}:{start + 1}-{end}",))
    probabilities = np.full(end - start, np.nan, dtype=np.float32)
    for span in make_plan(genome, selection, predictor.metadata.window, predictor.metadata.margin).spans:
        values = predict_windows(predictor, genome, contig, span.windows)
        first = int(span.windows["core_start"][0])
        probabilities[span.start - start : span.end - start] = values[span.start - first : span.end - first]
    return probabilities


def read_regions(regions: Sequence[str | Path], lengths: Mapping[str, int]) -> Intervals:
    """Return the merged intervals of regions and BED files.

    Parameters
    ----------
    regions : sequence of str or Path
        Regions in samtools syntax, or BED files.
    lengths : mapping of str to int
        The genome's contigs and their lengths.

    Raises
    ------
    InputError
        If a region or a file is invalid, or there are no bases.
    """
    rows: dict[str, list[tuple[int, int]]] = {}
    for region in regions:
        if _is_file(region):
            for contig, intervals in read_bed(region, lengths, "regions").items():
                rows.setdefault(contig, []).extend(map(tuple, intervals.tolist()))
        else:
            contig, start, end = parse_region(str(region), lengths)
            rows.setdefault(contig, []).append((start, end))
    intervals = {contig: np.array(sorted(pairs), dtype=np.int64) for contig, pairs in rows.items()}
    merged = merge_by_contig(intervals, lengths)
    if not merged:
        raise InputError(
            "no bases to score; expected a region such as chr1:1,001-2,000, or a BED file with intervals"
        )
    return merged


def _is_file(region: str | Path) -> bool:
    """Whether a region is a file: names of contigs may contain slashes and dots, too."""
    return isinstance(region, Path) or Path(region).is_file() or bool(re.search(r"\.bed(\.gz)?$", region))


@dataclass(frozen=True)
class SaturationRun(ScoringRun):
    """Everything that determines the scores of all alleles in some regions.

    Attributes
    ----------
    intervals : Intervals
        Merged regions.
    indels : bool
        Whether insertions and deletions of one base are scored.
    batch_positions : int
        Bases of a batch.
    """

    intervals: Intervals
    indels: bool
    batch_positions: int

    @property
    def batch_sizes(self) -> list[int]:
        """Largest number of records of each batch; N has none."""
        alleles = 7 if self.indels else 3
        return [alleles * (end - start) for _, start, end in self._parts()]

    @property
    def vcf_header(self) -> VcfHeader:
        """Header with the contigs of the genome."""
        lengths = self.genome.lengths
        lines = [f"##contig=<ID={contig},length={lengths[contig]}>" for contig in lengths]
        return VcfHeader(("##fileformat=VCFv4.3", *lines), "\t".join(COLUMNS))

    @property
    def longest(self) -> int:
        """Bases of the longest contig."""
        return max(self.genome.lengths.values())

    def batches(self) -> Iterator[list[VcfRecord]]:
        """Yield the alleles of some positions at a time, one record each."""
        for contig, start, end in self._parts():
            alleles = list_alleles(self.genome, contig, start, end, self.indels)
            yield [
                VcfRecord([contig, str(at + 1), ".", ref, alt, ".", ".", "."], at + 1)
                for at, ref, alt in alleles
            ]

    def score(self, records: list[VcfRecord], advance: Advance) -> np.ndarray:
        """Return the scores of the records of one batch."""
        alleles = [(record.contig, record.start, record.ref, record.columns[4]) for record in records]
        return score_together(self, alleles, advance)

    def describe(self) -> str:
        """Return the run in a few words, for a log line."""
        bases = sum(int((rows[:, 1] - rows[:, 0]).sum()) for rows in self.intervals.values())
        return (
            f"every allele of {format_count(bases, 'base')}, {self.geometry.flank} bases on either side of each, "
            f"windows of {self.geometry.window} bases, {self.session.describe()}"
        )

    def source_key(self) -> dict[str, object]:
        """Return what determines the records, for the journal's key."""
        return {
            "regions": ",".join(f"{contig}:{start + 1}-{end}" for contig, start, end in self.regions()),
            "indels": self.indels,
            "positions per batch": self.batch_positions,
        }

    def source_record(self) -> dict[str, object]:
        """Return the run record's description of the records."""
        regions = [f"{contig}:{start + 1}-{end}" for contig, start, end in self.regions()]
        return {"saturated": regions, "indels": self.indels}

    def regions(self) -> Iterator[tuple[str, int, int]]:
        """Yield the merged regions: contig, start, end."""
        for contig, rows in self.intervals.items():
            yield from ((contig, start, end) for start, end in rows.tolist())

    def _parts(self) -> Iterator[tuple[str, int, int]]:
        for contig, start, end in self.regions():
            for first in range(start, end, self.batch_positions):
                yield contig, first, min(first + self.batch_positions, end)


def list_alleles(
    genome: Genome, contig: str, start: int, end: int, indels: bool = False
) -> list[tuple[int, str, str]]:
    r"""Return all alleles of one base at some positions, sorted by position: 0-based start, REF and ALT.

    Parameters
    ----------
    genome : Genome
    contig : str
    start, end : int
        Positions of REF's first base. Bases other than A, C, G and T have no alleles.
    indels : bool
        Also insertions after a position and deletions of the base after it. Of equal ones the leftmost is listed.

    Examples
    --------
    >>> _ = Path("tiny.fa").write_text(">chr1\nACGT\n")
    >>> with Genome("tiny.fa") as genome:
    ...     list_alleles(genome, "chr1", 0, 1)
    [(0, 'A', 'C'), (0, 'A', 'G'), (0, 'A', 'T')]
    """
    text = genome.fetch(contig, start, min(end + 1, genome.length(contig))) + "N"
    alleles = []
    for at, (base, after) in enumerate(pairwise(text[: end - start + 1]), start):
        if base not in _LETTERS:
            continue
        alleles += [(at, base, letter) for letter in _LETTERS if letter != base]
        if indels:
            alleles += [(at, base, base + letter) for letter in _LETTERS if letter != base]
            if after in _LETTERS and after != base:
                alleles.append((at, base + after, base))
    return alleles
