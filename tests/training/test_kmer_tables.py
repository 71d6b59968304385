"""K-mer tables of repeats, dinucleotides and tracks, compared with a slow count."""

import numpy as np
import pytest
from conftest import dna, make_fasta

from zflipon.errors import RecipeError
from zflipon.genome.alphabet import reverse_complement
from zflipon.genome.fasta import Genome
from zflipon.training.kmer_tables import PSEUDO_COUNT, kmer_tables


def number(kmer):
    """Return the column of a k-mer."""
    return int("".join(str("ACGT".index(letter)) for letter in kmer), 4)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_log_odds_equal_a_slow_count(tmp_path, size):
    contigs = {
        "one": dna(900, 1) + dna(400, 2).lower() + "NNNNN" + dna(200, 3),
        "two": dna(300, 4).lower(),
        "x": "acG",
    }
    path = make_fasta(tmp_path, contigs)
    track = {"one": np.array([[0, 250], [880, 1000]]), "x": np.array([[1, 2]])}
    every = {"one": np.array([[0, 1505]]), "two": np.array([[0, 300]]), "x": np.array([[0, 3]])}
    tracks = [track, {}, every]
    inside, outside = np.zeros((2, 4**size)), np.zeros((2, 4**size))
    dinucleotides = 10 if size > 1 else 0
    for name, sequence in contigs.items():
        for start in range(len(sequence) - size + 1):
            kmer, middle = sequence[start : start + size], start + (size - 1) // 2
            if "N" in kmer.upper():
                continue
            covered = any(low <= middle < high for low, high in track.get(name, ()))
            for row, within in enumerate((sequence[middle].islower(), covered)):
                (inside if within else outside)[row, number(kmer.upper())] += 1
    with Genome(path) as genome:
        tables = kmer_tables(genome, genome.lengths, tracks, size)
    assert tables.shape == (4 + dinucleotides, 4**size)
    assert not tables[2 + dinucleotides :].any()  # tracks that cover no base or all bases
    tables = tables[[0, 1 + dinucleotides]]
    average = inside.sum(1) / (inside + outside).sum(1)
    for kmer in {dna(size, seed) for seed in range(50)}:
        for row, share in enumerate(average):
            column, reverse = number(kmer), number(reverse_complement(kmer))
            within = inside[row, column] + inside[row, reverse] + PSEUDO_COUNT * share
            beyond = outside[row, column] + outside[row, reverse] + PSEUDO_COUNT * (1 - share)
            expected = np.log(within / beyond) - np.log(share / (1 - share))
            assert tables[row, column] == pytest.approx(expected, abs=1e-4)
            assert tables[row, column] == tables[row, reverse]


@pytest.mark.parametrize("size", [2, 4, 5])
def test_dinucleotides_in_the_middle_of_kmers_on_both_strands(tmp_path, size):
    sequence = dna(3000, 7, "ACGTT") + dna(100, 8).lower()
    with Genome(make_fasta(tmp_path, {"c": sequence})) as genome:
        tables = kmer_tables(genome, genome.lengths, [], size)[1:]
    names = sorted({min(a + b, reverse_complement(a + b)) for a in "ACGT" for b in "ACGT"})
    text = sequence.upper()
    kmers = [text[i : i + size] for i in range(len(text) - size + 1)]

    def indicators(kmer):
        middle = (size - 1) // 2
        both = (each[middle : middle + 2] for each in (kmer, reverse_complement(kmer)))
        return np.mean(
            [[name == min(pair, reverse_complement(pair)) for name in names] for pair in both], axis=0
        )

    mean = np.mean([indicators(kmer) for kmer in kmers], axis=0)
    for kmer in set(kmers[:200]):
        np.testing.assert_allclose(tables[:, number(kmer)], indicators(kmer) - mean, atol=1e-6)
        np.testing.assert_array_equal(tables[:, number(kmer)], tables[:, number(reverse_complement(kmer))])


@pytest.mark.parametrize("convert", [str.upper, str.lower])
def test_a_genome_that_is_not_soft_masked_is_refused(tmp_path, convert):
    path = make_fasta(tmp_path, {"c": convert(dna(500))})
    with Genome(path) as genome, pytest.raises(RecipeError, match="expected a soft-masked FASTA"):
        kmer_tables(genome, genome.lengths, [], 4)


def test_kmers_of_repeats_have_high_log_odds(tmp_path):
    unit = dna(60, 5)
    pieces = [piece for seed in range(60) for piece in (dna(150, 100 + seed), unit.lower())]
    with Genome(make_fasta(tmp_path, {"c": "".join(pieces)})) as genome:
        tables = kmer_tables(genome, genome.lengths, [], 6)[0]
    inside = [tables[number(unit[i : i + 6])] for i in range(10, 45)]
    assert min(inside) > 2
    assert np.mean([tables[number(dna(6, seed))] for seed in range(300)]) < 0
