"""Byte-pair encoding of many sequences at once, for vocabularies of short tokens: look-ups in the place of merges.

What BPE makes of a text is the one way to cut it into tokens of which every two neighbours stand together: BPE, given
the two alone, leaves them as they are. So the last token of a text's first n letters follows from the last tokens of
shorter beginnings: it is the one that may stand behind the token before it. Where tokens are of a few letters, what
may stand behind what is a small table, and all sequences take the same step at the same time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf

import numpy as np
from tokenizers import Tokenizer

from zflipon.genome import NUCLEOTIDES, base_codes

LONGEST, MOST = 8, 2000
"""Letters of the longest token, and tokens, beyond which tables would be too large."""

_BLOCK, _AT_ONCE = 1 << 20, 1024
"""Letters, and sequences, that take their steps together: enough that a step is worth its call, and no more than caches
hold."""

_STEPS = 64
"""Letters whose tokens are looked up in advance."""

_TWO_BITS = bytes.maketrans("".join(NUCLEOTIDES).encode(), bytes(NUCLEOTIDES.values()))

Piece = tuple[str, float]
"""A token that ends or begins another while that is put together, and the rank of the merge that ends its days."""


@dataclass(frozen=True)
class ShortBpe:
    """The tables of a vocabulary.

    Attributes
    ----------
    ids : numpy.ndarray
        int64, shape (tokens + 1,): the tokenizer's id of each token; tokens are counted from 1, 0 is none.
    lengths : numpy.ndarray
        int64, shape (tokens + 2,): letters of each; 0 of none and of a text's beginning, which comes last.
    ending : numpy.ndarray
        int64, shape (longest token, 4 ** longest token): the token of 1, 2, … letters at the end of so many, or 0.
    shift : int
        Bits that hold a token's number.
    follows : numpy.ndarray
        int64, shape (4 ** shift,): at (before << shift) + token, token << shift if it may stand there, else 0.
    before, behind : numpy.ndarray
        int64: ids of the special tokens around a sequence.
    """

    ids: np.ndarray
    lengths: np.ndarray
    ending: np.ndarray
    shift: int
    follows: np.ndarray
    before: np.ndarray
    behind: np.ndarray

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> ShortBpe | None:
        """Make the tables of a tokenizer; None where tokens are long or many, or where it has rules beside BPE's."""
        content = json.loads(tokenizer.to_str())
        model = content["model"]
        if not _plain(content):
            return None
        ranks = {tuple(sides(merge)): rank for rank, merge in enumerate(model["merges"])}
        words = [word for word in model["vocab"] if word and set(word) <= set(NUCLEOTIDES)]
        if not set(NUCLEOTIDES) <= set(words) or max(map(len, words)) > LONGEST or len(words) > MOST:
            return None
        made = {word: _pieces(word, ranks) for word in words}
        made = {word: pieces for word, pieces in made.items() if pieces is not None}
        around = tokenizer.encode("A").ids
        if around.count(model["vocab"]["A"]) != 1:
            return None
        at = around.index(model["vocab"]["A"])
        shift = (len(made) + 1).bit_length()
        return cls(
            np.array([-1, *(model["vocab"][word] for word in made)]),
            np.array([0, *map(len, made), 0]),
            _ending(list(made)),
            shift,
            _follows(made, ranks, shift),
            np.array(around[:at], dtype=np.int64),
            np.array(around[at + 1 :], dtype=np.int64),
        )

    def encode(self, sequences: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Encode sequences of A, C, G and T.

        Parameters
        ----------
        sequences : sequence of str
            Best of like lengths: all take as many steps as the longest.

        Returns
        -------
        ids : numpy.ndarray
            int64: token ids of all sequences, one after the other, special tokens included.
        counts : numpy.ndarray
            int64, shape (sequences,): tokens of each.
        """
        longest = max(map(len, sequences), default=0)
        size = max(1, min(_AT_ONCE, _BLOCK // max(1, longest)))
        blocks = [
            self._encode(sequences[first : first + size], longest) for first in range(0, len(sequences), size)
        ]
        ids, counts = zip(*blocks, strict=True) if blocks else ((), ())
        nothing = np.empty(0, dtype=np.int64)
        return np.concatenate([nothing, *ids]), np.concatenate([nothing, *counts])

    def _encode(self, sequences: Sequence[str], longest: int) -> tuple[np.ndarray, np.ndarray]:
        letters = "".join(sequence.ljust(longest, "A") for sequence in sequences).encode("ascii")
        text = np.frombuffer(letters.translate(_TWO_BITS), dtype=np.uint8)
        last = self._last_tokens(text.reshape(len(sequences), longest).T)
        tokens = self._back(last, np.array([len(sequence) for sequence in sequences], dtype=np.int64))
        real = tokens < len(self.ids)
        counts, more = real.sum(axis=1), len(self.before) + len(self.behind)
        ends = np.cumsum(counts + more)
        ids = np.empty(ends[-1] if len(ends) else 0, dtype=np.int64)
        own = np.arange(counts.sum()) + np.repeat(np.arange(len(counts)) * more + len(self.before), counts)
        ids[own] = self.ids[tokens[real]]
        for place, special in enumerate(self.before):
            ids[ends - counts - more + place] = special
        for place, special in enumerate(self.behind):
            ids[ends - len(self.behind) + place] = special
        return ids, counts + more

    def _last_tokens(self, text: np.ndarray) -> np.ndarray:
        """Return the last token of every beginning of sequences.

        Parameters
        ----------
        text : numpy.ndarray
            uint8 codes, shape (letters, sequences).

        Returns
        -------
        numpy.ndarray
            int64, shape (letters + 1 + longest token, sequences), shifted: from all letters of a sequence down to
            none, where its beginning stands, and what would lie before that, which is none.
        """
        (letters, sequences), kinds = text.shape, len(self.ending)
        padded = np.zeros((kinds - 1 + letters, sequences), dtype=np.uint16)
        padded[kinds - 1 :] = text
        code = padded[kinds - 1 :].copy()  # of the letters that the longest token would have
        for back in range(1, kinds):
            code |= padded[kinds - 1 - back :][:letters] << np.uint16(2 * back)
        last = np.zeros((letters + 1 + kinds, sequences), dtype=np.int64)
        last[letters] = len(self.ids) << self.shift
        ending = np.empty((kinds, _STEPS, sequences), dtype=np.int64)
        place, found = np.empty((2, kinds, sequences), dtype=np.int64)
        for first in range(0, letters, _STEPS):
            known = code[first : first + _STEPS].astype(np.intp)
            for table, tokens in zip(self.ending, ending, strict=True):
                table.take(known, out=tokens[: len(known)], mode="clip")
            for step in range(len(known)):
                row = letters - first - step
                np.add(last[row : row + kinds], ending[:, step], out=place)
                self.follows.take(place, out=found, mode="clip")
                np.maximum.reduce(found, axis=0, out=last[row - 1])
        return last

    def _back(self, last: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Follow last tokens from the ends of sequences back to their beginnings.

        Returns
        -------
        numpy.ndarray
            int64, shape (sequences, most tokens of any): each ends at the right; left of it stands the beginning.
        """
        sequences, flat = np.arange(len(sizes)), last.ravel()
        start = last.shape[0] - 1 - len(self.ending)
        row, found = start - sizes, []
        while (row < start).any():
            tokens = flat.take(row * len(sizes) + sequences) >> self.shift
            row += self.lengths.take(tokens)
            found.append(tokens)
        return np.stack(found[::-1], axis=1) if found else np.empty((len(sizes), 0), dtype=np.int64)


def _plain(content: dict) -> bool:
    """Tell whether a ``tokenizer.json`` makes of bases what BPE makes of them, and no more."""
    model = content["model"]
    more = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges")
    return (
        model.get("type") == "BPE"
        and not any(model.get(name) for name in more)
        and _in_order(model)
        and all(_spares_bases(content.get(step)) for step in ("normalizer", "pre_tokenizer"))
        and not any(set(token["content"]) <= set(NUCLEOTIDES) for token in content["added_tokens"])
    )


def _in_order(model: dict) -> bool:
    """Tell whether each token is made in one way, of what was made before it, as training leaves them."""
    known = {word for word in model["vocab"] if len(word) == 1}
    for left, right in map(sides, model["merges"]):
        if not {left, right} <= known or left + right in known:
            return False
        known.add(left + right)
    return True


def _spares_bases(rule: dict | None) -> bool:
    """Tell whether a rule surely leaves text of A, C, G and T as it is, in one piece."""
    if rule is None or rule["type"] in ("Strip", "Whitespace", "WhitespaceSplit"):
        return True
    if rule["type"] == "Sequence":
        return all(map(_spares_bases, rule.get("normalizers") or rule.get("pretokenizers") or ()))
    if rule["type"] not in ("Replace", "Split"):
        return False
    ((kind, pattern),) = rule["pattern"].items()
    # of regular expressions those that name what they look for: letters, and how many
    return not set(pattern) & set(NUCLEOTIDES) and (
        kind == "String" or not set(pattern) & set(".[]()\\|^$*?")
    )


def sides(merge: str | list[str]) -> list[str]:
    """Split a merge, which tokenizer.json writes as ``"A B"`` or, since 0.20, as ``["A", "B"]``."""
    return merge.split(" ") if isinstance(merge, str) else merge


def _pieces(word: str, ranks: dict[tuple[str, str], int]) -> tuple[list[Piece], list[Piece]] | None:
    """Put a token together by BPE.

    Returns
    -------
    ends, begins : list of Piece
        What stood at its right end and at its left end, one after the other, and until when; the token itself stays.
        None if BPE makes more than one token of its letters: then no text ever holds it.
    """
    parts = list(word)
    ends, begins = [], []
    while len(parts) > 1:
        rank, at = min((ranks.get(pair, inf), i) for i, pair in enumerate(pairwise(parts)))
        if rank == inf:
            return None
        if at + 2 == len(parts):
            ends.append((parts[-1], rank))
        if at == 0:
            begins.append((parts[0], rank))
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return [*ends, (word, inf)], [*begins, (word, inf)]


def _ending(words: list[str]) -> np.ndarray:
    longest = max(map(len, words))
    tables = np.zeros((longest, 4**longest), dtype=np.int64)
    for number, word in enumerate(words, 1):
        code = int(base_codes(word) @ 4 ** np.arange(len(word))[::-1])
        tables[len(word) - 1, code :: 4 ** len(word)] = number  # whatever is before it
    return tables


def _follows(
    made: dict[str, tuple[list[Piece], list[Piece]]], ranks: dict[tuple[str, str], int], shift: int
) -> np.ndarray:
    """Return what may stand behind what; see `ShortBpe.follows`.

    Two tokens stand together unless a merge reaches over their border: one of a piece that ends the first and a piece
    that begins the second, at a time when there are both. Of equal merges the leftmost comes first.
    """
    ending: dict[str, list[tuple[int, float]]] = {}
    beginning: dict[str, list[tuple[int, float]]] = {}
    for number, (ends, begins) in enumerate(made.values(), 1):
        for known, pieces in ((ending, ends), (beginning, begins)):
            for piece, until in pieces:
                known.setdefault(piece, []).append((number, until))
    together = np.zeros((1 << shift, 1 << shift), dtype=bool)
    together[1 : len(made) + 2, 1 : len(made) + 1] = True
    for (left, right), rank in ranks.items():
        ends = [number for number, until in ending.get(left, ()) if rank < until]
        begins = [number for number, until in beginning.get(right, ()) if rank <= until]
        together[np.ix_(ends, begins)] = False
    return (together * (np.arange(1 << shift) << shift)).ravel()
