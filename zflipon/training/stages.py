"""A recipe, from files to a checkpoint that carries its story; every stage goes on where it was stopped."""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from zflipon.config import HELD_OUT_FOLDER, PROBABILITY_DECIMALS, Recipe, StageConfig
from zflipon.errors import OutputError, RecipeError, format_names
from zflipon.inference.decoding import calibrate
from zflipon.inference.settings import resolve_strands
from zflipon.jobs.distributed import process_state
from zflipon.metrics import Confusion, ScoreHistogram
from zflipon.models import Calibration, Checkpoint, create, get_family, load, save, start
from zflipon.models.adapters import attach, thaw
from zflipon.models.hub import locate
from zflipon.models.metadata import OBJECTIVES, ModelMetadata
from zflipon.tokenization.bpe_training import train_bpe
from zflipon.tokenization.tokenizers import BpeTokenizer, DnaTokenizer
from zflipon.training.calibration import bend, platt
from zflipon.training.curves import CURVES, plot_curves
from zflipon.training.dataset import TrainingData, read_material
from zflipon.training.evaluators import Counts, Measures, pooled, read_counts, uncalibrated, write_counts
from zflipon.training.history import VALIDATION, best_row, read_rows
from zflipon.training.kmers import require_soft_masked
from zflipon.training.loop import fit, monitored
from zflipon.training.model_card import write_card
from zflipon.training.readout import refit
from zflipon.training.recipe import Setting, inheritance
from zflipon.training.result_tables import test_table

log = logging.getLogger("zflipon")

TOLD_THRESHOLDS = (0.3, 0.5, 0.8)
"""Probabilities for which a checkpoint's story tells precision and recall."""


COUNTS = "counts.npz"
"""In the folder of the stages: how many bases of what validates have each log-odds, with a label and without."""

_NOTES = {
    False: "calibration and threshold, and weights where a stage evaluates, were chosen here",
    True: "of twins, each trained without the contigs that it tells of; calibration and threshold were chosen here",
}
_CHOSEN_THERE = {False: "which chose the weights too", True: "which chose calibration and threshold too"}
"""Of a model by itself, and of one that is measured by twins."""


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
    labelled = any(stage.objective != "mlm" for stage in recipe.stage)
    training_data = read_material(recipe.data, labelled, recipe.features)
    state = process_state()
    with state.main_process_first():  # the others find the folder claimed, and later the tokenizer trained
        _claim(recipe, out, restart and state.is_main_process)
        if (out / "config.json").exists():
            log.info("%s is finished already", out)
            return load(out, OBJECTIVES)
    twins = _twins(recipe, out, restart)
    with state.main_process_first():
        checkpoint = _beginning(recipe, training_data, out / "stages")
    training_data.view = checkpoint.module.view
    folders = [out / "stages" / f"{number}-{stage.name}" for number, stage in enumerate(recipe.stage, 1)]
    before = None
    for (_, settings), stage, folder in zip(inheritance(recipe), recipe.stage, folders, strict=True):
        _tell(stage, settings, first=before is None)
        checkpoint = _run_stage(
            _with_head(checkpoint, stage, before), stage, training_data, folder, recipe.report_to
        )
        before = folder
    checkpoint = _judged(checkpoint, recipe, training_data, folders[-1], twins)
    _finish(checkpoint, recipe, out, folders)
    return checkpoint


def _twins(recipe: Recipe, out: Path, restart: bool) -> list[Counts]:
    """Train the same without some contigs, in turn, and return what each twin says on those that it never saw."""
    found = []
    for number, contigs in enumerate(recipe.data.twins, 1):
        log.info("twin %d of %d: without %s", number, len(recipe.data.twins), format_names(contigs, 30))
        name, folder = f"{HELD_OUT_FOLDER}-{number}", out / HELD_OUT_FOLDER / str(number)
        data = replace(recipe.data, twins=(), validation_contigs=contigs)
        model = replace(recipe.model, checkpoint=_twin_of(recipe.model.checkpoint, contigs))
        train(replace(recipe, name=f"{recipe.name}-{name}", data=data, model=model), folder, restart)
        found.append(read_counts(folder / "stages" / COUNTS))
    if found:
        log.info("now on all contigs")
    return found


