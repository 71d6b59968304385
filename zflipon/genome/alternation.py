"""Classes of Z-forming DNA by its alternating purines and pyrimidines: (CG)n, (TG)n/(CA)n, (TA)n, mixed.

Only the sequence decides; energies are in `zflipon.energetics`.
"""

from __future__ import annotations

import math

import numpy as np

from zflipon.genome.alphabet import UNKNOWN_BASE, base_codes

CLASSES = ("(CG)n", "(TG)n/(CA)n", "(TA)n", "mixed alternating", "not alternating")
"""Classes of a region; see `classify`."""

_MIN_ALTERNATING = 8
"""Bases of an alternating run from which a region counts as alternating."""

_MIN_PURITY = 0.75
"""Share of the steps of a run that must be of one kind for the kind to name the class."""

_IS_PURINE = np.array([True, False, True, False, False])


def alternation(codes: np.ndarray) -> float:
    """Return the share of steps from purine to pyrimidine or back; NaN if no two neighbouring bases are known."""
    known = codes != UNKNOWN_BASE
    both_known = known[:-1] & known[1:]
    if not both_known.any():
        return math.nan
    purine = _IS_PURINE[codes]
    return float((purine[:-1] != purine[1:])[both_known].mean())


def classify(codes: np.ndarray) -> str:
    """Return the class of a region, one of `CLASSES`, by its longest alternating purine-pyrimidine run.

    A run shorter than eight bases makes the region not alternating. If three of four steps of the run are of one kind
    (CG or GC; TG, GT, CA or AC; TA or AT), the kind names the class; otherwise the region is mixed.
    """
    run = _longest_alternating_run(codes)
    if len(run) < _MIN_ALTERNATING:
        return CLASSES[-1]
    strong = np.isin(run, (1, 2)).astype(int)
    for name, count in zip(CLASSES, (2, 1, 0), strict=False):
        if (strong[:-1] + strong[1:] == count).mean() >= _MIN_PURITY:
            return name
    return CLASSES[-2]


def class_and_gc(sequence: str) -> tuple[str, float]:
    """Return the class of an upper-case sequence, and its share of G and C among A, C, G and T.

    Examples
    --------
    >>> class_and_gc("CGCGCGCGCGTA")
    ('(CG)n', 0.8333333333333334)
    """
    codes = base_codes(sequence)
    known = codes[codes != UNKNOWN_BASE]
    return classify(codes), float(np.isin(known, (1, 2)).mean()) if len(known) else math.nan


def _longest_alternating_run(codes: np.ndarray) -> np.ndarray:
    purine, known = _IS_PURINE[codes], codes != UNKNOWN_BASE
    step = (purine[:-1] != purine[1:]) & known[:-1] & known[1:]
    edges = np.flatnonzero(np.diff(np.concatenate([[False], step, [False]]).astype(int))).reshape(-1, 2)
    if not len(edges):
        return codes[:0]
    start, end = edges[np.argmax(edges[:, 1] - edges[:, 0])]
    return codes[start : end + 1]
