"""Tetranucleotide counts equal slow loops; statistics of sequence with known frequencies."""

from collections import Counter
from itertools import product

import numpy as np
import pytest
from conftest import dna

from zflipon.genome import composition
from zflipon.genome.composition import (
    COMPOSITION_WINDOW,
    DINUCLEOTIDES,
    CompositionCounter,
    composition_of,
    tetranucleotide_indices,
)

WORDS = ["".join(letters) for letters in product("ACGT", repeat=4)]


def counts_of(text: str) -> np.ndarray:
    counts = Counter(text[i : i + 4] for i in range(len(text) - 3))
    return np.array([counts[word] for word in WORDS])


def test_indices_leave_out_words_with_unknown_bases():
    text = dna(50, 1) + "N" + dna(3, 2) + "RY" + dna(60, 3)
    expected = [
        WORDS.index(text[i : i + 4]) for i in range(len(text) - 3) if set(text[i : i + 4]) <= set("ACGT")
    ]
    assert tetranucleotide_indices(text).tolist() == expected
    assert tetranucleotide_indices("ACG").tolist() == []


def test_windows_have_the_counts_of_a_slow_loop():
    text = dna(2 * COMPOSITION_WINDOW + 3 + 999, 4)
    counter = CompositionCounter()
    counter.add(text)
    first, second = counter.windows()
    assert (first == counts_of(text[: COMPOSITION_WINDOW + 3])).all()
    assert (second == counts_of(text[COMPOSITION_WINDOW : 2 * COMPOSITION_WINDOW + 3])).all()


def test_short_contigs_fill_a_window_together():
    counter = CompositionCounter()
    for seed in range(600):
        counter.add(dna(103, seed))
    (window,) = counter.windows()
    assert (window == sum(counts_of(dna(103, seed)) for seed in range(500))).all()


def test_of_a_large_genome_evenly_spaced_windows_are_counted():
    counter = CompositionCounter(total_bases=composition.MAX_COUNTED_BASES * 3 - 1)
    text = dna(COMPOSITION_WINDOW * 6 + 3, 5)
    counter.add(text)
    assert len(counter.windows()) == 2
    start = 3 * COMPOSITION_WINDOW
    assert (counter.windows()[1] == counts_of(text[start : start + COMPOSITION_WINDOW + 3])).all()


def test_both_strands_have_the_same_statistics():
    text = dna(5000, 6, "AACGGGT")
    reverse = text.translate(str.maketrans("ACGT", "TGCA"))[::-1]
    one, other = (vars(composition_of(counts_of(each)[None])) for each in (text, reverse))
    for name, values in one.items():
        assert values == pytest.approx(other[name])


def test_independent_bases_have_ratios_of_one():
    statistics = composition_of(counts_of(dna(200_000, 7, "ACCGGT"))[None])
    assert statistics.gc == pytest.approx(2 / 3, abs=0.005)
    assert statistics.ratios == pytest.approx(0, abs=0.03)
    assert np.abs(statistics.residuals).max() < 0.3


def test_missing_cg_is_seen_in_its_ratio():
    text = dna(100_000, 8).replace("CG", "CA")
    ratios = dict(zip(DINUCLEOTIDES, np.exp(composition_of(counts_of(text)[None]).ratios[0]), strict=True))
    assert ratios["CG"] < 0.02
    assert ratios["CA"] > 1.2


def test_an_empty_window_has_finite_statistics():
    assert all(np.isfinite(value).all() for value in vars(composition_of(np.zeros((1, 256), int))).values())
    assert all(
        np.isfinite(value).all() for value in vars(composition_of(counts_of("A" * 999)[None])).values()
    )
