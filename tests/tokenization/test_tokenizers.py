"""Tokenizers: ids and lengths on known answers, the limit of token length, k-mers, and batches of tokens."""

import json
from itertools import pairwise, product

import numpy as np
import pytest
from conftest import SHARED, dna, needs_shared
from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE, WordPiece
from tokenizers.normalizers import Replace
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from zflipon.errors import ModelError
from zflipon.genome.alphabet import IUPAC
from zflipon.genome.fasta import Genome
from zflipon.json_files import MAX_BYTES
from zflipon.tokenization.bpe import limit_token_length, with_plain_merges
from zflipon.tokenization.bpe_training import SPECIAL_TOKENS, train_bpe
from zflipon.tokenization.tokenizers import BpeTokenizer, KmerTokenizer
from zflipon.tokenization.tokens import TokenBatch, Tokens, concatenate_batches, pad_rows

CASES = [
    "",
    "A",
    "N",
    dna(1000, 1),
    dna(1000, 2, "ACGTN"),
    dna(300, 3, IUPAC.decode()),
    "NNNNACGTNN",
    "N" * 40,
    dna(50, 4) + "N" * 25 + dna(50, 5),
    dna(60, 6).lower(),
]


def slow_tokens(tokenizer, sequence):
    """Return ids and lengths of one sequence from the offsets of the tokenizers library."""
    encoding = tokenizer.encode(sequence.upper())
    lengths = [
        0 if special else end - start
        for (start, end), special in zip(encoding.offsets, encoding.special_tokens_mask, strict=True)
    ]
    return encoding.ids, lengths


@pytest.fixture(scope="module")
def gena():
    """Return a tokenizer with GENA-LM's rule, which replaces ten or more N by one ``-``."""
    vocabulary = {
        name: index for index, name in enumerate([*SPECIAL_TOKENS, "-", *"ACGTN", "AC", "GT", "ACGT"])
    }
    made = Tokenizer(BPE(vocabulary, [("A", "C"), ("G", "T"), ("AC", "GT")], unk_token="[UNK]"))
    made.add_special_tokens([*SPECIAL_TOKENS, "-"])
    made.normalizer = Replace(Regex("N{10,}"), "-")
    made.pre_tokenizer = Split("-", "isolated")
    made.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return BpeTokenizer(made)


# ---- lengths --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["plain", "gena"])
def test_lengths_add_up_to_the_sequence(tokenizer, gena, rule):
    made = tokenizer if rule == "plain" else gena
    for sequence, tokens in zip(CASES, made.encode(CASES), strict=True):
        assert tokens.lengths.sum() == len(sequence)
        assert tokens.ids.dtype == tokens.lengths.dtype == np.int64
        assert tokens.ids.shape == tokens.lengths.shape
        assert tokens.lengths[[0, -1]].tolist() == [0, 0]
        assert (tokens.lengths[1:-1] > 0).all()


def test_ids_and_lengths_agree_with_the_offsets_of_the_library(tokenizer):
    for sequence, tokens in zip(CASES, tokenizer.encode(CASES), strict=True):
        assert (tokens.ids.tolist(), tokens.lengths.tolist()) == slow_tokens(tokenizer.tokenizer, sequence)


def test_tokens_spell_the_sequence(tokenizer):
    sequence = dna(500, 7)
    tokens = tokenizer.encode([sequence])[0]
    words = [tokenizer.tokenizer.id_to_token(index) for index in tokens.ids[1:-1].tolist()]
    assert "".join(words) == sequence
    assert [len(word) for word in words] == tokens.lengths[1:-1].tolist()


def test_a_batch_is_encoded_like_each_sequence_alone(tokenizer, gena):
    for made in (tokenizer, gena):
        for sequence, tokens in zip(CASES, made.encode(CASES), strict=True):
            alone = made.encode([sequence])[0]
            assert alone.ids.tolist() == tokens.ids.tolist()
            assert alone.lengths.tolist() == tokens.lengths.tolist()
        assert list(made.encode([])) == []


