"""Compare tracks, of zflipon or of other programs, with labelled intervals.

Two protocols. *genome* counts every base that is neither N nor blacklisted, as in the annotation of a genome.
*sampled* counts the bases of the windows on which the published models were tested, with three windows without a label
for each with one. Bases without a value count as 0 and not called. Which bases these are is decided in
`zflipon.workflows.evaluation_regions`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from zflipon import __version__
from zflipon.config import EvaluateConfig
from zflipon.genome.fasta import Genome
from zflipon.genome.intervals import interval_mask
from zflipon.genome.names import aliases_by_digest
from zflipon.metrics import Confusion, RegionTally, ScoreHistogram
from zflipon.tracks.base import TrackReader
from zflipon.tracks.records import read_record
from zflipon.tracks.registry import open_track
from zflipon.workflows.evaluation_regions import EvaluationRegions, load_evaluation_regions
from zflipon.workflows.evaluation_warnings import warn_about_coverage, warn_about_training

log = logging.getLogger(__name__)

BLOCK_BASES = 1_000_000
"""Bases of a block of the bootstrap; neighbouring bases are not independent, blocks nearly are."""

BOOTSTRAP_DRAWS = 1000

INTERVAL_MEASURES = ("f1", "precision", "recall")
"""Measures with a bootstrap interval."""

DEFAULT_THRESHOLD = 0.5
"""Threshold of scored tracks without a record that states one."""


@dataclass
class ProtocolTally:
    """Counts of one track under one protocol.

    Attributes
    ----------
    confusion : Confusion
    histogram : ScoreHistogram or None
        None for a track of calls.
    blocks : dict of (str, int) to numpy.ndarray
        Contig and number of a block → int64, shape (4,): true negatives, false negatives, false and true positives.
    """

    confusion: Confusion = field(default_factory=Confusion)
    histogram: ScoreHistogram | None = None
    blocks: dict[tuple[str, int], np.ndarray] = field(default_factory=dict)

    def add(
        self, contig: str, positions: np.ndarray, scores: np.ndarray, called: np.ndarray, labels: np.ndarray
    ) -> None:
        """Count bases of a contig: four arrays of shape (bases,); positions ascend."""
        self.confusion += Confusion.from_calls(called, labels)
        if self.histogram is not None:
            self.histogram.add(scores, labels)
        if not len(positions):
            return
        first = int(positions[0]) // BLOCK_BASES
        cells = (positions // BLOCK_BASES - first) * 4 + 2 * called + labels
        counts = np.bincount(cells, minlength=4 * (int(positions[-1]) // BLOCK_BASES - first + 1))
        for number, row in enumerate(counts.reshape(-1, 4), first):
            self.blocks[contig, number] = self.blocks.get((contig, number), 0) + row

    def summary(self) -> dict[str, float | None]:
        """Return the measures; those that need scores are None for a track of calls."""
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

    def intervals(self, seed: int) -> dict[str, list[float]] | None:
        """Return the 95 % interval of each of `INTERVAL_MEASURES`, by bootstrap over blocks; None for one block."""
        blocks = np.array([self.blocks[key] for key in sorted(self.blocks) if self.blocks[key].any()])
        if len(blocks) < 2:
            return None
        rng = np.random.default_rng(seed)
        draws = rng.multinomial(len(blocks), np.full(len(blocks), 1 / len(blocks)), BOOTSTRAP_DRAWS)
        _, fn, fp, tp = (draws @ blocks).T
        values = {
            "f1": 2 * tp / np.maximum(2 * tp + fp + fn, 1),
            "precision": tp / np.maximum(tp + fp, 1),
            "recall": tp / np.maximum(tp + fn, 1),
        }
        return {name: np.quantile(values[name], [0.025, 0.975]).tolist() for name in INTERVAL_MEASURES}


@dataclass
class TrackResult:
    """Result of one track.

    Attributes
    ----------
    scored : bool
    protocols : dict of str to ProtocolTally
    threshold : float or None
        Score from which a base is called; None for a track of calls.
    calls, labels : RegionTally
        Called regions, hit if they overlap a label; labelled regions, hit if a call overlaps them.
    seed : int
        Seed of the bootstrap.
    """

    scored: bool
    protocols: dict[str, ProtocolTally]
    threshold: float | None = None
    calls: RegionTally = field(default_factory=RegionTally)
    labels: RegionTally = field(default_factory=RegionTally)
    seed: int = 0

    def summary(self) -> dict[str, Any]:
        """Return all measures, as in the JSON file."""
        return {protocol: tally.summary() for protocol, tally in self.protocols.items()} | {
            "regions": {
                "precision": self.calls.rate,
                "recall": self.labels.rate,
                "called": self.calls.total,
                "called_right": self.calls.hit,
                "labels": self.labels.total,
                "labels_found": self.labels.hit,
            },
            "intervals": {name: tally.intervals(self.seed) for name, tally in self.protocols.items()},
            "threshold": self.threshold,
            "scores_rounded": self.rounded,
        }

    @property
    def rounded(self) -> bool:
        """Whether there were too many distinct scores, so that they were rounded."""
        return any(
            tally.histogram is not None and tally.histogram.rounded for tally in self.protocols.values()
        )


@dataclass
class EvaluationReport:
    """Results of several tracks.

    Attributes
    ----------
    settings : dict
        Data and settings of the evaluation.
    tracks : dict of str to TrackResult
        File name → result.
    """

    settings: dict[str, Any]
    tracks: dict[str, TrackResult]

    def summary(self) -> dict[str, Any]:
        """Return results and settings in types of JSON."""
        tracks = {name: result.summary() for name, result in self.tracks.items()}
        return {"tracks": tracks, "matched_recall": self.matched_recall(), "settings": self.settings}

    def matched_recall(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return the precision of scored tracks at the recall of the calls of each track.

        Returns
        -------
        dict
            Protocol → track → ``recall`` of its calls, and ``precision``: scored track → precision where its recall is
            at least this, None if it never is.
        """
        matched: dict[str, dict[str, dict[str, Any]]] = {}
        for protocol in self.settings["bases"]:
            tallies = {name: result.protocols[protocol] for name, result in self.tracks.items()}
            matched[protocol] = {
                name: {
                    "recall": tally.confusion.recall,
                    "precision": {
                        other: each.histogram.precision_at(tally.confusion.recall)
                        for other, each in tallies.items()
                        if each.histogram is not None
                    },
                }
                for name, tally in tallies.items()
            }
        return matched


