"""Reading of JSON files that other people or interrupted runs may have damaged.

What the values mean is checked by the callers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MAX_BYTES = 1 << 28
"""Largest JSON file that is read: the record of a run on a million contigs is smaller."""


def read_json_file(path: Path) -> Any:
    """Return the value in a JSON file of UTF-8 text; a byte-order mark is skipped.

    Raises
    ------
    OSError
        If the file is missing or cannot be read.
    ValueError
        If it is not a regular file, larger than `MAX_BYTES`, not JSON, or nested too deeply.
    """
    if path.exists() and not path.is_file():  # reading a pipe or /dev/zero would not end
        raise ValueError("not a regular file")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES:,} bytes")
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
