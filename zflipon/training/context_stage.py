"""The stage of a recipe that learns chromatin: from the recipe's files to the trained wide context of a base head.

The windows and the loop are in `zflipon.training.context`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from zflipon.config import StageConfig
from zflipon.errors import RecipeError
from zflipon.genome.alphabet import base_codes_uint8
from zflipon.genome.intervals import find_overlapping, merge
from zflipon.inference.devices import resolve_precision
from zflipon.models import Checkpoint
from zflipon.models.heads.base_resolution import IS_FORMED_PRIOR
from zflipon.models.heads.context_network import TrackReadout
from zflipon.models.heads.wide_context import WideContext
from zflipon.training.context import ContextModule, train_context
from zflipon.training.context_windows import ChromatinTargets, ContextTraining, ContextWindows
from zflipon.training.dataset import TrainingData
from zflipon.training.history import HISTORY, append_row, truncate_history

log = logging.getLogger("zflipon")

_LOG_STEPS = 50
_LEAST_COVERAGE = 1e-5


def train_context_stage(
    checkpoint: Checkpoint, stage: StageConfig, training_data: TrainingData, folder: Path
) -> None:
    """Train the wide context of a base head on chromatin tracks and labelled candidates, in place.

    Parameters
    ----------
    checkpoint : Checkpoint
    stage : StageConfig
        With target ``'chromatin'``, which runs on the CPU.
    training_data : TrainingData
    folder : Path
        Of the stage; an interrupted run resumes from it.

    Raises
    ------
    RecipeError
        If the model has no wide context, the recipe names no targets or candidates, or the precision is float16.
    InputError
        If the targets cannot be read, or lack a training contig.
    """
    head = getattr(checkpoint.module, "base_head", None)
    if head is None or not isinstance(head.context, WideContext):
        raise RecipeError(
            f"stage {stage.name}: target = 'chromatin' trains a wide context; set model.base_head.wide_context"
        )
    if not (training_data.data.chromatin and training_data.candidates):
        raise RecipeError(f"stage {stage.name} learns chromatin: set data.chromatin and data.candidates")
    if stage.precision == "float16":
        raise RecipeError(
            f"stage {stage.name}: target = 'chromatin' runs on the CPU, where precision 'float16' is not supported; "
            "set precision = 'auto'"
        )
    folder.mkdir(parents=True, exist_ok=True)
    windows = _windows(stage, training_data, training_data.data.chromatin)
    torch.manual_seed(stage.seed)
    module = _context_module(head.context, windows)
    dtype = resolve_precision(stage.precision, torch.device("cpu"), gains=True)
    train_context(module, windows, folder, dtype, _history_writer(stage, folder))
    module.fold_offsets(windows.calls_per_chromosome)
    with torch.no_grad():
        head.is_formed.weight.zero_()  # k-mer tables are still without log-odds
        head.is_formed.weight[:, : head.context.channels] = module.activity.weight
        head.is_formed.bias.copy_(module.activity.bias)
    log.info("stage %s: %d chromatin tracks, %d steps", stage.name, len(windows.targets.names), stage.steps)


def _windows(stage: StageConfig, training_data: TrainingData, chromatin: str) -> ContextWindows:
    genome, contigs = training_data.required_genome, training_data.contigs["train"]
    codes = {contig: base_codes_uint8(genome.fetch(contig, 0, size)) for contig, size in contigs.items()}
    calls, labelled = _labelled_candidates(training_data)
    settings = ContextTraining(
        steps=stage.steps,
        window=stage.window,
        batch_size=stage.batch_size,
        learning_rate=stage.learning_rate,
        weight_decay=stage.weight_decay,
        warmup=max(1, round(stage.warmup * stage.steps)),
        call_share=stage.positives / (stage.positives + stage.background),
        first_call_step=round(stage.labels_from * stage.steps),
        average=stage.ema_decay,
        seed=stage.seed,
    )
    targets = ChromatinTargets.load(chromatin)
    return ContextWindows(codes, targets, calls, labelled, settings)


def _labelled_candidates(training_data: TrainingData) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the candidates of the training contigs outside the blacklist, and which of them have a label."""
    calls, labelled = {}, {}
    for contig in training_data.contigs["train"]:
        if contig not in training_data.candidates:
            continue
        rows = merge(training_data.candidates[contig])
        ignored = merge(training_data.blacklist.get(contig, np.empty((0, 2), dtype=np.int64)))
        labels = merge(training_data.labels.get(contig, np.empty((0, 2), dtype=np.int64)))
        rows = np.array([row for row in rows.tolist() if not len(find_overlapping(ignored, *row))]).reshape(
            -1, 2
        )
        calls[contig] = rows.astype(np.int64)
        labelled[contig] = np.array([bool(len(find_overlapping(labels, *row))) for row in rows], dtype=bool)
    return calls, labelled


def _context_module(context: WideContext, windows: ContextWindows) -> ContextModule:
    """Return the module to train; the readouts start from the frequencies of what they predict."""
    tracks = TrackReadout(context.channels, len(windows.targets.names))
    coverage = (
        torch.from_numpy(windows.targets.coverage()).float().clamp(_LEAST_COVERAGE, 1 - _LEAST_COVERAGE)
    )
    activity = nn.Linear(context.channels, 1)
    with torch.no_grad():
        tracks.output.bias.copy_(torch.logit(coverage))
        activity.bias.zero_()
    return ContextModule(context, activity, tracks, len(windows.chromosomes), IS_FORMED_PRIOR)


def _history_writer(stage: StageConfig, folder: Path) -> Callable[[int, float, float], None]:
    """Return a callback that logs the mean losses of every 50 steps, after a resume without repetition."""
    losses: list[tuple[float, float]] = []

    def write(step: int, tracks: float, calls: float) -> None:
        if not losses:
            truncate_history(folder, step - 1)
        losses.append((tracks, calls))
        if step % _LOG_STEPS == 0 or step == stage.steps:
            track_loss, call_loss = np.mean(losses[-_LOG_STEPS:], axis=0)
            row = {"step": step, "loss": float(call_loss), "track_loss": float(track_loss)}
            append_row(folder / HISTORY, row)
            log.info("step %d of %d: tracks %.5f, candidates %.4f", step, stage.steps, track_loss, call_loss)

    return write
