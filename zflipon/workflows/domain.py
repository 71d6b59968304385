"""Compare the sequence and the scores of a run with the training data of its model, and warn if they differ.

The training data are described by `zflipon.models.domain.Domain`, in the metadata of a model. Composition is compared
before the model runs, scores at the end. Too little sequence is not compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zflipon.genome.composition import COMPOSITION_WINDOW, DINUCLEOTIDES, CompositionCounter
from zflipon.models.domain import LOW_SCORE, SCORE_WINDOW, Comparison, Domain
from zflipon.tracks.score_windows import ScoreCounter

MIN_WINDOWS = 2
"""Windows of sequence, and of scores, that are compared; fewer may be an unusual locus."""

ALARM_SHARE = 0.5
"""Share of windows outside the domain from which sequence is reported; of human windows, about 1 % are outside."""

NAMED_RATIOS = 3
"""Dinucleotides that a warning names, at most."""

UNUSUAL_SPREADS = 3.0
"""Standard deviations of a dinucleotide ratio from which a warning names it."""


@dataclass(frozen=True)
class DomainReport:
    """Whether the input of a run resembles the training data of its model.

    Attributes
    ----------
    windows : int
        Compared windows of sequence.
    outside : float or None
        Share of them that is outside the domain; None if there is too little sequence.
    differences : tuple of str
        What differs in composition, if the sequence is outside the domain.
    score_differences : tuple of str
        What differs in scores; only known at the end of a run.
    """

    windows: int
    outside: float | None
    differences: tuple[str, ...] = ()
    score_differences: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        """``outside``, ``inside``, or ``unknown`` if there is too little sequence."""
        if self.differences or self.score_differences:
            return "outside"
        return "unknown" if self.outside is None else "inside"

    def to_dict(self) -> dict[str, object]:
        """Return the section of a run record."""
        return {
            "status": self.status,
            "windows": self.windows,
            "outside": None if self.outside is None else round(self.outside, 4),
            "differences": [*self.differences, *self.score_differences],
        }


class DomainMonitor:
    """Collects the composition and the scores of a run.

    Parameters
    ----------
    domain : Domain
    threshold : float
        Probability from which a base of the run is called.
    total_bases : int
        Length of the contigs that are read.
    whole_contigs : bool
        Whether whole contigs are annotated; the scores of chosen regions are not compared.
    """

    def __init__(self, domain: Domain, threshold: float, total_bases: int = 0, whole_contigs: bool = True):
        self._domain, self._whole_contigs = domain, whole_contigs
        self._composition = CompositionCounter(total_bases)
        self._scores = ScoreCounter(threshold)
        self._alarmed = False

    def add_sequence(self, sequence: str) -> None:
        """Count the next part of the genome, upper-case."""
        self._composition.add(sequence)

    def add_scores(self, values: np.ndarray, contig_length: int) -> None:
        """Count the next probabilities, as of `zflipon.tracks.calling.quantize`."""
        if self._whole_contigs:
            self._scores.add(values, contig_length)

    def alarm(self) -> DomainReport | None:
        """Return the report if it is outside the domain, the first time only."""
        report = self.report()
        if self._alarmed or report.status != "outside":
            return None
        self._alarmed = True
        return report

    def report(self) -> DomainReport:
        """Compare the collected sequence and scores."""
        windows = self._composition.windows()
        scores = compare_scores(self._domain, self._scores.shares())
        if len(windows) < MIN_WINDOWS:
            return DomainReport(len(windows), None, (), scores)
        comparison = self._domain.compare(windows)
        outside = float(comparison.outside.mean())
        differences = name_differences(self._domain, comparison) if outside >= ALARM_SHARE else ()
        return DomainReport(len(windows), outside, differences, scores)


def name_differences(domain: Domain, comparison: Comparison) -> tuple[str, ...]:
    """Return what differs in the windows outside a domain, the most unusual first; at least one phrase."""
    outside = comparison.outside
    gc = float(np.median(comparison.composition.gc[outside]))
    lowest, highest = domain.gc
    phrases = []
    if not lowest <= gc <= highest:
        phrases.append(f"GC {100 * gc:.0f} % (training {100 * lowest:.0f}-{100 * highest:.0f} %)")
    ratios = np.median(comparison.composition.ratios[outside], axis=0)
    expected = np.median(comparison.expected[outside], axis=0)
    spread = domain.ratio_spread()
    unusual = np.abs(ratios - expected) / spread
    for pair in np.argsort(-unusual, kind="stable")[:NAMED_RATIOS]:
        if unusual[pair] < UNUSUAL_SPREADS:
            break
        low, high = np.exp(expected[pair] + np.array([-2, 2]) * spread[pair])
        phrases.append(
            f"{DINUCLEOTIDES[pair]} observed/expected {np.exp(ratios[pair]):.2f} (training {low:.2f}-{high:.2f} at "
            f"{100 * gc:.0f} % GC)"
        )
    if np.median(comparison.kmer_score[outside]) < domain.min_kmer_score:
        phrases.append("the tetranucleotides, beyond what their dinucleotides explain")
    return tuple(phrases) or ("the combination of dinucleotide frequencies",)


def compare_scores(domain: Domain, shares: np.ndarray) -> tuple[str, ...]:
    """Return what differs in the shares of scores, of `ScoreCounter.shares`."""
    if domain.scores is None or len(shares) < MIN_WINDOWS:
        return ()
    phrases = []
    names = ("called bases", f"bases with a probability of {LOW_SCORE:g} or more")
    for name, share, (low, high) in zip(
        names, np.median(shares, axis=0), (domain.scores.called, domain.scores.low), strict=True
    ):
        if not low <= share <= high:
            phrases.append(f"{100 * share:.2g} % {name} (training {100 * low:.2g}-{100 * high:.2g} %)")
    return tuple(phrases)


def describe_alarm(report: DomainReport, genome: object, model: str, alternative: str) -> str:
    """Return the warning about sequence outside the domain of a model, or about its scores.

    Parameters
    ----------
    report : DomainReport
    genome, model : object
        Names for the message.
    alternative : str
        What to use instead.
    """
    if report.differences:
        part = f"{100 * (report.outside or 0):.0f} % of {report.windows:,} windows of {COMPOSITION_WINDOW // 1000} kb"
        found = (
            f"the sequence is unlike the training data of {model} in {part}: {'; '.join(report.differences)}"
        )
    else:
        found = (
            f"the scores in windows of {SCORE_WINDOW // 1_000_000} Mb are unlike those on the training data of "
            f"{model}: {'; '.join(report.score_differences)}"
        )
    return f"{genome}: {found}. Probability and activity have no known meaning here; use {alternative}"


def choose_alternative(has_propensity: bool) -> str:
    """Return what to use instead of the probability outside the domain of a model."""
    return "--score propensity, which is valid in any organism" if has_propensity else "--model zhunt"
