"""One stage: the Hugging Face Trainer on our batches, the best weights by the stage's measure."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from operator import itemgetter
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from zflipon.config import MONITORS, StageConfig
from zflipon.errors import MissingExtraError, NotANumberError, OutputError, RecipeError, ZfliponError
from zflipon.inference.devices import resolve_device, resolve_precision
from zflipon.jobs.distributed import process_state
from zflipon.models import Checkpoint
from zflipon.training.batching import Batches, Source
from zflipon.training.evaluators import Evaluator, uncalibrated
from zflipon.training.history import HISTORY, VALIDATION, add_row, best_row, forget, read_rows

log = logging.getLogger("zflipon")

_SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}
_STATE = "trainer_state.json"
"""What the Trainer writes last into a checkpoint: one without it was cut short."""


class StageTrainer(Trainer):
    """The Trainer, where an item of the dataset is a whole batch of this process, taken in order."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        # our losses are means of what they see, so that parts of a batch are averaged, not added up
        self.model_accepts_loss_kwargs = False

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        """Write the weights; the Trainer by itself knows tied ones of transformers' models alone."""
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        self.accelerator.unwrap_model(self.model).save_pretrained(folder, state_dict)

    def get_train_dataloader(self) -> DataLoader:
        """Return the batches as they are: each process takes its own part of every one."""
        workers = self.args.dataloader_num_workers
        return DataLoader(
            self.train_dataset,
            batch_size=1,  # an item is a batch
            collate_fn=itemgetter(0),
            num_workers=workers,
            pin_memory=self.args.dataloader_pin_memory and torch.cuda.is_available(),
            persistent_workers=workers > 0,
        )


class Average(TrainerCallback):
    """Keeps a running average of the weights, which overfits less than the last ones; a resumed run goes on with it."""

    def __init__(self, module: torch.nn.Module, decay: float, folder: Path):
        self.module, self.decay, self.record = module, decay, folder / "average.pt"
        self.weights: dict[str, torch.Tensor] = {}

    def on_train_begin(self, args, state, control, **_rest):
        """Start from the weights as they are, or from where a stopped run was."""
        if state.global_step and self.record.exists():
            self.weights = torch.load(self.record, weights_only=True)
        else:
            self.weights = {name: each.detach().clone() for name, each in self.module.state_dict().items()}

    @torch.no_grad()
    def on_step_end(self, args, state, control, **_rest):
        """Take this step's weights in; the first ones count for little."""
        decay = min(self.decay, state.global_step / (state.global_step + 9))
        for name, each in self.module.state_dict().items():
            if each.is_floating_point():
                self.weights[name].lerp_(each, 1 - decay)

    def on_save(self, args, state, control, **_rest):
        """Keep the average beside the checkpoint."""
        if state.is_world_process_zero:
            save_whole(self.weights, self.record)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average into the module for a while."""
        own = {name: each.detach().clone() for name, each in self.module.state_dict().items()}
        self.module.load_state_dict(self.weights)
        try:
            yield
        finally:
            self.module.load_state_dict(own)


class Evaluation(TrainerCallback):
    """Measures the model now and then, keeps the best weights, and stops where nothing gets better any more.

    What was measured so far stands in the stage's folder, and all else follows from it; so a resumed run goes on.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        checkpoint: Checkpoint,
        stage: StageConfig,
        steps: int,
        folder: Path,
        average: Average | None,
    ):
        self.evaluator, self.checkpoint, self.stage, self.folder = (
            evaluator,
            uncalibrated(checkpoint),
            stage,
            folder,
        )
        self.average = average
        self.monitor = monitored(stage)
        count = min(stage.evaluations, steps)
        self.due = {round(steps * (number + 1) / count) for number in range(count)}

    def on_step_end(self, args, state, control, model=None, **_rest):
        """Evaluate when due."""
        if state.global_step not in self.due:
            return
        stop = [False]
        if state.is_world_process_zero:
            with self.average.applied() if self.average else nullcontext():
                self.evaluate(state.global_step)
            stop = [self.exhausted()]
        model.train()
        control.should_training_stop |= broadcast_object_list(stop)[0]

    def evaluate(self, step: int) -> None:
        """Measure, report, and save the weights if they are the best so far."""
        try:
            measures = self.evaluator.measure(self.checkpoint, self.stage)
        except NotANumberError as error:
            raise _diverged(self.folder, f"step {step} gives values that are no numbers") from error
        told = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in measures.items())
        log.info("step %d: validation: %s", step, told)
        rows = [*read_rows(self.folder / VALIDATION), {"step": step, **measures}]
        if best_row(rows, self.monitor) is rows[-1]:
            save_whole(self.checkpoint.module.state_dict(), self.folder / "best.pt")
        add_row(self.folder / VALIDATION, rows[-1])

    def exhausted(self) -> bool:
        """Tell whether the stage's patience is at an end."""
        rows = read_rows(self.folder / VALIDATION)
        since = len(rows) - 1 - rows.index(best_row(rows, self.monitor))
        if self.stage.patience and since >= self.stage.patience:
            log.info("no better %s in %d evaluations: the stage stops", self.monitor.replace("_", " "), since)
            return True
        return False


