"""Training of one stage with the Hugging Face Trainer, on our own batches.

Callbacks are in `zflipon.training.callbacks`, the sequence of stages in `zflipon.training.pipeline`.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from zflipon.config import StageConfig
from zflipon.errors import MissingExtraError, OutputError, RecipeError
from zflipon.inference.devices import resolve_device, resolve_precision
from zflipon.jobs.distributed import process_state
from zflipon.models import Checkpoint
from zflipon.training.batching import LOSS_WEIGHT, BatchDataset, BatchSource
from zflipon.training.callbacks import BEST_WEIGHTS, Evaluation, LossMonitor, WeightAverage
from zflipon.training.evaluators import Evaluator
from zflipon.training.history import truncate_history
from zflipon.training.resume import last_checkpoint, load_tensors, step_of

log = logging.getLogger("zflipon")

_SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}
"""Schedule of a recipe → name in transformers. The one-cycle schedule is that of torch."""

_MOST_LOGGED_STEPS, _MOST_UNSAVED_STEPS = 50, 500
"""The loss is logged, and a checkpoint saved, after this number of steps at the latest."""

_CHECKPOINTS = 2
"""Checkpoints that are kept: the newest, and the one before it in case the newest is damaged."""


class StageTrainer(Trainer):
    """A Trainer whose dataset yields the batches of this process in order.

    The loss of a batch is the weighted mean over all its examples, however it is divided among processes and the parts
    of gradient accumulation: each part's mean counts by the part's share of the weights.

    Parameters
    ----------
    one_cycle : bool
        Use the one-cycle schedule instead of that in the arguments.
    *arguments, **named
        As in `transformers.Trainer`. The dataset is a `BatchDataset`.
    """

    def __init__(self, *arguments, one_cycle: bool = False, **named):
        super().__init__(*arguments, **named)
        self.one_cycle = one_cycle
        self.model_accepts_loss_kwargs = True  # makes the Trainer count the examples of all parts beforehand
        # `compute_loss` weighs the parts; with transformers 5.4, gradients would also be divided by their number
        self.accelerator.gradient_accumulation_steps = 1

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> torch.Tensor:
        """Return the summed weights of the examples in all parts of a batch, in all processes."""
        total = sum(batch[LOSS_WEIGHT] for batch in batch_samples)
        totals = self.accelerator.gather(
            torch.full((1,), total, device=device)
        )  # filled there: nothing is copied
        return cast(
            torch.Tensor, totals
        ).sum()  # it returns what it is given; its annotation names every type

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Return this part's contribution to the loss of the batch."""
        weight = inputs[LOSS_WEIGHT]
        outputs = model(**{name: value for name, value in inputs.items() if name != LOSS_WEIGHT})
        if weight == 0:  # no labelled position: the mean of the model is NaN
            loss = outputs.logits.sum() * 0
        elif num_items_in_batch is None:
            loss = outputs.loss
        else:  # gradients are averaged over processes, so that the sum needs a factor
            loss = outputs.loss * (weight / num_items_in_batch) * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def _prepare_input(self, data):
        """Move a batch to the device; copies of pinned memory do not make the host wait."""
        if isinstance(data, torch.Tensor):
            return data.to(self.args.device, non_blocking=True)
        return super()._prepare_input(data)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        """Save the weights without the Trainer's assumptions about tied weights."""
        path = output_dir or self.args.output_dir
        if path is None:
            raise ValueError(
                "no folder to save the weights in: neither output_dir nor args.output_dir is set"
            )
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        self.accelerator.unwrap_model(self.model).save_pretrained(folder, state_dict=state_dict)

    def create_scheduler(self, num_training_steps: int, optimizer=None):
        """Return the schedule of the learning rate."""
        if not self.one_cycle:
            return super().create_scheduler(num_training_steps, optimizer)
        if self.lr_scheduler is None:
            chosen = cast(Optimizer, optimizer or self.optimizer)  # a placeholder with DeepSpeed alone
            self.lr_scheduler = OneCycleLR(chosen, self.args.learning_rate, total_steps=num_training_steps)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def get_train_dataloader(self) -> DataLoader:
        """Return the batches as they are: each process builds its own part of every batch."""
        if self.train_dataset is None:
            raise ValueError("the trainer has no train_dataset")
        workers = self.args.dataloader_num_workers
        return DataLoader(
            self.train_dataset,
            batch_size=1,  # an item is a batch
            collate_fn=itemgetter(0),
            num_workers=workers,
            pin_memory=self.args.dataloader_pin_memory and torch.cuda.is_available(),
            persistent_workers=workers > 0,
        )


