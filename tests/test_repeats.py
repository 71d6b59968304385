"""Words that tell repeats: against a slow count."""

import numpy as np
import pytest
from conftest import dna, make_fasta

from zflipon.errors import RecipeError
from zflipon.genome import Genome, reverse_complement
from zflipon.training.repeats import _RARE, repeat_words


def number(word):
    return int("".join(str("ACGT".index(letter)) for letter in word), 4)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_words_are_counted_in_and_out_of_repeats(tmp_path, size):
    contigs = {
        "one": dna(900, 1) + dna(400, 2).lower() + "NNNNN" + dna(200, 3),
        "two": dna(300, 4).lower(),
        "x": "acG",
    }
    path = make_fasta(tmp_path, contigs)
    counts = np.zeros((2, 4**size))
    for sequence in contigs.values():
        for start in range(len(sequence) - size + 1):
            word = sequence[start : start + size]
            if "N" not in word.upper():
                masked = int(word[(size - 1) // 2].islower())
                counts[masked, number(word.upper())] += 1
    usual = counts.sum(1) / counts.sum()
    with Genome(path) as genome:
        found = repeat_words(genome, genome.lengths, size)
    for word in {dna(size, seed) for seed in range(50)}:
        both = counts[:, number(word)] + counts[:, number(reverse_complement(word))]
        odds = (both[1] + _RARE * usual[1]) / (both[0] + _RARE * usual[0])
        assert found[number(word)] == pytest.approx(np.log(odds / (usual[1] / usual[0])), abs=1e-4)
        assert found[number(word)] == found[number(reverse_complement(word))]


@pytest.mark.parametrize("turn", [str.upper, str.lower])
def test_a_genome_that_is_not_soft_masked_is_refused(tmp_path, turn):
    path = make_fasta(tmp_path, {"c": turn(dna(500))})
    with Genome(path) as genome, pytest.raises(RecipeError, match="no repeats in lower case"):
        repeat_words(genome, genome.lengths, 4)


def test_a_word_of_repeats_speaks_for_them(tmp_path):
    unit = dna(60, 5)
    pieces = [piece for seed in range(60) for piece in (dna(150, 100 + seed), unit.lower())]
    with Genome(make_fasta(tmp_path, {"c": "".join(pieces)})) as genome:
        found = repeat_words(genome, genome.lengths, 6)
    inside = [found[number(unit[i : i + 6])] for i in range(10, 45)]
    assert min(inside) > 2
    assert np.mean([found[number(dna(6, seed))] for seed in range(300)]) < 0
