"""Check a built wheel: its size, the bundled models inside, and no files that do not belong there.

python packaging/check_wheel.py dist/zflipon-0.1.0-py3-none-any.whl [--max-bytes 8000000]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

MAX_BYTES = 8_000_000
"""Largest size of the wheel. It holds the bundled models, and people install it over slow connections."""

REQUIRED = (
    "zflipon/py.typed",
    "zflipon/models/bundled/compact/model.safetensors",
    "zflipon/models/bundled/compact/tokenizer.json",
    "zflipon/models/bundled/compact-omics/model.safetensors",
    "zflipon/models/bundled/zhunt/config.json",
    "zflipon/report/templates/",
)
"""Files of the wheel, or folders of such files."""

TOP_LEVEL = ("zflipon", "zflipon-")
"""Beginnings of the names of top-level folders: the package and its metadata."""


def problems(path: Path, max_bytes: int = MAX_BYTES) -> Iterator[str]:
    """Yield a message for each problem of a wheel.

    Parameters
    ----------
    path : Path
    max_bytes : int
    """
    size = path.stat().st_size
    with ZipFile(path) as wheel:
        files = {each.filename: each.compress_size for each in wheel.infolist()}
    if size > max_bytes:
        largest = sorted(files, key=files.__getitem__, reverse=True)[:3]
        listed = ", ".join(f"{name} ({files[name]:,} bytes)" for name in largest)
        yield f"{path.name} has {size:,} bytes, expected at most {max_bytes:,}; its largest files: {listed}"
    for name in REQUIRED:
        if not any(file == name or (name.endswith("/") and file.startswith(name)) for file in files):
            yield f"{path.name} lacks {name}; add it to package-data in pyproject.toml"
    for name in files:
        folder = name.partition("/")[0]
        if folder != TOP_LEVEL[0] and not folder.startswith(TOP_LEVEL[1]):
            yield f"{path.name} has {name}, which is not part of the package"


def main() -> None:
    """Check the wheels that are given as arguments; exit with 1 if one has a problem."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheels", type=Path, nargs="+")
    parser.add_argument("--max-bytes", type=int, default=MAX_BYTES)
    arguments = parser.parse_args()
    messages = [message for path in arguments.wheels for message in problems(path, arguments.max_bytes)]
    if messages:
        raise SystemExit("\n".join(messages))
    for path in arguments.wheels:
        print(f"{path.name}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