def test_lower_case_is_encoded_like_upper_case(tokenizer, gena):
    for made in (tokenizer, gena):
        upper = made.encode([sequence.upper() for sequence in CASES])
        lower = made.encode([sequence.lower() for sequence in CASES])
        for one, other in zip(upper, lower, strict=True):
            assert one.ids.tolist() == other.ids.tolist()
            assert one.lengths.tolist() == other.lengths.tolist()


def test_an_unknown_letter_is_one_unk_token_of_one_base(tokenizer):
    unknown = "".join(sorted(set(IUPAC.decode()) - set("ACGT")))
    tokens = tokenizer.encode([f"A{unknown}NNA"])[0]
    unk, adenine = tokenizer.tokenizer.token_to_id("[UNK]"), tokenizer.tokenizer.token_to_id("A")
    count = len(unknown) + 2
    assert tokens.ids.tolist() == [1, adenine, *[unk] * count, adenine, 2]
    assert tokens.lengths.tolist() == [0, *[1] * (count + 2), 0]


@pytest.mark.parametrize(
    ("sequence", "words", "lengths"),
    [
        ("ACGT" + "N" * 10 + "AC", ["ACGT", "-", "AC"], [4, 10, 2]),
        ("N" * 12 + "ACGT", ["-", "ACGT"], [12, 4]),
        ("ACGT" + "N" * 37, ["ACGT", "-"], [4, 37]),
        ("N" * 10, ["-"], [10]),
        ("N" * 11 + "A" + "N" * 30, ["-", "A", "-"], [11, 1, 30]),
        ("A" + "N" * 9 + "A", ["A", *["N"] * 9, "A"], [1] * 11),
        ("n" * 10 + "R" + "ac", ["-", "[UNK]", "AC"], [10, 1, 2]),
    ],
)
def test_a_rewritten_run_of_n_is_one_token_that_holds_all_its_bases(gena, sequence, words, lengths):
    tokens = gena.encode([sequence])[0]
    assert [gena.tokenizer.id_to_token(index) for index in tokens.ids.tolist()] == ["[CLS]", *words, "[SEP]"]
    assert tokens.lengths.tolist() == [0, *lengths, 0]


def test_padding_and_truncation_of_the_file_are_switched_off(tokenizer, tmp_path):
    padded = Tokenizer.from_str(tokenizer.tokenizer.to_str())
    padded.enable_padding(length=64, pad_id=3, pad_token="[PAD]")
    padded.enable_truncation(max_length=16)
    padded.save(str(tmp_path / "tokenizer.json"))
    made = BpeTokenizer.from_file(tmp_path / "tokenizer.json")
    sequences = ["ACG", dna(500, 1), dna(500, 2, "ACGTN")]
    for tokens, expected in zip(made.encode(sequences), tokenizer.encode(sequences), strict=True):
        assert tokens.ids.tolist() == expected.ids.tolist()
        assert tokens.lengths.tolist() == expected.lengths.tolist()
    assert padded.truncation["max_length"] == 16  # the argument is not changed


