"""What a head declares about its output, so that inference can decode it without knowing the head.

The decoding itself is in `zflipon.inference.decoding`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HeadDecoding:
    """How the output of a head becomes base probabilities.

    Attributes
    ----------
    per_base : bool
        True if the logits are log-odds of bases, shape (batch, bases); False if they are the logits of two classes of
        tokens, shape (batch, tokens, 2).
    strand_weights : tuple of (float, float)
        If both strands are read: one (forward, reverse) pair of weights for each factor of the probability. The
        factors are averaged over the strands with these weights and then multiplied. With one pair, probabilities are
        averaged. With two, the head returns a Z-forming score and an activity score.
    has_upper_bound : bool
        Whether the model has a `first_factor`, which is cheap to compute and whose logit is an upper bound.
    """

    per_base: bool
    strand_weights: tuple[tuple[float, float], ...] = ((0.5, 0.5),)
    has_upper_bound: bool = False

    @property
    def has_factors(self) -> bool:
        """Whether the probability is the product of a Z-forming score and an activity score."""
        return len(self.strand_weights) > 1


TOKEN_DECODING = HeadDecoding(per_base=False)
"""Decoding of a token classification head."""

BASE_DECODING = HeadDecoding(per_base=True)
"""Decoding of a head that returns one logit per base."""

FACTOR_DECODING = HeadDecoding(per_base=True, strand_weights=((1.0, 0.0), (0.5, 0.5)), has_upper_bound=True)
"""Decoding of the base-resolution head. Its Z-forming score follows rules for the strand that is read, as the published
maps do, so that the reverse strand does not contribute to it. The activity score is averaged."""
