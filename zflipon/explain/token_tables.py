"""Tables of tokens by attribution, as Libina & Skvortsova (2025) print them.

Tables 5.5 and 5.6: for every true positive token, the ten tokens of its window with the highest scores count; the
table lists the mean score of a token and how often it counted. Tables 4.3 to 4.6: the mean score, positive or
negative, of a token over all true positive sequences. The paper computes scores with transformers-interpret, which
divides the scores of one attribution by their Euclidean norm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field

import numpy as np

from zflipon.errors import InputError
from zflipon.explain.attribution import Attribution, base_token_mask, token_spans
from zflipon.explain.call_rules import describe_threshold
from zflipon.explain.calls import explain_calls, true_positive_weights
from zflipon.explain.integrated_gradients import IntegratedGradientsExplainer
from zflipon.explain.labelled_sequences import LabelledSequences
from zflipon.tokenization.tokens import Tokens

COLUMNS = ("token", "score", "count")


@dataclass
class TokenScores:
    """Mean score of each token.

    Attributes
    ----------
    sums : dict of str to float
    counts : dict of str to int
    """

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, token: str, score: float) -> None:
        """Count one occurrence of a token."""
        self.sums[token] = self.sums.get(token, 0.0) + score
        self.counts[token] = self.counts.get(token, 0) + 1

    def rows(self) -> list[tuple[str, float, int]]:
        """Return the rows of `COLUMNS`: by descending mean score, then by token."""
        means = [
            (token, total / self.counts[token], self.counts[token]) for token, total in self.sums.items()
        ]
        return sorted(means, key=lambda row: (-row[1], row[0]))


def window_scores(
    attribution: Attribution, sequence: str, explainer: IntegratedGradientsExplainer
) -> tuple[list[str], np.ndarray]:
    """Return the tokens of a window that consist of bases, as text, and their scores.

    Scores are divided by their Euclidean norm if the configuration asks for it.
    """
    tokens, tokenizer = attribution.tokens, explainer.tokenizer
    scores = attribution.per_token()
    if explainer.config.normalised:
        scores = scores / max(float(np.linalg.norm(scores)), np.finfo(np.float32).tiny)
    indices = np.flatnonzero(base_token_mask(tokens, tokenizer))
    starts, ends = token_spans(tokens, tokenizer.tokens_per_base)
    return [sequence[starts[i] : ends[i]] for i in indices], scores[indices]


def token_table(
    explainer: IntegratedGradientsExplainer,
    data: LabelledSequences,
    threshold: float | str | None = None,
    batch_size: int | None = None,
    progress: Callable[[int, int], object] = lambda windows, total: None,
) -> tuple[TokenScores, list[Attribution]]:
    """Compute the table of tokens over all true positives.

    For a token or base head, the `AttributionConfig.top` highest-scoring tokens of each true positive count; for a
    sequence head, all tokens.

    Parameters
    ----------
    explainer : IntegratedGradientsExplainer
    data : LabelledSequences
    threshold : float or str, optional
        Probability from which an output is called, or ``'argmax'``; the threshold of the model by default.
    batch_size : int, optional
        Windows of a forward pass of the calls.
    progress : callable
        Called with the number of windows that were just finished and the number of all windows.

    Returns
    -------
    scores : TokenScores
    attributions : list of Attribution
        Of all true positives; ``target.sequence`` is an index into `data`.

    Raises
    ------
    InputError
        If there is no true positive.
    """

    def target_weights(index: int, tokens: Tokens, called: np.ndarray) -> list[np.ndarray]:
        return true_positive_weights(explainer.metadata, tokens, called, data.labels[index])

    scores, attributions = TokenScores(), []
    for attribution in explain_calls(
        explainer, data.sequences, data.intervals, target_weights, threshold, batch_size, progress
    ):
        names, values = window_scores(attribution, data.sequences[attribution.target.sequence], explainer)
        if explainer.metadata.objective != "sequence":
            highest = np.argsort(-values, kind="stable")[: explainer.config.top]
            names, values = [names[i] for i in highest], values[highest]
        for name, value in zip(names, values.tolist(), strict=True):
            scores.add(name, value)
        attributions.append(attribution)
    if not attributions:
        raise InputError(
            f"no true positives in {len(data):,} sequences: no labelled token is called at a threshold of "
            f"{describe_threshold(explainer.metadata, threshold)}; use a lower --threshold or other labels"
        )
    return scores, attributions


def table_title(explainer: IntegratedGradientsExplainer) -> str:
    """Return what the rows of a token table are, for its header."""
    if explainer.metadata.objective == "sequence":
        return "mean score of tokens over true positive sequences"
    return f"mean score of the {explainer.config.top} highest-attributed tokens of each true positive token"


def table_header(
    explainer: IntegratedGradientsExplainer,
    model: Mapping[str, object],
    data: Mapping[str, object],
    title: str,
) -> dict[str, object]:
    """Return the header lines of a table: title, model, data and settings; see `zflipon.explain.table_files`."""
    metadata, settings = explainer.metadata, asdict(explainer.config)
    settings.pop("batch_size")
    return {
        "table": title,
        **model,
        "family": metadata.family,
        "objective": metadata.objective,
        **{name: _joined_list(value) for name, value in data.items()},
        "method": "Integrated Gradients, Gauss-Legendre quadrature",
        **settings,
    }


def _joined_list(value: object) -> object:
    """Return lists as text, None if empty, and other values as they are."""
    return (", ".join(map(str, value)) or None) if isinstance(value, list | tuple) else value
