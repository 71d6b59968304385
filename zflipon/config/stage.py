"""The ``[[stage]]`` sections of a training recipe.

The other sections are in `zflipon.config.training`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, model_validator
from pydantic.dataclasses import dataclass

from zflipon.config.fields import (
    SECTION,
    ClassWeights,
    Names,
    NonNegativeFloat,
    NonNegativeInt,
    NonNegativeOrInfinite,
    PositiveFloat,
    PositiveInt,
    Probability,
    raise_problems,
)

Objective = Literal["base", "token", "sequence", "mlm"]
Target = Literal["labels", "candidates", "tracks", "chromatin"]

Targets = Annotated[tuple[Target, ...], Field(strict=False)]

_BASE_MEASURES = ("average_precision", "base_f1", "base_mcc", "base_precision", "base_recall", "best_f1")

MONITORS: dict[str, tuple[str, ...]] = {
    "base": (*_BASE_MEASURES, "loss"),
    "token": ("token_f1", "token_mcc", *_BASE_MEASURES, "loss"),
    "sequence": ("mcc", "f1", "accuracy", "precision", "recall", "loss"),
    "mlm": ("masked_accuracy", "loss"),
}
"""Objective → measures that can choose the best weights. The first one is the default."""

LOWER_IS_BETTER = frozenset({"loss"})
"""Measures of `MONITORS` that are best when they are lowest."""


@dataclass(frozen=True, config=SECTION)
class StageConfig:
    """A ``[[stage]]`` of training. A key that a stage does not set has the value of the stage before.

    Attributes
    ----------
    name : str
        Also the name of the stage's folder.
    objective : {'base', 'token', 'sequence', 'mlm'}
        Kind of prediction: a probability for each base, token or sequence, or masked tokens (needs no labels). If the
        objective differs from that of the stage before, the encoder is kept and the head is initialised anew.
    target : {'labels', 'candidates', 'tracks', 'chromatin'}
        Intervals to learn. Windows are placed around them, or anywhere for ``'tracks'``. ``'chromatin'`` trains a wide
        context on the tracks of ``data.chromatin`` and on labelled candidates at once; `positives` and `background`
        are the frequencies of windows around candidates and anywhere.
    auxiliary : tuple of str
        Further targets that the base objective learns at the same time.
    sampling : {'random', 'tiled'}
        ``'random'``: windows at random positions around targets, around hard negatives and anywhere. ``'tiled'``:
        adjacent windows from position 0, the same in each epoch, as in the published models.
    window, margin : int
        Bases of a window, and bases at either end that serve as context only.
    label_threshold, label_comparison : float, {'>=', '>'}
        A token is positive if its share of labelled bases compares so with the threshold (token objective).
    positives, hard_negatives, background : float
        Random sampling: relative frequencies of windows around targets, around hard negatives (candidates without a
        label; if candidates are the target, regions that Z-HUNT scores just below them) and anywhere. Tiled windows:
        all windows with a label are used, with this number of hard negatives and other windows for each of them;
        ``inf`` uses all.
    labels_from : float
        Share of the steps after which labels are learnt; before them, chromatin alone (target ``'chromatin'``). A few
        thousand labels are remembered in fewer passes than the tracks need.
    reverse_complement : bool
        Replace half of the windows, chosen at random, by their reverse complement.
    mlm_probability : float
        Share of the tokens that the mlm objective masks.
    epochs : float
        Passes over tiled windows or sequences; 0 uses `steps`.
    steps, batch_size : int
        Optimizer steps, and windows in each step over all processes. With 0 steps and 0 epochs only the readout is
        fitted.
    gradient_accumulation : int
        Parts into which a batch is divided to save memory.
    gradient_checkpointing : bool
        Recompute activations in the backward pass to save memory.
    learning_rate, weight_decay, warmup : float
        Settings of AdamW, which is Adam if the weight decay is 0; `warmup` is a share of the steps.
    gradient_clip : float
        Largest norm of the gradient, to which larger ones are scaled; 0 does not clip.
    schedule : {'cosine', 'linear', 'constant', 'one-cycle'}
        Schedule of the learning rate after warmup. ``'one-cycle'`` (Smith & Topin 2019) has its own warmup: the rate
        rises over 30 % of the steps and falls to almost 0, while the momentum moves the other way; set `warmup` to 0.
    class_weights : (float, float) or None
        Weights of the classes 0 and 1 in the loss.
    label_smoothing : float
        Share of the target probability that is spread evenly over the classes.
    dropout : float or None
        Dropout during this stage; None takes the model's.
    freeze : tuple of str
        Prefixes of the names of weights that are not trained, such as ``base_head.can_form``.
    ema_decay : float
        Decay of an exponential moving average of the weights, such as 0.995. The stage ends with the average.
        0: no average.
    readout_penalty : float
        Above 0: after the last step, the layer that separates labelled from unlabelled candidates by their context is
        refitted as a logistic regression with one example for each candidate and this L2 penalty (base objective).
    readout_contigs : {'train', 'unseen'}
        Contigs whose candidates the readout learns from. ``'unseen'``: those on which the initial checkpoint, or each
        of its held-out models, was not trained, since log-odds of sequence are too good on contigs that it has seen.
        Only the part that reads omics tracks can be fitted so.
    evaluations : int
        Number of evenly spaced evaluations on the validation data; the best weights are used. With as many
        evaluations as epochs, one follows each epoch. 0: the last weights are used.
    monitor : str
        Measure that chooses the best weights; empty takes the objective's default (`MONITORS`).
    patience : int
        Stop after this number of evaluations without improvement; 0: never.
    precision : {'auto', 'float32', 'bfloat16', 'float16'}
        ``'auto'`` is bfloat16 on GPUs that support it, else float32. ``'float16'`` needs a GPU.
    seed : int
    """

    name: str = "train"
    objective: Objective = "base"
    target: Target = "labels"
    auxiliary: Targets = ()
    sampling: Literal["random", "tiled"] = "random"
    window: PositiveInt = 1024
    margin: NonNegativeInt = 256
    label_threshold: Annotated[FiniteFloat, Field(gt=0, le=1)] = 0.7
    label_comparison: Literal[">=", ">"] = ">="
    positives: NonNegativeFloat = 1.0
    hard_negatives: NonNegativeOrInfinite = 1.0
    background: NonNegativeOrInfinite = 1.0
    labels_from: Probability = 0.0
    reverse_complement: bool = True
    mlm_probability: Probability = 0.15
    epochs: NonNegativeFloat = 0.0
    steps: NonNegativeInt = 1000
    batch_size: PositiveInt = 16
    gradient_accumulation: PositiveInt = 1
    gradient_checkpointing: bool = False
    learning_rate: PositiveFloat = 5e-4
    weight_decay: NonNegativeFloat = 0.01
    warmup: Annotated[FiniteFloat, Field(ge=0, le=1)] = 0.1
    gradient_clip: NonNegativeFloat = 1.0
    schedule: Literal["cosine", "linear", "constant", "one-cycle"] = "cosine"
    class_weights: ClassWeights | None = None
    label_smoothing: Probability = 0.0
    dropout: Probability | None = None
    freeze: Names = ()
    ema_decay: Probability = 0.0
    readout_penalty: NonNegativeFloat = 0.0
    readout_contigs: Literal["train", "unseen"] = "train"
    evaluations: NonNegativeInt = 4
    monitor: str = ""
    patience: NonNegativeInt = 0
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    seed: NonNegativeInt = 42

    @property
    def trains(self) -> bool:
        """Whether the stage takes optimizer steps, as opposed to fitting a readout only."""
        return bool(self.steps or self.epochs)

    @property
    def measure(self) -> str:
        """The measure that chooses the best weights."""
        if self.monitor:
            return self.monitor
        if self.objective == "token" and self.sampling == "random":
            return "average_precision"  # whole contigs are evaluated base by base, not by token
        return MONITORS[self.objective][0]

    @model_validator(mode="after")
    def _check(self):
        raise_problems([*self._check_name_and_size(), *self._check_targets(), *self._check_training()])
        return self

    def _check_name_and_size(self) -> Iterable[str]:
        if not re.fullmatch(r"[\w.-]+", self.name) or self.name in (".", ".."):
            yield f"name: expected letters, digits, '.', '_' and '-' (it names a folder), found {self.name!r}"
        if 2 * self.margin >= self.window:
            yield f"margin: expected less than half of the window of {self.window}, found {self.margin}"
        if self.batch_size % self.gradient_accumulation:
            yield (
                f"gradient_accumulation: expected a divisor of the batch size of {self.batch_size}, "
                f"found {self.gradient_accumulation}"
            )

    def _check_targets(self) -> Iterable[str]:
        if self.positives <= 0 and self.target != "tracks" and self.objective != "mlm":
            yield "positives: expected a number above 0; there is nothing to learn without positive windows"
        if self.target in self.auxiliary:
            yield f"auxiliary: expected other targets than the stage's own, found {self.target!r}"
        if "tracks" in (self.target, *self.auxiliary) and self.sampling == "tiled":
            yield "sampling: expected 'random' to learn tracks, found 'tiled'"
        if (self.auxiliary or self.target == "tracks") and self.objective != "base":
            yield f"objective: expected 'base' to learn tracks or several targets, found {self.objective!r}"
        if self.readout_penalty and (self.objective != "base" or self.target != "labels"):
            yield "readout_penalty: only the objective 'base' with the target 'labels' has a readout"
        if self.readout_contigs == "unseen" and "base_head.is_formed" not in self.freeze:
            yield (
                "readout_contigs: 'unseen' fits only the part that reads omics tracks; add base_head.is_formed to "
                "freeze"
            )

    def _check_training(self) -> Iterable[str]:
        if not (self.trains or self.readout_penalty):
            yield "steps: expected a number above 0, or readout_penalty above 0; this stage does nothing"
        if self.schedule == "one-cycle" and self.warmup:
            yield f"warmup: expected 0 with schedule = 'one-cycle', which has its own, found {self.warmup:g}"
        monitors = MONITORS[self.objective]
        if self.monitor and self.monitor not in monitors:
            yield f"monitor: expected one of {', '.join(monitors)}, found {self.monitor!r}"
