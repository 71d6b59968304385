"""Score the alleles of a VCF: how much each alternative allele changes the Z-DNA probability around it.

Each allele is predicted in a window of the model's width, once with the reference and once with the alternative
sequence. Bases at least a margin away from the window's edges are compared. Windows start on a grid, so that
neighbouring variants share the window of the reference.

Bases outside an allele, and the common prefix and suffix of both alleles, are compared with themselves. The remaining
bases are aligned from the left; a base that only one allele has is compared with probability 0.
"""

from zflipon.workflows.variants.alleles import SKIP_REASONS, AlleleBatch, insertion_point
from zflipon.workflows.variants.fields import FIELDS, TABLE_COLUMNS
from zflipon.workflows.variants.run import score_variants
from zflipon.workflows.variants.saturation import saturate
from zflipon.workflows.variants.scoring import score_alleles
from zflipon.workflows.variants.windows import Geometry
from zflipon.workflows.variants.writing import EXTENSIONS

__all__ = [
    "EXTENSIONS",
    "FIELDS",
    "SKIP_REASONS",
    "TABLE_COLUMNS",
    "AlleleBatch",
    "Geometry",
    "insertion_point",
    "saturate",
    "score_alleles",
    "score_variants",
]
