"""The model before the first step: weights of a checkpoint or random ones, tokenizer, head, adapters, frozen weights.

Refuses combinations that cannot be trained before any work is done.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import torch

from zflipon.config import ModelConfig, Recipe, StageConfig
from zflipon.errors import RecipeError, format_names
from zflipon.inference.settings import resolve_strands
from zflipon.models import Checkpoint, create, get_family, start
from zflipon.models.adapters import attach, unfreeze
from zflipon.models.base import DnaModel
from zflipon.models.metadata import ModelMetadata
from zflipon.models.weights import current_name
from zflipon.tokenization.bpe_training import train_bpe
from zflipon.tokenization.tokenizers import BpeTokenizer, DnaTokenizer
from zflipon.training.dataset import TrainingData
from zflipon.training.kmer_tables import require_soft_masked

log = logging.getLogger("zflipon")

DEFAULT_MAX_TOKEN_LENGTH = 16
"""Longest token of a trained tokenizer if the recipe sets no limit."""


def initial_checkpoint(recipe: Recipe, training_data: TrainingData, folder: Path) -> Checkpoint:
    """Return the model to train: a checkpoint with the head of the first stage, or a family with random weights.

    Parameters
    ----------
    recipe : Recipe
    training_data : TrainingData
    folder : Path
        Of the stages; gets a trained tokenizer.

    Raises
    ------
    ZfliponError
        If the model cannot be loaded, or cannot be trained as the recipe says.
    """
    stage, model = recipe.stage[0], recipe.model
    features = training_data.features.features if training_data.features else ()
    settings = _model_settings(recipe, training_data)
    torch.manual_seed(stage.seed)
    if model.checkpoint:
        checkpoint = start(model.checkpoint, stage.objective, recipe.tokenizer.max_token_length, **settings)
        _warn_of_seen_contigs(model.checkpoint, checkpoint.metadata, training_data)
    else:
        family = _required_family(model)
        _require_trainable(family)  # before its tokenizer is trained
        tokenizer = _initial_tokenizer(recipe, training_data, folder / "tokenizer.json")
        checkpoint = create(family, stage.objective, tokenizer, **settings)
    _check_model(checkpoint, recipe, training_data)
    metadata = replace(
        checkpoint.metadata,
        features=features,
        allows_missing_features=bool(features) and recipe.features.drop > 0,
        both_strands=resolve_strands(model, checkpoint.metadata),
    )
    checkpoint = replace(checkpoint, metadata=metadata)
    if model.lora.r:
        attach(checkpoint.module, model.lora, get_family(metadata.family).lora_targets)
    _log_size(checkpoint, stage)
    return checkpoint


def _model_settings(recipe: Recipe, training_data: TrainingData) -> dict[str, object]:
    """Return the settings of the model's configuration that the recipe and its data determine."""
    tracks, features = len(training_data.tracks), training_data.features
    head = {**recipe.model.base_head, **({"tracks": tracks} if tracks else {})}
    settings = {**recipe.model.shape, **({"base_head": head} if head else {})}
    if features or recipe.model.checkpoint:
        settings["features"] = len(features.features) if features else 0
    return settings


def _log_size(checkpoint: Checkpoint, stage: StageConfig) -> None:
    weights = list(checkpoint.module.parameters())
    size = sum(each.numel() for each in weights)
    trained = sum(each.numel() for each in weights if each.requires_grad)
    log.info(
        "%s, %s head, %s parameters%s",
        checkpoint.metadata.family,
        stage.objective,
        f"{size:,}",
        "" if trained == size else f", {trained:,} of them trained",
    )
    if checkpoint.metadata.features:
        log.info("%d omics tracks in addition to the sequence", len(checkpoint.metadata.features))


def _check_model(checkpoint: Checkpoint, recipe: Recipe, training_data: TrainingData) -> None:
    """Refuse what this family or this genome cannot train."""
    family = checkpoint.metadata.family
    _require_trainable(family)
    for stage in recipe.stage if not checkpoint.module.has_base_head else ():
        if stage.readout_penalty:
            raise RecipeError(f"stage {stage.name}: {family} has no base head; set readout_penalty = 0")
        if stage.auxiliary:
            raise RecipeError(f"stage {stage.name}: {family} has no base head; remove auxiliary")
    head = getattr(checkpoint.module, "base_head", None)
    fitted = any(
        stage.readout_penalty and not "base_head.is_formed".startswith(_frozen_prefixes(stage))
        for stage in recipe.stage
    )
    if head is not None and head.kmers is not None and fitted:  # the readout would fail after all training
        require_soft_masked(training_data.required_genome, training_data.contigs["train"])


