"""Tokenizers of DNA: byte-pair encodings, overlapping k-mers and single bases.

They turn sequences into token ids and token lengths (`zflipon.tokenization.tokens`). The lengths are all that
`zflipon.tokenization.alignment` needs to map tokens to bases.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain, product
from pathlib import Path
from typing import Protocol

import numpy as np
from tokenizers import Tokenizer

from zflipon.errors import ModelError
from zflipon.genome.alphabet import PADDING_BASE, UNKNOWN_BASE
from zflipon.genome.sequence_windows import SequenceWindows
from zflipon.json_files import MAX_BYTES
from zflipon.tokenization.bpe import limit_token_length, with_plain_merges
from zflipon.tokenization.fast_bpe import FastBpe, add_special_tokens
from zflipon.tokenization.tokens import TokenBatch, Tokens, concatenate_batches

_NUCLEOTIDE_WORD = re.compile("[ACGT]*")

LARGEST_VOCABULARY = 1 << 24
"""Largest number of token ids; beyond it the table of token lengths would exhaust memory."""

_MIN_SEQUENCES_FOR_TABLES = 64
"""Number of sequences from which `FastBpe` is faster than the threads of the tokenizers library."""


class DnaTokenizer(Protocol):
    """The interface that model families need from a tokenizer.

    Attributes
    ----------
    pad_id : int
    mask_id : int or None
        Id of ``[MASK]``; None if the vocabulary has none.
    base_ids : numpy.ndarray
        int64, shape (n,): ids of the tokens that hold bases.
    vocab_size : int
        Largest token id plus one.
    tokens_per_base : int
        Number of consecutive tokens that contain the same base: k for overlapping k-mers, else 1. Masked-LM training
        masks this many neighbours together, because each of them reveals the base.
    """

    pad_id: int
    mask_id: int | None
    base_ids: np.ndarray
    vocab_size: int
    tokens_per_base: int

    @classmethod
    def from_file(cls, path: str | Path, /) -> DnaTokenizer:
        """Load the tokenizer from a file; raise `ModelError` if it is missing or invalid."""
        ...

    @property
    def max_token_length(self) -> int:
        """Bases of the longest token."""
        ...

    def encode(self, sequences: Sequence[str]) -> TokenBatch:
        """Tokenize many sequences at once, in any case."""
        ...

    def names(self) -> list[str]:
        """Return the name of each token by its id; an empty string for an id without a token."""
        ...

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files into a checkpoint folder."""


