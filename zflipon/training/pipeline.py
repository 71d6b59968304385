"""A training run: recipe → trained, calibrated and documented checkpoint. An interrupted run resumes.

The steps are in their own modules: data, initial model, the loop of a stage, assessment, model card.
"""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from zflipon.config import HELD_OUT_FOLDER, Recipe, StageConfig
from zflipon.errors import format_names
from zflipon.genome.split_files import SPLITS, split_text
from zflipon.jobs.distributed import broadcast_from_main, compute_in_main_first, process_state
from zflipon.jobs.locks import OutputLocks
from zflipon.models import Checkpoint, load, save
from zflipon.models.files import locate
from zflipon.models.metadata import OBJECTIVES
from zflipon.models.weights import count_parameters
from zflipon.tracks.atomic import atomic_file, raise_output_errors
from zflipon.training.assessment import assess
from zflipon.training.calibration import require_scikit_learn
from zflipon.training.context_stage import train_context_stage
from zflipon.training.curves import CURVES, plot_curves
from zflipon.training.dataset import TrainingData, read_training_data
from zflipon.training.domain import domain_of
from zflipon.training.evaluators import Histograms, read_histograms
from zflipon.training.initialization import configure_stage, initial_checkpoint, with_stage_head
from zflipon.training.loop import train_stage
from zflipon.training.model_card import describe_neighbours, write_card
from zflipon.training.output_folder import OutputFolder
from zflipon.training.readout import fit_readout
from zflipon.training.readout_sources import unseen_sources
from zflipon.training.recipe import StageSetting, stage_settings
from zflipon.training.result_tables import test_table

log = logging.getLogger("zflipon")


def train(recipe: Recipe, out: Path, restart: bool = False) -> Checkpoint:
    """Run a recipe.

    Parameters
    ----------
    recipe : Recipe
    out : Path
        Folder of the finished checkpoint. The stages, with which an interrupted run resumes, are in ``out/stages``.
    restart : bool
        Delete an earlier run in `out` and start over.

    Returns
    -------
    Checkpoint
        As saved in `out`.

    Raises
    ------
    ZfliponError
        If a file is missing or does not fit, if `out` contains another run or is in use, or if the loss is no longer a
        finite number.
    """
    labelled = any(stage.objective != "mlm" for stage in recipe.stage)
    if labelled:
        require_scikit_learn()
    training_data = read_training_data(recipe.data, labelled, recipe.features)
    output, state = OutputFolder(Path(out)), process_state()
    with ExitStack() as stack:

        def prepare() -> bool:
            with raise_output_errors(output.path):
                output.path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(OutputLocks([output.path]))
            if output.prepare(recipe, restart):
                log.info("resuming the run in %s", output.path)
            return output.is_finished

        if broadcast_from_main(state, prepare):
            log.info("%s is already finished", output.path)
            return load(output.path, OBJECTIVES)
        return _train(recipe, output, training_data, restart)


def _train(recipe: Recipe, output: OutputFolder, training_data: TrainingData, restart: bool) -> Checkpoint:
    state = process_state()
    held_out = _train_held_out_models(recipe, output, restart)
    # the other processes read the tokenizer that the main process trains
    checkpoint = compute_in_main_first(
        state, lambda: initial_checkpoint(recipe, training_data, output.stages)
    )
    training_data.view = checkpoint.module.view
    folders = [output.stage(number, stage.name) for number, stage in enumerate(recipe.stage, 1)]
    previous = None
    for (stage, settings), folder in zip(stage_settings(recipe), folders, strict=True):
        _log_settings(stage, settings, first=previous is None)
        checkpoint = with_stage_head(checkpoint, stage, previous)
        checkpoint = _run_stage(checkpoint, stage, training_data, folder, recipe.report_to)
        previous = folder
    checkpoint = assess(checkpoint, recipe, training_data, folders[-1], output.histograms, held_out)
    domain = broadcast_from_main(state, lambda: domain_of(training_data))
    checkpoint = replace(checkpoint, metadata=replace(checkpoint.metadata, domain=domain))
    _finish(checkpoint, recipe, output, folders, training_data)
    return checkpoint


