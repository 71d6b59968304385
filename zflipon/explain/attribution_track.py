"""A track of signed attributions: how much each base of a region contributes to the calls in it.

Windows are those of the probability track. Writing the track to a bigWig file is in `zflipon.tracks`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from zflipon.config import Selection
from zflipon.errors import InputError
from zflipon.explain.attribution import Attribution
from zflipon.explain.call_rules import call_threshold
from zflipon.explain.calls import explain_calls
from zflipon.explain.integrated_gradients import IntegratedGradientsExplainer
from zflipon.genome.fasta import Genome
from zflipon.genome.shards import make_plan
from zflipon.models import ModelMetadata
from zflipon.tokenization.alignment import token_of_base, tokens_to_bases
from zflipon.tokenization.tokens import Tokens

TrackValues = dict[str, list[tuple[int, np.ndarray]]]
"""Contig → (start, values) of each segment, as `zflipon.tracks.bigwig_writer.write_bigwig_values` expects it."""


@dataclass(frozen=True)
class TrackWindow:
    """A window of the model and the part of its core that lies in the selection.

    Attributes
    ----------
    contig : str
    start, end : int
        The window.
    core_start, core_end : int
        The bases whose calls are decided by this window and that are selected.
    """

    contig: str
    start: int
    end: int
    core_start: int
    core_end: int


def attribution_track(
    explainer: IntegratedGradientsExplainer,
    genome: Genome,
    selection: Selection,
    threshold: float | None = None,
    every_base: bool = False,
    batch_size: int | None = None,
    progress: Callable[[int, int], object] = lambda windows, total: None,
) -> tuple[TrackValues, list[tuple[TrackWindow, Attribution]]]:
    """Attribute the calls of regions to the bases of the regions.

    The target of a window is the mean over the called bases of its core that are selected; for a token head, over the
    tokens that hold these bases, weighted by their number; for a sequence head, the output of the window. The
    contributions of overlapping windows to one base are added.

    Parameters
    ----------
    explainer : IntegratedGradientsExplainer
    genome : Genome
    selection : Selection
    threshold : float, optional
        Probability from which a base is called; the threshold of the model by default.
    every_base : bool
        Explain the mean over all bases, called or not.
    batch_size : int, optional
        Windows of a forward pass of the calls.
    progress : callable
        Called with the number of windows that were just finished and the number of all windows.

    Returns
    -------
    values : dict of str to list of (int, numpy.ndarray)
        Contig → start and float64 values of each segment; NaN at N and where no explained window reaches.
    attributions : list of (TrackWindow, Attribution)

    Raises
    ------
    InputError
        If the regions hold no sequence, or no base of them is called.
    """
    metadata = explainer.metadata
    windows, segments = _plan_windows(genome, selection, metadata)
    every_base |= metadata.objective == "sequence"

    def target_weights(index: int, tokens: Tokens, called: np.ndarray) -> list[np.ndarray]:
        selected = np.ones_like(called) if every_base else called
        weights = _core_weights(metadata.objective, windows[index], tokens, selected)
        return [weights] if weights.any() else []

    sequences = [genome.fetch(window.contig, window.start, window.end) for window in windows]
    intervals = [(window.contig, window.start, window.end) for window in windows]
    attributions = [
        (windows[attribution.target.sequence], attribution)
        for attribution in explain_calls(
            explainer, sequences, intervals, target_weights, threshold, batch_size, progress
        )
    ]
    if not attributions:
        raise InputError(
            f"no base of the regions is called at a threshold of {call_threshold(metadata, threshold):g}; use a lower "
            "--threshold, or explain every base (--bases all)"
        )
    return _sum_windows(genome, segments, attributions, explainer.tokenizer.tokens_per_base), attributions


def _plan_windows(
    genome: Genome, selection: Selection, metadata: ModelMetadata
) -> tuple[list[TrackWindow], list[tuple[str, int, int]]]:
    """Return the windows of a selection, and its segments of sequence; adjacent spans make one segment."""
    plan = make_plan(genome, selection, metadata.window, metadata.margin)
    if not plan.spans:
        raise InputError("the regions hold no sequence (only N, or no bases)")
    windows, segments = [], []
    for span in plan.spans:
        for row in span.windows:
            core_start = max(span.start, int(row["core_start"]))
            core_end = min(span.end, int(row["core_end"]))
            windows.append(TrackWindow(span.contig, int(row["start"]), int(row["end"]), core_start, core_end))
        if segments and segments[-1][0] == span.contig and segments[-1][2] == span.start:
            segments[-1] = (span.contig, segments[-1][1], span.end)
        else:
            segments.append((span.contig, span.start, span.end))
    return windows, segments


def _core_weights(
    objective: str | None, window: TrackWindow, tokens: Tokens, called: np.ndarray
) -> np.ndarray:
    """Return the target weights of the mean over the called bases of a window's core; all 0 without called bases."""
    if objective == "sequence":
        return np.ones(1, dtype=np.float32)
    bases = called if objective == "base" else tokens_to_bases(called, tokens.lengths)
    weights = np.zeros(len(bases), dtype=np.float32)
    core = slice(window.core_start - window.start, window.core_end - window.start)
    weights[core] = bases[core]
    weights /= max(1.0, float(weights.sum()))
    if objective == "base":
        return weights
    return np.bincount(token_of_base(tokens.lengths), weights, len(tokens.ids)).astype(np.float32)


def _sum_windows(
    genome: Genome,
    segments: Sequence[tuple[str, int, int]],
    attributions: Sequence[tuple[TrackWindow, Attribution]],
    span: int,
) -> TrackValues:
    """Add up the contributions of all windows to each base of the segments."""
    track: TrackValues = {}
    for contig, start, end in segments:
        track.setdefault(contig, []).append((start, np.full(end - start, np.nan)))
    for window, attribution in attributions:
        contribution = attribution.per_base(span)
        for start, values in track[window.contig]:
            low, high = max(start, window.start), min(start + len(values), window.end)
            if low < high:
                overlap = values[low - start : high - start]
                overlap[:] = np.nan_to_num(overlap) + contribution[low - window.start : high - window.start]
    for contig, parts in track.items():
        for start, values in parts:
            letters = genome.fetch(contig, start, start + len(values)).encode()
            values[np.frombuffer(letters, dtype=np.uint8) == ord("N")] = np.nan
    return track