class BpeTokenizer:
    """A byte-pair encoding of DNA, stored as ``tokenizer.json``.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
        Copied. Padding and truncation are switched off in the copy, so that no window is cut silently.

    Raises
    ------
    ModelError
        If the vocabulary lacks one of the bases or a padding token.
    """

    def __init__(self, tokenizer: Tokenizer):
        vocabulary = tokenizer.get_vocab()
        missing = [name for name in ("A", "C", "G", "T", "[PAD]") if name not in vocabulary]
        if missing:
            raise ModelError(f"the tokenizer has no token {', '.join(missing)}; is it a DNA tokenizer?")
        self.pad_id: int = vocabulary["[PAD]"]
        self.mask_id: int | None = vocabulary.get("[MASK]")
        self.tokens_per_base = 1
        self.vocab_size: int = max(vocabulary.values()) + 1
        if self.vocab_size > LARGEST_VOCABULARY:
            raise ModelError(
                f"the tokenizer has a token with id {self.vocab_size - 1:,}; "
                f"ids up to {LARGEST_VOCABULARY:,} are supported"
            )
        # after the check of the ids: the library lists every unused id below the largest one, gigabytes of them
        tokenizer = Tokenizer.from_str(tokenizer.to_str())
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self.tokenizer = tokenizer
        special = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
        self._token_length = np.zeros(self.vocab_size, dtype=np.int64)
        for token, token_id in vocabulary.items():
            if token not in special:
                self._token_length[token_id] = len(token)
        self.base_ids = np.flatnonzero(self._token_length)

    @classmethod
    def from_file(cls, path: str | Path) -> BpeTokenizer:
        """Load a ``tokenizer.json``; raise `ModelError` if it is missing or invalid."""
        if not Path(path).is_file():
            raise ModelError(f"{path}: no such file; a checkpoint needs its tokenizer.json")
        if Path(path).stat().st_size > MAX_BYTES:
            raise ModelError(f"{path}: larger than {MAX_BYTES:,} bytes; is it the right file?")
        try:
            return cls(Tokenizer.from_file(str(path)))
        except ModelError:
            raise
        except Exception as error:  # the Rust library raises bare Exception
            raise ModelError(f"{path}: not a valid tokenizer.json ({error})") from error

    @property
    def max_token_length(self) -> int:
        """Bases of the longest token."""
        return int(self._token_length.max())

    def encode(self, sequences: Sequence[str]) -> TokenBatch:
        """Tokenize sequences, with `FastBpe` if they are many and its tables exist, else with the tokenizers library.

        Parameters
        ----------
        sequences : sequence of str
            Any case. The tokenizer's own rules apply to N and IUPAC codes.

        Returns
        -------
        TokenBatch
            In a sequence of A, C, G and T, the length of a token is the length of its text. In other sequences it
            follows from the offsets that the tokenizers library reports.
        """
        sequences = SequenceWindows.from_sequences(sequences)
        codes, widths = sequences.to_codes(), sequences.widths
        is_pure = ((codes < UNKNOWN_BASE) | (codes == PADDING_BASE)).all(axis=1)
        if is_pure.all():
            return self._encode_pure(sequences, codes, widths)
        # the fast paths report no offsets, which are needed where a rule rewrites text, such as runs of N
        pure, mixed = np.flatnonzero(is_pure), np.flatnonzero(~is_pure)
        texts = [sequences[i] for i in mixed]
        encodings = self.tokenizer.encode_batch(texts)
        encoded = concatenate_batches([
            self._encode_pure(sequences[pure], codes[pure], widths[pure]),
            TokenBatch.from_tokens([
                _tokens_from_offsets(encoding, len(text)) for encoding, text in zip(encodings, texts, strict=True)
            ]),
        ])  # fmt: skip
        return encoded[np.argsort(np.concatenate([pure, mixed]))]

    def _encode_pure(self, sequences: SequenceWindows, codes: np.ndarray, widths: np.ndarray) -> TokenBatch:
        """Tokenize sequences of A, C, G and T."""
        many = widths.sum() >= _MIN_SEQUENCES_FOR_TABLES * widths.max(initial=1)
        if many and self._fast_bpe is not None:
            ids, counts = self._fast_bpe.encode(codes, widths)
        else:
            id_lists = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(list(sequences))]
            # one array for all of them, because windows may be short and many
            ids = np.fromiter(chain.from_iterable(id_lists), np.int64)
            counts = np.array(list(map(len, id_lists)), np.int64)
        return TokenBatch(ids, self._token_length[ids], counts)

    @cached_property
    def _fast_bpe(self) -> FastBpe | None:
        return FastBpe.compile(self.tokenizer)

    def names(self) -> list[str]:
        """Return the name of each token by its id; an empty string for an id without a token."""
        return _names_by_id(self.tokenizer.get_vocab(), self.vocab_size)

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json``, with merges that tokenizers 0.19 and earlier can read, too."""
        text = with_plain_merges(self.tokenizer.to_str(pretty=True))
        (Path(folder) / "tokenizer.json").write_text(text, encoding="utf-8")

    def with_max_token_length(self, max_length: int) -> BpeTokenizer:
        """Return a copy whose tokens have at most `max_length` bases; see `limit_token_length`."""
        return BpeTokenizer(limit_token_length(self.tokenizer, max_length))


class KmerTokenizer:
    """Overlapping k-mers, as in DNABERT: one token per base, except for the last k − 1 bases.

    For the alignment, a k-mer holds its first base only, and the last k-mer holds all bases that remain. A sequence
    shorter than k is one ``[UNK]``.

    Parameters
    ----------
    vocabulary : dict of str to int
        Token → id: the special tokens and every k-mer of A, C, G and T.
    special_tokens : bool
        Whether ``[CLS]`` and ``[SEP]`` surround the tokens of a sequence.

    Raises
    ------
    ModelError
        If a special token or a k-mer is missing.
    """

    def __init__(self, vocabulary: dict[str, int], special_tokens: bool = True):
        self.vocabulary = dict(vocabulary)
        self.special_tokens = special_tokens
        self.k = max((len(token) for token in vocabulary if _NUCLEOTIDE_WORD.fullmatch(token)), default=0)
        try:
            self._unk, self._cls, self._sep, self.pad_id = (
                vocabulary[name] for name in ("[UNK]", "[CLS]", "[SEP]", "[PAD]")
            )
            kmer_ids = [vocabulary["".join(letters)] for letters in product("ACGT", repeat=self.k)]
        except KeyError as error:
            raise ModelError(
                f"the vocabulary has no token {error}; is it DNABERT's {self.k}-mer vocab.txt?"
            ) from None
        self.mask_id: int | None = vocabulary.get("[MASK]")
        self.tokens_per_base = self.k
        self.base_ids = np.array(kmer_ids, dtype=np.int64)
        self._ids_by_kmer = np.array([*kmer_ids, self._unk], dtype=np.int64)
        self.vocab_size = max(vocabulary.values()) + 1

    @classmethod
    def from_file(cls, path: str | Path) -> KmerTokenizer:
        """Load a ``vocab.txt`` with one token per line; raise `ModelError` if it is missing."""
        if not Path(path).is_file():
            raise ModelError(f"{path}: no such file; a DNABERT checkpoint needs its vocab.txt")
        if Path(path).stat().st_size > MAX_BYTES:
            raise ModelError(f"{path}: larger than {MAX_BYTES:,} bytes; is it the right file?")
        try:
            lines = Path(path).read_text(encoding="utf-8").split()
        except UnicodeDecodeError as error:
            raise ModelError(f"{path}: not a text file; expected one token per line") from error
        return cls({token: index for index, token in enumerate(lines)})

    @property
    def max_token_length(self) -> int:
        """Bases that a token holds in the alignment."""
        return 1

    def encode(self, sequences: Sequence[str]) -> TokenBatch:
        """Tokenize sequences; a k-mer that holds another letter than A, C, G or T is ``[UNK]``."""
        sequences = SequenceWindows.from_sequences(sequences)
        codes, widths = sequences.to_codes(), sequences.widths
        kmer_counts = np.maximum(widths - self.k + 1, np.minimum(widths, 1))
        codes = np.pad(codes, ((0, 0), (0, max(0, self.k - codes.shape[1]))), constant_values=PADDING_BASE)
        starts = codes.shape[1] - self.k + 1
        kmers = np.zeros((len(codes), starts), dtype=np.int64)
        for offset in range(self.k):
            kmers = 4 * kmers + codes[:, offset : offset + starts]
        for offset in range(self.k):
            kmers[codes[:, offset : offset + starts] >= UNKNOWN_BASE] = -1  # the last entry, [UNK]
        kmer_ids = self._ids_by_kmer[kmers[np.arange(starts) < kmer_counts[:, None]]]
        remaining = (widths - kmer_counts + 1)[kmer_counts > 0]
        if not self.special_tokens:
            lengths = np.ones(len(kmer_ids), dtype=np.int64)
            lengths[(np.cumsum(kmer_counts) - 1)[kmer_counts > 0]] = remaining
            return TokenBatch(kmer_ids, lengths, kmer_counts)
        ids, counts = add_special_tokens(kmer_ids, kmer_counts, [self._cls], [self._sep])
        ends = np.cumsum(counts)
        lengths = np.ones(len(ids), dtype=np.int64)
        lengths[ends - counts] = lengths[ends - 1] = 0
        lengths[(ends - 2)[kmer_counts > 0]] = remaining
        return TokenBatch(ids, lengths, counts)

    def with_special_tokens(self, special_tokens: bool) -> KmerTokenizer:
        """Return this tokenizer with or without ``[CLS]`` and ``[SEP]`` around each sequence."""
        return KmerTokenizer(self.vocabulary, special_tokens)

    def names(self) -> list[str]:
        """Return the name of each token by its id; an empty string for an id without a token."""
        return _names_by_id(self.vocabulary, self.vocab_size)

    def save(self, folder: Path) -> None:
        """Write ``vocab.txt``."""
        tokens = sorted(self.vocabulary, key=self.vocabulary.__getitem__)
        (Path(folder) / "vocab.txt").write_text("\n".join(tokens) + "\n")


class BaseTokenizer(KmerTokenizer):
    """One token per base, for models that read nucleotides. It needs no vocabulary file."""

    def __init__(self):
        letters = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"ACGT"]
        super().__init__({letter: index for index, letter in enumerate(letters)})

    @classmethod
    def from_file(cls, _path: str | Path) -> BaseTokenizer:
        """Return the tokenizer; no file is read."""
        return cls()

    def save(self, folder: Path) -> None:
        """Do nothing; the tokenizer has no file."""


def _names_by_id(vocabulary: Mapping[str, int], size: int) -> list[str]:
    names = [""] * size
    for name, token_id in vocabulary.items():
        names[token_id] = name
    return names


def _tokens_from_offsets(encoding, bases: int) -> Tokens:
    """Return the tokens of an encoding, with lengths computed from their offsets.

    A normalizer that rewrites text (GENA-LM replaces ten or more N by one ``-``) keeps the offset of the last letter
    only, so a token is taken to begin where the token before it ends.
    """
    ends = np.array([end for _, end in encoding.offsets], dtype=np.int64)
    holds_bases = np.array(encoding.special_tokens_mask) == 0
    ends[~holds_bases] = 0
    ends = np.maximum.accumulate(ends)
    base_tokens = np.flatnonzero(holds_bases)
    if len(base_tokens):
        ends[base_tokens[-1] :] = bases  # letters that a rule removed at the end belong to the last token
    return Tokens(np.array(encoding.ids, dtype=np.int64), np.diff(ends, prepend=0))
