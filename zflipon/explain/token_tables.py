"""Attributions over many windows → the paper's tables, and one bigWig that lies under the probability track.

Tables 5.5 and 5.6 of Libina & Skvortsova (2025): of every true positive token the ten tokens of its window with the
highest scores; a token's mean score and how often it was among them. Tables 4.3 to 4.6: the mean score, positive
or negative, of a token over all true positive sequences. The paper's scores come from transformers-interpret, which
divides those of one attribution by the root of their summed squares.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from zflipon.config import InferenceConfig, Selection
from zflipon.errors import InputError
from zflipon.explain.attribution import (
    OBJECTIVES,
    Attribution,
    AttributionTarget,
    Attributor,
    pure_tokens,
    read_spans,
)
from zflipon.genome.fasta import Genome
from zflipon.genome.interval_files import read_bed
from zflipon.genome.intervals import interval_mask, merge_by_contig
from zflipon.genome.shards import make_plan
from zflipon.genome.tiled_windows import build_tiled_windows
from zflipon.inference.decoding import calibrate
from zflipon.inference.predictor import Predictor
from zflipon.models import ModelMetadata
from zflipon.tokenization.alignment import labels_to_tokens, token_of_base, tokens_to_bases
from zflipon.tokenization.tokens import Tokens

_POOL = 256
"""Sequences whose calls are asked for together, before they are explained."""


# ---- what is explained -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Labelled:
    """Sequences and what is known of them.

    Attributes
    ----------
    sequences : list of str
        Upper case.
    labels : list of numpy.ndarray
        bool, shape (bases,) each, or (1,) where the whole sequence is labelled.
    places : list of (str, int, int)
        Contig, start and end of each; its number, from 1 on, 0 and its length where it is of no genome.
    """

    sequences: list[str]
    labels: list[np.ndarray]
    places: list[tuple[str, int, int]]


def labelled_windows(
    genome: Genome,
    labels: Path,
    window: int,
    contigs: Sequence[str] = (),
    blacklist: Path | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Labelled:
    """Read the windows that hold a labelled base, tiled from 0 at a stride of their width; only these can be hit.

    Parameters
    ----------
    genome : Genome
    labels, blacklist : Path
        BED files. Windows that touch the blacklist or are mostly N are left out.
    window : int
        Bases.
    contigs : sequence of str
        The contigs to read; none means all.
    limit : int, optional
        Take so many, at random.
    seed : int
        Of that draw.

    Raises
    ------
    InputError
        If a contig is unknown, a file malformed, or no window holds a label.
    """
    for contig in contigs:
        genome.length(contig)
    chosen = {name: length for name, length in genome.lengths.items() if not contigs or name in contigs}
    known = merge_by_contig(read_bed(labels, genome.lengths, "labels"), chosen)
    avoided = (
        merge_by_contig(read_bed(blacklist, genome.lengths, "blacklisted regions"), chosen)
        if blacklist
        else {}
    )
    touched = {contig: chosen[contig] for contig in known}
    if not touched:
        raise InputError(f"{labels}: no label on the contigs that are read")
    stretches = {contig: genome.scan(contig, min_gap=1).segments for contig in touched}
    tiled = build_tiled_windows(touched, known, stretches, avoided, window)
    taken = np.flatnonzero(tiled.labelled)
    if not len(taken):
        raise InputError(f"{labels}: no window of {window} bases holds a label; is the window too wide?")
    if limit is not None and limit < len(taken):
        taken = np.sort(np.random.default_rng(seed).choice(taken, limit, replace=False))
    found = Labelled([], [], [])
    for number, start in zip(tiled.contig[taken], tiled.start[taken].tolist(), strict=True):
        contig = tiled.contigs[number]
        found.sequences.append(genome.fetch(contig, start, start + window))
        found.labels.append(interval_mask(known[contig], start, start + window))
        found.places.append((contig, start, start + window))
    return found


def labelled_sequences(sequences: Sequence[str], labels: Sequence[bool]) -> Labelled:
    """Put sequences that are of no genome beside the labels of the whole of each."""
    places = [(str(number), 0, len(text)) for number, text in enumerate(sequences, 1)]
    return Labelled(list(sequences), [np.array([bool(label)]) for label in labels], places)


def log_odds_of(
    predictor: Predictor, sequences: Sequence[str], seen: Sequence[np.ndarray] | None = None
) -> list[tuple[Tokens, np.ndarray]]:
    """Return tokens and calibrated log-odds of class 1 of each sequence; `seen` as `Predictor.predict_logits` has features.

    Returns
    -------
    list of (Tokens, numpy.ndarray)
        float32, of shape (tokens,), (bases,) or (1,), as the objective has it.
    """
    found: list[tuple[Tokens, np.ndarray] | None] = [None] * len(sequences)
    for index, tokens, rows in predictor.predict_logits(sequences, seen):
        if predictor.metadata.objective != "base":
            others = np.delete(rows, 1, axis=-1)
            rows = np.atleast_1d(rows[..., 1] - np.logaddexp.reduce(others, axis=-1))
        found[index] = (tokens, calibrate(rows, predictor.metadata.calibration))
    return found


def true_positives(
    metadata: ModelMetadata, tokens: Tokens, called: np.ndarray, labels: np.ndarray
) -> list[np.ndarray]:
    """Return the weights of the scalar of each true positive of a window.

    Of a token head, a true positive is a token that is called and labelled, and its scalar the token's. Of a
    base head, it is a token of whose bases as large a share is called as makes a labelled token; its scalar is
    their mean. Of a sequence head it is the sequence.

    Parameters
    ----------
    story : Story
    tokens : Tokens
    called : numpy.ndarray
        bool, of the shape of the head's log-odds.
    labels : numpy.ndarray
        bool, shape (bases,) or (1,).
    """
    if metadata.objective == "sequence":
        return [np.ones(1, dtype=np.float32)] if called[0] and labels.any() else []

    def share(bases: np.ndarray) -> np.ndarray:
        return (
            labels_to_tokens(bases, tokens.lengths, metadata.label_threshold, metadata.label_comparison) == 1
        )

    of_bases = metadata.objective == "base"
    hit = np.flatnonzero(share(labels) & (share(called) if of_bases else called) & (tokens.lengths > 0))
    place = token_of_base(tokens.lengths) if of_bases else np.arange(len(tokens.ids))
    rows = (place == hit[:, None]).astype(np.float32)
    return list(rows / rows.sum(1, keepdims=True)) if len(hit) else []


# ---- tables ----------------------------------------------------------------------------------------------


@dataclass
class TokenScores:
    """Sums of scores by token.

    Attributes
    ----------
    sums : dict of str to float
    counts : dict of str to int
    """

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, token: str, score: float) -> None:
        """Count a token once."""
        self.sums[token] = self.sums.get(token, 0.0) + score
        self.counts[token] = self.counts.get(token, 0) + 1

    def rows(self) -> list[tuple[str, float, int]]:
        """Return token, mean score and count: the highest mean first, then by token."""
        means = [
            (token, total / self.counts[token], self.counts[token]) for token, total in self.sums.items()
        ]
        return sorted(means, key=lambda row: (-row[1], row[0]))


def window_scores(
    attribution: Attribution, sequence: str, attributor: Attributor
) -> tuple[list[str], np.ndarray]:
    """Return the tokens of a window that stand for bases, as text, and their scores, normalised if asked for."""
    tokens, tokenizer = attribution.tokens, attributor.tokenizer
    scores = attribution.per_token()
    if attributor.config.normalised:
        scores = scores / max(float(np.linalg.norm(scores)), np.finfo(np.float32).tiny)
    kept = np.flatnonzero(pure_tokens(tokens, tokenizer))
    starts, ends = read_spans(tokens, tokenizer.tokens_per_base)
    return [sequence[starts[i] : ends[i]] for i in kept], scores[kept]


def token_table(
    attributor: Attributor,
    data: Labelled,
    threshold: float | None = None,
    batch_size: int | None = None,
    progress: Callable[[int], object] = lambda windows: None,
) -> tuple[TokenScores, list[Attribution]]:
    """Make the paper's table: of a token or base head the ten best of each true positive, of a sequence head all.

    Parameters
    ----------
    attributor : Attributor
    data : Labelled
    threshold : float, optional
        Probability from which a call is one; the model's own by default.
    batch_size : int, optional
        Windows a forward pass, where calls are made.
    progress : callable
        Told how many windows have just been done.

    Returns
    -------
    scores : TokenScores
    attributions : list of Attribution
        Of all true positives; `Aim.sequence` is an index into `data`.

    Raises
    ------
    InputError
        If there is no true positive.
    """
    scores, attributions = TokenScores(), []
    for first, calls in _calls(attributor, data.sequences, data.places, threshold, batch_size):
        sequences = data.sequences[first : first + len(calls)]
        aims = [
            AttributionTarget(index, weights)
            for index, (tokens, called) in enumerate(calls)
            for weights in true_positives(attributor.metadata, tokens, called, data.labels[first + index])
        ]
        seen = seen_in(attributor, data.places[first : first + len(calls)])
        for found in attributor.attribute(sequences, aims, [tokens for tokens, _ in calls], seen):
            names, values = window_scores(found, sequences[found.aim.sequence], attributor)
            if attributor.metadata.objective != "sequence":
                best = np.argsort(-values, kind="stable")[: attributor.config.top]
                names, values = [names[i] for i in best], values[best]
            for name, value in zip(names, values.tolist(), strict=True):
                scores.add(name, value)
            attributions.append(_renumbered(found, first))
        progress(len(calls))
    if not attributions:
        raise InputError(
            f"no true positives among {len(data.sequences):,} sequences: nothing that is labelled is called at "
            f"{_cutoff(attributor.metadata, threshold):g}; lower --threshold, or take labels of what the model finds"
        )
    return scores, attributions


def _calls(
    attributor: Attributor,
    sequences: Sequence[str],
    places: Sequence[tuple[str, int, int]],
    threshold: float | None,
    batch_size: int | None,
) -> Iterator[tuple[int, list[tuple[Tokens, np.ndarray]]]]:
    """Yield, a pool at a time, the index of its first sequence and, of each, tokens and what is called of them."""
    config = InferenceConfig(device=str(attributor.device), precision="float32", batch_size=batch_size)
    predictor = Predictor(attributor.checkpoint, config, OBJECTIVES, attributor.features)
    cutoff = _logit(_cutoff(attributor.metadata, threshold))
    for first in range(0, len(sequences), _POOL):
        pool = slice(first, first + _POOL)
        found = log_odds_of(predictor, sequences[pool], seen_in(attributor, places[pool]))
        yield first, [(tokens, odds >= cutoff) for tokens, odds in found]


def seen_in(attributor: Attributor, places: Sequence[tuple[str, int, int]]) -> list[np.ndarray] | None:
    """Return what the model sees of the tracks at places (contig, start, end); None for a model without."""
    tracks, view = attributor.features, attributor.module.view
    return tracks and [tracks.window(contig, start, end, view) for contig, start, end in places]


def _renumbered(found: Attribution, first: int) -> Attribution:
    return replace(found, aim=replace(found.aim, sequence=found.aim.sequence + first))


def _cutoff(metadata: ModelMetadata, threshold: float | None) -> float:
    return metadata.threshold if threshold is None else threshold


def _logit(probability: float) -> float:
    if probability <= 0 or probability >= 1:
        return math.copysign(math.inf, probability - 0.5)
    return math.log(probability / (1 - probability))


# ---- the track -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """A window of a track.

    Attributes
    ----------
    contig : str
    start, end : int
        What the model reads.
    low, high : int
        The bases whose calls it decides, within what is asked for.
    """

    contig: str
    start: int
    end: int
    low: int
    high: int


def attribution_track(
    attributor: Attributor,
    genome: Genome,
    selection: Selection,
    threshold: float | None = None,
    every_base: bool = False,
    batch_size: int | None = None,
    progress: Callable[[int], object] = lambda windows: None,
) -> tuple[dict[str, list[tuple[int, np.ndarray]]], list[tuple[Place, Attribution]]]:
    """Attribute the calls of regions, in the windows that the probability track has there.

    The scalar of a window is the mean over the called bases of its core, those asked for; of a token head over the
    tokens that hold them, by their bases. Of a sequence head it is the window's. What it takes from each
    base stands at that base, also beyond the core, and where windows overlap it adds up.

    Parameters
    ----------
    attributor : Attributor
    genome : Genome
    selection : Selection
    threshold : float, optional
        Probability from which a base is called; the model's own by default.
    every_base : bool
        Take the mean over all bases, whether called or not.
    batch_size : int, optional
        Windows a forward pass, where calls are made.
    progress : callable
        Told how many windows have just been done.

    Returns
    -------
    pieces : dict of str to list of (int, numpy.ndarray)
        As `zflipon.tracks.bigwig.write_bigwig_values` takes them: float64, NaN at N and where no window with a call reaches.
    attributions : list of (Place, Attribution)

    Raises
    ------
    InputError
        If the regions hold no sequence, or nothing in them is called.
    """
    places, wanted = _places(genome, selection, attributor.metadata)
    sequences = [genome.fetch(place.contig, place.start, place.end) for place in places]
    found: list[tuple[Place, Attribution]] = []
    every_base |= attributor.metadata.objective == "sequence"
    spans = [(place.contig, place.start, place.end) for place in places]
    for first, calls in _calls(attributor, sequences, spans, threshold, batch_size):
        aims = []
        for index, (tokens, called) in enumerate(calls):
            place = places[first + index]
            weights = _core_weights(attributor, place, tokens, np.ones_like(called) if every_base else called)
            if weights.any():
                aims.append(AttributionTarget(index, weights))
        pool = sequences[first : first + len(calls)]
        seen = seen_in(attributor, spans[first : first + len(calls)])
        for one in attributor.attribute(pool, aims, [tokens for tokens, _ in calls], seen):
            found.append((places[first + one.aim.sequence], one))
        progress(len(calls))
    if not found:
        raise InputError(
            f"nothing in the regions is called at {_cutoff(attributor.metadata, threshold):g}; lower --threshold, or "
            "explain every base (--bases all)"
        )
    return _laid(genome, wanted, found, attributor.tokenizer.tokens_per_base), found


def _places(
    genome: Genome, selection: Selection, metadata: ModelMetadata
) -> tuple[list[Place], list[tuple[str, int, int]]]:
    """Return the windows of regions, and the stretches of sequence that are asked for, joined where they touch."""
    plan = make_plan(genome, selection, metadata.window, metadata.margin)
    if not plan.shards:
        raise InputError("the regions hold no sequence: all of it is N or nothing")
    places, wanted = [], []
    for shard in plan.shards:
        for tile in shard.windows:
            low, high = max(shard.start, int(tile["core_start"])), min(shard.end, int(tile["core_end"]))
            places.append(Place(shard.contig, int(tile["start"]), int(tile["end"]), low, high))
        if wanted and wanted[-1][0] == shard.contig and wanted[-1][2] == shard.start:
            wanted[-1] = (shard.contig, wanted[-1][1], shard.end)
        else:
            wanted.append((shard.contig, shard.start, shard.end))
    return places, wanted


def _core_weights(attributor: Attributor, place: Place, tokens: Tokens, called: np.ndarray) -> np.ndarray:
    """Return the weights of the mean over the called bases of a window's core; all 0 where none is called."""
    objective = attributor.metadata.objective
    if objective == "sequence":
        return np.ones(1, dtype=np.float32)
    bases = called if objective == "base" else tokens_to_bases(called, tokens.lengths)
    inside = np.zeros(len(bases), dtype=np.float32)
    core = slice(place.low - place.start, place.high - place.start)
    inside[core] = bases[core]
    inside /= max(1.0, float(inside.sum()))
    if objective == "base":
        return inside
    return np.bincount(token_of_base(tokens.lengths), inside, len(tokens.ids)).astype(np.float32)


