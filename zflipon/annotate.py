"""Genome → tracks: cut into shards, predict each, write them in genome order.

Shards do not depend on the number of processes. Each is predicted by one
process and laid down as a file in a scratch folder beside the output, so that
results never travel through one process's memory; the first process then writes
the tracks contig by contig.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import numpy as np
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from tqdm import tqdm

from zflipon.config import MIN_GAP, SHARD_BASES, CallConfig, PredictConfig, Selection
from zflipon.errors import InputError, OutputError, some
from zflipon.genome import Genome
from zflipon.intervals import merge, parse_region, read_bed
from zflipon.models import Checkpoint, load
from zflipon.outputs import refuse_existing, whole
from zflipon.predict import Predictor, predict_tiles, processes
from zflipon.regions import NO_VALUE, ContigTrack, call_track, to_decimals
from zflipon.tracks import STDOUT, TrackOutputs, writer_for
from zflipon.windows import tile, touching

log = logging.getLogger("zflipon")

_PILOT_WINDOWS = 64


@dataclass(frozen=True)
class Shard:
    """Consecutive windows of one stretch, predicted together.

    Attributes
    ----------
    number : int
        Position in genome order.
    contig : str
    start, end : int
        The bases that are wanted of it.
    tiles : numpy.ndarray
        `zflipon.windows.WINDOW_DTYPE`; their cores cover ``[start, end)``.
    """

    number: int
    contig: str
    start: int
    end: int
    tiles: np.ndarray


@dataclass
class Plan:
    """What will be predicted.

    Attributes
    ----------
    shards : list of Shard
        In genome order.
    md5 : dict of str to str
        Contig → checksum of its upper-case sequence, for the contigs that are touched.
    asked : int
        Bases asked for; those in gaps of N are among them.
    """

    shards: list[Shard] = field(default_factory=list)
    md5: dict[str, str] = field(default_factory=dict)
    asked: int = 0

    @property
    def bases(self) -> int:
        """Bases in stretches of sequence."""
        return sum(shard.end - shard.start for shard in self.shards)

    @property
    def windows(self) -> int:
        """Windows that the model reads."""
        return sum(len(shard.tiles) for shard in self.shards)


def annotate(
    genome_path: Path,
    outputs: Sequence[str],
    model: str,
    selection: Selection | None = None,
    call: CallConfig | None = None,
    predict: PredictConfig | None = None,
    force: bool = False,
    quiet: bool = False,
    dry_run: bool = False,
) -> dict:
    """Write the Z-DNA tracks of a genome.

    Parameters
    ----------
    genome_path : Path
        FASTA.
    outputs : sequence of str
        Files, whose extensions pick the formats, or ``-`` for BED on standard output.
    model : str
        A bundled model's name, a folder, a file or a hub id.
    selection : Selection, optional
        Which parts of the genome; all by default.
    call : CallConfig, optional
    predict : PredictConfig, optional
    force : bool
        Replace outputs that exist.
    quiet : bool
        No progress bar.
    dry_run : bool
        Plan, time a few windows, say what a run would take, and write nothing.

    Returns
    -------
    dict
        What the sidecar holds.

    Raises
    ------
    ZfliponError
        If an input, an output or the model cannot be used.
    """
    started = time.time()
    for output in outputs:
        writer_for(output)
    files = [Path(output) for output in outputs if output != STDOUT]
    for path in files:
        for claimed in (path, sidecar(path)):
            refuse_existing(claimed, force)
    state = processes(predict.device if predict else "auto")
    with Genome(genome_path) as genome:
        checkpoint = load(model)
        call = _settled(call or CallConfig(), checkpoint)
        predictor = Predictor(checkpoint, predict)
        plan = make_plan(genome, selection or Selection(), checkpoint.story.window, checkpoint.story.margin)
        log.info("%s", _announcement(plan, checkpoint, predictor, state))
        report = _report(genome, plan, checkpoint, predictor, call, outputs, started)
        if dry_run:
            return {**report, "estimate": _estimate(genome, plan, predictor, state)}
        with _scratch(files, state) as folder:
            _predict_shards(genome, plan, predictor, state, folder, quiet)
            state.wait_for_everyone()
            if state.is_main_process:
                report["tracks"] = _write(genome, plan, outputs, call, folder)
                report["seconds"] = round(time.time() - started, 2)
                for path in files:
                    _write_sidecar(path, report)
    return report


def sidecar(path: Path) -> Path:
    """Return where an output's record goes: its name plus ``.json``."""
    return path.with_name(path.name + ".json")


