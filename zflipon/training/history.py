"""Log files in a stage's folder: the training loss, and the measures of each evaluation.

Each line is a JSON object with ``step``. Drawing them is up to `zflipon.training.curves`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from zflipon.config import LOWER_IS_BETTER

HISTORY = "history.jsonl"
"""File of training losses: ``step``, ``loss``, ``learning_rate``."""

VALIDATION = "validation.jsonl"
"""File of evaluations: ``step`` and the measures."""


def read_rows(path: Path) -> list[dict]:
    """Read a file of JSON lines, up to a line that an interrupted run left incomplete. A missing file has no rows."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            break
        if isinstance(row, dict) and "step" in row:
            rows.append(row)
    return rows


def append_row(path: Path, row: dict) -> None:
    """Append one row to a file of JSON lines."""
    with open(path, "a", encoding="utf-8") as lines:
        lines.write(json.dumps(row) + "\n")


def truncate_history(folder: Path, step: int) -> None:
    """Remove the rows that an interrupted run wrote after the checkpoint from which it is resumed."""
    for name in (VALIDATION, HISTORY):
        rows = [row for row in read_rows(folder / name) if row["step"] <= step]
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def best_row(rows: Sequence[dict], measure: str) -> dict | None:
    """Return the evaluation with the best value of a measure, the first of equals; None without evaluations."""
    best = min if measure in LOWER_IS_BETTER else max
    return best(rows, key=lambda row: row[measure], default=None)