def _train_held_out_models(recipe: Recipe, output: OutputFolder, restart: bool) -> list[Histograms]:
    """Train a model without each list of contigs; return its evaluation on them."""
    evaluations = []
    for number, contigs in enumerate(recipe.data.held_out_models, 1):
        log.info(
            "held-out model %d of %d: without %s",
            number,
            len(recipe.data.held_out_models),
            format_names(contigs, 30),
        )
        folder = output.held_out(number)
        data = replace(recipe.data, held_out_models=(), validation_contigs=contigs)
        model = replace(recipe.model, checkpoint=_held_out_checkpoint(recipe.model.checkpoint, contigs))
        name = f"{recipe.name}-{HELD_OUT_FOLDER}-{number}"
        train(replace(recipe, name=name, data=data, model=model), folder, restart)
        evaluations.append(read_histograms(OutputFolder(folder).histograms))
    if evaluations:
        log.info("training the model itself, on all contigs")
    return evaluations


def _held_out_checkpoint(checkpoint: str | None, contigs: Sequence[str]) -> str | None:
    """Return a held-out model of a checkpoint that never saw these contigs, or the checkpoint if it has none.

    Names may be patterns, as in a recipe.
    """
    if checkpoint is None:
        return None
    for config in sorted((Path(checkpoint) / HELD_OUT_FOLDER).glob("*/config.json")):
        training = locate(config.parent).config.get("zflipon", {}).get("training", {})
        unseen, seen = (training.get(key, ()) for key in ("validation_contigs", "contigs"))
        if all(fnmatch.filter(unseen, name) and not fnmatch.filter(seen, name) for name in contigs):
            log.info("starting from %s", config.parent)
            return str(config.parent)
    return checkpoint


def _log_settings(stage: StageConfig, settings: Sequence[StageSetting], first: bool) -> None:
    """Log which settings a stage changes, and which it inherits."""
    changed = [
        f"{each.name} = {each.value!r}" + ("" if first else f" (was {each.previous!r})")
        for each in settings
        if not each.inherited
    ]
    inherited = [f"{each.name} = {each.value!r}" for each in settings if each.inherited]
    log.info("stage %s sets %s", stage.name, ", ".join(changed) or "nothing")
    origin = "has the defaults" if first else "inherits from the stage before"
    log.info("stage %s %s: %s", stage.name, origin, ", ".join(inherited))


def _run_stage(
    checkpoint: Checkpoint,
    stage: StageConfig,
    training_data: TrainingData,
    folder: Path,
    report_to: Sequence[str],
) -> Checkpoint:
    """Train one stage and save its model; load the model if the stage is already finished."""
    finished = folder / "model"
    if (finished / "config.json").exists():
        log.info("stage %s is already finished", stage.name)
        return load(finished, OBJECTIVES)
    checkpoint = configure_stage(checkpoint, stage)
    if stage.target == "chromatin":
        # one process trains, and the others take its weights from its last checkpoint
        compute_in_main_first(
            process_state(), lambda: train_context_stage(checkpoint, stage, training_data, folder)
        )
    elif stage.trains:
        source, evaluator = training_data.batch_source(stage), training_data.evaluator(stage)
        train_stage(checkpoint, source, evaluator, folder, report_to)
    if stage.readout_penalty:
        on_unseen = stage.readout_contigs == "unseen"
        sources = unseen_sources(checkpoint, training_data) if on_unseen else ()
        fit_readout(checkpoint, training_data, stage.readout_penalty, sources)
    state = process_state()
    if state.is_main_process:
        save(checkpoint, finished)
    state.wait_for_everyone()
    return checkpoint


def _finish(
    checkpoint: Checkpoint,
    recipe: Recipe,
    output: OutputFolder,
    folders: Sequence[Path],
    training_data: TrainingData,
) -> None:
    """Write the checkpoint, its card, its training curve and its split, and log the test figures."""
    state = process_state()
    if state.is_main_process:
        rows = training_data.split_rows(recipe.stage[-1])
        if rows:
            with atomic_file(output.path / SPLITS) as part:
                part.write_text(split_text(rows), encoding="utf-8", errors="surrogateescape")
        measures = [stage.measure for stage in recipe.stage]
        has_curves = plot_curves(folders, output.path / CURVES, measures)
        if not has_curves:
            log.info("no training curve is drawn: it needs matplotlib (pip install 'zflipon[plot]')")
        parameters = count_parameters(checkpoint.module)
        write_card(output.path, recipe.name, checkpoint.metadata, parameters, has_curves)
        save(checkpoint, output.path)  # last, because a folder with a config is finished
        quality = checkpoint.metadata.quality
        if quality.get("test"):
            log.info("test: %s\n%s", quality["test"]["on"], test_table({recipe.name: quality}))
            if quality["test"].get("neighbours"):
                log.info("%s", describe_neighbours(quality))
    state.wait_for_everyone()
