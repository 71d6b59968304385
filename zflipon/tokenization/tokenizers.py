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

from zflipon.errors import ModelError
from zflipon.genome.alphabet import PADDING_BASE, UNKNOWN_BASE
from zflipon.genome.slices import SequenceWindows
from zflipon.tokenization.fast_bpe import ShortBpe, sides, surrounded

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


class TokenRows(Sequence[Tokens]):
    """Many tokenized sequences, kept one after the other: what is asked of all of them is asked at once.

    Parameters
    ----------
    ids, lengths : numpy.ndarray
        int64, shape (tokens of all,): as `Tokens` has them.
    counts : numpy.ndarray
        int64, shape (sequences,): tokens of each.
    """

    def __init__(self, ids: np.ndarray, lengths: np.ndarray, counts: np.ndarray):
        self.ids, self.lengths, self.counts = ids, lengths, counts
        self._ends = np.cumsum(counts)

    @classmethod
    def of(cls, sequences: Sequence[Tokens]) -> TokenRows:
        """Lay tokenized sequences one after the other."""
        if isinstance(sequences, TokenRows):
            return sequences
        nothing = np.empty(0, dtype=np.int64)
        return cls(
            np.concatenate([nothing, *(found.ids for found in sequences)]),
            np.concatenate([nothing, *(found.lengths for found in sequences)]),
            np.array([len(found.ids) for found in sequences], dtype=np.int64),
        )

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, which: int | slice | np.ndarray) -> Tokens | TokenRows:
        """Return one, or some of them."""
        if isinstance(which, int | np.integer):
            end = self._ends[which]
            own = slice(end - self.counts[which], end)
            return Tokens(self.ids[own], self.lengths[own])
        counts = self.counts[which]
        if isinstance(which, slice) and which.step is None and len(counts):
            first = self._ends[which][0] - counts[0]
            own = slice(first, first + counts.sum())
        else:
            own = runs(self._ends[which] - counts, counts)
        return TokenRows(self.ids[own], self.lengths[own], counts)

    @property
    def places(self) -> np.ndarray:
        """Position of each token in its sequence: int64, shape (tokens of all,)."""
        return runs(np.zeros(len(self), dtype=np.int64), self.counts)


def joined(rows: Sequence[TokenRows]) -> TokenRows:
    """Return the sequences of all, one after the other."""
    return TokenRows(
        *(np.concatenate([getattr(each, name) for each in rows]) for name in ("ids", "lengths", "counts"))
    )


def runs(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the numbers from each start on, so many each, one run after the other."""
    return np.arange(counts.sum()) + np.repeat(starts - np.cumsum(counts) + counts, counts)


def side_by_side(values: np.ndarray, counts: np.ndarray, filling: float) -> np.ndarray:
    """Lay rows that stand one after the other below each other.

    Parameters
    ----------
    values : numpy.ndarray
        Shape (values of all rows,).
    counts : numpy.ndarray
        int64, shape (rows,): values of each.
    filling : float
        What stands behind the last value of a row.

    Returns
    -------
    numpy.ndarray
        Shape (rows, most values).
    """
    most = int(counts.max(initial=0))
    if most * len(counts) == len(values):
        return values.reshape(len(counts), most)
    rows = np.full((len(counts), most), filling, dtype=values.dtype)
    rows[np.arange(most) < counts[:, None]] = values
    return rows


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

    def encode(self, sequences: Sequence[str]) -> TokenRows:
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

    def encode(self, sequences: Sequence[str]) -> TokenRows:
        """Tokenize sequences: many of short tokens by tables, others in one batch of Rust threads.

        Parameters
        ----------
        sequences : sequence of str
            Any case; N and IUPAC codes follow the tokenizer's own rules.

        Returns
        -------
        TokenRows
            One for each sequence. Where a sequence is of A, C, G and T alone, a token's length is
            that of its text; elsewhere the tokenizer's own offsets decide.
        """
        sequences = SequenceWindows.of(sequences)
        codes, widths = sequences.codes(), sequences.widths
        pure = ((codes < UNKNOWN_BASE) | (codes == PADDING_BASE)).all(axis=1)
        if pure.all():
            return self._encode_pure(sequences, codes, widths)
        # neither way tells offsets, so what a rule may have rewritten (runs of N) goes the slow way
        plain, mixed = np.flatnonzero(pure), np.flatnonzero(~pure)
        texts = [sequences[i] for i in mixed]
        rows = [
            self._encode_pure(sequences[plain], codes[plain], widths[plain]),
            TokenRows.of(
                [
                    _with_offsets(encoding, len(text))
                    for encoding, text in zip(self.tokenizer.encode_batch(texts), texts, strict=True)
                ]
            ),
        ]
        return joined(rows)[np.argsort(np.concatenate([plain, mixed]))]

    def _encode_pure(self, sequences: SequenceWindows, codes: np.ndarray, widths: np.ndarray) -> TokenRows:
        """Tokenize sequences of A, C, G and T."""
        if widths.sum() >= _WORTH * widths.max(initial=1) and self._tables is not None:
            ids, counts = self._tables.encode(codes, widths)
        else:
            found = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(list(sequences))]
            # all at once: windows may be short and many
            ids = np.fromiter(chain.from_iterable(found), np.int64)
            counts = np.array(list(map(len, found)), np.int64)
        return TokenRows(ids, self._token_length[ids], counts)

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

    def encode(self, sequences: Sequence[str]) -> TokenRows:
        """Tokenize sequences; a k-mer with another letter than A, C, G or T is ``[UNK]``."""
        sequences = SequenceWindows.of(sequences)
        codes, widths = sequences.codes(), sequences.widths
        many = np.maximum(widths - self.k + 1, np.minimum(widths, 1))
        codes = np.pad(codes, ((0, 0), (0, max(0, self.k - codes.shape[1]))), constant_values=PADDING_BASE)
        starts = codes.shape[1] - self.k + 1
        index = np.zeros((len(codes), starts), dtype=np.int64)
        for place in range(self.k):
            index = 4 * index + codes[:, place : place + starts]
        for place in range(self.k):
            index[codes[:, place : place + starts] >= UNKNOWN_BASE] = -1  # the last of the table
        own = self._table[index[np.arange(starts) < many[:, None]]]
        ids, counts = surrounded(own, many, [self._cls], [self._sep])
        ends = np.cumsum(counts)
        lengths = np.ones(len(ids), dtype=np.int64)
        lengths[ends - counts] = lengths[ends - 1] = 0
        lengths[(ends - 2)[many > 0]] = (widths - many + 1)[many > 0]
        return TokenRows(ids, lengths, counts)

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


def _with_offsets(encoding, bases: int) -> Tokens:
    """Return the tokens of an encoding, their offsets as lengths that tile the sequence.

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
    return Tokens(np.array(encoding.ids, dtype=np.int64), np.diff(ends, prepend=0))
