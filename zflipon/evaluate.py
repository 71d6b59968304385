"""Hold tracks, ours or a peer's, against labelled intervals.

Two protocols. *genome* counts every base that is neither N nor blacklisted: what
a user who annotates a genome meets. *sampled* counts the bases of the windows
that the published models were tested on, three without a label for each one
with. A base to which a track gives no value counts as 0, not called.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from zflipon import __version__
from zflipon.config import EvaluateConfig
from zflipon.errors import InputError, MissingExtraError, OutputError, some, suggest
from zflipon.genome import Genome
from zflipon.intervals import Intervals, fill, merge, read_bed, read_bedgraph
from zflipon.metrics import KEPT_BITS, Confusion, RegionTally, ScoreHistogram

PLOT_FORMATS = (".png", ".svg", ".pdf")
"""Extensions that a plot may have."""

Chunk = tuple[str, int, np.ndarray]
"""Contig, start, and the scores from there: float32, finite, 0 where the track has no value."""

_LARGEST = np.finfo(np.float32).max


# ---- tracks ----------------------------------------------------------------------------------------------


class BigWigTrack:
    """Scores of a bigWig file."""

    scored = True

    def __init__(self, path: Path, lengths: Mapping[str, int]):
        import pyBigWig

        self.path = path
        self._empty = not self._index_offset()
        try:
            self._file = pyBigWig.open(str(path))
            self._contigs = self._file.chroms()
        except RuntimeError as error:
            raise InputError(f"{path}: cannot be read as bigWig; is the file whole?") from error
        shared = [contig for contig in lengths if contig in self._contigs]
        if not shared:
            raise InputError(
                f"{path}: no contig of the genome: the track has {some(self._contigs)}, the genome {some(lengths)}; "
                "rename the contigs of one of them"
            )
        for contig in shared:
            if self._contigs[contig] != lengths[contig]:
                raise InputError(
                    f"{path}: {contig} has {self._contigs[contig]} bases, in the genome {lengths[contig]}; "
                    "are both of the same assembly?"
                )

    def _index_offset(self) -> int:
        """Return where the header says the index lies, 0 for a track without entries.

        pyBigWig itself opens a file whose writer was killed, and finds no data in it.
        """
        if not self.path.is_file():
            raise InputError(f"{self.path}: no such file")
        size = self.path.stat().st_size
        try:
            with open(self.path, "rb") as file:
                head = file.read(32)
                file.seek(max(0, size - 4))
                signed = file.read() == head[:4]
        except PermissionError as error:
            raise InputError(f"{self.path}: cannot be read (permission denied)") from error
        order = {b"\x26\xfc\x8f\x88": "<", b"\x88\x8f\xfc\x26": ">"}.get(head[:4])
        if order is None:
            raise InputError(f"{self.path}: not a bigWig file; is its extension right?")
        index = struct.unpack(order + "Q", head[24:])[0] if len(head) == 32 else size
        if index >= size or (index == 0 and not signed):
            raise InputError(
                f"{self.path}: the bigWig file is truncated or was never finished; write it again"
            )
        return index

    def chunks(self, lengths: Mapping[str, int], size: int) -> Iterator[Chunk]:
        """Yield the scores of whole contigs, at most `size` bases at a time."""
        for contig, start, end in _spans(lengths, size):
            yield contig, start, self._scores(contig, start, end)

    def _scores(self, contig: str, start: int, end: int) -> np.ndarray:
        if self._empty or contig not in self._contigs:
            return np.zeros(end - start, dtype=np.float32)
        try:
            scores = self._file.values(contig, start, end, numpy=True)
        except RuntimeError:
            scores = []
        if len(scores) != end - start:
            raise InputError(
                f"{self.path}: {contig}:{start}-{end} (0-based) cannot be read; is the file whole?"
            )
        return np.nan_to_num(scores, copy=False)  # NaN is no value, hence 0; infinity the largest number


class BedGraphTrack:
    """Scores of a sorted bedGraph file, read in its own order of contigs."""

    scored = True

    def __init__(self, path: Path, lengths: Mapping[str, int]):
        self.path = path
        self._lengths = lengths
        next(read_bedgraph(path, lengths, block=1), None)  # a wrong file should fail before the work begins

    def chunks(self, lengths: Mapping[str, int], size: int) -> Iterator[Chunk]:
        """Yield the scores of whole contigs, at most `size` bases at a time."""
        absent = dict(lengths)
        for contig, blocks in groupby(read_bedgraph(self.path, self._lengths), key=lambda block: block[0]):
            if contig in lengths:
                yield from self._paint(contig, absent.pop(contig), size, blocks)
        for contig, start, end in _spans(absent, size):
            yield contig, start, np.zeros(end - start, dtype=np.float32)

    @staticmethod
    def _paint(contig: str, length: int, size: int, blocks: Iterable) -> Iterator[Chunk]:
        spans = _spans({contig: length}, size)
        _, start, end = next(spans)
        scores = np.zeros(end - start, dtype=np.float32)
        for _, intervals, values in blocks:
            while start < length:
                _put(scores, intervals - start, values)
                if intervals[-1, 1] < end:  # the next block may add to this chunk
                    break
                yield contig, start, scores
                _, start, end = next(spans, (contig, length, length))
                scores = np.zeros(end - start, dtype=np.float32)
        while start < length:
            yield contig, start, scores
            _, start, end = next(spans, (contig, length, length))
            scores = np.zeros(end - start, dtype=np.float32)


class BedTrack:
    """Calls of a BED file: 1 inside, whatever its score columns say."""

    scored = False

    def __init__(self, path: Path, lengths: Mapping[str, int]):
        self.path = path
        self._calls = read_bed(path, lengths, "calls")

    def chunks(self, lengths: Mapping[str, int], size: int) -> Iterator[Chunk]:
        """Yield the scores of whole contigs, at most `size` bases at a time."""
        for contig, start, end in _spans(lengths, size):
            yield contig, start, fill(self._calls.get(contig), start, end).astype(np.float32)


Track = BigWigTrack | BedGraphTrack | BedTrack

FORMATS: dict[str, type[Track]] = {
    ".bw": BigWigTrack,
    ".bigwig": BigWigTrack,
    ".bedgraph": BedGraphTrack,
    ".bdg": BedGraphTrack,
    ".bed": BedTrack,
    ".bedgraph.gz": BedGraphTrack,
    ".bdg.gz": BedGraphTrack,
    ".bed.gz": BedTrack,
}
"""Extension, whatever its case → reader."""


def open_track(path: str | Path, lengths: Mapping[str, int]) -> Track:
    """Open a track by its extension.

    Parameters
    ----------
    path : str or Path
    lengths : mapping of str to int
        The genome's contigs.

    Raises
    ------
    InputError
        If the extension is unknown, the file is missing or malformed, or it
        shares no contig with the genome or disagrees about a length.
    """
    path = Path(path)
    fitting = [extension for extension in FORMATS if path.name.lower().endswith(extension)]
    if not fitting:
        raise InputError(f"{path}: unknown kind of track; expected a name that ends in {', '.join(FORMATS)}")
    return FORMATS[fitting[0]](path, lengths)


def _spans(lengths: Mapping[str, int], size: int) -> Iterator[tuple[str, int, int]]:
    for contig, length in lengths.items():
        for start in range(0, length, size):
            yield contig, start, min(start + size, length)


def _put(scores: np.ndarray, intervals: np.ndarray, values: np.ndarray) -> None:
    """Write values into the parts of sorted, disjoint intervals that lie in the array; NaN is no value, hence 0."""
    first = np.searchsorted(intervals[:, 1], 0, side="right")
    last = np.searchsorted(intervals[:, 0], len(scores), side="left")
    starts, ends = intervals[first:last].clip(0, len(scores)).T
    widths = ends - starts
    within = np.arange(widths.sum()) - np.repeat(np.cumsum(widths) - widths, widths)
    kept = np.nan_to_num(values[first:last]).clip(-_LARGEST, _LARGEST)
    scores[np.repeat(starts, widths) + within] = np.repeat(kept, widths)


# ---- the ground truth ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ground:
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
                    int(covered(scope.get(contig), labels.ravel())[::2].sum())
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
) -> Ground:
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
    lengths = _choose(genome, contigs)
    label_runs = _solid(read_bed(labels, genome.lengths, "labels"), lengths)
    if not label_runs:
        raise InputError(
            f"{labels}: no label on the evaluated contigs ({some(lengths)}); expected a BED of Z-DNA"
        )
    avoided = _solid(read_bed(blacklist, genome.lengths, "blacklisted regions"), lengths) if blacklist else {}
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
    ground = Ground(lengths, label_runs, counted, scopes, windows)
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
    width = config.window
    positive, other = {}, {}
    for contig, length in lengths.items():
        edges = np.arange(0, length + 1, width)
        unknown = width - covered(stretches.get(contig), edges)
        usable = (2 * unknown <= width) & (covered(blacklist.get(contig), edges) == 0)
        labelled = covered(labels.get(contig), edges) > 0
        positive[contig], other[contig] = usable & labelled, usable & ~labelled
    wanted = config.negatives * sum(int(chosen.sum()) for chosen in positive.values())
    available = sum(int(chosen.sum()) for chosen in other.values())
    draw = np.random.default_rng(config.seed).choice(available, min(wanted, available), replace=False)
    drawn = np.sort(draw)  # ranks among the other windows of all contigs, in the genome's order
    windows, before = {}, 0
    for contig in lengths:
        rank = np.flatnonzero(other[contig])
        low, high = np.searchsorted(drawn, [before, before + len(rank)])
        chosen = np.union1d(np.flatnonzero(positive[contig]), rank[drawn[low:high] - before])
        before += len(rank)
        windows[contig] = merge(np.stack([chosen, chosen + 1], axis=1) * width)
    return windows, {
        "positive": sum(int(chosen.sum()) for chosen in positive.values()),
        "negative": len(drawn),
    }


def covered(intervals: np.ndarray | None, edges: np.ndarray) -> np.ndarray:
    """Count the bases between neighbouring edges that disjoint intervals cover.

    Parameters
    ----------
    intervals : numpy.ndarray or None
        int64, shape (n, 2), sorted, none empty.
    edges : numpy.ndarray
        Sorted positions, shape (m,).

    Returns
    -------
    numpy.ndarray
        int64, shape (max(m - 1, 0),).
    """
    if intervals is None or not len(intervals):
        return np.zeros(max(len(edges) - 1, 0), dtype=np.int64)
    after = np.cumsum(np.diff(intervals))
    before = after - np.diff(intervals).ravel()
    reached = np.interp(edges, intervals.ravel(), np.stack([before, after], axis=1).ravel())
    return np.diff(reached).astype(np.int64)


def _choose(genome: Genome, contigs: Sequence[str]) -> dict[str, int]:
    """Return the lengths of the wanted contigs, in the genome's order, so that the sample does not hang on theirs."""
    for contig in contigs:
        if contig not in genome.lengths:
            raise InputError(
                f"no contig {contig!r} in {genome.path}, which has {some(genome.lengths)}"
                f"{suggest(contig, genome.lengths)}"
            )
    wanted = set(contigs or genome.lengths)
    return {contig: length for contig, length in genome.lengths.items() if contig in wanted}


