"""``zflipon models show``: the metadata of a checkpoint, for reading or as JSON.

Nothing is run, and torch is imported only for weights in pickle files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from textwrap import wrap
from typing import Any

import click

from zflipon.cli.options import complete_models, print_line
from zflipon.errors import format_names
from zflipon.models.files import CheckpointFiles, locate
from zflipon.models.labels import find_z_output_in_file
from zflipon.models.weight_files import count_sizes

EPILOG = """\b
Examples:
  zflipon models show compact
  zflipon models show runs/mine --full
  zflipon models show runs/mine --json
"""

SHOWN_TRACKS = 5
"""Omics tracks named without ``--full``."""

_WHOLE_WORDS: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
"""Settings of `wrap`; paths stay in one piece."""

MEASURES = {"average_precision": "AP", "f1": "F1", "mcc": "MCC", "precision": "precision", "recall": "recall"}
"""Key of a measure in the quality → its name in the summary."""


@click.command(epilog=EPILOG, short_help="Print the metadata of a checkpoint.")
@click.argument("name", shell_complete=complete_models)
@click.option("--full", is_flag=True, help="Print training, quality and versions as well.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def show(name: str, full: bool, as_json: bool) -> None:
    """Print the metadata of the checkpoint NAME: a bundled model, a folder, a file of weights or a hub id."""
    facts = describe(name)
    print_line(json.dumps(facts, indent=2) if as_json else "\n".join(format_facts(facts, full)))


def describe(name: str | Path) -> dict[str, Any]:
    """Return the facts about a checkpoint that are known without running it.

    Parameters
    ----------
    name : str or Path
        As in `zflipon.models.load`.

    Returns
    -------
    dict
        The metadata, with ``name``, ``folder``, ``parameters``, ``bytes``, ``sha256``, ``adapters`` and
        ``z_dna_output``; ready for JSON.

    Raises
    ------
    ModelError
        If there is no such checkpoint, or it is incomplete, damaged or of an unknown family.
    """
    files = locate(name)
    files.verify_weights()
    sizes = files.tensor_sizes()
    metadata = files.metadata(files.objective(list(sizes)))
    return {
        "name": str(name),
        "folder": str(files.folder),
        "parameters": count_sizes(sizes),
        "bytes": files.size,
        "sha256": files.sha256(),
        "adapters": _describe_adapters(files),
        "z_dna_output": list(find_z_output_in_file(files.config)) if metadata.objective == "token" else None,
        **metadata.to_dict(),
    }


def _describe_adapters(files: CheckpointFiles) -> dict[str, Any] | None:
    if files.adapter is None or files.base is None:
        return None
    trained = replace(files, base=None).tensor_sizes()
    return {
        "base": files.base.name,
        **{key: files.adapter.get(key) for key in ("r", "lora_alpha", "target_modules", "bias")},
        "trained_parameters": sum(trained.values()),
        "adapter_parameters": sum(size for name, size in trained.items() if "lora_" in name),
    }


def format_facts(facts: dict[str, Any], full: bool) -> Iterator[str]:
    """Yield the lines that `show` prints; with `full`, training, quality and versions as trees."""
    limit, calibration = facts["max_token_length"], facts["calibration"]
    corrected = ", then a piecewise-linear correction" if calibration["correction"] else ""
    rows = {
        "model": facts["name"],
        "folder": facts["folder"],
        "family": facts["family"],
        "objective": facts["objective"] or "none (an encoder without a head)",
        "parameters": f"{facts['parameters']:,}",
        "size": format_megabytes(facts["bytes"]),
        "sha256": facts["sha256"],
        "window": f"{facts['window']} bp, with a margin of {facts['margin']} bp on each side",
        "tokens": f"at most {limit} bp" if limit else "as in the tokenizer",
        "call threshold": f"probability >= {facts['threshold']:g}",
        "calibration": f"log-odds x {calibration['scale']:g} {calibration['bias']:+g}{corrected}",
        **_optional_rows(facts, full),
    }
    for name, text in rows.items():
        yield from wrap(text, 100, initial_indent=f"{name:<14}  ", subsequent_indent=" " * 16, **_WHOLE_WORDS)
    if full:
        for name in ("training", "quality", "versions"):
            yield from _format_tree({name: facts[name] or "not recorded"}, 0)
    elif any(facts[name] for name in ("training", "quality", "versions")):
        yield "(--full prints training, quality and versions)"


def _optional_rows(facts: dict[str, Any], full: bool) -> dict[str, str]:
    """Return rows that only some checkpoints have."""
    rows = {}
    if facts["objective"] == "token":
        comparison, share = facts["label_comparison"], facts["label_threshold"]
        output, count = facts["z_dna_output"]
        rows["token labels"] = f"1 if the labelled share of its bases {comparison} {share:g}"
        rows["Z-DNA output"] = "the only one" if count == 1 else f"{output} (of outputs 0 to {count - 1})"
    if not facts["special_tokens"]:
        rows["special tokens"] = "none around a window"
    if facts["features"]:
        tracks = [f"{feature['name']} ({feature['kind']})" for feature in facts["features"]]
        missing = "; some or all may be missing" if facts["allows_missing_features"] else ""
        rows["omics tracks"] = format_names(tracks, len(tracks) if full else SHOWN_TRACKS) + missing
    if facts["adapters"]:
        adapters = facts["adapters"]
        targets = adapters["target_modules"]
        rows["adapters"] = (
            f"LoRA, r {adapters['r']}, alpha {adapters['lora_alpha'] or 8:g}, "
            f"on {targets if isinstance(targets, str) else ', '.join(targets)}; "
            f"{adapters['trained_parameters']:,} parameters with the head"
        )
        rows["base"] = adapters["base"]
    if description := facts["training"].get("description"):
        rows["description"] = str(description)
    measured = [f"{name} {facts['quality'][key]:g}" for key, name in MEASURES.items()
                if isinstance(facts["quality"].get(key), int | float)]  # fmt: skip
    if measured:
        rows["quality"] = ", ".join(measured)
    return rows


def _format_tree(table: dict[str, Any], depth: int) -> Iterator[str]:
    for name, value in table.items():
        if isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
            value = {entry.get("name", number): entry for number, entry in enumerate(value, 1)}
        if isinstance(value, dict) and value:
            yield "  " * depth + str(name)
            yield from _format_tree(value, depth + 1)
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
            yield f"{'  ' * depth + str(name):<14}  {text}"


def format_megabytes(size: int) -> str:
    """Return a number of bytes in MB with one decimal."""
    return f"{size / 1e6:.1f} MB"
