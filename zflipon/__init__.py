"""Find Z-DNA in whole genomes with DNA language models.

The functions are imported from `zflipon.api` and from workflows when they are first used, so that ``import zflipon`` is
fast.
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
    from zflipon.reproduction.reproduce import reproduce
    from zflipon.workflows.calibrate import calibrate
    from zflipon.workflows.compare import compare
    from zflipon.workflows.genes import find_genes, summarize_regions
    from zflipon.workflows.merge import merge
    from zflipon.workflows.variants import saturate

__version__ = "0.1.0"

__all__ = [
    "Model",
    "__version__",
    "annotate",
    "calibrate",
    "compare",
    "evaluate",
    "explain_region",
    "find_genes",
    "load_model",
    "merge",
    "predict",
    "predict_genome",
    "predict_region",
    "reproduce",
    "saturate",
    "score_variants",
    "summarize_regions",
    "train",
]

_MODULES = {
    "calibrate": "zflipon.workflows.calibrate",
    "compare": "zflipon.workflows.compare",
    "find_genes": "zflipon.workflows.genes",
    "merge": "zflipon.workflows.merge",
    "reproduce": "zflipon.reproduction.reproduce",
    "saturate": "zflipon.workflows.variants",
    "summarize_regions": "zflipon.workflows.genes",
}
"""Function → its module; all others are in `zflipon.api`."""


def __getattr__(name: str):
    """Import a function of the API when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES.get(name, "zflipon.api")), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
