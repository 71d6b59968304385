"""The sections of a training recipe: every key with its type, its default and the values that it accepts.

`zflipon.training.recipe` reads recipes from TOML. Defaults of running a finished model live in
`zflipon.config.inference`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, FiniteFloat, model_validator
from pydantic.dataclasses import dataclass

HELD_OUT_FOLDER = "held-out"
"""Folder inside a model's folder that holds its held-out models, each trained without some contigs. It is also the
suffix of a held-out model's name."""

Objective = Literal["base", "token", "sequence", "mlm"]
Target = Literal["labels", "candidates", "tracks", "chromatin"]

TARGETS = ("labels", "candidates", "tracks", "chromatin")
"""Intervals that a stage can learn."""

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

_CONFIG = ConfigDict(extra="forbid", strict=True)

PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[FiniteFloat, Field(gt=0)]
NonNegativeFloat = Annotated[FiniteFloat, Field(ge=0)]
NonNegativeOrInfinite = Annotated[float, Field(ge=0)]
Probability = Annotated[FiniteFloat, Field(ge=0, lt=1)]
"""From 0 to less than 1."""

# TOML has lists where these classes have tuples
Names = Annotated[tuple[str, ...], Field(strict=False)]
NameLists = Annotated[tuple[Names, ...], Field(strict=False)]
Targets = Annotated[tuple[Target, ...], Field(strict=False)]
ClassWeights = Annotated[tuple[PositiveFloat, PositiveFloat], Field(strict=False)]


@dataclass(frozen=True, config=_CONFIG)
class DataConfig:
    """Section ``[data]``: input files, and how they are split into training, validation and test data.

    Paths are usually given on the command line: ``--set data.genome=hg38.fa``.

    Attributes
    ----------
    genome : str
        FASTA.
    labels : str
        BED of the regions to learn.
    candidates : str or None
        BED of regions that can form the structure (for Z-DNA: Z-HUNT's calls). A stage can learn them first.
        Candidates without a label serve as hard negatives.
    blacklist : str or None
        BED of regions that are left out of training and evaluation.
    tracks : str or None
        Folder of BED files, such as chromatin marks, that a stage can learn to predict from sequence. The finished
        model does not need them.
    chromatin : str or None
        ``.npz`` file of chromatin tracks in 128-bp bins (`zflipon.training.context.ChromatinTargets`), for a stage with
        the target ``'chromatin'``.
    contigs, exclude_contigs : tuple of str
        Contigs to use (default: all), and contigs to leave out, such as alternative loci. Here and in the other lists
        of contigs, ``*`` and ``?`` match any text and any letter: ``chr20*``.
    sequences, validation_sequences, test_sequences : str or None
        CSV or TSV with the columns ``sequence`` and ``label``, instead of a genome with labels. If only `sequences` is
        given, it is split by `validation_share` and `test_share`.
    split : {'contigs', 'stratified'}
        ``'contigs'`` puts whole contigs into validation and test data. ``'stratified'`` splits tiled windows at
        random, with the same share of every contig and label in each part, as the published models do.
    validation_contigs, test_contigs : tuple of str
        Contigs for validation and for the final test. Validation chooses weights, calibration and threshold.
    held_out_models : tuple of tuple of str
        Lists of contigs. For each list a held-out model is trained without these contigs and evaluated on them. Their
        pooled predictions give the figures, the calibration and the threshold of the model itself, which is trained
        on all contigs except the test contigs.
    validation_share, test_share : float
        Shares of the windows or sequences in a random split.
    folds : int
        Folds of cross-validation; 0 trains once.
    fold : int
        The fold to run, from 1; 0 runs all folds.
    seed : int
        Seed of the split and of the choice of negatives.
    """

    genome: str = ""
    labels: str = ""
    candidates: str | None = None
    blacklist: str | None = None
    tracks: str | None = None
    chromatin: str | None = None
    contigs: Names = ()
    exclude_contigs: Names = ()
    sequences: str | None = None
    validation_sequences: str | None = None
    test_sequences: str | None = None
    split: Literal["contigs", "stratified"] = "contigs"
    validation_contigs: Names = ()
    test_contigs: Names = ()
    held_out_models: NameLists = ()
    validation_share: Probability = 0.24
    test_share: Probability = 0.20
    folds: NonNegativeInt = 0
    fold: NonNegativeInt = 0
    seed: NonNegativeInt = 42

    @model_validator(mode="after")
    def _check(self):
        problems = []
        if self.validation_share + self.test_share >= 1:
            problems.append(
                "validation_share and test_share leave no training data; their sum must be below 1"
            )
        if self.folds == 1 or self.fold > self.folds:
            problems.append(
                f"expected folds = 0 or at least 2 and fold up to that number, found folds = {self.folds}, "
                f"fold = {self.fold}"
            )
        both = sorted(set(self.validation_contigs) & set(self.test_contigs))
        if both:
            problems.append(f"{both[0]} is in validation_contigs and in test_contigs; expected one of them")
        if self.held_out_models:
            problems += self._check_held_out()
        _raise(problems)
        return self

    def _check_held_out(self) -> list[str]:
        problems = []
        if self.sequences or self.folds or self.split != "contigs" or self.validation_contigs:
            problems.append(
                "held_out_models replaces validation_contigs, folds and sequences and needs split = 'contigs'; "
                "leave the others out"
            )
        named = [*self.test_contigs, *(contig for contigs in self.held_out_models for contig in contigs)]
        if not all(self.held_out_models) or len(set(named)) < len(named):
            problems.append(
                "held_out_models: expected non-empty lists of contigs, each contig in one list and none in test_contigs"
            )
        return problems


