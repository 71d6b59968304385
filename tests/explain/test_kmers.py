"""k-mers of regions against shuffles, and the classes of Z-forming DNA: data with known answers."""

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from conftest import dna, make_fasta

from zflipon.errors import InputError, ZfliponError
from zflipon.explain.kmers import (
    CLASSES,
    alternation,
    classify,
    enrichment,
    false_discovery,
    region_codes,
    shuffled,
)
from zflipon.genome.alphabet import base_codes
from zflipon.genome.fasta import Genome


def test_a_shuffle_keeps_dinucleotides_and_ends():
    rng = np.random.default_rng(1)
    for seed in range(20):
        codes = base_codes(dna(60, seed)).tolist()
        found = shuffled(codes, rng)
        assert Counter(pairwise(found)) == Counter(pairwise(codes))
        assert (found[0], found[-1]) == (codes[0], codes[-1])
        assert found != codes


def test_all_shuffles_are_equally_likely():
    """ACATAGA has six orders of its three ways round A, of which each must come up one time in six."""
    rng = np.random.default_rng(2)
    codes = base_codes("ACATAGA").tolist()
    seen = Counter(tuple(shuffled(codes, rng)) for _ in range(6000))
    assert len(seen) == 6
    assert all(abs(count - 1000) < 5 * math.sqrt(1000) for count in seen.values())


def test_a_planted_kmer_stands_out_and_its_reverse_complement_is_the_same():
    rng = np.random.default_rng(3)
    sequences = []
    for number in range(300):
        middle = "TGACGTAG" if number % 2 else "CTACGTCA"
        sequences.append(base_codes(dna(16, 500 + number) + middle + dna(16, 900 + number)))
    table = enrichment(sequences, 8, shuffles=20)
    assert table[0].kmer == "CTACGTCA"
    assert table[0].observed >= 300
    assert table[0].fold > 20
    assert table[0].q < 1e-6
    parts = {turned[at : at + 4] for turned in ("TGACGTAG", "CTACGTCA") for at in range(5)}
    enriched = [row.kmer for row in table if row.q < 0.01]
    assert all(any(part in kmer for part in parts) for kmer in enriched)  # it and what overlaps it
    none = enrichment(
        [base_codes(dna(40, int(seed))) for seed in rng.integers(1e6, size=300)], 6, shuffles=20
    )
    assert sum(row.q < 0.01 for row in none) == 0


def test_what_dinucleotides_explain_is_not_enriched():
    table = enrichment([base_codes("CG" * 12)] * 50, 6, shuffles=5)
    assert {row.kmer for row in table} == {"CGCGCG", "GCGCGC"}
    assert all(row.observed == row.expected for row in table)
    assert all(row.q > 0.4 for row in table)


def test_counts_are_those_of_a_plain_loop_and_leave_unknown_bases_out():
    text = [dna(30, 5), "ACGTN" + dna(20, 6), "NNN"]
    turn = str.maketrans("ACGT", "TGCA")
    expected = Counter()
    for sequence in text:
        for at in range(len(sequence) - 3):
            kmer = sequence[at : at + 4]
            if "N" not in kmer:
                expected[min(kmer, kmer.translate(turn)[::-1])] += 1
    found = enrichment([base_codes(sequence) for sequence in text], 4, shuffles=2)
    assert {row.kmer: row.observed for row in found if row.observed} == dict(expected)


def test_q_values_by_hand():
    p = np.array([0.01, 0.04, 0.03, 0.5])
    np.testing.assert_allclose(false_discovery(p), [0.04, 0.16 / 3, 0.16 / 3, 0.5])


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


def test_bad_requests(tmp_path):
    with pytest.raises(ZfliponError, match="k-mers of 2"):
        enrichment([base_codes("ACGT")], 2)
    with pytest.raises(ZfliponError, match="1 shuffles"):
        enrichment([base_codes("ACGT")], 4, shuffles=1)
    with (
        Genome(make_fasta(tmp_path, {"c": "N" * 50 + "ACGT"})) as genome,
        pytest.raises(InputError, match="hold no sequence"),
    ):
        region_codes(genome, {"c": np.array([[3, 20]])})
