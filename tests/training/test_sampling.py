"""Random windows: their labels, their frequencies, and their reproducibility."""

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
from zflipon.training.batching import LOSS_WEIGHT, BatchDataset, token_labels
from zflipon.training.sampling import (
    LabelledGenome,
    WindowSampler,
    exclude_overlapping,
    find_near_misses,
)

MOTIF = "GATTACAGGCCATGTTTCCCAAAG"
DECOY = "CCTAGGTTTTGACACACTTTGAGA"
STAGE = StageConfig(window=200, margin=0, batch_size=8, positives=1, hard_negatives=1, background=1, seed=5)


def rows(*pairs):
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    """Return a LabelledGenome with labelled motifs, decoys as hard negatives, runs of N and a blacklist."""
    rng = np.random.default_rng(0)
    contigs, targets, decoys = {}, {}, {}
    for number, name in enumerate(["chr1", "chr2"]):
        letters = list(dna(20_000, number))
        spots = 500 + 900 * np.arange(20) + rng.integers(0, 300, 20)
        for motif, intervals, chosen in ((MOTIF, targets, spots[::2]), (DECOY, decoys, spots[1::2])):
            for spot in chosen.tolist():
                letters[spot : spot + len(motif)] = motif
            intervals[name] = rows(*((spot, spot + len(motif)) for spot in chosen.tolist()))
        letters[4000:4030] = "n" * 30
        letters[19_000:20_000] = "N" * 1000
        contigs[name] = "".join(letters).replace("A", "a")
    contigs["short"] = dna(90, 7)
    path = make_fasta(tmp_path_factory.mktemp("genome"), contigs)
    ignored = {"chr1": rows((0, 100), (5000, 5400))}
    lengths = {name: len(sequence) for name, sequence in contigs.items()}
    return LabelledGenome(path, lengths, targets, decoys, ignored)


def sample(genome, stage, count, seed=0):
    sampler, rng = WindowSampler(genome, stage), np.random.default_rng(seed)
    return [labelled(sampler, rng) for _ in range(count)]


def labelled(sampler, rng):
    """Return the sequence and the labels of a random window."""
    sequence, targets = sampler.sample_window(rng)
    assert set(targets) == {"labels"}
    return sequence, targets["labels"]


def kind(sequence):
    """Return the kind of site that a window contains, on either strand."""
    for name, motif in (("target", MOTIF), ("decoy", DECOY)):
        half = len(motif) // 2  # a window contains the middle of its site, and so half of it
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
def test_window_has_the_sequence_and_labels_of_the_genome(genome, contig, start, end):
    sequence, targets = genome.window(contig, start, end)
    labels = targets["labels"]
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


def test_labels_match_the_motif_on_both_strands(genome):
    counts = {MOTIF: 0, reverse_complement(MOTIF): 0}
    for sequence, labels in sample(genome, replace(STAGE, hard_negatives=0, background=0), 300):
        assert sequence == sequence.upper()
        assert len(sequence) == len(labels)
        for motif in counts:
            for match in re.finditer(motif, sequence):
                assert set(labels[match.start() : match.end()].tolist()) in ({1}, {IGNORE})
                counts[motif] += 1
        for piece in re.findall(r"[^.]+", "".join(np.where(labels == 1, list(sequence), "."))):
            assert any(piece in motif for motif in counts)
    assert min(counts.values()) > 80


def test_without_reverse_complement_all_windows_are_forward(genome):
    windows = sample(genome, replace(STAGE, hard_negatives=0, reverse_complement=False), 200)
    assert not any(reverse_complement(MOTIF) in sequence for sequence, _ in windows)
    assert sum(MOTIF in sequence for sequence, _ in windows) > 50


def test_reverse_complement_keeps_n_ignored(genome):
    windows = sample(genome, replace(STAGE, window=5000, batch_size=1), 60)
    assert any(reverse_complement(MOTIF) in sequence for sequence, _ in windows)
    for sequence, labels in windows:
        unknown = np.array(list(sequence)) == "N"
        assert (labels[unknown] == IGNORE).all()
    assert sum((np.array(list(sequence)) == "N").any() for sequence, _ in windows) > 10


