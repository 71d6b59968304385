"""Fingerprints of predictions."""

import numpy as np

from zflipon.workflows.fingerprints import fingerprint


def test_a_fingerprint_is_mean_and_maximum():
    probabilities = [np.array([0.1, 0.3], dtype=np.float32), np.array([1.0], dtype=np.float32)]
    assert fingerprint(probabilities) == {"mean": [0.2, 1.0], "highest": [0.3, 1.0]}
