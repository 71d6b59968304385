"""Whether a model is whole, whether all devices and precisions of this machine agree on it, and how fast they are."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from time import perf_counter

import numpy as np
import torch

from zflipon.config import DEFAULT_MODEL, InferenceConfig, Selection
from zflipon.errors import ModelError, ZfliponError
from zflipon.genome.fasta import Genome
from zflipon.genome.shards import make_plan
from zflipon.inference.devices import count_parameters, has_bfloat16_instructions, resolve_precision
from zflipon.inference.genome_scan import ScanTask, scan_genome
from zflipon.inference.predictor import Predictor
from zflipon.models import Checkpoint, load
from zflipon.models.hub import BUNDLED, WEIGHTS_SHA256
from zflipon.omics.features import FeatureTracks
from zflipon.progress import progress_bar

HUMAN = 3_100_000_000
"""Bases of hg38, about."""

AGREEMENT = {"float32": 1e-3, "bfloat16": 0.1, "float16": 0.03}
"""Precision → largest difference of a probability from the CPU's float32 that will do."""

SMALL, ALIKE = 0.01, 0.999
"""Calls must not depend on a difference larger than the first: so much of the bases is called alike."""

FINGERPRINTS = BUNDLED / "fingerprints.json"
"""What the bundled models say of the reference sequences; `benchmarks/fingerprints.py` writes it."""

_STEP = 1e-3
"""By how much a fingerprint may be off: the last decimal that tracks have."""

_WINDOWS = 8
_TIMED, _MOST_TIMED = 1.0, 1 << 26
"""Seconds that a speed is measured for, and the most bases."""

_CONTIG = "reference"


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
    default : bool
        Whether a run on this device takes this precision by itself.
    problem : str
        Why it failed; empty if it did not.
    """

    device: str
    precision: str
    difference: float | None = None
    alike: float | None = None
    speed: float | None = None
    default: bool = False
    problem: str = ""

    @property
    def agrees(self) -> bool:
        """Whether it ran and gave what it should."""
        if self.problem:
            return False
        small = self.difference <= SMALL  # then only what lies at the threshold is called otherwise
        return self.difference <= AGREEMENT[self.precision] and (small or self.alike >= ALIKE)


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes
    ----------
    devices : dict of str to str
        Device → what it is.
    model : dict
    trials : list of Trial
        Float32 on the CPU first.
    problems : list of str
        What is broken; empty if nothing is.
    """

    devices: dict[str, str] = field(default_factory=dict)
    model: dict = field(default_factory=dict)
    trials: list[Trial] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def examine(model: str = DEFAULT_MODEL, threads: int | None = None, quiet: bool = True) -> Report:
    """Load a model, and compute with all there is.

    Parameters
    ----------
    model : str
        As `zflipon.models.load` finds it.
    threads : int, optional
        CPU threads; all by default.
    quiet : bool
        No progress bar.

    Returns
    -------
    Report
        A model that cannot be used is one of its problems, not an error.
    """
    found = Report(_devices())
    try:
        checkpoint = _load(model)
        found.model.update(_told(checkpoint))
        found.trials.extend(_trials(checkpoint, found, threads, quiet))
    except ZfliponError as error:
        found.problems.append(str(error))
        return found
    found.problems.extend(_disagreements(checkpoint, found))
    return found


