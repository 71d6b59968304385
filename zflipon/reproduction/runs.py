"""Training runs of the paper's recipes: their data, their weights, and the runs that a row of a table needs."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zflipon.config import Recipe
from zflipon.errors import ConfigError, InputError, format_names, suggest
from zflipon.reproduction.catalogue import HUB, SMALL, PaperRow, pretrained_models, recipe_path
from zflipon.training.recipe import PlannedRun, load_recipe, planned_runs

log = logging.getLogger("zflipon")

SMALL_EPOCHS, SMALL_LEARNING_RATE = 4, 3e-3
"""Longest training and learning rate of small models, which start from random weights."""

NOT_THE_PAPER = (
    "small models with random weights: the figures show that the protocol runs, not how good a model is"
)
SYNTHETIC = "synthetic DNA: no genome and labels were given"


@dataclass(frozen=True)
class Run:
    """A finished training run.

    Attributes
    ----------
    folder : Path
        Checkpoint.
    quality : mapping
        Figures, as in the metadata of the checkpoint.
    recipe : Recipe
    """

    folder: Path
    quality: Mapping[str, Any]
    recipe: Recipe


@dataclass
class RunInputs:
    """Data and weights of the runs.

    Attributes
    ----------
    out : Path
        Folder of all runs.
    variant : str
        One of `zflipon.reproduction.catalogue.VARIANTS`.
    genome, labels, blacklist, gue : Path or None
        FASTA, BED, BED, and a folder with ``train.csv``, ``dev.csv`` and ``test.csv``. Without genome and labels, or
        without GUE, synthetic data are made.
    weights : dict of str to str
        Hub id of a pretrained model → folder. Empty: small models are made.
    settings : tuple of str
        Settings of all recipes, as for ``--set``.
    restart : bool
        Start runs over.
    """

    out: Path
    variant: str = "printed"
    genome: Path | None = None
    labels: Path | None = None
    blacklist: Path | None = None
    gue: Path | None = None
    weights: dict[str, str] = field(default_factory=dict)
    settings: tuple[str, ...] = ()
    restart: bool = False

    def __post_init__(self):
        if (self.genome is None) != (self.labels is None):
            missing = "--labels" if self.labels is None else "--genome"
            raise ConfigError(f"genome and labels belong together; give {missing}, or neither of them")

    @property
    def small(self) -> bool:
        """Whether small models are made."""
        return not self.weights

    def check_data(self, needs: tuple[str, ...]) -> None:
        """Refuse to train published weights on synthetic data.

        Raises
        ------
        ConfigError
            If data are missing.
        """
        if not self.small and "labels" in needs and self.genome is None:
            raise ConfigError("published weights need real data: give --genome and --labels")
        if not self.small and "GUE" in needs and self.gue is None:
            raise ConfigError(
                "published weights need real data: give --gue, the folder of prom_core_all of GUE"
            )

    def notes(self, needs: tuple[str, ...]) -> list[str]:
        """Return what to know about figures of these runs."""
        synthetic = ("labels" in needs and self.genome is None) or ("GUE" in needs and self.gue is None)
        return [NOT_THE_PAPER] * self.trains_small(needs) + [SYNTHETIC] * synthetic

    def trains_small(self, needs: tuple[str, ...]) -> bool:
        """Whether a table with these needs is reproduced with small models."""
        return self.small and "weights" in needs

    def genome_files(self) -> tuple[Path, Path]:
        """Return the FASTA and the labels; synthetic ones are made if none were given."""
        if self.genome is not None and self.labels is not None:
            return self.genome, self.labels
        from zflipon.reproduction.small_inputs import make_small_genome

        return make_small_genome(self.out / "small" / "genome")

    def sequence_files(self) -> Path:
        """Return the folder of GUE; synthetic sequences are made if none was given."""
        if self.gue is not None:
            missing = [name for name in ("train.csv", "test.csv") if not (self.gue / name).is_file()]
            if missing:
                raise InputError(
                    f"{self.gue}: has no {format_names(missing)}; expected the folder of prom_core_all of GUE"
                )
            return self.gue
        from zflipon.reproduction.small_inputs import make_small_sequences

        return make_small_sequences(self.out / "small" / "sequences")

    def checkpoint(self, name: str) -> str:
        """Return where the weights of a pretrained model are: folder or Hub id."""
        if not self.small:
            return self.weights.get(name, name)
        from zflipon.reproduction import small_inputs

        model = next(each for each in pretrained_models() if each.checkpoint == name)
        genome, _ = small_inputs.make_small_genome(self.out / "small" / "genome")
        tokenizer = small_inputs.small_tokenizer(model.family, small_inputs.tokenizer_texts(genome))
        return str(
            small_inputs.make_small_model(model, self.out / "small" / "weights" / model.key, tokenizer)
        )


def parse_weights(options: tuple[str, ...]) -> dict[str, str]:
    """Parse ``--weights``: ``small``, ``hub``, or ``MODEL=FOLDER`` for models of the paper.

    Returns
    -------
    dict of str to str
        Hub id → folder or Hub id; empty for small models.

    Raises
    ------
    ConfigError
        If a model is unknown, or ``small`` is combined with others.
    """
    ids = {model.key: model.checkpoint for model in pretrained_models()}
    weights: dict[str, str] = {}
    for option in options:
        key, equals, folder = option.partition("=")
        if option == HUB:
            weights = {**dict(zip(ids.values(), ids.values(), strict=True)), **weights}
        elif equals and key in ids and folder:
            weights[ids[key]] = folder
        elif option != SMALL:
            raise ConfigError(
                f"--weights {option}: expected {SMALL}, {HUB} or MODEL=FOLDER with one of {format_names(ids)}"
                f"{suggest(key, ids)}"
            )
    if SMALL in options and weights:
        raise ConfigError("--weights small: cannot be combined with other weights; give one or the other")
    return weights


def train_row(row: PaperRow, inputs: RunInputs) -> list[Run]:
    """Train the runs that a row needs, several for folds. Finished runs are loaded.

    Raises
    ------
    ZfliponError
        As `zflipon.training.pipeline.train`.
    """
    from zflipon.training.pipeline import train

    name = row.recipe_of(inputs.variant)
    runs = []
    for planned in _planned(name, row, inputs):
        folder = inputs.out / ("small" if inputs.small else "runs") / name / (planned.name or "run")
        log.info("%s: %s", row.name, folder)
        checkpoint = train(planned.recipe, folder, inputs.restart)
        runs.append(Run(folder, checkpoint.metadata.quality, planned.recipe))
    return runs


def _planned(name: str, row: PaperRow, inputs: RunInputs) -> Iterator[PlannedRun]:
    """Yield the runs of a recipe that have the settings of a row."""
    path = recipe_path(name)
    settings = [*_run_settings(load_recipe(path), inputs), *inputs.settings]
    for planned in planned_runs(path, settings):
        if all(_value_at(planned.recipe, key) == value for key, value in row.settings.items()):
            yield planned


def _run_settings(recipe: Recipe, inputs: RunInputs) -> Iterator[str]:
    """Yield the settings of data, weights and, for small models, a short training."""
    yield f'model.checkpoint="{inputs.checkpoint(str(recipe.model.checkpoint))}"'
    if recipe.stage[-1].objective == "sequence":
        folder = inputs.sequence_files()
        yield f'data.sequences="{folder / "train.csv"}"'
        yield f'data.test_sequences="{folder / "test.csv"}"'
        if recipe.data.select_on == "validation":
            yield f'data.validation_sequences="{folder / "dev.csv"}"'
    else:
        genome, labels = inputs.genome_files()
        yield f'data.genome="{genome}"'
        yield f'data.labels="{labels}"'
        if inputs.blacklist is not None:
            yield f'data.blacklist="{inputs.blacklist}"'
    for stage in recipe.stage if inputs.small else ():
        yield f"stage.{stage.name}.learning_rate={SMALL_LEARNING_RATE}"
        yield f"stage.{stage.name}.epochs={min(stage.epochs, SMALL_EPOCHS)}"
        yield f"stage.{stage.name}.evaluations={min(stage.evaluations, SMALL_EPOCHS)}"


def _value_at(recipe: Recipe, key: str) -> Any:
    section, _, name = key.partition(".")
    return getattr(recipe.stage[-1] if section == "stage" else getattr(recipe, section), name)
