"""Defaults of everything that runs a finished model: inference, calling, variants, evaluation, attribution.

Defaults of training live in `zflipon.config.training`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from zflipon.config.validation import config_class

Precision = Literal["auto", "float32", "bfloat16", "float16", "int8"]
PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]

DEFAULT_MODEL = "compact"
"""Name of the bundled model that is used if the user names none."""

OMICS_MODEL = "compact-omics"
"""Name of the bundled model that reads omics tracks."""

MIN_GAP = 50
"""A run of at least this many N separates two segments. Shorter runs are part of a segment and tokenized as [UNK]."""

PROBABILITY_DECIMALS = 3
"""Decimals of a probability in output files."""

SCORES = ("probability", "propensity", "activity")
"""Scores of a base: the probability of being in Z-DNA, and its two factors. Propensity: whether the sequence can form
Z-DNA, in any organism. Activity: whether Z-DNA is formed in this context, learned from human cells."""

FACTORS = SCORES[1:]
"""The scores whose calibrated product is the probability."""

MIN_PROPENSITY = 0.01
"""Activity is written where the propensity is above this; elsewhere a base cannot form Z-DNA and has no activity."""

ACTIVITY_THRESHOLD = 0.5
"""Activity from which a base is called."""

SHARD_BASES = 1 << 18
"""Bases of a shard on a CPU. A shard is the unit of work of one process, which loses it if it is killed."""

GPU_SHARD_BASES = 1 << 20
"""Bases of a shard on a GPU, where each kernel launch has a fixed cost."""

RECORDS_PER_BATCH = 512
"""VCF records that are scored together; the unit of work of `zflipon variants`."""

WINDOW_TO_MARGIN_RATIO = 4
"""If the window differs from the family's default, the margin is at most ``window // WINDOW_TO_MARGIN_RATIO``."""

MISSING_FEATURES = ("error", "zero")
"""What to do if a model reads an omics track that is not given: raise an error, or predict without the track."""

BASELINES = ("mean", "pad", "zero")
"""Baselines of Integrated Gradients, used for every token that holds bases. Special tokens keep their embedding."""

ATTRIBUTION_SCALARS = ("log-odds", "probability")
"""Model outputs that Integrated Gradients can attribute."""

MAX_STEP_DOUBLINGS = 5
"""How often the steps of Integrated Gradients are doubled while the completeness error exceeds the tolerance."""


@config_class
class Selection:
    """The parts of a genome to process. The default selects everything.

    Attributes
    ----------
    regions : tuple of str
        Regions in samtools syntax: ``chr1:1,001-2,000``, 1-based and closed.
    regions_bed : str, Path or None
        Path of a BED file of regions.
    contigs, exclude_contigs : tuple of str
        Names of contigs to include and to exclude.
    """

    regions: tuple[str, ...] = ()
    regions_bed: str | Path | None = None
    contigs: tuple[str, ...] = ()
    exclude_contigs: tuple[str, ...] = ()


@config_class
class CallConfig:
    """How probabilities become called intervals.

    Attributes
    ----------
    threshold : float or None
        A base is called if its probability is at least this. None uses the model's threshold.
    min_length : int
        Calls of fewer bases are dropped.
    merge_gap : int
        Calls at most this many bases apart are merged, before `min_length` is applied.
    """

    threshold: Probability | None = None
    min_length: NonNegativeInt = 6
    merge_gap: NonNegativeInt = 0


@config_class
class HeaderConfig:
    """Which header lines text tracks get.

    Attributes
    ----------
    track_line : bool
        A ``track`` line for UCSC custom tracks; BED then has its nine standard columns only.
    header : bool
        A line of column names that begins with ``#``.
    """

    track_line: bool = False
    header: bool = False


@config_class
class InferenceConfig:
    """How a model is run, as the user asks for it; `zflipon.inference.settings` resolves ``auto`` and None.

    Attributes
    ----------
    batch_size : int or None
        Windows per forward pass. None chooses by device.
    precision : str
        ``'float32'``, ``'bfloat16'``, ``'float16'``, ``'int8'`` or ``'auto'``. ``'auto'`` is bfloat16 on a GPU that
        supports it and, for a large model, on a CPU with bfloat16 instructions; otherwise float32. ``'int8'`` is for
        models with transformer layers on CPUs.
    device : str
        A torch device, or ``'auto'``: CUDA, else MPS, else CPU.
    threads : int or None
        CPU threads. None uses all that torch is set to.
    both_strands : bool or None
        Whether to average the prediction with that of the reverse complement. None uses the model's default. A
        base-resolution head averages its activity score only.
    """

    batch_size: PositiveInt | None = None
    precision: Precision = "auto"
    device: str = "auto"
    threads: PositiveInt | None = None
    both_strands: bool | None = None


