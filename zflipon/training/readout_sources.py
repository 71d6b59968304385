"""Which models predict the candidates that a readout learns from, and on which contigs.

The fit is in `zflipon.training.readout`.
"""

from __future__ import annotations

from typing import NamedTuple

from zflipon.config import HELD_OUT_FOLDER
from zflipon.errors import InputError
from zflipon.models import Checkpoint, load
from zflipon.training.dataset import TrainingData


class Source(NamedTuple):
    """A model that predicts candidates from sequence, and the contigs of these candidates.

    Attributes
    ----------
    checkpoint : Checkpoint
    contigs : tuple of str
    """

    checkpoint: Checkpoint
    contigs: tuple[str, ...]


def unseen_sources(checkpoint: Checkpoint, training_data: TrainingData) -> list[Source]:
    """Return models that were not trained on some of the training contigs, with these contigs.

    Parameters
    ----------
    checkpoint : Checkpoint
        As loaded for this training. Its own held-out models are used; without any, the checkpoint itself.
    training_data : TrainingData

    Raises
    ------
    InputError
        If all training contigs were seen.
    """
    folders = sorted((checkpoint.required_files.folder / HELD_OUT_FOLDER).glob("*/config.json"))
    models = [load(config.parent, ("base",)) for config in folders] or [checkpoint]
    sources = []
    for model in models:
        unseen = set(model.metadata.training.get("validation_contigs", ()))
        contigs = tuple(contig for contig in training_data.contigs["train"] if contig in unseen)
        if contigs:
            sources.append(Source(model, contigs))
    if not sources:
        raise InputError(
            f"readout_contigs = 'unseen': {checkpoint.name} and its held-out models were trained on all training "
            "contigs; name a checkpoint whose folder contains held-out models"
        )
    return sources