def test_save_and_load_round_trip(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    again = BpeTokenizer.from_file(tmp_path / "tokenizer.json")
    assert (again.vocab_size, again.pad_id) == (tokenizer.vocab_size, tokenizer.pad_id) == (64, 3)
    assert again.encode(CASES)[3].ids.tolist() == tokenizer.encode(CASES)[3].ids.tolist()


def test_saved_merges_can_be_read_by_earlier_libraries(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    merges = content["model"]["merges"]
    assert merges  # tokenizers 0.19 reads "A B" only, later releases also ["A", "B"]
    assert all(isinstance(merge, str) and len(merge.split(" ")) == 2 for merge in merges)
    spaced = json.dumps({"model": {"merges": [["a b", "c"]]}})
    assert with_plain_merges(spaced) == spaced


def test_invalid_tokenizers_are_refused(tmp_path):
    with pytest.raises(ModelError, match=r"no token A, C, G, T, \[PAD\]; is it a DNA tokenizer"):
        BpeTokenizer(Tokenizer(BPE({"a": 0, "[UNK]": 1}, [], unk_token="[UNK]")))
    with pytest.raises(ModelError, match=r"no such file; a checkpoint needs its tokenizer\.json"):
        BpeTokenizer.from_file(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"not a valid tokenizer\.json"):
        BpeTokenizer.from_file(tmp_path / "tokenizer.json")
    with open(tmp_path / "tokenizer.json", "wb") as file:
        file.truncate(MAX_BYTES + 1)  # a sparse file: reading it would take its size in memory
    for kind in (BpeTokenizer, KmerTokenizer):
        with pytest.raises(ModelError, match="larger than 268,435,456 bytes"):
            kind.from_file(tmp_path / "tokenizer.json")


def test_a_trained_tokenizer_has_the_documented_ids_and_lengths():
    made = train_bpe(["TGCGC" * 50 + "NNRY" + dna(3000, 1)], vocab_size=100, max_token_length=3)
    vocabulary = made.tokenizer.get_vocab()
    assert [vocabulary[name] for name in SPECIAL_TOKENS] == [0, 1, 2, 3, 4]
    assert made.max_token_length == 3
    assert 9 < made.vocab_size <= 100
    assert {letter for token in vocabulary if token not in SPECIAL_TOKENS for letter in token} == set("ACGT")


# ---- limit of token length ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long():
    return train_bpe([dna(3000, seed) + "TGCGCGTATACG" * 50 for seed in range(5)], 300, 12)


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 50])
@pytest.mark.parametrize("form", ["text", "pair"])
def test_limit_keeps_ids_and_removes_long_tokens(long, limit, form):
    content = json.loads(long.tokenizer.to_str())
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in content["model"]["merges"]]
    content["model"]["merges"] = [" ".join(pair) for pair in pairs] if form == "text" else pairs
    before = Tokenizer.from_str(json.dumps(content))
    after = limit_token_length(before, limit)
    expected = {
        token: index
        for token, index in before.get_vocab().items()
        if token in SPECIAL_TOKENS or len(token) <= limit
    }
    assert after.get_vocab() == expected
    kept = [
        merge.split(" ") if isinstance(merge, str) else merge
        for merge in json.loads(after.to_str())["model"]["merges"]
    ]
    assert kept == [pair for pair in pairs if len(pair[0]) + len(pair[1]) <= limit]
    assert before.get_vocab() == long.tokenizer.get_vocab()


@pytest.mark.parametrize("limit", [1, 2, 4, 7])
def test_limited_tokens_are_merged_by_rank(long, limit):
    """Compare with BPE written out: the merge of lowest rank first, the leftmost of equal ones, none too long."""
    merges = [tuple(pair) for pair in json.loads(long.tokenizer.to_str())["model"]["merges"]]
    rank = {pair: number for number, pair in enumerate(merges) if len("".join(pair)) <= limit}
    vocabulary = long.tokenizer.get_vocab()
    made = long.with_max_token_length(limit)
    assert made.max_token_length <= limit
    for sequence in (dna(60, 1), "TGCGCGTATACGTGCGCG", "A"):
        words = list(sequence)
        while ranked := [(rank[pair], at) for at, pair in enumerate(pairwise(words)) if pair in rank]:
            at = min(ranked)[1]
            words[at : at + 2] = [words[at] + words[at + 1]]
        tokens = made.encode([sequence])[0]
        assert tokens.ids[1:-1].tolist() == [vocabulary[word] for word in words]
        assert tokens.lengths[1:-1].tolist() == [len(word) for word in words]


