"""What an annotation computes and writes: the plan, the scores, their thresholds and outputs, and the record.

Shards are computed and written in `zflipon.workflows.annotation_shards`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np

from zflipon.config import ACTIVITY_THRESHOLD, SCORES, CallConfig, HeaderConfig
from zflipon.errors import InputError, format_count
from zflipon.genome.digests import sequence_collection
from zflipon.genome.fasta import Genome
from zflipon.genome.shards import Part, Plan, Shard, StoredSpan, stored_spans
from zflipon.models import Checkpoint, ModelMetadata
from zflipon.tracks.atomic import atomic_file
from zflipon.tracks.description import CALL_PREFIX, TrackDescription
from zflipon.workflows.calibration_file import apply_calibration
from zflipon.workflows.domain import DomainMonitor, choose_alternative, describe_alarm
from zflipon.workflows.session import Session


def write_edges(plan: Plan, path: str | Path) -> None:
    """Write the bases without full context (`Plan.edges`) as BED."""
    with atomic_file(path) as part, open(part, "w", encoding="utf-8") as file:
        for contig, rows in plan.edges().items():
            file.writelines(f"{contig}\t{start}\t{end}\n" for start, end in rows.tolist())


def default_threshold(metadata: ModelMetadata, score: str) -> float:
    """Return the value of a score from which a base is called."""
    thresholds = {"probability": metadata.threshold, "propensity": metadata.propensity_threshold}
    return thresholds.get(score, ACTIVITY_THRESHOLD)


def calls_of_scores(
    call: CallConfig, scores: Sequence[str], metadata: ModelMetadata
) -> dict[str, CallConfig]:
    """Return how the bases of each score are called.

    Raises
    ------
    InputError
        If one threshold is given for several scores.
    """
    if call.threshold is None:
        return {score: replace(call, threshold=default_threshold(metadata, score)) for score in scores}
    if len(scores) > 1:
        raise InputError(
            f"a threshold is for one score, but {len(scores)} are requested; leave it out to use each score's own, "
            "or request one score"
        )
    return {scores[0]: call}


def resolve_calls(
    call: CallConfig, scores: Sequence[str], checkpoint: Checkpoint, calibration: str | Path | None
) -> tuple[dict[str, CallConfig], dict[str, dict]]:
    """Return how the bases of each score are called, and score → the calibration of its threshold, for a record.

    Raises
    ------
    InputError
        As `calls_of_scores` and `zflipon.workflows.calibration_file.apply_calibration`.
    """
    if calibration is None:
        return calls_of_scores(call, scores, checkpoint.metadata), {}
    calls = calls_of_scores(replace(call, threshold=None), scores, checkpoint.metadata)
    calls, calibrated = apply_calibration(Path(calibration), calls, call, checkpoint)
    return calls, {calibrated.score: calibrated.to_record(Path(calibration))}


@dataclass(frozen=True)
class AnnotationRun:
    """Everything that determines the tracks.

    Attributes
    ----------
    genome : Genome
    session : Session
    plan : Plan
    calls : dict of str to CallConfig
        Score → how its bases are called.
    outputs : dict of str to list of (str or Path)
        Score → its files.
    screen : bool
        Whether the model reads only windows that pass the screen.
    headers : HeaderConfig
        Header lines of text outputs.
    part : Part, optional
        The part that is computed; everything by default.
    monitor : DomainMonitor or None
        Compares the input with the training data; None if the metadata of the model do not describe them.
    calibration : dict of str to dict
        Score → the calibration of its threshold, for the record.
    """

    genome: Genome
    session: Session
    plan: Plan
    calls: dict[str, CallConfig]
    outputs: dict[str, list[str | Path]]
    screen: bool
    headers: HeaderConfig = field(default_factory=HeaderConfig)
    part: Part | None = None
    monitor: DomainMonitor | None = None
    calibration: dict[str, dict] = field(default_factory=dict)

    @cached_property
    def shards(self) -> list[Shard]:
        """The shards that are computed, those of the part if there is one."""
        shards = self.plan.shards
        return shards if self.part is None else [shards[number] for number in self.plan.part(self.part)]

    @property
    def contigs(self) -> dict[str, list[StoredSpan]]:
        """Contig → where its values are stored, in genome order."""
        spans = [[(span.contig, span.start, span.end) for span in shard.spans] for shard in self.plan.shards]
        return stored_spans(list(self.plan.md5), spans)

    @property
    def scores(self) -> tuple[str, ...]:
        """The scores that are computed."""
        return tuple(self.calls)

    def describe(self) -> str:
        """Return the extent of the run, the model and the device in one line, for a log."""
        plan = self.plan
        extent = f"{format_count(plan.bases, 'base')} on {format_count(len(plan.md5), 'contig')}"
        return (
            f"{extent} and {plan.requested_bases - plan.bases:,} in gaps of N; "
            f"{format_count(plan.windows, 'window')} of {self.session.checkpoint.metadata.window} bases, "
            f"{self.session.describe()}"
        )

    def key(self) -> dict[str, object]:
        """Return the settings that determine the stored scores. Calling and formats do not."""
        lengths, digest = self.genome.lengths, sha256()
        for name, md5 in self.plan.md5.items():
            digest.update(f"{name} {lengths[name]} {md5}\n".encode())
        return {
            "genome": digest.hexdigest(),
            "regions": self.plan.digest(),
            **self.session.key(),
            "screen": self._screen() or "none",
            "scores": ", ".join(self.scores),
        }

    def journal_key(self) -> dict[str, object]:
        """Return the key of the journal: the settings, and the part."""
        return self.key() if self.part is None else {**self.key(), "part": str(self.part)}

    def record(self, command: str, started: float) -> dict:
        """Return what all files of the run have in common in their records; see `Session.record`."""
        plan, lengths = self.plan, self.genome.lengths
        return {
            **self.session.record(command, started),
            "genome": str(self.genome.path.resolve()),
            "contigs": {
                name: {"length": lengths[name], "md5": md5, "refget": plan.refget[name]}
                for name, md5 in plan.md5.items()
            },
            "sequence_collection": sequence_collection(plan.refget),
            "regions": _regions(plan, self.genome),
            "bases": plan.bases,
            "bases_in_gaps": plan.requested_bases - plan.bases,
            "bases_without_full_context": sum(
                int((rows[:, 1] - rows[:, 0]).sum()) for rows in plan.edges().values()
            ),
            "windows": plan.windows,
            "shards": len(plan.shards),
            "screen": self._screen(),
            "outputs": [str(output) for outputs in self.outputs.values() for output in outputs],
            "scores": {
                score: [str(output) for output in self.outputs.get(score, ())] for score in self.scores
            },
            **({} if self.part is None else {"part": str(self.part)}),
        }

    def score_record(self, score: str) -> dict:
        """Return what the record of a file has on its score."""
        description = self.describe_track(score)
        return {
            "score": score,
            "label": description.label,
            "structure": self.session.checkpoint.module.structure.name,
            "call": asdict(self.calls[score]),
            "calibration": self.calibration.get(score),
            "call_prefix": description.call_prefix,
        }

    def describe_track(self, score: str) -> TrackDescription:
        """Return what the files of a score state about themselves."""
        checkpoint = self.session.checkpoint
        name = checkpoint.name if score == SCORES[0] else f"{checkpoint.name} {score}"
        label = checkpoint.module.structure.score_label(score)
        return TrackDescription(
            name, label, self.calls[score].threshold, self._call_prefix(score), **asdict(self.headers)
        )

    def _call_prefix(self, score: str) -> str:
        """Return a prefix that runs share only if they have the same model, inputs, score and calls."""
        session = self.session.key()
        settings = [session[key] for key in ("model", "strands", "features")]
        settings += [score, self.calls[score].threshold, self.calls[score], self._screen()]
        return CALL_PREFIX + sha256(repr(settings).encode()).hexdigest()[:6]

    def check_domain(self) -> str | None:
        """Return a warning if the input is unlike the training data, once in a run, and only if it matters."""
        if self.monitor is None or set(self.scores) == {"propensity"}:  # valid in any organism
            return None
        report = self.monitor.alarm()
        if report is None:
            return None
        alternative = choose_alternative(self.session.predictor.decoder.decoding.has_factors)
        return describe_alarm(report, self.genome.path, self.session.checkpoint.name, alternative)

    def monitor_scores(self, contig: str, score: str, values: np.ndarray) -> None:
        """Count the scores of a contig, to compare them with those on the training data."""
        if self.monitor is not None and score == SCORES[0]:
            self.monitor.add_scores(values, self.genome.lengths[contig])

    def domain_record(self) -> dict | None:
        """Return how the input compares with the training data; None if the model does not describe them."""
        return None if self.monitor is None else self.monitor.report().to_dict()

    def _screen(self) -> dict | None:
        return asdict(self.session.checkpoint.metadata.screen) if self.screen else None


def _regions(plan: Plan, genome: Genome) -> list[str] | None:
    """Return the selected regions in samtools syntax, None if whole contigs are selected."""
    requested = plan.requested.items()
    if all(intervals.tolist() == [[0, genome.lengths[contig]]] for contig, intervals in requested):
        return None
    return [f"{contig}:{start + 1}-{end}" for contig, intervals in requested for start, end in intervals]
