"""Sequences that are always the same, on which precisions and devices are compared and int8 is calibrated."""

from __future__ import annotations

from random import Random

WINDOWS = 8
"""Number of reference sequences."""

_MOTIFS = ("CG", "TG", "CA", "GC")
_MOTIF_REPEATS, _MOTIF_SPACING = 12, 400


def reference_sequences(bases: int, windows: int = WINDOWS, seed: int = 7) -> list[str]:
    """Return random sequences with 50 to 80 % GC that contain repeats of CG, TG and CA, which models call.

    Parameters
    ----------
    bases : int
        Length of each sequence.
    windows : int
        Number of sequences.
    seed : int
        `random.Random` returns the same numbers in every version of Python, so the sequences are always the same.
    """
    random, sequences = Random(seed), []
    for number in range(windows):
        gc_content = 0.5 + 0.1 * (number % 4)
        letters = [
            ("GC" if random.random() < gc_content else "AT")[random.random() < 0.5] for _ in range(bases)
        ]
        for start in range(bases // 10, bases, _MOTIF_SPACING):
            motif = _MOTIFS[(start // _MOTIF_SPACING + number) % 4] * _MOTIF_REPEATS
            letters[start : start + len(motif)] = motif[: bases - start]
        sequences.append("".join(letters))
    return sequences
