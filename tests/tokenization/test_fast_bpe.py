"""FastBpe returns the same ids as the tokenizers library, and declines what it cannot encode."""

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
from zflipon.tokenization.bpe import limit_token_length
from zflipon.tokenization.bpe_training import train_bpe
from zflipon.tokenization.fast_bpe import FastBpe
from zflipon.tokenization.tokenizers import BpeTokenizer


def trained(longest, seed=0, vocab_size=200):
    """Train a tokenizer on DNA with repeats, whose merges of equal letters are the hardest case."""
    repeats = ["A" * 40 + "CG" * 20 + "TG" * 15 + "AAT" * 9 + dna(80, seed + i) for i in range(20)]
    return train_bpe([*repeats, dna(20_000, seed)], vocab_size, longest).tokenizer


def from_merges(merges):
    """Build a tokenizer with the given merges."""
    words = ["[UNK]", "[PAD]", *"ACGT", *("".join(pair) for pair in merges)]
    return Tokenizer(BPE({word: i for i, word in enumerate(dict.fromkeys(words))}, merges, unk_token="[UNK]"))


def code_matrix(sequences):
    """Return nucleotide codes, shape (sequences, longest), and the length of each sequence."""
    widths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    codes = np.full((len(sequences), max(widths, default=0)), 5, dtype=np.uint8)
    for row, sequence in zip(codes, sequences, strict=True):
        row[: len(sequence)] = base_codes(sequence)
    return codes, widths


def assert_same_ids(tokenizer, sequences, **options):
    """Compare `FastBpe` with the tokenizers library."""
    ids, counts = FastBpe.compile(tokenizer).encode(*code_matrix(sequences), **options)
    expected = [encoding.ids for encoding in tokenizer.encode_batch(sequences)]
    assert [row.tolist() for row in np.split(ids, np.cumsum(counts)[:-1])] == expected


@pytest.mark.parametrize("longest", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("seed", [0, 1])
def test_random_text_of_any_length(longest, seed):
    assert_same_ids(trained(longest, seed), [dna(size, 7 * seed + size) for size in range(130)])


@pytest.mark.parametrize("longest", [2, 3, 4, 6])
def test_every_text_of_up_to_six_letters(longest):
    texts = ["".join(letters) for size in range(1, 7) for letters in product("ACGT", repeat=size)]
    assert_same_ids(trained(longest), texts)


def test_homopolymers_are_merged_from_the_left():
    merges = [("A", "A"), ("AA", "A"), ("C", "C"), ("C", "CC"), ("G", "G"), ("GG", "GG"), ("A", "C")]
    texts = [letter * size for letter in "ACGT" for size in range(1, 30)]
    assert_same_ids(from_merges(merges), [*texts, *("A" * i + "C" * j for i in range(8) for j in range(8))])


def test_a_token_that_bpe_never_builds_is_not_used():
    # the merge of A and C comes first, so the text never has A before CG
    assert_same_ids(from_merges([("A", "C"), ("C", "G"), ("A", "CG")]), [dna(90, seed) for seed in range(20)])


def test_more_sequences_than_fit_one_chunk():
    sequences = [dna(size % 23 + 1, size) for size in range(60)]
    assert_same_ids(trained(5), sequences, letters_per_chunk=70)


def test_special_tokens_before_and_after():
    tokenizer = trained(4)
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] [MASK] $A [SEP]",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[MASK]", "[SEP]")],
    )
    assert_same_ids(tokenizer, [dna(50, 1), "A", dna(3, 2)])
    tokenizer.post_processor = TemplateProcessing(single="$A", special_tokens=[])
    assert_same_ids(tokenizer, [dna(50, 1), "A", dna(3, 2)])


def test_no_sequences_and_empty_sequences():
    tables = FastBpe.compile(trained(4))
    assert [array.tolist() for array in tables.encode(*code_matrix([]))] == [[], []]
    ids, counts = tables.encode(*code_matrix(["", ""]))
    assert ids.tolist() == [1, 2, 1, 2]
    assert counts.tolist() == [2, 2]


def with_setting(name, value):
    """Return a trained tokenizer with one setting of its model changed."""
    content = json.loads(trained(4).to_str())
    content["model"][name] = value
    return Tokenizer.from_str(json.dumps(content))


def with_rules(**rules):
    """Return a trained tokenizer with a normalizer or pre-tokenizer."""
    tokenizer = trained(4)
    for name, rule in rules.items():
        setattr(tokenizer, name, rule)
    return tokenizer


@pytest.mark.parametrize(
    "make",
    [
        lambda: from_merges([("A", "A"), ("AA", "AA"), ("AAAA", "AAAA"), ("AAAAAAAA", "A")]),
        lambda: from_merges([("A", "CG"), ("C", "G")]),  # CG is merged after it is used
        lambda: from_merges([("A", "A"), ("A", "AA"), ("AA", "A")]),
        lambda: with_setting("dropout", 0.5),
        lambda: with_setting("ignore_merges", True),
        lambda: with_rules(normalizer=Replace("GG", "A")),
        lambda: with_rules(normalizer=Replace(Regex("[^N]"), "A")),
        lambda: with_rules(normalizer=Lowercase()),
        lambda: with_rules(pre_tokenizer=Sequence([Whitespace(), Split("TATA", "isolated")])),
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
def test_tokenizers_with_other_rules_are_not_compiled(make):
    assert FastBpe.compile(make()) is None


def test_an_automaton_with_too_many_states_is_not_compiled():
    tokenizer = trained(4)
    states = len(FastBpe.compile(tokenizer).transitions) // 256
    assert FastBpe.compile(tokenizer, max_states=states) is not None
    assert FastBpe.compile(tokenizer, max_states=states - 1) is None


def test_rules_about_n_are_allowed():
    tokenizer = with_rules(
        normalizer=Replace(Regex("N{10,}"), "-"),
        pre_tokenizer=Sequence([Whitespace(), Split("-", "isolated")]),
    )
    assert_same_ids(tokenizer, [dna(100, seed) for seed in range(9)])


def test_many_windows_are_encoded_like_each_alone():
    tokenizer = BpeTokenizer(trained(5))
    sequences = [dna(100, seed, "ACGTN" if seed % 9 == 0 else "ACGT") for seed in range(150)]
    assert tokenizer._fast_bpe is not None
    for sequence, tokens in zip(sequences, tokenizer.encode(sequences), strict=True):
        (alone,) = tokenizer.encode([sequence])
        assert np.array_equal(tokens.ids, alone.ids)
        assert np.array_equal(tokens.lengths, alone.lengths)


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
    assert_same_ids(
        tokenizer, [text[i : i + window] for i in range(0, len(text), window) if "N" not in text[i:]]
    )
