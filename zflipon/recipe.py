"""Strict TOML → `zflipon.config.Recipe`.

Every mistake is reported at once, with the file and the key; an unknown key gets
a suggestion. A stage inherits what it does not say from the stage before.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from zflipon.config import Recipe, StageConfig
from zflipon.errors import RecipeError, suggest

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

TARGETS = ("labels", "candidates", "tracks")

_CHOICES = {
    "objective": ("base", "token"),
    "target": TARGETS,
    "label_comparison": (">=", ">"),
    "schedule": ("cosine", "linear", "constant"),
    "precision": ("float32", "bfloat16"),
}
_POSITIVE = ("window", "steps", "batch_size", "learning_rate", "vocab_size", "max_token_length", "sample")
_NOT_NEGATIVE = (
    "margin",
    "positives",
    "hard_negatives",
    "background",
    "weight_decay",
    "warmup",
    "evaluations",
    "seed",
)


def load_recipe(path: str | Path, settings: Iterable[str] = ()) -> Recipe:
    """Read a recipe and the settings given over it.

    Parameters
    ----------
    path : str or Path
        TOML.
    settings : iterable of str
        ``section.key=value``; ``stage.NAME.key=value`` for one stage, ``stage.key=value`` for all.

    Raises
    ------
    RecipeError
        If the file is missing or no TOML, or for every mistake in it, together.
    """
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not a TOML file ({error})") from error
    problems: list[str] = []
    for setting in settings:
        _apply(table, setting, problems)
    recipe = _build_recipe(table, problems)
    if problems:
        raise RecipeError(f"{path}: " + "; ".join(problems))
    return recipe


def inheritance(recipe: Recipe) -> list[tuple[str, list[str]]]:
    """Return, for each stage, its name and the settings that differ from the stage before (from the defaults)."""
    previous, told = StageConfig(), []
    for stage in recipe.stage:
        changed = [
            f"{item.name} = {getattr(stage, item.name)!r}"
            for item in fields(stage)
            if item.name != "name" and getattr(stage, item.name) != getattr(previous, item.name)
        ]
        told.append((stage.name, changed))
        previous = stage
    return told


def _build_recipe(table: dict, problems: list[str]) -> Recipe:
    stages, stage = [], StageConfig()
    listed = _stages(table)
    table.pop("stage", None)
    if not listed:
        problems.append("expected at least one [[stage]], in double brackets")
    for number, own in enumerate(listed, 1):
        said = _values(StageConfig, own, f"stage.{own.get('name', number)}", problems)
        stage = replace(stage, **{"name": f"stage-{number}", **said})
        stages.append(stage)
    recipe = Recipe(**_values(Recipe, table, "", problems))
    names = [stage.name for stage in stages]
    for name in names:
        if not re.fullmatch(r"[\w.-]+", name):
            problems.append(
                f"stage '{name}': a stage's name is a folder's too; use letters, digits, '.', '_' and '-'"
            )
    if len(set(names)) < len(names):
        problems.append(f"every stage needs a name of its own, found {', '.join(names)}")
    for stage in stages:
        _check_stage(stage, problems)
    if (recipe.model.checkpoint is None) == (recipe.model.family is None):
        problems.append("[model] needs one of 'checkpoint' and 'family'")
    if recipe.model.checkpoint is None and not recipe.tokenizer.train:
        problems.append("[tokenizer] train = true is needed where no checkpoint brings a tokenizer")
    if recipe.model.checkpoint is not None and recipe.tokenizer.train:
        problems.append("[tokenizer] train = true: a checkpoint's embeddings fit its own tokenizer alone")
    return replace(recipe, stage=tuple(stages))


def _stages(table: dict) -> list[dict]:
    """Return the tables of ``[[stage]]``; none if there is something else of that name."""
    found = table.get("stage")
    return found if isinstance(found, list) and all(isinstance(own, dict) for own in found) else []


def _check_stage(stage: StageConfig, problems: list[str]) -> None:
    where = f"stage.{stage.name}"
    if 2 * stage.margin >= stage.window:
        problems.append(f"{where}: a margin of {stage.margin} leaves no core in a window of {stage.window}")
    if not 0 < stage.label_threshold <= 1:
        problems.append(
            f"{where}.label_threshold: expected a share above 0 and up to 1, found {stage.label_threshold}"
        )
    if not 0 <= stage.warmup <= 1:
        problems.append(f"{where}.warmup: expected a share of the steps, from 0 to 1, found {stage.warmup}")
    for name in ("dropout", "average"):
        if not 0 <= (getattr(stage, name) or 0) < 1:
            problems.append(
                f"{where}.{name}: expected a share from 0 to less than 1, found {getattr(stage, name)}"
            )
    if stage.positives <= 0 and stage.target != "tracks":
        problems.append(f"{where}.positives: nothing is learnt without positive windows")
    for name in stage.auxiliary:
        if name not in TARGETS or name == stage.target:
            problems.append(f"{where}.auxiliary: expected others of {', '.join(TARGETS)}, found {name!r}")
    if (stage.auxiliary or stage.target == "tracks") and stage.objective != "base":
        problems.append(f"{where}: only the objective 'base' learns tracks, or several things at once")
    if stage.class_weights is not None and (len(stage.class_weights) != 2 or min(stage.class_weights) <= 0):
        problems.append(
            f"{where}.class_weights: expected two weights above 0, found {list(stage.class_weights)}"
        )


def _values(kind: type, table: dict, where: str, problems: list[str]) -> dict[str, Any]:
    """Return what a TOML table says for a dataclass, and note what is wrong in it."""
    hints = typing.get_type_hints(kind)
    values = {}
    for key, value in table.items():
        name = f"{where}.{key}" if where else key
        if key not in hints:
            problems.append(f"unknown key '{name}'{suggest(key, hints)}")
        elif is_dataclass(hints[key]):
            if isinstance(value, dict):
                values[key] = hints[key](**_values(hints[key], value, name, problems))
            else:
                problems.append(f"'{name}': expected a table, found {value!r}")
        else:
            values[key] = _checked(hints[key], key, name, value, problems)
    return {key: value for key, value in values.items() if value is not _WRONG}


_WRONG = object()


def _checked(hint: Any, key: str, name: str, value: Any, problems: list[str]) -> Any:
    options = typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
    for option in options:
        origin = typing.get_origin(option) or option
        if origin is tuple and isinstance(value, list):
            inner = typing.get_args(option)[0]
            if all(_is(inner, entry) for entry in value):
                return tuple(inner(entry) for entry in value)
        elif origin is not tuple and _is(origin, value):
            return _in_range(key, name, origin(value), problems)
    expected = " or ".join(_spoken(option) for option in options if option is not type(None))
    problems.append(f"'{name}': expected {expected}, found {value!r}")
    return _WRONG


def _is(kind: type, value: Any) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return kind is not type(None) and isinstance(value, kind)


def _in_range(key: str, name: str, value: Any, problems: list[str]) -> Any:
    if key in _CHOICES and value not in _CHOICES[key]:
        problems.append(f"'{name}': expected one of {', '.join(_CHOICES[key])}, found {value!r}")
    elif (key in _POSITIVE and value <= 0) or (key in _NOT_NEGATIVE and value < 0):
        problems.append(
            f"'{name}': expected a number {'above' if key in _POSITIVE else 'from'} 0, found {value}"
        )
    return value


def _spoken(option: Any) -> str:
    names = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", dict: "a table"}
    if typing.get_origin(option) is tuple:
        return f"a list, each {names.get(typing.get_args(option)[0], 'value')}"
    return names.get(option, str(option))


def _apply(table: dict, setting: str, problems: list[str]) -> None:
    """Put one ``a.b=value`` into the table; the value is TOML, or else a text."""
    key, equals, text = setting.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        problems.append(f"--set {setting!r}: expected section.key=value")
        return
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    if parts[0] == "stage":
        _apply_to_stages(table, parts[1:], value, setting, problems)
        return
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            problems.append(f"--set {setting!r}: '{part}' is no section")
            return
    table[parts[-1]] = value


def _apply_to_stages(table: dict, parts: list[str], value: Any, setting: str, problems: list[str]) -> None:
    stages = _stages(table)
    if len(parts) == 1:
        chosen = stages
    elif len(parts) == 2:
        chosen = [stage for stage in stages if stage.get("name") == parts[0]]
        if not chosen:
            names = [str(stage.get("name")) for stage in stages]
            problems.append(f"--set {setting!r}: no stage of that name{suggest(parts[0], names)}")
    else:
        chosen = []
        problems.append(f"--set {setting!r}: expected stage.key=value or stage.NAME.key=value")
    for stage in chosen:
        stage[parts[-1]] = value