# ---- frequencies ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("positives", "hard", "background"), [(1, 1, 1), (3, 1, 0), (1, 0, 4), (2, 3, 1)])
def test_kinds_of_windows_are_sampled_by_weight(genome, positives, hard, background):
    stage = replace(STAGE, positives=positives, hard_negatives=hard, background=background, window=100)
    sampler, rng = WindowSampler(genome, stage), np.random.default_rng(3)
    count, counts = 2000, {"target": 0, "decoy": 0, "background": 0}
    for _ in range(count):
        counts[kind(sampler.sample_window(rng)[0])] += 1
    total = positives + hard + background
    # a background window contains a site by chance: 20 sites of either kind on 38 kb
    chance = 20 * 110 / 38_000
    expected = {
        "target": (positives + background * chance) / total,
        "decoy": (hard + background * chance) / total,
        "background": background * (1 - 2 * chance) / total,
    }
    for name, share in expected.items():
        spread = 4 * np.sqrt(count * share * (1 - share)) + count * 0.02 * background / total
        assert abs(counts[name] - count * share) <= spread, name


def test_weight_of_missing_hard_negatives_goes_to_the_others(genome):
    plain = replace(genome, hard_negatives={})
    same = sample(plain, replace(STAGE, hard_negatives=9), 30)
    none = sample(plain, replace(STAGE, hard_negatives=0), 30)
    assert [sequence for sequence, _ in same] == [sequence for sequence, _ in none]


def test_contigs_are_sampled_by_length(genome):
    stage = replace(STAGE, positives=1e-9, hard_negatives=0, window=50, reverse_complement=False)
    lengths = {"chr1": 20_000, "short": 90}
    data = replace(genome, contigs=lengths, hard_negatives={})
    sampler, rng = WindowSampler(data, stage), np.random.default_rng(1)
    positions = [sampler._sample_position(rng) for _ in range(5000)]
    short = sum(contig == "short" for contig, _, _ in positions)
    expected = 5000 * 90 / 20_090
    assert abs(short - expected) < 4 * np.sqrt(expected)
    starts = [start for contig, start, _ in positions if contig == "chr1"]
    assert min(starts) < 100
    assert max(starts) > 19_850


@pytest.mark.parametrize("window", [50, 200, 5000, 50_000])
def test_windows_are_inside_their_contig(genome, window):
    sampler, rng = WindowSampler(genome, replace(STAGE, window=window)), np.random.default_rng(2)
    for _ in range(300):
        contig, start, end = sampler._sample_position(rng)
        assert 0 <= start < end <= genome.contigs[contig]
        assert end - start == min(window, genome.contigs[contig])


