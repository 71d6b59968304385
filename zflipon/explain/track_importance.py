"""Permutation importance of omics tracks: the loss in average precision if one track is read at the wrong place.

The track is read half a contig away, so that it keeps its intervals and gaps but carries no information about the
place (Breiman 2001, with a shift instead of a shuffle, which would break intervals up). Tracks with the same
information replace each other, so that each of them may have a low importance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zflipon.config import OMICS_MODEL, InferenceConfig, Selection
from zflipon.energetics.screen import screen_windows
from zflipon.errors import InputError
from zflipon.explain.table_files import align_columns
from zflipon.genome.fasta import Genome
from zflipon.genome.interval_files import read_bed
from zflipon.genome.intervals import Intervals, interval_mask, merge_by_contig
from zflipon.genome.shards import make_plan
from zflipon.inference.genome_scan import scan_genome
from zflipon.inference.predictor import Predictor
from zflipon.inference.scan_group import ScanTask
from zflipon.metrics import ScoreHistogram
from zflipon.models import Checkpoint, load
from zflipon.omics.features import FeatureTracks, open_model_features

COLUMNS = ("track", "kind", "average_precision", "lost", "changed")


@dataclass(frozen=True)
class TrackImportance:
    """Importance of one track.

    Attributes
    ----------
    track, kind : str
    average_precision : float
        Over all bases, with this track displaced.
    lost : float
        Average precision with all tracks in place, minus `average_precision`.
    changed : float
        Mean absolute change of the probability, over the bases that are called with all tracks in place.
    """

    track: str
    kind: str
    average_precision: float
    lost: float
    changed: float


@dataclass(frozen=True)
class TrackImportanceTable:
    """The tracks of a model, by descending importance.

    Attributes
    ----------
    tracks : list of TrackImportance
    average_precision : float
        With all tracks in place.
    settings : dict
        Model, data and settings, for the header of the CSV file.
    """

    tracks: list[TrackImportance]
    average_precision: float
    settings: dict[str, object]

    def header(self) -> dict[str, object]:
        """Return the header of the CSV file."""
        return {
            "what": "average precision without each omics track",
            **self.settings,
            "average_precision": round(self.average_precision, 4),
        }

    def rows(self) -> Iterator[tuple]:
        """Yield the rows of `COLUMNS`."""
        for row in self.tracks:
            numbers = (round(value, 5) for value in (row.average_precision, row.lost, row.changed))
            yield row.track, row.kind, *numbers

    def to_text(self, count: int) -> str:
        """Return the first `count` rows as text for the console."""
        heads = ("track", "kind", "AP without", "lost", "change of P")
        rows = [
            (row.track, row.kind, f"{row.average_precision:.4f}", f"{row.lost:+.4f}", f"{row.changed:.4f}")
            for row in self.tracks[:count]
        ]
        table = align_columns(heads, rows, heads[:2])
        return f"average precision with all tracks: {self.average_precision:.4f}\n{table}"


def track_importance(
    genome: str | Path,
    labels: str | Path,
    features: str | Path,
    model: str | Path = OMICS_MODEL,
    blacklist: str | Path | None = None,
    contigs: Sequence[str] = (),
    missing_features: str = "error",
    screen: bool = True,
    predict: InferenceConfig | None = None,
    progress: Callable[[int, int], object] = lambda bases, total: None,
    contig_aliases: str | Path | None = None,
) -> TrackImportanceTable:
    """Predict a genome once with all tracks in place, and once for each track with this track displaced.

    Parameters
    ----------
    genome : str or Path
        FASTA.
    labels : str or Path
        BED of Z-DNA.
    features : str or Path
        Table of the omics tracks.
    model : str or Path
        A checkpoint that reads omics tracks.
    blacklist : str or Path, optional
        BED; bases in it do not count.
    contigs : sequence of str
        Contigs to read; all if empty.
    missing_features : str
        One of `zflipon.config.MISSING_FEATURES`.
    screen : bool
        Predict only the windows that pass the screen of the model; other bases get a probability of 0.
    predict : InferenceConfig, optional
    progress : callable
        Called with the number of bases that were just predicted and the number of all bases over all passes.
    contig_aliases : str or Path, optional
        Table of contig aliases; see `zflipon.genome.names.read_aliases`.

    Raises
    ------
    InputError
        If a file cannot be used, there is no label, or the model reads no tracks.
    """
    with Genome(genome, contig_aliases) as source:
        lengths = source.select_contigs(contigs)
        label_intervals = merge_by_contig(read_bed(labels, source.lengths, "labels"), lengths)
        if not label_intervals:
            raise InputError(f"{labels}: no label on the selected contigs; average precision needs labels")
        ignored = (
            merge_by_contig(read_bed(blacklist, source.lengths, "blacklisted regions"), lengths)
            if blacklist
            else {}
        )
        checkpoint = load(model)
        tracks = _open_tracks(checkpoint, model, features, source, missing_features)
        predictor = Predictor(checkpoint, predict, features=tracks)
        segments, bases = _plan_segments(source, tuple(lengths), predictor, screen)
        names = [feature.name for feature in tracks.features if feature.name in tracks.readers]
        total = bases * (1 + len(names))
        scorer = _GenomeScorer(source, segments, predictor, label_intervals, ignored)

        def count_bases(done: int) -> None:
            progress(done, total)

        reference = scorer.score(tracks, count_bases)
        rows = [
            _compare(name, tracks, reference, scorer.score(tracks.shift_track(name), count_bases), checkpoint)
            for name in names
        ]
    rows.sort(key=lambda row: (-row.lost, -row.changed))
    settings = {
        "model": checkpoint.name,
        "sha256": checkpoint.sha256,
        "genome": Path(genome).name,
        "labels": Path(labels).name,
        "blacklist": Path(blacklist).name if blacklist else "none",
        "contigs": ", ".join(lengths),
        "features": Path(features).name,
        "screen": "yes" if screen else "no",
    }
    return TrackImportanceTable(rows, reference.average_precision, settings)


@dataclass(frozen=True)
class _GenomeScore:
    """Probabilities of each segment, float32, and their average precision."""

    probabilities: list[np.ndarray]
    average_precision: float


class _GenomeScorer:
    """Predicts the same segments with different tracks, and scores the predictions."""

    def __init__(
        self,
        genome: Genome,
        segments: list[ScanTask],
        predictor: Predictor,
        labels: Intervals,
        ignored: Intervals,
    ):
        self._genome, self._segments, self._predictor = genome, segments, predictor
        self._labels, self._ignored = labels, ignored

    def score(self, tracks: FeatureTracks, progress: Callable[[int], object]) -> _GenomeScore:
        """Predict all segments; `progress` is called with the number of bases that were just predicted."""
        self._predictor.features = tracks
        histogram, probabilities = ScoreHistogram(), []
        for segment, values in scan_genome(self._predictor, self._genome, self._segments, progress):
            start = int(segment.windows["core_start"][0])
            interval = (start, start + len(values))
            counted = ~np.isnan(values) & ~interval_mask(self._ignored.get(segment.contig), *interval)
            labelled = interval_mask(self._labels.get(segment.contig), *interval)
            histogram.add(values[counted].astype(np.float64), labelled[counted])
            probabilities.append(values)
        return _GenomeScore(probabilities, histogram.average_precision())


def _open_tracks(
    checkpoint: Checkpoint, model: str | Path, features: str | Path, genome: Genome, missing: str
) -> FeatureTracks:
    tracks = open_model_features(checkpoint, features, genome.lengths, missing)
    if tracks is None:
        raise InputError(f"{model}: this model reads no omics tracks; give a --model that does")
    if not tracks.readers:
        raise InputError("no omics tracks are given; list their files in a --features TABLE")
    return tracks


def _plan_segments(
    genome: Genome, contigs: tuple[str, ...], predictor: Predictor, screen: bool
) -> tuple[list[ScanTask], int]:
    """Return the windows of all contigs, with those to predict, and the number of their bases."""
    metadata, segments = predictor.metadata, []
    plan = make_plan(genome, Selection(contigs=contigs), metadata.window, metadata.margin)
    for span in plan.spans:
        windows = (span.contig, span.windows)
        read = screen_windows(genome, *windows, metadata.screen, predictor.device) if screen else None
        segments.append(ScanTask(*windows, read))
    return segments, plan.bases


def _compare(
    name: str,
    tracks: FeatureTracks,
    reference: _GenomeScore,
    displaced: _GenomeScore,
    checkpoint: Checkpoint,
) -> TrackImportance:
    threshold = checkpoint.metadata.threshold
    pairs = zip(reference.probabilities, displaced.probabilities, strict=True)
    changes = np.concatenate([np.abs(one - other)[one >= threshold] for one, other in pairs])
    kind = next(feature.kind for feature in tracks.features if feature.name == name)
    lost = reference.average_precision - displaced.average_precision
    changed = float(changes.mean()) if len(changes) else 0.0
    return TrackImportance(name, kind, displaced.average_precision, lost, changed)
