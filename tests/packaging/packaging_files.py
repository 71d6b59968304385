"""Where the files of `packaging/` are, and how its scripts are imported."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGING = ROOT / "packaging"


def load_script(name):
    """Import a script of `packaging/`, which is not a package."""
    path = PACKAGING / name
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(name):
    return (PACKAGING / name).read_text(encoding="utf-8")
