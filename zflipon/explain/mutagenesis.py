"""In-silico mutagenesis: every base of a region replaced by every other, and what that does to the region's call."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from zflipon.errors import InputError
from zflipon.genome.alphabet import NUCLEOTIDES
from zflipon.genome.fasta import Genome
from zflipon.inference.predictor import Predictor

_POOL = 128


def mutagenesis(
    predictor: Predictor,
    genome: Genome,
    contig: str,
    start: int,
    end: int,
    target: np.ndarray,
    progress: Callable[[int], object] = lambda sequences: None,
) -> np.ndarray:
    """Return what each substitution changes.

    All sequences are read in one window, in whose middle the region lies, so that they differ in one base alone.

    Parameters
    ----------
    predictor : Predictor
        Of a model that decides bases or tokens.
    genome : Genome
    contig : str
    start, end : int
        The region.
    target : numpy.ndarray
        bool, shape (end - start,): the bases whose mean probability is looked at.
    progress : callable
        Told how many sequences have just been read.

    Returns
    -------
    numpy.ndarray
        float32, shape (4, end - start): change of the mean probability of the target with A, C, G or T at a
        base; 0 at the letter that is there, NaN where that is unknown.

    Raises
    ------
    InputError
        If the region is wider than the model's window, or holds no known base.
    """
    text, inside = around(genome, contig, start, end, predictor.metadata.window)
    places = [place for place in range(inside, inside + end - start) if text[place] in NUCLEOTIDES]
    if not places:
        raise InputError(f"{contig}:{start + 1}-{end}: no known base to replace")
    changes = [(place, letter) for place in places for letter in NUCLEOTIDES if letter != text[place]]
    wanted = inside + np.flatnonzero(target)
    low = start - inside
    seen = predictor.read_features(contig, np.array([[low, low + len(text)]]))  # no substitution changes a track
    (before,) = predictor.predict_probabilities([text], seen)
    effects = np.full((len(NUCLEOTIDES), end - start), np.nan, dtype=np.float32)
    for place in places:
        effects[NUCLEOTIDES[text[place]], place - inside] = 0
    for first in range(0, len(changes), _POOL):
        pool = changes[first : first + _POOL]
        changed = [text[:place] + letter + text[place + 1 :] for place, letter in pool]
        found = predictor.predict_probabilities(changed, seen and seen * len(pool))
        for (place, letter), values in zip(pool, found, strict=True):
            effects[NUCLEOTIDES[letter], place - inside] = values[wanted].mean() - before[wanted].mean()
        progress(len(pool))
    return effects


def around(genome: Genome, contig: str, start: int, end: int, window: int) -> tuple[str, int]:
    """Return the window in whose middle a region lies, or that ends where the contig does, and the region's place."""
    if end - start > window:
        raise InputError(
            f"{contig}:{start + 1}-{end}: {end - start} bases; the model reads {window} at once, take a shorter region"
        )
    length = genome.length(contig)
    low = max(0, min((start + end - window) // 2, length - window))
    return genome.fetch(contig, low, min(length, low + window)), start - low
