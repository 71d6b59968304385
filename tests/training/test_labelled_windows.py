"""Stored windows, tables of sequences, and batches that processes share."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import dna, make_fasta

from zflipon.config import StageConfig
from zflipon.errors import InputError
from zflipon.genome.alphabet import reverse_complement
from zflipon.genome.fasta import Genome
from zflipon.genome.tiled_windows import build_tiled_windows
from zflipon.tokenization.alignment import IGNORE
from zflipon.tokenization.tokenizers import KmerTokenizer
from zflipon.training.batching import BatchDataset, build_batch, mask_tokens
from zflipon.training.labelled_windows import EpochBatches, LabelledWindows, read_windows
from zflipon.training.sequence_files import read_sequences

STAGE = StageConfig(
    objective="token", window=40, margin=0, batch_size=4, epochs=2.0, reverse_complement=False
)


def rows(*pairs):
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


@pytest.fixture
def stored():
    """Return ten windows of which each has its own number as a label's place."""
    labels = np.zeros((10, 40), dtype=np.int8)
    labels[np.arange(10), np.arange(10)] = 1
    return LabelledWindows([dna(40, seed) for seed in range(10)], labels)


def number(known):
    return int(np.flatnonzero(known["labels"] == 1)[0])


# ---- cutting ------------------------------------------------------------------------------------------------


def test_windows_are_the_genome_and_its_labels(tmp_path):
    contigs = {"one": dna(200, 1), "two": dna(50, 2) + "N" * 20 + dna(90, 3)}
    path = make_fasta(tmp_path, contigs)
    labels = {"one": rows((10, 20), (75, 85)), "two": rows((45, 55))}
    lengths = {name: len(text) for name, text in contigs.items()}
    with Genome(path) as genome:
        stretches = {name: genome.scan(name, min_gap=1).segments for name in contigs}
        tiled = build_tiled_windows(lengths, labels, stretches, {}, 40)
        chosen = np.array([0, 1, 5, 6])
        found = read_windows(genome, tiled, chosen, labels, {"one": rows((0, 5))}, {"two": rows((0, 41))})
    for i, index in enumerate(chosen):
        contig, start = tiled.contigs[tiled.contig[index]], int(tiled.start[index])
        text = contigs[contig][start : start + 40]
        assert found.sequences[i] == text
        for base in range(40):
            place = start + base
            inside = any(low <= place < high for low, high in labels[contig].tolist())
            unknown = text[base] == "N" or (contig == "one" and place < 5)
            assert found.labels[i, base] == (IGNORE if unknown else inside)
            if not unknown:
                assert found.candidates[i, base] == (contig == "two" and place < 41)
    assert found.positive.tolist() == [True, True, False, True]


# ---- epochs -------------------------------------------------------------------------------------------------


def test_each_epoch_has_every_window_once(stored):
    source = EpochBatches(stored, STAGE)
    assert source.steps == 5
    dealt = [number(known) for step in range(source.steps) for _, known in source.batch(step)]
    assert sorted(dealt[:10]) == sorted(dealt[10:20]) == list(range(10))
    assert dealt[:10] != dealt[10:20]
    again = EpochBatches(stored, STAGE)
    assert [number(known) for _, known in again.batch(3)] == dealt[12:16]
    for sequence, known in source.batch(2):
        assert sequence == stored.sequences[number(known)]


def test_a_turned_window_has_its_labels_turned(stored):
    stage = StageConfig(objective="token", window=40, margin=0, batch_size=10, steps=3)
    turned = 0
    for step in range(3):
        for sequence, known in EpochBatches(stored, stage).batch(step):
            at = number(known)
            if at < 10:
                assert sequence == stored.sequences[at]
            else:
                assert reverse_complement(sequence) == stored.sequences[39 - at]
                turned += 1
    assert 5 < turned < 25


@pytest.mark.parametrize(("processes", "accumulation"), [(2, 1), (1, 2), (2, 2), (3, 1)])
def test_parts_of_a_batch_make_it_up(stored, tokenizer, processes, accumulation):
    stage = StageConfig(
        objective="token", window=40, margin=0, batch_size=12, steps=4, gradient_accumulation=accumulation
    )
    whole = BatchDataset(
        EpochBatches(stored, StageConfig(**{**vars(stage), "gradient_accumulation": 1})), tokenizer
    )
    parts = [
        BatchDataset(EpochBatches(stored, stage), tokenizer, processes, rank) for rank in range(processes)
    ]
    assert all(len(each) == 4 * accumulation for each in parts)
    for step in range(4):
        rows_of = [
            ids[ids != tokenizer.pad_id].tolist()
            for turn in range(accumulation)
            for part in parts
            for ids in part[step * accumulation + turn]["input_ids"]
        ]
        expected = [ids[ids != tokenizer.pad_id].tolist() for ids in whole[step]["input_ids"]]
        assert rows_of == expected


