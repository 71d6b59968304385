"""A loaded model in all processes of a run, with its omics tracks and its settings resolved.

`annotate` and `variants` start here. Locks, journal and signals are in `zflipon.jobs.job`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from accelerate import PartialState

from zflipon.config import InferenceConfig
from zflipon.inference.devices import peak_device_memory, resolve_device
from zflipon.inference.predictor import Predictor
from zflipon.inference.settings import InferenceSettings, resolve_settings
from zflipon.jobs.distributed import broadcast_from_main
from zflipon.jobs.record import (
    describe_features,
    describe_model,
    local_time,
    package_versions,
    peak_memory,
)
from zflipon.models import Checkpoint, load
from zflipon.omics.features import FeatureTracks, open_model_features


@dataclass(frozen=True)
class FeatureFiles:
    """Omics tracks as the user gives them.

    Attributes
    ----------
    table : str, Path or None
        Table of tracks; see `zflipon.omics.features`.
    missing : str
        One of `zflipon.config.MISSING_FEATURES`.
    """

    table: str | Path | None = None
    missing: str = "error"


@dataclass(frozen=True)
class Session:
    """A model that is ready to predict, in one of the processes of a run.

    Attributes
    ----------
    state : accelerate.PartialState
    checkpoint : Checkpoint
    predictor : Predictor
    """

    state: PartialState
    checkpoint: Checkpoint
    predictor: Predictor

    @property
    def precision(self) -> str:
        """Precision of the model's arithmetic, such as ``'float32'``."""
        return self.predictor.settings.precision

    def describe(self) -> str:
        """Return model, device, precision and number of processes in a few words, for a log line."""
        count = self.state.num_processes
        processes = f", {count} processes" if count > 1 else ""
        return f"{self.checkpoint.name} ({self.predictor.device}, {self.precision}{processes})"

    def key(self) -> dict[str, str]:
        """Return the part of a journal's key that describes the model and its settings."""
        predictor = self.predictor
        return {
            "model": self.checkpoint.sha256 or self.checkpoint.name,
            "strands": "both" if predictor.both_strands else "forward",
            "precision": self.precision,
            "device": predictor.device.type,
            "features": predictor.features.fingerprint if predictor.features else "none",
            "version": version("zflipon"),
        }

    def record(self, command: str, started: float) -> dict:
        """Return the common part of a run record.

        Parameters
        ----------
        command : str
            The command line or the function call that made the run.
        started : float
            Seconds since the epoch.
        """
        return {
            "command": command,
            "started": local_time(started),
            "processes": self.state.num_processes,
            "model": describe_model(self.checkpoint),
            "predict": self.predictor.settings.to_dict(),
            "features": describe_features(self.predictor.features),
            "versions": package_versions(),
        }

    def resources(self, started: float) -> dict:
        """Return the part of a run record on time and memory, known at the end of the run."""
        return {
            "seconds": round(time.time() - started, 2),
            "memory": {"host": peak_memory(), "device": peak_device_memory(self.predictor.device)},
            "seconds_in": {stage: round(spent, 2) for stage, spent in self.predictor.timer.seconds.items()},
        }


def open_session(
    state: PartialState,
    model: str | Path | Checkpoint,
    settings: InferenceConfig,
    features: FeatureFiles,
    lengths: Mapping[str, int],
    compares_alleles: bool = False,
) -> Session:
    """Load a model and its omics tracks, and resolve the settings once for all processes.

    Parameters
    ----------
    state : accelerate.PartialState
    model : str, Path or Checkpoint
        Name of a bundled model, folder, file or Hugging Face Hub id; or a loaded checkpoint.
    settings : InferenceConfig
    features : FeatureFiles
    lengths : mapping of str to int
        Contigs of the genome.
    compares_alleles : bool
        A small difference of two predictions matters. The precision ``'auto'`` of a model with a wide context is then
        float32 on a CPU, because bfloat16 rounds probabilities by up to 0.005.

    Raises
    ------
    ZfliponError
        If the model or a track cannot be used, or the device is not available.
    """
    checkpoint = model if isinstance(model, Checkpoint) else load(model)
    tracks = _open_features(state, checkpoint, features, lengths)
    if compares_alleles and settings.precision == "auto" and checkpoint.module.reads_wide_context:
        on_cpu = resolve_device(settings.device).type == "cpu"
        settings = replace(settings, precision="float32") if on_cpu else settings
    resolved = _resolve(settings, checkpoint, state)
    return Session(state, checkpoint, Predictor(checkpoint, resolved, features=tracks))


def _open_features(
    state: PartialState, checkpoint: Checkpoint, features: FeatureFiles, lengths: Mapping[str, int]
) -> FeatureTracks | None:
    """Open the omics tracks in each process; the main process first, which reports errors and computes checksums."""
    opened: list[FeatureTracks | None] = []

    def open_first() -> dict[str, str]:
        opened.append(open_model_features(checkpoint, features.table, lengths, features.missing))
        return opened[0].file_hashes if opened[0] else {}

    hashes = broadcast_from_main(state, open_first)
    if state.is_main_process:
        return opened[0]
    tracks = open_model_features(checkpoint, features.table, lengths, features.missing)
    return tracks and replace(tracks, hashes=hashes)


def _resolve(config: InferenceConfig, checkpoint: Checkpoint, state: PartialState) -> InferenceSettings:
    """Resolve the settings; all processes use the precision that suits the main process's device."""
    precision = broadcast_from_main(state, lambda: resolve_settings(config, checkpoint).precision)
    return resolve_settings(replace(config, precision=precision), checkpoint)