def evaluate_track(
    track: TrackReader,
    regions: EvaluationRegions,
    config: EvaluateConfig,
    progress: Callable[[int], object] = lambda bases: None,
    threshold: float = DEFAULT_THRESHOLD,
) -> TrackResult:
    """Compare one track with the labels, a chunk at a time.

    Parameters
    ----------
    track : TrackReader
    regions : EvaluationRegions
    config : EvaluateConfig
    progress : callable
        Called with the bases of each chunk that was counted.
    threshold : float
        Score from which a base of a scored track is called.
    """
    cutoff = np.float32(threshold if track.scored else 1.0)  # the calls of a BED file have a score of 1
    tallies = {
        protocol: ProtocolTally(histogram=ScoreHistogram() if track.scored else None)
        for protocol in regions.scopes
    }
    result = TrackResult(track.scored, tallies, threshold if track.scored else None, seed=config.seed)
    for contig, start, scores in track.chunks(regions.lengths, config.chunk):
        end = start + len(scores)
        labels, counted = (
            interval_mask(intervals.get(contig), start, end)
            for intervals in (regions.labels, regions.counted)
        )
        called = scores >= cutoff
        for protocol, tally in tallies.items():
            chosen = np.flatnonzero(interval_mask(regions.scopes[protocol].get(contig), start, end))
            tally.add(contig, start + chosen, scores[chosen], called[chosen], labels[chosen])
        result.calls.add(called, counted, counted & labels)
        result.labels.add(labels, counted, counted & called)
        if end == regions.lengths[contig]:
            result.calls.end_contig()
            result.labels.end_contig()
        progress(end - start)
    return result


