"""Defaults of training: the sections of a recipe as frozen dataclasses.

Only the standard library is imported. Defaults of running a finished model live in `zflipon.config.inference`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

HELD_OUT_FOLDER = "held-out"
"""Folder inside a model's folder that holds its held-out models, each trained without some contigs. It is also the
suffix of a held-out model's name."""


@dataclass(frozen=True)
class DataConfig:
    """Where a recipe's data lies, usually given by ``--set data.genome=…``, and what is kept apart.

    Attributes
    ----------
    genome : str
        FASTA.
    labels : str
        BED of the truth.
    candidates : str or None
        BED of a broader predictor's calls (Z-HUNT): what a stage may learn first, and the
        source of hard negatives later, where no label overlaps.
    blacklist : str or None
        BED of bases that neither train nor count.
    tracks : str or None
        Folder of BED files (chromatin marks, bound factors) that a stage may learn to tell from sequence: what makes
        a context worth something. No model needs them later.
    sequences, validation_sequences, test_sequences : str or None
        CSV or TSV with the columns ``sequence`` and ``label``, in the place of genome and labels. Where only the first
        is given, it is split by the shares below.
    split : str
        How tiled windows are kept apart: ``'contigs'`` (whole contigs), or ``'stratified'`` (the paper's: at random,
        alike in labels and contigs).
    validation_contigs, test_contigs : tuple of str
        Contigs kept out of training; the best checkpoint is the one that does best on the former. Test contigs
        are looked at once, in the end.
    twins : tuple of tuple of str
        Contigs kept apart in turn. For each of these lists a twin is trained without its contigs and judged on them;
        figures, calibration and threshold follow from what all twins say, taken together. The model itself learns from
        all contigs but those of the test. The twins are kept inside its folder.
    validation_share, test_share : float
        Of the windows, where they are split at random.
    folds : int
        Of cross-validation: so many runs, each tested on another part (of the windows, alike in labels and contigs,
        or of the contigs). 0: one run.
    fold : int
        The one that is run, from 1 on; 0 runs all.
    seed : int
        Of the split and of the draw of negatives.
    """

    genome: str = ""
    labels: str = ""
    candidates: str | None = None
    blacklist: str | None = None
    tracks: str | None = None
    sequences: str | None = None
    validation_sequences: str | None = None
    test_sequences: str | None = None
    split: str = "contigs"
    validation_contigs: tuple[str, ...] = ()
    test_contigs: tuple[str, ...] = ()
    twins: tuple[tuple[str, ...], ...] = ()
    validation_share: float = 0.24
    test_share: float = 0.20
    folds: int = 0
    fold: int = 0
    seed: int = 42


@dataclass(frozen=True)
class FeaturesConfig:
    """Omics tracks that a model reads beside the sequence.

    Attributes
    ----------
    tracks : str or None
        Table of tracks, tab-separated: name, path (bigWig, bedGraph or BED; as seen from the table's folder) and kind
        (`zflipon.models.metadata.FEATURE_KINDS`).
    drop : float
        Share of the training windows that lose some of their tracks, at random, so that the model bears to do without.
    """

    tracks: str | None = None
    drop: float = 0.5


