"""Where a track came from, by the record beside it, and whether it says what the same run would say today."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pysam

from zflipon.checksums import sha256_of
from zflipon.config import InferenceConfig, Selection
from zflipon.energetics.screen import screen_windows
from zflipon.errors import InputError, ModelError, ZfliponError, format_names
from zflipon.genome.fasta import Genome
from zflipon.genome.interval_files import read_bed_rows
from zflipon.genome.intervals import interval_mask, parse_region
from zflipon.genome.shards import make_plan
from zflipon.inference.genome_scan import ScanTask, scan_genome
from zflipon.inference.predictor import Predictor
from zflipon.models import Checkpoint, load
from zflipon.omics.features import FeatureTracks, open_features
from zflipon.tracks.atomic import INDEX_SUFFIXES, read_record, record_path
from zflipon.tracks.bigwig import BigWig
from zflipon.tracks.calling import SCALE, call_regions, dequantize, quantize
from zflipon.tracks.registry import BED, BIGWIG, require_format

STEPS = {"float32": 1, "bfloat16": 50, "float16": 20}
"""Precision → by how many steps of the last decimal a probability may differ: rounding, or what half precision does."""

Place = tuple[str, int, int]
"""Contig, start, end: 0-based half-open."""

_MEAN, _HIGHEST = 6, 7
"""Columns of a call's probabilities, after contig, start and end."""


def track_record(track: str | Path) -> dict:
    """Return the record of a track.

    Raises
    ------
    InputError
        If the track is missing, or no record of zflipon's lies beside it.
    """
    track = Path(track)
    if not track.is_file():
        raise InputError(f"{track}: no such file")
    record = read_record(track)
    if not record:
        raise InputError(
            f"{track}: no record {record_path(track).name} beside it, which zflipon writes; keep both together"
        )
    missing = [key for key in ("command", "model", "predict", "versions") if key not in record]
    if missing:
        raise InputError(
            f"{record_path(track)}: lacks {', '.join(missing)}; it is no record that zflipon writes"
        )
    return record


def compare_file(record: Mapping, track: str | Path) -> list[str]:
    """Say how a track is not the file that its record was written for; an empty list if it is, or none can tell."""
    told, track = record.get("file"), Path(track)
    if told is None:
        return []
    size = track.stat().st_size
    if size != told["bytes"]:
        return [f"changed since it was written: {size:,} bytes, recorded are {told['bytes']:,}"]
    if sha256_of(track) != told["sha256"]:
        return ["changed since it was written: as long as recorded, but its SHA-256 differs"]
    return []


def compare_genome(
    record: Mapping, genome: Genome, compared: Callable[[int], None] = lambda bases: None
) -> list[str]:
    """Say which contigs of a FASTA are not those that the track was made of; an empty list if all are.

    Contigs that the run left out are not looked at.

    Parameters
    ----------
    record : mapping
    genome : Genome
    compared : callable
        Called with the bases of each contig that has been read.
    """
    problems = []
    for contig, told in record.get("contigs", {}).items():
        if contig not in genome.lengths:
            problems.append(f"{contig}: not in {genome.path.name}")
        elif genome.lengths[contig] != told["length"]:
            problems.append(f"{contig}: {genome.lengths[contig]:,} bases, recorded are {told['length']:,}")
        elif genome.scan(contig, min_gap=1).md5 != told["md5"]:
            problems.append(f"{contig}: another sequence of the same length (MD5 differs)")
        compared(told["length"])
    return problems


