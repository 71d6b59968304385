"""Losses of the heads, and the parameter names by which a checkpoint's heads are found.

Families create the token, sequence and masked-LM heads themselves, under the parameter names of the published code.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from zflipon.tokenization.alignment import IGNORE

HEAD_PREFIXES = (
    "classifier.",
    "base_head.omics.",
    "base_head.",
    "cls.predictions.",
    "cls.seq_relationship.",
    "bert.pooler.",
    "head.",
    "decoder.",
)
"""Prefixes of the parameter names of task heads. A checkpoint may have heads that the model lacks, which are skipped,
and may lack heads, which start from random weights; everything else must fit."""


def cross_entropy(
    logits: Tensor, labels: Tensor, class_weights: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Return the mean cross-entropy over labelled positions.

    Parameters
    ----------
    logits : Tensor
        float, shape (..., classes).
    labels : Tensor
        int64, shape (...); `zflipon.tokenization.alignment.IGNORE` where there is no label.
    class_weights : Tensor, optional
        float, shape (classes,).
    label_smoothing : float
        Share of the target probability that is spread evenly over the classes.
    """
    return F.cross_entropy(
        logits.flatten(0, -2),
        labels.flatten(),
        weight=class_weights,
        ignore_index=IGNORE,
        label_smoothing=label_smoothing,
    )


def binary_cross_entropy(
    logits: Tensor, labels: Tensor, positive_weight: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Return the mean binary cross-entropy over labelled positions; 0 without labels.

    Parameters
    ----------
    logits : Tensor
        float, any shape.
    labels : Tensor
        int64, same shape: 0, 1 or `zflipon.tokenization.alignment.IGNORE`.
    positive_weight : Tensor, optional
        Scalar weight of label 1.
    label_smoothing : float
        Share of the target probability that is spread evenly over both labels.
    """
    # positions without a label are masked, not left out: a selection would make the host wait for the GPU
    known = labels != IGNORE
    targets = labels.float().where(known, 0) * (1 - label_smoothing) + label_smoothing / 2
    losses = F.binary_cross_entropy_with_logits(
        logits.where(known, 0), targets, pos_weight=positive_weight, reduction="none"
    )
    return losses.where(known, 0).sum() / known.sum().clamp(min=1)
