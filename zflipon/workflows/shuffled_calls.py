"""Calls in shuffled sequence: how many calls of a track are expected by chance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from zflipon.config import MIN_GAP, InferenceConfig
from zflipon.errors import InputError
from zflipon.genome.intervals import intersect
from zflipon.genome.shuffles import shuffle_sequence
from zflipon.inference.predictor import Predictor
from zflipon.inference.sequences import NO_CONTIG, score_sequences
from zflipon.omics.features import open_model_features
from zflipon.tracks.calling import quantize
from zflipon.tracks.thresholds import ThresholdTally
from zflipon.workflows.verification import load_recorded_model

if TYPE_CHECKING:
    from zflipon.models import Checkpoint
    from zflipon.workflows.calibrate import CalibrationInput

PIECE_BASES = 100_000
"""Longest piece of sequence that is shuffled and predicted at once."""


class ShuffledCount(NamedTuple):
    """Calls in shuffled sequence.

    Attributes
    ----------
    annotated_bases : int
        Bases that could have been shuffled.
    shuffled_bases : int
    tally : ThresholdTally
    """

    annotated_bases: int
    shuffled_bases: int
    tally: ThresholdTally


class ShuffledCalls:
    """Predicts shuffles of the annotated sequence of a track, with the model of the track.

    Parameters
    ----------
    data : CalibrationInput
    model : str or Path, optional
        Default: the recorded one.
    settings : InferenceConfig, optional

    Raises
    ------
    InputError
        If the track has no record and no model is given, or the recorded model has other weights now.
    ZfliponError
        If the model cannot be used.
    """

    def __init__(
        self, data: CalibrationInput, model: str | Path | None, settings: InferenceConfig | None = None
    ):
        self._data = data
        checkpoint = _load_model(data, model)
        features = open_model_features(checkpoint, None, NO_CONTIG, "zero")
        self._predictor = Predictor(checkpoint, settings, features=features)
        self._predictor.require_scores([data.score])

    def count(self, most_bases: int, seed: int, progress: Callable[[int], object]) -> ShuffledCount:
        """Shuffle and predict pieces in random order until `most_bases` are reached, and count their calls.

        Raises
        ------
        InputError
            If there is no sequence to shuffle.
        """
        data, rng = self._data, np.random.default_rng(seed)
        pieces = list(_pieces(data))
        tally, bases = ThresholdTally(data.call.min_length, data.call.merge_gap), 0
        for number, piece in enumerate(rng.permutation(len(pieces)).tolist()):
            if bases >= most_bases:
                break
            contig, start, end = pieces[piece]
            text = shuffle_sequence(data.genome.fetch(contig, start, end), rng)
            (values,) = score_sequences(self._predictor, [text], data.score)
            tally.add(str(number), 0, quantize(np.nan_to_num(values)))
            bases += end - start
            progress(end - start)
        if not bases:
            raise InputError(
                f"{data.path}: no sequence to shuffle on the used contigs; use more contigs, or labels"
            )
        return ShuffledCount(sum(end - start for _, start, end in pieces), bases, tally)


def _load_model(data: CalibrationInput, model: str | Path | None) -> Checkpoint:
    """Load the given model, or the recorded one with the recorded weights."""
    if model is None and not data.record.get("model"):
        raise InputError(
            f"{data.path}: has no record, so that its model is unknown; give --model, or --labels"
        )
    checkpoint = load_recorded_model(data.record, model)
    if model is None and checkpoint.sha256 != data.record["model"].get("sha256"):
        raise InputError(
            f"{data.path}: the recorded model {checkpoint.name} has other weights now; give --model, or annotate again"
        )
    return checkpoint


def _pieces(data: CalibrationInput) -> Iterator[tuple[str, int, int]]:
    """Yield contig, start and end of pieces of annotated sequence between gaps of N."""
    for contig, rows in data.annotated.items():
        for low, high in intersect(data.genome.scan(contig, MIN_GAP).segments, rows).tolist():
            for start in range(low, high, PIECE_BASES):
                yield contig, start, min(start + PIECE_BASES, high)
