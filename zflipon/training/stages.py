"""A recipe, from files to a checkpoint that carries its story; every stage goes on where it was stopped."""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState

from zflipon.config import DECIMALS, DataConfig, Recipe, StageConfig
from zflipon.errors import InputError, OutputError, RecipeError, some
from zflipon.genome import Genome
from zflipon.intervals import Intervals, merge, read_bed
from zflipon.metrics import ScoreHistogram, ratio
from zflipon.models import FORMULAS, Calibration, Checkpoint, create, load, save, start
from zflipon.predict import calibrated
from zflipon.recipe import inheritance
from zflipon.tokens import BpeTokenizer, train_bpe
from zflipon.training.calibrate import bend, platt
from zflipon.training.data import LabelledGenome, WindowBatches, WindowSampler, near_misses, without
from zflipon.training.fit import Validation, fit

log = logging.getLogger("zflipon")

TOLD_THRESHOLDS = (0.3, 0.5, 0.8)
"""Probabilities for which a checkpoint's story tells precision and recall."""

_WORD = 1000
"""Bases of a stretch that the tokenizer is trained on."""


@dataclass
class Material:
    """The files of a recipe, read and checked."""

    genome: Genome
    labels: Intervals
    candidates: Intervals
    blacklist: Intervals
    tracks: list[Intervals]
    training: dict[str, int]
    validation: list[str]

    def sampler(self, stage: StageConfig) -> WindowSampler:
        """Return what draws a stage's windows."""
        learnt = {stage.target, *stage.auxiliary}
        for name in ("candidates", "tracks"):
            if name in learnt and not getattr(self, name):
                raise RecipeError(f"stage {stage.name} learns {name}; set data.{name}")
        labels = stage.target == "labels"
        if labels:
            negatives = without(self.candidates, self.labels)
        elif stage.target == "candidates" and stage.hard_negatives:
            log.info("stage %s: looking for what Z-HUNT ranks just below the candidates", stage.name)
            negatives = near_misses(self.genome, self.training, self.candidates)
        else:
            negatives = {}
        data = LabelledGenome(
            self.genome.path,
            self.training,
            targets=self.labels if labels else self.candidates,
            hard_negatives=negatives,
            ignored=self.blacklist,
            candidates=self.candidates,
            tracks=self.tracks,
        )
        return WindowSampler(data, stage)

    def judge(self, stage: StageConfig) -> Validation | None:
        """Return what validates a stage, or None where no contig is kept apart or tracks are learnt."""
        if not self.validation or stage.target == "tracks":
            return None
        known = self.labels if stage.target == "labels" else self.candidates
        return Validation(self.genome, self.validation, known, self.blacklist)


def train(recipe: Recipe, out: Path, restart: bool = False) -> Checkpoint:
    """Run a recipe.

    Parameters
    ----------
    recipe : Recipe
    out : Path
        Folder of the finished checkpoint; the stages lie in ``out/stages`` until then and after.
    restart : bool
        Start over, whatever `out` holds.

    Returns
    -------
    Checkpoint
        As saved in `out`.

    Raises
    ------
    ZfliponError
        If a file is missing or does not fit, if `out` holds another recipe's run, or if the loss
        is no longer a number.
    """
    material = read_material(recipe.data)
    with PartialState().main_process_first():  # the others find the folder claimed and the tokenizer trained
        _claim(recipe, out, restart and PartialState().is_main_process)
        checkpoint = _beginning(recipe, material, out / "stages")
    changes = dict(inheritance(recipe))
    for number, stage in enumerate(recipe.stage, 1):
        folder = out / "stages" / f"{number}-{stage.name}"
        log.info("stage %d, %s: %s; the rest as before", number, stage.name, ", ".join(changes[stage.name]))
        checkpoint = _run_stage(checkpoint, stage, material, folder)
    checkpoint = _judged(checkpoint, recipe, material)
    _save_once(checkpoint, out)
    return checkpoint


