"""Read recipes: TOML and ``--set`` options → validated `zflipon.config.Recipe` objects, one for each run.

All mistakes in a recipe are reported together. The keys, their types and limits are in `zflipon.config.training`.
"""

from __future__ import annotations

import copy
import itertools
import math
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from zflipon.config import (
    DataConfig,
    FeaturesConfig,
    LoraConfig,
    ModelConfig,
    Recipe,
    StageConfig,
    TokenizerConfig,
)
from zflipon.errors import RecipeError, suggest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]: installed with Python 3.10 only

MAX_RECIPE_BYTES = 1 << 20
"""Largest recipe file that is read."""

MAX_COMBINATIONS = 1000
"""Largest number of combinations in a sweep."""

_SECTIONS: dict[str, type] = {"data": DataConfig, "features": FeaturesConfig, "tokenizer": TokenizerConfig}
_EXCLUSIVE = {"steps": "epochs", "epochs": "steps"}
"""Keys of a stage of which setting one removes the other."""

_NO_STAGES = "expected at least one [[stage]], in double brackets"

Section = TypeVar("Section")


@dataclass(frozen=True)
class PlannedRun:
    """One run of a recipe with a sweep or folds.

    Attributes
    ----------
    name : str
        Name of the run's folder; empty if the recipe has a single run.
    recipe : Recipe
        With the values of this run, and without a sweep.
    """

    name: str
    recipe: Recipe


@dataclass(frozen=True)
class StageSetting:
    """One setting of a stage and its value in the stage before, or its default in the first stage."""

    name: str
    value: Any
    previous: Any

    @property
    def inherited(self) -> bool:
        """Whether the value is that of the stage before."""
        return self.value == self.previous


def load_recipe(path: str | Path, settings: Iterable[str] = ()) -> Recipe:
    """Read and validate a recipe.

    Parameters
    ----------
    path : str or Path
        TOML file, with or without a byte-order mark.
    settings : iterable of str
        Values that replace those of the file: ``section.key=value``, ``stage.NAME.key=value`` for one stage,
        ``stage.key=value`` for all stages.

    Raises
    ------
    RecipeError
        If the file cannot be read, or with all mistakes in it.

    Examples
    --------
    >>> recipe = load_recipe("train/compact.toml", ["data.genome=hg38.fa"])  # doctest: +SKIP
    """
    return _load(path, settings)[0]


def planned_runs(path: str | Path, settings: Iterable[str] = ()) -> list[PlannedRun]:
    """Return the runs of a recipe: every combination of its sweep and every fold of its cross-validation.

    Parameters and errors are those of `load_recipe`.
    """
    _, variants = _load(path, settings)
    runs = []
    for name, recipe in variants:
        data = recipe.data
        folds = range(1, data.folds + 1) if data.folds and not data.fold else [data.fold]
        for fold in folds:
            parts = [name, f"fold-{fold}" if fold else ""]
            runs.append(
                PlannedRun("_".join(filter(None, parts)), replace(recipe, data=replace(data, fold=fold)))
            )
    return runs


def stage_settings(recipe: Recipe) -> list[tuple[StageConfig, list[StageSetting]]]:
    """Return each stage with its settings, compared with those of the stage before."""
    previous, compared = StageConfig(), []
    for stage in recipe.stage:
        names = [item.name for item in fields(stage) if item.name != "name"]
        compared.append(
            (stage, [StageSetting(name, getattr(stage, name), getattr(previous, name)) for name in names])
        )
        previous = stage
    return compared