class Watch(TrainerCallback):
    """Writes down each logged loss, and stops on one that is no number; the last checkpoint stays.

    A loss is logged before a checkpoint is saved, so that none holds weights which are no numbers.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.last = 0

    def on_train_begin(self, args, state, control, **_rest):
        """Remember where the run starts."""
        self.last = state.global_step

    def on_log(self, args, state, control, logs=None, **_rest):
        """Look at each logged loss."""
        if not logs or "loss" not in logs:
            return
        if not np.isfinite(float(logs["loss"])):
            raise _diverged(
                self.folder,
                f"the loss is {logs['loss']} between steps {self.last + 1} and {state.global_step}",
            )
        self.last = state.global_step
        log.info("step %d of %d: loss %.5f", state.global_step, state.max_steps, logs["loss"])
        if state.is_world_process_zero:
            row = {
                "step": state.global_step,
                "loss": float(logs["loss"]),
                "learning_rate": logs.get("learning_rate"),
            }
            add_row(self.folder / HISTORY, row)


def _diverged(folder: Path, found: str) -> ZfliponError:
    saved = last_checkpoint(folder)
    kept = f"the weights of step {_step(saved)} are in {saved}" if saved else "no weights are saved yet"
    return ZfliponError(
        f"stage {folder.name}: {found}; lower the learning rate, or take precision = 'float32'; {kept}"
    )


def fit(
    checkpoint: Checkpoint,
    source: Source,
    evaluator: Evaluator | None,
    folder: Path,
    report_to: Sequence[str] = (),
) -> None:
    """Train a checkpoint's module in place for one stage; go on from the folder's last checkpoint if there is one.

    Parameters
    ----------
    checkpoint : Checkpoint
        Its module ends with the stage's best weights, or the last ones where nothing validates.
    source : Source
    judge : Judge or None
    folder : Path
        Of the stage: checkpoints, `HISTORY`, `VALIDATION`.
    report_to : sequence of str
        Loggers of the Trainer's.

    Raises
    ------
    ZfliponError
        If the loss is no longer a number.
    OutputError
        If a checkpoint cannot be written.
    MissingExtraError
        If a logger is asked for that is not installed.
    """
    stage, state = source.stage, process_state()
    parts = stage.gradient_accumulation * state.num_processes
    if stage.batch_size < parts:
        raise RecipeError(
            f"stage {stage.name}: a batch of {stage.batch_size} windows cannot be shared by {state.num_processes} "
            f"processes of {stage.gradient_accumulation} parts each; raise batch_size"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if stage.gradient_checkpointing:
        if not checkpoint.module.supports_gradient_checkpointing:
            raise RecipeError(
                f"stage {stage.name}: {checkpoint.metadata.family} keeps its activations: "
                "set gradient_checkpointing = false"
            )
        checkpoint.module.recompute()
    average = Average(checkpoint.module, stage.average, folder) if stage.average else None
    evaluation = (
        Evaluation(evaluator, checkpoint, stage, source.steps, folder, average)
        if evaluator and stage.evaluations
        else None
    )
    trainer = StageTrainer(
        model=checkpoint.module,
        args=_arguments(stage, source.steps, folder, report_to),
        train_dataset=Batches(source, checkpoint.tokenizer, state.num_processes, state.process_index),
        callbacks=[each for each in (evaluation, Watch(folder), average) if each],
    )
    trainer.remove_callback(PrinterCallback)  # our log says it once
    disable_progress_bar()
    set_verbosity_error()
    _run(trainer, folder)
    state.wait_for_everyone()
    if evaluation and (folder / "best.pt").exists():
        checkpoint.module.load_state_dict(torch.load(folder / "best.pt", weights_only=True))
    elif average:
        checkpoint.module.load_state_dict(average.weights)


def _arguments(stage: StageConfig, steps: int, folder: Path, report_to: Sequence[str]) -> TrainingArguments:
    for name in report_to:
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(f"report_to = '{name}'", name, "log")
    if "tensorboard" in report_to:
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / "tensorboard")
    logged = max(1, min(50, steps // 4))
    gpu = torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=stage.gradient_accumulation,
        learning_rate=stage.learning_rate,
        weight_decay=stage.weight_decay,
        warmup_steps=round(stage.warmup * steps),
        lr_scheduler_type=_SCHEDULES[stage.schedule],
        bf16=resolve_precision(stage.precision, resolve_device("auto")) == torch.bfloat16,
        use_cpu=not gpu and not torch.backends.mps.is_available(),
        dataloader_num_workers=2 if gpu else 0,
        # a stage may train a part of the base head alone
        ddp_find_unused_parameters=stage.objective == "base",
        save_steps=logged * max(1, min(500, steps // 4) // logged),
        save_total_limit=2,
        logging_steps=logged,
        logging_nan_inf_filter=False,
        average_tokens_across_devices=False,
        report_to=list(report_to),
        run_name=folder.parent.parent.name,
        disable_tqdm=True,
        seed=stage.seed,
        remove_unused_columns=False,
    )


def _run(trainer: Trainer, folder: Path) -> None:
    """Train, and turn a failure to write into one line."""
    saved = last_checkpoint(folder)
    if trainer.is_world_process_zero():
        forget(folder, _step(saved) if saved else 0)
    try:
        trainer.train(resume_from_checkpoint=str(saved) if saved else None)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(
            f"{folder}: the run cannot be saved ({reason}); make room, and the same command goes on"
        ) from error
    except RuntimeError as error:
        # torch.save reports a full disk so
        if "PytorchStreamWriter" not in str(error) and "inline_container" not in str(error):
            raise
        raise OutputError(
            f"{folder}: the run cannot be saved; make room, and the same command goes on"
        ) from error


def _step(saved: Path) -> int:
    return int(saved.name.rpartition("-")[2])


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint that is whole; those that a kill or a full disk cut short are removed."""
    found = sorted(folder.glob("checkpoint-*"), key=_step)
    while found:
        try:
            json.loads((found[-1] / _STATE).read_text())
        except (OSError, ValueError):
            if process_state().is_main_process:
                shutil.rmtree(found[-1], ignore_errors=True)
            found.pop()
        else:
            return found[-1]
    return None


def monitored(stage: StageConfig) -> str:
    """Return the measure by which a stage's weights are best."""
    default = (
        "average_precision"
        if stage.sampling == "drawn" and stage.objective == "token"
        else MONITORS[stage.objective][0]
    )
    return stage.monitor or default


def save_whole(weights: dict[str, torch.Tensor], path: Path) -> None:
    """Write a state dict beside its name, then give it that: a kill leaves the old one or the new one."""
    part = path.with_suffix(".part")
    torch.save(weights, part)
    part.replace(path)
