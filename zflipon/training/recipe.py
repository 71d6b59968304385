"""Strict TOML → `zflipon.config.Recipe`.

Every mistake is reported at once, with the file and the key; an unknown key gets
a suggestion. A stage inherits what it does not say from the stage before.
"""

from __future__ import annotations

import copy
import itertools
import re
import types
import typing
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from zflipon.config import MONITORS, Recipe, StageConfig
from zflipon.errors import RecipeError, suggest

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

TARGETS = ("labels", "candidates", "tracks")

_CHOICES = {
    "objective": tuple(MONITORS),
    "target": TARGETS,
    "sampling": ("drawn", "tiled"),
    "split": ("contigs", "stratified"),
    "label_comparison": (">=", ">"),
    "schedule": ("cosine", "linear", "constant"),
    "precision": ("auto", "float32", "bfloat16"),
    "bias": ("none", "all", "lora_only"),
}
_POSITIVE = (
    "window",
    "batch_size",
    "gradient_accumulation",
    "learning_rate",
    "vocab_size",
    "max_token_length",
    "sample",
    "alpha",
)
_NOT_NEGATIVE = (
    "margin",
    "positives",
    "hard_negatives",
    "background",
    "weight_decay",
    "warmup",
    "steps",
    "readout",
    "evaluations",
    "patience",
    "epochs",
    "folds",
    "fold",
    "seed",
    "r",
)
_SHARES = ("masked", "dropout", "average", "drop", "validation_share", "test_share")
"""Keys whose value is from 0 to less than 1."""

LOGGERS = ("tensorboard", "wandb")


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
    problems: list[str] = []
    table = _table(path, settings, problems)
    recipe = _build_recipe(copy.deepcopy(table), problems)
    for name, chosen in _combinations(recipe.sweep, problems):
        found: list[str] = []
        _variant(table, chosen, found)
        problems += [f"sweep {name}: {problem}" for problem in found if problem not in problems]
    if problems:
        raise RecipeError(f"{path}: " + "; ".join(problems))
    return recipe


def variants(path: str | Path, settings: Iterable[str] = ()) -> list[tuple[str, Recipe]]:
    """Return the runs that a recipe asks for: every combination of its sweep, every fold of its cross-validation.

    Parameters
    ----------
    path, settings
        As in `load_recipe`.

    Returns
    -------
    list of (str, Recipe)
        What tells a run from the others, fit for a folder's name (empty where there is one run), and its recipe.

    Raises
    ------
    RecipeError
        As `load_recipe`.
    """
    whole = load_recipe(path, settings)
    table = _table(Path(path), settings, [])
    runs = []
    for name, chosen in _combinations(whole.sweep, []):
        recipe = _variant(table, chosen, [])
        data = recipe.data
        folds = range(1, data.folds + 1) if data.folds and not data.fold else [data.fold]
        for fold in folds:
            told = [name, f"fold-{fold}" if fold else ""]
            runs.append(("_".join(filter(None, told)), replace(recipe, data=replace(data, fold=fold))))
    return runs


def _table(path: Path, settings: Iterable[str], problems: list[str]) -> dict:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not a TOML file ({error})") from error
    for setting in settings:
        _apply(table, setting, problems)
    return table


