"""The measurements of `benchmarks/gpu.py`: each part takes a `Setup` and returns its figures.

Figures are numbers, texts, true or false, so that they can be written as JSON.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from attributions import weights as mean_weights
from gpu_setup import (
    Setup,
    count_waits,
    digest,
    forward,
    labelled,
    model_rate,
    run_annotate,
    seconds_of,
    some_batches,
    windows_of,
)
from throughput import cost_per_base, device_name, matrix_rate, synchronize

from zflipon.config import AttributionConfig, InferenceConfig, StageConfig
from zflipon.explain.attribution import AttributionTarget
from zflipon.explain.integrated_gradients import IntegratedGradientsExplainer
from zflipon.genome.fasta import Genome
from zflipon.genome.windows import tile_windows
from zflipon.inference.genome_scan import predict_windows
from zflipon.training.batching import LOSS_WEIGHT, BatchDataset
from zflipon.training.labelled_windows import EpochBatches
from zflipon.training.loop import train_stage
from zflipon.workflows.doctor import check_model

Figures = dict[str, float | int | str | bool | None]
"""Name of a figure → its value."""

OBJECTIVES = ("base", "token")
"""Objectives of `Setup.models`."""

KERNELS = 10
"""Kernels of the profile that are listed."""


def environment(setup: Setup) -> Figures:
    """Return the device, its memory, and the versions."""
    device = setup.torch_device
    figures: Figures = {
        "device": device_name(device),
        "torch": torch.__version__,
        "CUDA": torch.version.cuda or "",
        "CPU threads": torch.get_num_threads(),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        figures["memory, GiB"] = properties.total_memory / 2**30
        figures["compute capability"] = f"{properties.major}.{properties.minor}"
        figures["GPUs"] = torch.cuda.device_count()
    for precision in setup.precisions:
        rate = matrix_rate(device, getattr(torch, precision))
        figures[f"matrix products, {precision}, TFLOP/s"] = rate / 1e12
    return figures


def doctor(setup: Setup) -> Figures:
    """Return how much each device and precision differs from float32 on the CPU."""
    figures: Figures = {}
    report = check_model(str(setup.model))
    for trial in report.trials:
        where = f"{trial.device} {trial.precision}"
        figures[f"{where}, difference"] = trial.difference
        figures[f"{where}, same calls"] = trial.alike
        figures[f"{where}, agrees"] = trial.agrees
    figures["problems"] = "; ".join(report.problems)
    return figures


def speed(setup: Setup) -> Figures:
    """Return bases per second from FASTA to bigWig, and of the model alone with its share of the matrix rate."""
    figures: Figures = {}
    for name, megabases in zip(setup.models, (setup.size(200e6, 3e4), setup.size(10e6, 2e4)), strict=True):
        predictor = setup.predictor(name)
        precision = str(predictor.dtype).removeprefix("torch.")
        with Genome(setup.fasta) as genome:
            operations, tokens = cost_per_base(predictor.module, predictor, genome)
        rate = model_rate(setup, predictor)
        peak = matrix_rate(setup.torch_device, predictor.dtype)
        figures[f"{name}, model alone, {precision}, Mb/s"] = rate / 1e6
        figures[f"{name}, model alone, {precision}, Mtokens/s"] = rate * tokens / 1e6
        figures[f"{name}, share of the matrix rate"] = rate * operations / peak
        report = run_annotate(setup, name, "speed.bw", megabases)
        figures[f"{name}, FASTA to bigWig, Mb/s"] = report["bases"] / report["seconds"] / 1e6
        figures[f"{name}, windows read in full"] = report["tracks"]["windows_read"] / max(
            1, report["windows"]
        )
        for stage, seconds in report["seconds_in"].items():
            figures[f"{name}, share of {stage}"] = seconds / report["seconds"]
    return figures


def kernels(setup: Setup) -> Figures:
    """Return the share of the device's time of the slowest kernels of a batch."""
    figures: Figures = {}
    for name in setup.models:
        predictor = setup.predictor(name)
        batches = some_batches(setup, predictor, 2)
        forward(predictor, batches)
        activities = [torch.profiler.ProfilerActivity.CPU]
        if setup.torch_device.type == "cuda":
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        with torch.profiler.profile(activities=activities) as profile:
            forward(predictor, batches)
        on_gpu = setup.torch_device.type == "cuda"
        times = {
            event.key: event.self_device_time_total if on_gpu else event.self_cpu_time_total
            for event in profile.key_averages()
        }
        total = sum(times.values()) or 1
        for kernel in sorted(times, key=times.__getitem__, reverse=True)[:KERNELS]:
            figures[f"{name}, {kernel[:60]}"] = times[kernel] / total
    return figures


def host_waits(setup: Setup) -> Figures:
    """Return how often the host waits for the GPU in a batch of inference and in a step of training."""
    figures: Figures = {}
    for name, objective in zip(setup.models, OBJECTIVES, strict=True):
        predictor = setup.predictor(name)
        batches = some_batches(setup, predictor, 4)
        forward(predictor, batches)
        waits = count_waits(setup, partial(forward, predictor, batches))
        figures[f"{name}, waits per batch"] = waits and waits / len(batches)
        checkpoint = setup.checkpoint(name)
        stage = training_stage(objective, checkpoint.metadata.window, 4, 1)
        windows = labelled(setup, 4, checkpoint.metadata.window)
        batch = BatchDataset(EpochBatches(windows, stage), checkpoint.tokenizer)[0]
        batch.pop(LOSS_WEIGHT)
        step = partial(training_step, checkpoint.module.to(setup.torch_device).train(), batch)
        step()
        figures[f"{name}, waits per training step"] = count_waits(setup, step)
    return figures