def _required_family(model: ModelConfig) -> str:
    if model.family is None:
        raise RecipeError("model.family must be set, as in --set model.family=NAME")
    return model.family


def _require_trainable(family: str) -> None:
    if not get_family(family).trainable:
        raise RecipeError(f"{family} is a formula without weights to train; choose another model")


def _warn_of_seen_contigs(name: str, metadata: ModelMetadata, training_data: TrainingData) -> None:
    """Warn if the checkpoint was trained on contigs that are to evaluate the new model."""
    reserved = {*training_data.contigs["validation"], *training_data.contigs["test"]}
    seen = sorted(reserved.intersection(metadata.training.get("contigs", ())))
    if seen:
        log.warning(
            "%s was trained on %s, which are validation or test contigs here: figures on them will be too high",
            name,
            format_names(seen, 30),
        )


def _initial_tokenizer(recipe: Recipe, training_data: TrainingData, path: Path) -> DnaTokenizer:
    """Return the tokenizer of a model with random weights: the family's fixed one, or one trained on the data."""
    family = get_family(_required_family(recipe.model))
    if not family.reads_tokens:
        if recipe.tokenizer.train:
            raise RecipeError(
                f"tokenizer.train: expected false; {recipe.model.family} reads single bases and has no tokenizer"
            )
        return family.tokenizer()
    if not recipe.tokenizer.train:
        raise RecipeError("tokenizer.train: expected true for a model with random weights")
    if path.exists():
        return BpeTokenizer.from_file(path)
    tokenizer = train_bpe(
        list(training_data.tokenizer_text(recipe.tokenizer.sample_bases, recipe.stage[0].seed)),
        recipe.tokenizer.vocab_size,
        recipe.tokenizer.max_token_length or DEFAULT_MAX_TOKEN_LENGTH,
    )
    tokenizer.save(path.parent)
    log.info("trained a tokenizer with %d tokens", tokenizer.vocab_size)
    return tokenizer


def with_stage_head(checkpoint: Checkpoint, stage: StageConfig, previous: Path | None) -> Checkpoint:
    """Return the checkpoint with the head of a stage: a new head if the objective has changed.

    Parameters
    ----------
    checkpoint : Checkpoint
    stage : StageConfig
    previous : Path or None
        Folder of the stage before; None in the first stage.
    """
    if previous is None or stage.objective == checkpoint.module.objective:
        return checkpoint
    log.info("stage %s: new objective '%s', so the head is initialised anew", stage.name, stage.objective)
    torch.manual_seed(stage.seed)
    return replace(start(previous / "model", stage.objective), files=checkpoint.files)


def configure_stage(checkpoint: Checkpoint, stage: StageConfig) -> Checkpoint:
    """Return the checkpoint with the metadata of a stage; set loss, dropout and frozen weights of its module."""
    metadata = replace(
        checkpoint.metadata,
        window=stage.window,
        margin=stage.margin,
        label_threshold=stage.label_threshold,
        label_comparison=stage.label_comparison,
    )
    module = checkpoint.module
    module.config.class_weights = stage.class_weights and list(stage.class_weights)
    module.label_smoothing = stage.label_smoothing
    if stage.dropout is not None:
        _set_dropout(module, stage.dropout)
    freeze_weights(module, stage)
    return replace(checkpoint, metadata=metadata)


def _set_dropout(module: torch.nn.Module, dropout: float) -> None:
    for name, layer in module.named_modules():
        if isinstance(layer, torch.nn.Dropout) and "lora_" not in name:  # adapters have a dropout setting
            layer.p = dropout
        elif isinstance(layer, torch.nn.RNNBase) and layer.num_layers > 1:  # it drops between its layers
            layer.dropout = dropout


def freeze_weights(module: DnaModel, stage: StageConfig) -> None:
    """Exclude the frozen weights of a stage from training, and include those that only earlier stages froze.

    Raises
    ------
    RecipeError
        If a prefix matches no weights.
    """
    frozen = _frozen_prefixes(stage)
    names = [name for name, _ in module.named_parameters()]
    for prefix, current in zip(stage.freeze, frozen, strict=True):
        if not any(name.startswith(current) for name in names):
            raise RecipeError(f"stage {stage.name}: freeze: no name of a weight starts with '{prefix}'")
    unfreeze(module)
    for name, weights in module.named_parameters():
        if name.startswith(frozen):
            weights.requires_grad = False


def _frozen_prefixes(stage: StageConfig) -> tuple[str, ...]:
    """Return the prefixes of frozen weights; a recipe may have the names of earlier versions."""
    return tuple(map(current_name, stage.freeze))