def _twin_of(checkpoint: str | None, contigs: Sequence[str]) -> str | None:
    """Return the twin of a checkpoint that was trained without some contigs, or itself where it has none."""
    if checkpoint is None:
        return None
    for config in sorted((Path(checkpoint) / HELD_OUT_FOLDER).glob("*/config.json")):
        told = locate(config.parent).config.get("zflipon", {}).get("training", {})
        if set(told.get("validation_contigs", ())) == set(contigs):
            log.info("it starts from %s", config.parent)
            return str(config.parent)
    return checkpoint


def _tell(stage: StageConfig, settings: list[Setting], first: bool) -> None:
    """Say of each setting whether the stage inherits it or overrides it."""
    own = [
        f"{each.name} = {each.value!r}" + ("" if first else f" (was {each.before!r})")
        for each in settings
        if not each.inherited
    ]
    rest = [f"{each.name} = {each.value!r}" for each in settings if each.inherited]
    log.info("stage %s overrides %s", stage.name, ", ".join(own) or "nothing")
    log.info(
        "stage %s inherits %s: %s",
        stage.name,
        "the defaults" if first else "from the stage before",
        ", ".join(rest),
    )


def _refuse_formula(family: str) -> None:
    if not get_family(family).trainable:
        raise RecipeError(f"{family} is a formula: nothing in it is trained; choose another model")


def _refuse_base_head(recipe: Recipe, family: str) -> None:
    """Refuse what only a base head learns, for a family that decides bases without one."""
    for one in recipe.stage:
        if one.readout:
            raise RecipeError(
                f"stage {one.name}: {family} has no base head whose readout could be fitted: set readout = 0"
            )
        if one.auxiliary:
            raise RecipeError(
                f"stage {one.name}: {family} learns one thing at a time, having no base head: leave auxiliary out"
            )


def _with_head(checkpoint: Checkpoint, stage: StageConfig, before: Path | None) -> Checkpoint:
    """Return the checkpoint with the stage's head: a new one where the objective changes."""
    if before is None or stage.objective == checkpoint.module.objective:
        return checkpoint
    log.info(
        "stage %s: the objective is '%s' now: a head of its own starts anew", stage.name, stage.objective
    )
    torch.manual_seed(stage.seed)
    found = start(before / "model", stage.objective)
    return replace(found, files=checkpoint.files)


def _claim(recipe: Recipe, out: Path, restart: bool) -> None:
    """Make the folder this recipe's, or refuse one that is another's or finished."""
    record = out / "stages" / "recipe.json"
    if restart:
        shutil.rmtree(out / "stages", ignore_errors=True)
        (out / "config.json").unlink(missing_ok=True)  # without which a folder is no checkpoint
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


def _beginning(recipe: Recipe, training_data: TrainingData, folder: Path) -> Checkpoint:
    """Return the untrained checkpoint: a given one under the first stage's head, or a family's random weights."""
    stage, model = recipe.stage[0], recipe.model
    head = {**model.base_head, **({"tracks": len(training_data.tracks)} if training_data.tracks else {})}
    settings = {**model.shape, **({"base_head": head} if head else {})}
    features = training_data.features.features if training_data.features else ()
    if features or model.checkpoint:
        settings["features"] = len(features)
    torch.manual_seed(stage.seed)
    if model.checkpoint:
        checkpoint = start(model.checkpoint, stage.objective, recipe.tokenizer.max_token_length, **settings)
        _warn_of_known(model.checkpoint, checkpoint.metadata, training_data)
    else:
        _refuse_formula(model.family)  # before the tokenizer, which it has no need of either
        tokenizer = _tokenizer(recipe, training_data, folder / "tokenizer.json")
        checkpoint = create(model.family, stage.objective, tokenizer, **settings)
    if not checkpoint.module.has_base_head:
        _refuse_base_head(recipe, checkpoint.metadata.family)
    _refuse_formula(checkpoint.metadata.family)
    _refuse_unmasked(checkpoint, recipe, training_data)
    bears = bool(features) and recipe.features.drop > 0
    both = resolve_strands(model, checkpoint.metadata)
    metadata = replace(checkpoint.metadata, features=features, allows_missing_features=bears, both_strands=both)
    checkpoint = replace(checkpoint, metadata=metadata)
    if features:
        log.info("%d omics tracks beside the sequence", len(features))
    if model.lora.r:
        attach(checkpoint.module, model.lora, get_family(checkpoint.metadata.family).lora_targets)
    size, trained = (
        sum(weights.numel() for weights in checkpoint.module.parameters() if weights.requires_grad or every)
        for every in (True, False)
    )
    some = "" if trained == size else f", {trained:,} of them trained"
    log.info("%s, %s head, %s parameters%s", checkpoint.metadata.family, stage.objective, f"{size:,}", some)
    return checkpoint