def test_limit_of_a_transformers_tokenizer_keeps_its_settings(long):
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    before = PreTrainedTokenizerFast(
        tokenizer_object=long.tokenizer, model_max_length=77, padding_side="left", **names
    )
    after = limit_token_length(before, 3)
    sequence = dna(90, 3)
    assert type(after) is type(before)
    assert after(sequence)["input_ids"] == long.with_max_token_length(3).encode([sequence])[0].ids.tolist()
    assert before(sequence)["input_ids"] == long.encode([sequence])[0].ids.tolist()
    assert (after.model_max_length, after.padding_side, after.pad_token_id) == (77, "left", 3)


def test_an_impossible_limit_is_refused(long):
    with pytest.raises(ValueError, match="at least one base"):
        limit_token_length(long.tokenizer, 0)
    with pytest.raises(ValueError, match="this is WordPiece"):
        limit_token_length(Tokenizer(WordPiece({"[UNK]": 0}, unk_token="[UNK]")), 3)


# ---- k-mers ---------------------------------------------------------------------------------------------------


def kmer_tokenizer(k):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    kmers = [""]
    for _ in range(k):
        kmers = [kmer + letter for kmer in kmers for letter in "ATCG"]  # DNABERT's order of letters is ATCG
    return KmerTokenizer({word: index for index, word in enumerate([*words, *kmers])})


@pytest.mark.parametrize("k", [1, 3, 6])
def test_kmers_agree_with_a_slow_loop(k):
    made = kmer_tokenizer(k)
    cases = [*CASES, *(dna(length, length) for length in range(1, 9)), "ACGNACGTAC"]
    for sequence, tokens in zip(cases, made.encode(cases), strict=True):
        text = sequence.upper()
        words = [text[i : i + k] for i in range(len(text) - k + 1)]
        lengths = [1] * len(words)
        if words:
            lengths[-1] = k
        elif text:
            words, lengths = [text], [len(text)]
        assert tokens.ids.tolist() == [2, *(made.vocabulary.get(word, 1) for word in words), 3]
        assert tokens.lengths.tolist() == [0, *lengths, 0]
        assert tokens.lengths.sum() == len(sequence)


def test_kmer_vocabulary_is_saved_and_loaded(tmp_path):
    made = kmer_tokenizer(3)
    made.save(tmp_path)
    lines = (tmp_path / "vocab.txt").read_text().splitlines()
    assert lines[:6] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "AAA"]
    again = KmerTokenizer.from_file(tmp_path / "vocab.txt")
    assert (again.k, again.vocab_size, again.pad_id) == (3, 69, 0)
    assert again.vocabulary == made.vocabulary


