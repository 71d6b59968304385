"""Score a VCF: batches of records are divided among processes, stored as they are finished, and written in order."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from accelerate import PartialState

from zflipon import __version__
from zflipon.config import DEFAULT_MODEL, RECORDS_PER_BATCH, InferenceConfig, VariantConfig
from zflipon.errors import InputError, format_count
from zflipon.genome.fasta import Genome
from zflipon.genome.intervals import parse_region
from zflipon.jobs.distributed import broadcast_from_main, process_state
from zflipon.jobs.job import Job, ShardProgress, check_outputs, require_distinct
from zflipon.jobs.signals import StopRequest
from zflipon.models import Checkpoint
from zflipon.tracks.atomic import atomic_file
from zflipon.workflows.session import FeatureFiles, Session, open_session
from zflipon.workflows.variants.alleles import SKIP_REASONS, AlleleBatch
from zflipon.workflows.variants.scan import Region, VcfSummary, is_selected, scan_vcf
from zflipon.workflows.variants.scoring import SCORE_DTYPE, score_alleles, window_features
from zflipon.workflows.variants.vcf import VcfRecord, batches, open_vcf
from zflipon.workflows.variants.windows import Geometry
from zflipon.workflows.variants.writing import (
    INDEXED,
    format_of,
    open_writer,
    require_convertible,
    write_batch,
    write_index,
)

log = logging.getLogger("zflipon")

COUNTS = ("records", "written", "alleles", *SKIP_REASONS)
"""Totals of a run: records read and written, alleles scored, and alleles not scored by reason."""


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
    check_outputs([output], [path, genome_path, *([features] if features else [])], force)
    state = process_state(settings.device)
    with Genome(genome_path) as genome:
        regions = broadcast_from_main(
            state, lambda: [parse_region(text, genome.lengths) for text in config.regions]
        )
        summary = _scan(state, path, genome, regions, kind)
        session = open_session(
            state, model, settings, FeatureFiles(features, missing_features), genome.lengths
        )
        if session.predictor.features is not None:
            require_distinct([output], session.predictor.features.paths.values())
        metadata = session.checkpoint.metadata
        geometry = Geometry.fit(metadata.window, metadata.margin, config)
        run = _Run(path, genome, regions, summary, config, geometry, session, batch_records)
        log.info("%s", run.describe())
        with Job([output], state, stop) as job:
            job.open_journal(run.key(), len(run.batch_sizes), restart)
            scorer = _BatchScorer(run, job, progress if state.is_main_process else None)
            scorer.score_claimed()
            if not state.is_main_process:
                return dict.fromkeys(COUNTS, 0)
            counts = _write(run, scorer, job, output, kind)
            record = run.record(output, counts, command, started)
            job.finish(record | session.resources(started))
    return counts


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


def _write(run: _Run, scorer: _BatchScorer, job: Job, output: Path, kind: str) -> dict[str, int]:
    """Write the output and its index; return `COUNTS`."""
    counts = dict.fromkeys(COUNTS, 0)
    with atomic_file(output) as part:
        with open_writer(part, kind, run.summary.header, run.header_settings()) as write:
            for batch, scores in scorer.read_all():
                write_batch(write, batch, scores, run.config.min_delta, counts)
        write_index(part, kind, run.summary.longest)
        job.publish()
    return counts


@dataclass(frozen=True)
class _Run:
    """Everything that determines the scores."""

    path: Path
    genome: Genome
    regions: list[Region]
    summary: VcfSummary
    config: VariantConfig
    geometry: Geometry
    session: Session
    batch_records: int

    @property
    def batch_sizes(self) -> list[int]:
        """Number of records of each batch."""
        full, rest = divmod(self.summary.selected, self.batch_records)
        return [self.batch_records] * full + [rest] * bool(rest)

    def batches(self) -> Iterator[list[VcfRecord]]:
        """Yield the selected records in batches."""
        with open_vcf(self.path) as (_, records):
            selected = (record for record in records if is_selected(record, self.regions))
            yield from batches(selected, self.batch_records)

    def describe(self) -> str:
        return (
            f"{format_count(self.summary.selected, 'record')}, {self.geometry.flank} bases on either side of each "
            f"allele, windows of {self.geometry.window} bases, {self.session.describe()}"
        )

    def key(self) -> dict[str, object]:
        """Return the settings that determine the scores. `min_delta` and the format do not."""
        lengths, digest = self.genome.lengths, sha256()
        for name, md5 in self.summary.contigs.items():
            digest.update(f"{name} {lengths[name]} {md5}\n".encode())
        return {
            "records": self.summary.digest,
            "regions": ",".join(self.config.regions) or "all",
            "contig sequences": digest.hexdigest(),
            "flank": self.geometry.flank,
            "longest allele": self.geometry.longest,
            "shifts": self.config.shifts,
            "records per batch": self.batch_records,
            **self.session.key(),
        }

    def header_settings(self) -> dict[str, object]:
        """Return the settings that are written into the output's header."""
        checkpoint = self.session.checkpoint
        return {
            "version": __version__,
            "model": checkpoint.name,
            "sha256": checkpoint.sha256 or "none",
            "genome": self.genome.path.name,
            "flank": self.geometry.flank,
            "shifts": self.config.shifts,
            "strands": "both" if self.session.predictor.both_strands else "forward",
        }

    def record(self, output: Path, counts: dict[str, int], command: str, started: float) -> dict:
        source = {
            "path": str(self.path.resolve()),
            "records": self.summary.records,
            "sha256_of_alleles": self.summary.digest,
        }
        return {
            **self.session.record(command, started),
            "input": source,
            "genome": str(self.genome.path.resolve()),
            "variants": {**asdict(self.config), "regions": list(self.config.regions)},
            "geometry": asdict(self.geometry),
            "counts": counts,
            "outputs": [str(output)],
        }


