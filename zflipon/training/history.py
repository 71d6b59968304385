"""What a stage writes down while it runs: a row each time that the loss is logged, and a row an evaluation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

HISTORY, VALIDATION = "history.jsonl", "validation.jsonl"
"""In a stage's folder, a JSON object a line: ``step`` and the loss and learning rate, or ``step`` and the measures."""


def read_rows(path: Path) -> list[dict]:
    """Read a file of JSON lines up to a line that a kill cut short; a missing file has none."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            break
        if isinstance(row, dict) and "step" in row:
            rows.append(row)
    return rows


def add_row(path: Path, row: dict) -> None:
    """Write one more row."""
    with open(path, "a", encoding="utf-8") as lines:
        lines.write(json.dumps(row) + "\n")


def forget(folder: Path, step: int) -> None:
    """Drop what a stopped run wrote down after the checkpoint that it goes on from."""
    for name in (VALIDATION, HISTORY):
        rows = [row for row in read_rows(folder / name) if row["step"] <= step]
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def best_row(rows: Sequence[dict], monitor: str) -> dict | None:
    """Return the evaluation of the highest measure, the first of equals; None where there is none."""
    return max(rows, key=lambda row: row[monitor], default=None)
