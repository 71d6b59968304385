"""Model families, their registry, and checkpoints: everything that turns tokens into logits.

Importing this package imports no torch; functions that need it are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from zflipon.models.metadata import Calibration, ModelMetadata
from zflipon.models.registry import (
    ModelFamily,
    family_names,
    family_summaries,
    get_family,
    recognize_family,
    register_auto_classes,
    register_family,
)
from zflipon.models.structure import Structure, get_structure, register_structure

if TYPE_CHECKING:
    from zflipon.models.checkpoint import Checkpoint, create, load, load_module, save, start

__all__ = [
    "Calibration",
    "Checkpoint",
    "ModelFamily",
    "ModelMetadata",
    "Structure",
    "create",
    "family_names",
    "family_summaries",
    "get_family",
    "get_structure",
    "load",
    "load_module",
    "recognize_family",
    "register_auto_classes",
    "register_family",
    "register_structure",
    "save",
    "start",
]

_NEEDS_TORCH = ("Checkpoint", "create", "load", "load_module", "save", "start")


def __getattr__(name: str):
    """Import a name that needs torch when it is first used."""
    if name not in _NEEDS_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("zflipon.models.checkpoint"), name)