def read_material(data: DataConfig) -> Material:
    """Open the genome and read the labels; raise `InputError` or `RecipeError` if they do not fit."""
    missing = [f"data.{name}" for name in ("genome", "labels") if not getattr(data, name)]
    if missing:
        raise RecipeError(f"{' and '.join(missing)} must be set, as in --set {missing[0]}=FILE")
    genome = Genome(data.genome)
    unknown = [contig for contig in data.validation_contigs if contig not in genome.lengths]
    if unknown:
        raise InputError(
            f"data.validation_contigs: {some(unknown)} not in {data.genome}, which has {some(genome.lengths)}"
        )
    read = {
        name: read_bed(path, genome.lengths, name) if path else {}
        for name, path in (
            ("labels", data.labels),
            ("candidates", data.candidates),
            ("blacklist", data.blacklist),
        )
    }
    training = {
        contig: size for contig, size in genome.lengths.items() if contig not in data.validation_contigs
    }
    if not training:
        raise InputError("every contig is a validation contig; none is left to train on")
    tracks = [
        {contig: merge(rows) for contig, rows in read_bed(path, genome.lengths, "tracks").items()}
        for path in _track_files(data.tracks)
    ]
    return Material(
        genome, **read, tracks=tracks, training=training, validation=list(data.validation_contigs)
    )


def _track_files(folder: str | None) -> list[Path]:
    """Return the BED files of a folder, by name."""
    if not folder:
        return []
    found = sorted(path for path in Path(folder).glob("*.bed*") if path.name.endswith((".bed", ".bed.gz")))
    if not found:
        raise InputError(f"data.tracks: no BED files (.bed, .bed.gz) in {folder}")
    return found


def _claim(recipe: Recipe, out: Path, restart: bool) -> None:
    """Make the folder this recipe's, or refuse one that is another's or finished."""
    record = out / "stages" / "recipe.json"
    if restart and (out / "stages").exists():
        shutil.rmtree(out / "stages")
    said = json.loads(json.dumps(asdict(recipe)))
    if record.exists():
        before = json.loads(record.read_text())
        differing = [key for key in said if said[key] != before.get(key)]
        if differing:
            raise OutputError(
                f"{out}: holds a run of another recipe ({', '.join(differing)} differ); "
                "give --restart to start over, or another --output"
            )
        log.info("going on with the run in %s", out)
    elif out.exists() and any(out.iterdir()) and not restart:
        raise OutputError(
            f"{out}: is not empty; give --restart to replace what it holds, or another --output"
        )
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(said, indent=1))
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror})") from error


def _beginning(recipe: Recipe, material: Material, folder: Path) -> Checkpoint:
    """Return the untrained checkpoint: a given one under the first stage's head, or a family's random weights."""
    stage, model = recipe.stage[0], recipe.model
    head = {**model.base_head, **({"tracks": len(material.tracks)} if material.tracks else {})}
    settings = {**model.shape, **({"base_head": head} if head else {})}
    torch.manual_seed(stage.seed)
    if model.checkpoint:
        checkpoint = start(model.checkpoint, stage.objective, recipe.tokenizer.max_token_length, **settings)
    else:
        tokenizer = _trained_tokenizer(recipe, material, folder / "tokenizer.json")
        checkpoint = create(model.family, stage.objective, tokenizer, **settings)
    if checkpoint.story.family in FORMULAS:
        raise RecipeError(
            f"{checkpoint.story.family} is a formula: nothing in it is trained; choose another model"
        )
    size = sum(weights.numel() for weights in checkpoint.module.parameters())
    log.info("%s, %s head, %s parameters", checkpoint.story.family, stage.objective, f"{size:,}")
    return checkpoint


def _trained_tokenizer(recipe: Recipe, material: Material, path: Path) -> BpeTokenizer:
    if path.exists():
        return BpeTokenizer.from_file(path)
    tokenizer = train_bpe(
        list(_stretches(material, recipe.tokenizer.sample, recipe.stage[0].seed)),
        recipe.tokenizer.vocab_size,
        recipe.tokenizer.max_token_length or 16,
    )
    tokenizer.save(path.parent)
    log.info("trained a tokenizer of %d tokens", tokenizer.vocab_size)
    return tokenizer


