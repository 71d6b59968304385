"""The domain of a model: statistics of its training sequence, with which the sequence of an input is compared.

They are fitted in `zflipon.training.domain` and used in `zflipon.workflows.domain`; imports no torch.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import numpy as np
from pydantic import ConfigDict, Field, field_validator
from pydantic.dataclasses import dataclass

from zflipon.genome.composition import DINUCLEOTIDES, TETRANUCLEOTIDES, Composition, composition_of
from zflipon.genome.sketch import decode_sketch

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

GC_TERMS = 3
"""Terms of the polynomial that predicts a dinucleotide ratio from the GC fraction."""

SCORE_WINDOW = 1_000_000
"""Bases with a score in a window of score statistics."""

LOW_SCORE = 0.1
"""Scores from this on are counted, in addition to those that are called."""

Share = Annotated[float, Field(ge=0, le=1)]
Row = tuple[float, ...]


def gc_terms(gc: np.ndarray) -> np.ndarray:
    """Return the terms of the polynomial: float64, shape (windows, 3)."""
    return np.stack([gc**power for power in range(GC_TERMS)], axis=1)


@dataclass(frozen=True, config=STRICT)
class ScoreDomain:
    """Scores of a model on natural sequence of its training genome, in windows of `SCORE_WINDOW` bases.

    Attributes
    ----------
    windows : int
        Number of windows.
    called : (float, float)
        Lowest and highest usual share of bases in a window that are called at the model's threshold.
    low : (float, float)
        The same, of bases with a score of at least `LOW_SCORE`.
    """

    windows: Annotated[int, Field(ge=1)]
    called: tuple[Share, Share]
    low: tuple[Share, Share]


@dataclass(frozen=True, config=STRICT)
class Domain:
    """Composition of the training sequence of a model, in windows of `COMPOSITION_WINDOW` tetranucleotides.

    Attributes
    ----------
    windows : int
        Number of windows.
    gc : (float, float)
        Lowest and highest usual GC fraction.
    ratios : tuple of tuple of float
        For each of `DINUCLEOTIDES`, the polynomial that predicts its log ratio from the GC fraction.
    precision : tuple of tuple of float
        Inverse covariance of the log ratios around their prediction, shape (10, 10).
    kmers : tuple of float
        Usual log residual of each tetranucleotide, shape (256,).
    max_distance : float
        Highest usual distance of a window: Mahalanobis distance per dinucleotide.
    min_kmer_score : float
        Lowest usual k-mer score of a window: mean of `kmers` over its tetranucleotides.
    sketch : str
        Sketch of the sequence, of `zflipon.genome.sketch.encode_sketch`.
    scores : ScoreDomain or None
        None if no track of the model was given.
    """

    windows: Annotated[int, Field(ge=1)]
    gc: tuple[Share, Share]
    ratios: tuple[Row, ...]
    precision: tuple[Row, ...]
    kmers: Row
    max_distance: Annotated[float, Field(gt=0)]
    min_kmer_score: float
    sketch: str = ""
    scores: ScoreDomain | None = None

    @field_validator("ratios", "precision", "kmers")
    @classmethod
    def _check_shape(cls, rows: tuple, info) -> tuple:
        pairs = len(DINUCLEOTIDES)
        shapes = {"ratios": (pairs, GC_TERMS), "precision": (pairs, pairs), "kmers": (TETRANUCLEOTIDES,)}
        expected = shapes[str(info.field_name)]
        lengths = {len(row) for row in rows if isinstance(row, tuple)}
        if len(rows) != expected[0] or lengths != set(expected[1:]):
            raise ValueError(f"must have shape {expected}")
        return rows

    @field_validator("sketch")
    @classmethod
    def _check_sketch(cls, text: str) -> str:
        try:
            decode_sketch(text)
        except Exception as error:
            raise ValueError(str(error)) from None
        return text

    def compare(self, windows: np.ndarray) -> Comparison:
        """Compare tetranucleotide counts with the training sequence.

        Parameters
        ----------
        windows : numpy.ndarray
            int64, shape (windows, 256), of `CompositionCounter.windows`.
        """
        composition = composition_of(windows)
        lowest, highest = self.gc
        # a polynomial says nothing outside the range of its data
        expected = gc_terms(composition.gc.clip(lowest, highest)) @ np.array(self.ratios).T
        residuals = composition.ratios - expected
        precision = np.array(self.precision)
        squares = np.einsum("ni,ij,nj->n", residuals, precision, residuals) / len(DINUCLEOTIDES)
        distance = np.sqrt(np.maximum(squares, 0))
        kmer_score = composition.frequencies @ np.array(self.kmers)
        outside = (distance > self.max_distance) | (kmer_score < self.min_kmer_score)
        outside |= (composition.gc < lowest) | (composition.gc > highest)
        return Comparison(composition, expected, distance, kmer_score, outside)

    def ratio_spread(self) -> np.ndarray:
        """Return the standard deviation of each log ratio around its prediction: float64, shape (10,)."""
        return np.sqrt(np.diag(np.linalg.inv(np.array(self.precision))))


class Comparison(NamedTuple):
    """Windows compared with a domain.

    Attributes
    ----------
    composition : Composition
    expected : numpy.ndarray
        float64, shape (windows, 10): log ratios of training sequence with the GC fraction of each window.
    distance, kmer_score : numpy.ndarray
        float64, shape (windows,); see `Domain`.
    outside : numpy.ndarray
        bool, shape (windows,): whether a window is outside the domain.
    """

    composition: Composition
    expected: np.ndarray
    distance: np.ndarray
    kmer_score: np.ndarray
    outside: np.ndarray