@dataclass(frozen=True)
class Verdict:
    """What reading a locus again has shown.

    Attributes
    ----------
    region : str
    bases : int
        With a value in the new reading.
    calls : int or None
        Calls that touch the region; None of a track of values.
    largest : float
        Largest difference of a probability; of calls, of their mean or highest one.
    allowed : float
        Difference that may be.
    differing : int
        Bases that differ by more than may be, that have a value or a call in one only.
    notes : list of str
        What is not as it was: model, versions, device.
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
        """Whether no base differs by more than may be."""
        return self.differing == 0


def verify(
    track: str | Path,
    region: str,
    genome: str | Path | None = None,
    model: str | Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    progress: Callable[[int], None] = lambda bases: None,
) -> Verdict:
    """Read a locus again as the record says, and hold the track against it.

    Windows are those of the whole run, and so are strands, precision, screen and omics tracks.

    Parameters
    ----------
    track : str or Path
        bigWig, bedGraph or BED of annotate's, its record beside it.
    region : str
        ``chr:start-end``, 1-based and closed.
    genome : str or Path, optional
        FASTA, in the place of the recorded one.
    model : str or Path, optional
        In the place of the recorded one.
    device : str
    threads : int, optional
    progress : callable
        Called with the number of bases read since the last call.

    Raises
    ------
    InputError
        If there is no record, the FASTA is gone or another one, or the region holds no sequence of the run.
    ModelError
        If the model is not found.
    """
    track, record = Path(track), track_record(track)
    lacking = [key for key in ("genome", "contigs", "call") if key not in record]
    if lacking:
        raise InputError(
            f"{track}: only tracks of annotate's can be read again; the record has no {lacking[0]}"
        )
    kind = require_format(track)
    fasta = Path(genome or record["genome"])
    if not genome and not fasta.is_file():
        raise InputError(f"{fasta}: the recorded genome is not there; name it with --genome")
    with Genome(fasta) as source:
        place = parse_region(region, source.lengths)
        _same_contig(record, source, place[0])
        checkpoint = _model(record, model)
        told = record["predict"]
        config = InferenceConfig(None, told["precision"], device, threads, bool(told.get("both_strands")))
        tracks = _tracks(record, checkpoint, source)
        reading = _Reading(source, Predictor(checkpoint, config, features=tracks), record, progress)
        notes = list(_notes(record, reading.predictor, checkpoint, tracks))
        reading.asked(place)  # an error where it is nothing
        compare = _compare_calls if kind is BED else _compare_values
        return compare(track, region, place, reading, notes)


class _Reading:
    """Reads places of a genome as the recorded run did."""

    def __init__(
        self, genome: Genome, predictor: Predictor, record: Mapping, progress: Callable[[int], None]
    ):
        self.predictor, self.record, self.lengths = predictor, record, genome.lengths
        self._genome, self._progress = genome, progress
        self.steps = STEPS[str(predictor.dtype).removeprefix("torch.")]

    @property
    def allowed(self) -> float:
        """Difference of a probability that may be; half a step is for what floats add."""
        return (self.steps + 0.5) / SCALE

    def __call__(self, place: Place) -> np.ndarray:
        """Return probabilities as a track has them, float32 of shape (bases,): rounded, NaN without a value."""
        contig, start, end = place
        metadata, found = self.predictor.metadata, np.full(end - start, np.nan, dtype=np.float32)
        plan = make_plan(self._genome, Selection(regions=self.asked(place)), metadata.window, metadata.margin)
        stretches = [
            ScanTask(contig, shard.windows, self._read(contig, shard.windows), early_exit=True)
            for shard in plan.shards
        ]
        predicted = scan_genome(self.predictor, self._genome, stretches, self._progress)
        for shard, (_, values) in zip(plan.shards, predicted, strict=True):
            first = int(shard.windows["core_start"][0])
            inside = values[shard.start - first : shard.end - first]
            found[shard.start - start : shard.end - start] = dequantize(quantize(inside))
        return found

    def _read(self, contig: str, windows: np.ndarray) -> np.ndarray | None:
        """Return which windows a run that screened has read."""
        if not self.record.get("screen"):
            return None
        screen = self.predictor.metadata.screen
        return screen_windows(self._genome, contig, windows, screen, self.predictor.device)

    def asked(self, place: Place) -> tuple[str, ...]:
        """Return what the run was asked for of a place, as regions; raise `InputError` where it is nothing."""
        contig, start, end = place
        regions = self.record.get("regions")
        rows = [(contig, 0, self.lengths[contig])]
        if regions is not None:
            rows = [row for row in (parse_region(text, self.lengths) for text in regions) if row[0] == contig]
        cut = [(max(start, low), min(end, high)) for _, low, high in rows]
        asked = tuple(f"{contig}:{low + 1}-{high}" for low, high in cut if low < high)
        if not asked:
            raise InputError(
                f"{contig}:{start + 1:,}-{end:,}: the run did not read this; it was asked for {format_names(regions)}"
            )
        return asked


def _same_contig(record: Mapping, genome: Genome, contig: str) -> None:
    told = record["contigs"].get(contig)
    if told is None:
        raise InputError(
            f"{contig}: the run did not read this contig; it read {format_names(record['contigs'])}"
        )
    problems = compare_genome({"contigs": {contig: told}}, genome)
    if problems:
        raise InputError(f"{genome.path}: not the genome that the track was made of: {problems[0]}")


def _model(record: Mapping, model: str | Path | None) -> Checkpoint:
    """Load the model that is named, else the recorded one from where it was, else the bundled one of its name."""
    told = record["model"]
    failure: ZfliponError = ModelError("the record names no model")
    for name in filter(None, [model] if model else [told.get("path"), told.get("name")]):
        try:
            return load(name)
        except ModelError as error:
            failure = error
    raise ModelError(f"{failure}; name the track's model with --model")


def _tracks(record: Mapping, checkpoint: Checkpoint, genome: Genome) -> FeatureTracks | None:
    """Open the omics tracks that the run had."""
    if not checkpoint.metadata.features:
        return None
    given = {name: told["path"] for name, told in (record.get("features") or {}).items() if told}
    with tempfile.TemporaryDirectory(prefix="zflipon-") as folder:
        table = Path(folder) / "tracks.tsv"
        table.write_text("".join(f"{name}\t{path}\n" for name, path in given.items()), encoding="utf-8")
        return open_features(checkpoint.metadata.features, table if given else None, genome.lengths, "zero")


def _notes(
    record: Mapping, predictor: Predictor, checkpoint: Checkpoint, tracks: FeatureTracks | None
) -> Iterator[str]:
    """Say what is not as it was when the track was made."""
    told = record["model"].get("sha256")
    if checkpoint.sha256 != told:
        yield f"the model is not the track's: SHA-256 of the weights {checkpoint.sha256}, recorded is {told}"
    elif changed := _changed(record["model"], checkpoint.metadata.to_dict()):
        yield f"the model has the track's weights, and another {format_names(changed)}"
    for name, digest in (tracks.file_hashes if tracks else {}).items():
        if digest != record["features"][name]["sha256"]:
            yield f"{tracks.paths[name]}: another file than the track '{name}' of the run (SHA-256 differs)"
    device = record["predict"].get("device")
    if str(predictor.device) != device:
        yield f"read again on {predictor.device}, the track was made on {device}"
    for name, was in record["versions"].items():
        if name != "python" and (now := _version(name)) != was:
            yield f"the track was made with {name} {was}, this is {now}"


def _changed(told: Mapping, metadata: dict) -> list[str]:
    """Return which parts of a model's story are not as recorded, of those that its numbers follow from."""
    history = ("training", "quality", "versions")
    plain = json.loads(json.dumps(metadata))
    return [key for key, now in plain.items() if key in told and key not in history and told[key] != now]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _compare_values(track: Path, region: str, place: Place, reading: _Reading, notes: list[str]) -> Verdict:
    found, told = reading(place), _values(track, place, reading.lengths)
    _require_sequence(found, region)
    off = np.abs(told - found)
    differing = (np.isnan(told) != np.isnan(found)) | (off > reading.allowed)
    largest = float(np.nanmax(off)) if not np.isnan(off).all() else 0.0
    bases = int((~np.isnan(found)).sum())
    return Verdict(region, bases, None, largest, reading.steps / SCALE, int(differing.sum()), notes)


