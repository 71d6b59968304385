"""Z-HUNT, compared with a literal computation and with outputs of the reference program."""

import gzip
import itertools
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SHARED, dna, needs_shared

from zflipon.config import InferenceConfig
from zflipon.energetics import equilibrium, published, zhunt
from zflipon.errors import ModelError, ZfliponError
from zflipon.genome.alphabet import PADDING_BASE, base_codes
from zflipon.genome.fasta import Genome
from zflipon.genome.interval_files import read_bed
from zflipon.genome.intervals import interval_mask
from zflipon.inference.predictor import Predictor
from zflipon.models import create, load

REFERENCE = Path(__file__).resolve().parents[1] / "data" / "zhunt"

ENERGY = {  # kcal/mol of anti–syn dinucleotides, written out from Ho et al. 1986
    **dict(zip(("AA", "AC", "AG", "AT"), (4.4, 5.2, 3.4, 6.2), strict=True)),
    **dict(zip(("CA", "CC", "CG", "CT"), (1.4, 2.4, 0.66, 3.4), strict=True)),
    **dict(zip(("GA", "GC", "GG", "GT"), (3.3, 4.2, 2.4, 5.2), strict=True)),
    **dict(zip(("TA", "TC", "TG", "TT"), (2.5, 3.3, 1.4, 4.4), strict=True)),
}


def energy(pair: str, state: str, before: str) -> float:
    """Return the energy of a dinucleotide in a state after another."""
    if "N" in pair:
        return 4.26
    if state != before:
        return {0: 6.2, 1: 5.2, 2: 4.0}[sum(base in "GC" for base in pair)]
    return ENERGY[pair] if state == "A" else ENERGY[pair[::-1]]


def literal(window: str, free_first: bool = False) -> float:
    """Return the Z-score of one window, step by step: all assignments, partition function, bisection.

    The first dinucleotide's own energy may be left out of the choice of assignment.
    """
    pairs = [window[i : i + 2] for i in range(0, len(window), 2)]
    n = len(pairs)

    def energies(states):
        return [
            energy(p, s, states[max(0, i - 1)]) for i, (p, s) in enumerate(zip(pairs, states, strict=True))
        ]

    best = min(
        (round(sum(energies(states)[free_first:]), 6), states) for states in itertools.product("AS", repeat=n)
    )[1]
    factors = np.exp(-np.array(energies(best)) / 0.59004)

    def excess(linking):
        none = math.exp(-1100 / 4363 * linking**2 + 16.94800353)
        total, twist = none, 0.0
        for first, last in itertools.combinations(range(n + 1), 2):
            turns = 0.8 + (last - first) * 0.357
            weight = factors[first:last].prod() * math.exp(-1100 / 4363 * (linking - turns) ** 2)
            total += weight
            twist += weight * turns
        return 0.357 / 2 * n - twist / total

    low, high = 10.0, 50.0
    if excess(high) > 0:
        low = high
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    tail = 0.5 * math.erfc(abs(low - 29.6537135) / 2.71997 / math.sqrt(2))
    return tail if low > 29.6537135 else 1 / tail


@pytest.mark.parametrize("n", [1, 2, 3, 6, 8])
def test_scores_equal_a_literal_computation(n):
    # a homopolymer-free sequence, whose assignments have few ties
    sequence = dna(60, seed=n) + "CGCGCGCACGTGTGNACGCGTT"
    found, length = zhunt.scores(sequence, n, n)
    codes = torch.from_numpy(base_codes(sequence))
    plain = dict(zhunt.window_linking(codes, n, n))[n].numpy()
    for start in range(0, len(sequence) - 2 * n + 1, 7):
        expected = literal(sequence[start : start + 2 * n])
        assert zhunt.z_score(plain[start : start + 1])[0] == pytest.approx(expected, rel=1e-4)
        assert length[start] == 2 * n
    assert len(found) == len(sequence)


def test_the_published_example():
    score, length = zhunt.scores("nATGCGCGCGGCATGC", 3, 6)
    assert [int(length[i] + i) for i in range(3)] == [10, 11, 10]
    np.testing.assert_allclose(score[:3], [2220, 1057, 3428], rtol=2e-3)


@pytest.mark.parametrize(("name", "least"), [("random", 3), ("mtDNA.NC_012920.1", 1)])
def test_scores_equal_the_reference_program(name, least):
    """The files hold score and window length of each base, as the program Z-HUNT wrote them for a circle."""
    sequence = (REFERENCE / f"{name}.txt").read_text().strip()
    with gzip.open(REFERENCE / f"{name}.z_scores.tsv.gz", "rt") as lines:
        rows = [line.split("\t") for line in lines][1:]
    score, length = zhunt.scores(sequence, min_dinucleotides=least, max_dinucleotides=8, wrap=True)
    np.testing.assert_allclose(score, [float(row[0]) for row in rows], rtol=2e-3)
    # two lengths can have equal scores within the program's tolerance
    assert np.mean(length == [int(row[1]) for row in rows]) >= 0.999


