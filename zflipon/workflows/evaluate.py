"""Hold tracks, ours or a peer's, against labelled intervals.

Two protocols. *genome* counts every base that is neither N nor blacklisted: what
a user who annotates a genome meets. *sampled* counts the bases of the windows
that the published models were tested on, three without a label for each one
with. A base to which a track gives no value counts as 0, not called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from zflipon import __version__
from zflipon.config import EvaluateConfig
from zflipon.errors import InputError, format_names
from zflipon.genome.fasta import Genome
from zflipon.genome.interval_files import read_bed
from zflipon.genome.intervals import Intervals, count_covered, interval_mask, merge, merge_by_contig
from zflipon.genome.tiled_windows import build_tiled_windows
from zflipon.metrics import Confusion, RegionTally, ScoreHistogram
from zflipon.tracks.base import TrackReader
from zflipon.tracks.registry import open_track

# ---- the ground truth ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EvaluationRegions:
    """What tracks are held against.

    Attributes
    ----------
    lengths : dict of str to int
        The evaluated contigs.
    labels : Intervals
    counted : Intervals
        The bases that are neither N nor blacklisted.
    scopes : dict of str to Intervals
        Protocol → the bases that it counts.
    windows : dict of str to int
        How many positive and negative windows were sampled.
    """

    lengths: dict[str, int]
    labels: Intervals
    counted: Intervals
    scopes: dict[str, Intervals]
    windows: dict[str, int]

    def bases(self) -> dict[str, dict[str, int]]:
        """Count the bases of each protocol, and the labelled ones among them."""
        return {
            protocol: {
                "evaluated": sum(int(np.diff(intervals).sum()) for intervals in scope.values()),
                "labelled": sum(
                    int(count_covered(scope.get(contig), labels.ravel())[::2].sum())
                    for contig, labels in self.labels.items()
                ),
            }
            for protocol, scope in self.scopes.items()
        }


def survey(
    genome: Genome,
    labels: Path,
    blacklist: Path | None,
    contigs: Sequence[str],
    config: EvaluateConfig,
    advance: Callable[[int], object] = lambda bases: None,
) -> EvaluationRegions:
    """Find out which bases are counted and which of them are labelled.

    Parameters
    ----------
    genome : Genome
    labels, blacklist : Path
        BED files.
    contigs : sequence of str
        The contigs to evaluate; none means all.
    config : EvaluateConfig
    advance : callable
        Told the bases of each contig that has been read.

    Raises
    ------
    InputError
        If a contig is unknown, a file malformed, or nothing that is counted is labelled.
    """
    lengths = genome.select_contigs(contigs)
    label_runs = merge_by_contig(read_bed(labels, genome.lengths, "labels"), lengths)
    if not label_runs:
        raise InputError(
            f"{labels}: no label on the evaluated contigs ({format_names(lengths)}); expected a BED of Z-DNA"
        )
    avoided = (
        merge_by_contig(read_bed(blacklist, genome.lengths, "blacklisted regions"), lengths)
        if blacklist
        else {}
    )
    stretches = {}
    for contig, length in lengths.items():
        stretches[contig] = genome.scan(contig, min_gap=1).segments
        advance(length)
    counted = {
        contig: _intersect(stretches[contig], _complement(avoided.get(contig), length))
        for contig, length in lengths.items()
    }
    scopes, windows = {"genome": counted}, {}
    if config.protocol != "genome":
        scopes["sampled"], windows = sample(lengths, label_runs, stretches, avoided, config)
    if config.protocol == "sampled":
        del scopes["genome"]
    ground = EvaluationRegions(lengths, label_runs, counted, scopes, windows)
    if not all(count["labelled"] for count in ground.bases().values()):
        raise InputError(
            f"{labels}: every label lies on N, in the blacklist or in windows that are left out; "
            "nothing can be evaluated"
        )
    return ground


def sample(
    lengths: Mapping[str, int],
    labels: Intervals,
    stretches: Intervals,
    blacklist: Intervals,
    config: EvaluateConfig,
) -> tuple[Intervals, dict[str, int]]:
    """Draw the windows on which the published models were tested.

    Windows are tiled from 0 at a stride of their own width (a shorter rest is
    no window). One is left out if more than half of it is N or if it touches
    the blacklist. Those with a labelled base are taken, and so many others, at
    random, for each; all others where there are fewer.

    Parameters
    ----------
    lengths : mapping of str to int
    labels, stretches, blacklist : Intervals
        Disjoint; `stretches` are the bases that are not N.
    config : EvaluateConfig

    Returns
    -------
    windows : Intervals
        Neighbours joined.
    counts : dict of str to int
        ``'positive'`` and ``'negative'`` windows.
    """
    tiled = build_tiled_windows(lengths, labels, stretches, blacklist, config.window)
    positive, other = np.flatnonzero(tiled.labelled), np.flatnonzero(~tiled.labelled)
    wanted = min(config.negatives * len(positive), len(other))
    drawn = other[np.random.default_rng(config.seed).choice(len(other), wanted, replace=False)]
    chosen = np.sort(np.concatenate([positive, drawn]))
    starts = {
        contig: tiled.start[chosen][tiled.contig[chosen] == i] for i, contig in enumerate(tiled.contigs)
    }
    windows = {
        contig: merge(np.stack([start, start + config.window], axis=1)) for contig, start in starts.items()
    }
    return windows, {"positive": len(positive), "negative": len(drawn)}


def _complement(intervals: np.ndarray | None, length: int) -> np.ndarray:
    edges = (
        np.r_[0, intervals.ravel() if intervals is not None else [], length].astype(np.int64).reshape(-1, 2)
    )
    return edges[edges[:, 1] > edges[:, 0]]


def _intersect(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    edges = np.union1d(one, other)
    inside = (count_covered(one, edges) > 0) & (count_covered(other, edges) > 0)
    return merge(np.stack([edges[:-1], edges[1:]], axis=1)[inside])


# ---- measuring -------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """Counts of one track under one protocol; `histogram` is None for a track of calls."""

    confusion: Confusion = field(default_factory=Confusion)
    histogram: ScoreHistogram | None = None

    def add(self, scores: np.ndarray, called: np.ndarray, labels: np.ndarray) -> None:
        """Count bases: three arrays of shape (bases,)."""
        self.confusion += Confusion.from_calls(called, labels)
        if self.histogram is not None:
            self.histogram.add(scores, labels)

    def summary(self) -> dict[str, float | None]:
        """Return the measures; those of a scored track are None for calls."""
        average_precision, best_f1, best_threshold = None, None, None
        if self.histogram is not None:
            average_precision = self.histogram.average_precision()
            best_f1, best_threshold = self.histogram.best_f1()
        return {
            "f1": self.confusion.f1,
            "mcc": self.confusion.mcc,
            "precision": self.confusion.precision,
            "recall": self.confusion.recall,
            "average_precision": average_precision,
            "best_f1": best_f1,
            "best_threshold": best_threshold,
        }


@dataclass
class Result:
    """What one track reached.

    Attributes
    ----------
    scored : bool
    protocols : dict of str to Tally
    calls, labels : RegionTally
        Called regions, hit where they overlap a label; labels, hit where a call overlaps them.
    """

    scored: bool
    protocols: dict[str, Tally]
    calls: RegionTally = field(default_factory=RegionTally)
    labels: RegionTally = field(default_factory=RegionTally)

    def summary(self) -> dict[str, Any]:
        """Return all measures, as the JSON file has them."""
        return {protocol: tally.summary() for protocol, tally in self.protocols.items()} | {
            "regions": {
                "precision": self.calls.rate,
                "recall": self.labels.rate,
                "called": self.calls.total,
                "called_right": self.calls.hit,
                "labels": self.labels.total,
                "labels_found": self.labels.hit,
            },
            "scores_rounded": self.rounded,
        }

    @property
    def rounded(self) -> bool:
        """Whether scores were too many to be kept apart."""
        return any(
            tally.histogram is not None and tally.histogram.rounded for tally in self.protocols.values()
        )


def measure(
    track: TrackReader,
    ground: EvaluationRegions,
    config: EvaluateConfig,
    advance: Callable[[int], object] = lambda bases: None,
) -> Result:
    """Hold one track against the labels, a chunk at a time.

    Parameters
    ----------
    track : TrackReader
    ground : Ground
    config : EvaluateConfig
    advance : callable
        Told the bases of each chunk that has been counted.
    """
    # calls have the value 1, and a threshold above that must not undo them
    threshold = np.float32(config.threshold if track.scored else 1.0)
    tallies = {
        protocol: Tally(histogram=ScoreHistogram() if track.scored else None) for protocol in ground.scopes
    }
    result = Result(track.scored, tallies)
    for contig, start, scores in track.chunks(ground.lengths, config.chunk):
        end = start + len(scores)
        labels, counted = (
            interval_mask(runs.get(contig), start, end) for runs in (ground.labels, ground.counted)
        )
        called = scores >= threshold
        for protocol, tally in tallies.items():
            mask = interval_mask(ground.scopes[protocol].get(contig), start, end)
            tally.add(scores[mask], called[mask], labels[mask])
        result.calls.add(called, counted, counted & labels)
        result.labels.add(labels, counted, counted & called)
        if end == ground.lengths[contig]:
            result.calls.end_contig()
            result.labels.end_contig()
        advance(end - start)
    return result


@dataclass
class Report:
    """Results of several tracks.

    Attributes
    ----------
    settings : dict
        What was evaluated and how.
    tracks : dict of str to Result
        File name → result.
    """

    settings: dict[str, Any]
    tracks: dict[str, Result]

    def summary(self) -> dict[str, Any]:
        """Return everything in JSON's types."""
        tracks = {name: result.summary() for name, result in self.tracks.items()}
        return {"tracks": tracks, "settings": self.settings}