def _refuse_unmasked(checkpoint: Checkpoint, recipe: Recipe, training_data: TrainingData) -> None:
    """Refuse a genome that tells no repeats now, where a readout would only in the end."""
    head = getattr(checkpoint.module, "base_head", None)
    fitted = any(stage.readout and not "base_head.flips".startswith(stage.freeze) for stage in recipe.stage)
    if head is not None and head.words and fitted:
        require_soft_masked(training_data.genome, training_data.contigs["train"])


def _warn_of_known(name: str, metadata: ModelMetadata, training_data: TrainingData) -> None:
    """Say so where a checkpoint was trained on what is kept apart to measure it."""
    apart = {*training_data.contigs["validation"], *training_data.contigs["test"]}
    known = sorted(apart.intersection(metadata.training.get("contigs", ())))
    if known:
        log.warning(
            "%s was trained on %s, kept apart here: figures on them flatter it", name, format_names(known, 30)
        )


def _tokenizer(recipe: Recipe, training_data: TrainingData, path: Path) -> DnaTokenizer:
    """Return the tokenizer of a model that starts from random weights: the family's own, or one that is trained."""
    kind = get_family(recipe.model.family)
    if not kind.reads_tokens:
        if recipe.tokenizer.train:
            raise RecipeError(
                f"[tokenizer] train = true: {recipe.model.family} reads bases and needs no tokenizer"
            )
        return kind.tokenizer()
    if not recipe.tokenizer.train:
        raise RecipeError("[tokenizer] train = true is needed where no checkpoint brings a tokenizer")
    if path.exists():
        return BpeTokenizer.from_file(path)
    tokenizer = train_bpe(
        list(training_data.stretches(recipe.tokenizer.sample, recipe.stage[0].seed)),
        recipe.tokenizer.vocab_size,
        recipe.tokenizer.max_token_length or 16,
    )
    tokenizer.save(path.parent)
    log.info("trained a tokenizer of %d tokens", tokenizer.vocab_size)
    return tokenizer


def _run_stage(
    checkpoint: Checkpoint,
    stage: StageConfig,
    training_data: TrainingData,
    folder: Path,
    report_to: tuple[str, ...],
) -> Checkpoint:
    done = folder / "model"
    if (done / "config.json").exists():
        log.info("stage %s is done already", stage.name)
        return load(done, OBJECTIVES)
    metadata = replace(
        checkpoint.metadata,
        window=stage.window,
        margin=stage.margin,
        label_threshold=stage.label_threshold,
        label_comparison=stage.label_comparison,
    )
    checkpoint = replace(checkpoint, metadata=metadata)
    checkpoint.module.config.class_weights = stage.class_weights and list(stage.class_weights)
    if stage.dropout is not None:
        for name, module in checkpoint.module.named_modules():
            if isinstance(module, torch.nn.Dropout) and "lora_" not in name:  # adapters have their own
                module.p = stage.dropout
            elif (
                isinstance(module, torch.nn.RNNBase) and module.num_layers > 1
            ):  # which drops between its layers
                module.dropout = stage.dropout
    _freeze(checkpoint.module, stage)
    if stage.steps or stage.epochs:
        fit(checkpoint, training_data.source(stage), training_data.evaluator(stage), folder, report_to)
    if stage.readout:
        refit(checkpoint, training_data, stage.readout)
    _save_once(checkpoint, done)
    return checkpoint


def _freeze(module: torch.nn.Module, stage: StageConfig) -> None:
    """Leave a stage's frozen weights out of its training, and take those of the stage before in again."""
    names = [name for name, _ in module.named_parameters()]
    for beginning in stage.freeze:
        if not any(name.startswith(beginning) for name in names):
            raise RecipeError(f"stage {stage.name}: freeze: no weights begin with '{beginning}'")
    thaw(module)
    for name, weights in module.named_parameters():
        if name.startswith(stage.freeze):
            weights.requires_grad = False