# ---- objectives ---------------------------------------------------------------------------------------------


def test_a_sequence_is_positive_if_any_base_is(stored, tokenizer):
    stage = StageConfig(objective="sequence", window=40, margin=0)
    stored.labels[3] = 0
    batch = build_batch([stored.window(i) for i in range(5)], tokenizer, stage, np.random.default_rng(0))
    assert batch["labels"].tolist() == [1, 1, 1, 0, 1]


def test_hidden_tokens_are_told_and_the_others_stay(tokenizer):
    rng = np.random.default_rng(1)
    hidden = kept = replaced = total = 0
    for seed in range(200):
        tokens = tokenizer.encode([dna(300, seed)])[0]
        ids, labels = mask_tokens(tokens, tokenizer, 0.15, rng)
        chosen = labels != IGNORE
        assert (labels[chosen] == tokens.ids[chosen]).all()
        assert (ids[~chosen] == tokens.ids[~chosen]).all()
        assert not chosen[tokens.lengths == 0].any()
        assert chosen.sum() == round(0.15 * (tokens.lengths > 0).sum())
        hidden += (ids[chosen] == tokenizer.mask_id).sum()
        kept += (ids[chosen] == tokens.ids[chosen]).sum()
        replaced += ((ids[chosen] != tokenizer.mask_id) & (ids[chosen] != tokens.ids[chosen])).sum()
        total += chosen.sum()
    assert abs(hidden / total - 0.8) < 0.03
    assert abs(kept / total - 0.1) < 0.03
    assert abs(replaced / total - 0.1) < 0.03


def test_overlapping_tokens_are_hidden_in_runs():
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *(a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT"),
    ]
    kmers = KmerTokenizer({word: index for index, word in enumerate(words)})
    tokens = kmers.encode([dna(400, 3)])[0]
    _, labels = mask_tokens(tokens, kmers, 0.15, np.random.default_rng(0))
    edges = np.flatnonzero(np.diff(labels != IGNORE, prepend=False, append=False)).reshape(-1, 2)
    assert (np.diff(edges) >= 3).all()
    assert 0.08 < (labels != IGNORE).mean() < 0.2


# ---- tables -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "sequence,label\nACGT,1\nttga,0\n",
        "Label\tname\tSequence\r\n1\tx\tACGT\r\n0.0\ty\tTTGA\r\n",
        '"sequence","label"\n"ACGT","1"\n"TTGA","0"\n\n',
    ],
)
def test_tables_are_read(tmp_path, text):
    (tmp_path / "table.csv").write_bytes(text.encode())
    found = read_sequences(tmp_path / "table.csv")
    assert found.sequences == ["ACGT", "TTGA"]
    assert found.labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("seq,label\nACGT,1\n", "expected the columns sequence and label, found seq, label"),
        ("sequence,label\n", "no sequences below the heading"),
        ("sequence,label\nACGT,yes\n", "table.csv:2: expected a label of 0 or 1, found 'yes'"),
        ("sequence,label\nACGT,1\nAC GT,1\n", "table.csv:3: expected DNA letters, found 'AC GT'"),
        ("sequence,label\nACGT\n", "table.csv:2: expected a sequence and a label, found 'ACGT'"),
        ("", "expected the columns sequence and label"),
    ],
)
def test_tables_that_are_none(tmp_path, text, told):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_sequences(path)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_table(tmp_path):
    with pytest.raises(InputError, match=r"none\.csv: cannot be read"):
        read_sequences(tmp_path / "none.csv")


def test_batches_need_no_more_of_a_source_than_its_batches(tokenizer):
    stage = StageConfig(objective="sequence", window=40, margin=0, batch_size=2)
    source = SimpleNamespace(stage=stage, steps=1, batch=lambda _: [("ACGT", {"labels": np.array(1)})] * 2)
    batch = BatchDataset(source, tokenizer)[0]
    assert torch.equal(batch["labels"], torch.tensor([1, 1]))