@config_class
class VariantConfig:
    """How variants are scored, and which records are written.

    Attributes
    ----------
    flank : int or None
        Bases compared on either side of an allele. None uses every base that has the model's full context.
    max_length : int or None
        Longest allele that is scored, in bases. None uses an eighth of a window's core.
    shifts : int
        Window offsets over which probabilities are averaged.
    min_delta : float
        Records whose scored alleles all change every base by less than this are not written.
    regions : tuple of str
        Regions in samtools syntax; records elsewhere are not written. Empty: all records are written.
    """

    flank: NonNegativeInt | None = None
    max_length: PositiveInt | None = None
    shifts: PositiveInt = 1
    min_delta: Probability = 0.0
    regions: tuple[str, ...] = ()


@dataclass(frozen=True)
class ScreenConfig:
    """Which windows pass the screen, a cheap Z-HUNT filter that runs before the model.

    Attributes
    ----------
    linking : float
        A window passes if its core holds six to eight dinucleotides with a delta linking of at most this. The default
        keeps 99.7 % of the bases that Z-DNABERT calls.
    published : bool
        Use another criterion instead: a window passes if its core holds a base that the published Z-HUNT maps call.
    strong : float
        Lowest GC fraction within 512 bases on either side of such a base.
    """

    linking: float = 22.84
    published: bool = False
    strong: float = 0.0


@config_class
class EvaluateConfig:
    """How tracks are compared with labels.

    Attributes
    ----------
    protocol : str
        ``'genome'`` (every base that is neither N nor blacklisted), ``'sampled'`` (one positive window to three
        negative ones, as in the Z-DNABERT paper) or ``'both'``.
    window : int
        Bases of a sampled window.
    negatives : int
        Sampled negative windows per positive window.
    seed : int
        Seed of the sampling.
    threshold : float or None
        Threshold of scored tracks for F1, MCC, precision and recall; None for the threshold in the record of each
        track, or 0.5 without a record.
    chunk : int
        Bases of a contig that are held in memory at once. No result depends on it.
    """

    protocol: Literal["genome", "sampled", "both"] = "both"
    window: PositiveInt = 128
    negatives: NonNegativeInt = 3
    seed: NonNegativeInt = 42
    threshold: float | None = None
    chunk: PositiveInt = 1 << 22


ARGMAX = "argmax"
"""Threshold of a call in token tables: the most probable class, without calibration."""


@config_class
class CalibrateConfig:
    """How the threshold of a track is chosen.

    Attributes
    ----------
    precision : float
        Lowest share of called bases that are labelled.
    fdr : float
        Highest share of calls that are expected by chance.
    shuffled_bases : int
        Bases to shuffle and predict.
    seed : int
        Seed of shuffles and bootstrap.
    """

    precision: Probability = 0.8
    fdr: Probability = 0.05
    shuffled_bases: PositiveInt = 5_000_000
    seed: NonNegativeInt = 42


@dataclass(frozen=True)
class AttributionConfig:
    """How Integrated Gradients are computed.

    Attributes
    ----------
    steps : int
        Nodes of the Gauss–Legendre quadrature between baseline and sequence.
    tolerance : float or None
        Largest relative completeness error. While the error is larger, steps are doubled, up to `MAX_STEP_DOUBLINGS`
        times. None never doubles.
    baseline : str
        One of `BASELINES`: the mean embedding of the tokens that hold bases, the padding token's embedding, or zeros.
        If the padding embedding is 0 and a layer norm comes first, the path starts at the norm's singularity and needs
        hundreds of steps; the mean needs few.
    scalar : str
        One of `ATTRIBUTION_SCALARS`: the output of class 1 to attribute. The paper's tables attribute the probability.
    batch_size : int or None
        Rows per pass; a row is one sequence at one step. None chooses by device.
    top : int
        Number of highest-attributed tokens to count for each true positive token.
    normalised : bool
        Whether tables divide the token scores of a sequence by their root sum of squares, as the paper's tables do.
    """

    steps: int = 50
    tolerance: float | None = None
    baseline: str = "mean"
    scalar: str = "log-odds"
    batch_size: int | None = None
    top: int = 10
    normalised: bool = True


@dataclass(frozen=True)
class TokenRatioConfig:
    """Which windows the token ratios are counted over, and when a base counts as called.

    Attributes
    ----------
    window : int or None
        Bases of a window. None uses the model's window.
    negatives : float
        Windows without a label per window with one. The published test data have 3.
    seed : int
        Seed of the sampling of negative windows.
    threshold : float, str or None
        A base is called if its probability is at least this. None uses the model's threshold, `ARGMAX` calls the most
        probable class.
    part : str or None
        Part of the model's training run whose windows are counted: ``'train'``, ``'validation'`` or ``'test'``. None
        samples windows of the whole genome.
    """

    window: int | None = None
    negatives: float = 3
    seed: int = 42
    threshold: float | str | None = None
    part: str | None = None