def test_site_is_at_a_random_position_in_its_window(genome):
    stage = replace(STAGE, hard_negatives=0, background=0, window=200)
    sampler, rng = WindowSampler(genome, stage), np.random.default_rng(4)
    middles = []
    for _ in range(1000):
        contig, start, end = sampler._sample_position(rng)
        inside = [int(low + high) // 2 - start for low, high in genome.targets[contig].tolist()]
        middles += [middle for middle in inside if 0 <= middle < end - start]
    counts, _ = np.histogram(middles, bins=10, range=(0, 200))
    assert counts.sum() >= 1000
    assert counts.min() > 60


def test_windows_of_mostly_n_are_not_sampled(genome):
    for sequence, _ in sample(genome, replace(STAGE, positives=1e-9, hard_negatives=0), 400):
        assert 2 * sequence.count("N") <= len(sequence)


def test_candidates_with_a_label_are_no_hard_negatives():
    candidates = {"a": rows((0, 10), (10, 20), (30, 40), (50, 60)), "b": rows((5, 9)), "c": rows((1, 2))}
    labels = {"a": rows((12, 15), (39, 50)), "c": rows((0, 9))}
    remaining = exclude_overlapping(candidates, labels)
    assert {name: intervals.tolist() for name, intervals in remaining.items()} == {
        "a": [[0, 10], [50, 60]],
        "b": [[5, 9]],
    }
    assert exclude_overlapping(candidates, {}).keys() == candidates.keys()
    assert exclude_overlapping({}, labels) == {}


@pytest.mark.parametrize("seed", range(5))
def test_exclude_overlapping_equals_a_slow_loop(seed):
    rng = np.random.default_rng(seed)
    starts = np.sort(rng.integers(0, 300, (2, 15)))
    some, others = (np.stack([row, row + rng.integers(1, 15, 15)], axis=1) for row in starts)
    expected = [
        [low, high] for low, high in some.tolist() if all(b <= low or a >= high for a, b in others.tolist())
    ]
    assert exclude_overlapping({"a": some}, {"a": others}).get("a", rows()).tolist() == expected


def test_contigs_without_labels_are_refused(genome):
    with pytest.raises(InputError, match=r"no labels on the training contigs \(short\)"):
        WindowSampler(replace(genome, contigs={"short": 90}), STAGE)


def test_labels_on_n_are_refused(genome):
    data = replace(genome, targets={"chr1": rows((19_400, 19_500))}, hard_negatives={})
    with pytest.raises(InputError, match="mostly N; check that the labels"):
        sample(data, replace(STAGE, background=0), 1)


# ---- batches ------------------------------------------------------------------------------------------------


def same(one, other):
    return one.keys() == other.keys() and all(
        torch.equal(torch.as_tensor(one[key]), torch.as_tensor(other[key])) for key in one
    )


def labelled_batch(batches, number):
    """Return the sequence and labels of each window of a batch; each window has a generator of random numbers."""
    stage = batches.source.stage
    generators = [np.random.default_rng([stage.seed, number, i]) for i in range(stage.batch_size)]
    return [labelled(batches.source, rng) for rng in generators]


@pytest.mark.parametrize("objective", ["base", "token"])
def test_batch_depends_on_seed_and_step_alone(genome, tokenizer, objective):
    stage = replace(STAGE, objective=objective)
    first = BatchDataset(WindowSampler(genome, stage), tokenizer)
    forward = [first[number] for number in range(6)]
    second = BatchDataset(WindowSampler(replace(genome), stage), tokenizer)
    backward = [second[number] for number in reversed(range(6))][::-1]
    assert all(map(same, forward, backward))
    assert not same(forward[0], forward[1])
    other = BatchDataset(WindowSampler(genome, replace(stage, seed=6)), tokenizer)
    assert not same(forward[0], other[0])


def test_a_process_reads_its_share_of_a_batch_only(genome):
    read = []

    class RecordedGenome(LabelledGenome):
        def window(self, contig, start, end, *rest):
            read.append((contig, start, end))
            return super().window(contig, start, end, *rest)

    recorded = RecordedGenome(
        genome.path, genome.contigs, genome.targets, genome.hard_negatives, genome.ignored
    )
    sampler = WindowSampler(recorded, STAGE)
    whole = sampler.batch(3)
    read_by_one, read[:] = list(read), []
    shares, counts = [], []
    for rank in range(4):
        shares += sampler.batch(3, slice(2 * rank, 2 * rank + 2))
        counts.append(len(read))
    assert read == read_by_one  # windows that are mostly N are read and dropped by their own process
    assert counts[0] < counts[1] < counts[2] < counts[3]
    for (sequence, targets), (expected, expected_targets) in zip(shares, whole, strict=True):
        assert sequence == expected
        assert np.array_equal(targets["labels"], expected_targets["labels"])


def test_base_batch_contains_its_windows(genome, tokenizer):
    batches = BatchDataset(WindowSampler(genome, replace(STAGE, batch_size=32)), tokenizer)
    for number in range(4):
        batch = batches[number]
        assert batch["labels"].shape == batch["bases"].shape == batch["base_tokens"].shape == (32, 200)
        for i, (sequence, labels) in enumerate(labelled_batch(batches, number)):
            size = len(sequence)
            assert "".join("ACGTN"[code] for code in batch["bases"][i, :size].tolist()) == sequence
            assert (batch["bases"][i, size:] == 5).all()
            assert batch["labels"][i, :size].tolist() == labels.tolist()
            assert (batch["labels"][i, size:] == IGNORE).all()
            tokens = [tokenizer.tokenizer.id_to_token(index) for index in batch["input_ids"][i].tolist()]
            letters = [tokens[token] for token in batch["base_tokens"][i, :size].tolist()]
            assert all(
                letter in token for letter, token in zip(sequence, letters, strict=True) if letter != "N"
            )


def test_tokens_are_labelled_by_their_share_of_labelled_bases(genome, tokenizer):
    stage = replace(STAGE, objective="token", label_threshold=0.5, label_comparison=">", window=150)
    batches = BatchDataset(WindowSampler(genome, stage), tokenizer)
    for number in range(3):
        batch = batches[number]
        assert set(batch) <= {"input_ids", "attention_mask", "labels", LOSS_WEIGHT}
        assert batch["labels"].shape == batch["input_ids"].shape
        for i, (sequence, labels) in enumerate(labelled_batch(batches, number)):
            tokens, base = tokenizer.encode([sequence])[0], 0
            expected = []
            for length in tokens.lengths.tolist():
                span = labels[base : base + length]
                base += length
                known = length and (span != IGNORE).any()
                expected.append(int((span == 1).sum() / length > 0.5) if known else IGNORE)
            rest = batch["labels"].shape[1] - len(expected)
            assert batch["labels"][i].tolist() == expected + [IGNORE] * rest


def test_token_without_known_bases_is_ignored():
    labels = np.array([IGNORE, IGNORE, 1, IGNORE, 1, 1, 0, IGNORE])
    lengths = np.array([0, 2, 2, 3, 1, 0])
    assert token_labels(labels, lengths, 0.5, ">=").tolist() == [-100, -100, 1, 1, -100, -100]
    assert token_labels(labels, lengths, 0.7, ">=").tolist() == [-100, -100, 0, 0, -100, -100]


# ---- several targets ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def genome_with_tracks(genome):
    """Return the genome with candidates (targets and decoys) and two tracks, one of which covers chr1."""
    candidates = {
        contig: merge(
            np.concatenate([genome.targets.get(contig, rows()), genome.hard_negatives.get(contig, rows())])
        )
        for contig in genome.contigs
    }
    tracks = [{"chr1": rows((0, genome.contigs["chr1"]))}, {"chr1": rows((1004, 1060), (6000, 6010))}]
    return replace(genome, candidates=candidates, tracks=tracks)


def test_reverse_window_has_reversed_targets(genome_with_tracks):
    names = ("labels", "candidates", "tracks")
    # whole bins, so that their middles move by one base only
    sequence, targets = genome_with_tracks.window("chr1", 960, 1120, False, names)
    reverse, other = genome_with_tracks.window("chr1", 960, 1120, True, names)
    assert reverse == reverse_complement(sequence)
    for name in ("labels", "candidates"):
        assert other[name].tolist() == targets[name][::-1].tolist()
    assert targets["tracks"][0].tolist() == [1] * 10
    assert targets["tracks"][1].tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0, 0]
    assert other["tracks"].tolist() == targets["tracks"][:, ::-1].tolist()


