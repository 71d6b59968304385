"""What runs over a VCF and over regions have in common: batches of records, scored in a job, written in order.

The sources of records are in `zflipon.workflows.variants.run` and `zflipon.workflows.variants.saturation`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState

from zflipon import __version__
from zflipon.config import CallConfig, InferenceConfig, VariantConfig
from zflipon.genome.fasta import Genome
from zflipon.jobs.distributed import broadcast_from_main
from zflipon.jobs.job import Job, ShardProgress
from zflipon.jobs.outputs import require_distinct
from zflipon.models import Checkpoint
from zflipon.tracks.atomic import atomic_file
from zflipon.workflows.session import FeatureFiles, Session, open_session
from zflipon.workflows.variants.alleles import SKIP_REASONS, AlleleBatch
from zflipon.workflows.variants.genes import AlleleGenes, group_batches, read_allele_genes
from zflipon.workflows.variants.scoring import SCORE_DTYPE, score_alleles, window_features
from zflipon.workflows.variants.vcf import VcfHeader, VcfRecord
from zflipon.workflows.variants.windows import Geometry
from zflipon.workflows.variants.writing import OutputHeader, format_of, open_writer, write_batch, write_index

COUNTS = ("records", "written", "alleles", *SKIP_REASONS)
"""Totals of a run: records read and written, alleles scored, and alleles not scored by reason."""

_SCORES_VERSION = 2  # of the meaning of scores; in the journal's key

Advance = Callable[[int, int], object]
"""Called with the units of work that were just finished, and with all units of a batch."""


@dataclass(frozen=True)
class ScoringRun(ABC):
    """Everything that determines the scores.

    Attributes
    ----------
    genome : Genome
    config : VariantConfig
    geometry : Geometry
    session : Session
    contigs : dict of str to str
        Contig with records → MD5 of its sequence.
    """

    genome: Genome
    config: VariantConfig
    geometry: Geometry
    session: Session
    contigs: dict[str, str]

    @property
    @abstractmethod
    def batch_sizes(self) -> list[int]:
        """Number of records of each batch."""

    @property
    @abstractmethod
    def vcf_header(self) -> VcfHeader:
        """Header of a VCF with the records."""

    @property
    @abstractmethod
    def longest(self) -> int:
        """Bases of the longest contig, for the index."""

    @abstractmethod
    def batches(self) -> Iterator[list[VcfRecord]]:
        """Yield the records in batches."""

    @abstractmethod
    def source_key(self) -> dict[str, object]:
        """Return what determines the records, for the journal's key."""

    @abstractmethod
    def source_record(self) -> dict[str, object]:
        """Return the run record's description of the records."""

    def score(self, records: list[VcfRecord], advance: Advance) -> np.ndarray:
        """Return the scores of the alleles of some records, in order: `SCORE_DTYPE`."""
        return score_one_by_one(self, self.alleles(records), advance)

    def alleles(self, records: list[VcfRecord]) -> list[tuple[str, int, str, str]]:
        """Return contig of the genome, 0-based start, reference and alternative of each allele of some records."""
        return [
            (self.contig_of(record), record.start, record.ref, alt)
            for record in records
            for alt in record.alts
        ]

    def contig_of(self, record: VcfRecord) -> str:
        """Return the genome's name of a record's contig."""
        return record.contig

    @property
    def calls(self) -> CallConfig:
        """How probabilities become calls."""
        return CallConfig(threshold=self.session.checkpoint.metadata.threshold)

    def key(self) -> dict[str, object]:
        """Return the settings that determine the scores. `min_delta` and the format do not."""
        digest = sha256()
        for name, md5 in self.contigs.items():
            digest.update(f"{name} {self.genome.lengths[name]} {md5}\n".encode())
        return {
            **self.source_key(),
            "contig sequences": digest.hexdigest(),
            "flank": self.geometry.flank,
            "longest allele": self.geometry.longest,
            "shifts": self.config.shifts,
            "threshold": self.calls.threshold,
            "meaning of scores": _SCORES_VERSION,
            **self.session.key(),
        }

    def identity(self) -> dict[str, Any]:
        """Return what a table must have in common with a run that looks alleles up in it; JSON values."""
        key = self.session.key()
        return {
            "scores": _SCORES_VERSION,
            "prefix": self.session.predictor.module.structure.vcf_prefix,
            "model": key["model"],
            "features": key["features"],
            "strands": key["strands"],
            "flank": self.geometry.flank,
            "shifts": self.config.shifts,
            "threshold": self.calls.threshold,
            "contigs": self.contigs,
        }

    def header(self) -> OutputHeader:
        """Return the header of an output."""
        checkpoint = self.session.checkpoint
        settings = {
            "version": __version__,
            "model": checkpoint.name,
            "sha256": checkpoint.sha256 or "none",
            "genome": self.genome.path.name,
            "flank": self.geometry.flank,
            "shifts": self.config.shifts,
            "strands": "both" if self.session.predictor.both_strands else "forward",
        }
        structure = self.session.predictor.module.structure
        return OutputHeader(self.vcf_header, settings, self.identity(), structure)

    def record(self, output: Path, counts: Mapping[str, int], command: str, started: float) -> dict:
        """Return the run record of an output."""
        return {
            **self.session.record(command, started),
            "input": self.source_record(),
            "genome": str(self.genome.path.resolve()),
            "variants": {**asdict(self.config), "regions": list(self.config.regions)},
            "geometry": asdict(self.geometry),
            "counts": dict(counts),
            "outputs": [str(output)],
        }


