"""Labelled windows, tables of sequences, and batches that are divided among processes."""

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
def windows():
    """Return ten windows; window i has its label at base i."""
    labels = np.zeros((10, 40), dtype=np.int8)
    labels[np.arange(10), np.arange(10)] = 1
    return LabelledWindows([dna(40, seed) for seed in range(10)], labels)


def number(targets):
    """Return the number of a window of the fixture."""
    return int(np.flatnonzero(targets["labels"] == 1)[0])


# ---- reading ------------------------------------------------------------------------------------------------


def test_windows_have_the_sequence_and_labels_of_the_genome(tmp_path):
    contigs = {"one": dna(200, 1), "two": dna(50, 2) + "N" * 20 + dna(90, 3)}
    path = make_fasta(tmp_path, contigs)
    labels = {"one": rows((10, 20), (75, 85)), "two": rows((45, 55))}
    lengths = {name: len(text) for name, text in contigs.items()}
    with Genome(path) as genome:
        segments = {name: genome.scan(name, min_gap=1).segments for name in contigs}
        tiled = build_tiled_windows(lengths, labels, segments, {}, 40)
        chosen = np.array([0, 1, 5, 6])
        read = read_windows(genome, tiled, chosen, labels, {"one": rows((0, 5))}, {"two": rows((0, 41))})
    for i, index in enumerate(chosen):
        contig, start = tiled.contigs[tiled.contig[index]], int(tiled.start[index])
        text = contigs[contig][start : start + 40]
        assert read.sequences[i] == text
        for base in range(40):
            position = start + base
            inside = any(low <= position < high for low, high in labels[contig].tolist())
            unknown = text[base] == "N" or (contig == "one" and position < 5)
            assert read.labels[i, base] == (IGNORE if unknown else inside)
            if not unknown:
                assert read.candidates[i, base] == (contig == "two" and position < 41)
    assert read.positive.tolist() == [True, True, False, True]


# ---- epochs -------------------------------------------------------------------------------------------------


def test_each_epoch_contains_every_window_once(windows):
    source = EpochBatches(windows, STAGE)
    assert source.steps == 5
    order = [number(targets) for step in range(source.steps) for _, targets in source.batch(step)]
    assert sorted(order[:10]) == sorted(order[10:20]) == list(range(10))
    assert order[:10] != order[10:20]
    again = EpochBatches(windows, STAGE)
    assert [number(targets) for _, targets in again.batch(3)] == order[12:16]
    for sequence, targets in source.batch(2):
        assert sequence == windows.sequences[number(targets)]


def test_reverse_complement_reverses_the_labels(windows):
    stage = StageConfig(objective="token", window=40, margin=0, batch_size=10, steps=3)
    reversed_windows = 0
    for step in range(3):
        for sequence, targets in EpochBatches(windows, stage).batch(step):
            at = number(targets)
            if at < 10:
                assert sequence == windows.sequences[at]
            else:
                assert reverse_complement(sequence) == windows.sequences[39 - at]
                reversed_windows += 1
    assert 5 < reversed_windows < 25


@pytest.mark.parametrize(("processes", "accumulation"), [(2, 1), (1, 2), (2, 2), (3, 1)])
def test_parts_of_a_batch_add_up_to_it(windows, tokenizer, processes, accumulation):
    stage = StageConfig(
        objective="token", window=40, margin=0, batch_size=12, steps=4, gradient_accumulation=accumulation
    )
    whole = BatchDataset(
        EpochBatches(windows, StageConfig(**{**vars(stage), "gradient_accumulation": 1})), tokenizer
    )
    parts = [
        BatchDataset(EpochBatches(windows, stage), tokenizer, processes, rank) for rank in range(processes)
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


def test_sequence_is_positive_if_any_base_is(windows, tokenizer):
    stage = StageConfig(objective="sequence", window=40, margin=0)
    windows.labels[3] = 0
    batch = build_batch([windows.window(i) for i in range(5)], tokenizer, stage, np.random.default_rng(0))
    assert batch["labels"].tolist() == [1, 1, 1, 0, 1]


def test_masked_tokens_have_labels_and_the_others_are_unchanged(tokenizer):
    rng = np.random.default_rng(1)
    masked = unchanged = replaced = total = 0
    for seed in range(200):
        tokens = tokenizer.encode([dna(300, seed)])[0]
        ids, labels = mask_tokens(tokens, tokenizer, 0.15, rng)
        chosen = labels != IGNORE
        assert (labels[chosen] == tokens.ids[chosen]).all()
        assert (ids[~chosen] == tokens.ids[~chosen]).all()
        assert not chosen[tokens.lengths == 0].any()
        assert chosen.sum() == round(0.15 * (tokens.lengths > 0).sum())
        masked += (ids[chosen] == tokenizer.mask_id).sum()
        unchanged += (ids[chosen] == tokens.ids[chosen]).sum()
        replaced += ((ids[chosen] != tokenizer.mask_id) & (ids[chosen] != tokens.ids[chosen])).sum()
        total += chosen.sum()
    assert abs(masked / total - 0.8) < 0.03
    assert abs(unchanged / total - 0.1) < 0.03
    assert abs(replaced / total - 0.1) < 0.03


def test_overlapping_tokens_are_masked_in_runs():
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
        "\ufeffsequence,label\nACGT,1\nttga,0\n",
        "Label\tname\tSequence\r\n1\tx\tACGT\r\n0.0\ty\tTTGA\r\n",
        '"sequence","label"\n"ACGT","1"\n"TTGA","0"\n\n',
    ],
)
def test_reads_tables(tmp_path, text):
    (tmp_path / "table.csv").write_bytes(text.encode())
    table = read_sequences(tmp_path / "table.csv")
    assert table.sequences == ["ACGT", "TTGA"]
    assert table.labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seq,label\nACGT,1\n", "expected the columns sequence and label, found seq, label"),
        ("sequence,label\n", "no sequences after the header"),
        ("sequence,label\nACGT,yes\n", "table.csv:2: expected a label of 0 or 1, found 'yes'"),
        ("sequence,label\nACGT,1\nAC GT,1\n", "table.csv:3: expected DNA letters, found 'AC GT'"),
        ("sequence,label\nACGT\n", "table.csv:2: expected a sequence and a label, found 'ACGT'"),
        ("", "expected the columns sequence and label"),
    ],
)
def test_malformed_tables_are_refused(tmp_path, text, message):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_sequences(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_table(tmp_path):
    with pytest.raises(InputError, match=r"none\.csv: no such file"):
        read_sequences(tmp_path / "none.csv")


def test_dataset_needs_only_the_batches_of_a_source(tokenizer):
    stage = StageConfig(objective="sequence", window=40, margin=0, batch_size=2)
    windows = [("ACGT", {"labels": np.array(1)})] * 2
    source = SimpleNamespace(stage=stage, steps=1, batch=lambda step, part: windows[part])
    batch = BatchDataset(source, tokenizer)[0]
    assert torch.equal(batch["labels"], torch.tensor([1, 1]))