def _solid(intervals: Intervals, lengths: Mapping[str, int]) -> Intervals:
    """Keep the chosen contigs; join intervals that overlap or touch; drop empty ones."""
    joined = {contig: merge(intervals[contig]) for contig in lengths if contig in intervals}
    solid = {contig: runs[runs[:, 1] > runs[:, 0]] for contig, runs in joined.items()}
    return {contig: runs for contig, runs in solid.items() if len(runs)}


def _complement(intervals: np.ndarray | None, length: int) -> np.ndarray:
    edges = (
        np.r_[0, intervals.ravel() if intervals is not None else [], length].astype(np.int64).reshape(-1, 2)
    )
    return edges[edges[:, 1] > edges[:, 0]]


def _intersect(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    edges = np.union1d(one, other)
    inside = (covered(one, edges) > 0) & (covered(other, edges) > 0)
    return merge(np.stack([edges[:-1], edges[1:]], axis=1)[inside])


# ---- measuring -------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """Counts of one track under one protocol; `histogram` is None for a track of calls."""

    confusion: Confusion = field(default_factory=Confusion)
    histogram: ScoreHistogram | None = None

    def add(self, scores: np.ndarray, called: np.ndarray, labels: np.ndarray) -> None:
        """Count bases: three arrays of shape (bases,)."""
        self.confusion += Confusion.of(called, labels)
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
    track: Track,
    ground: Ground,
    config: EvaluateConfig,
    advance: Callable[[int], object] = lambda bases: None,
) -> Result:
    """Hold one track against the labels, a chunk at a time.

    Parameters
    ----------
    track : Track
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
        labels, counted = (fill(runs.get(contig), start, end) for runs in (ground.labels, ground.counted))
        called = scores >= threshold
        for protocol, tally in tallies.items():
            mask = fill(ground.scopes[protocol].get(contig), start, end)
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
        total = sum(_choose(source, contigs).values()) * (len(opened) + 1)

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


# ---- showing ---------------------------------------------------------------------------------------------

_COLUMNS = {
    "F1": "f1",
    "MCC": "mcc",
    "precision": "precision",
    "recall": "recall",
    "AP": "average_precision",
    "best F1": "best_f1",
    "at": "best_threshold",
}


def table(report: Report) -> str:
    """Lay out a report as aligned text: a block per protocol and one for regions, a row per track."""
    tracks = report.summary()["tracks"]
    blocks = []
    for protocol, bases in report.settings["bases"].items():
        about = f"{protocol}: {_scope(protocol, report.settings)}"
        rows = [[name, *_cells(summary[protocol])] for name, summary in tracks.items()]
        blocks.append(
            f"{about}; {bases['evaluated']:,} bases, {bases['labelled']:,} of them labelled\n"
            + _aligned(["track", *_COLUMNS], rows)
        )
    rows = [
        [
            name,
            f"{regions['precision']:.3f}",
            f"{regions['called_right']:,} of {regions['called']:,}",
            f"{regions['recall']:.3f}",
            f"{regions['labels_found']:,} of {regions['labels']:,}",
        ]
        for name, regions in ((name, summary["regions"]) for name, summary in tracks.items())
    ]
    heads = ["track", "precision", "calls on a label", "recall", "labels with a call"]
    blocks.append("regions: runs of called bases against labelled runs\n" + _aligned(heads, rows))
    rounded = [name for name, result in report.tracks.items() if result.rounded]
    if rounded:
        blocks.append(
            f"note: {some(rounded)}: too many distinct scores to keep apart; AP, best F1 and its threshold are of "
            f"scores cut to {KEPT_BITS} bits"
        )
    return "\n\n".join(blocks)


def _scope(protocol: str, settings: Mapping[str, Any]) -> str:
    if protocol == "genome":
        return "every base that is not N" + (" or blacklisted" if settings["blacklist"] else "")
    windows = settings["windows"]
    return f"{settings['window']}-bp windows, {windows['positive']:,} with a label, {windows['negative']:,} without"


def _cells(summary: Mapping[str, float | None]) -> Iterator[str]:
    for key in _COLUMNS.values():
        value = summary[key]
        yield "–" if value is None else f"{value:.4g}" if key == "best_threshold" else f"{value:.3f}"


def _aligned(heads: list[str], rows: list[list[str]]) -> str:
    """Align the first column left and the others right."""
    lines = [heads, *rows]
    first, *rest = (max(map(len, column)) for column in zip(*lines, strict=True))
    return "\n".join(
        "  ".join(
            [line[0].ljust(first), *(cell.rjust(width) for cell, width in zip(line[1:], rest, strict=True))]
        )
        for line in lines
    )


def check_plot(path: str | Path) -> None:
    """Refuse a plot that could not be drawn, before any work is done for it.

    Raises
    ------
    OutputError
        If the extension is none of `PLOT_FORMATS`.
    MissingExtraError
        If matplotlib is not installed.
    """
    if Path(path).suffix.lower() not in PLOT_FORMATS:
        raise OutputError(
            f"{path}: unknown kind of plot; expected a name that ends in {', '.join(PLOT_FORMATS)}"
        )
    if find_spec("matplotlib") is None:
        raise MissingExtraError("--plot", "matplotlib", "plot")


def plot(report: Report, path: str | Path) -> None:
    """Draw precision against recall: curves of scored tracks, points of called ones, a panel per protocol.

    Parameters
    ----------
    report : Report
    path : str or Path
        Its extension, one of `PLOT_FORMATS`, says what is drawn.
    """
    check_plot(path)
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    protocols = list(report.settings["bases"])
    with rc_context({"font.size": 10, "svg.hashsalt": "zflipon"}):
        figure = Figure(figsize=(4.8 * len(protocols), 4.8), layout="constrained")
        for axes, protocol in zip(np.atleast_1d(figure.subplots(1, len(protocols))), protocols, strict=True):
            _panel(axes, protocol, report)
        figure.savefig(path, dpi=200)


def _panel(axes, protocol: str, report: Report) -> None:
    for f1 in (0.2, 0.4, 0.6, 0.8):
        recall = np.geomspace(f1 / (2 - f1), 1, 400)
        axes.plot(recall, f1 * recall / (2 * recall - f1), color="0.85", linewidth=0.8, zorder=0)
        axes.annotate(
            f"F1 {f1}", (1, f1 / (2 - f1)), (2, 0), textcoords="offset points", color="0.5", fontsize=7
        )
    for number, (name, result) in enumerate(report.tracks.items()):
        tally = result.protocols[protocol]
        counts, colour = tally.confusion, f"C{number % 10}"
        point = ([counts.recall], [counts.precision])
        if result.scored:
            _, precision, recall = tally.histogram.curve()
            some_points = _thin(recall)
            label = f"{name} (AP {tally.histogram.average_precision():.3f}; dot: at {report.settings['threshold']:g})"
            axes.plot(recall[some_points], precision[some_points], color=colour, linewidth=1.5, label=label)
            axes.plot(*point, marker=".", markersize=9, color=colour, clip_on=False, zorder=3)
        else:
            marker = "osD^vP*X"[number % 8]
            label = f"{name} (F1 {counts.f1:.3f})"
            axes.plot(*point, marker, color=colour, label=label, clip_on=False, zorder=3)
    title = {
        "genome": "genome: every base",
        "sampled": "sampled: windows 1:{}".format(report.settings["negatives"]),
    }
    axes.set(
        xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision", title=title[protocol], box_aspect=1
    )
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), fontsize=8, frameon=False)


def _thin(recall: np.ndarray, points: int = 2000) -> np.ndarray:
    """Choose points of a curve, evenly by recall: a million would swell an SVG and show nothing more."""
    return np.unique(np.searchsorted(recall, np.linspace(0, 1, points)).clip(0, len(recall) - 1))
