"""Every default, once: frozen dataclasses that the command line and the recipes read.

Only the standard library is imported here, so that ``zflipon --help`` is quick.
"""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_MODEL = "compact"
"""The bundled model that is used when none is named."""

MIN_GAP = 50
"""A run of this many N or more ends a stretch of sequence; a shorter one is read through, as [UNK] tokens."""

DECIMALS = 3
"""Decimals of a written probability."""


@dataclass(frozen=True)
class CallConfig:
    """How probabilities become called intervals.

    Attributes
    ----------
    threshold : float or None
        A base is called at this probability or above; None takes the model's own.
    min_length : int
        Bases; shorter calls are dropped.
    merge_gap : int
        Bases; calls at most this far apart are joined (before `min_length` is applied).
    """

    threshold: float | None = None
    min_length: int = 6
    merge_gap: int = 0


@dataclass(frozen=True)
class PredictConfig:
    """How a model is run.

    Attributes
    ----------
    batch_size : int or None
        Windows a forward pass; None chooses by device.
    precision : str
        ``'float32'``, ``'bfloat16'``, ``'float16'`` or ``'auto'`` (float32 on CPU, bfloat16 on a GPU that has it).
    device : str
        ``'auto'`` (CUDA, then MPS, then CPU) or a torch device.
    threads : int or None
        CPU threads; None takes all.
    both_strands : bool
        Average with the reverse complement.
    """

    batch_size: int | None = None
    precision: str = "auto"
    device: str = "auto"
    threads: int | None = None
    both_strands: bool = False


@dataclass(frozen=True)
class EvaluateConfig:
    """How tracks are held against labels.

    Attributes
    ----------
    protocol : str
        ``'genome'`` (every base that is neither N nor blacklisted), ``'sampled'``
        (the paper's one positive window to three negatives) or ``'both'``.
    window : int
        Bases of a sampled window.
    negatives : int
        Sampled windows without a label for each one with.
    seed : int
        Of the draw of negatives.
    threshold : float
        Where scored tracks are cut for F1, MCC, precision and recall.
    """

    protocol: str = "both"
    window: int = 128
    negatives: int = 3
    seed: int = 42
    threshold: float = 0.5