def _load(path: str | Path, settings: Iterable[str]) -> tuple[Recipe, list[tuple[str, Recipe]]]:
    """Return the recipe, and the name and the recipe of each combination of its sweep."""
    path = Path(path)
    problems: list[str] = []
    table = read_toml(path)
    for setting in settings:
        _apply_setting(table, setting, problems)
    recipe = _build_recipe(table, problems)
    variants: list[tuple[str, Recipe]] = []
    sweep = recipe.sweep if recipe else {}
    count = math.prod(len(values) for values in sweep.values())
    if count > MAX_COMBINATIONS:
        problems.append(
            f"sweep: expected at most {MAX_COMBINATIONS:,} combinations of values, found {count:,}"
        )
    else:
        for name, values in _combinations(sweep):
            found: list[str] = []
            variant = _apply_combination(table, values, found)
            problems += [f"sweep {name}: {problem}" for problem in found if problem not in problems]
            if variant:
                variants.append((name, variant))
    if problems or recipe is None:
        raise RecipeError(f"{path}: " + "; ".join(dict.fromkeys(problems)))
    return recipe, variants


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file; raise `RecipeError` if it cannot be read."""
    try:
        if path.exists() and not path.is_file():
            raise RecipeError(f"{path}: not a regular file; expected a recipe in TOML")
        if path.stat().st_size > MAX_RECIPE_BYTES:
            raise RecipeError(f"{path}: larger than {MAX_RECIPE_BYTES:,} bytes; expected a recipe in TOML")
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecipeError(f"{path}: not a TOML file ({error})") from error


# ---- tables → validated sections ---------------------------------------------------------------------------


def _build_recipe(table: dict[str, Any], problems: list[str]) -> Recipe | None:
    """Validate a whole recipe; None, with the reasons in `problems`, if it is wrong."""
    table, found = copy.deepcopy(table), []
    sections: dict[str, Any] = {"stage": tuple(_build_stages(table, found))}
    table.pop("stage", None)
    for name, section in _SECTIONS.items():
        if name in table:
            sections[name] = _build(section, table.pop(name), name, found)
    if "model" in table:
        sections["model"] = _build_model(table.pop("model"), found)
    if found:  # rules across sections need valid ones; the remaining keys can be checked without them
        sections = {"stage": (StageConfig(),), "model": ModelConfig(family="any")}
    recipe = _build(Recipe, {**table, **sections}, "", found)
    problems += found
    return None if found else recipe


def _build_model(table: Any, problems: list[str]) -> ModelConfig | None:
    if isinstance(table, dict) and "lora" in table:
        lora = _build(LoraConfig, table.pop("lora"), "model.lora", problems)
        table = {**table, "lora": lora or LoraConfig()}
    return _build(ModelConfig, table, "model", problems)


def _build_stages(table: dict[str, Any], problems: list[str]) -> Iterator[StageConfig]:
    """Yield the valid stages. A stage inherits the values of the stage before, and its mistakes are reported once."""
    stages = _stage_tables(table)
    if not stages:
        problems.append(_NO_STAGES)
    merged: dict[str, Any] = {}
    inherited_problems: set[str] = set()
    for number, own in enumerate(stages, 1):
        merged = {**merged, "name": f"stage-{number}", **own}
        if "steps" in own and "epochs" not in own:  # a stage that counts steps does not inherit epochs
            merged["epochs"] = 0.0
        found: list[str] = []
        stage = _build(StageConfig, merged, f"stage.{merged['name']}", found)
        for problem in found:
            text = problem.removeprefix(f"stage.{merged['name']}.")
            if text not in inherited_problems:
                problems.append(problem)
            inherited_problems.add(text)
        if stage:
            yield stage


def _build(section: type[Section], table: Any, where: str, problems: list[str]) -> Section | None:
    """Validate one section of a recipe; None, with the reasons in `problems`, if it is wrong."""
    if not isinstance(table, dict):
        problems.append(f"{where}: expected a table, found {_value_text(table)}")
        return None
    prefix = f"{where}." if where else ""
    names = {item.name for item in fields(section)}  # type: ignore[arg-type]
    unknown = [_unknown_key(prefix + key, names) for key in table if key not in names]
    problems += unknown
    try:
        built = section(**{key: value for key, value in table.items() if key in names})
    except ValidationError as error:
        problems += (text for each in error.errors(include_url=False) for text in _messages(each, prefix))
        return None
    return None if unknown else built


def _messages(error: Any, prefix: str) -> list[str]:
    """Return an error of pydantic in the words of this package: key, expected, found."""
    if error["type"] == "value_error":
        return [prefix + problem for problem in error["ctx"]["error"].problems]
    key, *inner = error["loc"]
    where = (
        prefix + str(key) + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in inner)
    )
    kind, context, value = error["type"], error.get("ctx", {}), error["input"]
    if kind == "too_short":
        return [f"{prefix}{key}: {_NO_STAGES}" if key == "stage" else f"{where}: expected at least one value"]
    if kind == "missing":  # an element of a tuple of fixed length
        return [f"{prefix}{key}: expected 2 numbers, found {_value_text(value)}"]
    if kind == "too_long":
        return [f"{where}: expected {context['max_length']} values, found {_value_text(value)}"]
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", context["expected"])
        hint = suggest(value, choices) if isinstance(value, str) else ""
        return [f"{where}: expected one of {', '.join(choices)}, found {_value_text(value)}{hint}"]
    return [f"{where}: expected {_expected(kind, context)}, found {_value_text(value)}"]


_KINDS = {
    "string_type": "text in quotes",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a table",
    "finite_number": "a finite number",
}
_LIMITS = {"gt": "above", "ge": "of at least", "lt": "below", "le": "of at most"}


def _expected(kind: str, context: dict[str, Any]) -> str:
    limits = [f"a number {_LIMITS[name]} {limit:g}" for name, limit in context.items() if name in _LIMITS]
    return limits[0] if limits else _KINDS.get(kind, kind.replace("_", " "))


def _unknown_key(key: str, known: Iterable[str]) -> str:
    return f"{key}: unknown key{suggest(key.rpartition('.')[2], known)}"


def _value_text(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


# ---- --set and sweeps --------------------------------------------------------------------------------------


def _combinations(sweep: dict[str, list[Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the settings of each combination; without a sweep, one with an empty name."""
    for values in itertools.product(*sweep.values()):
        chosen = dict(zip(sweep, values, strict=True))
        yield (
            "_".join(f"{key.rpartition('.')[2]}-{_path_text(value)}" for key, value in chosen.items()),
            chosen,
        )