def _save_once(checkpoint: Checkpoint, folder: Path) -> None:
    """Save by the first of the processes, while the others wait."""
    state = process_state()
    if state.is_main_process:
        save(checkpoint, folder)
    state.wait_for_everyone()


def _judged(
    checkpoint: Checkpoint,
    recipe: Recipe,
    training_data: TrainingData,
    folder: Path,
    twins: Sequence[Counts] = (),
) -> Checkpoint:
    """Calibrate and choose the threshold on what validates, measure on what tests, and write the story.

    Where there are twins, what they say on the contigs that each of them never saw is what validates.
    """
    stage = recipe.stage[-1]
    checkpoint = uncalibrated(checkpoint)
    quality: dict = {}
    metadata = replace(checkpoint.metadata, training=_training(recipe, training_data))
    measured = best_row(read_rows(folder / VALIDATION), monitored(stage))
    if measured:
        told = {name: _short(value) for name, value in measured.items() if name != "step"}
        quality["validation"] = {"on": training_data.told("validation"), "step": measured["step"], **told}
    evaluators = {
        part: training_data.genome_judge(stage, part) for part in ("validation", training_data.test_part)
    }
    counts = {
        part: evaluator.histograms(checkpoint, stage) for part, evaluator in evaluators.items() if evaluator
    }
    if twins:
        counts["validation"] = pooled(twins)
    if "validation" in counts:
        _store_counts(counts["validation"], folder.parent / COUNTS)
        histogram = counts["validation"]["genome"]
        line = Calibration(*platt(histogram))
        calibration = replace(line, correction=bend(histogram, line.scale, line.bias))
        _, odds = histogram.best_f1()
        threshold = _probability(0.0 if odds is None else odds, calibration)
        metadata = replace(metadata, calibration=calibration, threshold=threshold)
        quality |= _quality(histogram, training_data) | {"by_threshold": _expected(histogram, calibration)}
        quality["held_out_models"] = [
            {"contigs": list(contigs), **_of_bases(each["genome"], metadata)}
            for contigs, each in zip(recipe.data.twins, twins, strict=True)
        ]
        log.info("validation: %s; threshold %s", quality, threshold)
    quality["test"] = _tested(
        checkpoint, stage, training_data, metadata, counts.get(training_data.test_part, {})
    )
    return replace(
        checkpoint, metadata=replace(metadata, quality={key: each for key, each in quality.items() if each})
    )


def _store_counts(counts: Counts, path: Path) -> None:
    """Store what validates, by the first of the processes."""
    state = process_state()
    if state.is_main_process:
        write_counts(path, counts)
    state.wait_for_everyone()


def _training(recipe: Recipe, training_data: TrainingData) -> dict:
    """Return how and on what the model was trained, in JSON's types."""
    contigs = {part: list(names) for part, names in training_data.contigs.items()}
    told = {
        "recipe": recipe.name,
        "description": recipe.description,
        "stages": [_plain(asdict(stage)) for stage in recipe.stage],
    }
    if training_data.sequences:
        files = (recipe.data.sequences, recipe.data.validation_sequences, recipe.data.test_sequences)
        return told | {
            "sequences": [Path(path).name for path in files if path],
            "labels": int(training_data.sequences["train"].positive.sum()),
        }
    return told | {
        "contigs": contigs["train"],
        "validation_contigs": contigs["validation"],
        "test_contigs": contigs["test"],
        "split": recipe.data.split,
        "bases": sum(training_data.contigs["train"].values()),
        "labels": sum(
            len(rows) for contig, rows in training_data.labels.items() if contig in contigs["train"]
        ),
    }