def _laid(
    genome: Genome,
    wanted: Sequence[tuple[str, int, int]],
    found: Sequence[tuple[Place, Attribution]],
    span: int,
) -> dict[str, list[tuple[int, np.ndarray]]]:
    """Add up what windows give each base that is asked for."""
    pieces: dict[str, list[tuple[int, np.ndarray]]] = {}
    for contig, start, end in wanted:
        pieces.setdefault(contig, []).append((start, np.full(end - start, np.nan)))
    for place, attribution in found:
        values = attribution.per_base(span)
        for start, track in pieces[place.contig]:
            low, high = max(start, place.start), min(start + len(track), place.end)
            if low < high:
                part = track[low - start : high - start]
                part[:] = np.nan_to_num(part) + values[low - place.start : high - place.start]
    for contig, parts in pieces.items():
        for start, track in parts:
            text = np.frombuffer(genome.fetch(contig, start, start + len(track)).encode(), dtype=np.uint8)
            track[text == ord("N")] = np.nan
    return pieces


# ---- files -----------------------------------------------------------------------------------------------


def heading(
    attributor: Attributor, model: Mapping[str, object], data: Mapping[str, object], what: str
) -> dict[str, object]:
    """Return what a table tells of itself: model, data, settings; see `zflipon.explain.table_files`."""
    metadata, settings = attributor.metadata, asdict(attributor.config)
    settings.pop("batch_size")
    return {
        "table": what,
        **model,
        "family": metadata.family,
        "objective": metadata.objective,
        **{name: _listed(value) for name, value in data.items()},
        "method": "Integrated Gradients, Gauss-Legendre quadrature",
        **settings,
    }


def _listed(value: object) -> object:
    """Return what a line of a heading can hold; an empty list is nothing."""
    return (", ".join(map(str, value)) or None) if isinstance(value, list | tuple) else value


def completeness(attributions: Iterable[Attribution]) -> str:
    """Say how far attributions miss what they should add up to."""
    found = [(abs(one.delta), abs(one.output - one.reference)) for one in attributions]
    deltas, changes = np.array(found).T
    share = deltas / np.maximum(changes, np.finfo(np.float32).tiny)
    return (
        f"{len(found)} attributions miss output - reference by {np.median(deltas):.3g} (median), "
        f"{deltas.max():.3g} (most); by {np.median(share):.2%} of it (median), {np.quantile(share, 0.95):.2%} (95th "
        "percentile)"
    )
