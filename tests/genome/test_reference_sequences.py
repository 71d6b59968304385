"""Sequences that are always the same."""

import numpy as np

from zflipon.genome.reference_sequences import reference_sequences


def test_the_reference_sequences_never_change():
    first, second = reference_sequences(2000, windows=2)
    assert set(first + second) <= set("ACGT")
    assert len(first) == len(second) == 2000
    assert first[200:224] == "CG" * 12
    assert first[:20] == "CTTGCCGCATTTCGGTTCTG"
    assert np.mean([letter in "GC" for letter in second]) > np.mean([letter in "GC" for letter in first])
