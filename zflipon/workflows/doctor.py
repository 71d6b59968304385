"""Check a model: whether its files are intact, all devices and precisions agree, and how fast each of them is.

Installed packages are checked in `zflipon.workflows.environment`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from zflipon.config import DEFAULT_MODEL, InferenceConfig, Precision, Selection
from zflipon.errors import ModelError, ZfliponError
from zflipon.genome.fasta import Genome
from zflipon.genome.reference_sequences import WINDOWS, reference_sequences
from zflipon.genome.shards import make_plan
from zflipon.inference.devices import (
    has_bfloat16_instructions,
    precision_name,
    resolve_precision,
)
from zflipon.inference.genome_scan import scan_genome
from zflipon.inference.int8 import find_layers, has_openvino
from zflipon.inference.predictor import Predictor
from zflipon.inference.scan_group import ScanTask
from zflipon.inference.settings import gains_from_bfloat16
from zflipon.models import Checkpoint, load
from zflipon.models.base import DnaModel
from zflipon.models.files import BUNDLED, WEIGHTS_SHA256
from zflipon.models.weights import count_parameters
from zflipon.omics.features import FeatureTracks
from zflipon.workflows.fingerprints import bundled_fingerprints, fingerprint

HUMAN_GENOME_BASES = 3_100_000_000
"""Approximate number of bases of hg38."""

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "float16", "int8")
"""Precisions that are tried, in this order."""

MAX_DIFFERENCE = {"float32": 1e-3, "bfloat16": 0.1, "float16": 0.03, "int8": 0.1}
"""Precision → largest acceptable difference of a probability from float32 on the CPU."""

SMALL_DIFFERENCE = 0.01
"""Up to this difference, calls may differ: only bases at the threshold can be affected."""

MIN_SAME_CALLS = 0.999
"""Fraction of bases whose call must be the same if the difference is larger."""

MAX_FINGERPRINT_DIFFERENCE = 1e-3
"""Largest acceptable difference of a fingerprint: the last decimal of a track."""

MIN_SECONDS, MAX_TIMED_BASES = 1.0, 1 << 26
"""A speed is measured for at least this time, on at most this number of bases."""

_CONTIG = "reference"


@dataclass(frozen=True)
class Trial:
    """The result of one device in one precision.

    Attributes
    ----------
    device, precision : str
    difference : float or None
        Largest difference of a probability from float32 on the CPU.
    alike : float or None
        Fraction of bases that are called as by float32 on the CPU.
    speed : float or None
        Bases per second.
    default : bool
        Whether ``--precision auto`` chooses this precision on the device.
    problem : str
        Why the trial failed; empty if it did not.
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
        """Whether the trial ran and agrees with float32 on the CPU."""
        if self.problem or self.difference is None or self.alike is None:
            return False
        same_calls = self.difference <= SMALL_DIFFERENCE or self.alike >= MIN_SAME_CALLS
        return self.difference <= MAX_DIFFERENCE[self.precision] and same_calls