def evaluate(
    tracks: Sequence[str | Path],
    labels: str | Path,
    genome: str | Path,
    blacklist: str | Path | None = None,
    contigs: Sequence[str] = (),
    config: EvaluateConfig | None = None,
    progress: Callable[[int, int], object] = lambda bases, total: None,
    regions: Sequence[str] = (),
    regions_bed: str | Path | None = None,
    contig_aliases: str | Path | None = None,
) -> EvaluationReport:
    """Compare tracks with labels.

    A scored track is called at the threshold in its record, or at `DEFAULT_THRESHOLD` without a record. A warning is
    logged if the record says that the model was trained on evaluated contigs, or that much of them was not annotated.

    Parameters
    ----------
    tracks : sequence of str or Path
        bigWig, bedGraph or BED files, by extension.
    labels : str or Path
        BED of Z-DNA.
    genome : str or Path
        FASTA.
    blacklist : str or Path, optional
        BED of regions that do not count.
    contigs : sequence of str
        Contigs to evaluate; all if empty.
    config : EvaluateConfig, optional
    progress : callable
        Called with the number of bases that were just read and the number of all bases to read.
    regions : sequence of str
        Regions to evaluate, ``chr:start-end``, 1-based; all of the contigs if empty.
    regions_bed : str or Path, optional
        BED file of more regions.
    contig_aliases : str or Path, optional
        Table of other names of contigs; see `zflipon.genome.names.read_aliases`.

    Raises
    ------
    InputError
        If a file cannot be used.
    """
    config = config or EvaluateConfig()
    with Genome(genome, contig_aliases) as source:
        _match_sequences(tracks, source)
        readers = [open_track(path, source.lengths) for path in tracks]
        total = sum(source.select_contigs(contigs).values()) * (len(readers) + 1)

        def count_bases(bases: int) -> None:
            progress(bases, total)

        evaluated = load_evaluation_regions(
            source, Path(labels), Path(blacklist) if blacklist else None, contigs, config, count_bases,
            regions, Path(regions_bed) if regions_bed else None,
        )  # fmt: skip
        results = []
        for path, reader in zip(tracks, readers, strict=True):
            record = read_record(Path(path))
            warn_about_training(Path(path), record, source, evaluated)
            warn_about_coverage(Path(path), record, source, evaluated)
            threshold = _resolve_threshold(config, record)
            results.append(evaluate_track(reader, evaluated, config, count_bases, threshold))
    settings = {
        "version": __version__,
        "labels": Path(labels).name,
        "genome": Path(genome).name,
        "blacklist": Path(blacklist).name if blacklist else None,
        "contigs": list(evaluated.lengths),
        "regions": list(regions) or None,
        "regions_bed": Path(regions_bed).name if regions_bed else None,
        **{key: value for key, value in asdict(config).items() if key != "chunk"},
        "bases": evaluated.count_bases(),
        "windows": evaluated.windows,
    }
    return EvaluationReport(settings, dict(zip(track_names(tracks), results, strict=True)))


def _match_sequences(tracks: Sequence[str | Path], genome: Genome) -> None:
    """Add the recorded names of contigs with the sequence of one of the genome to the genome's aliases."""
    for path in tracks:
        recorded = read_record(Path(path)).get("contigs") or {}
        lengths = {each.get("length") for name, each in recorded.items() if name not in genome.lengths}
        same_length = [contig for contig, length in genome.lengths.items() if length in lengths]
        md5 = {contig: genome.scan(contig, min_gap=1).md5 for contig in same_length}
        for pair in aliases_by_digest(recorded, genome.lengths, md5):
            genome.lengths.add_alias(pair)


def _resolve_threshold(config: EvaluateConfig, record: Mapping[str, Any]) -> float:
    """Return the threshold of the configuration, of the record, or the default."""
    if config.threshold is not None:
        return config.threshold
    return float((record.get("call") or {}).get("threshold", DEFAULT_THRESHOLD))


def track_names(paths: Sequence[str | Path]) -> list[str]:
    """Name tracks by their file, by their path if file names are equal, and with a number if paths are equal."""
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