def _compare_calls(track: Path, region: str, place: Place, reading: _Reading, notes: list[str]) -> Verdict:
    """Hold calls against calls.

    Where the threshold decides by a hair, both answers are right: what is called at a threshold that is higher by
    what may be must be called, and nothing but what is called at one that is lower by it.
    """
    contig, start, end = place
    call, rows = reading.record["call"], list(_rows(track, place, reading.lengths))
    around = call["min_length"] + call["merge_gap"]  # calls are read whole, and what might have joined them
    low = max(0, min([start, *(row[0] for row in rows)]) - around)
    high = min(reading.lengths[contig], max([end, *(row[1] for row in rows)]) + around)
    found, inside = reading((contig, low, high)), slice(start - low, end - low)
    _require_sequence(found[inside], region)
    told = interval_mask(np.array([row[:2] for row in rows], dtype=np.int64), low, high)
    lowest, highest = (
        _called(found, low, call, min(1.0, call["threshold"] + step / SCALE))
        for step in (-reading.steps, reading.steps)
    )
    differing, largest = (told & ~lowest) | (highest & ~told), 0.0
    for first, last, fields in rows:
        off = _off(track, found[first - low : last - low], fields)
        largest = max(largest, off)
        if off > reading.allowed:
            differing[first - low : last - low] = True
    bases = int((~np.isnan(found[inside])).sum())
    allowed = reading.steps / SCALE
    return Verdict(region, bases, len(rows), largest, allowed, int(differing[inside].sum()), notes)