def _combinations(sweep: dict, problems: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the settings of each combination; one of no name where nothing is swept."""
    for key, listed in sweep.items():
        if not isinstance(listed, list) or not listed:
            problems.append(f"'sweep.{key}': expected a list of values, found {listed!r}")
            return
    for values in itertools.product(*sweep.values()):
        chosen = dict(zip(sweep, values, strict=True))
        yield "_".join(f"{key.rpartition('.')[2]}-{_plain(value)}" for key, value in chosen.items()), chosen


def _plain(value: Any) -> str:
    """Write a value so that it may be a folder's name."""
    return re.sub(r"[^\w.-]+", "", str(value)) or {">=": "at-least", ">": "above"}.get(value, "other")


def _variant(table: dict, chosen: dict[str, Any], problems: list[str]) -> Recipe:
    table = copy.deepcopy(table)
    table.pop("sweep", None)
    for key, value in chosen.items():
        _put(table, key, value, f"sweep {key}", problems)
    return _build_recipe(table, problems)


class Setting(typing.NamedTuple):
    """One setting of a stage.

    Attributes
    ----------
    name : str
    value : object
    before : object
        Of the stage before, or the default.
    """

    name: str
    value: Any
    before: Any

    @property
    def inherited(self) -> bool:
        """Whether the stage before had it so."""
        return self.value == self.before


def inheritance(recipe: Recipe) -> list[tuple[str, list[Setting]]]:
    """Return, for each stage, its name and its settings beside those of the stage before (or the defaults)."""
    previous, told = StageConfig(), []
    for stage in recipe.stage:
        settings = [
            Setting(item.name, getattr(stage, item.name), getattr(previous, item.name))
            for item in fields(stage)
            if item.name != "name"
        ]
        told.append((stage.name, settings))
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
        if "steps" in own and "epochs" not in own:  # a stage that counts steps does not inherit epochs
            said["epochs"] = 0.0
        stage = replace(stage, **{"name": f"stage-{number}", **said})
        stages.append(stage)
    recipe = replace(Recipe(**_values(Recipe, table, "", problems)), stage=tuple(stages))
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
    _check_whole(recipe, problems)
    return recipe


def _check_whole(recipe: Recipe, problems: list[str]) -> None:
    """Note what does not fit together over the sections."""
    data, model, tokenizer = recipe.data, recipe.model, recipe.tokenizer
    if (model.checkpoint is None) == (model.family is None):
        problems.append("[model] needs one of 'checkpoint' and 'family'")
    if model.checkpoint is not None and tokenizer.train:
        problems.append("[tokenizer] train = true: a checkpoint's embeddings fit its own tokenizer alone")
    if model.lora.r and model.checkpoint is None:
        problems.append(
            "[model.lora] adapters lie beside the weights of a checkpoint; random weights have none to keep"
        )
    if data.validation_share + data.test_share >= 1:
        problems.append("[data] validation_share and test_share leave nothing to train on")
    if data.folds == 1 or data.fold > data.folds:
        problems.append(
            f"[data] expected 2 folds or more, and a fold among them, found {data.fold} of {data.folds}"
        )
    if set(data.validation_contigs) & set(data.test_contigs):
        problems.append("[data] a contig is either for validation or for the test")
    _check_twins(recipe, problems)
    for name in recipe.report_to:
        if name not in LOGGERS:
            problems.append(
                f"'report_to': expected some of {', '.join(LOGGERS)}, found {name!r}{suggest(name, LOGGERS)}"
            )
    for stage in recipe.stage:
        where = f"stage.{stage.name}"
        learns = stage.objective != "mlm"
        if data.sequences and learns and stage.objective != "sequence":
            problems.append(
                f"{where}: data.sequences have a label each; only the objective 'sequence' learns them"
            )
        if (
            (data.split == "stratified" or data.folds)
            and learns
            and not (data.sequences or stage.sampling == "tiled")
        ):
            problems.append(
                f"{where}: windows that are 'drawn' anywhere cannot be split; set sampling = 'tiled'"
            )
        if recipe.features.tracks and (stage.objective, stage.sampling) != ("base", "drawn"):
            problems.append(
                f"{where}: features are read by the objective 'base', in windows that are 'drawn'"
            )
        tables = data.sequences or (stage.objective == "sequence" and not data.genome)
        if stage.epochs and stage.sampling == "drawn" and not tables:
            problems.append(f"{where}.epochs: windows that are 'drawn' make no epochs; say steps")


def _check_twins(recipe: Recipe, problems: list[str]) -> None:
    """Note what keeps a model from being trained on all contigs, and measured by twins without some of them."""
    data = recipe.data
    if not data.twins:
        return
    if data.sequences or data.folds or data.split != "contigs" or data.validation_contigs:
        problems.append(
            "[data] twins name the contigs that judge: leave validation_contigs, folds and sequences out, with "
            "split = 'contigs'"
        )
    named = [*data.test_contigs, *(contig for contigs in data.twins for contig in contigs)]
    if not all(data.twins) or len(set(named)) < len(named):
        problems.append(
            "[data] twins: expected lists of contigs, each contig in one of them and none in test_contigs"
        )
    problems.extend(
        f"stage.{stage.name}.evaluations: data.twins judge in the end alone, and the model that learns from all "
        "contigs has none to evaluate on: set 0, which keeps the last weights"
        for stage in recipe.stage
        if stage.evaluations and (stage.steps or stage.epochs)
    )


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
    if stage.positives <= 0 and stage.target != "tracks" and stage.objective != "mlm":
        problems.append(f"{where}.positives: nothing is learnt without positive windows")
    for name in stage.auxiliary:
        if name not in TARGETS or name == stage.target:
            problems.append(f"{where}.auxiliary: expected others of {', '.join(TARGETS)}, found {name!r}")
    if "tracks" in (stage.target, *stage.auxiliary) and stage.sampling == "tiled":
        problems.append(f"{where}: tracks are learnt from windows that are 'drawn'; set sampling")
    if (stage.auxiliary or stage.target == "tracks") and stage.objective != "base":
        problems.append(f"{where}: only the objective 'base' learns tracks, or several things at once")
    if stage.readout and (stage.objective != "base" or stage.target != "labels"):
        problems.append(f"{where}.readout: only the objective 'base' on the target 'labels' has one")
    if not (stage.steps or stage.epochs or stage.readout):
        problems.append(f"{where}.steps: 0 steps and no readout leave nothing to do")
    monitors = MONITORS.get(stage.objective, ())
    if stage.monitor and stage.monitor not in monitors:
        problems.append(
            f"{where}.monitor: expected one of {', '.join(monitors)}, found '{stage.monitor}'"
            f"{suggest(stage.monitor, monitors)}"
        )
    if stage.batch_size % max(1, stage.gradient_accumulation):
        problems.append(
            f"{where}.gradient_accumulation: {stage.batch_size} windows have no {stage.gradient_accumulation} parts"
        )
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
        if origin is tuple and _is(option, value):
            return _listed(option, value)
        if origin is not tuple and _is(origin, value):
            return _in_range(key, name, origin(value), problems)
    expected = " or ".join(_spoken(option) for option in options if option is not type(None))
    problems.append(f"'{name}': expected {expected}, found {value!r}")
    return _WRONG


def _listed(kind: Any, value: list) -> tuple:
    """Return a list of TOML, or one of lists, as the tuple that a hint asks for."""
    inner = typing.get_args(kind)[0]
    return tuple(_listed(inner, entry) if typing.get_args(inner) else inner(entry) for entry in value)


def _is(kind: Any, value: Any) -> bool:
    if typing.get_origin(kind) is tuple:
        return isinstance(value, list) and all(_is(typing.get_args(kind)[0], entry) for entry in value)
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
    elif key in _SHARES and not 0 <= value < 1:
        problems.append(f"'{name}': expected a share from 0 to less than 1, found {value}")
    return value


def _spoken(option: Any) -> str:
    names = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", dict: "a table"}
    if typing.get_origin(option) is tuple:
        return f"a list, each {_spoken(typing.get_args(option)[0])}"
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
    _put(table, key.strip(), value, f"--set {setting!r}", problems)


def _put(table: dict, key: str, value: Any, where: str, problems: list[str]) -> None:
    """Set ``a.b`` in the table; ``stage.b`` in all stages, ``stage.NAME.b`` in one."""
    parts = key.split(".")
    if parts[0] == "stage":
        _put_in_stages(table, parts[1:], value, where, problems)
        return
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            problems.append(f"{where}: '{part}' is no section")
            return
    table[parts[-1]] = value


def _put_in_stages(table: dict, parts: list[str], value: Any, where: str, problems: list[str]) -> None:
    stages = _stages(table)
    if len(parts) == 1:
        chosen = stages
    elif len(parts) == 2:
        chosen = [stage for stage in stages if stage.get("name") == parts[0]]
        if not chosen:
            names = [str(stage.get("name")) for stage in stages]
            problems.append(f"{where}: no stage of that name{suggest(parts[0], names)}")
    else:
        chosen = []
        problems.append(f"{where}: expected stage.key or stage.NAME.key, then =value")
    instead = {"steps": "epochs", "epochs": "steps"}
    for stage in chosen:
        stage.pop(instead.get(parts[-1]), None)
        stage[parts[-1]] = value