def make_plan(genome: Genome, selection: Selection, window: int, margin: int) -> Plan:
    """Choose windows and cut them into shards.

    The windows of a contig are the same whatever part of it is selected, so a
    region has the probabilities that it has in the whole genome's track.

    Raises
    ------
    InputError
        If a contig or region is unknown, or nothing is left.
    """
    chosen = _choose(genome, selection)
    plan = Plan()
    for contig, wanted in chosen.items():
        found = genome.scan(contig, MIN_GAP)
        plan.md5[contig] = found.md5
        plan.asked += int((wanted[:, 1] - wanted[:, 0]).sum())
        for segment in found.segments:
            tiles = tile(int(segment[0]), int(segment[1]), window, margin)
            for start, end in wanted:
                low, high = max(int(start), int(segment[0])), min(int(end), int(segment[1]))
                if low < high:
                    plan.shards += _shards(contig, low, high, touching(tiles, low, high), len(plan.shards))
    return plan


def _choose(genome: Genome, selection: Selection) -> dict[str, np.ndarray]:
    """Return contig → merged intervals that are asked for, in genome order."""
    named = [*selection.contigs, *selection.exclude_contigs]
    unknown = [contig for contig in named if contig not in genome.lengths]
    if unknown:
        raise InputError(f"no contig {some(unknown)} in {genome.path}, which has {some(genome.lengths)}")
    rows: dict[str, list] = {}
    for text in selection.regions:
        contig, start, end = parse_region(text, genome.lengths)
        rows.setdefault(contig, []).append((start, end))
    if selection.regions_bed:
        for contig, intervals in read_bed(selection.regions_bed, genome.lengths, "regions").items():
            rows.setdefault(contig, []).extend(map(tuple, intervals))
    limited = bool(selection.regions or selection.regions_bed)
    chosen = {}
    for contig, length in genome.lengths.items():
        if (selection.contigs and contig not in selection.contigs) or contig in selection.exclude_contigs:
            continue
        if not limited:
            chosen[contig] = np.array([(0, length)], dtype=np.int64)
        elif contig in rows:
            chosen[contig] = merge(np.array(sorted(rows[contig]), dtype=np.int64))
    if not chosen:
        raise InputError("nothing is left to annotate: the contigs and regions asked for exclude each other")
    return chosen


def _shards(contig: str, start: int, end: int, tiles: np.ndarray, first: int) -> Iterator[Shard]:
    """Cut windows where their cores have covered another `SHARD_BASES` of the contig's own coordinates."""
    part = tiles["core_start"] // SHARD_BASES
    cuts = [0, *(np.flatnonzero(np.diff(part)) + 1), len(tiles)]
    for number, (low, high) in enumerate(pairwise(cuts), first):
        group = tiles[low:high]
        yield Shard(
            number,
            contig,
            max(start, int(group["core_start"][0])),
            min(end, int(group["core_end"][-1])),
            group,
        )


def _predict_shards(
    genome: Genome, plan: Plan, predictor: Predictor, state: PartialState, folder: Path, quiet: bool
) -> None:
    """Predict this process's shards; each lands in the scratch folder."""
    own = plan.shards[state.process_index :: state.num_processes]
    with tqdm(
        total=sum(shard.end - shard.start for shard in own),
        unit="b",
        unit_scale=True,
        desc="zflipon",
        disable=quiet or not state.is_main_process,
        mininterval=0.5 if sys.stderr.isatty() else 10,
        file=sys.stderr,
    ) as bar:
        for shard in own:
            core_start = int(shard.tiles["core_start"][0])
            found = predict_tiles(predictor, genome, shard.contig, shard.tiles, bar.update)
            values = to_decimals(found[shard.start - core_start : shard.end - core_start])
            _store(folder, shard, values)
            log.debug("%s:%d-%d is done (%d windows)", shard.contig, shard.start, shard.end, len(shard.tiles))


def _store(folder: Path, shard: Shard, values: np.ndarray) -> None:
    part = folder / f"{shard.number}.part.npz"
    try:
        np.savez_compressed(part, values=values)
        os.replace(part, _stored(folder, shard))
    except OSError as error:
        raise OutputError(f"{folder}: a shard cannot be stored ({error.strerror})") from error


def _stored(folder: Path, shard: Shard) -> Path:
    return folder / f"{shard.number}.npz"