@dataclass(frozen=True, config=_CONFIG)
class FeaturesConfig:
    """Section ``[features]``: omics tracks that the model reads in addition to the sequence.

    Attributes
    ----------
    tracks : str or None
        Tab-separated table with a line for each track: name, path (bigWig, bedGraph or BED, relative to the table) and
        kind (`zflipon.models.metadata.FEATURE_KINDS`).
    drop : float
        Share of the training windows from which some tracks are removed at random, so that the model also works
        without them.
    """

    tracks: str | None = None
    drop: Probability = 0.5


@dataclass(frozen=True, config=_CONFIG)
class TokenizerConfig:
    """Section ``[tokenizer]``.

    Attributes
    ----------
    train : bool
        Train a BPE tokenizer on the training data. Otherwise the tokenizer of the checkpoint is used.
    vocab_size : int
        Size of a trained vocabulary.
    max_token_length : int or None
        Longest token in bases; also limits the tokenizer of a checkpoint. None: no limit.
    sample_bases : int
        Bases of training sequence that the tokenizer is trained on.
    """

    train: bool = False
    vocab_size: PositiveInt = 512
    max_token_length: PositiveInt | None = None
    sample_bases: PositiveInt = 4_000_000


@dataclass(frozen=True, config=_CONFIG)
class LoraConfig:
    """Section ``[model.lora]``: low-rank adapters (Hu et al. 2021), trained instead of the encoder's weights.

    Attributes
    ----------
    r : int
        Rank; 0 trains all weights without adapters.
    alpha : float
        The output of an adapter is multiplied by alpha / r.
    dropout : float
        Dropout on the inputs of the adapters.
    bias : {'none', 'all', 'lora_only'}
        Which biases are trained.
    targets : tuple of str
        Suffixes of the names of the linear layers that get adapters. Empty: those of the model family.
    """

    r: NonNegativeInt = 0
    alpha: PositiveFloat = 32.0
    dropout: Probability = 0.05
    bias: Literal["none", "all", "lora_only"] = "none"
    targets: Names = ()


@dataclass(frozen=True, config=_CONFIG)
class ModelConfig:
    """Section ``[model]``: a checkpoint to start from, or a model family with random weights.

    Attributes
    ----------
    checkpoint : str or None
        Folder, file or Hugging Face Hub id of trained weights.
    family : str or None
        Model family; starts from random weights.
    shape : dict
        Settings of the family's configuration, such as ``hidden_size``.
    base_head : dict
        Settings of the base head, such as ``channels``, ``kernel``, ``dilations`` and ``dropout``.
    lora : LoraConfig
    both_strands : bool or None
        Whether the model averages both strands by default; it is evaluated and calibrated in the same way. None takes
        the checkpoint's setting; a new model then reads one strand.
    """

    checkpoint: str | None = None
    family: str | None = None
    shape: dict[str, Any] = field(default_factory=dict)
    base_head: dict[str, Any] = field(default_factory=dict)
    lora: LoraConfig = field(default_factory=LoraConfig)
    both_strands: bool | None = None


