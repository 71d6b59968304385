"""Tables make of any text what the tokenizer's own merges make of it."""

import json
from itertools import product

import numpy as np
import pytest
from conftest import SHARED, dna, needs_shared
from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE, WordPiece
from tokenizers.normalizers import Lowercase, Replace
from tokenizers.pre_tokenizers import Sequence, Split, Whitespace
from tokenizers.processors import TemplateProcessing

from zflipon.genome.alphabet import base_codes
from zflipon.genome.fasta import Genome
from zflipon.tokenization.fast_bpe import ShortBpe
from zflipon.tokenization.tokenizers import BpeTokenizer, limit_token_length, train_bpe


def trained(longest, seed=0, vocab_size=200):
    """Train a tokenizer on DNA with repeats, which have the merges of equal letters that are easily got wrong."""
    repeats = ["A" * 40 + "CG" * 20 + "TG" * 15 + "AAT" * 9 + dna(80, seed + i) for i in range(20)]
    return train_bpe([*repeats, dna(20_000, seed)], vocab_size, longest).tokenizer


def hand_made(merges):
    """Make a tokenizer of given merges."""
    words = ["[UNK]", "[PAD]", *"ACGT", *("".join(pair) for pair in merges)]
    return Tokenizer(BPE({word: i for i, word in enumerate(dict.fromkeys(words))}, merges, unk_token="[UNK]"))


def laid_out(sequences):
    """Return codes, one sequence below the other, and how many letters each has; beyond an end lies anything."""
    widths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    codes = np.full((len(sequences), max(widths, default=0)), 5, dtype=np.uint8)
    for row, sequence in zip(codes, sequences, strict=True):
        row[: len(sequence)] = base_codes(sequence)
    return codes, widths


def agree(tokenizer, sequences):
    """Hold tables against the tokenizer."""
    ids, counts = ShortBpe.of(tokenizer).encode(*laid_out(sequences))
    expected = [encoding.ids for encoding in tokenizer.encode_batch(sequences)]
    found = np.split(ids, np.cumsum(counts)[:-1])
    assert [each.tolist() for each in found] == expected


@pytest.mark.parametrize("longest", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("seed", [0, 1])
def test_random_text_of_any_length(longest, seed):
    agree(trained(longest, seed), [dna(size, 7 * seed + size) for size in range(130)])


@pytest.mark.parametrize("longest", [2, 3, 4, 6])
def test_every_text_of_up_to_six_letters(longest):
    texts = ["".join(letters) for size in range(1, 7) for letters in product("ACGT", repeat=size)]
    agree(trained(longest), texts)


def test_runs_of_equal_letters_are_cut_from_the_left():
    merges = [("A", "A"), ("AA", "A"), ("C", "C"), ("C", "CC"), ("G", "G"), ("GG", "GG"), ("A", "C")]
    texts = [letter * size for letter in "ACGT" for size in range(1, 30)]
    agree(hand_made(merges), [*texts, *("A" * i + "C" * j for i in range(8) for j in range(8))])


def test_token_that_no_text_holds_is_never_given():
    # AC goes first, so that nobody ever sees A beside CG
    agree(hand_made([("A", "C"), ("C", "G"), ("A", "CG")]), [dna(90, seed) for seed in range(20)])


def test_more_sequences_than_take_a_step_together(monkeypatch):
    monkeypatch.setattr("zflipon.tokenization.fast_bpe._AT_ONCE", 70)
    agree(trained(5), [dna(size % 23 + 1, size) for size in range(60)])


def test_special_tokens_on_either_side():
    tokenizer = trained(4)
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] [MASK] $A [SEP]",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[MASK]", "[SEP]")],
    )
    agree(tokenizer, [dna(50, 1), "A", dna(3, 2)])
    tokenizer.post_processor = TemplateProcessing(single="$A", special_tokens=[])
    agree(tokenizer, [dna(50, 1), "A", dna(3, 2)])


