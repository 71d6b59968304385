"""A recipe that asks for several runs: a sweep over settings, or the folds of a cross-validation."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path

from zflipon.config import Recipe
from zflipon.jobs.distributed import process_state
from zflipon.training.recipe import load_recipe, variants
from zflipon.training.result_tables import folds_table, sweep_table
from zflipon.training.stages import train

log = logging.getLogger("zflipon")

RESULTS, TABLE = "results.json", "results.md"
"""In the folder of several runs: what each reached, for programs and for people."""


def run(
    path: str | Path, settings: Iterable[str], out: Path | None = None, restart: bool = False
) -> tuple[Path, str]:
    """Run a recipe, however many runs it asks for; each goes on where it was stopped, a finished one stays.

    Parameters
    ----------
    path, settings
        As in `zflipon.training.recipe.load_recipe`.
    out : Path, optional
        ``runs/NAME`` where nothing is said. Several runs get a folder each in it.
    restart : bool
        Start over, whatever `out` holds.

    Returns
    -------
    folder : Path
    table : str
        What several runs reached; empty for a single one, whose own table is logged.

    Raises
    ------
    ZfliponError
        As `zflipon.training.stages.train`.
    """
    settings = list(settings)
    plan = load_recipe(path, settings)
    out = out or Path("runs") / plan.name
    planned = variants(path, settings)
    if len(planned) == 1 and not planned[0][0]:
        train(planned[0][1], out, restart)
        return out, ""
    rows = []
    for number, (name, recipe) in enumerate(planned, 1):
        log.info("run %d of %d: %s", number, len(planned), name)
        quality = train(recipe, out / name, restart).metadata.quality
        rows.append(
            {"run": name, "settings": _chosen(recipe, plan), "fold": recipe.data.fold, "quality": quality}
        )
    table = _table(rows)
    if process_state().is_main_process:
        (out / RESULTS).write_text(json.dumps(rows, indent=1) + "\n")
        (out / TABLE).write_text(table + "\n")
    return out, table


def _chosen(recipe: Recipe, plan: Recipe) -> dict[str, object]:
    """Return what a run has of the swept settings."""
    return {key: _value(recipe, key.split(".")) for key in plan.sweep}


def _value(recipe: Recipe, parts: list[str]) -> object:
    if parts[0] == "stage":
        named = [stage for stage in recipe.stage if len(parts) == 2 or stage.name == parts[1]]
        return getattr(named[-1], parts[-1])
    found: object = recipe
    for part in parts:
        found = found[part] if isinstance(found, dict) else getattr(found, part)
    return found


def _table(rows: list[dict]) -> str:
    """Lay several runs out: a row for each combination of settings, each with its folds where there are any."""
    parts = []
    if any(row["settings"] for row in rows):
        parts.append(sweep_table([(row["settings"], row["quality"]) for row in rows]))
    groups: dict[str, list[dict]] = {}
    for row in rows:
        if row["fold"]:
            groups.setdefault(json.dumps(row["settings"]), []).append(row)
    for chosen, group in groups.items():
        heading = f"{chosen}\n\n" if len(groups) > 1 else ""
        parts.append(heading + folds_table([row["quality"] for row in group]))
    return "\n\n".join(parts)