def train_stage(
    checkpoint: Checkpoint,
    source: BatchSource,
    evaluator: Evaluator | None,
    folder: Path,
    report_to: Sequence[str] = (),
) -> None:
    """Train the module of a checkpoint in place for one stage, from the last checkpoint in the folder if there is one.

    Parameters
    ----------
    checkpoint : Checkpoint
        Its module ends with the stage's best weights, or with the last ones without an evaluator.
    source : BatchSource
    evaluator : Evaluator or None
    folder : Path
        Of the stage: gets checkpoints, `HISTORY` and `VALIDATION`.
    report_to : sequence of str
        Loggers of the Trainer.

    Raises
    ------
    ZfliponError
        If the loss is no longer a finite number.
    OutputError
        If a checkpoint cannot be written.
    MissingExtraError
        If a logger is not installed.
    RecipeError
        If the stage cannot run on this device or with this number of processes.
    """
    stage, state = source.stage, process_state()
    _check_stage(checkpoint, stage, state.num_processes)
    folder.mkdir(parents=True, exist_ok=True)
    module = checkpoint.module
    if stage.gradient_checkpointing:
        module.enable_activation_recomputation()
    average = WeightAverage(module, stage.ema_decay, folder) if stage.ema_decay else None
    evaluation = None
    if evaluator and stage.evaluations:
        evaluation = Evaluation(evaluator, checkpoint, stage, source.steps, folder, average)
    # the loss of bases divides by their number
    class_weights = stage.class_weights if stage.objective in ("token", "sequence") else None
    processes, rank = state.num_processes, state.process_index
    trainer = StageTrainer(
        model=module,
        args=_training_arguments(stage, source.steps, folder, report_to),
        train_dataset=BatchDataset(source, checkpoint.tokenizer, processes, rank, class_weights),
        callbacks=[each for each in (evaluation, LossMonitor(folder), average) if each],
        one_cycle=stage.schedule == "one-cycle",
    )
    trainer.remove_callback(PrinterCallback)  # the loss is in our own log
    disable_progress_bar()
    set_verbosity_error()
    _run(trainer, folder, last_checkpoint(folder, averaged=average is not None))
    state.wait_for_everyone()
    if evaluation and (folder / BEST_WEIGHTS).exists():
        module.load_state_dict(load_tensors(folder / BEST_WEIGHTS))
    elif average:
        module.load_state_dict(average.weights)


def _check_stage(checkpoint: Checkpoint, stage: StageConfig, processes: int) -> None:
    parts = stage.gradient_accumulation * processes
    if stage.batch_size % parts:
        raise RecipeError(
            f"stage {stage.name}: batch_size: expected a multiple of {parts} ({processes} processes × "
            f"{stage.gradient_accumulation} parts of gradient accumulation), found {stage.batch_size}"
        )
    if stage.gradient_checkpointing and not checkpoint.module.supports_gradient_checkpointing:
        raise RecipeError(
            f"stage {stage.name}: {checkpoint.metadata.family} does not support gradient checkpointing; set "
            "gradient_checkpointing = false"
        )
    if stage.precision == "float16" and not torch.cuda.is_available():
        raise RecipeError(
            f"stage {stage.name}: precision 'float16' needs a CUDA GPU; set precision = 'bfloat16' or 'float32'"
        )


def _training_arguments(
    stage: StageConfig, steps: int, folder: Path, report_to: Sequence[str]
) -> TrainingArguments:
    for name in report_to:
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(f"report_to = '{name}'", name, "log")
    if "tensorboard" in report_to:
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / "tensorboard")
    log_every = max(1, min(_MOST_LOGGED_STEPS, steps // 4))
    gpu = torch.cuda.is_available()
    precision = resolve_precision(stage.precision, resolve_device("auto"))
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=stage.gradient_accumulation,
        learning_rate=stage.learning_rate,
        weight_decay=stage.weight_decay,
        warmup_steps=round(stage.warmup * steps),
        max_grad_norm=stage.gradient_clip,
        lr_scheduler_type=_SCHEDULES.get(stage.schedule, "constant"),
        bf16=precision == torch.bfloat16,
        fp16=precision == torch.float16,
        use_cpu=not gpu and not torch.backends.mps.is_available(),
        dataloader_num_workers=2 if gpu else 0,
        # a stage can train a part of the base head alone
        ddp_find_unused_parameters=stage.objective == "base",
        # the loss is checked before a checkpoint is saved
        save_steps=log_every * max(1, min(_MOST_UNSAVED_STEPS, steps // 4) // log_every),
        save_total_limit=_CHECKPOINTS,
        logging_steps=log_every,
        logging_nan_inf_filter=False,
        average_tokens_across_devices=False,
        report_to=list(report_to),
        run_name=folder.parent.parent.name,
        disable_tqdm=True,
        seed=stage.seed,
        remove_unused_columns=False,
    )
    _use_one_gpu(arguments)
    return arguments


def _use_one_gpu(arguments: TrainingArguments) -> None:
    """Make a process without a launcher train on one GPU: the Trainer would split its batches with DataParallel.

    DataParallel is slow, and the loss of a batch would no longer be that of one process.
    """
    if arguments.n_gpu > 1:
        log.warning(
            "training uses 1 of %d GPUs; to use all: accelerate launch --num_processes %d -m zflipon train …",
            arguments.n_gpu,
            arguments.n_gpu,
        )
        arguments._n_gpu = 1


def _run(trainer: Trainer, folder: Path, saved: Path | None) -> None:
    """Train from a checkpoint, or from the start; turn a failure to write into an `OutputError`."""
    if trainer.is_world_process_zero():
        truncate_history(folder, step_of(saved) if saved else 0)
    try:
        trainer.train(resume_from_checkpoint=str(saved) if saved else None)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise _cannot_save(folder, str(reason)) from error
    except RuntimeError as error:
        # how torch.save reports a full disk
        if "PytorchStreamWriter" not in str(error) and "inline_container" not in str(error):
            raise
        raise _cannot_save(folder, "the disk may be full") from error


def _cannot_save(folder: Path, reason: str) -> OutputError:
    return OutputError(
        f"{folder}: cannot save a checkpoint ({reason}); free some space, then run the same command to resume"
    )
