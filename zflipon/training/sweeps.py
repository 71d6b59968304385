"""Recipes with several runs: a sweep over settings, or the folds of a cross-validation.

Each run is one call of `zflipon.training.pipeline.train`; the tables are made by `zflipon.training.result_tables`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zflipon.config import Recipe
from zflipon.jobs.distributed import process_state
from zflipon.training.pipeline import train
from zflipon.training.recipe import load_recipe, planned_runs
from zflipon.training.result_tables import folds_table, sweep_table

log = logging.getLogger("zflipon")

RESULTS_JSON, RESULTS_TABLE = "results.json", "results.md"
"""Figures of all runs, in the folder that contains the runs."""


def train_all(
    path: str | Path, settings: Iterable[str] = (), out: Path | None = None, restart: bool = False
) -> tuple[Path, str]:
    """Run a recipe, once or for each combination of its sweep and each fold. Finished runs are not repeated.

    Parameters
    ----------
    path, settings
        As in `zflipon.training.recipe.load_recipe`.
    out : Path, optional
        Default: ``runs/NAME``. If there are several runs, each gets a folder in it.
    restart : bool
        Delete earlier runs and start over.

    Returns
    -------
    folder : Path
    table : str
        Markdown table of several runs; empty for a single run, whose table is logged.

    Raises
    ------
    ZfliponError
        As `zflipon.training.pipeline.train`.
    """
    settings = list(settings)
    recipe = load_recipe(path, settings)
    out = out or Path("runs") / recipe.name
    runs = planned_runs(path, settings)
    if len(runs) == 1 and not runs[0].name:
        train(runs[0].recipe, out, restart)
        return out, ""
    results = []
    for number, run in enumerate(runs, 1):
        log.info("run %d of %d: %s", number, len(runs), run.name)
        quality = train(run.recipe, out / run.name, restart).metadata.quality
        results.append(
            {
                "run": run.name,
                "settings": {key: _value_at(run.recipe, key) for key in recipe.sweep},
                "fold": run.recipe.data.fold,
                "quality": quality,
            }
        )
    table = _results_table(results)
    if process_state().is_main_process:
        (out / RESULTS_JSON).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        (out / RESULTS_TABLE).write_text(table + "\n", encoding="utf-8")
    return out, table


def _value_at(recipe: Recipe, key: str) -> Any:
    """Return the value of a key in a recipe, with the key as in ``--set``."""
    parts = key.split(".")
    if parts[0] == "stage":
        stages = [stage for stage in recipe.stage if len(parts) == 2 or stage.name == parts[1]]
        return getattr(stages[-1], parts[-1])
    value: Any = recipe
    for part in parts:
        value = value[part] if isinstance(value, dict) else getattr(value, part)
    return value


def _results_table(results: list[dict]) -> str:
    """Return a row for each combination of settings, and for each of them its folds."""
    tables = []
    if any(result["settings"] for result in results):
        tables.append(sweep_table([(result["settings"], result["quality"]) for result in results]))
    folds: dict[str, list[dict]] = {}
    for result in results:
        if result["fold"]:
            folds.setdefault(json.dumps(result["settings"]), []).append(result)
    for settings, group in folds.items():
        heading = f"{settings}\n\n" if len(folds) > 1 else ""
        tables.append(heading + folds_table([result["quality"] for result in group]))
    return "\n\n".join(tables)
