"""When an output of a model counts as called: from a threshold on, or if its class is the most probable one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from zflipon.config import ARGMAX
from zflipon.models.metadata import Calibration, ModelMetadata

if TYPE_CHECKING:
    from zflipon.models import Checkpoint

_ABOVE_HALF = float(np.nextafter(np.float32(0.5), np.float32(1)))


def calling_checkpoint(checkpoint: Checkpoint, threshold: float | str | None) -> Checkpoint:
    """Return the checkpoint whose probabilities are compared with the threshold: uncalibrated for `ARGMAX`."""
    if threshold != ARGMAX:
        return checkpoint
    return replace(checkpoint, metadata=replace(checkpoint.metadata, calibration=Calibration()))


def call_threshold(metadata: ModelMetadata, threshold: float | str | None) -> float:
    """Return the lowest probability of a call.

    Parameters
    ----------
    metadata : ModelMetadata
    threshold : float, str or None
        A probability; `ARGMAX`, for which the lowest probability is the first one above 0.5; None for the threshold of
        the model.
    """
    if threshold is None:
        return metadata.threshold
    return _ABOVE_HALF if threshold == ARGMAX else float(threshold)


def describe_threshold(metadata: ModelMetadata, threshold: float | str | None) -> str:
    """Return the threshold as text."""
    return ARGMAX if threshold == ARGMAX else f"{call_threshold(metadata, threshold):g}"