def _tested(
    checkpoint: Checkpoint,
    stage: StageConfig,
    training_data: TrainingData,
    metadata: ModelMetadata,
    counts: dict[str, ScoreHistogram],
) -> dict:
    """Measure on what was kept for the test, by both protocols: the 1:3 sample, and every base."""
    part, found = training_data.test_part, {}
    windows = training_data.test_windows(stage, part)
    if windows is not None:
        # the published figures are of bases, called where the model thinks labelled likelier than not
        measures = {
            name.removeprefix("base_"): each for name, each in windows.measure(checkpoint, stage).items()
        }
        found["sampled"] = {"windows": len(windows.windows), **_shortened(measures)}
    for protocol, histogram in counts.items():
        found.setdefault(protocol, _of_bases(histogram, metadata))
    if "genome" in found:
        found["genome"]["estimated"] = not training_data.judged_on(part)
    also = (
        ""
        if part == "test"
        else f", {_CHOSEN_THERE[bool(training_data.data.twins)]}: nothing is kept for a test"
    )
    return found and {"on": training_data.told(part) + also, **found}


def _of_bases(histogram: ScoreHistogram, metadata: ModelMetadata) -> dict:
    """Return what bases tell that are called as the model calls them by default."""
    counts = _at(histogram, metadata.threshold, metadata.calibration)
    called = {name: getattr(counts, name) for name in ("f1", "mcc", "precision", "recall")}
    free = {"average_precision": histogram.average_precision(), "best_f1": histogram.best_f1()[0]}
    return _shortened({**free, **called, "threshold": metadata.threshold})


def _finish(checkpoint: Checkpoint, recipe: Recipe, out: Path, folders: list[Path]) -> None:
    """Write the checkpoint, its card and its curves, and say what it reached; by the first of the processes."""
    state = process_state()
    if state.is_main_process:
        curves = plot_curves(folders, out / CURVES, [monitored(stage) for stage in recipe.stage])
        if not curves:
            log.info("no training curve: pip install 'zflipon[plot]' brings matplotlib")
        size = sum(weights.numel() for weights in checkpoint.module.parameters())
        write_card(out, recipe.name, checkpoint.metadata, size, curves)
        save(checkpoint, out)  # last: a folder with a config is finished
        if checkpoint.metadata.quality.get("test"):
            log.info(
                "test: %s\n%s",
                checkpoint.metadata.quality["test"]["on"],
                test_table({recipe.name: checkpoint.metadata.quality}),
            )
    state.wait_for_everyone()


def _plain(table: dict) -> dict:
    """Write what JSON has no number for as a text."""
    return {key: str(value) if value == math.inf else value for key, value in table.items()}


def _short(value: float) -> float:
    return round(float(value), 4)


def _shortened(measures: Measures) -> Measures:
    return {name: _short(value) for name, value in measures.items()}


def _probability(odds: float, calibration: Calibration) -> float:
    """Return the probability that stands for log-odds of the model, to the decimals of a track."""
    return round(1 / (1 + math.exp(-float(calibrate(np.array(odds), calibration)))), PROBABILITY_DECIMALS)


def _at(histogram: ScoreHistogram, threshold: float, calibration: Calibration) -> Confusion:
    """Return the counts when bases are called whose probability, as a track has it, reaches the threshold."""
    odds, without, labelled = histogram.counts()
    written = np.round(
        1 / (1 + np.exp(-calibrate(odds.astype(np.float64), calibration))), PROBABILITY_DECIMALS
    )
    called = written >= np.round(threshold, PROBABILITY_DECIMALS)
    tp, fp = int(labelled[called].sum()), int(without[called].sum())
    return Confusion(tp, fp, int(labelled.sum()) - tp, int(without.sum()) - fp)


def _quality(histogram: ScoreHistogram, training_data: TrainingData) -> dict:
    best_f1, odds = histogram.best_f1()
    counts = histogram.confusion_at(math.inf if odds is None else odds)
    return {
        "contigs": list(training_data.judged_on("validation")) or training_data.told("validation"),
        "protocol": "genome",
        "average_precision": round(histogram.average_precision(), 4),
        "f1": round(best_f1, 4),
        "precision": round(counts.precision, 4),
        "recall": round(counts.recall, 4),
        "mcc": round(counts.mcc, 4),
        "note": _NOTES[bool(training_data.data.twins)],
    }


def _expected(histogram: ScoreHistogram, calibration: Calibration) -> dict[str, list[float]]:
    """Return precision and recall at some thresholds that a user may ask for."""
    found = {}
    for threshold in TOLD_THRESHOLDS:
        counts = _at(histogram, threshold, calibration)
        found[str(threshold)] = [round(counts.precision, 3), round(counts.recall, 3)]
    return found
