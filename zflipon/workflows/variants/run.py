"""Score a VCF: batches of records are divided among processes, stored as they are finished, and written in order."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from accelerate import PartialState

from zflipon.config import DEFAULT_MODEL, RECORDS_PER_BATCH, InferenceConfig, VariantConfig
from zflipon.errors import InputError, format_count
from zflipon.genome.fasta import Genome
from zflipon.genome.intervals import parse_region
from zflipon.jobs.distributed import broadcast_from_main, process_state
from zflipon.jobs.job import Job
from zflipon.jobs.outputs import check_outputs
from zflipon.jobs.signals import StopRequest
from zflipon.models import Checkpoint
from zflipon.workflows.session import FeatureFiles
from zflipon.workflows.variants.lookup import ScoreTable, open_table
from zflipon.workflows.variants.scan import Region, VcfSummary, is_selected, scan_vcf
from zflipon.workflows.variants.scoring_run import (
    Advance,
    ScoringRun,
    execute,
    open_genes,
    open_scoring,
    score_one_by_one,
)
from zflipon.workflows.variants.vcf import VcfHeader, VcfRecord, batches, open_vcf
from zflipon.workflows.variants.writing import INDEXED, format_of, require_convertible

log = logging.getLogger("zflipon")


def score_variants(
    path: str | Path,
    genome_path: str | Path,
    output: str | Path,
    model: str | Path | Checkpoint = DEFAULT_MODEL,
    config: VariantConfig | None = None,
    settings: InferenceConfig | None = None,
    *,
    force: bool = False,
    restart: bool = False,
    features: str | Path | None = None,
    missing_features: str = "error",
    table: str | Path | None = None,
    contig_aliases: str | Path | None = None,
    gtf: str | Path | None = None,
    batch_records: int = RECORDS_PER_BATCH,
    progress: Callable[[int, int], object] | None = None,
    stop: StopRequest | None = None,
    command: str = "zflipon.score_variants()",
) -> dict[str, int]:
    """Score every alternative allele of a VCF.

    Parameters
    ----------
    path : str or Path
        VCF (plain, gzip or bgzip) or BCF.
    genome_path : str or Path
        FASTA.
    output : str or Path
        Its extension chooses the format; see `zflipon.workflows.variants.EXTENSIONS`.
    model : str, Path or Checkpoint
        Name of a bundled model, folder, file or Hugging Face Hub id; or a loaded checkpoint.
    config : VariantConfig, optional
        How alleles are compared, and which records are written.
    settings : InferenceConfig, optional
        Device, precision, batch size and strands.
    force : bool
        Replace an existing output.
    restart : bool
        Discard the finished work of an earlier run of the same output.
    features : str or Path, optional
        Table of the omics tracks that the model reads; see `zflipon.omics.features`.
    missing_features : str
        One of `zflipon.config.MISSING_FEATURES`.
    table : str or Path, optional
        Output of an earlier run, such as `saturate`, in which alleles are looked up before they are computed.
    contig_aliases : str or Path, optional
        Table of other names of contigs; see `zflipon.genome.names.read_aliases`.
    gtf : str or Path, optional
        Gene annotation, GTF or GFF3: adds feature, genes and distance to the TSS of each allele.
    batch_records : int
        Records that are scored together, the unit of work that survives a kill.
    progress : callable, optional
        Called with the records finished since the last call, and with all selected records.
    stop : StopRequest, optional
        Lets another thread or a signal handler stop the run.
    command : str
        Command line for the record.

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
    """
    started, settings, config = time.time(), settings or InferenceConfig(), config or VariantConfig()
    path, output = Path(path), Path(output)
    kind = format_of(output)
    inputs = [path, genome_path, *(file for file in (features, table, gtf) if file)]
    check_outputs([output], inputs, force)
    state = process_state(settings.device)
    with Genome(genome_path, contig_aliases) as genome:
        regions = broadcast_from_main(
            state, lambda: [parse_region(text, genome.lengths) for text in config.regions]
        )
        summary = _scan(state, path, genome, regions, kind)
        files = FeatureFiles(features, missing_features)
        session, geometry = open_scoring(state, model, settings, files, genome, output, config)
        run = VcfRun(
            genome, config, geometry, session, summary.contigs, path, regions, summary, batch_records
        )
        log.info("%s", run.describe())
        genes = open_genes(state, gtf, run)
        with open_table(table, run.identity(), genome.lengths) as scores, Job([output], state, stop) as job:
            run = replace(run, table=scores)
            return execute(run, job, output, progress, restart, command, started, genes=genes)


def _scan(state: PartialState, path: Path, genome: Genome, regions: list[Region], kind: str) -> VcfSummary:
    """Check the VCF in the main process, and return its summary in all processes."""

    def scan() -> VcfSummary:
        summary = scan_vcf(path, genome, regions)
        if summary.unsorted and kind in INDEXED:
            raise InputError(
                f"{path}: records are out of order at {summary.unsorted}, and the output needs an index; sort the "
                "file (bcftools sort), or name an output that ends in .vcf or .tsv"
            )
        if kind == "bcf":
            require_convertible(path, summary.header)
        return summary

    return broadcast_from_main(state, scan)


@dataclass(frozen=True)
class VcfRun(ScoringRun):
    """Everything that determines the scores of a VCF.

    Attributes
    ----------
    path : Path
    regions : list of (str, int, int)
        Regions whose records are scored; empty: all.
    summary : VcfSummary
    batch_records : int
        Records of a batch.
    table : ScoreTable or None
        Where alleles are looked up.
    """

    path: Path
    regions: list[Region]
    summary: VcfSummary
    batch_records: int
    table: ScoreTable | None = None

    @property
    def batch_sizes(self) -> list[int]:
        """Number of records of each batch."""
        full, rest = divmod(self.summary.selected, self.batch_records)
        return [self.batch_records] * full + [rest] * bool(rest)

    @property
    def vcf_header(self) -> VcfHeader:
        """Header of the input."""
        return self.summary.header

    @property
    def longest(self) -> int:
        """Bases of the longest contig, for the index."""
        return self.summary.longest

    def batches(self) -> Iterator[list[VcfRecord]]:
        """Yield the selected records in batches."""
        with open_vcf(self.path) as (_, records):
            selected = (
                record for record in records if is_selected(record, self.contig_of(record), self.regions)
            )
            yield from batches(selected, self.batch_records)

    def score(self, records: list[VcfRecord], advance: Advance) -> np.ndarray:
        """Return the scores of the alleles of some records; those that the table lacks are computed."""
        if self.table is None:
            return super().score(records, advance)
        alleles = self.alleles(records)
        scores, is_missing = self.table.look_up(alleles)
        missing = [allele for allele, miss in zip(alleles, is_missing.tolist(), strict=True) if miss]
        if missing:
            scores[is_missing] = score_one_by_one(self, missing, advance)
        return scores

    def contig_of(self, record: VcfRecord) -> str:
        """Return the genome's name of a record's contig; the record's if the genome has none."""
        return self.summary.names.get(record.contig, record.contig)

    def describe(self) -> str:
        """Return the run in a few words, for a log line."""
        return (
            f"{format_count(self.summary.selected, 'record')}, {self.geometry.flank} bases on either side of each "
            f"allele, windows of {self.geometry.window} bases, {self.session.describe()}"
        )

    def source_key(self) -> dict[str, object]:
        """Return what determines the records, for the journal's key."""
        return {
            "records": self.summary.digest,
            "regions": ",".join(self.config.regions) or "all",
            "records per batch": self.batch_records,
            "table": self.table.digest if self.table else "none",
        }

    def source_record(self) -> dict[str, object]:
        """Return the run record's description of the input."""
        return {
            "path": str(self.path.resolve()),
            "records": self.summary.records,
            "sha256_of_alleles": self.summary.digest,
            **({"table": str(self.table.path.resolve())} if self.table else {}),
        }
