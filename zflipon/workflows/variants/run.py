"""VCF → VCF with scores: runs of records shared among processes, kept as they are done, written in their order."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

import numpy as np
import pysam
from accelerate import PartialState
from tqdm import tqdm

from zflipon import __version__
from zflipon.config import RECORDS_PER_BATCH, InferenceConfig, VariantConfig
from zflipon.errors import InputError
from zflipon.genome.fasta import Genome
from zflipon.genome.intervals import parse_region
from zflipon.inference.predictor import Predictor
from zflipon.jobs.distributed import broadcast_from_main, process_state
from zflipon.jobs.job import (
    Stop,
    close_record,
    kept,
    key_of_model,
    record_of,
    settled,
    shared_tracks,
    unfinished,
    write_record,
)
from zflipon.jobs.journal import Journal
from zflipon.models import Checkpoint, load
from zflipon.progress import progress_bar
from zflipon.tracks.atomic import atomic_file, check_output_path, record_path
from zflipon.workflows.variants.alleles import REASONS, Pool
from zflipon.workflows.variants.records import Region, Survey, pools, survey
from zflipon.workflows.variants.scoring import RESULT_DTYPE, scores, seen
from zflipon.workflows.variants.windows import Geometry
from zflipon.workflows.variants.writing import INDEXED, index, kind_of, write_pool, writer

log = logging.getLogger("zflipon")

COUNTED = ("records", "written", "alleles", *REASONS)
"""What a run tells: records read and written, alleles scored, and those that are not, by reason."""


def variants(
    path: str | Path,
    genome_path: str | Path,
    output: str | Path,
    model: str,
    config: VariantConfig | None = None,
    predict: InferenceConfig | None = None,
    force: bool = False,
    quiet: bool = False,
    restart: bool = False,
    features: Path | None = None,
    missing_features: str = "error",
) -> dict:
    """Score every alternative allele of a VCF.

    Parameters
    ----------
    path : str or Path
        VCF (plain, gzip or bgzip) or BCF.
    genome_path : str or Path
        FASTA.
    output : str or Path
        Its extension picks the format (`zflipon.workflows.variants.EXTENSIONS`).
    model : str
        A bundled model's name, a folder, a file or a hub id.
    config : VariantConfig, optional
    predict : InferenceConfig, optional
    force : bool
        Replace an output that exists.
    quiet : bool
        No progress bar.
    restart : bool
        Throw away what a stopped run left, in the place of going on with it.
    features : Path, optional
        Table of the omics tracks that the model reads; see `zflipon.omics.features`.
    missing_features : str
        One of `zflipon.config.MISSING_FEATURES`.

    Returns
    -------
    dict
        Records read and written, alleles scored, and of the others how many for which reason. All but the first process
        of several know nothing of it and return zeros.

    Raises
    ------
    ZfliponError
        If an input, the output or the model cannot be used, or an unfinished run of this output differs from this one.
    Stopped
        If a signal asked to stop; what is done is kept.
    """
    started = time.time()
    path, output, config = Path(path), Path(output), config or VariantConfig()
    kind = kind_of(output)
    force |= Journal(unfinished(output)).was_finishing
    for claimed in (output, record_path(output)):
        check_output_path(claimed, force)
    state = process_state(predict.device if predict else "auto")
    with Genome(genome_path) as genome:
        regions = broadcast_from_main(
            state, lambda: [parse_region(text, genome.lengths) for text in config.regions]
        )
        found, header = _looked_at(state, path, genome, regions, kind)
        checkpoint = load(model)
        tracks = shared_tracks(state, checkpoint, features, genome.lengths, missing_features)
        predict = settled(predict or InferenceConfig(), checkpoint, state)
        predictor = Predictor(checkpoint, predict, features=tracks)
        shape = Geometry.of(predictor.metadata.window, predictor.metadata.margin, config)
        log.info("%s", _announcement(found, shape, checkpoint, predictor, state))
        told = dict.fromkeys(COUNTED, 0)
        key = _key(genome, found, config, shape, checkpoint, predictor)
        with (
            kept([output], state, key, restart) as journal,
            Stop(journal, found.pools).heard() as stop,
            _bar(
                found, broadcast_from_main(state, lambda: journal.done(range(found.pools))), state, quiet
            ) as bar,
        ):
            work = _Work(path, genome, regions, shape, predictor, journal, stop, bar)
            work.score(found.pools)
            if state.is_main_process:
                about = _about(genome, config, shape, checkpoint, predictor)
                with atomic_file(output) as part:
                    told = _write(part, kind, header, about, work, config.min_delta)
                    index(part, kind, found.farthest)
                    journal.finishing()
                record = record_of(started, state, checkpoint, predictor)
                record |= _told(path, genome, output, config, shape, found, told)
                close_record(record, started, predictor)
                write_record(output, record)
                journal.remove()
    return told


def _write(
    part: Path,
    kind: str,
    header: pysam.VariantHeader,
    about: dict[str, object],
    work: _Work,
    min_delta: float,
) -> dict[str, int]:
    """Write the output; return what is `COUNTED`."""
    told = dict.fromkeys(COUNTED, 0)
    with writer(part, kind, header, about) as write:
        for pool, rows in work.finished():
            write_pool(write, pool, rows, min_delta, told)
    return told


class _Work:
    """Pools of records: scored by the process that takes them, and read back in their order."""

    def __init__(
        self,
        path: Path,
        genome: Genome,
        regions: list[Region],
        shape: Geometry,
        predictor: Predictor,
        journal: Journal,
        stop: Stop,
        bar: tqdm,
    ):
        self._path, self._genome, self._regions = path, genome, regions
        self._shape, self._predictor = shape, predictor
        self._journal, self._stop, self._bar = journal, stop, bar

    def score(self, count: int) -> None:
        """Score the pools that this process takes; each lands in the journal."""
        taken = self._journal.claim(range(count))
        wanted = next(taken, None)
        for number, pool in enumerate(self._pools() if wanted is not None else ()):
            if number == wanted:
                self._stop.next()
                self._journal.put(number, self._scored(pool).tobytes())
                self._stop()
                wanted = next(taken, None)
            if wanted is None:
                break

    def finished(self) -> Iterator[tuple[list[pysam.VariantRecord], np.ndarray]]:
        """Yield each pool with what was found of its alleles, waiting for other processes."""
        at = 0
        for number, pool in enumerate(self._pools()):
            self._stop()
            self._journal.wait([number], self._stop)
            yield pool, np.frombuffer(self._journal.get(number), dtype=RESULT_DTYPE)
            at += len(pool)
            self._bar.update(max(0, at - self._bar.n))  # what others have scored

    def _pools(self) -> Iterator[list[pysam.VariantRecord]]:
        return pools(self._path, self._regions)

    def _scored(self, records: list[pysam.VariantRecord]) -> np.ndarray:
        alleles = Pool(self._genome, self._shape)
        for record in records:
            for alt in record.alts or ():
                alleles.add(record.contig, record.start, record.ref, alt)
        strands = 2 if self._predictor.both_strands else 1
        advance = self._counter(len(records), len(alleles.sequences) * strands)
        probabilities = self._predictor.predict_probabilities(
            alleles.sequences, seen(self._predictor, alleles), alleles.cores, advance
        )
        found = scores(alleles.pairs, probabilities)
        advance(0, last=True)
        return found

    def _counter(self, records: int, sequences: int) -> Callable[..., None]:
        """Return what counts sequences that were read, and moves the bar by as large a share of the records."""
        read = shown = 0

        def advance(more: int, last: bool = False) -> None:
            nonlocal read, shown
            read += more
            now = records if last else records * read // max(1, sequences)
            self._bar.update(now - shown)
            shown = now
            self._journal.alive()
            if not last:
                self._stop.in_flight(more, sequences)

        return advance


def _looked_at(
    state: PartialState, path: Path, genome: Genome, regions: list[Region], kind: str
) -> tuple[Survey, pysam.VariantHeader | None]:
    """Let the first process look at the VCF; the header stays with it, since headers do not travel."""
    headers = []

    def look() -> Survey:
        found, header = survey(path, genome, regions)
        if found.unsorted and kind in INDEXED:
            raise InputError(
                f"{path}: out of order at {found.unsorted}, so that the output could have no index; sort it (bcftools "
                "sort), or write .vcf or .tsv"
            )
        headers.append(header)
        return found

    found = broadcast_from_main(state, look)
    return found, headers[0] if headers else None


def _bar(found: Survey, done: set[int], state: PartialState, quiet: bool) -> tqdm:
    if done:
        log.info("going on: %d of %d runs of %d records are done", len(done), found.pools, RECORDS_PER_BATCH)
    before = min(len(done) * RECORDS_PER_BATCH, found.asked)
    hidden = quiet or not state.is_main_process
    return progress_bar("records", found.asked, before, hidden, logged=True, name="zflipon")


def _announcement(
    found: Survey, shape: Geometry, checkpoint: Checkpoint, predictor: Predictor, state: PartialState
) -> str:
    several = f", {state.num_processes} processes" if state.num_processes > 1 else ""
    return (
        f"{found.asked:,} records; {shape.flank} bases on either side of each allele, in windows of {shape.window} by "
        f"{checkpoint.path.name} ({predictor.device}{several})"
    )


def _key(
    genome: Genome,
    found: Survey,
    config: VariantConfig,
    shape: Geometry,
    checkpoint: Checkpoint,
    predictor: Predictor,
) -> dict[str, object]:
    """Return what the scores follow from; `min_delta` and the format do not touch them."""
    told = genome.path.stat()
    file = f"{genome.lengths} {told.st_size} {told.st_mtime_ns}"  # to read all of it would take longer than many a run
    return {
        "genome": sha256(file.encode()).hexdigest(),
        "records": found.digest,
        "regions": ",".join(config.regions) or "all",
        "flank": shape.flank,
        "longest allele": shape.longest,
        "shifts": config.shifts,
        "records a run": RECORDS_PER_BATCH,
        **key_of_model(checkpoint, predictor),
    }


def _about(
    genome: Genome, config: VariantConfig, shape: Geometry, checkpoint: Checkpoint, predictor: Predictor
) -> dict[str, object]:
    """Return what the output's header tells."""
    return {
        "version": __version__,
        "model": checkpoint.path.name,
        "sha256": checkpoint.sha256 or "none",
        "genome": genome.path.name,
        "flank": shape.flank,
        "shifts": config.shifts,
        "strands": "both" if predictor.both_strands else "forward",
    }


def _told(
    path: Path,
    genome: Genome,
    output: Path,
    config: VariantConfig,
    shape: Geometry,
    found: Survey,
    told: dict[str, int],
) -> dict[str, object]:
    """Return what the record tells of this verb alone."""
    return {
        "input": {"path": str(path.resolve()), "records": found.records, "sha256_of_alleles": found.digest},
        "genome": str(genome.path.resolve()),
        "variants": {**asdict(config), "regions": list(config.regions)},
        "geometry": asdict(shape),
        "counts": told,
        "outputs": [str(output)],
    }