def test_results_do_not_depend_on_case_and_chunks(monkeypatch):
    sequence = dna(5000)
    score, length = zhunt.scores(sequence)
    monkeypatch.setitem(zhunt.CHUNK_STARTS, "cpu", 77)
    again, lengths = zhunt.scores(sequence.lower())
    np.testing.assert_array_equal(score, again)
    np.testing.assert_array_equal(length, lengths)


def test_windows_at_the_end_fit_the_sequence():
    score, length = zhunt.scores("CG" * 10, 6, 8)
    assert length[-12:].tolist() == [12] + [0] * 11
    assert (score[-11:] == 0).all()
    assert (score[:9] > 1000).all()
    circle, circle_length = zhunt.scores("CG" * 10, 6, 8, wrap=True)
    assert (circle_length == 16).all()
    np.testing.assert_allclose(circle[::2], circle[0])
    short, short_length = zhunt.scores("CGCG")
    assert (short == 0).all()
    assert (short_length == 0).all()
    assert [len(each) for each in zhunt.scores("")] == [0, 0]


def test_z_forming_sequence_scores_above_the_rest():
    alternating = {pair: zhunt.scores(pair * 8)[0][0] for pair in ("CG", "TG", "TA", "AA")}
    assert alternating["CG"] > 1e5 > alternating["TG"] > 700 > 10 > alternating["TA"] > alternating["AA"]


def test_invalid_lengths():
    for least, most in ((0, 6), (7, 6), (6, 13)):
        with pytest.raises(ZfliponError, match="expected 1 <= least <= most <= 12"):
            zhunt.scores("ACGT", least, most)


def test_starts_of_published_calls_equal_a_literal_computation():
    sequence = "ATGGCATGCGTGCAACACACACACACACACAGTACGCNGCGCTGCGCG"
    shortest, excess, end = (
        each[0].numpy()
        for each in published.published_call_starts(torch.from_numpy(base_codes(sequence))[None], 6, 8)
    )
    for start in range(len(sequence)):
        scores = {
            n: literal(sequence[start : start + 2 * n], free_first=True)
            for n in (6, 7, 8)
            if start + 2 * n <= len(sequence)
        }
        if not scores:
            assert shortest[start] == equilibrium.MAX_LINKING
            assert excess[start] < 0
            continue
        assert zhunt.z_score(shortest[start]) == pytest.approx(scores[6], rel=1e-3)
        expected = math.log(scores[6] / 420)
        if expected >= 0:
            best = max(scores, key=scores.get)
            expected = min(expected, math.log(scores[best] / 700))
            assert end[start] == start + 2 * best + 2
        assert excess[start] == pytest.approx(expected, abs=1e-3)
    # TG before (GC)n: published maps have this window, the program's assignment alternates there and loses it
    assert zhunt.scores(sequence[1:13], 6, 6)[0][0] < 700
    assert excess[1] > 0


def test_a_call_ends_with_the_window_of_its_last_start():
    starts, ends = torch.zeros(2, 12, dtype=torch.bool), torch.zeros(2, 12, dtype=torch.int64)
    for start, end in ((1, 9), (3, 6), (8, 11)):
        starts[0, start], ends[0, start] = True, end
    inside = published.call_mask(starts, ends).int()
    assert inside.tolist() == [[0, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 0], [0] * 12]


@needs_shared
def test_the_rule_reproduces_published_calls():
    with Genome(SHARED / "hg19" / "hg19_part.fa.gz") as genome:
        length = genome.length("chr22_50M")
        rows = read_bed(SHARED / "hg19" / "zhunt.bed", genome.lengths, "calls")["chr22_50M"]
        codes = torch.from_numpy(base_codes(genome.fetch("chr22_50M", 0, length)))[None]
    _, excess, end = published.published_call_starts(codes)
    called = published.call_mask(excess >= 0, end)[0].numpy()
    expected = interval_mask(rows, 0, length)
    assert 2 * (called & expected).sum() / (called.sum() + expected.sum()) > 0.97
    edges = np.flatnonzero(np.diff(np.pad(called.astype(np.int8), 1))).reshape(-1, 2)
    exact = set(map(tuple, edges.tolist())) & set(map(tuple, rows.tolist()))
    assert len(exact) > 0.9 * len(rows)


def test_zhunt_is_a_model():
    sequence = dna(700, seed=3) + "CG" * 12 + dna(300, seed=4)
    predictor = Predictor(load("zhunt"), InferenceConfig(device="cpu"))
    (found,) = predictor.predict_probabilities([sequence])
    _, excess, end = published.published_call_starts(torch.from_numpy(base_codes(sequence))[None])
    called = published.call_mask(excess >= 0, end)[0].numpy()
    assert ((found >= 0.5) == called).all()
    best = np.full(len(sequence), -36.0)
    for start, (odds, stop) in enumerate(zip(excess[0].numpy(), end[0].numpy(), strict=True)):
        np.maximum(best[start:stop], odds, out=best[start:stop])
    np.testing.assert_allclose(found[called], 1 / (1 + np.exp(-best[called])), atol=1e-4)
    assert (found[700:724] > 0.9).all()
    short, _ = predictor.predict_probabilities(["ACGT", "CG" * 20])
    assert (short < 1e-6).all()


