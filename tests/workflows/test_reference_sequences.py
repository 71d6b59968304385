"""The reference sequences of `zflipon doctor`."""

import numpy as np

from zflipon.workflows.reference_sequences import fingerprint, reference_sequences


def test_the_reference_sequences_never_change():
    first, second = reference_sequences(2000, windows=2)
    assert set(first + second) <= set("ACGT")
    assert len(first) == len(second) == 2000
    assert first[200:224] == "CG" * 12
    assert first[:20] == "CTTGCCGCATTTCGGTTCTG"
    assert np.mean([letter in "GC" for letter in second]) > np.mean([letter in "GC" for letter in first])


def test_a_fingerprint_is_mean_and_maximum():
    probabilities = [np.array([0.1, 0.3], dtype=np.float32), np.array([1.0], dtype=np.float32)]
    assert fingerprint(probabilities) == {"mean": [0.2, 1.0], "highest": [0.3, 1.0]}