@dataclass(frozen=True)
class TokenizerConfig:
    """The tokenizer of a model.

    Attributes
    ----------
    train : bool
        Train a BPE tokenizer on the training contigs; else the base checkpoint's is used.
    vocab_size : int
        Tokens at most, when trained.
    max_token_length : int or None
        Bases of the longest token; limits a given tokenizer too. None: no limit.
    sample : int
        Bases to train the tokenizer on.
    """

    train: bool = False
    vocab_size: int = 512
    max_token_length: int | None = None
    sample: int = 4_000_000


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters (Hu et al. 2021): what is trained in the place of the encoder's weights.

    Attributes
    ----------
    r : int
        Rank; 0 trains all weights and no adapters.
    alpha : float
        An adapter counts alpha / r times.
    dropout : float
        Share of an adapter's inputs dropped while training.
    bias : str
        Biases trained too: ``'none'``, ``'all'``, or ``'lora_only'`` (of the layers that have adapters).
    targets : tuple of str
        Ends of the names of the linear layers that get adapters; none: the family's.
    """

    r: int = 0
    alpha: float = 32.0
    dropout: float = 0.05
    bias: str = "none"
    targets: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelConfig:
    """The model to start from: a checkpoint, or a family with a shape.

    Attributes
    ----------
    checkpoint : str or None
        Folder, file or hub id of trained weights.
    family : str or None
        Start from random weights of this family.
    shape : dict
        Settings of the family's config, such as ``hidden_size``.
    base_head : dict
        Shape of the base head: ``channels``, ``kernel``, ``dilations``, ``dropout``.
    lora : LoraConfig
        Adapters beside the weights of a checkpoint.
    both_strands : bool or None
        Whether the model reads both strands where its user does not say otherwise; on contigs kept apart it is judged
        and calibrated so. None leaves a checkpoint as it is, and a new model with one.
    """

    checkpoint: str | None = None
    family: str | None = None
    shape: dict = field(default_factory=dict)
    base_head: dict = field(default_factory=dict)
    lora: LoraConfig = field(default_factory=LoraConfig)
    both_strands: bool | None = None


@dataclass(frozen=True)
class StageConfig:
    """One stage of training; what a stage does not say it inherits from the one before.

    Attributes
    ----------
    name : str
    objective : str
        ``'base'``, ``'token'``, ``'sequence'``, or ``'mlm'`` (masked tokens, no labels needed). A stage with another
        objective than the one before keeps the encoder and starts a head anew.
    target : str
        What is learnt, and what windows lie around: ``'labels'``, ``'candidates'``, or ``'tracks'`` (anywhere).
    auxiliary : tuple of str
        What is learnt beside it, by the base objective: others of the same.
    sampling : str
        ``'drawn'``: windows around targets, around hard negatives and anywhere, at random places, for so many steps.
        ``'tiled'``: the paper's: windows from 0 on at a stride of their width, the same ones each epoch.
    window, margin : int
        Bases of a window, and of the context on either side of its core.
    label_threshold, label_comparison : float, str
        Share of labelled bases from which a token is positive (token objective).
    positives, hard_negatives, background : float
        Relative numbers of windows around targets, around what looks like one (candidates without a label; where
        candidates are the target, what Z-HUNT ranks just below them), and anywhere. Of tiled windows all with a
        label are taken, and of the others so many for each of them; ``inf`` takes all, as a genome has them.
    reverse_complement : bool
        Turn half of the windows round.
    masked : float
        Share of tokens to be told by the masked-LM objective.
    epochs : float
        Times that tiled windows or sequences are seen; 0 leaves it to `steps`.
    steps, batch_size : int
        Optimizer steps, and windows in each, whatever the number of processes. No steps: the readout alone is fitted.
    gradient_accumulation : int
        Parts of a batch that are computed one after the other, where memory is short.
    gradient_checkpointing : bool
        Compute activations twice in the place of keeping them, where memory is short.
    learning_rate, weight_decay, warmup : float
        AdamW; `warmup` is the share of steps.
    schedule : str
        Of the learning rate: ``'cosine'``, ``'linear'`` or ``'constant'``.
    class_weights : tuple of float or None
        Weights of unlabelled and labelled in the loss.
    dropout : float or None
        Share of units dropped in this stage; None: as the model's config says.
    freeze : tuple of str
        Beginnings of names of weights that stay as the stage before left them, such as ``base_head.forms``.
    average : float
        Share of the running average of the weights that each step keeps, such as 0.995; the
        stage ends with the average. 0: none.
    readout : float
        Above 0: in the end the layer that tells from the context which candidates are labelled is fitted again, to one
        example a candidate, with this price on its weights (base objective). 0: it stays as trained.
    evaluations : int
        How often, evenly spaced, what is kept apart is predicted; the best weights are kept. As many as
        epochs: after each of them.
    monitor : str
        The measure by which weights are best; ``''`` takes the objective's own (`MONITORS`).
    patience : int
        Evaluations without a better one after which the stage stops; 0: it never does.
    precision : str
        ``'float32'``, ``'bfloat16'``, or ``'auto'`` (bfloat16 on a GPU that has it, else float32).
    seed : int
    """

    name: str = "train"
    objective: str = "base"
    target: str = "labels"
    auxiliary: tuple[str, ...] = ()
    sampling: str = "drawn"
    window: int = 1024
    margin: int = 256
    label_threshold: float = 0.7
    label_comparison: str = ">="
    positives: float = 1.0
    hard_negatives: float = 1.0
    background: float = 1.0
    reverse_complement: bool = True
    masked: float = 0.15
    epochs: float = 0.0
    steps: int = 1000
    batch_size: int = 16
    gradient_accumulation: int = 1
    gradient_checkpointing: bool = False
    learning_rate: float = 5e-4
    weight_decay: float = 0.01
    warmup: float = 0.1
    schedule: str = "cosine"
    class_weights: tuple[float, ...] | None = None
    dropout: float | None = None
    freeze: tuple[str, ...] = ()
    average: float = 0.0
    readout: float = 0.0
    evaluations: int = 4
    monitor: str = ""
    patience: int = 0
    precision: str = "float32"
    seed: int = 42


MONITORS = {
    "base": ("average_precision", "base_f1", "base_mcc", "base_precision", "base_recall", "best_f1"),
    "token": (
        "token_f1",
        "token_mcc",
        "average_precision",
        "base_f1",
        "base_mcc",
        "base_precision",
        "base_recall",
        "best_f1",
    ),
    "sequence": ("mcc", "f1", "accuracy", "precision", "recall"),
    "mlm": ("masked_accuracy",),
}
"""Objective → measures by which weights may be best; the first is taken where none is said."""


@dataclass(frozen=True)
class Recipe:
    """A whole training run, as ``train/*.toml`` says it.

    Attributes
    ----------
    name, description : str
    data, features, tokenizer, model : DataConfig, FeaturesConfig, TokenizerConfig, ModelConfig
    stage : tuple of StageConfig
    sweep : dict of str to list
        Key, as ``--set`` has it → values: the recipe is run with every combination of them.
    report_to : tuple of str
        Where the Trainer logs to beside our own files: ``'tensorboard'``, ``'wandb'``.
    """

    name: str = "model"
    description: str = ""
    data: DataConfig = field(default_factory=DataConfig)
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    stage: tuple[StageConfig, ...] = ()
    sweep: dict = field(default_factory=dict)
    report_to: tuple[str, ...] = ()
