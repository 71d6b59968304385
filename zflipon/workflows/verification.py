"""Predict a region again as the record of a track says, and compare the prediction with the track.

Reading and comparing records is in `zflipon.workflows.provenance`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pysam

from zflipon.config import InferenceConfig, Selection
from zflipon.energetics.screen import screen_windows
from zflipon.errors import InputError, ModelError, ZfliponError, format_names
from zflipon.genome.fasta import Genome
from zflipon.genome.interval_files import read_bed_rows
from zflipon.genome.intervals import interval_mask, parse_region
from zflipon.genome.shards import make_plan
from zflipon.inference.genome_scan import scan_scores
from zflipon.inference.predictor import Predictor
from zflipon.inference.scan_group import ScanTask
from zflipon.models import Checkpoint, load
from zflipon.omics.features import FeatureTracks, open_features
from zflipon.tracks.atomic import INDEX_SUFFIXES
from zflipon.tracks.bigwig import BigWig
from zflipon.tracks.calling import SCALE, call_regions, dequantize, quantize
from zflipon.tracks.registry import BED, BIGWIG, VERIFIABLE, list_names, require_format
from zflipon.workflows.provenance import compare_genome, load_track_record

TOLERANCE_STEPS = {"float32": 1, "bfloat16": 50, "float16": 20, "int8": 50}
"""Precision → allowed difference of a probability, in steps of its last decimal: rounding, or lower precision."""

Interval = tuple[str, int, int]
"""Contig, start, end: 0-based half-open."""

HISTORY = ("training", "quality", "versions", "domain")
"""Sections of the metadata of a model from which no prediction follows."""

_CALL_SETTINGS = ("threshold", "min_length", "merge_gap")

_SCORE, _MEAN, _HIGHEST = 1, 6, 7
"""Columns of the score, the mean and the highest probability of a call, counted after contig, start and end."""


@dataclass(frozen=True)
class Verification:
    """Comparison of a track with a new prediction.

    Attributes
    ----------
    region : str
    bases : int
        Bases with a value in the new prediction.
    calls : int or None
        Calls that overlap the region; None for a track of values.
    largest : float
        Largest difference of a probability; for calls, of their mean or highest probability.
    allowed : float
        Allowed difference.
    differing : int
        Bases that differ by more than allowed, or that have a value or a call in only one of the two.
    notes : list of str
        Differences of model, versions and device.
    """

    region: str
    bases: int
    calls: int | None
    largest: float
    allowed: float
    differing: int
    notes: list[str]

    @property
    def agrees(self) -> bool:
        """Whether no base differs by more than allowed."""
        return self.differing == 0


def verify(
    track: str | Path,
    region: str,
    genome: str | Path | None = None,
    model: str | Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    progress: Callable[[int], object] = lambda bases: None,
) -> Verification:
    """Predict a region again, and compare the prediction with a track.

    Windows, strands, precision, screen and omics tracks are those of the recorded run.

    Parameters
    ----------
    track : str or Path
        bigWig, bedGraph or BED of ``zflipon annotate``, with its record in the same folder.
    region : str
        ``chr:start-end``, 1-based and closed.
    genome : str or Path, optional
        FASTA; the recorded one by default.
    model : str or Path, optional
        The recorded one by default.
    device : str
    threads : int, optional
    progress : callable
        Called with the number of bases that were just predicted.

    Raises
    ------
    InputError
        If there is no record, the FASTA is missing or differs, or the region holds no sequence of the run.
    ModelError
        If the model is not found.
    """
    track, record = Path(track), load_track_record(track)
    missing = [section for section in ("genome", "contigs", "call") if section not in record]
    missing += [f"call.{name}" for name in _CALL_SETTINGS if record.get("call", {}).get(name) is None]
    if missing:
        raise InputError(f"{track}: only tracks of annotate can be verified; the record has no {missing[0]}")
    track_format = require_format(track)
    if track_format not in VERIFIABLE:
        raise InputError(
            f"{track}: {track_format.name} cannot be verified; give {list_names(VERIFIABLE)} of the run"
        )
    fasta = Path(genome or record["genome"])
    if not genome and not fasta.is_file():
        raise InputError(f"{fasta}: the recorded genome is missing; give its place with --genome")
    with Genome(fasta) as source:
        interval = parse_region(region, source.lengths)
        _require_same_contig(record, source, interval[0])
        checkpoint = load_recorded_model(record, model)
        recorded = record["predict"]
        both_strands = bool(recorded.get("both_strands"))
        config = InferenceConfig(None, recorded["precision"], device, threads, both_strands)
        tracks = _open_tracks(record, checkpoint, source)
        run = _RecordedRun(source, Predictor(checkpoint, config, features=tracks), record, progress)
        notes = list(_list_differences(record, run.predictor, checkpoint, tracks))
        run.annotated_regions(interval)  # raises without any
        compare = _compare_calls if track_format is BED else _compare_values
        return compare(track, region, interval, run, notes)


class _RecordedRun:
    """Predicts intervals of a genome as the recorded run did."""

    def __init__(
        self, genome: Genome, predictor: Predictor, record: Mapping, progress: Callable[[int], object]
    ):
        self.predictor, self.record, self.lengths = predictor, record, genome.lengths
        self._genome, self._progress = genome, progress
        self.tolerance_steps = TOLERANCE_STEPS[str(predictor.dtype).removeprefix("torch.")]

    @property
    def tolerance(self) -> float:
        """Allowed difference of a probability; the half step is for float rounding."""
        return (self.tolerance_steps + 0.5) / SCALE

    def predict(self, interval: Interval) -> np.ndarray:
        """Return the recorded score as in a track: float32, shape (bases,), rounded; NaN without a value."""
        contig, start, end = interval
        metadata = self.predictor.metadata
        selection = Selection(regions=self.annotated_regions(interval))
        plan = make_plan(self._genome, selection, metadata.window, metadata.margin)
        tasks = [
            ScanTask(contig, span.windows, self._screened_windows(contig, span.windows), early_exit=True)
            for span in plan.spans
        ]
        probabilities = np.full(end - start, np.nan, dtype=np.float32)
        score = self.record.get("score", "probability")  # records of earlier versions have none
        results = scan_scores(self.predictor, self._genome, tasks, (score,), self._progress)
        for span, (_, (values,)) in zip(plan.spans, results, strict=True):
            first = int(span.windows["core_start"][0])
            inside = values[span.start - first : span.end - first]
            probabilities[span.start - start : span.end - start] = dequantize(quantize(inside))
        return probabilities

    def _screened_windows(self, contig: str, windows: np.ndarray) -> np.ndarray | None:
        """Return which windows pass the screen; None if the recorded run had no screen."""
        if not self.record.get("screen"):
            return None
        screen = self.predictor.metadata.screen
        return screen_windows(self._genome, contig, windows, screen, self.predictor.device)

    def annotated_regions(self, interval: Interval) -> tuple[str, ...]:
        """Return the parts of an interval that the recorded run annotated; raise `InputError` without any."""
        contig, start, end = interval
        regions = self.record.get("regions")
        rows = [(contig, 0, self.lengths[contig])]
        if regions is not None:
            rows = [row for row in (parse_region(text, self.lengths) for text in regions) if row[0] == contig]
        overlaps = [(max(start, low), min(end, high)) for _, low, high in rows]
        annotated = tuple(f"{contig}:{low + 1}-{high}" for low, high in overlaps if low < high)
        if not annotated:
            names = format_names(regions or ())
            raise InputError(
                f"{contig}:{start + 1:,}-{end:,}: not annotated by the run; its regions are {names}"
            )
        return annotated


def _require_same_contig(record: Mapping, genome: Genome, contig: str) -> None:
    recorded = record["contigs"].get(contig)
    if recorded is None:
        names = format_names(record["contigs"])
        raise InputError(f"{contig}: the run did not annotate this contig; it annotated {names}")
    problems = compare_genome({"contigs": {contig: recorded}}, genome)
    if problems:
        raise InputError(
            f"{genome.path}: not the genome of the track: {problems[0]}; give the right one with --genome"
        )


def load_recorded_model(record: Mapping, model: str | Path | None) -> Checkpoint:
    """Load the given model; else the recorded one, by path and then by name. Raise `ModelError` without any."""
    recorded = record["model"]
    failure: ZfliponError = ModelError("the record names no model")
    for name in filter(None, [model] if model else [recorded.get("path"), recorded.get("name")]):
        try:
            return load(name)
        except ModelError as error:
            failure = error
    raise ModelError(f"{failure}; give the model of the track with --model")


def _open_tracks(record: Mapping, checkpoint: Checkpoint, genome: Genome) -> FeatureTracks | None:
    """Open the omics tracks of the recorded run."""
    if not checkpoint.metadata.features:
        return None
    paths = {name: file["path"] for name, file in (record.get("features") or {}).items() if file}
    with tempfile.TemporaryDirectory(prefix="zflipon-") as folder:
        table = Path(folder) / "tracks.tsv"
        table.write_text("".join(f"{name}\t{path}\n" for name, path in paths.items()), encoding="utf-8")
        return open_features(checkpoint.metadata.features, table if paths else None, genome.lengths, "zero")


def _list_differences(
    record: Mapping, predictor: Predictor, checkpoint: Checkpoint, tracks: FeatureTracks | None
) -> Iterator[str]:
    """Yield how model, omics tracks, device and versions differ from the recorded ones."""
    sha256 = record["model"].get("sha256")
    if checkpoint.sha256 != sha256:
        yield f"another model: SHA-256 of the weights {checkpoint.sha256}, recorded is {sha256}"
    elif changed := _changed_metadata(record["model"], checkpoint.metadata.to_dict()):
        yield f"the model has the recorded weights, but another {format_names(changed)}"
    if tracks is not None:
        for name, digest in tracks.file_hashes.items():
            if digest != record["features"][name]["sha256"]:
                yield f"{tracks.paths[name]}: not the recorded file of the track '{name}' (SHA-256 differs)"
    device = record["predict"].get("device")
    if str(predictor.device) != device:
        yield f"predicted on {predictor.device}, the track on {device}"
    for name, recorded in record["versions"].items():
        if name != "python" and (installed := _installed_version(name)) != recorded:
            yield f"the track was made with {name} {recorded}, installed is {installed}"


def _changed_metadata(recorded: Mapping, metadata: dict) -> list[str]:
    """Return the recorded sections of the metadata that differ, without `HISTORY`."""
    current = json.loads(json.dumps(metadata))
    return [
        key
        for key, value in current.items()
        if key in recorded and key not in HISTORY and recorded[key] != value
    ]


def _installed_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _compare_values(
    track: Path, region: str, interval: Interval, run: _RecordedRun, notes: list[str]
) -> Verification:
    predicted, values = run.predict(interval), _read_values(track, interval, run.lengths)
    _require_sequence(predicted, region)
    difference = np.abs(values - predicted)
    differing = (np.isnan(values) != np.isnan(predicted)) | (difference > run.tolerance)
    largest = float(np.nanmax(difference)) if not np.isnan(difference).all() else 0.0
    bases = int((~np.isnan(predicted)).sum())
    allowed = run.tolerance_steps / SCALE
    return Verification(region, bases, None, largest, allowed, int(differing.sum()), notes)


def _compare_calls(
    track: Path, region: str, interval: Interval, run: _RecordedRun, notes: list[str]
) -> Verification:
    """Compare calls with new calls.

    Probabilities near the threshold may fall on either side of it. So bases must be called that are called at the
    threshold plus the tolerance, and no bases but those that are called at the threshold minus the tolerance.
    """
    contig, start, end = interval
    call, rows = run.record["call"], list(_read_rows(track, interval, run.lengths))
    reach = (
        call["min_length"] + call["merge_gap"]
    )  # calls are compared whole, with what may be merged into them
    low = max(0, min([start, *(row[0] for row in rows)]) - reach)
    high = min(run.lengths[contig], max([end, *(row[1] for row in rows)]) + reach)
    predicted, inside = run.predict((contig, low, high)), slice(start - low, end - low)
    _require_sequence(predicted[inside], region)
    called = interval_mask(np.array([row[:2] for row in rows], dtype=np.int64), low, high)
    most, fewest = (
        _called_bases(predicted, low, call, min(1.0, call["threshold"] + step / SCALE))
        for step in (-run.tolerance_steps, run.tolerance_steps)
    )
    differing, largest = (called & ~most) | (fewest & ~called), 0.0
    for first, last, fields in rows:
        difference = _call_difference(track, predicted[first - low : last - low], fields)
        largest = max(largest, difference)
        if difference > run.tolerance:
            differing[first - low : last - low] = True
    bases = int((~np.isnan(predicted[inside])).sum())
    allowed = run.tolerance_steps / SCALE
    return Verification(region, bases, len(rows), largest, allowed, int(differing[inside].sum()), notes)


def _require_sequence(predicted: np.ndarray, region: str) -> None:
    if np.isnan(predicted).all():
        raise InputError(f"{region}: the region holds no sequence, only N")


def _called_bases(predicted: np.ndarray, start: int, call: Mapping, threshold: float) -> np.ndarray:
    """Return which bases are called at a threshold: bool, shape (bases,)."""
    least = max(threshold, 1 / SCALE)
    calls = call_regions(quantize(predicted), start, least, call["min_length"], call["merge_gap"])
    return interval_mask(np.stack([calls["start"], calls["end"]], axis=1), start, start + len(predicted))


def _call_difference(track: Path, values: np.ndarray, fields: Sequence[str]) -> float:
    """Return the difference of the mean or highest probability of a call; 0 if it has no predicted base."""
    predicted = (
        np.nan if np.isnan(values).all() else (np.nanmean(values, dtype=np.float64), np.nanmax(values))
    )
    try:
        if len(fields) < _MEAN:
            raise ValueError("no scores")
        if len(fields) == _MEAN:  # with a track line: the mean in thousandths is all that is written
            recorded, predicted = np.array(float(fields[_SCORE]) / SCALE), np.ravel(predicted)[0]
        else:
            recorded = np.array([float(fields[_MEAN]), float(fields[_HIGHEST])])
    except (IndexError, ValueError):
        raise InputError(
            f"{track}: expected the mean and highest probability of each call in the last columns, as annotate writes "
            "them"
        ) from None
    return float(np.nan_to_num(np.abs(np.asarray(predicted) - recorded)).max())


def _read_values(track: Path, interval: Interval, lengths: Mapping[str, int]) -> np.ndarray:
    """Return the values of a bigWig or bedGraph: float32, shape (bases,), NaN without a value."""
    contig, start, end = interval
    values = np.full(end - start, np.nan, dtype=np.float32)
    if require_format(track) is not BIGWIG:
        for first, last, fields in _read_rows(track, interval, lengths):
            values[max(0, first - start) : last - start] = _parse_probability(track, fields)
        return values
    with BigWig(track) as file:
        if file.lengths.get(contig) == lengths[contig]:
            values[:] = file.values(contig, start, end)
    return values


def _parse_probability(track: Path, fields: Sequence[str]) -> float:
    try:
        return float(fields[0])
    except (IndexError, ValueError):
        raise InputError(
            f"{track}: expected a probability in the fourth column, found {fields[:1]}"
        ) from None


def _read_rows(
    track: Path, interval: Interval, lengths: Mapping[str, int]
) -> Iterator[tuple[int, int, Sequence[str]]]:
    """Yield start, end and other fields of the rows of a BED or bedGraph that overlap an interval, by index if any."""
    contig, start, end = interval
    if not any(track.with_name(track.name + suffix).is_file() for suffix in INDEX_SUFFIXES):
        for name, first, last, fields in read_bed_rows(track, lengths, "rows"):
            if name == contig and first < end and last > start:
                yield first, last, fields
        return
    try:
        with pysam.TabixFile(str(track)) as file:
            for line in file.fetch(contig, start, end) if contig in file.contigs else ():
                _, first, last, *fields = line.split("\t")
                yield int(first), int(last), fields
    except (OSError, ValueError) as error:
        raise InputError(
            f"{track}: cannot be read by its index ({error}); create the index again, or delete it"
        ) from error
