"""Labelled windows: what they hold, how often they are drawn, and that they come back the same."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import dna, make_fasta

from zflipon.config import StageConfig
from zflipon.errors import InputError
from zflipon.genome.alphabet import reverse_complement
from zflipon.genome.fasta import Genome
from zflipon.genome.intervals import interval_mask, merge
from zflipon.tokenization.alignment import IGNORE
from zflipon.training.batching import BatchDataset, token_labels
from zflipon.training.sampling import (
    LabelledGenome,
    WindowSampler,
    find_near_misses,
)

MOTIF = "GATTACAGGCCATGTTTCCCAAAG"
DECOY = "CCTAGGTTTTGACACACTTTGAGA"
STAGE = StageConfig(window=200, margin=50, batch_size=8, positives=1, hard_negatives=1, background=1, seed=5)


def rows(*pairs):
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    """Return a LabelledGenome: motifs are labelled, decoys are hard negatives, and N and a blacklist lie between."""
    rng = np.random.default_rng(0)
    contigs, targets, decoys = {}, {}, {}
    for number, name in enumerate(["chr1", "chr2"]):
        letters = list(dna(20_000, number))
        spots = 500 + 900 * np.arange(20) + rng.integers(0, 300, 20)
        for motif, found, chosen in ((MOTIF, targets, spots[::2]), (DECOY, decoys, spots[1::2])):
            for spot in chosen.tolist():
                letters[spot : spot + len(motif)] = motif
            found[name] = rows(*((spot, spot + len(motif)) for spot in chosen.tolist()))
        letters[4000:4030] = "n" * 30
        letters[19_000:20_000] = "N" * 1000
        contigs[name] = "".join(letters).replace("A", "a")
    contigs["short"] = dna(90, 7)
    path = make_fasta(tmp_path_factory.mktemp("genome"), contigs)
    ignored = {"chr1": rows((0, 100), (5000, 5400))}
    lengths = {name: len(sequence) for name, sequence in contigs.items()}
    return LabelledGenome(path, lengths, targets, decoys, ignored)


def draws(genome, stage, count, seed=0):
    sampler, rng = WindowSampler(genome, stage), np.random.default_rng(seed)
    return [labelled(sampler, rng) for _ in range(count)]


def labelled(sampler, rng):
    """Draw a window of which only labels are asked."""
    sequence, known = sampler.draw(rng)
    assert set(known) == {"labels"}
    return sequence, known["labels"]


def kind(sequence):
    """Tell what a window lies around, on either strand."""
    for name, motif in (("target", MOTIF), ("decoy", DECOY)):
        half = len(motif) // 2  # the middle of a site lies in its window, so half of it does
        pieces = (
            motif[:half],
            motif[half:],
            reverse_complement(motif)[:half],
            reverse_complement(motif)[half:],
        )
        if any(piece in sequence for piece in pieces):
            return name
    return "background"


# ---- one window ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contig", "start", "end"), [("chr1", 400, 1900), ("chr1", 3900, 5500), ("chr2", 0, 20_000)]
)
def test_window_has_the_genome_and_its_labels(genome, contig, start, end):
    sequence, known = genome.window(contig, start, end)
    labels = known["labels"]
    with Genome(genome.path) as fasta:
        assert sequence == fasta.fetch(contig, start, end)
    assert labels.dtype == np.int64
    ignored = interval_mask(genome.ignored.get(contig), start, end) | (np.array(list(sequence)) == "N")
    assert (labels[ignored] == IGNORE).all()
    assert (
        labels[~ignored].tolist()
        == interval_mask(genome.targets[contig], start, end)[~ignored].astype(int).tolist()
    )
    labelled = "".join(np.where(labels == 1, list(sequence), "."))
    assert set(re.findall(r"[^.]+", labelled)) == {MOTIF}


def test_labels_lie_on_the_motif_on_either_strand(genome):
    found = {MOTIF: 0, reverse_complement(MOTIF): 0}
    for sequence, labels in draws(genome, replace(STAGE, hard_negatives=0, background=0), 300):
        assert sequence == sequence.upper()
        assert len(sequence) == len(labels)
        for motif in found:
            for match in re.finditer(motif, sequence):
                assert set(labels[match.start() : match.end()].tolist()) in ({1}, {IGNORE})
                found[motif] += 1
        for piece in re.findall(r"[^.]+", "".join(np.where(labels == 1, list(sequence), "."))):
            assert any(piece in motif for motif in found)
    assert min(found.values()) > 80


def test_without_turning_all_windows_are_of_the_forward_strand(genome):
    windows = draws(genome, replace(STAGE, hard_negatives=0, reverse_complement=False), 200)
    assert not any(reverse_complement(MOTIF) in sequence for sequence, _ in windows)
    assert sum(MOTIF in sequence for sequence, _ in windows) > 50


def test_ignored_bases_stay_with_their_letters_when_turned(genome):
    windows = draws(genome, replace(STAGE, window=5000, batch_size=1), 60)
    assert any(reverse_complement(MOTIF) in sequence for sequence, _ in windows)
    for sequence, labels in windows:
        unknown = np.array(list(sequence)) == "N"
        assert (labels[unknown] == IGNORE).all()
    assert sum((np.array(list(sequence)) == "N").any() for sequence, _ in windows) > 10


# ---- which windows ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("positives", "hard", "background"), [(1, 1, 1), (3, 1, 0), (1, 0, 4), (2, 3, 1)])
def test_kinds_are_drawn_by_weight(genome, positives, hard, background):
    stage = replace(STAGE, positives=positives, hard_negatives=hard, background=background, window=100)
    sampler, rng = WindowSampler(genome, stage), np.random.default_rng(3)
    count, found = 2000, {"target": 0, "decoy": 0, "background": 0}
    for _ in range(count):
        found[kind(sampler.draw(rng)[0])] += 1
    total = positives + hard + background
    # a background window meets a site by chance: 20 sites of either kind on 38 kb, each within half a motif of 100
    chance = 20 * 110 / 38_000
    expected = {
        "target": (positives + background * chance) / total,
        "decoy": (hard + background * chance) / total,
        "background": background * (1 - 2 * chance) / total,
    }
    for name, share in expected.items():
        spread = 4 * np.sqrt(count * share * (1 - share)) + count * 0.02 * background / total
        assert abs(found[name] - count * share) <= spread, name


def test_without_hard_negatives_their_weight_goes_to_the_others(genome):
    plain = replace(genome, hard_negatives={})
    same = draws(plain, replace(STAGE, hard_negatives=9), 30)
    none = draws(plain, replace(STAGE, hard_negatives=0), 30)
    assert [sequence for sequence, _ in same] == [sequence for sequence, _ in none]


def test_contigs_are_drawn_by_length(genome):
    stage = replace(STAGE, positives=1e-9, hard_negatives=0, window=50, reverse_complement=False)
    lengths = {"chr1": 20_000, "short": 90}
    data = replace(genome, contigs=lengths, hard_negatives={})
    sampler, rng = WindowSampler(data, stage), np.random.default_rng(1)
    places = [sampler._place(rng) for _ in range(5000)]
    short = sum(contig == "short" for contig, _, _ in places)
    expected = 5000 * 90 / 20_090
    assert abs(short - expected) < 4 * np.sqrt(expected)
    starts = [start for contig, start, _ in places if contig == "chr1"]
    assert min(starts) < 100
    assert max(starts) > 19_850


@pytest.mark.parametrize("window", [50, 200, 5000, 50_000])
def test_windows_lie_inside_their_contig_and_are_full_where_they_can(genome, window):
    sampler, rng = WindowSampler(genome, replace(STAGE, window=window)), np.random.default_rng(2)
    for _ in range(300):
        contig, start, end = sampler._place(rng)
        assert 0 <= start < end <= genome.contigs[contig]
        assert end - start == min(window, genome.contigs[contig])


def test_a_site_lies_anywhere_in_its_window(genome):
    stage = replace(STAGE, hard_negatives=0, background=0, window=200)
    sampler, rng = WindowSampler(genome, stage), np.random.default_rng(4)
    middles = []
    for _ in range(1000):
        contig, start, end = sampler._place(rng)
        inside = [int(low + high) // 2 - start for low, high in genome.targets[contig].tolist()]
        middles += [middle for middle in inside if 0 <= middle < end - start]
    counts, _ = np.histogram(middles, bins=10, range=(0, 200))
    assert counts.sum() >= 1000
    assert counts.min() > 60


def test_mostly_n_is_not_drawn(genome):
    for sequence, _ in draws(genome, replace(STAGE, positives=1e-9, hard_negatives=0), 400):
        assert 2 * sequence.count("N") <= len(sequence)


def test_hard_negatives_leave_out_what_is_labelled():
    candidates = {"a": rows((0, 10), (10, 20), (30, 40), (50, 60)), "b": rows((5, 9)), "c": rows((1, 2))}
    labels = {"a": rows((12, 15), (39, 50)), "c": rows((0, 9))}
    kept = exclude_overlapping(candidates, labels)
    assert {name: found.tolist() for name, found in kept.items()} == {"a": [[0, 10], [50, 60]], "b": [[5, 9]]}
    assert exclude_overlapping(candidates, {}).keys() == candidates.keys()
    assert exclude_overlapping({}, labels) == {}


@pytest.mark.parametrize("seed", range(5))
def test_without_against_a_slow_loop(seed):
    rng = np.random.default_rng(seed)
    starts = np.sort(rng.integers(0, 300, (2, 15)))
    some, others = (np.stack([row, row + rng.integers(1, 15, 15)], axis=1) for row in starts)
    expected = [
        [low, high] for low, high in some.tolist() if all(b <= low or a >= high for a, b in others.tolist())
    ]
    assert exclude_overlapping({"a": some}, {"a": others}).get("a", rows()).tolist() == expected


def test_nothing_to_learn_from(genome):
    with pytest.raises(InputError, match=r"no labels on the training contigs \(short\)"):
        WindowSampler(replace(genome, contigs={"short": 90}), STAGE)


def test_labels_on_n_alone(genome):
    data = replace(genome, targets={"chr1": rows((19_400, 19_500))}, hard_negatives={})
    with pytest.raises(InputError, match="mostly N; are the labels of this assembly"):
        draws(data, replace(STAGE, background=0), 1)


# ---- batches ------------------------------------------------------------------------------------------------


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("objective", ["base", "token"])
def test_batch_depends_on_seed_and_number_alone(genome, tokenizer, objective):
    stage = replace(STAGE, objective=objective)
    first = BatchDataset(WindowSampler(genome, stage), tokenizer)
    Prefetch = [first[number] for number in range(6)]
    second = BatchDataset(WindowSampler(replace(genome), stage), tokenizer)
    back = [second[number] for number in reversed(range(6))][::-1]
    assert all(map(same, Prefetch, back))
    assert not same(Prefetch[0], Prefetch[1])
    other = BatchDataset(WindowSampler(genome, replace(stage, seed=6)), tokenizer)
    assert not same(Prefetch[0], other[0])


def test_base_batch_spells_its_windows(genome, tokenizer):
    batches = BatchDataset(WindowSampler(genome, replace(STAGE, batch_size=32)), tokenizer)
    for number in range(4):
        batch = batches[number]
        assert batch["labels"].shape == batch["bases"].shape == batch["base_tokens"].shape == (32, 200)
        rng = np.random.default_rng([STAGE.seed, number])
        windows = [labelled(batches.source, rng) for _ in range(32)]
        for i, (sequence, labels) in enumerate(windows):
            size = len(sequence)
            assert "".join("ACGTN"[code] for code in batch["bases"][i, :size].tolist()) == sequence
            assert (batch["bases"][i, size:] == 5).all()
            assert batch["labels"][i, :size].tolist() == labels.tolist()
            assert (batch["labels"][i, size:] == IGNORE).all()
            words = [tokenizer.tokenizer.id_to_token(index) for index in batch["input_ids"][i].tolist()]
            spelled = [words[token] for token in batch["base_tokens"][i, :size].tolist()]
            assert all(
                letter in word for letter, word in zip(sequence, spelled, strict=True) if letter != "N"
            )


def test_token_batch_labels_tokens_by_share(genome, tokenizer):
    stage = replace(STAGE, objective="token", label_threshold=0.5, label_comparison=">", window=150)
    batches = BatchDataset(WindowSampler(genome, stage), tokenizer)
    for number in range(3):
        batch = batches[number]
        assert set(batch) <= {"input_ids", "attention_mask", "labels"}
        assert batch["labels"].shape == batch["input_ids"].shape
        rng = np.random.default_rng([stage.seed, number])
        for i, (sequence, labels) in enumerate(
            labelled(batches.source, rng) for _ in range(stage.batch_size)
        ):
            found, base = tokenizer.encode([sequence])[0], 0
            expected = []
            for length in found.lengths.tolist():
                span = labels[base : base + length]
                base += length
                known = length and (span != IGNORE).any()
                expected.append(int((span == 1).sum() / length > 0.5) if known else IGNORE)
            rest = batch["labels"].shape[1] - len(expected)
            assert batch["labels"][i].tolist() == expected + [IGNORE] * rest


def test_token_is_ignored_where_none_of_its_bases_is_known():
    labels = np.array([IGNORE, IGNORE, 1, IGNORE, 1, 1, 0, IGNORE])
    lengths = np.array([0, 2, 2, 3, 1, 0])
    assert token_labels(labels, lengths, 0.5, ">=").tolist() == [-100, -100, 1, 1, -100, -100]
    assert token_labels(labels, lengths, 0.7, ">=").tolist() == [-100, -100, 0, 0, -100, -100]


# ---- several things at once ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def richer(genome):
    """Return the genome with candidates (targets and decoys) and two tracks, of which one covers all of chr1."""
    candidates = {
        contig: merge(
            np.concatenate([genome.targets.get(contig, rows()), genome.hard_negatives.get(contig, rows())])
        )
        for contig in genome.contigs
    }
    tracks = [{"chr1": rows((0, genome.contigs["chr1"]))}, {"chr1": rows((1004, 1060), (6000, 6010))}]
    return replace(genome, candidates=candidates, tracks=tracks)


def test_a_turned_window_is_the_window_turned(richer):
    wanted = ("labels", "candidates", "tracks")
    # of whole bins, so that turning keeps their middles but for one base
    sequence, known = richer.window("chr1", 960, 1120, False, wanted)
    turned, other = richer.window("chr1", 960, 1120, True, wanted)
    assert turned == reverse_complement(sequence)
    for name in ("labels", "candidates"):
        assert other[name].tolist() == known[name][::-1].tolist()
    assert known["tracks"][0].tolist() == [1] * 10
    assert known["tracks"][1].tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0, 0]
    assert other["tracks"].tolist() == known["tracks"][:, ::-1].tolist()


def test_a_track_is_told_by_the_middle_of_each_bin(richer):
    _, known = richer.window("chr1", 5984, 6017, wanted=("tracks",))
    # middles 5992, 6008 and, of the bin cut short, the last base
    assert known["tracks"].tolist() == [[1, 1, 1], [0, 1, 0]]
    _, known = richer.window("chr1", 5000, 5064, wanted=("tracks",))
    assert (known["tracks"] == IGNORE).all()


def test_a_batch_has_what_its_stage_learns(richer, tokenizer):
    stage = replace(STAGE, target="tracks", auxiliary=("candidates",), window=160, batch_size=4)
    batch = BatchDataset(WindowSampler(richer, stage), tokenizer)[0]
    assert "labels" not in batch
    assert batch["candidates"].shape == batch["bases"].shape
    assert batch["tracks"].shape == (4, 2, 10)


def test_a_stage_of_tracks_needs_no_labels(richer):
    nothing = replace(richer, targets={}, hard_negatives={})
    stage = replace(STAGE, target="tracks", positives=1, hard_negatives=0, background=1)
    sequence, known = WindowSampler(nothing, stage).draw(np.random.default_rng(1))
    assert set(known) == {"tracks"}
    assert len(sequence) <= STAGE.window
    with pytest.raises(InputError, match="no labels"):
        WindowSampler(nothing, replace(stage, target="labels"))


def test_near_misses_form_z_dna_and_are_no_candidates(tmp_path):
    letters = list(dna(3000, 9, "AATTC"))
    for start in (500, 1500, 2500):
        letters[start : start + 20] = "CG" * 10
    path = make_fasta(tmp_path, {"c": "".join(letters), "none": "A" * 50})
    with Genome(path) as fasta:
        found = find_near_misses(fasta, fasta.lengths, {"c": rows((1510, 1515))})
    assert list(found) == ["c"]
    assert len(found["c"]) == 2
    for (start, end), planted in zip(found["c"], (500, 2500), strict=True):
        assert start <= planted
        assert end >= planted + 20
        assert end - start < 40