def reference(windows: int, bases: int, seed: int = 7) -> list[str]:
    """Return the sequences that all devices read: GC-rich, with runs of CG, TG and CA that models call.

    They are the same everywhere, as they come from a generator of fixed seed.
    """
    draw, found = Random(seed), []  # whose numbers are the same in every version of Python
    for number in range(windows):
        strong = 0.5 + 0.1 * (number % 4)
        letters = [("GC" if draw.random() < strong else "AT")[draw.random() < 0.5] for _ in range(bases)]
        for place in range(bases // 10, bases, 400):
            run = ("CG", "TG", "CA", "GC")[(place // 400 + number) % 4] * 12
            letters[place : place + len(run)] = run[: bases - place]
        found.append("".join(letters))
    return found


def fingerprint(values: Sequence[np.ndarray]) -> dict[str, list[float]]:
    """Return what is kept of probabilities to know them again: the mean and the highest of each sequence."""
    return {
        "mean": [round(float(each.mean(dtype=np.float64)), 5) for each in values],
        "highest": [round(float(each.max()), 5) for each in values],
    }


def fingerprints() -> dict[str, dict[str, list[float]]]:
    """Return the `fingerprint` of each bundled model on the reference sequences, by a CPU in float32."""
    return json.loads(FINGERPRINTS.read_text(encoding="utf-8"))


def read_reference(checkpoint: Checkpoint, config: InferenceConfig) -> tuple[Predictor, list[np.ndarray]]:
    """Return the predictor of a checkpoint and what it says of the reference sequences, without omics tracks.

    Raises
    ------
    ZfliponError
        If device or precision are not to be had, or the model gives no numbers.
    """
    predictor = Predictor(checkpoint, config, features=_no_tracks(checkpoint))
    return predictor, predictor.predict_probabilities(reference(_WINDOWS, checkpoint.metadata.window))


def _load(model: str) -> Checkpoint:
    """Load a model; that this works shows that its files are whole and fit one another."""
    checkpoint = load(model)
    for name, each in checkpoint.module.named_parameters():
        if not bool(each.isfinite().all()):
            raise ModelError(
                f"{checkpoint.path}: {name} holds values that are no numbers; get the weights again"
            )
    if checkpoint.files.damaged():
        raise ModelError(
            f"{checkpoint.path}: the weights are not those that were saved with this config.json (SHA-256 differs); "
            "get the checkpoint again"
        )
    return checkpoint


def _told(checkpoint: Checkpoint) -> dict:
    tensors = list(checkpoint.module.parameters())
    return {
        "name": checkpoint.path.name,
        "folder": str(checkpoint.path),
        "family": checkpoint.metadata.family,
        "parameters": count_parameters(checkpoint.module),
        "tensors": len(tensors),
        "tokens": checkpoint.tokenizer.vocab_size,
        "sha256": checkpoint.sha256,
        "sha256_recorded": WEIGHTS_SHA256 in checkpoint.files.config,
        "tracks": len(checkpoint.metadata.features),
    }


def _trials(checkpoint: Checkpoint, report: Report, threads: int | None, quiet: bool) -> Iterator[Trial]:
    """Run the reference sequences through every device and precision; the CPU's float32 is what others are held to."""
    ways = [
        (device, precision)
        for device in report.devices
        for precision in ("float32", "bfloat16", "float16")
        if (device, precision) != ("cpu", "float16")  # which CPUs are slow in, and nobody asks for
    ]
    expected: list[np.ndarray] = []
    with progress_bar("way", len(ways), quiet=quiet) as bar:
        for device, precision in ways:
            auto = resolve_precision("auto", torch.device(device), count_parameters(checkpoint.module))
            default = str(auto).removeprefix("torch.") == precision
            try:
                predictor, values = read_reference(
                    checkpoint, InferenceConfig(None, precision, device, threads)
                )
                if not expected:
                    expected = values
                    called = sum(int((each >= checkpoint.metadata.threshold).sum()) for each in values)
                    report.model.update(fingerprint=fingerprint(values), called=called)
                difference, alike = _compared(values, expected, checkpoint.metadata.threshold)
                yield Trial(device, precision, difference, alike, _speed(predictor), default)
            except (
                ZfliponError,
                RuntimeError,
                TypeError,
            ) as error:  # torch has all of these for what a device lacks
                yield Trial(
                    device,
                    precision,
                    default=default,
                    problem=(str(error) or type(error).__name__).splitlines()[0],
                )
                if not expected:
                    return
            bar.update()


def _compared(
    values: Sequence[np.ndarray], expected: Sequence[np.ndarray], threshold: float
) -> tuple[float, float]:
    """Return the largest difference, and the share of bases that are called alike."""
    found, wanted = np.concatenate(values), np.concatenate(expected)
    alike = ((found >= threshold) == (wanted >= threshold)).mean()
    return float(np.abs(found - wanted).max()), float(alike)


def _no_tracks(checkpoint: Checkpoint) -> FeatureTracks | None:
    wanted = checkpoint.metadata.features
    return FeatureTracks(wanted, {}, {_CONTIG: _MOST_TIMED}, {}) if wanted else None


def _speed(predictor: Predictor) -> float:
    """Return bases a second from FASTA to probabilities, timed over ever more bases until it takes long enough."""
    metadata, bases = predictor.metadata, 2 * _WINDOWS * predictor.metadata.window
    text = "".join(reference(_WINDOWS, metadata.window))
    with tempfile.TemporaryDirectory(prefix="zflipon-") as folder:
        path = Path(folder) / "reference.fa"
        while True:
            path.write_text(f">{_CONTIG}\n{(text * (bases // len(text) + 1))[:bases]}\n")
            with Genome(path) as genome:
                shards = make_plan(genome, Selection(), metadata.window, metadata.margin).shards
                stretches = [ScanTask(_CONTIG, shard.windows, early_exit=True) for shard in shards]
                begun = perf_counter()
                for _ in scan_genome(predictor, genome, stretches):
                    pass
                spent = perf_counter() - begun
            if spent >= _TIMED or 4 * bases > _MOST_TIMED:
                return bases / spent
            bases *= 4


def _disagreements(checkpoint: Checkpoint, found: Report) -> Iterator[str]:
    if checkpoint.path.parent == BUNDLED:
        yield from _unlike(checkpoint.path.name, found.model.get("fingerprint"))
    for trial in found.trials:
        where = f"{trial.precision} on {trial.device}"
        if trial.problem:
            yield f"{where} failed: {trial.problem}"
        elif not trial.agrees:
            yield (
                f"{where} differs from float32 on the CPU by up to {trial.difference:.4f}, and calls "
                f"{100 * trial.alike:.2f} % of the bases alike; do not use it"
            )


def _unlike(name: str, own: dict[str, list[float]] | None) -> Iterator[str]:
    """Say where a bundled model's fingerprint is not the one that it was shipped with."""
    known = fingerprints().get(name)
    if own is None or known is None:
        return
    off = max(float(np.abs(np.subtract(own[kind], known[kind])).max()) for kind in known)
    if off > _STEP:
        yield (
            f"{name} says something else of the reference sequences than when it was shipped, by up to {off:.4f} "
            f"(expected is at most {_STEP:g}); a package computes otherwise than it should: install zflipon anew"
        )


def _devices() -> dict[str, str]:
    """Return each device that torch can compute on, with what it is."""
    cpu = f"{torch.get_num_threads()} of {os.cpu_count()} threads, {torch.backends.cpu.get_cpu_capability()}"
    if has_bfloat16_instructions():
        cpu += ", fast in bfloat16"
    found = {"cpu": cpu}
    for number in range(torch.cuda.device_count()):
        told = torch.cuda.get_device_properties(number)
        found[f"cuda:{number}"] = (
            f"{told.name}, {told.total_memory / (1 << 30):.0f} GiB, CUDA {torch.version.cuda}"
        )
    if torch.backends.mps.is_available():
        found["mps"] = "Apple's GPU"
    return found