def _path_text(value: Any) -> str:
    """Return a value as part of a folder's name."""
    return re.sub(r"[^\w.-]+", "", str(value)) or {">=": "at-least", ">": "above"}.get(value, "other")


def _apply_combination(table: dict[str, Any], values: dict[str, Any], problems: list[str]) -> Recipe | None:
    table = copy.deepcopy(table)
    table.pop("sweep", None)
    for key, value in values.items():
        _set_key(table, key, value, f"sweep {key}", problems)
    return _build_recipe(table, problems)


def _apply_setting(table: dict[str, Any], setting: str, problems: list[str]) -> None:
    """Apply one ``a.b=value``. The value is TOML; anything that is not valid TOML is a text."""
    key, equals, text = setting.partition("=")
    key = key.strip()
    if not equals or not all(key.split(".")):
        problems.append(f"--set {setting!r}: expected section.key=value")
        return
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        value = text
    _set_key(table, key, value, f"--set {setting!r}", problems)


def _set_key(table: dict[str, Any], key: str, value: Any, where: str, problems: list[str]) -> None:
    """Set ``a.b`` in a table; ``stage.b`` in all stages, ``stage.NAME.b`` in one."""
    section, *parts = key.split(".")
    if section == "stage":
        _set_stage_key(table, parts, value, where, problems)
        return
    *outer, last = [section, *parts]
    for part in outer:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            problems.append(f"{where}: '{part}' is a value, not a section")
            return
    table[last] = value


def _set_stage_key(
    table: dict[str, Any], parts: list[str], value: Any, where: str, problems: list[str]
) -> None:
    stages = _stage_tables(table)
    if len(parts) == 2:
        chosen = [stage for stage in stages if stage.get("name") == parts[0]]
        if not chosen:
            names = [str(stage.get("name")) for stage in stages]
            problems.append(f"{where}: no stage has this name{suggest(parts[0], names)}")
    elif len(parts) == 1:
        chosen = stages
    else:
        problems.append(f"{where}: expected stage.key or stage.NAME.key, then =value")
        return
    for stage in chosen:
        if parts[-1] in _EXCLUSIVE:
            stage.pop(_EXCLUSIVE[parts[-1]], None)
        stage[parts[-1]] = value


def _stage_tables(table: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the tables of ``[[stage]]``; none if ``stage`` is anything else."""
    stages = table.get("stage")
    return stages if isinstance(stages, list) and all(isinstance(stage, dict) for stage in stages) else []
