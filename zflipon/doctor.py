"""What this machine has, whether all that it can compute with agrees, and how fast it is."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from random import Random
from time import perf_counter

import numpy as np
import torch

from zflipon.config import DEFAULT_MODEL, PredictConfig
from zflipon.errors import ModelError, ZfliponError
from zflipon.features import FeatureTracks
from zflipon.models import Checkpoint, load
from zflipon.models.files import BUNDLED
from zflipon.predict import Predictor

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "accelerate",
    "peft",
    "pysam",
    "pyfaidx",
    "pyBigWig",
    "numpy",
)
"""What zflipon cannot do without."""

EXTRAS = {
    "captum": "explain",
    "matplotlib": "plot",
    "pybigtools": "bundle",
    "igv_notebook": "view",
    "tensorboard": "log",
    "wandb": "log",
}
"""Optional module → the extra that brings it."""

HUMAN = 3_100_000_000
"""Bases of hg38, about."""

AGREEMENT = {"float32": (1e-4, 1.0), "bfloat16": (0.06, 0.995), "float16": (0.02, 0.995)}
"""Precision → what will do: largest difference of a probability from the CPU's float32, share of bases called alike."""

_WINDOWS, _TIMED = 8, 1.0


@dataclass(frozen=True)
class Trial:
    """One way to compute.

    Attributes
    ----------
    device, precision : str
    difference : float or None
        Largest, of a probability, from float32 on the CPU.
    alike : float or None
        Share of bases that are called or not called as there.
    speed : float or None
        Bases a second.
    problem : str
        Why it failed; empty if it did not.
    """

    device: str
    precision: str
    difference: float | None = None
    alike: float | None = None
    speed: float | None = None
    problem: str = ""

    @property
    def agrees(self) -> bool:
        """Whether it ran and gave what it should."""
        if self.problem:
            return False
        most, least = AGREEMENT[self.precision]
        return self.difference <= most and self.alike >= least


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes
    ----------
    machine : dict of str to str
    packages, extras : dict of str to str or None
        Version; None where it is not installed.
    devices : list of str
    model : dict
    trials : list of Trial
        Float32 on the CPU first.
    problems : list of str
        What is broken; empty if nothing is.
    """

    machine: dict[str, str]
    packages: dict[str, str | None]
    extras: dict[str, str | None]
    devices: list[str]
    model: dict = field(default_factory=dict)
    trials: list[Trial] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def examine(model: str = DEFAULT_MODEL, threads: int | None = None) -> Report:
    """Look at the installation, load a model, and compute with all there is.

    Parameters
    ----------
    model : str
        As `zflipon.models.load` finds it.
    threads : int, optional
        CPU threads; all by default.

    Returns
    -------
    Report
        A model that cannot be used is one of its problems, not an error.
    """
    packages = {name: _version(name) for name in PACKAGES}
    extras = {name: _version(name.replace("_", "-")) for name in EXTRAS if importlib.util.find_spec(name)}
    found = Report(_machine(), packages, {name: extras.get(name) for name in EXTRAS}, _devices())
    found.problems.extend(
        f"{name} is not installed: pip install zflipon" for name, told in packages.items() if not told
    )
    try:
        checkpoint = load(model)
        found.model.update(_told(checkpoint))
        found.trials.extend(_trials(checkpoint, found, threads))
    except ZfliponError as error:
        found.problems.append(str(error))
        return found
    found.problems.extend(_disagreements(model, found))
    return found


def reference(windows: int, bases: int, seed: int = 7) -> list[str]:
    """Return the sequences that all devices read: GC-rich, with runs of CG, TG and CA that models call.

    They are the same everywhere, as they come from a generator of fixed seed.
    """
    draw, found = Random(seed), []  # whose numbers are the same in every version of Python
    for number in range(windows):
        strong = 0.5 + 0.1 * (number % 4)
        letters = [("GC" if draw.random() < strong else "AT")[draw.random() < 0.5] for _ in range(bases)]
        for place in range(200, bases - 100, 400):
            run = ("CG", "TG", "CA", "GC")[(place // 400 + number) % 4] * 12
            letters[place : place + len(run)] = run
        found.append("".join(letters))
    return found


def fingerprints() -> dict[str, list[float]]:
    """Return, of each bundled model, the highest probability on the reference sequences and the sum of all.

    By a CPU in float32. They lie beside the bundled models.
    """
    return json.loads((BUNDLED / "fingerprints.json").read_text(encoding="utf-8"))


def _told(checkpoint: Checkpoint) -> dict:
    """Return what a checkpoint is; loading it has shown that all of its tensors are there and fit."""
    weights = sum(each.numel() for each in checkpoint.module.parameters())
    for name, each in checkpoint.module.named_parameters():
        if not bool(torch.isfinite(each).all()):
            raise ModelError(
                f"{checkpoint.path}: {name} holds values that are no numbers; get the weights again"
            )
    return {
        "name": checkpoint.path.name,
        "folder": str(checkpoint.path),
        "family": checkpoint.story.family,
        "parameters": weights,
        "sha256": checkpoint.sha256,
        "tracks": len(checkpoint.story.features),
    }


def _trials(checkpoint: Checkpoint, report: Report, threads: int | None) -> Iterator[Trial]:
    """Run the reference sequences through every device and precision; the CPU's float32 is what others are held to."""
    sequences = reference(_WINDOWS, checkpoint.story.window)
    expected = None
    for device in report.devices:
        for precision in ("float32", "bfloat16", "float16"):
            if precision == "float16" and device == "cpu":
                continue  # which CPUs are slow in, and nobody asks for
            try:
                config = PredictConfig(device=device, precision=precision, threads=threads)
                predictor = Predictor(checkpoint, config, features=_no_tracks(checkpoint))
                values = np.concatenate(predictor.probabilities(sequences))
                if expected is None:
                    expected = values
                    report.model["fingerprint"] = [
                        round(float(values.max()), 4),
                        round(float(values.sum()), 2),
                    ]
                speed = _speed(predictor, sequences)
            except (ZfliponError, RuntimeError) as error:
                yield Trial(device, precision, problem=str(error).splitlines()[0])
                continue
            cut = checkpoint.story.threshold
            alike = float(((values >= cut) == (expected >= cut)).mean())
            yield Trial(device, precision, float(np.abs(values - expected).max()), alike, speed)