def test_no_sequence_and_empty_ones():
    tables = ShortBpe.of(trained(4))
    assert [each.tolist() for each in tables.encode(*laid_out([]))] == [[], []]
    ids, counts = tables.encode(*laid_out(["", ""]))
    assert ids.tolist() == [1, 2, 1, 2]
    assert counts.tolist() == [2, 2]


def changed(what, value):
    tokenizer = trained(4)
    content = json.loads(tokenizer.to_str())
    content["model"][what] = value
    return Tokenizer.from_str(json.dumps(content))


def ruled(**rules):
    tokenizer = trained(4)
    for name, rule in rules.items():
        setattr(tokenizer, name, rule)
    return tokenizer


@pytest.mark.parametrize(
    "make",
    [
        lambda: hand_made([("A", "A"), ("AA", "AA"), ("AAAA", "AAAA"), ("AAAAAAAA", "A")]),
        lambda: hand_made([("A", "CG"), ("C", "G")]),  # a part that is made later
        lambda: hand_made([("A", "A"), ("A", "AA"), ("AA", "A")]),
        lambda: changed("dropout", 0.5),
        lambda: changed("ignore_merges", True),
        lambda: ruled(normalizer=Replace("GG", "A")),
        lambda: ruled(normalizer=Replace(Regex("[^N]"), "A")),
        lambda: ruled(normalizer=Lowercase()),
        lambda: ruled(pre_tokenizer=Sequence([Whitespace(), Split("TATA", "isolated")])),
        lambda: Tokenizer(WordPiece({"[UNK]": 0, **{letter: i for i, letter in enumerate("ACGT", 1)}})),
    ],
    ids=[
        "long",
        "order",
        "two ways",
        "dropout",
        "whole words",
        "letters",
        "class",
        "lower",
        "cut at letters",
        "no BPE",
    ],
)
def test_what_has_other_rules_has_no_tables(make):
    assert ShortBpe.of(make()) is None


def test_too_many_states_have_no_tables(monkeypatch):
    tokenizer = trained(4)
    states = len(ShortBpe.of(tokenizer).onward) // 256
    monkeypatch.setattr("zflipon.tokenization.fast_bpe.MOST_STATES", states)
    assert ShortBpe.of(tokenizer) is not None
    monkeypatch.setattr("zflipon.tokenization.fast_bpe.MOST_STATES", states - 1)
    assert ShortBpe.of(tokenizer) is None


def test_rules_of_n_do_not_matter():
    tokenizer = ruled(
        normalizer=Replace(Regex("N{10,}"), "-"),
        pre_tokenizer=Sequence([Whitespace(), Split("-", "isolated")]),
    )
    agree(tokenizer, [dna(100, seed) for seed in range(9)])


def test_many_windows_are_encoded_as_each_alone():
    tokenizer = BpeTokenizer(trained(5))
    sequences = [dna(100, seed, "ACGTN" if seed % 9 == 0 else "ACGT") for seed in range(150)]
    assert tokenizer._tables is not None
    for sequence, found in zip(sequences, tokenizer.encode(sequences), strict=True):
        (alone,) = tokenizer.encode([sequence])
        assert np.array_equal(found.ids, alone.ids)
        assert np.array_equal(found.lengths, alone.lengths)


@needs_shared
@pytest.mark.parametrize(
    ("name", "limit", "window"),
    [("dnabert2_max5", None, 128), ("gena_t2t_32k", 5, 110), ("gena_t2t_32k", 6, 510)],
)
def test_published_tokenizers_on_human_dna(name, limit, window):
    tokenizer = Tokenizer.from_file(str(SHARED / "tokenizers" / f"{name}.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if limit:
        tokenizer = limit_token_length(tokenizer, limit)
    with Genome(SHARED / "hg19" / "hg19_part.fa.gz") as genome:
        text = genome.fetch("chr22_50M", 400_000, 700_000)
    agree(tokenizer, [text[i : i + window] for i in range(0, len(text), window) if "N" not in text[i:]])
