"""GA4GH digests, against published values."""

from conftest import make_fasta

from zflipon.genome.digests import sequence_collection, sha512t24u
from zflipon.genome.fasta import Genome

BASE = {"chrX": "TTGGGGAA", "chr1": "GGAA", "chr2": "GCGC"}  # base.fa of the refget documentation


def test_refget_identifiers_are_those_that_are_published():
    assert sha512t24u(b"") == "z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXc"
    assert sha512t24u(b"ACGT") == "aKF498dAxcJAqme6QYQ7EZ07-fiw8Kw2"


def test_the_digest_of_a_published_sequence_collection(tmp_path):
    with Genome(make_fasta(tmp_path, {name: text.lower() for name, text in BASE.items()})) as genome:
        refget = {name: genome.scan(name, 1).refget for name in genome.lengths}
    assert refget["chr1"] == "SQ.YBbVX0dLKG1ieEDCiMmkrTZFt_Z5Vdaj"
    assert sequence_collection(refget) == "XZlrcEGi6mlopZ2uD8ObHkQB1d0oDwKk"
