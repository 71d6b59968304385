"""Files of a recipe → training, validation and test data, and what evaluates a model on them.

Reads and checks the files. Splits are computed in `zflipon.training.splits`, batches in `zflipon.training.batching`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from zflipon.config import DataConfig, EvaluateConfig, FeaturesConfig, StageConfig
from zflipon.errors import InputError, RecipeError
from zflipon.genome.fasta import Genome
from zflipon.genome.interval_files import read_bed
from zflipon.genome.intervals import Intervals, merge, merge_by_contig
from zflipon.genome.tiled_windows import TiledWindows, build_tiled_windows, sample_windows
from zflipon.models.metadata import View
from zflipon.omics.features import FeatureTracks, fit_features
from zflipon.training.batching import BatchSource
from zflipon.training.evaluators import ContigEvaluator, Evaluator, GenomeEstimate, WindowEvaluator
from zflipon.training.labelled_windows import (
    EpochBatches,
    LabelledWindows,
    describe_parts,
    read_windows,
    require_positives,
)
from zflipon.training.sampling import LabelledGenome, WindowSampler, exclude_overlapping, find_near_misses
from zflipon.training.sequence_files import read_sequence_parts
from zflipon.training.splits import PARTS, split_contigs
from zflipon.training.window_split import TiledSplit, assign_windows

log = logging.getLogger("zflipon")

ESTIMATE_BASES = 2_500_000
"""Bases without a label in the sample that estimates the figures of a whole genome."""

MLM_EVALUATION_WINDOWS = 512
"""Windows on which masked language modelling is evaluated."""

_TEXT_BASES = 1000
"""Bases of one sequence that the tokenizer is trained on."""


@dataclass
class TrainingData:
    """Files of a recipe, opened and checked.

    Attributes
    ----------
    data : DataConfig
    genome : Genome or None
    labels, candidates, blacklist : Intervals
    tracks : list of Intervals
    contigs : dict of str to dict of str to int
        Part → contigs with their lengths. If windows are split at random, their contigs are in ``'train'``.
    sequences : dict of str to LabelledWindows
        Part → sequences of tables; empty if there is a genome.
    features : FeatureTracks or None
        Omics tracks that the model reads.
    drop : float
        Share of the training windows that lose some of these tracks.
    view : View
        Resolution and context at which the model reads these tracks.
    """

    data: DataConfig
    genome: Genome | None = None
    labels: Intervals = field(default_factory=dict)
    candidates: Intervals = field(default_factory=dict)
    blacklist: Intervals = field(default_factory=dict)
    tracks: list[Intervals] = field(default_factory=list)
    contigs: dict[str, dict[str, int]] = field(default_factory=lambda: {name: {} for name in PARTS})
    sequences: dict[str, LabelledWindows] = field(default_factory=dict)
    features: FeatureTracks | None = None
    drop: float = 0.0
    view: View = field(default_factory=View)

    def __post_init__(self):
        self._cached_split: tuple[tuple, TiledSplit] | None = None

    # ---- training ----------------------------------------------------------------------------------------

    def batch_source(self, stage: StageConfig) -> BatchSource:
        """Return the source of a stage's training windows.

        Raises
        ------
        InputError
            If there is nothing to learn.
        RecipeError
            If the stage learns intervals for which the recipe gives no file.
        """
        if self.sequences:
            return EpochBatches(self.sequences["train"], stage)
        self._require_targets(stage)
        if stage.sampling == "tiled":
            parts = self.tiled_split(stage).parts
            log.info("stage %s: windows: %s", stage.name, describe_parts(parts))
            return EpochBatches(parts["train"], stage)
        return self._window_sampler(stage)

    def _require_targets(self, stage: StageConfig) -> None:
        if stage.objective == "mlm":
            return
        needed = {stage.target, *stage.auxiliary, *(["candidates"] if stage.readout_penalty else [])}
        for name in sorted(needed - {"labels"}):
            if not getattr(self, name):
                raise RecipeError(f"stage {stage.name} learns {name}: set data.{name}")

    def _window_sampler(self, stage: StageConfig) -> WindowSampler:
        on_labels = stage.target == "labels"
        if on_labels:
            hard_negatives = exclude_overlapping(self.candidates, self.labels)
        elif stage.target == "candidates" and stage.hard_negatives:
            log.info(
                "stage %s: searching for regions that Z-HUNT scores just below the candidates", stage.name
            )
            hard_negatives = find_near_misses(self.required_genome, self.contigs["train"], self.candidates)
        else:
            hard_negatives = {}
        data = LabelledGenome(
            self.required_genome.path,
            self.contigs["train"],
            targets=self.labels if on_labels else self.candidates,
            hard_negatives=hard_negatives,
            ignored=self.blacklist,
            candidates=self.candidates,
            tracks=self.tracks,
            features=self.features,
            view=self.view,
        )
        return WindowSampler(data, stage, self.drop)

    @property
    def required_genome(self) -> Genome:
        """The genome; raises `RecipeError` if the recipe names none."""
        if self.genome is None:
            raise RecipeError("data.genome must be set, as in --set data.genome=FILE")
        return self.genome

    # ---- evaluation --------------------------------------------------------------------------------------

    def evaluator(self, stage: StageConfig) -> Evaluator | None:
        """Return what evaluates the model during a stage; None without validation data."""
        windows = self._evaluation_windows(stage, "validation")
        if windows is not None:
            return WindowEvaluator(windows) if len(windows) else None
        if not self.contigs["validation"] or stage.target in ("tracks", "chromatin"):
            return None
        return self._contig_evaluator(stage, "validation")

    def test_evaluator(self, stage: StageConfig, part: str) -> WindowEvaluator | None:
        """Return what evaluates the finished model on the windows of a part; None if the part has no windows."""
        windows = self._evaluation_windows(stage, part)
        return WindowEvaluator(windows) if windows is not None and len(windows) else None

    def genome_evaluator(self, stage: StageConfig, part: str) -> ContigEvaluator | GenomeEstimate | None:
        """Return what counts every base of a part, or estimates the counts; None if this is not possible."""
        if self.genome is None or stage.objective not in ("base", "token") or stage.target == "tracks":
            return None
        if self.contigs[part]:
            return self._contig_evaluator(stage, part)
        if stage.sampling == "tiled" and self.data.splits_windows and self.tiled_split(stage).parts[part]:
            return self._genome_estimate(stage, part)
        return None

    def test_subsets(self, stage: StageConfig, part: str) -> dict[str, np.ndarray]:
        """Return the subsets of a part's windows that are also measured: those apart from all training windows."""
        if self.sequences or stage.sampling != "tiled" or stage.objective not in ("base", "token"):
            return {}
        split = self.tiled_split(stage)
        chosen = split.apart(part, self.data.seed)
        return {} if chosen.all() or not split.parts[part].positive[chosen].any() else {"apart": chosen}

    def neighbours(self, stage: StageConfig, part: str) -> dict[str, int]:
        """Count the windows of a part that border the training data; empty if windows are not tiled."""
        if self.sequences or stage.sampling != "tiled" or stage.objective not in ("base", "token"):
            return {}
        targets = merge_by_contig(self._targets(stage), self.required_genome.lengths)
        return self.tiled_split(stage).neighbours(part, targets)

    def split_rows(self, stage: StageConfig) -> list[tuple[str, int, int, str]]:
        """Return contig, start, end and part of the windows or, if whole contigs are split, of the contigs."""
        if self.sequences:
            return []
        if stage.sampling == "tiled" and stage.objective != "mlm":
            return list(self.tiled_split(stage).rows())
        part_of = {contig: part for part in PARTS for contig in self.contigs[part]}
        lengths = self.required_genome.lengths
        return [(contig, 0, lengths[contig], part_of[contig]) for contig in lengths if contig in part_of]

    @property
    def test_part(self) -> str:
        """Part on which the finished model is tested: the validation data if there are no test data."""
        if self.sequences:
            return "test" if len(self.sequences.get("test", ())) else "validation"
        split = self.data.splits_windows and (self.data.test_share or self.data.folds)
        return "test" if self.contigs["test"] or split else "validation"

    def evaluated_contigs(self, part: str) -> tuple[str, ...]:
        """Return the contigs of a part. With held-out models, their contigs are the validation data."""
        contigs = tuple(contig for group in self.data.held_out_models for contig in group)
        return contigs if contigs and part == "validation" else tuple(self.contigs[part])

    def describe_part(self, part: str) -> str:
        """Return a description of a part for people: contigs, a file, a fold or a share."""
        if part == "validation" and self.data.select_on == "test":
            return f"{self.describe_part('test')}, the test data"
        if self.evaluated_contigs(part):
            return ", ".join(self.evaluated_contigs(part))
        file = getattr(self.data, f"{part}_sequences", None)
        if file:
            return Path(file).name
        if self.data.folds:
            return f"fold {self.data.fold} of {self.data.folds}"
        blocks = f" in blocks of {self.data.block_size:,} bases" if self.data.split == "blocks" else ""
        return f"{100 * getattr(self.data, f'{part}_share'):g} % of the windows{blocks}, at random"

    def _contig_evaluator(self, stage: StageConfig, part: str) -> ContigEvaluator:
        contigs, protocol = self.contigs[part], EvaluateConfig()
        tiled = self._tile(contigs, replace(stage, window=protocol.window, margin=0))
        chosen = sample_windows(tiled, 0, protocol.negatives, protocol.seed)
        windows = tiled.start[chosen, None] + [0, protocol.window]
        sample = {contig: merge(windows[tiled.contig[chosen] == i]) for i, contig in enumerate(tiled.contigs)}
        return ContigEvaluator(
            self.required_genome, list(contigs), self._targets(stage), self.blacklist, sample, self.features
        )

    def _targets(self, stage: StageConfig) -> Intervals:
        return self.candidates if stage.target == "candidates" else self.labels

    def _evaluation_windows(self, stage: StageConfig, part: str) -> LabelledWindows | None:
        """Return the windows of a part; None if whole contigs are evaluated base by base."""
        if self.sequences:
            return self.sequences.get(part)
        if stage.objective == "mlm":
            return self._mlm_windows(stage, part)
        if stage.sampling == "tiled" or stage.objective == "sequence":
            return self.tiled_split(stage).parts.get(part)
        return None

    def _mlm_windows(self, stage: StageConfig, part: str) -> LabelledWindows:
        if not self.contigs[part]:
            return LabelledWindows([], np.empty((0, stage.window), dtype=np.int8))
        tiled = self._tile(self.contigs[part], stage)
        rng = np.random.default_rng(self.data.seed)
        chosen = np.sort(rng.permutation(len(tiled))[:MLM_EVALUATION_WINDOWS])
        return read_windows(self.required_genome, tiled, chosen, {}, self.blacklist)

    def _genome_estimate(self, stage: StageConfig, part: str) -> GenomeEstimate:
        """Sample the genome: the part's windows with a label, and windows without one that no part contains."""
        split = self.tiled_split(stage)
        windows, labelled = split.parts[part], split.tiled.labelled
        positive = np.flatnonzero(windows.positive)
        unused = np.setdiff1d(np.flatnonzero(~labelled), split.chosen)
        order = np.random.default_rng(self.data.seed).permutation(unused)
        # validation chooses threshold and calibration, so the test has to see other windows
        own = order[1::2] if part == "test" else order[::2]
        background = np.sort(own[: ESTIMATE_BASES // stage.window])
        if not len(background):  # the parts contain all windows, so that this part is a fair sample
            return GenomeEstimate(windows, np.ones(len(windows), dtype=np.int64))
        others = read_windows(
            self.required_genome, split.tiled, background, self._targets(stage), self.blacklist
        )
        sample = LabelledWindows(
            [windows.sequences[i] for i in positive] + others.sequences,
            np.concatenate([windows.labels[positive], others.labels]),
        )
        weights = [
            max(1, round(labelled.sum() / max(1, len(positive)))),
            max(1, round((~labelled).sum() / len(background))),
        ]
        return GenomeEstimate(sample, np.repeat(weights, [len(positive), len(background)]))

    # ---- tiled windows -----------------------------------------------------------------------------------

    def tiled_split(self, stage: StageConfig) -> TiledSplit:
        """Return a stage's tiled windows; those of the latest stage are cached."""
        key = (stage.window, stage.target, stage.auxiliary, stage.hard_negatives, stage.background)
        if self._cached_split is None or self._cached_split[0] != key:
            self._cached_split = key, self._split_tiled(stage)
        return self._cached_split[1]

    def _tile(self, contigs: Mapping[str, int], stage: StageConfig) -> TiledWindows:
        segments = {contig: self.required_genome.scan(contig, min_gap=1).segments for contig in contigs}
        targets, blacklist, candidates = (
            merge_by_contig(each, contigs) for each in (self._targets(stage), self.blacklist, self.candidates)
        )
        return build_tiled_windows(contigs, targets, segments, blacklist, stage.window, candidates)

    def _split_tiled(self, stage: StageConfig) -> TiledSplit:
        contigs = {contig: size for part in PARTS for contig, size in self.contigs[part].items()}
        tiled = self._tile(contigs, stage)
        indices = assign_windows(tiled, self.contigs, stage, self.data)
        read = partial(
            read_windows,
            self.required_genome,
            tiled,
            labels=self._targets(stage),
            ignored=self.blacklist,
            candidates=self.candidates if "candidates" in stage.auxiliary else None,
        )
        parts = {part: read(indices=numbers) for part, numbers in indices.items()}
        for part, windows in parts.items():
            if part == "train" or len(windows) or self.contigs[part]:
                require_positives(part, windows, f"{self.data.labels}, windows of {stage.window} bases")
        return TiledSplit(tiled, indices, parts)

    # ---- tokenizer ---------------------------------------------------------------------------------------

    def tokenizer_text(self, bases: int, seed: int) -> Iterator[str]:
        """Yield training sequences for a tokenizer: random pieces of the training contigs, in genomic order.

        Parameters
        ----------
        bases : int
            Bases in total. Sequences of a table are all used.
        seed : int
        """
        if self.sequences:
            yield from self.sequences["train"].sequences
            return
        positions = [
            (contig, start)
            for contig, length in self.contigs["train"].items()
            for start in range(0, max(1, length - _TEXT_BASES + 1), _TEXT_BASES)
        ]
        chosen = np.random.default_rng(seed).permutation(len(positions))[: max(1, bases // _TEXT_BASES)]
        for contig, start in (positions[i] for i in np.sort(chosen)):
            yield self.required_genome.fetch(
                contig, start, min(start + _TEXT_BASES, self.contigs["train"][contig])
            )


def read_training_data(
    data: DataConfig, labelled: bool = True, features: FeaturesConfig | None = None
) -> TrainingData:
    """Open the genome and read the labels, or read the tables of sequences.

    Parameters
    ----------
    data : DataConfig
    labelled : bool
        Whether any stage needs labels; masked language modelling does not.
    features : FeaturesConfig, optional
        Omics tracks that the model reads.

    Raises
    ------
    InputError, RecipeError
        If a file or a contig is missing, or files do not fit together.
    """
    if data.sequences:
        return TrainingData(data, sequences=read_sequence_parts(data))
    missing = [f"data.{name}" for name in ("genome", *(["labels"] * labelled)) if not getattr(data, name)]
    if missing:
        alternative = " (or data.sequences, a table)" if labelled else ""
        raise RecipeError(f"{' and '.join(missing)} must be set{alternative}, as in --set {missing[0]}=FILE")
    genome = Genome(data.genome)
    labels, candidates, blacklist = (
        read_bed(path, genome.lengths, name) if path else {}
        for name, path in (
            ("labels", data.labels),
            ("candidates", data.candidates),
            ("blacklist", data.blacklist),
        )
    )
    if labelled and not labels:
        raise InputError(f"{data.labels}: no labels; expected BED lines with contig, start and end")
    contigs = split_contigs(data, genome.lengths)
    if data.select_on == "test":
        contigs["validation"] = contigs["test"]
    tracks = [
        {contig: merge(rows) for contig, rows in read_bed(path, genome.lengths, "tracks").items()}
        for path in _track_files(data.tracks)
    ]
    training_data = TrainingData(data, genome, labels, candidates, blacklist, tracks, contigs)
    if features is not None and features.tracks:
        training_data.features = fit_features(features.tracks, genome.lengths, contigs["train"], data.seed)
        training_data.drop = features.drop
    return training_data


def _track_files(folder: str | None) -> list[Path]:
    """Return the BED files of a folder, sorted by name."""
    if not folder:
        return []
    files = sorted(path for path in Path(folder).glob("*.bed*") if path.name.endswith((".bed", ".bed.gz")))
    if not files:
        raise InputError(f"data.tracks: {folder} contains no BED files (.bed, .bed.gz)")
    return files
