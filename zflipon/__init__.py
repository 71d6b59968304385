"""Find Z-DNA in whole genomes with DNA language models.

The functions of `zflipon.api` are imported from it when they are first used, so that ``import zflipon`` is fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zflipon.api import (
        Model,
        annotate,
        evaluate,
        explain_region,
        load_model,
        predict,
        predict_genome,
        predict_region,
        score_variants,
        train,
    )

__version__ = "0.1.0"

__all__ = [
    "Model",
    "__version__",
    "annotate",
    "evaluate",
    "explain_region",
    "load_model",
    "predict",
    "predict_genome",
    "predict_region",
    "score_variants",
    "train",
]


def __getattr__(name: str):
    """Import a function of the API when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("zflipon.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