class _BatchScorer:
    """Scores the batches that this process claims, and reads the scores of all batches back in order."""

    def __init__(self, run: _Run, job: Job, progress: Callable[[int, int], object] | None):
        self._run, self._job = run, job
        self._progress = ShardProgress(progress, run.batch_sizes, job.resumed)

    def score_claimed(self) -> None:
        """Score batches until no unclaimed one is left; store each in the journal."""
        claimed = self._job.journal.claim(range(len(self._run.batch_sizes)))
        wanted = next(claimed, None)
        for number, batch in enumerate(self._run.batches() if wanted is not None else ()):
            if number == wanted:
                self._job.start_shard()
                self._job.journal.write(number, self._score(number, batch).tobytes())
                self._progress.shards([number])
                self._job.check_stop()
                wanted = next(claimed, None)
            if wanted is None:
                break

    def read_all(self) -> Iterator[tuple[list[VcfRecord], np.ndarray]]:
        """Yield each batch with its scores, waiting for other processes."""
        for number, batch in enumerate(self._run.batches()):
            self._job.check_stop()
            self._job.journal.wait([number], self._job.check_stop)
            self._progress.shards([number])
            yield batch, np.frombuffer(self._job.journal.read(number), dtype=SCORE_DTYPE)

    def _score(self, number: int, batch: list[VcfRecord]) -> np.ndarray:
        alleles = AlleleBatch(self._run.genome, self._run.geometry)
        for record in batch:
            for alt in record.alts:
                alleles.add(record.contig, record.start, record.ref, alt)
        predictor, finished = self._run.session.predictor, 0
        total = len(alleles.sequences) * (2 if predictor.both_strands else 1)

        def advance(sequences: int) -> None:
            nonlocal finished
            finished += sequences
            self._progress.part(number, len(batch) * finished // max(1, total))
            self._job.advance_shard(sequences, total)

        features = window_features(predictor, alleles)
        probabilities = predictor.predict_probabilities(alleles.sequences, features, alleles.cores, advance)
        return score_alleles(alleles.pairs, probabilities)
