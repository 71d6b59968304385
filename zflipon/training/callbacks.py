"""Callbacks of the Trainer: running average of the weights, evaluation, and the check of the loss.

`zflipon.training.loop` puts them together.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from transformers import TrainerCallback

from zflipon.config import StageConfig
from zflipon.errors import NotANumberError, ZfliponError
from zflipon.jobs.distributed import broadcast_from_main, process_state
from zflipon.models import Checkpoint
from zflipon.training.evaluators import Evaluator, without_calibration
from zflipon.training.history import HISTORY, VALIDATION, append_row, best_row, read_rows
from zflipon.training.resume import AVERAGE, load_tensors, save_tensors, step_of

log = logging.getLogger("zflipon")

BEST_WEIGHTS = "best.pt"
"""Weights of the best evaluation, in a stage's folder."""

SILENT_SECONDS = 30.0
"""Longest time without a line in the log, if steps are shorter."""

_AVERAGE_WARMUP = 9
"""The decay of the average starts at step / (step + this), so that the first weights have little influence."""


class WeightAverage(TrainerCallback):
    """Exponential moving average of the weights, which overfits less than the last weights.

    It is saved inside each checkpoint, so that a resumed run has the average of the same step.

    Parameters
    ----------
    module : torch.nn.Module
    decay : float
    folder : Path
        Of the stage.

    Attributes
    ----------
    weights : dict of str to Tensor
    """

    def __init__(self, module: torch.nn.Module, decay: float, folder: Path):
        self.module, self.decay, self.folder = module, decay, folder
        self.weights: dict[str, torch.Tensor] = {}

    def on_train_begin(self, args, state, control, **_rest):
        """Start from the current weights, or from the average of the checkpoint."""
        self.weights = {name: each.detach().clone() for name, each in self.module.state_dict().items()}
        if state.global_step:
            for name, each in load_tensors(self._path(state.global_step)).items():
                self.weights[name].copy_(each)

    @torch.no_grad()
    def on_step_end(self, args, state, control, **_rest):
        """Add the weights of this step."""
        decay = min(self.decay, state.global_step / (state.global_step + _AVERAGE_WARMUP))
        for name, each in self.module.state_dict().items():
            if each.is_floating_point():
                self.weights[name].lerp_(each, 1 - decay)

    def on_save(self, args, state, control, **_rest):
        """Complete the checkpoint with the average."""
        if state.is_world_process_zero:
            save_tensors(self.weights, self._path(state.global_step))

    def _path(self, step: int) -> Path:
        return self.folder / f"checkpoint-{step}" / AVERAGE

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average into the module inside the block."""
        own = {name: each.detach().clone() for name, each in self.module.state_dict().items()}
        self.module.load_state_dict(self.weights)
        try:
            yield
        finally:
            self.module.load_state_dict(own)


class Evaluation(TrainerCallback):
    """Evaluates the model at evenly spaced steps, saves the best weights, and stops when the patience is exhausted.

    All state is in the stage's folder, so that a resumed run continues it.

    Parameters
    ----------
    evaluator : Evaluator
    checkpoint : Checkpoint
    stage : StageConfig
    steps : int
        Steps of the stage.
    folder : Path
        Of the stage.
    average : WeightAverage or None
        Average to evaluate instead of the current weights.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        checkpoint: Checkpoint,
        stage: StageConfig,
        steps: int,
        folder: Path,
        average: WeightAverage | None,
    ):
        self.evaluator, self.checkpoint = evaluator, without_calibration(checkpoint)
        self.stage, self.folder, self.average = stage, folder, average
        count = min(stage.evaluations, steps)
        self.due = {round(steps * (number + 1) / count) for number in range(count)}

    def on_step_end(self, args, state, control, model=None, **_rest):
        """Evaluate in the main process if an evaluation is due."""
        if state.global_step not in self.due:
            return

        def evaluate() -> bool:
            with self.average.applied() if self.average else nullcontext():
                self.evaluate(state.global_step)
            return self.is_exhausted()

        control.should_training_stop |= broadcast_from_main(process_state(), evaluate)
        if model is not None:
            model.train()

    def evaluate(self, step: int) -> None:
        """Measure and log, and save the weights if they are the best so far."""
        try:
            measures = self.evaluator.measure(self.checkpoint, self.stage)
        except NotANumberError as error:
            raise diverged(self.folder, f"the model of step {step} predicts NaN") from error
        text = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in measures.items())
        log.info("step %d: validation: %s", step, text)
        rows = [*read_rows(self.folder / VALIDATION), {"step": step, **measures}]
        if best_row(rows, self.stage.measure) is rows[-1]:
            save_tensors(self.checkpoint.module.state_dict(), self.folder / BEST_WEIGHTS)
        append_row(self.folder / VALIDATION, rows[-1])

    def is_exhausted(self) -> bool:
        """Whether the measure has not improved for the number of evaluations that is the stage's patience."""
        rows = read_rows(self.folder / VALIDATION)
        best = best_row(rows, self.stage.measure)
        if best is None:
            return False
        since = len(rows) - 1 - rows.index(best)
        exhausted = 0 < self.stage.patience <= since
        if exhausted:
            log.info(
                "%s has not improved in %d evaluations: the stage stops here",
                self.stage.measure.replace("_", " "),
                since,
            )
        return exhausted


class LossMonitor(TrainerCallback):
    """Logs the loss and stops the training if it is not a finite number.

    A loss is logged before a checkpoint is saved, so that no checkpoint contains NaN. Between the losses of slow
    models, a line reports the steps and the remaining time.

    Parameters
    ----------
    folder : Path
        Of the stage.
    interval : float
        Seconds without a line in the log after which a step is reported.
    """

    def __init__(self, folder: Path, interval: float = SILENT_SECONDS):
        self.folder, self.interval = folder, interval
        self.last = self._first = 0
        self._began = self._reported = time.monotonic()

    def on_train_begin(self, args, state, control, **_rest):
        """Remember the first step."""
        self.last = self._first = state.global_step
        self._began = self._reported = time.monotonic()

    def on_step_end(self, args, state, control, **_rest):
        """Report the step and the remaining time if nothing was logged for a while."""
        now, step = time.monotonic(), state.global_step
        if now - self._reported < self.interval or step <= self._first:
            return
        self._reported = now
        remaining = (now - self._began) / (step - self._first) * (state.max_steps - step)
        log.info("step %d of %d, about %s left", step, state.max_steps, timedelta(seconds=round(remaining)))

    def on_log(self, args, state, control, logs=None, **_rest):
        """Check and record a logged loss."""
        if not logs or "loss" not in logs:
            return
        loss, step = float(logs["loss"]), state.global_step
        if not np.isfinite(loss):
            raise diverged(self.folder, f"the loss is {loss} between steps {self.last + 1} and {step}")
        self.last, self._reported = step, time.monotonic()
        log.info("step %d of %d: loss %.5f", step, state.max_steps, loss)
        if state.is_world_process_zero:
            row = {"step": step, "loss": loss, "learning_rate": logs.get("learning_rate")}
            append_row(self.folder / HISTORY, row)


def diverged(folder: Path, what: str) -> ZfliponError:
    """Return the error of a training whose weights are no longer finite."""
    checkpoints = sorted((path for path in folder.glob("checkpoint-*") if path.is_dir()), key=step_of)
    saved = (
        f"the weights of step {step_of(checkpoints[-1])} are in {checkpoints[-1]}"
        if checkpoints
        else "no weights are saved yet"
    )
    return ZfliponError(
        f"stage {folder.name}: {what}. Lower the learning rate, or set precision = 'float32'; {saved}"
    )
