"""``zflipon models``: what there is, and what a checkpoint tells about itself."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click

from zflipon.cli.options import complete_models
from zflipon.models import family_summaries
from zflipon.models.hub import BUNDLED, Files, bundled, infer_objective, locate

EPILOG = """\b
Examples:
  zflipon models
  zflipon models show compact
  zflipon models show runs/mine --json
  zflipon models pull zhihan1996/DNABERT-2-117M
  zflipon models import gena_best.pt --base AIRI-Institute/gena-lm-bert-base-t2t -o runs/gena
  zflipon models convert runs/old -o runs/new
  zflipon models merge runs/mine-lora -o runs/mine-whole
"""

SHOW_EPILOG = """\b
Examples:
  zflipon models show compact
  zflipon models show runs/mine --json
"""


@click.group(invoke_without_command=True, epilog=EPILOG)
@click.pass_context
def models(context: click.Context) -> None:
    """List bundled models and families; show a checkpoint's story, fetch, import, convert or merge one."""
    if context.invoked_subcommand is None:
        click.echo("Bundled models")
        rows = [_summary(name) for name in bundled()]
        click.echo("\n".join(_columns(rows)) if rows else "  none")
        click.echo("\nFamilies (--model takes a folder, a file of weights or a hub id of any of these)")
        click.echo("\n".join(_columns(list(family_summaries().items()))))


@models.command(epilog=SHOW_EPILOG, short_help="Print a checkpoint's story.")
@click.argument("name", shell_complete=complete_models)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(name: str, as_json: bool) -> None:
    """Print the story of the checkpoint NAME: a bundled model, a folder, a file of weights or a hub id."""
    facts = describe(name)
    click.echo(json.dumps(facts, indent=2) if as_json else "\n".join(_lines(facts)))


def describe(name: str | Path) -> dict:
    """Return what is known of a checkpoint without running it.

    Parameters
    ----------
    name : str or Path
        As in `zflipon.models.load`.

    Returns
    -------
    dict
        The story's fields, with ``name``, ``folder``, ``parameters``, ``bytes`` and ``sha256``; fit for JSON.

    Raises
    ------
    ModelError
        If there is no such checkpoint, or it is incomplete or of an unknown family.
    """
    files = locate(name)
    parameters = files.parameters()
    metadata = files.metadata(infer_objective(files.config, parameters))
    return {
        "name": str(name),
        "folder": str(files.folder),
        "parameters": sum(parameters.values()),
        "bytes": files.size,
        "sha256": files.sha256(),
        "adapters": _adapters(files, parameters),
        **metadata.to_dict(),
    }


def _adapters(files: Files, parameters: dict[str, int]) -> dict | None:
    """Return what is known of low-rank adapters; None where there are none."""
    if files.adapter is None:
        return None
    trained = replace(files, base=None).parameters()
    return {
        "base": files.base.name,
        **{key: files.adapter.get(key) for key in ("r", "lora_alpha", "target_modules", "bias")},
        "trained_parameters": sum(trained.values()),
        "adapter_parameters": sum(size for name, size in trained.items() if "lora_" in name),
    }


def _summary(name: str) -> tuple[str, str]:
    """Return a bundled model's name and the gist of it."""
    files: Files = locate(BUNDLED / name)
    metadata = files.metadata(None)
    gist = f"{metadata.family}, decides per {metadata.objective}, {metadata.window} bp windows, {_megabytes(files.size)}"
    return name, gist


def _columns(rows: list[tuple[str, str]]) -> Iterator[str]:
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        yield f"  {name:<{width}}  {text}"


def _lines(facts: dict) -> Iterator[str]:
    """Lay the facts out for reading."""
    limit, calibration = facts["max_token_length"], facts["calibration"]
    plain = {
        "model": facts["name"],
        "folder": facts["folder"],
        "family": facts["family"],
        "objective": facts["objective"] or "none (a bare encoder)",
        "parameters": f"{facts['parameters']:,}",
        "size": _megabytes(facts["bytes"]),
        "sha256": facts["sha256"],
        "window": f"{facts['window']} bp, {facts['margin']} bp of context at either side",
        "tokens": f"at most {limit} bp" if limit else "as the tokenizer has them",
        "call threshold": f"probability >= {facts['threshold']:g}",
        "calibration": f"log-odds x {calibration['scale']:g} {calibration['bias']:+g}"
        + (", bent" if calibration["correction"] else ""),
    }
    if facts["objective"] == "token":
        comparison, share = facts["label_comparison"], facts["label_threshold"]
        plain["token labels"] = f"1 if the labelled share of its bases {comparison} {share:g}"
    if facts["features"]:
        tracks = ", ".join(f"{feature['name']} ({feature['kind']})" for feature in facts["features"])
        plain["omics tracks"] = tracks + ("; bears to do without" if facts["allows_missing_features"] else "")
    if facts["adapters"]:
        told = facts["adapters"]
        plain["adapters"] = (
            f"LoRA, r {told['r']}, alpha {told['lora_alpha']:g}, on {', '.join(told['target_modules'])}; "
            f"{told['trained_parameters']:,} parameters with the head"
        )
        plain["base"] = told["base"]
    yield from (f"{name:<14}  {text}" for name, text in plain.items())
    for name in ("training", "quality", "versions"):
        yield from _tree({name: facts[name] or "not told"}, 0)


def _tree(table: dict, depth: int) -> Iterator[str]:
    for name, value in table.items():
        if isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
            value = {entry.get("name", number): entry for number, entry in enumerate(value, 1)}
        if isinstance(value, dict) and value:
            yield "  " * depth + str(name)
            yield from _tree(value, depth + 1)
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
            yield f"{'  ' * depth + str(name):<14}  {text}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


importlib.import_module("zflipon.cli.models.files")  # whose commands are the group's
