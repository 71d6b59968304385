"""The files of a recipe, read and checked, and what of them trains, validates and tests."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from zflipon.config import DataConfig, EvaluateConfig, FeaturesConfig, StageConfig
from zflipon.errors import InputError, RecipeError, format_names, suggest
from zflipon.genome.fasta import Genome
from zflipon.genome.interval_files import read_bed
from zflipon.genome.intervals import Intervals, merge, merge_by_contig
from zflipon.genome.tiled_windows import (
    TiledWindows,
    build_tiled_windows,
    cross_validation_split,
    sample_windows,
    stratified_split,
)
from zflipon.models.metadata import View
from zflipon.omics.features import FeatureTracks, fit_features
from zflipon.training.batching import Source
from zflipon.training.evaluators import ContigEvaluator, Evaluator, GenomeEstimate, WindowEvaluator
from zflipon.training.sampling import LabelledGenome, WindowSampler, near_misses, without
from zflipon.training.sequence_files import read_sequences
from zflipon.training.stored_windows import Epochs, StoredWindows, cut, summary

log = logging.getLogger("zflipon")

PARTS = ("train", "validation", "test")

ESTIMATE_BASES = 2_500_000
"""Bases without a label that an estimate of the whole genome looks at."""

LANGUAGE_WINDOWS = 512
"""Windows by which masked tokens are judged."""

_WORD = 1000
"""Bases of a stretch that the tokenizer is trained on."""


@dataclass
class TrainingData:
    """The files of a recipe.

    Attributes
    ----------
    data : DataConfig
    genome : Genome or None
    labels, candidates, blacklist : Intervals
    tracks : list of Intervals
    contigs : dict of str to dict
        Part → contigs with their lengths. Where windows are split at random, the contigs to be split are those
        that train.
    sequences : dict of str to StoredWindows
        Part → sequences of tables; none where there is a genome.
    features : FeatureTracks or None
        Omics tracks that the model reads.
    drop : float
        Share of training windows that lose some of these.
    view : View
        How the model looks at these.
    """

    data: DataConfig
    genome: Genome | None = None
    labels: Intervals = field(default_factory=dict)
    candidates: Intervals = field(default_factory=dict)
    blacklist: Intervals = field(default_factory=dict)
    tracks: list[Intervals] = field(default_factory=list)
    contigs: dict[str, dict[str, int]] = field(default_factory=lambda: {name: {} for name in PARTS})
    sequences: dict[str, StoredWindows] = field(default_factory=dict)
    features: FeatureTracks | None = None
    drop: float = 0.0
    view: View = field(default_factory=View)

    def __post_init__(self):
        self._tiled: tuple[tuple, Tiling] | None = None

    # ---- what trains -------------------------------------------------------------------------------------

    def source(self, stage: StageConfig) -> Source:
        """Return where a stage's windows come from.

        Raises
        ------
        InputError
            If there is nothing to learn.
        RecipeError
            If the stage learns what the recipe gives no file of.
        """
        if self.sequences:
            return Epochs(self.sequences["train"], stage)
        self._check_targets(stage)
        if stage.sampling == "tiled":
            tiling = self.tiling(stage)
            log.info("stage %s: windows: %s", stage.name, summary(tiling.parts))
            return Epochs(tiling.parts["train"], stage)
        return self._sampler(stage)

    def _check_targets(self, stage: StageConfig) -> None:
        if stage.objective == "mlm":
            return
        needed = {stage.target, *stage.auxiliary, *(["candidates"] if stage.readout else [])}
        for name in needed - {"labels"}:
            if not getattr(self, name):
                raise RecipeError(f"stage {stage.name} learns {name}; set data.{name}")

    def _sampler(self, stage: StageConfig) -> WindowSampler:
        labels = stage.target == "labels"
        if labels:
            negatives = without(self.candidates, self.labels)
        elif stage.target == "candidates" and stage.hard_negatives:
            log.info("stage %s: looking for what Z-HUNT ranks just below the candidates", stage.name)
            negatives = near_misses(self.genome, self.contigs["train"], self.candidates)
        else:
            negatives = {}
        data = LabelledGenome(
            self.genome.path,
            self.contigs["train"],
            targets=self.labels if labels else self.candidates,
            hard_negatives=negatives,
            ignored=self.blacklist,
            candidates=self.candidates,
            tracks=self.tracks,
            features=self.features,
            view=self.view,
        )
        return WindowSampler(data, stage, self.drop)

    # ---- what judges -------------------------------------------------------------------------------------

    def evaluator(self, stage: StageConfig) -> Evaluator | None:
        """Return what validates a stage; None where nothing is kept apart for it."""
        windows = self._windows(stage, "validation")
        if windows is not None:
            return WindowEvaluator(windows) if len(windows) else None
        if not self.contigs["validation"] or stage.target == "tracks":
            return None
        return self._contig_judge(stage, "validation")

    def test_windows(self, stage: StageConfig, part: str) -> WindowEvaluator | None:
        """Return the stored windows of a part that tests a model in the end; None where there are none."""
        windows = self._windows(stage, part)
        return WindowEvaluator(windows) if windows is not None and len(windows) else None

    def genome_judge(self, stage: StageConfig, part: str) -> ContigEvaluator | GenomeEstimate | None:
        """Return what counts every base of a part, or estimates it; None where there is nothing of it."""
        if self.genome is None or stage.objective not in ("base", "token") or stage.target == "tracks":
            return None
        if self.contigs[part]:
            return self._contig_judge(stage, part)
        if stage.sampling == "tiled" and self.data.split == "stratified":
            return self._estimate(stage, part)
        return None

    @property
    def test_part(self) -> str:
        """What tests: what validates too, where nothing is kept for the test."""
        if self.sequences:
            return "test" if len(self.sequences.get("test", ())) else "validation"
        split = self.data.split == "stratified" and (self.data.test_share or self.data.folds)
        return "test" if self.contigs["test"] or split else "validation"

    def judged_on(self, part: str) -> tuple[str, ...]:
        """Return the contigs of a part; of what validates those of the twins, where there are any."""
        twins = tuple(contig for contigs in self.data.twins for contig in contigs)
        return twins if twins and part == "validation" else tuple(self.contigs[part])

    def told(self, part: str) -> str:
        """Say in words what a part is."""
        if self.judged_on(part):
            return ", ".join(self.judged_on(part))
        named = getattr(self.data, f"{part}_sequences", None)
        if named:
            return Path(named).name
        if self.data.folds:
            return f"fold {self.data.fold} of {self.data.folds}"
        return f"{100 * getattr(self.data, f'{part}_share'):g} % of the windows, at random"

    def _contig_judge(self, stage: StageConfig, part: str) -> ContigEvaluator:
        contigs, protocol = self.contigs[part], EvaluateConfig()
        tiled = self._tile(contigs, replace(stage, window=protocol.window))
        chosen = sample_windows(tiled, 0, protocol.negatives, protocol.seed)
        starts = tiled.start[chosen, None] + [0, protocol.window]
        sample = {contig: merge(starts[tiled.contig[chosen] == i]) for i, contig in enumerate(tiled.contigs)}
        return ContigEvaluator(
            self.genome, list(contigs), self._learnt(stage), self.blacklist, sample, self.features
        )

    def _learnt(self, stage: StageConfig) -> Intervals:
        return self.labels if stage.target == "labels" else self.candidates

    def _windows(self, stage: StageConfig, part: str) -> StoredWindows | None:
        """Return the stored windows of a part; None where contigs judge base by base."""
        if self.sequences:
            return self.sequences.get(part)
        if stage.objective == "mlm":
            return self._language_windows(stage, part)
        if stage.sampling == "tiled" or stage.objective == "sequence":
            return self.tiling(stage).parts.get(part)
        return None

    def _language_windows(self, stage: StageConfig, part: str) -> StoredWindows:
        tiled = self._tile(self.contigs[part], stage) if self.contigs[part] else None
        if tiled is None:
            return StoredWindows([], np.empty((0, stage.window), dtype=np.int8))
        rng = np.random.default_rng(self.data.seed)
        chosen = np.sort(rng.permutation(len(tiled))[:LANGUAGE_WINDOWS])
        return cut(self.genome, tiled, chosen, {}, self.blacklist)

    def _estimate(self, stage: StageConfig, part: str) -> GenomeEstimate:
        """Sample the genome: the part's windows with a label, and windows without one that no part holds."""
        tiling = self.tiling(stage)
        windows = tiling.parts[part]
        positive = np.flatnonzero(windows.positive)
        never = np.setdiff1d(np.flatnonzero(~tiling.tiled.labelled), tiling.chosen)
        rng = np.random.default_rng(self.data.seed)
        drawn = np.sort(rng.permutation(never)[: ESTIMATE_BASES // stage.window])
        if not len(drawn):  # all are drawn already, so the part is a fair sample
            return GenomeEstimate(windows, np.ones(len(windows), dtype=np.int64))
        others = cut(self.genome, tiling.tiled, drawn, self._learnt(stage), self.blacklist)
        both = StoredWindows(
            [windows.sequences[i] for i in positive] + others.sequences,
            np.concatenate([windows.labels[positive], others.labels]),
        )
        labelled = int(tiling.tiled.labelled.sum())
        weights = [
            max(1, round(labelled / max(1, len(positive)))),
            max(1, round((len(tiling.tiled) - labelled) / len(drawn))),
        ]
        return GenomeEstimate(both, np.repeat(weights, [len(positive), len(drawn)]))

    # ---- tiled windows -----------------------------------------------------------------------------------

    def tiling(self, stage: StageConfig) -> Tiling:
        """Return a stage's tiled windows, kept for as long as the next stages ask for the same."""
        key = (stage.window, stage.target, stage.auxiliary, stage.hard_negatives, stage.background)
        if self._tiled is None or self._tiled[0] != key:
            self._tiled = key, self._tile_parts(stage)
        return self._tiled[1]

    def _tile(self, contigs: Mapping[str, int], stage: StageConfig) -> TiledWindows:
        stretches = {contig: self.genome.scan(contig, min_gap=1).segments for contig in contigs}
        learnt, blacklist, candidates = (
            merge_by_contig(each, contigs) for each in (self._learnt(stage), self.blacklist, self.candidates)
        )
        return build_tiled_windows(contigs, learnt, stretches, blacklist, stage.window, candidates)

    def _tile_parts(self, stage: StageConfig) -> Tiling:
        contigs = {contig: size for part in PARTS for contig, size in self.contigs[part].items()}
        tiled = self._tile(contigs, stage)
        of = np.array([next(part for part in PARTS if name in self.contigs[part]) for name in tiled.contigs])
        chosen = {
            part: sample_windows(
                tiled,
                stage.hard_negatives,
                stage.background,
                self.data.seed,
                np.isin(tiled.contig, np.flatnonzero(of == part)),
            )
            for part in PARTS
        }
        if self.data.split == "stratified":
            whole = chosen["train"]
            strata = 2 * tiled.contig[whole] + tiled.labelled[whole]
            dealt = deal(strata, self.data)
            # contigs that are kept apart whole judge in the place of windows
            chosen = {
                part: chosen[part] if self.contigs[part] and part != "train" else whole[dealt[part]]
                for part in PARTS
            }
        also = self.candidates if "candidates" in stage.auxiliary else None
        read = partial(
            cut, self.genome, tiled, labels=self._learnt(stage), ignored=self.blacklist, candidates=also
        )
        parts = {part: read(chosen=indices) for part, indices in chosen.items()}
        for part, windows in parts.items():
            if part == "train" or len(windows) or self.contigs[part]:
                _require_positives(part, windows, f"{self.data.labels}, windows of {stage.window} bases")
        return Tiling(tiled, np.concatenate(list(chosen.values())), parts)

    # ---- the tokenizer's text ----------------------------------------------------------------------------

    def stretches(self, bases: int, seed: int) -> Iterator[str]:
        """Yield stretches from random places of what trains, in order: so many bases in all."""
        if self.sequences:
            yield from self.sequences["train"].sequences
            return
        places = [
            (contig, place)
            for contig, length in self.contigs["train"].items()
            for place in range(0, max(1, length - _WORD + 1), _WORD)
        ]
        chosen = np.random.default_rng(seed).permutation(len(places))[: max(1, bases // _WORD)]
        for contig, place in (places[i] for i in np.sort(chosen)):
            yield self.genome.fetch(contig, place, min(place + _WORD, self.contigs["train"][contig]))


@dataclass
class Tiling:
    """A stage's tiled windows.

    Attributes
    ----------
    tiled : TiledWindows
        All that are usable.
    chosen : numpy.ndarray
        int64: those that any part holds.
    parts : dict of str to StoredWindows
    """

    tiled: TiledWindows
    chosen: np.ndarray
    parts: dict[str, StoredWindows]


def deal(strata: np.ndarray, data: DataConfig) -> dict[str, np.ndarray]:
    """Deal items out to the parts, alike in strata: by the recipe's shares, or by the folds of its cross-validation."""
    if not data.folds:
        shares = {
            "train": 1 - data.validation_share - data.test_share,
            "validation": data.validation_share,
            "test": data.test_share,
        }
        return stratified_split(strata, shares, data.seed)
    pieces = stratified_split(strata, {str(i): 1 / data.folds for i in range(data.folds)}, data.seed)
    of = cross_validation_split(data.folds, data.fold, data.validation_share)
    return {part: np.sort(np.concatenate([pieces[str(i)] for i in numbers])) for part, numbers in of.items()}


def read_material(
    data: DataConfig, labelled: bool = True, features: FeaturesConfig | None = None
) -> TrainingData:
    """Open the genome and read the labels, or read the tables of sequences.

    Parameters
    ----------
    data : DataConfig
    labelled : bool
        Whether anything but the language is learnt, for which labels are needed.
    features : FeaturesConfig, optional
        Omics tracks that the model reads.

    Raises
    ------
    InputError, RecipeError
        If files or contigs are missing or do not fit.
    """
    if data.sequences:
        return TrainingData(data, sequences=_read_tables(data))
    names = ("genome", "labels") if labelled else ("genome",)
    missing = [f"data.{name}" for name in names if not getattr(data, name)]
    if missing:
        instead = " (or data.sequences, a table)" if labelled else ""
        raise RecipeError(f"{' and '.join(missing)} must be set{instead}, as in --set {missing[0]}=FILE")
    genome = Genome(data.genome)
    read = {
        name: read_bed(path, genome.lengths, name) if path else {}
        for name, path in (
            ("labels", data.labels),
            ("candidates", data.candidates),
            ("blacklist", data.blacklist),
        )
    }
    if labelled and not read["labels"]:
        raise InputError(f"{data.labels}: no labels in it; expected BED lines of contig, start and end")
    contigs = _contigs_by_part(data, genome.lengths)
    tracks = [
        {contig: merge(rows) for contig, rows in read_bed(path, genome.lengths, "tracks").items()}
        for path in _track_files(data.tracks)
    ]
    found = TrainingData(data, genome, **read, tracks=tracks, contigs=contigs)
    if features is not None and features.tracks:
        found.features = fit_features(features.tracks, genome.lengths, contigs["train"], data.seed)
        found.drop = features.drop
    return found


def _contigs_by_part(data: DataConfig, lengths: Mapping[str, int]) -> dict[str, dict[str, int]]:
    twins = {f"twins, list {number}": contigs for number, contigs in enumerate(data.twins, 1)}
    given = {"validation_contigs": data.validation_contigs, "test_contigs": data.test_contigs, **twins}
    for key, contigs in given.items():
        unknown = [contig for contig in contigs if contig not in lengths]
        if unknown:
            raise InputError(
                f"data.{key}: {format_names(unknown)} not in {data.genome}, which has {format_names(lengths)}"
                f"{suggest(unknown[0], lengths)}"
            )
    named = {"validation": set(data.validation_contigs), "test": set(data.test_contigs)}
    if data.folds and data.split == "contigs":
        named = _contig_folds(data, lengths)
    apart = named["validation"] | named["test"]
    parts = {
        "train": {contig: size for contig, size in lengths.items() if contig not in apart},
        **{part: {c: size for c, size in lengths.items() if c in names} for part, names in named.items()},
    }
    if any(not parts["train"].keys() - set(contigs) for contigs in [(), *data.twins]):
        raise InputError("every contig is kept apart; none is left to train on")
    return {part: parts[part] for part in PARTS}


def _contig_folds(data: DataConfig, lengths: Mapping[str, int]) -> dict[str, set[str]]:
    """Deal contigs out to folds, the longest first, each to the fold that is the shortest so far."""
    if len(lengths) < data.folds:
        raise InputError(
            f"data.folds: {data.folds} folds of {len(lengths)} contigs; take fewer, or split = 'stratified'"
        )
    pieces: list[list[str]] = [[] for _ in range(data.folds)]
    for contig in sorted(lengths, key=lambda name: (-lengths[name], name)):
        min(pieces, key=lambda piece: sum(lengths[name] for name in piece)).append(contig)
    of = cross_validation_split(data.folds, data.fold, data.validation_share)
    return {part: {name for i in of[part] for name in pieces[i]} for part in ("validation", "test")}


def _read_tables(data: DataConfig) -> dict[str, StoredWindows]:
    """Read the tables of sequences; those that are not given are dealt out of the first, alike in labels."""
    given = {
        part: read_sequences(path)
        for part, path in (
            ("train", data.sequences),
            ("validation", data.validation_sequences),
            ("test", data.test_sequences),
        )
        if path
    }
    if len(given) == 1:
        whole = given["train"]
        given = {part: whole[chosen] for part, chosen in deal(whole.positive.astype(int), data).items()}
    for part, windows in given.items():
        if len(windows):
            _require_positives(part, windows, getattr(data, f"{part}_sequences", data.sequences))
    log.info("sequences: %s", summary(given))
    return given


def _require_positives(part: str, windows: StoredWindows, where: str) -> None:
    if not windows.positive.any():
        raise InputError(
            f"{where}: none of the {len(windows):,} windows of the {part} part has a label; "
            "check that labels and genome are of one assembly, or change the split"
        )


def _track_files(folder: str | None) -> list[Path]:
    """Return the BED files of a folder, by name."""
    if not folder:
        return []
    found = sorted(path for path in Path(folder).glob("*.bed*") if path.name.endswith((".bed", ".bed.gz")))
    if not found:
        raise InputError(f"data.tracks: no BED files (.bed, .bed.gz) in {folder}")
    return found