def _require_sequence(found: np.ndarray, region: str) -> None:
    if np.isnan(found).all():
        raise InputError(f"{region}: holds no sequence that the model reads; it is all N")


def _called(found: np.ndarray, start: int, call: Mapping, threshold: float) -> np.ndarray:
    """Mark the bases that are called at a threshold."""
    least = max(threshold, 1 / SCALE)
    calls = call_regions(quantize(found), start, least, call["min_length"], call["merge_gap"])
    return interval_mask(np.stack([calls["start"], calls["end"]], axis=1), start, start + len(found))


def _off(track: Path, values: np.ndarray, fields: Sequence[str]) -> float:
    """Return by how much a call's mean or highest probability is off; 0 where nothing can be read again."""
    try:
        mean, highest = float(fields[_MEAN]), float(fields[_HIGHEST])
    except (IndexError, ValueError):
        raise InputError(
            f"{track}: lacks the mean and highest probability of a call in its last columns, as annotate writes them"
        ) from None
    if np.isnan(values).all():
        return 0.0
    return max(
        abs(float(np.nanmean(values, dtype=np.float64)) - mean), abs(float(np.nanmax(values)) - highest)
    )


def _values(track: Path, place: Place, lengths: Mapping[str, int]) -> np.ndarray:
    """Return what a track says of a place: float32, shape (bases,), NaN where it says nothing."""
    contig, start, end = place
    told = np.full(end - start, np.nan, dtype=np.float32)
    if require_format(track) is not BIGWIG:
        for first, last, fields in _rows(track, place, lengths):
            told[max(0, first - start) : last - start] = _number(track, fields)
        return told
    with BigWig(track) as file:
        if file.lengths.get(contig) == lengths[contig]:
            told[:] = file.values(contig, start, end)
    return told


def _number(track: Path, fields: Sequence[str]) -> float:
    try:
        return float(fields[0])
    except (IndexError, ValueError):
        raise InputError(
            f"{track}: expected a probability in the fourth column, found {fields[:1]}"
        ) from None


def _rows(track: Path, place: Place, lengths: Mapping[str, int]) -> Iterator[tuple[int, int, Sequence[str]]]:
    """Yield the rows of a BED or bedGraph that touch a place, by its index if it has one: start, end, other fields."""
    contig, start, end = place
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
            f"{track}: cannot be read by its index ({error}); index it again, or remove that"
        ) from error
