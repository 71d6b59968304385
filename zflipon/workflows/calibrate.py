"""Choose the threshold of a track for a stated precision or false-discovery rate.

Precision needs labels. Without them, calls in dinucleotide-preserving shuffles of the same genome estimate how many
calls are expected by chance. `annotate` uses the result through `zflipon.workflows.calibration_file`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from zflipon.config import SCORES, CalibrateConfig, CallConfig, InferenceConfig
from zflipon.errors import InputError, printable
from zflipon.genome.fasta import Genome
from zflipon.genome.interval_files import read_bed
from zflipon.genome.intervals import (
    Intervals,
    complement,
    intersect,
    interval_mask,
    merge,
    merge_by_contig,
    parse_region,
)
from zflipon.genome.shuffles import SHUFFLE_WINDOW
from zflipon.tracks.base import TrackReader
from zflipon.tracks.calling import SCALE, quantize
from zflipon.tracks.records import read_record
from zflipon.tracks.registry import open_track
from zflipon.tracks.thresholds import LEVELS, ThresholdTally
from zflipon.workflows.calibration_file import CalibratedThreshold
from zflipon.workflows.operating_points import (
    BASES,
    CALLS,
    LABELLED,
    draw_blocks,
    fdr_of,
    interval_of,
    lowest_level,
    precision_of,
)

_CHUNK = 1 << 22


@dataclass(frozen=True)
class CalibrationInput:
    """A track, opened with its genome.

    Attributes
    ----------
    path : Path
    record : mapping
        Of the track; empty without one.
    genome : Genome
    lengths : dict of str to int
        The used contigs.
    reader : TrackReader
    annotated : Intervals
        Annotated parts of these contigs.
    excluded : Intervals
        Blacklisted parts.
    """

    path: Path
    record: Mapping
    genome: Genome
    lengths: dict[str, int]
    reader: TrackReader
    annotated: Intervals
    excluded: Intervals

    @property
    def call(self) -> CallConfig:
        """How calls are made: as in the record."""
        recorded = self.record.get("call") or {}
        defaults = CallConfig()
        return CallConfig(
            None,
            recorded.get("min_length", defaults.min_length),
            recorded.get("merge_gap", defaults.merge_gap),
        )

    @property
    def score(self) -> str:
        """The score in the track."""
        return str(self.record.get("score", SCORES[0]))

    def tally(self, labels: Intervals, progress: Callable[[int], object]) -> np.ndarray:
        """Count the track at every threshold; see `ThresholdTally.blocks`."""
        tally = ThresholdTally(self.call.min_length, self.call.merge_gap)
        for contig, start, scores in self.reader.chunks(self.lengths, _CHUNK):
            end = start + len(scores)
            if scores.max(initial=0) > 1 or scores.min(initial=0) < 0:
                raise InputError(
                    f"{self.path}: has scores outside of 0 to 1 on {printable(contig)}; expected probabilities"
                )
            values = quantize(scores)
            values[interval_mask(self.excluded.get(contig), start, end)] = 0
            tally.add(contig, start, values, interval_mask(labels.get(contig), start, end))
            progress(end - start)
        return tally.blocks()


def calibrate(
    track: str | Path,
    genome: str | Path,
    labels: str | Path | None = None,
    *,
    precision: float = CalibrateConfig.precision,
    fdr: float = CalibrateConfig.fdr,
    blacklist: str | Path | None = None,
    contigs: Sequence[str] = (),
    model: str | Path | None = None,
    shuffled_bases: int = CalibrateConfig.shuffled_bases,
    settings: InferenceConfig | None = None,
    seed: int = CalibrateConfig.seed,
    progress: Callable[[int, int], object] = lambda bases, total: None,
    contig_aliases: str | Path | None = None,
) -> CalibratedThreshold:
    """Choose the threshold of a track.

    Parameters
    ----------
    track : str or Path
        bigWig or bedGraph with scores from 0 to 1, such as those of `annotate`.
    genome : str or Path
        FASTA of the track.
    labels : str or Path, optional
        BED of known Z-DNA. The result is then the lowest threshold with at least `precision`; without labels, that
        with at most `fdr`.
    precision, fdr : float
        Targets: share of called bases that are labelled; share of calls that are expected by chance.
    blacklist : str or Path, optional
        BED of regions that do not count.
    contigs : sequence of str
        Contigs to use; all by default.
    model : str or Path, optional
        Model that predicts shuffled sequence; by default the one in the record of the track.
    shuffled_bases : int
        Bases to shuffle and predict, in pieces drawn at random.
    settings : InferenceConfig, optional
        How shuffled sequence is predicted.
    seed : int
        Seed of pieces, shuffles and bootstrap.
    progress : callable
        Called with the bases just processed, and all of them.
    contig_aliases : str or Path, optional
        Table of contig aliases; see `zflipon.genome.names.read_aliases`.

    Raises
    ------
    InputError
        If a file cannot be used or no threshold reaches the target.

    Examples
    --------
    >>> import zflipon
    >>> record = zflipon.annotate("demo.fa", "demo.bw", model="zhunt", force=True)
    >>> found = zflipon.calibrate("demo.bw", "demo.fa", "demo_truth.bed", precision=0.6)
    >>> found.threshold > record["call"]["threshold"], found.estimate >= 0.6
    (True, True)
    """
    with Genome(genome, contig_aliases) as source:
        data = _open_input(Path(track), source, contigs, blacklist)
        total = sum(data.lengths.values()) + (shuffled_bases if labels is None else 0)

        def advance(bases: int) -> None:
            progress(bases, total)

        if labels is not None:
            return _calibrate_precision(data, Path(labels), precision, seed, advance)
        return _calibrate_fdr(data, fdr, model, shuffled_bases, settings, seed, advance)


# ---- precision -------------------------------------------------------------------------------------------


def _calibrate_precision(
    data: CalibrationInput, labels: Path, target: float, seed: int, progress: Callable[[int], object]
) -> CalibratedThreshold:
    known = merge_by_contig(read_bed(labels, data.genome.lengths, "labels"), data.lengths)
    for contig, rows in known.items():
        counted = complement(data.excluded.get(contig), data.lengths[contig])
        known[contig] = intersect(intersect(rows, data.annotated.get(contig)), counted)
    labelled = sum(int(np.diff(rows).sum()) for rows in known.values())
    if not labelled:
        raise InputError(f"{labels}: no label is on the annotated parts of the used contigs of {data.path}")
    blocks = data.tally(known, progress)
    total = blocks.sum(axis=0)
    level = lowest_level(precision_of(total), target, total[CALLS], f"{data.path}: precision", at_least=True)
    draws = draw_blocks(blocks, seed)
    return _result(
        data,
        "precision",
        target,
        level,
        (precision_of(total), None if draws is None else precision_of(draws)),
        total,
        recall=float(total[LABELLED, level] / labelled),
        data={"labels": labels.name, "labelled_bases": labelled, "blocks": len(blocks), "seed": seed},
    )


# ---- false-discovery rate --------------------------------------------------------------------------------


def _calibrate_fdr(
    data: CalibrationInput,
    target: float,
    model: str | Path | None,
    shuffled_bases: int,
    settings: InferenceConfig | None,
    seed: int,
    progress: Callable[[int], object],
) -> CalibratedThreshold:
    # imported here, because calibration with labels needs neither a model nor torch
    from zflipon.workflows.shuffled_calls import ShuffledCalls

    shuffled = ShuffledCalls(data, model, settings)
    blocks = data.tally({}, progress)
    bases, null_bases, null = shuffled.count(shuffled_bases, seed, progress)
    null_blocks, scale = null.blocks(), bases / null_bases
    total, null_total = blocks.sum(axis=0), null_blocks.sum(axis=0)
    rates = fdr_of(total[CALLS], null_total[CALLS], scale)
    level = lowest_level(rates, target, total[CALLS], f"{data.path}: false-discovery rate", at_least=False)
    draws, null_draws = draw_blocks(blocks, seed), draw_blocks(null_blocks, seed + 1)
    drawn = None
    if draws is not None and null_draws is not None:
        drawn = fdr_of(draws[:, CALLS], null_draws[:, CALLS], scale)
    return _result(
        data,
        "fdr",
        target,
        level,
        (rates, drawn),
        total,
        expected_calls=float(rates[level] * total[CALLS, level]),
        data={
            "shuffled_bases": null_bases, "annotated_bases": bases, "shuffle_window": SHUFFLE_WINDOW,
            "shuffled_calls": int(null_total[CALLS, level]), "blocks": len(blocks), "seed": seed,
        },
    )  # fmt: skip


# ---- both ------------------------------------------------------------------------------------------------


def _open_input(
    track: Path, genome: Genome, contigs: Sequence[str], blacklist: str | Path | None
) -> CalibrationInput:
    reader = open_track(track, genome.lengths)
    if not reader.scored:
        raise InputError(f"{track}: has calls but no scores; give the bigWig or bedGraph of the run")
    record, lengths = read_record(track), genome.select_contigs(contigs)
    annotated: dict[str, list[tuple[int, int]]] = {}
    for text in record.get("regions") or record.get("contigs") or lengths:
        contig, start, end = parse_region(text, genome.lengths)
        if contig in lengths:
            annotated.setdefault(contig, []).append((start, end))
    excluded: Intervals = {}
    if blacklist:
        excluded = merge_by_contig(read_bed(Path(blacklist), genome.lengths, "blacklisted regions"), lengths)
    rows = {contig: merge(np.array(sorted(each), dtype=np.int64)) for contig, each in annotated.items()}
    return CalibrationInput(track, record, genome, lengths, reader, rows, excluded)


def _result(
    source: CalibrationInput,
    method: Literal["precision", "fdr"],
    target: float,
    level: int,
    rates: tuple[np.ndarray, np.ndarray | None],
    total: np.ndarray,
    **values,
) -> CalibratedThreshold:
    estimate, drawn = rates
    interval = threshold_interval = None
    if drawn is not None:
        interval = interval_of(drawn[:, level])
        reached = drawn >= target if method == "precision" else drawn <= target
        reached[:, 0] = False
        first = np.where(reached.any(axis=1), reached.argmax(axis=1), LEVELS - 1)
        threshold_interval = interval_of(first / SCALE)
    model = source.record.get("model") or {}
    values["data"] = {"track": source.path.name, "genome": source.genome.path.name, **values["data"]}
    return CalibratedThreshold(
        method=method,
        target=target,
        threshold=level / SCALE,
        estimate=float(estimate[level]),
        interval=interval,
        threshold_interval=threshold_interval,
        score=source.score,
        model=model.get("name"),
        model_sha256=model.get("sha256"),
        min_length=source.call.min_length,
        merge_gap=source.call.merge_gap,
        calls=int(total[CALLS, level]),
        called_bases=int(total[BASES, level]),
        **values,
    )
