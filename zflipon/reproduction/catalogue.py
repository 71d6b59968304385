"""The list of the paper's tables and sections, read from ``paper.toml``: printed values, recipes, what each one needs.

Nothing is computed here; `zflipon.reproduction.reproduce` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from zflipon.config import Recipe
from zflipon.errors import InputError, format_names, suggest
from zflipon.training.recipe import load_recipe, read_toml

FOLDER = Path(__file__).parent

RECIPES = FOLDER.parent / "recipes"
"""Folder of the recipes that come with the package; in the repository it is a link to ``train``."""

TABLES = FOLDER / "tables"
"""Folder of the published tables of token scores and rankings."""

VARIANTS = ("printed", "notebook")
"""Recipes as the text prints them, or as the authors' notebooks have them where these differ."""

SMALL = "small"
"""Weights that need no download: small models with random weights."""

HUB = "hub"
"""Weights that are downloaded from the Hugging Face Hub."""


@dataclass(frozen=True)
class PretrainedModel:
    """A pretrained model of the paper.

    Attributes
    ----------
    key : str
        Short name, for ``--weights``.
    checkpoint : str
        Hugging Face Hub id, as in the recipes.
    family : str
    config : dict
        Keys of the published ``config.json`` that identify the model, without its shape.
    """

    key: str
    checkpoint: str
    family: str
    config: dict[str, Any]


@dataclass(frozen=True)
class PaperRow:
    """A row of a table, or a model in it.

    Attributes
    ----------
    name : str
    recipe, notebook : str
        Names of recipes: as printed, and as in the notebook if it differs.
    settings : dict
        Key → value of the run, if the recipe has a sweep.
    stage : str
        Name of the stage that the row describes.
    paper : dict of str to float
        Measure → printed value.
    tokens : dict of str to float
        Token → printed score, in the printed order.
    tables : tuple of str
        Published tables to rank, in `TABLES`.
    models : dict of str to str
        Pattern of table names → model.
    join : str
        One of `zflipon.explain.ranking.JOINS`.
    published : str
        Published ranking, in `TABLES`.
    """

    name: str
    recipe: str = ""
    notebook: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    stage: str = ""
    paper: dict[str, float] = field(default_factory=dict)
    tokens: dict[str, float] = field(default_factory=dict)
    tables: Sequence[str] = ()
    models: dict[str, str] = field(default_factory=dict)
    join: str = "outer"
    published: str = ""

    def recipe_of(self, variant: str) -> str:
        """Return the name of the recipe of a variant; that of the text if the notebook does not differ."""
        return self.notebook if variant == "notebook" and self.notebook else self.recipe


@dataclass(frozen=True)
class PaperItem:
    """A table or section of the paper.

    Attributes
    ----------
    id : str
        Number of the table.
    title : str
    kind : str
        How it is reproduced; see ``paper.toml``.
    needs : tuple of str
        ``'weights'``, ``'labels'``, ``'GUE'``.
    result : str
        What a reproduction shows.
    note : str
    figures : str
        Data of the figures: ``'validation'`` or ``'test'``.
    published : dict of str to str
        Row → published table, in `TABLES`.
    rows : tuple of PaperRow
    """

    id: str
    title: str
    kind: str
    needs: tuple[str, ...]
    result: str
    rows: tuple[PaperRow, ...] = ()
    note: str = ""
    figures: str = ""
    published: dict[str, str] = field(default_factory=dict)

    @property
    def recipes(self) -> tuple[str, ...]:
        """Names of all recipes, each once."""
        names = (name for row in self.rows for name in (row.recipe, row.notebook) if name)
        return tuple(dict.fromkeys(names))


@cache
def pretrained_models() -> tuple[PretrainedModel, ...]:
    """Return the pretrained models of the paper."""
    return tuple(PretrainedModel(**table) for table in _content()["model"])


@cache
def paper_items() -> tuple[PaperItem, ...]:
    """Return the tables and sections of the paper, in its order."""
    items = []
    for table in _content()["item"]:
        rows = tuple(PaperRow(**row) for row in table.pop("row", []))
        items.append(PaperItem(**{**table, "needs": tuple(table["needs"]), "rows": rows}))
    return tuple(items)


def find_item(name: str) -> PaperItem:
    """Return a table or section by its number; raise `InputError` for an unknown one."""
    items = {item.id: item for item in paper_items()}
    if name not in items:
        raise InputError(
            f"{name}: not a table of the paper{suggest(name, items)}; expected {format_names(items, 30)}"
        )
    return items[name]


def recipe_path(name: str) -> Path:
    """Return the path of a recipe that comes with the package."""
    return RECIPES / f"{name}.toml"


def recipe_differences(printed: str, notebook: str) -> list[str]:
    """Return the settings in which two recipes differ, as ``section.key old → new``."""
    tables = [dict(_settings(load_recipe(recipe_path(name)))) for name in (printed, notebook)]
    return [
        f"`{key}` {_text(tables[0].get(key))} → {_text(tables[1].get(key))}"
        for key in dict.fromkeys([*tables[0], *tables[1]])
        if tables[0].get(key) != tables[1].get(key)
    ]


def _settings(recipe: Recipe) -> Iterator[tuple[str, object]]:
    for section in ("data", "tokenizer", "model"):
        yield from _flatten(asdict(getattr(recipe, section)), section)
    several = len(recipe.stage) > 1
    for stage in recipe.stage:
        values = {key: value for key, value in asdict(stage).items() if key != "name"}
        yield from _flatten(values, f"{stage.name}" if several else "stage")


def _flatten(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, object]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}.{key}")
        else:
            yield f"{prefix}.{key}", value


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _content() -> dict[str, Any]:
    return read_toml(FOLDER / "paper.toml")