def test_an_incomplete_kmer_vocabulary_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"no such file; a DNABERT checkpoint needs its vocab\.txt"):
        KmerTokenizer.from_file(tmp_path / "vocab.txt")
    words = [word for word in kmer_tokenizer(3).vocabulary if word != "GCA"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    with pytest.raises(ModelError, match="no token 'GCA'; is it DNABERT's 3-mer"):
        KmerTokenizer.from_file(tmp_path / "vocab.txt")


# ---- published tokenizers -------------------------------------------------------------------------------------


@needs_shared
def test_known_ids_of_gena_with_tokens_of_five_bases():
    published = BpeTokenizer.from_file(SHARED / "tokenizers/gena_t2t_32k.json")
    made = published.with_max_token_length(5)
    assert made.encode(["AGTGAGCGCC"])[0].ids.tolist() == [1, 87, 35, 101, 2]
    assert published.encode(["AGTGAGCGCC"])[0].ids.tolist() != [1, 87, 35, 101, 2]
    wrapped = limit_token_length(
        PreTrainedTokenizerFast(tokenizer_file=str(SHARED / "tokenizers/gena_t2t_32k.json")), 5
    )
    assert wrapped("AGTGAGCGCC")["input_ids"] == [1, 87, 35, 101, 2]
    assert made.tokenizer.token_to_id("-") == 5
    tokens = made.encode([dna(40, 1) + "N" * 25 + dna(40, 2)])[0]
    assert tokens.lengths[tokens.ids == 5].tolist() == [25]
    assert tokens.lengths.sum() == 105


@needs_shared
@pytest.mark.parametrize("name", ["dnabert2_max5.json", "gena_t2t_32k.json"])
def test_lengths_agree_with_offsets_on_human_dna(name, tmp_path):
    made = BpeTokenizer.from_file(SHARED / "tokenizers" / name)
    for suffix in ("", ".fai", ".gzi"):
        (tmp_path / f"hg19.fa.gz{suffix}").symlink_to(SHARED / f"hg19/hg19_part.fa.gz{suffix}")
    with Genome(tmp_path / "hg19.fa.gz") as genome:
        contig, length = max(genome.lengths.items(), key=lambda item: item[1])
        starts = np.random.default_rng(0).integers(length - 1000, size=100).tolist()
        sequences = [genome.fetch(contig, start, start + 1000) for start in starts]
    sequences = [sequence for sequence in sequences if "N" not in sequence]
    assert len(sequences) > 50
    for sequence, tokens in zip(sequences, made.encode(sequences), strict=True):
        assert (tokens.ids.tolist(), tokens.lengths.tolist()) == slow_tokens(made.tokenizer, sequence)


@pytest.fixture(scope="module")
def batch_and_list():
    """Return a `TokenBatch` and the same sequences as a list of `Tokens`; one sequence has no token."""
    tokens = [
        Tokens(np.array(ids, dtype=np.int64), np.array(lengths, dtype=np.int64))
        for ids, lengths in [([1, 7, 8, 2], [0, 3, 2, 0]), ([], []), ([1, 2], [0, 0]), ([1, 9, 2], [0, 5, 0])]
    ]
    return TokenBatch.from_tokens(tokens), tokens


def ids_and_lengths(sequences):
    return [(tokens.ids.tolist(), tokens.lengths.tolist()) for tokens in sequences]


@pytest.mark.parametrize(
    "which",
    [
        slice(None),
        slice(1, 3),
        slice(2, 2),
        slice(None, None, 2),
        slice(None, None, -1),
        np.array([3, 0, 0, 1]),
    ],
)
def test_token_batch_is_indexed_like_a_list(batch_and_list, which):
    batch, tokens = batch_and_list
    assert ids_and_lengths(batch) == ids_and_lengths(tokens)
    assert ids_and_lengths(batch[which]) == ids_and_lengths(
        [tokens[i] for i in np.arange(len(tokens))[which]]
    )
    assert TokenBatch.from_tokens(batch) is batch
    assert ids_and_lengths(concatenate_batches([batch, batch[which]])) == ids_and_lengths(
        tokens
    ) + ids_and_lengths(batch[which])


def test_token_positions_and_padded_rows(batch_and_list):
    batch, _ = batch_and_list
    assert batch.positions.tolist() == [0, 1, 2, 3, 0, 1, 0, 1, 2]
    padded = [[1, 7, 8, 2], [-1, -1, -1, -1], [1, 2, -1, -1], [1, 9, 2, -1]]
    assert pad_rows(batch.ids, batch.counts, -1).tolist() == padded
    assert pad_rows(np.arange(6), np.array([3, 3]), -1).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert pad_rows(np.arange(0), np.array([], dtype=np.int64), -1).shape == (0, 0)


def test_kmers_of_short_and_ambiguous_sequences():
    letters = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map("".join, product("ACGT", repeat=3))]
    made = KmerTokenizer({token: i for i, token in enumerate(letters)})
    sequences = ["", "A", "AC", "ACG", "ACGTN", "NNNN", dna(20, 5), "acgRt"]
    for sequence, tokens in zip(sequences, made.encode(sequences), strict=True):
        text = sequence.upper()
        words = [text[i : i + 3] for i in range(len(text) - 2)] or [text] * bool(text)
        names = ["[CLS]", *(word if word in letters else "[UNK]" for word in words), "[SEP]"]
        assert [letters[i] for i in tokens.ids] == names
        own = [1] * len(words)
        if own:
            own[-1] += len(text) - len(words)
        assert tokens.lengths.tolist() == [0, *own, 0]
