"""Sequences → token ids and the number of bases of each token.

The tokens of a sequence tile it: the lengths, special tokens counting 0, add up
to the sequence. So lengths are all that projection needs, and a cumulative sum
turns them into spans.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, product
from pathlib import Path
from typing import Protocol

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer

from zflipon.bpe import ShortBpe, sides
from zflipon.errors import ModelError

SPECIAL_TOKENS = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
"""Special tokens of the tokenizers we train, in id order (as DNABERT-2 and GENA-LM have them)."""

_PURE = re.compile("[ACGT]*")

_WORTH = 64
"""Sequences as long as the longest from which on tables are quicker than the tokenizer's own threads."""


@dataclass(frozen=True)
class Tokens:
    """One tokenized sequence.

    Attributes
    ----------
    ids : numpy.ndarray
        int64, shape (n,): token ids, special tokens included.
    lengths : numpy.ndarray
        int64, shape (n,): bases of each token, 0 for special tokens; they add up to the sequence's length.
    """

    ids: np.ndarray
    lengths: np.ndarray


class DnaTokenizer(Protocol):
    """What a model family asks of its tokenizer.

    Attributes
    ----------
    pad_id : int
    mask_id : int or None
        Of ``[MASK]``; None where there is none.
    base_ids : numpy.ndarray
        int64, shape (n,): ids of the tokens that stand for bases.
    span : int
        Tokens that tell one base: so many in a row are masked together, or the neighbours would give it away.
    """

    pad_id: int
    mask_id: int | None
    base_ids: np.ndarray
    span: int

    def encode(self, sequences: Sequence[str]) -> list[Tokens]:
        """Tokenize many sequences at once; letters are upper-cased first."""

    def names(self) -> list[str]:
        """Return the name of each token by its id, as the vocabulary has it; empty where an id has none."""

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files into a checkpoint folder."""


class BpeTokenizer:
    """A byte-pair tokenizer of DNA, in the layout of Hugging Face's ``tokenizer.json``.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
        Its padding and truncation are switched off: windows are never cut in silence.

    Raises
    ------
    ModelError
        If the vocabulary lacks one of the bases or a padding token.
    """

    def __init__(self, tokenizer: Tokenizer):
        tokenizer = Tokenizer.from_str(tokenizer.to_str())
        tokenizer.no_padding()
        tokenizer.no_truncation()
        vocabulary = tokenizer.get_vocab()
        missing = [name for name in ("A", "C", "G", "T", "[PAD]") if name not in vocabulary]
        if missing:
            raise ModelError(f"the tokenizer has no token {', '.join(missing)}; is it a DNA tokenizer?")
        self.tokenizer = tokenizer
        self.pad_id: int = vocabulary["[PAD]"]
        self.mask_id: int | None = vocabulary.get("[MASK]")
        self.span = 1
        self.vocab_size: int = max(vocabulary.values()) + 1
        special = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
        self._token_length = np.zeros(self.vocab_size, dtype=np.int64)
        for token, index in vocabulary.items():
            if token not in special:
                self._token_length[index] = len(token)
        self.base_ids = np.flatnonzero(self._token_length)

    @classmethod
    def from_file(cls, path: str | Path) -> BpeTokenizer:
        """Load a ``tokenizer.json``; raise `ModelError` if it is missing or not one."""
        if not Path(path).is_file():
            raise ModelError(f"{path}: no such file; a checkpoint needs its tokenizer.json")
        try:
            return cls(Tokenizer.from_file(str(path)))
        except ModelError:
            raise
        except Exception as error:  # the Rust library raises bare Exception
            raise ModelError(f"{path}: not a tokenizer.json ({error})") from error

    @property
    def max_token_length(self) -> int:
        """Bases of the longest token."""
        return int(self._token_length.max())

    def encode(self, sequences: Sequence[str]) -> list[Tokens]:
        """Tokenize sequences: many of short tokens by tables, others in one batch of Rust threads.

        Parameters
        ----------
        sequences : sequence of str
            Any case; N and IUPAC codes follow the tokenizer's own rules.

        Returns
        -------
        list of Tokens
            One for each sequence. Where a sequence is of A, C, G and T alone, a token's length is
            that of its text; elsewhere the tokenizer's own offsets decide.
        """
        sequences = [sequence.upper() for sequence in sequences]
        tokens: list[Tokens | None] = [None] * len(sequences)
        pure = [i for i, sequence in enumerate(sequences) if _PURE.fullmatch(sequence)]
        ids, counts = self._encode_pure([sequences[i] for i in pure])
        lengths, ends = self._token_length[ids], np.cumsum(counts)
        for i, first, end in zip(pure, (ends - counts).tolist(), ends.tolist(), strict=True):
            tokens[i] = Tokens(ids[first:end], lengths[first:end])
        # neither way tells offsets, so what a rule may have rewritten (runs of N) goes the slow way
        mixed = [i for i, found in enumerate(tokens) if found is None]
        for i, encoding in zip(
            mixed, self.tokenizer.encode_batch([sequences[i] for i in mixed]), strict=True
        ):
            tokens[i] = Tokens(np.array(encoding.ids, dtype=np.int64), _lengths(encoding, len(sequences[i])))
        return tokens

    def _encode_pure(self, sequences: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the token ids of sequences of A, C, G and T, one after the other, and how many each has."""
        bases = sum(map(len, sequences))
        if bases and bases >= _WORTH * max(map(len, sequences)) and self._tables is not None:
            return self._tables.encode(sequences)
        found = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(sequences)]
        # all at once: windows may be short and many
        return np.fromiter(chain.from_iterable(found), np.int64), np.array(list(map(len, found)), np.int64)

    @cached_property
    def _tables(self) -> ShortBpe | None:
        return ShortBpe.of(self.tokenizer)

    def names(self) -> list[str]:
        """Return the name of each token by its id; empty where an id has none, as after limiting the length."""
        return _names(self.tokenizer.get_vocab(), self.vocab_size)

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json``."""
        self.tokenizer.save(str(Path(folder) / "tokenizer.json"))

    def limited(self, max_length: int) -> BpeTokenizer:
        """Return this tokenizer with tokens of at most `max_length` bases; see `limit_token_length`."""
        return BpeTokenizer(limit_token_length(self.tokenizer, max_length))


class KmerTokenizer:
    """Overlapping k-mers, as DNABERT reads DNA: one token a base, but for the last k − 1.

    A k-mer's call belongs to its first base; the last k-mer stands for the
    sequence's remaining bases too, so that none is lost. A sequence shorter
    than k is one ``[UNK]``.

    Parameters
    ----------
    vocabulary : dict of str to int
        Token → id: the special tokens and every k-mer of A, C, G and T.

    Raises
    ------
    ModelError
        If a special token or a k-mer is missing.
    """

    def __init__(self, vocabulary: dict[str, int]):
        self.vocabulary = dict(vocabulary)
        self.k = max((len(token) for token in vocabulary if _PURE.fullmatch(token)), default=0)
        try:
            self._unk, self._cls, self._sep, self.pad_id = (
                vocabulary[name] for name in ("[UNK]", "[CLS]", "[SEP]", "[PAD]")
            )
            table = [vocabulary["".join(letters)] for letters in product("ACGT", repeat=self.k)]
        except KeyError as error:
            raise ModelError(
                f"the vocabulary has no token {error}; is it DNABERT's {self.k}-mer vocab.txt?"
            ) from None
        self.mask_id: int | None = vocabulary.get("[MASK]")
        self.span = self.k
        self.base_ids = np.array(table, dtype=np.int64)
        self._table = np.array([*table, self._unk], dtype=np.int64)
        self.vocab_size = max(vocabulary.values()) + 1
        self._code = np.full(256, -1, dtype=np.int64)
        self._code[np.frombuffer(b"ACGT", dtype=np.uint8)] = range(4)

    @classmethod
    def from_file(cls, path: str | Path) -> KmerTokenizer:
        """Load a ``vocab.txt`` with a token a line; raise `ModelError` if it is missing."""
        if not Path(path).is_file():
            raise ModelError(f"{path}: no such file; a DNABERT checkpoint needs its vocab.txt")
        lines = Path(path).read_text().split()
        return cls({token: index for index, token in enumerate(lines)})

    @property
    def max_token_length(self) -> int:
        """Bases whose call one token carries."""
        return 1

    def encode(self, sequences: Sequence[str]) -> list[Tokens]:
        """Tokenize sequences; a k-mer with another letter than A, C, G or T is ``[UNK]``."""
        return [self._encode(sequence.upper()) for sequence in sequences]

    def _encode(self, sequence: str) -> Tokens:
        codes = self._code[np.frombuffer(sequence.encode("ascii"), dtype=np.uint8)]
        if 0 < len(codes) < self.k:
            kmers, lengths = np.array([self._unk]), np.array([len(codes)])
        else:
            views = (
                np.lib.stride_tricks.sliding_window_view(codes, self.k)
                if len(codes)
                else codes.reshape(0, self.k)
            )
            index = views @ (4 ** np.arange(self.k - 1, -1, -1))
            kmers = self._table[np.where((views < 0).any(axis=1), len(self._table) - 1, index)]
            lengths = np.ones(len(kmers), dtype=np.int64)
            lengths[-1:] = self.k
        ids = np.concatenate([[self._cls], kmers, [self._sep]]).astype(np.int64)
        return Tokens(ids, np.concatenate([[0], lengths, [0]]).astype(np.int64))

    def names(self) -> list[str]:
        """Return the name of each token by its id."""
        return _names(self.vocabulary, self.vocab_size)

    def save(self, folder: Path) -> None:
        """Write ``vocab.txt``."""
        tokens = sorted(self.vocabulary, key=self.vocabulary.get)
        (Path(folder) / "vocab.txt").write_text("\n".join(tokens) + "\n")


class BaseTokenizer(KmerTokenizer):
    """Single bases, for models that read letters: the tokens only say where they are, and no file holds them."""

    def __init__(self):
        letters = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"ACGT"]
        super().__init__({letter: index for index, letter in enumerate(letters)})

    @classmethod
    def from_file(cls, _path: str | Path) -> BaseTokenizer:
        """Return the one that there is."""
        return cls()

    def save(self, folder: Path) -> None:
        """Write nothing."""


def limit_token_length(tokenizer: Tokenizer, max_length: int) -> Tokenizer:
    """Limit a BPE tokenizer to tokens of at most `max_length` bases, keeping every id.

    Vocabulary entries that are longer go (special tokens stay), and so do merges
    whose two sides together are longer. Ids keep their values and are no longer
    contiguous, so that a model's embedding table still fits.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer or transformers.PreTrainedTokenizerFast
        Not changed.
    max_length : int
        Bases, at least 1.

    Returns
    -------
    Same type as `tokenizer`
        The limited copy.

    Raises
    ------
    ValueError
        If `max_length` is below 1 or the tokenizer is no BPE.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        limited = copy.deepcopy(tokenizer)  # a new one of its class would lose its settings
        limited._tokenizer = limit_token_length(backend, max_length)
        return limited
    if max_length < 1:
        raise ValueError(f"tokens need at least one base, max_length is {max_length}")
    content = json.loads(tokenizer.to_str())
    model = content["model"]
    if model["type"] != "BPE":
        raise ValueError(f"token length can be limited for BPE tokenizers, this is {model['type']}")
    special = {token["content"] for token in content["added_tokens"]}
    model["vocab"] = {
        token: index
        for token, index in model["vocab"].items()
        if token in special or len(token) <= max_length
    }
    model["merges"] = [merge for merge in model["merges"] if len("".join(sides(merge))) <= max_length]
    return Tokenizer.from_str(json.dumps(content))