def _no_tracks(checkpoint: Checkpoint) -> FeatureTracks | None:
    wanted = checkpoint.story.features
    return FeatureTracks(wanted, {}, {}, {}) if wanted else None


def _speed(predictor: Predictor, sequences: list[str]) -> float:
    """Return decided bases a second, as annotate decides them: of a window, the core counts."""
    begun, passes, story = perf_counter(), 0, predictor.story
    while not passes or perf_counter() - begun < _TIMED:
        predictor.probabilities(sequences)
        passes += 1
    return passes * len(sequences) * (story.window - 2 * story.margin) / (perf_counter() - begun)


def _disagreements(model: str, found: Report) -> Iterator[str]:
    own, known = found.model.get("fingerprint"), fingerprints().get(model)
    if known and own and not np.allclose(own, known, rtol=1e-3):
        yield (
            f"{model} gives {own[0]} at most and {own[1]} in all on the reference sequences, expected are "
            f"{known[0]} and {known[1]}: a package computes something else than it should; install zflipon anew"
        )
    for trial in found.trials:
        where = f"{trial.precision} on {trial.device}"
        if trial.problem:
            yield f"{where} failed: {trial.problem}"
        elif not trial.agrees:
            yield (
                f"{where} differs from float32 on the CPU by {trial.difference:.4f} at most, and calls "
                f"{100 * trial.alike:.2f} % of the bases alike; do not use it"
            )


def _machine() -> dict[str, str]:
    return {
        "zflipon": _version("zflipon") or "not installed",
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} ({platform.machine()})",
        "processor": _processor(),
        "cpu threads": f"{torch.get_num_threads()} of {os.cpu_count()}",
        "vector instructions": torch.backends.cpu.get_cpu_capability(),
    }


def _processor() -> str:
    """Return the processor's name, which `platform` does not know on Linux."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
            return next(named, platform.processor())
    except OSError:
        return platform.processor() or platform.machine()


def _devices() -> list[str]:
    cuda = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return [
        "cpu",
        *cuda,
        *(["mps"] if sys.platform == "darwin" and torch.backends.mps.is_available() else []),
    ]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
