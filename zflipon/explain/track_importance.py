"""Which omics tracks made the calls: what is lost over a genome when one of them is read elsewhere.

A track that is read half a contig away from where it belongs still has its own intervals and gaps, and tells nothing
of a place any more. What average precision loses by it is the track's importance (permutation importance, Breiman
2001, with a shift in the place of a shuffle, which would break intervals up). Tracks that say the same stand in for
each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zflipon.config import OMICS_MODEL, InferenceConfig, Selection
from zflipon.energetics.screen import screen_windows
from zflipon.errors import InputError
from zflipon.genome.fasta import Genome
from zflipon.genome.interval_files import read_bed
from zflipon.genome.intervals import Intervals, interval_mask, merge_by_contig
from zflipon.genome.shards import Plan, make_plan
from zflipon.inference.genome_scan import ScanTask, scan_genome
from zflipon.inference.predictor import Predictor
from zflipon.metrics import ScoreHistogram
from zflipon.models import load
from zflipon.omics.features import FeatureTracks, open_model_features

COLUMNS = ("track", "kind", "average_precision", "lost", "changed")


@dataclass(frozen=True)
class Importance:
    """What a track is worth.

    Attributes
    ----------
    track, kind : str
    average_precision : float
        Over all bases, with this track read elsewhere.
    lost : float
        By how much that is less than with all tracks in their places.
    changed : float
        Mean change, up or down, of the probability of the bases that are called with all tracks in their places.
    """

    track: str
    kind: str
    average_precision: float
    lost: float
    changed: float


@dataclass(frozen=True)
class TrackTable:
    """The tracks of a model by importance.

    Attributes
    ----------
    rows : list of Importance
        The most important first.
    average_precision : float
        With all tracks in their places.
    settings : dict
        Model, data and settings.
    """

    rows: list[Importance]
    average_precision: float
    settings: dict[str, object]

    def about(self) -> dict[str, object]:
        """Return what the table tells of itself."""
        return {"what": "average precision without each omics track", **self.settings,
                "average_precision": round(self.average_precision, 4)}  # fmt: skip

    def fields(self) -> Iterator[tuple]:
        """Yield the rows, in the order of `COLUMNS`."""
        for row in self.rows:
            figures = (round(value, 5) for value in (row.average_precision, row.lost, row.changed))
            yield row.track, row.kind, *figures

    def told(self, top: int) -> str:
        """Lay the first rows out for reading."""
        from zflipon.explain.table_files import aligned

        heads = ("track", "kind", "AP without", "lost", "change of P")
        rows = [
            (row.track, row.kind, f"{row.average_precision:.4f}", f"{row.lost:+.4f}", f"{row.changed:.4f}")
            for row in self.rows[:top]
        ]
        return f"average precision with all tracks: {self.average_precision:.4f}\n" + aligned(
            heads, rows, heads[:2]
        )


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
    advance: Callable[[int, int], object] = lambda bases, total: None,
) -> TrackTable:
    """Read a genome once with all tracks, and once for each track with that one read elsewhere.

    Parameters
    ----------
    genome : str or Path
        FASTA.
    labels : str or Path
        BED of Z-DNA.
    features : str or Path
        Table of the omics tracks.
    model : str or Path
        A checkpoint that reads them.
    blacklist : str or Path, optional
        BED; bases here do not count.
    contigs : sequence of str
        The contigs to read; none means all.
    missing_features : str
        One of `zflipon.config.MISSING_FEATURES`.
    screen : bool
        Read only windows that can be called; other bases have a probability of 0.
    predict : InferenceConfig, optional
    advance : callable
        Told, now and again, the bases just done and the bases in all.

    Raises
    ------
    InputError
        If a file cannot be used, there is no label, or the model reads no tracks.
    """
    with Genome(genome) as source:
        lengths = source.select_contigs(contigs)
        known = merge_by_contig(read_bed(labels, source.lengths, "labels"), lengths)
        if not known:
            raise InputError(
                f"{labels}: no label on the contigs that are read; importance is measured by them"
            )
        ignored = (
            merge_by_contig(read_bed(blacklist, source.lengths, "blacklisted regions"), lengths)
            if blacklist
            else {}
        )
        checkpoint = load(model)
        tracks = open_model_features(checkpoint, features, source.lengths, missing_features)
        if tracks is None:
            raise InputError(f"{model}: reads no omics tracks; give a --model that does")
        if not tracks.readers:
            raise InputError("no omics tracks are given; name their files with --features TABLE")
        predictor = Predictor(checkpoint, predict, features=tracks)
        metadata = checkpoint.metadata
        plan = make_plan(source, Selection(contigs=tuple(lengths)), metadata.window, metadata.margin)
        stretches = _stretches(source, plan, predictor, screen)
        names = [feature.name for feature in tracks.features if feature.name in tracks.readers]
        total = plan.bases * (1 + len(names))
        survey = _Survey(source, stretches, predictor, known, ignored, lambda bases: advance(bases, total))
        whole = survey.run(tracks)
        called = [values >= metadata.threshold for values in whole.probabilities]
        rows = []
        for name in names:
            found = survey.run(tracks.shift_track(name))
            rows.append(_row(name, tracks, whole, found, called))
    settings = {
        "model": checkpoint.path.name,
        "sha256": checkpoint.sha256,
        "genome": Path(genome).name,
        "labels": Path(labels).name,
        "blacklist": Path(blacklist).name if blacklist else "none",
        "contigs": ", ".join(lengths),
        "features": Path(features).name,
        "screen": "yes" if screen else "no",
    }
    rows.sort(key=lambda row: (-row.lost, -row.changed))
    return TrackTable(rows, whole.average_precision, settings)


@dataclass(frozen=True)
class _Read:
    """A reading of the genome: float32 probabilities of each stretch, and what they are worth."""

    probabilities: list[np.ndarray]
    average_precision: float


class _Survey:
    """Reads the same stretches again and again, with other tracks each time."""

    def __init__(
        self,
        genome: Genome,
        stretches: list[ScanTask],
        predictor: Predictor,
        labels: Intervals,
        ignored: Intervals,
        progress: Callable[[int], object],
    ):
        self._genome, self._stretches, self._predictor = genome, stretches, predictor
        self._labels, self._ignored, self._progress = labels, ignored, progress

    def run(self, tracks: FeatureTracks) -> _Read:
        self._predictor.features = tracks
        histogram, found = ScoreHistogram(), []
        for stretch, values in scan_genome(
            self._predictor, self._genome, self._stretches, self._progress
        ):
            start = int(stretch.windows["core_start"][0])
            place = (stretch.contig, start, start + len(values))
            counted = ~np.isnan(values) & ~interval_mask(self._ignored.get(place[0]), *place[1:])
            histogram.add(
                values[counted].astype(np.float64),
                interval_mask(self._labels.get(place[0]), *place[1:])[counted],
            )
            found.append(values)
        return _Read(found, histogram.average_precision())


def _stretches(genome: Genome, plan: Plan, predictor: Predictor, screen: bool) -> list[ScanTask]:
    """Return the windows of all shards, and which of them are worth reading."""
    rule, found = predictor.metadata.screen, []
    for shard in plan.shards:
        windows = (shard.contig, shard.windows)
        read = screen_windows(genome, *windows, rule, predictor.device) if screen else None
        found.append(ScanTask(*windows, read))
    return found


def _row(
    name: str, tracks: FeatureTracks, whole: _Read, found: _Read, called: list[np.ndarray]
) -> Importance:
    pairs = zip(whole.probabilities, found.probabilities, called, strict=True)
    changes = np.concatenate([np.abs(one - other)[here] for one, other, here in pairs])
    kind = next(feature.kind for feature in tracks.features if feature.name == name)
    lost = whole.average_precision - found.average_precision
    return Importance(
        name, kind, found.average_precision, lost, float(changes.mean()) if len(changes) else 0.0
    )
