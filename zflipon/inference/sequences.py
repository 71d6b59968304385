"""Scores of the bases of any sequences in memory: probabilities, or the two factors of a base-resolution head.

Sequences are divided into segments and windows as contigs are; genomes are read in `zflipon.inference.genome_scan`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from zflipon.config import FACTORS, MIN_GAP
from zflipon.genome.windows import WINDOW_DTYPE, tile_windows
from zflipon.inference.predictor import Predictor

NO_CONTIG = {"": 1 << 31}
"""Contig lengths with which to open omics tracks for sequences in memory. They belong to no contig, so that all tracks
must be missing."""


def score_sequences(
    predictor: Predictor, texts: Sequence[str], score: str = "probability"
) -> list[np.ndarray]:
    """Return a score of each base of some sequences.

    Parameters
    ----------
    predictor : Predictor
    texts : sequence of str
        Upper case, of any length.
    score : str
        One of `zflipon.config.SCORES`.

    Returns
    -------
    list of numpy.ndarray
        float32, shape (bases,) each; NaN at N, and in windows of which more than half is N.
    """
    metadata = predictor.metadata
    windows = [
        np.concatenate(
            [np.empty(0, dtype=WINDOW_DTYPE)]
            + [tile_windows(start, end, metadata.window, metadata.margin) for start, end in segments(text)]
        )
        for text in texts
    ]
    return score_windows(predictor, texts, windows, score)


def score_windows(
    predictor: Predictor, texts: Sequence[str], windows: Sequence[np.ndarray], score: str = "probability"
) -> list[np.ndarray]:
    """Return a score of each base in the cores of some windows of some sequences; NaN elsewhere.

    Parameters
    ----------
    predictor : Predictor
    texts : sequence of str
        Upper case.
    windows : sequence of numpy.ndarray
        `zflipon.genome.windows.WINDOW_DTYPE`, in coordinates of the text: the windows of each text.
    score : str
        One of `zflipon.config.SCORES`.

    Returns
    -------
    list of numpy.ndarray
        float32, shape (bases,) for each text.
    """
    rows = [
        (number, start, end, low, high)
        for number, (text, own) in enumerate(zip(texts, windows, strict=True))
        for start, end, low, high in own.tolist()
        if 2 * text.count("N", start, end) <= end - start
    ]
    sequences = [texts[number][start:end] for number, start, end, _, _ in rows]
    cores = np.array(
        [(low - start, high - start) for _, start, _, low, high in rows], dtype=np.int64
    ).reshape(-1, 2)
    features, tracks = None, predictor.features
    if tracks is not None:
        (contig,) = NO_CONTIG
        view = predictor.module.view
        features = [tracks.windows(contig, np.array([[0, len(text)]]), view)[0] for text in sequences]
    if score == "probability":
        values = predictor.predict_probabilities(sequences, features, cores)
    else:
        row = FACTORS.index(score)
        values = [factors[row] for factors in predict_factors(predictor, sequences, features, cores)]
    results = [np.full(len(text), np.nan, dtype=np.float32) for text in texts]
    for (number, start, _, low, high), predicted in zip(rows, values, strict=True):
        results[number][low:high] = predicted[low - start : high - start]
    for text, result in zip(texts, results, strict=True):
        result[np.frombuffer(text.encode("ascii"), dtype=np.uint8) == ord("N")] = np.nan
    return results


def segments(text: str) -> Iterator[tuple[int, int]]:
    """Yield start and end of the segments of a sequence between gaps of N, as in a genome.

    Examples
    --------
    >>> list(segments("NAC" + "N" * 50 + "GTNNA"))
    [(1, 3), (53, 58)]
    """
    start = 0
    for gap in re.finditer("N+", text):
        is_at_end = gap.start() == 0 or gap.end() == len(text)
        if gap.end() - gap.start() >= MIN_GAP or is_at_end:
            if gap.start() > start:
                yield start, gap.start()
            start = gap.end()
    if start < len(text):
        yield start, len(text)


def predict_factors(
    predictor: Predictor,
    sequences: Sequence[str],
    features: Sequence[np.ndarray] | None = None,
    cores: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Return both factors of the probability of each base, before calibration.

    Parameters
    ----------
    predictor : Predictor
    sequences, features, cores
        As in `Predictor.predict_probabilities`.

    Returns
    -------
    list of numpy.ndarray
        float32, shape (2, bases) each; rows are `FACTORS`.

    Raises
    ------
    ModelError
        If the head of the model has no factors.
    """
    predictor.require_scores(FACTORS)
    return predictor.predict_values(sequences, features, cores, return_factors=True)