@dataclass(frozen=True, config=_CONFIG)
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
        Settings of AdamW; `warmup` is a share of the steps.
    schedule : {'cosine', 'linear', 'constant'}
        Schedule of the learning rate after warmup.
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
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    class_weights: ClassWeights | None = None
    label_smoothing: Probability = 0.0
    dropout: Probability | None = None
    freeze: Names = ()
    ema_decay: Probability = 0.0
    readout_penalty: NonNegativeFloat = 0.0
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
        _raise([*self._check_name_and_size(), *self._check_targets(), *self._check_training()])
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

    def _check_training(self) -> Iterable[str]:
        if not (self.trains or self.readout_penalty):
            yield "steps: expected a number above 0, or readout_penalty above 0; this stage does nothing"
        monitors = MONITORS[self.objective]
        if self.monitor and self.monitor not in monitors:
            yield f"monitor: expected one of {', '.join(monitors)}, found {self.monitor!r}"


@dataclass(frozen=True, config=_CONFIG)
class Recipe:
    """A training recipe, as the files ``train/*.toml`` write it.

    Attributes
    ----------
    name, description : str
    data, features, tokenizer, model : DataConfig, FeaturesConfig, TokenizerConfig, ModelConfig
    stage : tuple of StageConfig
        At least one.
    sweep : dict of str to list
        Key, as in ``--set`` → values. The recipe is run with every combination of values.
    report_to : tuple of {'tensorboard', 'wandb'}
        Loggers that get the training loss in addition to the files in the output folder.
    """

    name: str = "model"
    description: str = ""
    data: DataConfig = field(default_factory=DataConfig)
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    stage: Annotated[tuple[StageConfig, ...], Field(strict=False, min_length=1)] = ()
    sweep: dict[str, Annotated[list[Any], Field(min_length=1)]] = field(default_factory=dict)
    report_to: Annotated[tuple[Literal["tensorboard", "wandb"], ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _check(self):
        problems = list(self._check_model())
        names = [stage.name for stage in self.stage]
        if len(set(names)) < len(names):
            problems.append(f"stage: expected a different name for each stage, found {', '.join(names)}")
        for stage in self.stage:
            problems += (f"stage.{stage.name}.{problem}" for problem in self._check_stage(stage))
        _raise(problems)
        return self

    def _check_model(self) -> Iterable[str]:
        if (self.model.checkpoint is None) == (self.model.family is None):
            yield "model: expected one of 'checkpoint' and 'family'"
        if self.model.checkpoint is not None and self.tokenizer.train:
            yield "tokenizer.train: expected false; the weights of a checkpoint need its own tokenizer"
        if self.model.lora.r and self.model.checkpoint is None:
            yield "model.lora: adapters need the weights of a checkpoint; set model.checkpoint, or r = 0"

    def _check_stage(self, stage: StageConfig) -> Iterable[str]:
        data, labelled = self.data, stage.objective != "mlm"
        if data.sequences and labelled and stage.objective != "sequence":
            yield "objective: expected 'sequence' with data.sequences, which have one label each"
        split_at_random = data.split == "stratified" or data.folds
        if split_at_random and labelled and not data.sequences and stage.sampling != "tiled":
            yield "sampling: expected 'tiled' with data.split = 'stratified' or data.folds, found 'random'"
        if self.features.tracks and (stage.objective, stage.sampling) != ("base", "random"):
            yield "objective: expected 'base' with sampling = 'random' for a model that reads features.tracks"
        if stage.target == "chromatin" and stage.window % 128:
            yield f"window: expected a multiple of 128 with target = 'chromatin', found {stage.window}"
        without_genome = data.sequences or (stage.objective == "sequence" and not data.genome)
        if stage.epochs and stage.sampling == "random" and not without_genome:
            yield "epochs: random sampling has no epochs; set steps instead"
        if data.held_out_models and stage.evaluations and stage.trains:
            yield (
                "evaluations: expected 0 with data.held_out_models; a model trained on all contigs has no validation "
                "data, so that its last weights are used"
            )


class InvalidSection(ValueError):
    """Values of a section do not fit together.

    Attributes
    ----------
    problems : list of str
        One sentence each, which starts with a key of the section.
    """

    def __init__(self, problems: list[str]):
        super().__init__("; ".join(problems))
        self.problems = problems


def _raise(problems: Iterable[str]) -> None:
    """Report all problems of a section as one validation error."""
    problems = list(problems)
    if problems:
        raise InvalidSection(problems)
