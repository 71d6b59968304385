"""Enrichment of k-mers over shuffles, on data with known answers."""

from collections import Counter

import numpy as np
import pytest
from conftest import dna, make_fasta

from zflipon.errors import InputError, ZfliponError
from zflipon.explain.kmers import (
    benjamini_hochberg,
    kmer_enrichment,
    region_codes,
)
from zflipon.genome.alphabet import base_codes
from zflipon.genome.fasta import Genome


def test_a_planted_kmer_is_enriched_together_with_its_reverse_complement():
    rng = np.random.default_rng(3)
    sequences = []
    for number in range(300):
        middle = "TGACGTAG" if number % 2 else "CTACGTCA"
        sequences.append(base_codes(dna(16, 500 + number) + middle + dna(16, 900 + number)))
    table = kmer_enrichment(sequences, 8, shuffles=20)
    assert table[0].kmer == "CTACGTCA"
    assert table[0].observed >= 300
    assert table[0].fold > 20
    assert table[0].q < 1e-6
    parts = {strand[i : i + 4] for strand in ("TGACGTAG", "CTACGTCA") for i in range(5)}
    enriched = [row.kmer for row in table if row.q < 0.01]
    assert all(any(part in kmer for part in parts) for kmer in enriched)  # it, and those that overlap it
    random = kmer_enrichment(
        [base_codes(dna(40, int(seed))) for seed in rng.integers(1e6, size=300)], 6, shuffles=20
    )
    assert sum(row.q < 0.01 for row in random) == 0


def test_kmers_that_follow_from_dinucleotides_are_not_enriched():
    table = kmer_enrichment([base_codes("CG" * 12)] * 50, 6, shuffles=5)
    assert {row.kmer for row in table} == {"CGCGCG", "GCGCGC"}
    assert all(row.observed == row.expected for row in table)
    assert all(row.q > 0.4 for row in table)


def test_counts_equal_a_plain_loop_without_unknown_bases():
    texts = [dna(30, 5), "ACGTN" + dna(20, 6), "NNN"]
    complement = str.maketrans("ACGT", "TGCA")
    expected = Counter()
    for sequence in texts:
        for i in range(len(sequence) - 3):
            kmer = sequence[i : i + 4]
            if "N" not in kmer:
                expected[min(kmer, kmer.translate(complement)[::-1])] += 1
    table = kmer_enrichment([base_codes(sequence) for sequence in texts], 4, shuffles=2)
    assert {row.kmer: row.observed for row in table if row.observed} == dict(expected)


def test_q_values_by_hand():
    p = np.array([0.01, 0.04, 0.03, 0.5])
    np.testing.assert_allclose(benjamini_hochberg(p), [0.04, 0.16 / 3, 0.16 / 3, 0.5])


def test_unusable_requests_are_refused(tmp_path):
    with pytest.raises(ZfliponError, match="k-mers of 2"):
        kmer_enrichment([base_codes("ACGT")], 2)
    with pytest.raises(ZfliponError, match="1 shuffles"):
        kmer_enrichment([base_codes("ACGT")], 4, shuffles=1)
    with (
        Genome(make_fasta(tmp_path, {"c": "N" * 50 + "ACGT"})) as genome,
        pytest.raises(InputError, match="hold no sequence"),
    ):
        region_codes(genome, {"c": np.array([[3, 20]])})