def _stretches(material: Material, bases: int, seed: int) -> Iterator[str]:
    """Yield stretches from random places of the training contigs, in order."""
    places = [
        (contig, place)
        for contig, length in material.training.items()
        for place in range(0, max(1, length - _WORD + 1), _WORD)
    ]
    chosen = np.random.default_rng(seed).permutation(len(places))[: max(1, bases // _WORD)]
    for contig, place in (places[i] for i in np.sort(chosen)):
        yield material.genome.fetch(contig, place, min(place + _WORD, material.training[contig]))


def _run_stage(checkpoint: Checkpoint, stage: StageConfig, material: Material, folder: Path) -> Checkpoint:
    story = replace(
        checkpoint.story,
        window=stage.window,
        margin=stage.margin,
        label_threshold=stage.label_threshold,
        label_comparison=stage.label_comparison,
    )
    done = folder / "model"
    if done.exists():
        log.info("stage %s is done already", stage.name)
        return load(done)
    if stage.objective != checkpoint.story.objective:
        raise RecipeError(
            f"stage {stage.name}: objective '{stage.objective}' after '{checkpoint.story.objective}'; "
            "all stages of a recipe train one head"
        )
    checkpoint = replace(checkpoint, story=story)
    checkpoint.module.config.class_weights = stage.class_weights and list(stage.class_weights)
    if stage.dropout is not None:
        for module in checkpoint.module.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = stage.dropout
    sampler = material.sampler(stage)
    fit(checkpoint, WindowBatches(sampler, checkpoint.tokenizer, stage.steps), material.judge(stage), folder)
    _save_once(checkpoint, done)
    return checkpoint


def _save_once(checkpoint: Checkpoint, folder: Path) -> None:
    """Save by the first of the processes, while the others wait."""
    state = PartialState()
    if state.is_main_process:
        save(checkpoint, folder)
    state.wait_for_everyone()


def _judged(checkpoint: Checkpoint, recipe: Recipe, material: Material) -> Checkpoint:
    """Calibrate on the validation contigs, choose the threshold of best F1, and write the story."""
    stage = recipe.stage[-1]
    trained = {
        "recipe": recipe.name,
        "description": recipe.description,
        "contigs": list(material.training),
        "validation_contigs": material.validation,
        "bases": sum(material.training.values()),
        "labels": sum(len(rows) for contig, rows in material.labels.items() if contig in material.training),
        "stages": [asdict(entry) for entry in recipe.stage],
    }
    story = replace(checkpoint.story, calibration=Calibration(), training=trained)
    validation = material.judge(stage)
    if validation is not None:
        histogram = validation.histogram(replace(checkpoint, story=story), stage.precision)
        line = Calibration(*platt(histogram))
        calibration = line._replace(bend=bend(histogram, line.scale, line.bias))
        _, odds = histogram.best_f1()
        odds = float(calibrated(np.array(odds or 0.0), calibration))
        threshold = round(1 / (1 + math.exp(-odds)), DECIMALS)
        quality = _quality(histogram, material) | {"at": _expected(histogram, calibration)}
        story = replace(story, calibration=calibration, threshold=threshold, quality=quality)
        log.info("validation: %s; threshold %s", quality, threshold)
    return replace(checkpoint, story=story)


def _quality(histogram: ScoreHistogram, material: Material) -> dict:
    best_f1, odds = histogram.best_f1()
    counts = histogram.at(math.inf if odds is None else odds)
    return {
        "contigs": material.validation,
        "protocol": "genome",
        "average_precision": round(histogram.average_precision(), 4),
        "f1": round(best_f1, 4),
        "precision": round(counts.precision, 4),
        "recall": round(counts.recall, 4),
        "mcc": round(counts.mcc, 4),
        "note": "calibration and threshold, and weights where a stage evaluates, were chosen on these contigs",
    }


def _expected(histogram: ScoreHistogram, calibration: Calibration) -> dict[str, list[float]]:
    """Return precision and recall at some thresholds that a user may ask for."""
    odds, without, labelled = histogram.counts()
    found = {}
    for threshold in TOLD_THRESHOLDS:
        called = calibrated(odds, calibration) >= math.log(threshold / (1 - threshold))
        right, wrong = int(labelled[called].sum()), int(without[called].sum())
        precision, recall = ratio(right, right + wrong), ratio(right, int(labelled.sum()))
        found[str(threshold)] = [round(precision, 3), round(recall, 3)]
    return found