def evaluate(
    tracks: Sequence[str | Path],
    labels: str | Path,
    genome: str | Path,
    blacklist: str | Path | None = None,
    contigs: Sequence[str] = (),
    config: EvaluateConfig | None = None,
    advance: Callable[[int, int], object] = lambda bases, total: None,
) -> Report:
    """Hold tracks against labels.

    Parameters
    ----------
    tracks : sequence of str or Path
        bigWig, bedGraph or BED files, told apart by extension.
    labels : str or Path
        BED of Z-DNA.
    genome : str or Path
        FASTA.
    blacklist : str or Path, optional
        BED of regions that count for nothing.
    contigs : sequence of str
        The contigs to evaluate; none means all.
    config : EvaluateConfig, optional
    advance : callable
        Told, now and again, the bases just done and the bases to do in all.

    Raises
    ------
    InputError
        If a file cannot be used as it is.
    """
    config = config or EvaluateConfig()
    with Genome(genome) as source:
        opened = [open_track(path, source.lengths) for path in tracks]
        total = sum(source.select_contigs(contigs).values()) * (len(opened) + 1)

        def step(bases: int) -> None:
            advance(bases, total)

        ground = survey(source, Path(labels), Path(blacklist) if blacklist else None, contigs, config, step)
    results = [measure(track, ground, config, step) for track in opened]
    settings = {
        "version": __version__,
        "labels": Path(labels).name,
        "genome": Path(genome).name,
        "blacklist": Path(blacklist).name if blacklist else None,
        "contigs": list(ground.lengths),
        **{key: value for key, value in asdict(config).items() if key != "chunk"},
        "bases": ground.bases(),
        "windows": ground.windows,
    }
    return Report(settings, dict(zip(_names(tracks), results, strict=True)))


def _names(paths: Sequence[str | Path]) -> list[str]:
    """Name tracks by their files; by their paths, then by a number, where that is not enough."""
    files = [Path(path).name for path in paths]
    names: list[str] = []
    for file, path in zip(files, paths, strict=True):
        stem = file if files.count(file) == 1 else str(path)
        name, copy = stem, 1
        while name in names:
            copy += 1
            name = f"{stem} ({copy})"
        names.append(name)
    return names
