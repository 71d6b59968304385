"""Attributions as data: the target that is explained, and how much each input of the model contributes to it.

How they are computed is in `zflipon.explain.integrated_gradients`; what they are used for in the other modules.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from zflipon.tokenization.tokenizers import DnaTokenizer
from zflipon.tokenization.tokens import Tokens


@dataclass(frozen=True)
class AttributionTarget:
    """The scalar that is explained: a weighted sum of a model's log-odds (or probabilities) of class 1.

    Attributes
    ----------
    sequence : int
        Index of the sequence.
    weights : numpy.ndarray
        float32: shape (tokens,) for a token head, (bases,) for a base head, (1,) for a sequence head.
    """

    sequence: int
    weights: np.ndarray


@dataclass(frozen=True)
class Attribution:
    """The contribution of each model input to one attribution target.

    Attributes
    ----------
    target : AttributionTarget
    tokens : Tokens
        Tokens of the sequence.
    embeddings : numpy.ndarray
        float32, shape (tokens,): attribution of each token embedding, summed over its components.
    letters, zhunt : numpy.ndarray or None
        float32, shape (bases,): attributions of the one-hot letters and of the Z-HUNT channels that a base head reads
        directly, summed over channels. A Z-HUNT channel depends on all bases of the windows that it scores.
    output, baseline_output : float
        Value of the target for the sequence and for the baseline.
    steps : int
        Interpolation steps that were used.
    tracks : numpy.ndarray or None
        float32, shape (tracks, steps): attributions of the omics tracks, at the resolution at which the model reads
        them. Their baseline is a track without intervals: height 0, or the largest distance.
    kmers : numpy.ndarray or None
        float32, shape (bases,): attribution of the k-mer log-odds, at the middle base of each k-mer.
    """

    target: AttributionTarget
    tokens: Tokens
    embeddings: np.ndarray
    letters: np.ndarray | None
    zhunt: np.ndarray | None
    output: float
    baseline_output: float
    steps: int
    tracks: np.ndarray | None = None
    kmers: np.ndarray | None = None

    @property
    def total(self) -> float:
        """Sum of all attributions."""
        parts = (self.embeddings, self.letters, self.zhunt, self.kmers, self.tracks)
        return sum(float(part.sum(dtype=np.float64)) for part in parts if part is not None)

    @property
    def completeness_error(self) -> float:
        """`total` − (`output` − `baseline_output`): the quadrature error, which captum calls convergence delta."""
        return self.total - (self.output - self.baseline_output)

    def base_inputs(self) -> np.ndarray | None:
        """Return the attribution of the inputs that a base head reads at each base.

        Returns
        -------
        numpy.ndarray or None
            float64, shape (bases,): the sum of `letters`, `zhunt` and `kmers`; None for other heads.
        """
        inputs = (self.letters, self.zhunt, self.kmers)
        parts = [part.astype(np.float64) for part in inputs if part is not None]
        return sum(parts, start=np.zeros_like(parts[0])) if parts else None

    def per_token(self) -> np.ndarray:
        """Return the attribution of each token and of its bases: float64, shape (tokens,)."""
        scores, bases = self.embeddings.astype(np.float64), self.base_inputs()
        if bases is None:
            return scores
        ends = np.cumsum(self.tokens.lengths)
        cumulative = np.concatenate([[0], np.cumsum(bases)])
        return scores + cumulative[ends] - cumulative[ends - self.tokens.lengths]

    def per_base(self, span: int = 1) -> np.ndarray:
        """Spread the attribution of each token evenly over its bases, and add the attribution of the base inputs.

        Parameters
        ----------
        span : int
            Least number of bases that a token reads: the k of overlapping k-mers (`DnaTokenizer.tokens_per_base`).

        Returns
        -------
        numpy.ndarray
            float64, shape (bases,). It sums to the attribution of the sequence, since tokens without bases have 0.
        """
        starts, ends = token_spans(self.tokens, span)
        has_bases = ends > starts
        share = self.embeddings[has_bases] / (ends - starts)[has_bases]
        changes = np.zeros(int(self.tokens.lengths.sum()) + 1)
        np.add.at(changes, starts[has_bases], share)
        np.add.at(changes, ends[has_bases], -share)
        spread, bases = np.cumsum(changes)[:-1], self.base_inputs()
        return spread if bases is None else spread + bases


def token_spans(tokens: Tokens, span: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return start and end of the bases that each token reads; equal for tokens without bases.

    Tokens of overlapping k-mers own one base each and read k.

    Parameters
    ----------
    tokens : Tokens
    span : int
        Least number of bases that a token reads.

    Returns
    -------
    starts, ends : numpy.ndarray
        int64, shape (tokens,).
    """
    ends = np.cumsum(tokens.lengths)
    starts = ends - tokens.lengths
    reach = np.minimum(starts + span, ends[-1] if len(ends) else 0)
    return starts, np.where(tokens.lengths > 0, np.maximum(ends, reach), starts)


def base_token_mask(tokens: Tokens, tokenizer: DnaTokenizer) -> np.ndarray:
    """Return which tokens consist of A, C, G and T only: bool, shape (tokens,)."""
    return np.isin(tokens.ids, tokenizer.base_ids) & (tokens.lengths > 0)


def describe_completeness(attributions: Iterable[Attribution]) -> str:
    """Return one line about the completeness error of some attributions, for a log or a table header."""
    pairs = [(abs(one.completeness_error), abs(one.output - one.baseline_output)) for one in attributions]
    errors, changes = np.array(pairs).T
    relative = errors / np.maximum(changes, np.finfo(np.float32).tiny)
    return (
        f"{len(pairs)} attributions; completeness error: median {np.median(errors):.3g}, "
        f"maximum {errors.max():.3g}; relative to output - baseline output: median {np.median(relative):.2%}, "
        f"95th percentile {np.quantile(relative, 0.95):.2%}"
    )