def open_scoring(
    state: PartialState,
    model: str | Path | Checkpoint,
    settings: InferenceConfig,
    files: FeatureFiles,
    genome: Genome,
    output: Path,
    config: VariantConfig,
) -> tuple[Session, Geometry]:
    """Load a model to score alleles with, and fit its windows; parameters and errors are those of `open_session`."""
    session = open_session(state, model, settings, files, genome.lengths, compares_alleles=True)
    if session.predictor.features is not None:
        require_distinct([output], session.predictor.features.paths.values())
    metadata = session.checkpoint.metadata
    return session, Geometry.fit(metadata.window, metadata.margin, config)


def open_genes(state: PartialState, gtf: str | Path | None, run: ScoringRun) -> AlleleGenes | None:
    """Read an annotation in the main process; None in the others and without one.

    Raises
    ------
    InputError
        In all processes, if the file cannot be read or does not fit the genome.
    """
    opened: list[AlleleGenes] = []
    if gtf is not None:
        broadcast_from_main(state, lambda: opened.append(read_allele_genes(gtf, run.genome, run.contig_of)))
    return opened[0] if opened else None


def score_one_by_one(
    run: ScoringRun, alleles: list[tuple[str, int, str, str]], advance: Advance
) -> np.ndarray:
    """Score alleles with one forward pass for each; windows of the reference are shared.

    Parameters
    ----------
    run : ScoringRun
    alleles : list of (str, int, str, str)
        Contig, 0-based start, reference and alternative allele.
    advance : callable

    Returns
    -------
    numpy.ndarray
        `SCORE_DTYPE`, shape (alleles,).
    """
    batch, predictor = AlleleBatch(run.genome, run.geometry), run.session.predictor
    for allele in alleles:
        batch.add(*allele)
    total = len(batch.sequences) * (2 if predictor.both_strands else 1)
    features = window_features(predictor, batch)
    probabilities = predictor.predict_probabilities(
        batch.sequences, features, batch.cores, lambda sequences: advance(sequences, total)
    )
    return score_alleles(batch.pairs, probabilities, run.calls)


def execute(
    run: ScoringRun,
    job: Job,
    output: Path,
    progress: Callable[[int, int], object] | None,
    restart: bool,
    command: str,
    started: float,
    observe: Callable[[Sequence[VcfRecord], np.ndarray], object] | None = None,
    genes: AlleleGenes | None = None,
) -> dict[str, int]:
    """Score all batches with the other processes of a job, and write the output; return `COUNTS`.

    Parameters
    ----------
    run : ScoringRun
    job : Job
        Entered.
    output : Path
    progress : callable or None
        Called with the records finished since the last call, and with all records.
    restart : bool
        Discard the finished work of an earlier run.
    command : str
        For the record.
    started : float
        Seconds since the epoch.
    observe : callable, optional
        Called with each batch and its scores while the output is written.
    genes : AlleleGenes, optional
        In the main process: adds genes and features to the output.
    """
    is_main = run.session.state.is_main_process
    job.open_journal(run.key(), len(run.batch_sizes), restart)
    scorer = _BatchScorer(run, job, progress if is_main else None)
    scorer.score_claimed()
    counts = dict.fromkeys(COUNTS, 0)
    if not is_main:
        return counts
    kind, header = format_of(output), run.header()
    batches = scorer.read_all()
    if genes is not None:
        header, batches = genes.describe(header), group_batches(batches)
    with atomic_file(output) as part:
        with open_writer(part, kind, header) as write:
            for batch, scores in batches:
                values = genes.values(batch) if genes is not None else None
                write_batch(write, batch, scores, run.config.min_delta, counts, values)
                if observe is not None:
                    observe(batch, scores)
        write_index(part, kind, header, run.longest)
        job.publish()
    record = run.record(output, counts, command, started)
    if genes is not None:
        record["genes"] = genes.record()
    job.finish(record | run.session.resources(started))
    return counts


class _BatchScorer:
    """Scores the batches that this process claims, and reads the scores of all batches back in order."""

    def __init__(self, run: ScoringRun, job: Job, progress: Callable[[int, int], object] | None):
        self._run, self._job, self._sizes = run, job, run.batch_sizes
        self._progress = ShardProgress(progress, self._sizes, job.resumed)

    def score_claimed(self) -> None:
        """Score batches until no unclaimed one is left; store each in the journal."""
        claimed = self._job.journal.claim(range(len(self._sizes)))
        wanted = next(claimed, None)
        for number, batch in enumerate(self._run.batches() if wanted is not None else ()):
            if number == wanted:
                self._job.start_shard()
                scores = self._run.score(batch, self._advance(number))
                self._job.journal.write(number, scores.tobytes())
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

    def _advance(self, number: int) -> Advance:
        finished = 0

        def advance(units: int, total: int) -> None:
            nonlocal finished
            finished += units
            self._progress.part(number, self._sizes[number] * finished // max(1, total))
            self._job.advance_shard(units, total)

        return advance
