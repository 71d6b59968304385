"""In-silico mutagenesis: the effect of every single-base substitution in a region on the probability of a call."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from zflipon.errors import InputError
from zflipon.genome.alphabet import NUCLEOTIDES
from zflipon.genome.fasta import Genome
from zflipon.inference.predictor import Predictor

_SEQUENCES_AT_ONCE = 128
"""Mutated windows that are built together; results do not depend on it."""


def mutagenesis(
    predictor: Predictor,
    genome: Genome,
    contig: str,
    start: int,
    end: int,
    target: np.ndarray,
    progress: Callable[[int, int], object] = lambda sequences, total: None,
) -> np.ndarray:
    """Predict every substitution in a region.

    All predictions use the same window, centred on the region, so that sequences differ in one base only.

    Parameters
    ----------
    predictor : Predictor
        Of a model that calls bases or tokens.
    genome : Genome
    contig : str
    start, end : int
        The region.
    target : numpy.ndarray
        bool, shape (end - start,): the bases whose mean probability is compared.
    progress : callable
        Called with the number of sequences that were just predicted and the number of all sequences.

    Returns
    -------
    numpy.ndarray
        float32, shape (4, end - start): change of the mean probability of the target if the base becomes A, C, G or
        T; 0 for the reference letter, NaN where the reference is unknown.

    Raises
    ------
    InputError
        If the region is wider than the window of the model, or holds no known base.
    """
    sequence, offset = centered_window(genome, contig, start, end, predictor.metadata.window)
    positions = [p for p in range(offset, offset + end - start) if sequence[p] in NUCLEOTIDES]
    if not positions:
        raise InputError(
            f"{contig}:{start + 1}-{end}: no known base to substitute; expected a region with A, C, G or T"
        )
    substitutions = [(p, letter) for p in positions for letter in NUCLEOTIDES if letter != sequence[p]]
    target_positions = offset + np.flatnonzero(target)
    window_start = start - offset
    # a substitution does not change omics tracks, so that all sequences share them
    tracks = predictor.read_features(contig, np.array([[window_start, window_start + len(sequence)]]))
    (reference,) = predictor.predict_probabilities([sequence], tracks)
    reference_mean = reference[target_positions].mean()
    effects = np.full((len(NUCLEOTIDES), end - start), np.nan, dtype=np.float32)
    for position in positions:
        effects[NUCLEOTIDES[sequence[position]], position - offset] = 0
    for first in range(0, len(substitutions), _SEQUENCES_AT_ONCE):
        chunk = substitutions[first : first + _SEQUENCES_AT_ONCE]
        mutated = [sequence[:p] + letter + sequence[p + 1 :] for p, letter in chunk]
        probabilities = predictor.predict_probabilities(mutated, tracks and tracks * len(chunk))
        for (position, letter), values in zip(chunk, probabilities, strict=True):
            change = values[target_positions].mean() - reference_mean
            effects[NUCLEOTIDES[letter], position - offset] = change
        progress(len(chunk), len(substitutions))
    return effects


def centered_window(genome: Genome, contig: str, start: int, end: int, window: int) -> tuple[str, int]:
    """Fetch the window with a region at its centre, moved inwards at the ends of the contig.

    Returns
    -------
    sequence : str
        At most `window` bases.
    offset : int
        Where the region starts in it.

    Raises
    ------
    InputError
        If the region is wider than the window.
    """
    if end - start > window:
        raise InputError(
            f"{contig}:{start + 1}-{end}: the region has {end - start} bases, the window of the model {window}; use a "
            "shorter region"
        )
    length = genome.length(contig)
    window_start = max(0, min((start + end - window) // 2, length - window))
    return genome.fetch(contig, window_start, min(length, window_start + window)), start - window_start