def _write(genome: Genome, plan: Plan, outputs: Sequence[str], call: CallConfig, folder: Path) -> dict:
    """Write all tracks, and return what they hold."""
    told = {"calls": 0, "called_bases": 0, "bases": 0}
    shards: dict[str, list[Shard]] = {contig: [] for contig in plan.md5}
    for shard in plan.shards:
        shards[shard.contig].append(shard)
    with TrackOutputs(outputs, genome.lengths) as tracks:
        for contig, own in shards.items():
            pieces = [(shard.start, np.load(_stored(folder, shard))["values"]) for shard in own]
            track = ContigTrack(contig, pieces)
            calls = call_track(track, call.threshold, call.min_length, call.merge_gap)
            tracks.add(track, calls)
            told["calls"] += len(calls)
            told["called_bases"] += int((calls["end"] - calls["start"]).sum())
            told["bases"] += sum(int(np.count_nonzero(values != NO_VALUE)) for _, values in track.pieces)
        tracks.commit()
    return told


def _settled(call: CallConfig, checkpoint: Checkpoint) -> CallConfig:
    return call if call.threshold is not None else replace(call, threshold=checkpoint.story.threshold)


@contextmanager
def _scratch(files: Sequence[Path], state: PartialState) -> Iterator[Path]:
    """Make one folder that all processes share, and remove it at the end."""
    made = [None]
    if state.is_main_process:
        place = files[0].parent if files else None
        made[0] = tempfile.mkdtemp(
            prefix=f".{files[0].name}." if files else "zflipon-", suffix=".shards", dir=place
        )
    if state.num_processes > 1:
        broadcast_object_list(made)
    try:
        yield Path(made[0])
    finally:
        if state.is_main_process:
            shutil.rmtree(made[0], ignore_errors=True)


def _announcement(plan: Plan, checkpoint: Checkpoint, predictor: Predictor, state: PartialState) -> str:
    processes = f", {state.num_processes} processes" if state.num_processes > 1 else ""
    precision = str(predictor.dtype).removeprefix("torch.")
    return (
        f"{plan.bases:,} bases on {len(plan.md5)} contigs, {plan.asked - plan.bases:,} more in gaps of N; "
        f"{plan.windows:,} windows of {checkpoint.story.window} by {checkpoint.path.name} "
        f"({predictor.device}, {precision}{processes})"
    )


def _estimate(genome: Genome, plan: Plan, predictor: Predictor, state: PartialState) -> dict:
    """Time a few windows from the middle of the work."""
    if not plan.shards:
        return {"bases_per_second": 0, "seconds": 0}
    shard = plan.shards[len(plan.shards) // 2]
    middle = max(0, len(shard.tiles) // 2 - _PILOT_WINDOWS // 2)
    tiles = shard.tiles[middle : middle + _PILOT_WINDOWS]
    predict_tiles(predictor, genome, shard.contig, tiles[:2])  # first calls are slow
    started = time.perf_counter()
    predict_tiles(predictor, genome, shard.contig, tiles)
    bases = int(tiles["core_end"][-1] - tiles["core_start"][0])
    speed = bases / (time.perf_counter() - started) * state.num_processes
    return {"bases_per_second": round(speed), "seconds": round(plan.bases / speed, 1)}


def _report(
    genome: Genome,
    plan: Plan,
    checkpoint: Checkpoint,
    predictor: Predictor,
    call: CallConfig,
    outputs: Sequence[str],
    started: float,
) -> dict:
    return {
        "command": " ".join(sys.argv),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(started)),
        "genome": str(genome.path.resolve()),
        "contigs": {name: {"length": genome.lengths[name], "md5": md5} for name, md5 in plan.md5.items()},
        "bases": plan.bases,
        "bases_in_gaps": plan.asked - plan.bases,
        "windows": plan.windows,
        "shards": len(plan.shards),
        "model": {"name": checkpoint.path.name, "sha256": checkpoint.sha256, **checkpoint.story.to_dict()},
        "call": asdict(call),
        "predict": {
            **asdict(predictor.config),
            "device": str(predictor.device),
            "precision": str(predictor.dtype).removeprefix("torch."),
        },
        "outputs": [str(output) for output in outputs],
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    packages = ("zflipon", "torch", "transformers", "tokenizers", "accelerate", "pysam", "pyBigWig", "numpy")
    return {"python": platform.python_version(), **{package: version(package) for package in packages}}


def _write_sidecar(path: Path, report: dict) -> None:
    with whole(sidecar(path)) as part:
        part.write_text(json.dumps(report, indent=1) + os.linesep)
