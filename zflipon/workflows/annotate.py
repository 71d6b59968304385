"""Annotate a genome: FASTA → base probabilities → tracks.

Here a run is planned, started and finished; its shards are computed and written in
`zflipon.workflows.annotation_shards`, inference is in `zflipon.inference.genome_scan`, formats are in `zflipon.tracks`.

The shards do not depend on the number of processes. Each shard is computed by one process and stored in a journal. The
main process also writes the tracks, contig by contig as the shards arrive. A rerun after any kind of stop resumes and
ends with the same bytes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from zflipon.config import (
    DEFAULT_MODEL,
    GPU_SHARD_BASES,
    CallConfig,
    HeaderConfig,
    InferenceConfig,
    Selection,
)
from zflipon.genome.fasta import Genome
from zflipon.genome.shards import Part, make_plan
from zflipon.jobs.distributed import broadcast_from_main, process_state
from zflipon.jobs.job import Job, ShardProgress
from zflipon.jobs.outputs import check_outputs, require_distinct
from zflipon.jobs.signals import StopRequest
from zflipon.models import Checkpoint
from zflipon.tracks.atomic import check_output_path
from zflipon.tracks.base import STDOUT
from zflipon.tracks.outputs import TrackOutputs
from zflipon.tracks.registry import find_writer
from zflipon.workflows.annotation_outputs import outputs_of_scores, require_header_lines, resolve_scores
from zflipon.workflows.annotation_parts import check_part_outputs, write_part
from zflipon.workflows.annotation_run import AnnotationRun, resolve_calls, write_edges
from zflipon.workflows.annotation_shards import ShardPredictor, ShardWriter
from zflipon.workflows.domain import DomainMonitor
from zflipon.workflows.pilot import estimate_costs
from zflipon.workflows.session import FeatureFiles, Session, open_session
from zflipon.workflows.stored_shards import ContigWriter, encode_shard

log = logging.getLogger("zflipon")


def annotate(
    genome_path: str | Path,
    outputs: Sequence[str | Path],
    model: str | Path | Checkpoint = DEFAULT_MODEL,
    selection: Selection | None = None,
    call: CallConfig | None = None,
    settings: InferenceConfig | None = None,
    *,
    scores: Sequence[str] = ("probability",),
    headers: HeaderConfig | None = None,
    force: bool = False,
    dry_run: bool = False,
    restart: bool = False,
    screen: bool = False,
    features: str | Path | None = None,
    missing_features: str = "error",
    contig_aliases: str | Path | None = None,
    edges: str | Path | None = None,
    part: Part | None = None,
    calibration: str | Path | None = None,
    shard_bases: int | None = None,
    progress: Callable[[int, int], object] | None = None,
    stop: StopRequest | None = None,
    command: str = "zflipon.annotate()",
) -> dict:
    """Write the Z-DNA tracks of a genome.

    Parameters
    ----------
    genome_path : str or Path
        FASTA: plain, gzip or bgzip.
    outputs : sequence of str or Path
        Files, whose extensions choose the formats, or ``-`` for BED on standard output.
    model : str, Path or Checkpoint
        Name of a bundled model, folder, file or Hugging Face Hub id; or a loaded checkpoint.
    selection : Selection, optional
        Parts of the genome; everything by default.
    call : CallConfig, optional
        How scores become called intervals. A threshold is for one score; by default each score has its own.
    settings : InferenceConfig, optional
        Device, precision, batch size and strands.
    scores : sequence of str
        Of `zflipon.config.SCORES`; all come from one run of the model. With several, each output name gets the score
        before its extension: ``zdna.propensity.bw``. The propensity alone needs neither context nor omics tracks.
    headers : HeaderConfig, optional
        Header lines of text outputs; none by default.
    force : bool
        Replace existing outputs.
    dry_run : bool
        Plan the run, time a small part of it, and write nothing.
    restart : bool
        Discard the finished shards of an earlier run of the same outputs.
    screen : bool
        Read only windows that pass the model's screen (`zflipon.energetics.screen`). Bases of other windows get
        the probability 0 and no activity. The propensity is the same with and without.
    features : str or Path, optional
        Table of the omics tracks that the model reads; see `zflipon.omics.features`.
    missing_features : str
        One of `zflipon.config.MISSING_FEATURES`.
    contig_aliases : str or Path, optional
        Table of other names of contigs; see `zflipon.genome.names.read_aliases`.
    edges : str or Path, optional
        BED to write: bases nearer than the model's margin to the end of a contig or to a gap of N.
    part : Part, optional
        Compute this part only, and write a part file (``.zfp``) for `zflipon.workflows.merge` instead of tracks.
    calibration : str or Path, optional
        File of `zflipon.workflows.calibrate`, whose threshold and call settings are used for its score.
    shard_bases : int, optional
        Bases of a shard, the unit of work that survives a kill; by default as suits the device.
    progress : callable, optional
        Called with the bases finished since the last call, and with the bases of the whole run.
    stop : StopRequest, optional
        Lets another thread or a signal handler stop the run.
    command : str
        Command line for the record.

    Returns
    -------
    dict
        The run record, as in the JSON file of the first score's outputs; with `dry_run`, plan and estimate. Empty in
        all processes but the main one.

    Raises
    ------
    ZfliponError
        If an input, an output or the model cannot be used, or the outputs have an unfinished run with other settings.
    Stopped
        If the run was asked to stop. Finished shards are saved.
    """
    started, settings, selection = time.time(), settings or InferenceConfig(), selection or Selection()
    check_part_outputs(outputs, part)
    for output in outputs if part is None else ():
        find_writer(output)
    headers = headers or HeaderConfig()
    require_header_lines(outputs, headers)
    scores = resolve_scores(scores)
    named = outputs_of_scores(outputs, scores) if part is None else {scores[0]: list(outputs)}
    files = [Path(output) for each in named.values() for output in each if str(output) != STDOUT]
    inputs = [
        path for path in (genome_path, selection.regions_bed, features, calibration) if path is not None
    ]
    check_outputs(files, inputs, force)
    if edges is not None:
        check_output_path(edges, force)
        require_distinct([Path(edges)], [*inputs, *files])
    state = process_state(settings.device)
    with Genome(genome_path, contig_aliases) as genome:
        tracks = FeatureFiles(features, missing_features)
        if scores == ("propensity",):
            tracks = FeatureFiles(None, "zero")
        session = open_session(state, model, settings, tracks, genome.lengths)
        if session.predictor.features is not None:
            require_distinct(files, session.predictor.features.paths.values())
        session.predictor.require_scores(scores)
        calls, calibrated = resolve_calls(call or CallConfig(), scores, session.checkpoint, calibration)
        run = replace(
            _plan(genome, session, selection, (calls, named), screen, shard_bases),
            headers=headers,
            part=part,
            calibration=calibrated,
        )
        log.info("%s", run.describe())
        _warn(run)
        record = run.record(command, started) | {"domain": run.domain_record()}
        if dry_run:
            record |= run.score_record(scores[0])
            record["estimate"] = estimate_costs(genome, run, encode_shard)
            return record if state.is_main_process else {}
        with Job(files, state, stop) as job:
            job.open_journal(run.journal_key(), len(run.shards), restart)
            totals = _compute(run, job, progress, lambda: record | session.resources(started))
            if not state.is_main_process:
                return {}
            _warn(run)
            record |= session.resources(started) | {"domain": run.domain_record()}
            details = {
                score: run.score_record(score) | ({"tracks": totals[score]} if score in totals else {})
                for score in scores
            }
            job.finish(record, {Path(name): details[score] for score in named for name in named[score]})
        if edges is not None:
            write_edges(run.plan, edges)
    return record | details[scores[0]]


# ---- plan ------------------------------------------------------------------------------------------------


def _plan(
    genome: Genome,
    session: Session,
    selection: Selection,
    scores: tuple[dict[str, CallConfig], dict[str, list[str | Path]]],
    screen: bool,
    shard_bases: int | None,
) -> AnnotationRun:
    """Plan the run; `scores` has the calls and the outputs of each score, see `AnnotationRun`."""
    metadata = session.checkpoint.metadata
    if shard_bases is None and session.predictor.device.type == "cuda":
        shard_bases = GPU_SHARD_BASES
    monitor, visit = None, lambda sequence: None
    if metadata.domain is not None:
        probability = scores[0].get("probability", CallConfig())
        whole_contigs = not (selection.regions or selection.regions_bed)
        threshold = metadata.threshold if probability.threshold is None else probability.threshold
        monitor = DomainMonitor(metadata.domain, threshold, sum(genome.lengths.values()), whole_contigs)
        visit = monitor.add_sequence
    plan = broadcast_from_main(
        session.state,
        lambda: make_plan(genome, selection, metadata.window, metadata.margin, shard_bases, visit),
    )
    run = AnnotationRun(genome, session, plan, *scores, screen, monitor=monitor)
    if screen and run.scores == ("propensity",):
        log.warning("the screen is not used, because the propensity is computed at every base")
        return replace(run, screen=False)
    return run


def _warn(run: AnnotationRun) -> None:
    """Log a warning if the input is outside the domain of the model, in the main process."""
    message = run.check_domain() if run.session.state.is_main_process else None
    if message is not None:
        log.warning("%s", message)


# ---- compute and write -----------------------------------------------------------------------------------


def _compute(
    run: AnnotationRun,
    job: Job,
    progress: Callable[[int, int], object] | None,
    make_record: Callable[[], dict],
) -> dict[str, dict[str, int]]:
    """Compute the shards that this process claims; in the main process, write the tracks or the part file.

    Returns
    -------
    dict of str to dict of str to int
        Totals of each score, see `ContigWriter`; empty for a part, and in all processes but the main one.
    """
    sizes = [shard.bases for shard in run.shards]
    if not run.session.state.is_main_process:
        ShardPredictor(run, job, ShardProgress(None, sizes, job.resumed)).run(lambda: None)
        return {}
    shard_progress = ShardProgress(progress, sizes, job.resumed)
    if run.part is not None:
        ShardPredictor(run, job, shard_progress).run(lambda: None)
        write_part(run, run.part, job, shard_progress, make_record())
        return {}
    with ExitStack() as stack:
        tracks = {
            score: stack.enter_context(TrackOutputs(outputs, run.genome.lengths, run.describe_track(score)))
            for score, outputs in run.outputs.items()
        }
        contig_writer = ContigWriter(tracks, run.calls, sizes, job.journal, run.monitor_scores)
        writer = ShardWriter(contig_writer, run.contigs, job.journal)
        ShardPredictor(run, job, shard_progress).run(writer.write_finished_contigs)
        with run.session.predictor.timer("write"):
            writer.write_all(job.check_stop, shard_progress)
            for each in tracks.values():
                each.finish()
            job.publish()
            for each in tracks.values():
                each.commit()
    return contig_writer.totals