def attributions(setup: Setup) -> Figures:
    """Return windows per second of Integrated Gradients."""
    figures: Figures = {}
    steps = setup.size(50, 2)
    for name in setup.models:
        explainer = IntegratedGradientsExplainer(
            setup.checkpoint(name), AttributionConfig(steps), setup.device
        )
        sequences = windows_of(setup, setup.size(256, 2), 512)
        targets = [AttributionTarget(i, mean_weights(explainer, text)) for i, text in enumerate(sequences)]
        seconds = seconds_of(setup, partial(attribute, explainer, sequences, targets))
        figures[f"{name}, {steps} steps, windows/s"] = len(targets) / seconds
    return figures


def attribute(
    explainer: IntegratedGradientsExplainer, sequences: list[str], targets: list[AttributionTarget]
) -> None:
    """Compute all attributions."""
    for _ in explainer.attribute(sequences, targets):
        pass


def training(setup: Setup) -> Figures:
    """Return windows per second of training with the Trainer, without its start."""
    figures: Figures = {}
    for name, objective in zip(setup.models, OBJECTIVES, strict=True):
        checkpoint = setup.checkpoint(name)
        width = checkpoint.metadata.window
        batch_size = setup.size(max(16, (1 << 17) // width), 4)
        windows = labelled(setup, 4 * batch_size, width)
        ends = []
        for number, steps in enumerate((setup.size(10, 1), setup.size(60, 2))):
            source = EpochBatches(windows, training_stage(objective, width, batch_size, steps))
            started = time.perf_counter()
            train_stage(checkpoint, source, None, setup.scratch / f"{objective}-{number}")
            synchronize(setup.torch_device)
            ends.append((steps, time.perf_counter() - started))
        (few, start), (many, end) = ends
        rate = batch_size * (many - few) / (end - start) if end > start else None  # noise in quick mode
        figures[f"{name}, batches of {batch_size} × {width} bases, windows/s"] = rate
    return figures


def training_stage(objective: str, window: int, batch_size: int, steps: int) -> StageConfig:
    """Return a stage without warm-up and evaluation."""
    return StageConfig(
        objective=objective,
        sampling="tiled",
        window=window,
        margin=0,
        batch_size=batch_size,
        steps=steps,
        warmup=0.0,
        learning_rate=1e-6,
        evaluations=0,
    )


def training_step(module: torch.nn.Module, batch: dict[str, torch.Tensor]) -> None:
    """Copy a batch to the device, and compute the loss and its gradient."""
    device = next(module.parameters()).device
    if device.type == "cuda":
        batch = {name: each.pin_memory() for name, each in batch.items()}
    inputs = {name: each.to(device, non_blocking=True) for name, each in batch.items()}
    with torch.autocast(device.type, torch.bfloat16):
        module(**inputs).loss.backward()


def early_exit(setup: Setup) -> Figures:
    """Return whether windows that exit early would have been written as 0, and whether bounds are bounds."""
    figures: Figures = {}
    bases = setup.size(4e6, 2e4)
    for precision in setup.precisions:
        predictor = setup.predictor(setup.model, precision)
        with Genome(setup.fasta) as genome:
            contig = max(genome.lengths, key=genome.lengths.__getitem__)
            text = genome.fetch(contig, 0, min(bases, genome.lengths[contig]))
            windows = tile_windows(0, len(text), predictor.metadata.window, predictor.metadata.margin)
            full, early = (
                predict_windows(predictor, genome, contig, windows, early_exit=exits)
                for exits in (False, True)
            )
        different = np.round(full, 3) != np.round(early, 3)
        figures[f"{precision}, bases written differently"] = int((different & ~np.isnan(full)).sum())
        bounds = predictor.probability_upper_bounds(text)
        if bounds is not None:
            excess = np.nan_to_num(full - bounds[: len(full)], nan=-1.0)
            figures[f"{precision}, largest probability above its bound"] = max(0.0, float(excess.max()))
    return figures


def same_bytes(setup: Setup) -> Figures:
    """Return whether two runs, and a run with another batch size, write the same bytes."""
    figures: Figures = {}
    bases = setup.size(20e6, 2e4)
    for precision in setup.precisions:
        config = InferenceConfig(device=setup.device, precision=precision)
        digests = [
            digest(run_annotate(setup, setup.model, f"same{number}.bw", bases, settings)["path"])
            for number, settings in enumerate((config, config, replace(config, batch_size=7)))
        ]
        figures[f"{precision}, two runs"] = digests[0] == digests[1]
        figures[f"{precision}, another batch size"] = digests[0] == digests[2]
    return figures


def compiled(setup: Setup) -> Figures:
    """Return the speed of the model alone after `torch.compile`, compared with the plain model."""
    figures: Figures = {}
    if setup.quick:
        return {"skipped": "quick mode compiles nothing"}
    for name in setup.models:
        predictor = setup.predictor(name)
        plain = model_rate(setup, predictor)
        started = time.perf_counter()
        predictor.executor.module = torch.compile(predictor.executor.module, dynamic=True)  # pyright: ignore
        forward(predictor, some_batches(setup, predictor, 2))
        figures[f"{name}, seconds of compilation"] = time.perf_counter() - started
        rate = model_rate(setup, predictor)
        figures[f"{name}, compiled, Mb/s"] = rate / 1e6
        figures[f"{name}, compiled over plain"] = rate / plain
    return figures


PARTS: dict[str, Callable[[Setup], Figures]] = {
    part.__name__: part
    for part in (
        environment,
        speed,
        same_bytes,
        early_exit,
        doctor,
        host_waits,
        kernels,
        training,
        attributions,
        compiled,
    )
}
"""Name → part, the most important ones first."""
