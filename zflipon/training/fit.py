"""One stage: the Hugging Face Trainer on our batches, the best weights by genome-wide average precision."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils.logging import disable_progress_bar

from zflipon.config import MIN_GAP, PredictConfig, StageConfig
from zflipon.errors import ZfliponError
from zflipon.genome import Genome
from zflipon.intervals import Intervals, fill
from zflipon.metrics import ScoreHistogram
from zflipon.models import Checkpoint
from zflipon.predict import Predictor, predict_tiles
from zflipon.training.data import WindowBatches
from zflipon.windows import tile

log = logging.getLogger("zflipon")

_SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}
_LOGIT_STEP = 64
"""Log-odds are kept to 1/64 in the validation histogram, which bounds its size."""


@dataclass
class Validation:
    """The contigs that judge a model: every base that is neither N nor ignored counts."""

    genome: Genome
    contigs: list[str]
    labels: Intervals
    ignored: Intervals

    def histogram(self, checkpoint: Checkpoint, precision: str) -> ScoreHistogram:
        """Predict the contigs and count log-odds by label."""
        histogram = ScoreHistogram()
        predictor = Predictor(checkpoint, PredictConfig(precision=precision))
        story = checkpoint.story
        for contig in self.contigs:
            for start, end in self.genome.scan(contig, MIN_GAP).segments:
                found = predict_tiles(
                    predictor, self.genome, contig, tile(start, end, story.window, story.margin)
                )
                counted = ~np.isnan(found) & ~fill(self.ignored.get(contig), start, end)
                odds = log_odds(found[counted].astype(np.float64))
                histogram.add(odds, fill(self.labels.get(contig), start, end)[counted])
        return histogram


def log_odds(probability: np.ndarray) -> np.ndarray:
    """Return log-odds, rounded to 1/64 and kept within ±30."""
    odds = np.log(np.maximum(probability, 1e-13)) - np.log(np.maximum(1 - probability, 1e-13))
    return np.round(odds * _LOGIT_STEP) / _LOGIT_STEP


class StageTrainer(Trainer):
    """The Trainer, where an item of the dataset is a whole batch, taken in order."""

    def _get_train_sampler(self, *_dataset) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)


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
            part = self.record.with_suffix(".part")
            torch.save(self.weights, part)
            part.replace(self.record)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average into the module for a while."""
        own = {name: each.detach().clone() for name, each in self.module.state_dict().items()}
        self.module.load_state_dict(self.weights)
        try:
            yield
        finally:
            self.module.load_state_dict(own)


class Judge(TrainerCallback):
    """Predicts the validation contigs now and then, and keeps the best weights."""

    def __init__(
        self,
        validation: Validation,
        checkpoint: Checkpoint,
        stage: StageConfig,
        folder: Path,
        average: Average | None,
    ):
        self.validation, self.checkpoint, self.stage, self.folder = validation, checkpoint, stage, folder
        self.average = average
        self.record = folder / "best.json"
        self.best = json.loads(self.record.read_text())["average_precision"] if self.record.exists() else -1.0
        self.every = max(1, stage.steps // max(1, stage.evaluations))

    def on_step_end(self, args, state, control, model=None, **_rest):
        """Evaluate when due."""
        if state.global_step % self.every == 0 and state.is_world_process_zero:
            with self.average.applied() if self.average else nullcontext():
                self.evaluate(model, state.global_step)

    def evaluate(self, model, step: int) -> None:
        """Predict, report, and save the weights if they are the best so far."""
        histogram = self.validation.histogram(self.checkpoint, self.stage.precision)
        precision = histogram.average_precision()
        best_f1, _ = histogram.best_f1()
        log.info("step %d: validation average precision %.4f, best F1 %.4f", step, precision, best_f1)
        with open(self.folder / "validation.jsonl", "a") as lines:
            row = {"step": step, "average_precision": precision, "best_f1": best_f1}
            lines.write(json.dumps(row) + "\n")
        if precision > self.best:
            self.best = precision
            torch.save(self.checkpoint.module.state_dict(), self.folder / "best.pt")
            self.record.write_text(json.dumps(row))
        model.train()


class Watch(TrainerCallback):
    """Stops on a loss that is no number; the last checkpoint stays."""

    def on_log(self, args, state, control, logs=None, **_rest):
        """Look at each logged loss."""
        if logs and not np.isfinite(logs.get("loss", 0.0)):
            raise ZfliponError(
                f"the loss at step {state.global_step} is {logs['loss']}; lower the learning rate. "
                f"The checkpoints up to then are in {args.output_dir}"
            )
        if logs and "loss" in logs:
            log.info("step %d of %d: loss %.5f", state.global_step, state.max_steps, logs["loss"])


def fit(checkpoint: Checkpoint, batches: WindowBatches, validation: Validation | None, folder: Path) -> None:
    """Train a checkpoint's module in place for one stage; go on from the folder's last checkpoint if there is one.

    Parameters
    ----------
    checkpoint : Checkpoint
        Its module ends with the stage's best weights by validation average precision, or the
        last ones where nothing validates.
    batches : WindowBatches
    validation : Validation or None
    folder : Path
        Of the stage: checkpoints, ``validation.jsonl``.

    Raises
    ------
    ZfliponError
        If the loss is no longer a number.
    """
    stage = batches.sampler.stage
    folder.mkdir(parents=True, exist_ok=True)
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=stage.steps,
        per_device_train_batch_size=1,  # an item is a batch
        learning_rate=stage.learning_rate,
        weight_decay=stage.weight_decay,
        warmup_steps=round(stage.warmup * stage.steps),
        lr_scheduler_type=_SCHEDULES[stage.schedule],
        bf16=stage.precision == "bfloat16",
        use_cpu=not torch.cuda.is_available() and not torch.backends.mps.is_available(),
        dataloader_num_workers=2 if torch.cuda.is_available() else 0,
        save_steps=max(1, min(500, stage.steps // 4)),
        save_total_limit=2,
        logging_steps=max(1, min(50, stage.steps // 4)),
        logging_nan_inf_filter=False,
        report_to=[],
        disable_tqdm=True,
        seed=stage.seed,
        remove_unused_columns=False,
    )
    average = Average(checkpoint.module, stage.average, folder) if stage.average else None
    judge = (
        Judge(validation, checkpoint, stage, folder, average) if validation and stage.evaluations else None
    )
    trainer = StageTrainer(
        model=checkpoint.module,
        args=arguments,
        train_dataset=batches,
        data_collator=lambda items: items[0],
        callbacks=[each for each in (Watch(), average, judge) if each],
    )
    trainer.remove_callback(PrinterCallback)  # our log says it once
    disable_progress_bar()
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(folder)))
    if (folder / "best.pt").exists():
        checkpoint.module.load_state_dict(torch.load(folder / "best.pt", weights_only=True))
    elif average:
        checkpoint.module.load_state_dict(average.weights)
