"""The known results of the bundled models on the reference sequences."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from zflipon.models.files import BUNDLED

FINGERPRINTS = BUNDLED / "fingerprints.json"
"""Fingerprints of the bundled models on the reference sequences; ``benchmarks/fingerprints.py`` writes it."""


def fingerprint(probabilities: Sequence[np.ndarray]) -> dict[str, list[float]]:
    """Return mean and maximum of the probabilities of each sequence, by which a prediction is recognised."""
    return {
        "mean": [round(float(values.mean(dtype=np.float64)), 5) for values in probabilities],
        "highest": [round(float(values.max()), 5) for values in probabilities],
    }


def bundled_fingerprints() -> dict[str, dict[str, list[float]]]:
    """Return the `fingerprint` of each bundled model on the reference sequences, from a CPU in float32."""
    return json.loads(FINGERPRINTS.read_text(encoding="utf-8"))