def test_zhunt_cannot_be_trained():
    with pytest.raises(ModelError, match="has no objective 'token'"):
        create("zhunt", "token", load("zhunt").tokenizer)


@pytest.mark.parametrize(
    ("least", "most"), [(1, 6), (4, 6), (3, 5), (5, 9), (6, 6), (7, 8), (6, 12), (1, 12)]
)
def test_all_lengths_together_equal_one_after_the_other(least, most):
    codes = torch.from_numpy(np.random.default_rng(7).integers(0, 5, (2, 400)))
    seeds = torch.nonzero(torch.ones_like(codes, dtype=torch.bool), as_tuple=True)
    shortest = published.shortest_window_linking(codes, least, torch.float64)
    best, length = published.best_windows(codes, seeds, shortest[seeds], least, most)
    padded = torch.nn.functional.pad(codes, (0, 2 * most - 1), value=PADDING_BASE)
    expected, longest = shortest.clone(), torch.full_like(codes, 2 * least)
    for n, linking in zhunt.window_linking(padded, least, most, torch.float64, free_first=True):
        linking = linking.masked_fill(torch.arange(400) + 2 * n > 400, equilibrium.MAX_LINKING)
        longest = torch.where(linking < expected, 2 * n, longest)
        expected = torch.minimum(linking, expected)
    assert torch.equal(best, expected.flatten())
    assert torch.equal(length, longest.flatten())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_table_of_shortest_windows_has_the_same_values(monkeypatch, dtype):
    codes = torch.from_numpy(np.random.default_rng(5).integers(0, PADDING_BASE + 1, (3, 5000)))
    codes[1:] = codes[1:].clamp(max=3)
    alone = published.shortest_window_linking(codes, 6, dtype)
    monkeypatch.setattr(published, "_bases_scored", Counter())
    monkeypatch.setattr(published, "_TABLE_BASES", 20_000)
    monkeypatch.setattr(published, "_tables", {})
    assert torch.equal(published.shortest_window_linking(codes, 6, dtype), alone)
    assert not published._tables
    assert torch.equal(published.shortest_window_linking(codes, 6, dtype), alone)
    assert list(published._tables) == [(dtype, codes.device)]
    assert torch.equal(
        published.shortest_window_linking(codes[:, :9], 6, dtype), alone[:, :9].fill_(equilibrium.MAX_LINKING)
    )


def test_no_thread_waits_while_another_one_computes_the_table(monkeypatch):
    codes = torch.from_numpy(np.random.default_rng(5).integers(0, 4, (1, 5000)))
    expected = published.shortest_window_linking(codes, 6)
    monkeypatch.setattr(published, "_bases_scored", Counter())
    monkeypatch.setattr(published, "_TABLE_BASES", 0)
    monkeypatch.setattr(published, "_tables", {})
    others = []

    def compute(dtype, device):
        others.append(published.shortest_window_linking(codes, 6))
        return table(dtype, device)

    table = published._compute_table
    monkeypatch.setattr(published, "_compute_table", compute)
    assert torch.equal(published.shortest_window_linking(codes, 6), expected)
    (other,) = others
    assert torch.equal(other, expected)


def test_a_table_that_failed_is_computed_again(monkeypatch):
    codes = torch.from_numpy(np.random.default_rng(5).integers(0, 4, (1, 5000)))
    monkeypatch.setattr(published, "_bases_scored", Counter())
    monkeypatch.setattr(published, "_TABLE_BASES", 0)
    monkeypatch.setattr(published, "_tables", {})
    with monkeypatch.context() as patch:
        patch.setattr(published, "_compute_table", lambda *_key: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            published.shortest_window_linking(codes, 6)
    published.shortest_window_linking(codes, 6)
    assert len(published._tables[torch.float32, codes.device]) > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_calls_alone_equal_the_mask_of_their_starts(dtype):
    repeats = ["CG" * 30, "GT" * 12, "CGCGCGATGCGCG", "CACACACACACGCG" * 3, "CG" * 7]
    text = "".join(dna(90, seed=seed) + repeat for seed, repeat in enumerate(repeats))
    rows = [text, text[::-1], "N" * 30 + text[100:400], dna(300, seed=9), "CG" * 5]
    codes = torch.full((len(rows), len(text)), PADDING_BASE)
    for row, sequence in zip(codes, rows, strict=True):
        row[: len(sequence)] = torch.from_numpy(base_codes(sequence))
    for most in (6, 12):
        _, excess, ends = published.published_call_starts(codes, 6, most, dtype)
        expected = published.call_mask(excess >= 0, ends) & (codes != PADDING_BASE)
        assert expected.any(dim=1).tolist() == [True, True, True, False, False]
        assert torch.equal(published.published_calls(codes, 6, most, dtype), expected)


def test_linking_at_score_is_the_inverse_of_the_score():
    for score in (2.0, 420.0, 700.0, 1e6):
        assert zhunt.z_score(zhunt.linking_at_score(score)) == pytest.approx(score, rel=1e-4)
