"""The sections of a training recipe: every key with its type, its default and the values that it accepts.

`zflipon.training.recipe` reads recipes from TOML. Stages are in `zflipon.config.stage`. Defaults of running a finished
model are in `zflipon.config.inference`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from zflipon.config.fields import (
    SECTION,
    NameLists,
    Names,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
    raise_problems,
)
from zflipon.config.stage import StageConfig

HELD_OUT_FOLDER = "held-out"
"""Folder inside a model's folder that holds its held-out models, each trained without some contigs. It is also the
suffix of a held-out model's name."""


@dataclass(frozen=True, config=SECTION)
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
        ``.npz`` file of chromatin tracks in 128-bp bins (`zflipon.training.context_windows.ChromatinTargets`), for a
        stage with the target ``'chromatin'``.
    contigs, exclude_contigs : tuple of str
        Contigs to use (default: all), and contigs to leave out, such as alternative loci. Here and in the other lists
        of contigs, ``*`` and ``?`` match any text and any letter: ``chr20*``.
    sequences, validation_sequences, test_sequences : str or None
        CSV or TSV with the columns ``sequence`` and ``label``, instead of a genome with labels. If only `sequences` is
        given, it is split by `validation_share` and `test_share`.
    split : {'contigs', 'stratified', 'random', 'blocks'}
        ``'contigs'`` puts whole contigs into validation and test data. The others split tiled windows at random:
        ``'stratified'`` with the same share of every contig and label in each part, ``'random'`` without strata; both
        put neighbours into different parts, as the published models do. ``'blocks'`` keeps the windows of each
        `block_size` bases together, and leaves out training windows that border a validation or test window or share
        a labelled region with one.
    block_size : int
        Bases of a block.
    select_on : {'validation', 'test'}
        Part that chooses weights, calibration and threshold. ``'test'`` replaces the validation data by the test data,
        as some published notebooks do; the model card says that the test figures are then too high.
    validation_contigs, test_contigs : tuple of str
        Contigs for validation and for the final test. Validation chooses weights, calibration and threshold.
    shortest_evaluated : int
        Validation and test contigs below this length are neither learnt nor evaluated. Short contigs are often cut
        out around genes, so that figures on them do not hold for a whole genome.
    held_out_models : tuple of tuple of str
        Lists of contigs. For each list a held-out model is trained without these contigs and evaluated on them. Their
        pooled predictions give the figures, the calibration and the threshold of the model itself, which is trained
        on all contigs except the test contigs.
    validation_share, test_share : float
        Shares of the windows or sequences in a random split. With a `validation_share` of 0, folds have no validation
        data either.
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
    split: Literal["contigs", "stratified", "random", "blocks"] = "contigs"
    block_size: PositiveInt = 100_000
    select_on: Literal["validation", "test"] = "validation"
    validation_contigs: Names = ()
    test_contigs: Names = ()
    shortest_evaluated: NonNegativeInt = 0
    held_out_models: NameLists = ()
    validation_share: Probability = 0.24
    test_share: Probability = 0.20
    folds: NonNegativeInt = 0
    fold: NonNegativeInt = 0
    seed: NonNegativeInt = 42

    @property
    def splits_windows(self) -> bool:
        """Whether tiled windows are split at random, as opposed to whole contigs."""
        return self.split != "contigs"

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
        if self.select_on == "test":
            problems += self._check_selection()
        if self.held_out_models:
            problems += self._check_held_out()
        raise_problems(problems)
        return self

    def _check_selection(self) -> list[str]:
        problems = []
        if self.validation_contigs or self.validation_sequences or self.held_out_models:
            problems.append(
                "select_on = 'test' has no use for validation_contigs, validation_sequences and held_out_models; "
                "leave them out"
            )
        if self.validation_share and not self.test_sequences and (self.splits_windows or self.sequences):
            problems.append("select_on = 'test' has no use for validation data; set validation_share = 0")
        return problems

    def _check_held_out(self) -> list[str]:
        problems = []
        if self.sequences or self.folds or self.splits_windows or self.validation_contigs:
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


@dataclass(frozen=True, config=SECTION)
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


@dataclass(frozen=True, config=SECTION)
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


@dataclass(frozen=True, config=SECTION)
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


@dataclass(frozen=True, config=SECTION)
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


@dataclass(frozen=True, config=SECTION)
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
        raise_problems(problems)
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
        split_at_random = data.splits_windows or data.folds
        if split_at_random and labelled and not data.sequences and stage.sampling != "tiled":
            split = "data.folds" if data.folds else f"data.split = '{data.split}'"
            yield f"sampling: expected 'tiled' with {split}, found 'random'"
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
