"""Where a track came from, by the record beside it, and whether it says what the same run would say today."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zflipon.config import PredictConfig, Selection
from zflipon.errors import InputError, ModelError, ZfliponError
from zflipon.features import FeatureTracks, open_features
from zflipon.genome import Genome
from zflipon.intervals import Intervals, parse_region, read_bed
from zflipon.models import Checkpoint, load
from zflipon.outputs import read_record, sidecar
from zflipon.predict import Predictor
from zflipon.readers import BedTrack, open_track
from zflipon.regions import SCALE, ContigTrack, call_track, from_decimals, to_decimals
from zflipon.screen import windows_worth_reading
from zflipon.shards import make_plan
from zflipon.stretches import Stretch, predict_stretches

TOLERANCE = {"float32": 1.5 / SCALE, "bfloat16": 0.05, "float16": 0.02}
"""Precision → by how much a probability may differ: the last decimal written, or what half precision leaves open."""


def record_of(track: str | Path) -> dict:
    """Return the record of a track.

    Raises
    ------
    InputError
        If the track is missing, or no record of annotate's lies beside it.
    """
    track = Path(track)
    if not track.is_file():
        raise InputError(f"{track}: no such file")
    record = read_record(track)
    if not record:
        raise InputError(
            f"{track}: no record {sidecar(track).name} beside it, which annotate writes; keep both together"
        )
    missing = [key for key in ("command", "model", "contigs", "predict", "call") if key not in record]
    if missing:
        raise InputError(f"{sidecar(track)}: lacks {', '.join(missing)}; it is not of a track of annotate's")
    return record


def compare_genome(record: Mapping, genome: Genome) -> list[str]:
    """Say which contigs of a FASTA are not those that the track was made of; an empty list if all are.

    Contigs that the run left out are not looked at.
    """
    problems = []
    for contig, told in record["contigs"].items():
        if contig not in genome.lengths:
            problems.append(f"{contig}: not in {genome.path.name}")
        elif genome.lengths[contig] != told["length"]:
            problems.append(f"{contig}: {genome.lengths[contig]:,} bases, recorded are {told['length']:,}")
        elif genome.scan(contig, min_gap=1).md5 != told["md5"]:
            problems.append(f"{contig}: another sequence of the same length (MD5 differs)")
    return problems


@dataclass(frozen=True)
class Verdict:
    """What reading a locus again has shown.

    Attributes
    ----------
    region : str
    bases : int
        With a value in the new reading.
    largest : float or None
        Largest difference of a probability; None of a track of calls.
    differing : int
        Bases that differ by more than may be, or whose call does.
    notes : list of str
        What is not as it was: model, versions, precision.
    """

    region: str
    bases: int
    largest: float | None
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
) -> Verdict:
    """Read a locus again as the record says, and hold the track against it.

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

    Raises
    ------
    InputError
        If there is no record, the FASTA is gone or another one, or the region holds no sequence of the run.
    ModelError
        If the model is not found.
    """
    track, record = Path(track), record_of(track)
    fasta = Path(genome or record["genome"])
    if not fasta.is_file():
        raise InputError(f"{fasta}: the recorded genome is not there; name it with --genome")
    with Genome(fasta) as source:
        place = parse_region(region, source.lengths)
        _same_contig(record, source, place[0])
        checkpoint = _model(record, model)
        notes = _notes(record, checkpoint)
        predictor = Predictor(
            checkpoint, _as_recorded(record, device, threads), features=_tracks(record, checkpoint, source)
        )
        found = _read_again(source, place, predictor, bool(record.get("screen")))
        if not (~np.isnan(found)).any():
            raise InputError(f"{region}: holds no sequence that the model reads; all of it is N")
        told = open_track(track, source.lengths)
        if isinstance(told, BedTrack):
            called = read_bed(track, source.lengths, "calls") if track.stat().st_size else {}
            return _calls_agree(region, place, found, called, record, notes)
        values = np.concatenate(list(_cut(told, place, source.lengths)))
    known = ~np.isnan(found)
    difference = np.abs(values[known] - found[known])
    allowed = TOLERANCE.get(record["predict"]["precision"], TOLERANCE["float32"])
    if str(predictor.dtype).removeprefix("torch.") != record["predict"]["precision"]:
        allowed = max(TOLERANCE.values())
    return Verdict(
        region, int(known.sum()), float(difference.max()), int((difference > allowed).sum()), notes
    )


def _same_contig(record: Mapping, genome: Genome, contig: str) -> None:
    told = record["contigs"].get(contig)
    if told is None:
        raise InputError(
            f"{contig}: the run did not read this contig; it read {', '.join(record['contigs'])}"
        )
    problems = compare_genome({"contigs": {contig: told}}, genome)
    if problems:
        raise InputError(f"{genome.path}: not the genome that the track was made of: {problems[0]}")


def _model(record: Mapping, model: str | Path | None) -> Checkpoint:
    """Load the recorded model, or the one that is named in its place."""
    told = record["model"]
    names = [model] if model else [told.get("path"), told.get("name")]
    failure: ZfliponError = ModelError("the record names no model; name it with --model")
    for name in filter(None, names):
        try:
            return load(name)
        except ModelError as error:
            failure = error
    raise ModelError(f"{failure}; name the track's model with --model")


def _notes(record: Mapping, checkpoint: Checkpoint) -> list[str]:
    from zflipon import __version__

    notes, told = [], record["model"]
    if told.get("sha256") and checkpoint.sha256 != told["sha256"]:
        notes.append(
            f"the weights are not those of the track: SHA-256 {checkpoint.sha256[:12]}…, {told['sha256'][:12]}…"
        )
    made = record.get("versions", {}).get("zflipon")
    if made and made != __version__:
        notes.append(f"the track was made by zflipon {made}, this is {__version__}")
    return notes


def _as_recorded(record: Mapping, device: str, threads: int | None) -> PredictConfig:
    told = record["predict"]
    return PredictConfig(None, told["precision"], device, threads, bool(told.get("both_strands")))


def _tracks(record: Mapping, checkpoint: Checkpoint, genome: Genome) -> FeatureTracks | None:
    """Open the omics tracks that the run had."""
    if not checkpoint.story.features:
        return None
    given = {name: told["path"] for name, told in (record.get("features") or {}).items() if told}
    with tempfile.TemporaryDirectory(prefix="zflipon-") as folder:
        table = Path(folder) / "tracks.tsv"
        table.write_text("".join(f"{name}\t{path}\n" for name, path in given.items()), encoding="utf-8")
        return open_features(checkpoint.story.features, table if given else None, genome.lengths, "zero")


def _read_again(
    genome: Genome, place: tuple[str, int, int], predictor: Predictor, screen: bool
) -> np.ndarray:
    """Return probabilities as a track has them, float32 of shape (bases,): rounded, NaN without a value."""
    contig, start, end = place
    story, found = predictor.story, np.full(end - start, np.nan, dtype=np.float32)
    selection = Selection(regions=(f"{contig}:{start + 1}-{end}",))
    for shard in make_plan(genome, selection, story.window, story.margin).shards:
        read = None
        if screen:
            read = windows_worth_reading(genome, contig, shard.tiles, story.screen, predictor.device)
        ((_, values),) = predict_stretches(predictor, genome, [Stretch(contig, shard.tiles, read)])
        first = int(shard.tiles["core_start"][0])
        inside = values[shard.start - first : shard.end - first]
        found[shard.start - start : shard.end - start] = from_decimals(to_decimals(inside))
    return found


def _cut(track, place: tuple[str, int, int], lengths: Mapping[str, int]):
    """Yield the parts of a track's scores that lie in a region."""
    contig, start, end = place
    if hasattr(track, "scores"):  # a bigWig is read where it is asked for
        yield track.scores(contig, start, end)
        return
    for _, first, scores in track.chunks({contig: lengths[contig]}, 1 << 20):
        yield scores[max(0, start - first) : max(0, end - first)]


def _calls_agree(
    region: str,
    place: tuple[str, int, int],
    found: np.ndarray,
    rows: Intervals,
    record: Mapping,
    notes: list[str],
) -> Verdict:
    """Hold calls against calls; one that the region's ends cut is held against what is left of it."""
    contig, start, end = place
    call = record["call"]
    pieces = ContigTrack(contig, [(start, to_decimals(found))])
    calls = call_track(pieces, call["threshold"], call["min_length"], call["merge_gap"])
    again, told = (np.zeros(end - start, dtype=bool) for _ in range(2))
    for first, last in zip(calls["start"], calls["end"], strict=True):
        again[first - start : last - start] = True
    for first, last in rows.get(contig, np.empty((0, 2), dtype=np.int64)):
        told[max(0, first - start) : max(0, last - start)] = True
    differing = again != told
    for side in (slice(None), slice(None, None, -1)):  # a call that is cut may have become too short
        edge = told[side].argmin() if not told.all() else len(told)
        if edge < call["min_length"]:
            differing[side][:edge] = False
    return Verdict(region, int((~np.isnan(found)).sum()), None, int(differing.sum()), notes)
