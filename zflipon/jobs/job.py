"""What long runs have in common: they stop when asked, go on where they were, and leave a record of themselves."""

from __future__ import annotations

import json
import os
import platform
import resource
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import torch
from accelerate import PartialState

from zflipon.config import InferenceConfig
from zflipon.errors import Stopped
from zflipon.inference.predictor import Predictor
from zflipon.inference.settings import InferenceSettings, resolve_settings
from zflipon.jobs.distributed import broadcast_from_main
from zflipon.jobs.journal import Journal
from zflipon.models import Checkpoint
from zflipon.models.hub import sha256_of
from zflipon.omics.features import FeatureTracks, open_model_features
from zflipon.tracks.atomic import atomic_file, record_path, remove_partial_files

PATIENCE = 5.0
"""Seconds that a run which is told to stop may take to finish the shard in flight."""


class Stop:
    """Hears SIGINT and SIGTERM: the shard in flight is finished where that takes no more than `PATIENCE`.

    Parameters
    ----------
    journal : Journal
    shards : int
        How many there are.

    Attributes
    ----------
    asked : int
        Number of the signal that came; 0: none.
    """

    def __init__(self, journal: Journal, shards: int):
        self._journal, self._shards = journal, shards
        self.asked = 0
        self.next()

    def next(self) -> None:
        """Begin a shard."""
        self._began, self._done = time.monotonic(), 0

    def in_flight(self, done: int, of: int) -> None:
        """Count what was done of a shard, and leave it if a signal came and the rest would take too long."""
        self._done += done
        left = max(0, of - self._done) / max(1, self._done) * (time.monotonic() - self._began)
        if self.asked and left > PATIENCE:
            self()

    def __call__(self) -> None:
        """Raise `Stopped` if a signal came."""
        if self.asked:
            number, self.asked = self.asked, 0
            raise Stopped(
                number,
                f"stopped; {len(self._journal.stored())} of {self._shards} shards are kept in "
                f"{self._journal.folder}, and the same command goes on from there",
            )

    @contextmanager
    def heard(self) -> Iterator[Stop]:
        """Listen while the body runs."""

        def note(number: int, _frame) -> None:
            if self.asked:  # a second one does not wait
                self()
            self.asked = number

        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def unfinished(path: Path) -> Path:
    """Return where what is done of an output is kept until it is whole."""
    return path.with_name(path.name + ".unfinished")


def shared_tracks(
    state: PartialState,
    checkpoint: Checkpoint,
    path: str | Path | None,
    lengths: Mapping[str, int],
    missing: str,
) -> FeatureTracks | None:
    """Open what a model reads beside the sequence; parameters and errors are those of `features_for`.

    Each process opens the files for itself. The first one says what is wrong with them, and reads their checksums.
    """
    opened: list[FeatureTracks | None] = []

    def first() -> dict[str, str]:
        opened.append(open_model_features(checkpoint, path, lengths, missing))
        return opened[0].file_hashes if opened[0] else {}

    hashes = broadcast_from_main(state, first)
    if state.is_main_process:
        return opened[0]
    tracks = open_model_features(checkpoint, path, lengths, missing)
    return tracks and replace(tracks, hashes=hashes)


@contextmanager
def kept(
    files: Sequence[Path], state: PartialState, key: dict[str, object], restart: bool
) -> Iterator[Journal]:
    """Open the journal that all processes of a run share; where it holds nothing in the end, it goes.

    Parameters
    ----------
    files : sequence of Path
        Outputs, beside the first of which it lies; without any it lies among temporary files.
    state : accelerate.PartialState
    key : dict
        As `Journal.begin` has it.
    restart : bool
        Throw away what an earlier run left.
    """
    place = (
        unfinished(files[0])
        if files
        else Path(broadcast_from_main(state, lambda: tempfile.mkdtemp(prefix="zflipon-")))
    )
    journal = Journal(place)
    broadcast_from_main(state, lambda: journal.begin(key, restart))
    if state.is_main_process:
        for path in files:
            remove_partial_files(path)
            remove_partial_files(record_path(path))
    try:
        yield journal
    finally:
        journal.release()
        if state.is_main_process and not (files and journal.stored()):
            journal.remove()


def settled(predict: InferenceConfig, checkpoint: Checkpoint, state: PartialState) -> InferenceSettings:
    """Resolve the settings of inference, with the precision of the main process in all processes."""
    precision = broadcast_from_main(state, lambda: resolve_settings(predict, checkpoint).precision)
    return resolve_settings(replace(predict, precision=precision), checkpoint)


def key_of_model(checkpoint: Checkpoint, predictor: Predictor) -> dict[str, str]:
    """Return the part of a journal's key that tells of the model and how it computes."""
    return {
        "model": checkpoint.sha256 or checkpoint.path.name,
        "strands": "both" if predictor.both_strands else "forward",
        "precision": predictor.settings.precision,
        "device": predictor.device.type,
        "features": predictor.features.fingerprint if predictor.features else "none",
        "version": version("zflipon"),
    }


def record_of(started: float, state: PartialState, checkpoint: Checkpoint, predictor: Predictor) -> dict:
    """Return what every record tells: when, by which command, with which model and which programs.

    Parameters
    ----------
    started : float
        Seconds since the epoch.
    state : accelerate.PartialState
    checkpoint : Checkpoint
    predictor : Predictor
    """
    return {
        "command": shlex.join(["zflipon", *sys.argv[1:]]),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(started)),
        "processes": state.num_processes,
        "model": {
            "name": checkpoint.path.name,
            "path": str(checkpoint.path.resolve()),
            "sha256": checkpoint.sha256,
            **checkpoint.metadata.to_dict(),
        },
        "predict": predictor.settings.to_dict(),
        "features": _features_told(predictor),
        "versions": _versions(),
    }


def close_record(record: dict, started: float, predictor: Predictor) -> None:
    """Add to a record what is known at a run's end: time and memory."""
    record["seconds"] = round(time.time() - started, 2)
    record["memory"] = {"host": peak_memory(), "device": device_memory(predictor.device)}
    record["seconds_in"] = {name: round(spent, 2) for name, spent in predictor.timer.seconds.items()}


def write_record(path: Path, record: dict) -> None:
    """Write the record beside an output, with the output's own checksum."""
    told = {**record, "file": {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path)}}
    with atomic_file(record_path(path)) as part:
        part.write_text(json.dumps(told, indent=1) + os.linesep)


def device_memory(device: torch.device) -> int:
    """Return the most memory of a GPU that tensors have held so far: bytes; 0 where there is none."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def peak_memory() -> int:
    """Return the most memory that this process has held so far: bytes of the host."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _features_told(predictor: Predictor) -> dict[str, dict | None] | None:
    """Return which file each track came from; None of a track that was not given."""
    tracks = predictor.features
    if tracks is None:
        return None
    return {
        feature.name: {
            "path": str(tracks.paths[feature.name].resolve()),
            "sha256": tracks.file_hashes[feature.name],
        }
        if feature.name in tracks.file_hashes
        else None
        for feature in tracks.features
    }


def _versions() -> dict[str, str]:
    packages = ("zflipon", "torch", "transformers", "tokenizers", "accelerate", "pysam", "pyBigWig", "numpy")
    return {"python": platform.python_version(), **{package: version(package) for package in packages}}
