"""Model families and checkpoints: what turns tokens into logits.

A family is one module here and one line in `FAMILIES`. The module defines

- ``MODEL`` and ``CONFIG``: a `zflipon.models.base.DnaModel` and its config class,
- ``TOKENIZER``: its tokenizer class, and ``TOKENIZER_FILE``, the file that holds it (``""``: none is needed),
- ``STORY``: what a checkpoint that tells nothing is taken to be (fields of `Story`),
- ``LORA_TARGETS``: the linear layers that low-rank adapters go to by default,
- ``recognises(config)``: whether a ``config.json`` of elsewhere is of this family.

Importing this package imports no torch: what needs it is loaded when asked for.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from zflipon.errors import ModelError, suggest
from zflipon.models.metadata import Calibration, ModelMetadata

if TYPE_CHECKING:
    from zflipon.models.checkpoint import Checkpoint, create, load, load_module, save, start

__all__ = [
    "FAMILIES",
    "FORMULAS",
    "WITHOUT_LANGUAGE",
    "Calibration",
    "Checkpoint",
    "ModelMetadata",
    "create",
    "family",
    "load",
    "load_module",
    "recognise",
    "save",
    "start",
]

FAMILIES: dict[str, str] = {
    "compact": "zflipon.models.families.compact",
    "dnabert2": "zflipon.models.families.dnabert2",
    "gena": "zflipon.models.families.gena",
    "dnabert": "zflipon.models.families.dnabert",
    "modernbert": "zflipon.models.families.modernbert",
    "deepz": "zflipon.models.families.deepz",
    "graphz": "zflipon.models.families.graphz",
    "zhunt": "zflipon.models.families.zhunt",
}
"""Family → module. The order is that in which they are asked whether a config is theirs."""

FORMULAS = ("zhunt",)
"""Families that nothing is trained in."""

WITHOUT_LANGUAGE = (*FORMULAS, "deepz", "graphz")
"""Families that read bases and no tokens: they have the base objective alone."""

_HEAVY = ("Checkpoint", "create", "load", "load_module", "save", "start")


def __getattr__(name: str):
    """Import what needs torch when it is first used."""
    if name not in _HEAVY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("zflipon.models.checkpoint"), name)


def family(name: str) -> ModuleType:
    """Import a family's module.

    Raises
    ------
    ModelError
        If there is no such family.
    """
    if name not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise ModelError(f"unknown model family '{name}'{suggest(name, FAMILIES)}; known are {known}")
    return importlib.import_module(FAMILIES[name])


def recognise(config: dict, where: object) -> str:
    """Return the family of a ``config.json``, also where its ``model_type`` only says ``bert``.

    Parameters
    ----------
    config : dict
        Content of the file.
    where : object
        Named in the error.

    Raises
    ------
    ModelError
        If no family knows the config, or it names one that is unknown.
    """
    told = config.get("zflipon")
    if isinstance(told, dict) and "family" in told:
        if told["family"] not in FAMILIES:
            raise ModelError(
                f"{where}: unknown model family '{told['family']}'; known are {', '.join(FAMILIES)}"
            )
        return told["family"]
    for name in FAMILIES:
        if family(name).recognises(config):
            return name
    raise ModelError(
        f"{where}: unknown model family (model_type '{config.get('model_type', 'none')}', "
        f"vocab_size {config.get('vocab_size', 'none')}); known are {', '.join(FAMILIES)}"
    )
