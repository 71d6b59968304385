"""Defaults of the gene context of calls and of comparisons of tracks.

Defaults of inference and calling are in `zflipon.config.inference`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from zflipon.config.inference import NonNegativeInt, Probability
from zflipon.config.validation import config_class


@config_class
class GeneConfig:
    """How calls are related to genes.

    Attributes
    ----------
    upstream, downstream : int
        A promoter is this many bases before the TSS of a transcript and from the TSS on.
    shuffles : int
        Shuffles of the calls, for the enrichment of features.
    seed : int
        Seed of the shuffles and of the bootstrap.
    threshold : float or None
        Probability from which a base of a bigWig is called. None uses that of its run record, else 0.5.
    """

    upstream: NonNegativeInt = 1000
    downstream: NonNegativeInt = 100
    shuffles: Annotated[int, Field(ge=2)] = 200
    seed: NonNegativeInt = 42
    threshold: Probability | None = None
