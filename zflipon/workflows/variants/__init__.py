"""VCF → what each alternative allele does to the probabilities of Z-DNA around it.

Each allele is read in a window of the model's own width, once with the reference and once with the alternative, and
bases are compared that lie at least the model's margin away from the window's edges. Windows lie on a grid, so that
neighbouring variants share the reference's.

Bases outside an allele are compared with themselves. Inside it, what both alleles share at its beginning and its end
is too; of what is left, base stands against base from the left, and bases that only one allele has stand against
none, whose probability is 0.
"""

from zflipon.workflows.variants.alleles import REASONS, Pool, shared
from zflipon.workflows.variants.run import variants
from zflipon.workflows.variants.scoring import scores
from zflipon.workflows.variants.windows import Geometry
from zflipon.workflows.variants.writing import EXTENSIONS, FIELDS

__all__ = [
    "EXTENSIONS",
    "FIELDS",
    "REASONS",
    "Geometry",
    "Pool",
    "scores",
    "shared",
    "variants",
]
