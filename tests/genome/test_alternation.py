"""Classes of Z-forming DNA on sequences with known answers."""

import pytest

from zflipon.genome.alphabet import base_codes
from zflipon.genome.alternation import CLASSES, alternation, classify


@pytest.mark.parametrize(
    ("text", "share", "kind"),
    [
        ("CGCGCGCG", 1.0, "(CG)n"),
        ("TGTGTGTGTG", 1.0, "(TG)n/(CA)n"),
        ("CACACACACA", 1.0, "(TG)n/(CA)n"),
        ("TATATATA", 1.0, "(TA)n"),
        ("CGCGTATACGCATG", 1.0, "mixed alternating"),
        ("AAAAGGGG", 0.0, "not alternating"),
        ("CCGG", 1 / 3, "not alternating"),
        ("AAACGCGCGCAAA", 8 / 12, "(CG)n"),
        ("CGCGNCGCG", 1.0, "not alternating"),
    ],
)
def test_classes(text, share, kind):
    assert alternation(base_codes(text)) == pytest.approx(share)
    assert classify(base_codes(text)) == kind
    assert kind in CLASSES