@dataclass(frozen=True)
class Report:
    """The results of all checks of a model.

    Attributes
    ----------
    devices : dict of str to str
        Device → its description.
    model : dict
        Name, family, size and checksum of the model.
    trials : list of Trial
        Float32 on the CPU comes first.
    problems : list of str
        One message for each problem.
    """

    devices: dict[str, str] = field(default_factory=dict)
    model: dict = field(default_factory=dict)
    trials: list[Trial] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def check_model(
    model: str = DEFAULT_MODEL,
    threads: int | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Load a model and run it on every device in every precision.

    Parameters
    ----------
    model : str
        As in `zflipon.models.load`.
    threads : int, optional
        CPU threads; default: all.
    advance : callable
        Called after each trial with 1 and the total number of trials.

    Returns
    -------
    Report
        A model that cannot be used is reported as a problem, not raised as an error.
    """
    report = Report(_describe_devices())
    try:
        checkpoint = _load_intact(model)
        report.model.update(_describe_model(checkpoint))
        report.trials.extend(_run_trials(checkpoint, report, threads, advance))
    except ZfliponError as error:
        report.problems.append(str(error))
        return report
    report.problems.extend(_find_disagreements(checkpoint, report))
    return report


def predict_reference(checkpoint: Checkpoint, config: InferenceConfig) -> tuple[Predictor, list[np.ndarray]]:
    """Return a predictor of a checkpoint and its probabilities of the reference sequences, without omics tracks.

    Raises
    ------
    ZfliponError
        If the device or the precision is not available, or the model returns values that are not numbers.
    """
    features = None
    if checkpoint.metadata.features:
        features = FeatureTracks(checkpoint.metadata.features, {}, {_CONTIG: MAX_TIMED_BASES}, {})
    predictor = Predictor(checkpoint, config, features=features)
    return predictor, predictor.predict_probabilities(reference_sequences(checkpoint.metadata.window))


def _load_intact(model: str) -> Checkpoint:
    """Load a model, which checks that its files are complete and fit each other, and check its weights."""
    checkpoint = load(model)
    for name, parameter in checkpoint.module.named_parameters():
        if not bool(parameter.isfinite().all()):
            raise ModelError(
                f"{checkpoint.path}: {name} holds NaN or infinite values; download or train the model again"
            )
    return checkpoint


def _describe_model(checkpoint: Checkpoint) -> dict:
    return {
        "name": checkpoint.name,
        "folder": str(checkpoint.path),
        "family": checkpoint.metadata.family,
        "parameters": count_parameters(checkpoint.module),
        "tensors": len(list(checkpoint.module.parameters())),
        "tokens": checkpoint.tokenizer.vocab_size,
        "sha256": checkpoint.sha256,
        "sha256_recorded": WEIGHTS_SHA256 in checkpoint.required_files.config,
        "tracks": len(checkpoint.metadata.features),
    }


def _run_trials(
    checkpoint: Checkpoint, report: Report, threads: int | None, advance: Callable[[int, int], None]
) -> Iterator[Trial]:
    """Predict the reference sequences on every device in every precision; end early if the first trial fails."""
    combinations: list[tuple[str, Precision]] = [
        (device, precision)
        for device in report.devices
        for precision in PRECISIONS
        if _is_useful(precision, device, checkpoint.module)
    ]
    expected: list[np.ndarray] = []
    for device, precision in combinations:
        dtype = resolve_precision("auto", torch.device(device), gains_from_bfloat16(checkpoint.module))
        is_default = precision_name(dtype) == precision
        try:
            config = InferenceConfig(None, precision, device, threads)
            predictor, probabilities = predict_reference(checkpoint, config)
            if not expected:
                expected = probabilities
                called = sum(int((row >= checkpoint.metadata.threshold).sum()) for row in probabilities)
                report.model.update(fingerprint=fingerprint(probabilities), called=called)
            difference, same_calls = _compare(probabilities, expected, checkpoint.metadata.threshold)
            speed = _measure_speed(predictor)
            yield Trial(device, precision, difference, same_calls, speed, is_default)
        # torch raises any of these where a device lacks a feature
        except (ZfliponError, RuntimeError, TypeError) as error:
            problem = (str(error) or type(error).__name__).splitlines()[0]
            yield Trial(device, precision, default=is_default, problem=problem)
            if not expected:
                return
        advance(1, len(combinations))


def _is_useful(precision: Precision, device: str, module: DnaModel) -> bool:
    """Return whether a precision is tried: float16 is slow on CPUs, and int8 needs OpenVINO and transformer layers."""
    if precision == "int8":
        return device == "cpu" and has_openvino() and find_layers(module) is not None
    return precision != "float16" or device != "cpu"


def _compare(
    probabilities: Sequence[np.ndarray], expected: Sequence[np.ndarray], threshold: float
) -> tuple[float, float]:
    """Return the largest difference, and the fraction of bases with the same call."""
    actual, reference = np.concatenate(probabilities), np.concatenate(expected)
    same_calls = ((actual >= threshold) == (reference >= threshold)).mean()
    return float(np.abs(actual - reference).max()), float(same_calls)


def _measure_speed(predictor: Predictor) -> float:
    """Return bases per second from FASTA to probabilities, on more and more bases until it takes `MIN_SECONDS`."""
    metadata, bases = predictor.metadata, 2 * WINDOWS * predictor.metadata.window
    text = "".join(reference_sequences(metadata.window))
    with tempfile.TemporaryDirectory(prefix="zflipon-") as folder:
        path = Path(folder) / "reference.fa"
        while True:
            path.write_text(f">{_CONTIG}\n{(text * (bases // len(text) + 1))[:bases]}\n")
            with Genome(path) as genome:
                spans = make_plan(genome, Selection(), metadata.window, metadata.margin).spans
                tasks = [ScanTask(_CONTIG, span.windows, early_exit=True) for span in spans]
                started = perf_counter()
                for _ in scan_genome(predictor, genome, tasks):
                    pass
                seconds = perf_counter() - started
            if seconds >= MIN_SECONDS or 4 * bases > MAX_TIMED_BASES:
                return bases / seconds
            bases *= 4


def _find_disagreements(checkpoint: Checkpoint, report: Report) -> Iterator[str]:
    """Yield a message for each device and precision that failed or disagrees, and for a changed fingerprint."""
    if checkpoint.required_files.folder.parent == BUNDLED:
        yield from _check_fingerprint(checkpoint.name, report.model.get("fingerprint"))
    for trial in report.trials:
        where = f"{trial.precision} on {trial.device}"
        if trial.problem or trial.difference is None or trial.alike is None:
            yield f"{where} failed: {trial.problem}"
        elif not trial.agrees:
            yield (
                f"{where} differs from float32 on the CPU by up to {trial.difference:.4f}, and only "
                f"{100 * trial.alike:.2f} % of the bases have the same call; do not use it"
            )


def _check_fingerprint(name: str, actual: dict[str, list[float]] | None) -> Iterator[str]:
    """Yield a message if a bundled model's prediction is not the one that it was released with."""
    expected = bundled_fingerprints().get(name)
    if actual is None or expected is None:
        return
    difference = max(float(np.abs(np.subtract(actual[key], expected[key])).max()) for key in expected)
    if difference > MAX_FINGERPRINT_DIFFERENCE:
        yield (
            f"{name} predicts the reference sequences differently than at its release, by up to {difference:.4f} "
            f"(at most {MAX_FINGERPRINT_DIFFERENCE:g} is expected); a package computes wrong values: reinstall zflipon"
        )


def _describe_devices() -> dict[str, str]:
    """Return each device that torch can compute on, with a description."""
    cpu = f"{torch.get_num_threads()} of {os.cpu_count()} threads, {torch.backends.cpu.get_cpu_capability()}"
    if has_bfloat16_instructions():
        cpu += ", bfloat16 instructions"
    devices = {"cpu": cpu}
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        gibibytes = properties.total_memory / (1 << 30)
        devices[f"cuda:{number}"] = f"{properties.name}, {gibibytes:.0f} GiB, CUDA {torch.version.cuda}"
    if torch.backends.mps.is_available():
        devices["mps"] = "Apple GPU"
    return devices