def train_bpe(sequences: Sequence[str], vocab_size: int, max_token_length: int) -> BpeTokenizer:
    """Train a BPE tokenizer of A, C, G and T; any other letter is one ``[UNK]``.

    Parameters
    ----------
    sequences : sequence of str
        Upper case. Stretches of A, C, G and T are used, each as one word, so a few
        kilobases a sequence keep the training quick.
    vocab_size : int
        Tokens, the special ones and the four bases included.
    max_token_length : int
        Bases of the longest token.
    """
    tokenizer = Tokenizer(BPE(unk_token="[UNK]"))
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        max_token_length=max_token_length + 1,  # the library takes it for the first length that is too long
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=list("ACGT"),
        show_progress=False,
    )
    tokenizer.train_from_iterator(
        (run for sequence in sequences for run in re.findall("[ACGT]+", sequence)), trainer
    )
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    return BpeTokenizer(limit_token_length(tokenizer, max_token_length))


def _names(vocabulary: Mapping[str, int], size: int) -> list[str]:
    names = [""] * size
    for name, index in vocabulary.items():
        names[index] = name
    return names


def _lengths(encoding, bases: int) -> np.ndarray:
    """Turn offsets into lengths that tile the sequence.

    A rule that rewrites text (GENA-LM turns ten or more N into one ``-``) leaves the
    offset of its last letter alone, so a token reaches back to the end of the one before.
    """
    ends = np.array([end for _, end in encoding.offsets], dtype=np.int64)
    real = np.array(encoding.special_tokens_mask) == 0
    ends[~real] = 0
    ends = np.maximum.accumulate(ends)
    placed = np.flatnonzero(real)
    if len(placed):
        ends[placed[-1] :] = bases  # what a rule stripped at the end belongs to the last token
    return np.diff(ends, prepend=0)
