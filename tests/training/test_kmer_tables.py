"""Words that tell repeats, pairs of letters and tracks: against a slow count."""

import numpy as np
import pytest
from conftest import dna, make_fasta

from zflipon.errors import RecipeError
from zflipon.genome.alphabet import reverse_complement
from zflipon.genome.fasta import Genome
from zflipon.training.kmer_tables import PSEUDO_COUNT, kmer_tables


def number(word):
    return int("".join(str("ACGT".index(letter)) for letter in word), 4)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_words_are_counted_in_and_out_of_repeats_and_tracks(tmp_path, size):
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
    pairs = 10 if size > 1 else 0
    for name, sequence in contigs.items():
        for start in range(len(sequence) - size + 1):
            word, middle = sequence[start : start + size], start + (size - 1) // 2
            if "N" in word.upper():
                continue
            covered = any(low <= middle < high for low, high in track.get(name, ()))
            for row, within in enumerate((sequence[middle].islower(), covered)):
                (inside if within else outside)[row, number(word.upper())] += 1
    with Genome(path) as genome:
        found = kmer_tables(genome, genome.lengths, tracks, size)
    assert found.shape == (4 + pairs, 4**size)
    assert not found[2 + pairs :].any()  # a track without a base, or with all of them, tells nothing
    found = found[[0, 1 + pairs]]
    usual = inside.sum(1) / (inside + outside).sum(1)
    for word in {dna(size, seed) for seed in range(50)}:
        for row, share in enumerate(usual):
            this, other = number(word), number(reverse_complement(word))
            within = inside[row, this] + inside[row, other] + PSEUDO_COUNT * share
            without = outside[row, this] + outside[row, other] + PSEUDO_COUNT * (1 - share)
            expected = np.log(within / without) - np.log(share / (1 - share))
            assert found[row, this] == pytest.approx(expected, abs=1e-4)
            assert found[row, this] == found[row, other]


@pytest.mark.parametrize("size", [2, 4, 5])
def test_pairs_of_letters_are_told_whichever_strand_is_read(tmp_path, size):
    sequence = dna(3000, 7, "ACGTT") + dna(100, 8).lower()
    with Genome(make_fasta(tmp_path, {"c": sequence})) as genome:
        found = kmer_tables(genome, genome.lengths, [], size)[1:]
    names = sorted({min(a + b, reverse_complement(a + b)) for a in "ACGT" for b in "ACGT"})
    text = sequence.upper()
    words = [text[i : i + size] for i in range(len(text) - size + 1)]

    def told(word):
        middle = (size - 1) // 2
        both = (each[middle : middle + 2] for each in (word, reverse_complement(word)))
        return np.mean(
            [[name == min(pair, reverse_complement(pair)) for name in names] for pair in both], axis=0
        )

    share = np.mean([told(word) for word in words], axis=0)
    for word in set(words[:200]):
        np.testing.assert_allclose(found[:, number(word)], told(word) - share, atol=1e-6)
        np.testing.assert_array_equal(found[:, number(word)], found[:, number(reverse_complement(word))])


@pytest.mark.parametrize("turn", [str.upper, str.lower])
def test_a_genome_that_is_not_soft_masked_is_refused(tmp_path, turn):
    path = make_fasta(tmp_path, {"c": turn(dna(500))})
    with Genome(path) as genome, pytest.raises(RecipeError, match="no repeats in lower case"):
        kmer_tables(genome, genome.lengths, [], 4)


def test_a_word_of_repeats_speaks_for_them(tmp_path):
    unit = dna(60, 5)
    pieces = [piece for seed in range(60) for piece in (dna(150, 100 + seed), unit.lower())]
    with Genome(make_fasta(tmp_path, {"c": "".join(pieces)})) as genome:
        found = kmer_tables(genome, genome.lengths, [], 6)[0]
    inside = [found[number(unit[i : i + 6])] for i in range(10, 45)]
    assert min(inside) > 2
    assert np.mean([found[number(dna(6, seed))] for seed in range(300)]) < 0