def test_bin_has_the_track_at_its_middle(genome_with_tracks):
    _, targets = genome_with_tracks.window("chr1", 5984, 6017, targets=("tracks",))
    # middles 5992 and 6008, and the last base of the incomplete bin
    assert targets["tracks"].tolist() == [[1, 1, 1], [0, 1, 0]]
    _, targets = genome_with_tracks.window("chr1", 5000, 5064, targets=("tracks",))
    assert (targets["tracks"] == IGNORE).all()


def test_batch_has_the_targets_of_its_stage(genome_with_tracks, tokenizer):
    stage = replace(STAGE, target="tracks", auxiliary=("candidates",), window=160, batch_size=4)
    batch = BatchDataset(WindowSampler(genome_with_tracks, stage), tokenizer)[0]
    assert "labels" not in batch
    assert batch["candidates"].shape == batch["bases"].shape
    assert batch["tracks"].shape == (4, 2, 10)


def test_learning_tracks_needs_no_labels(genome_with_tracks):
    nothing = replace(genome_with_tracks, targets={}, hard_negatives={})
    stage = replace(STAGE, target="tracks", positives=1, hard_negatives=0, background=1)
    sequence, targets = WindowSampler(nothing, stage).sample_window(np.random.default_rng(1))
    assert set(targets) == {"tracks"}
    assert len(sequence) <= STAGE.window
    with pytest.raises(InputError, match="no labels"):
        WindowSampler(nothing, replace(stage, target="labels"))


def test_near_misses_are_not_candidates(tmp_path):
    letters = list(dna(3000, 9, "AATTC"))
    for start in (500, 1500, 2500):
        letters[start : start + 20] = "CG" * 10
    path = make_fasta(tmp_path, {"c": "".join(letters), "none": "A" * 50})
    with Genome(path) as fasta:
        regions = find_near_misses(fasta, fasta.lengths, {"c": rows((1510, 1515))})
    assert list(regions) == ["c"]
    assert len(regions["c"]) == 2
    for (start, end), planted in zip(regions["c"], (500, 2500), strict=True):
        assert start <= planted
        assert end >= planted + 20
        assert end - start < 40
