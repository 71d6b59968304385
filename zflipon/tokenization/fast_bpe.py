"""Byte-pair encoding of many sequences at once, for vocabularies of short tokens: an automaton in the place of merges.

What BPE makes of a text is the one way to cut it into tokens of which every two neighbours stand together: BPE, given
the two alone, leaves them as they are. So the last token of a text's first n letters follows from the last tokens of
shorter beginnings: it is the one that may stand behind the token before it. All that matters of a beginning is which
tokens may be on their way at its end. Where tokens are of a few letters there are hardly more such states than tokens,
and each letter leads from one to another: read from the left, they tell the last token of every beginning; read back
from the right, these tell where tokens end. All sequences take the same step, of four letters, at the same time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from math import inf

import numpy as np
from tokenizers import Tokenizer

from zflipon.genome.alphabet import NUCLEOTIDES

LONGEST, MOST, MOST_STATES = 8, 2000, 1 << 13
"""Letters of the longest token, tokens, and states, beyond which tables would be too large."""

_STEP = 4
"""Letters of a step."""

_BITS = (LONGEST - 1).bit_length()
"""Bits that hold a token's length, less one."""

_WORDS, _SIZES = len(NUCLEOTIDES) ** _STEP, 1 << _BITS * _STEP
"""How many words a step may read, and how many numbers may tell the lengths of its tokens."""

_AT_ONCE = 1 << 20
"""Letters that take their steps together: enough that a step is worth its call, and no more than caches hold."""

Piece = tuple[str, float]
"""A token that ends or begins another while that is put together, and the rank of the merge that ends its days."""


@dataclass(frozen=True)
class ShortBpe:
    """The tables of a vocabulary.

    Attributes
    ----------
    onward : numpy.ndarray
        int64, shape (states × 256,): at state × 256 + a step's letters, × 256 the state that they lead to. A text
        begins in state 0.
    sizes : numpy.ndarray
        int64, of that shape: letters of the last token after each letter of the step, as `_packed` has them.
    ids : numpy.ndarray
        int32, shape (states × 256, 4): the tokenizer's id of that token.
    before, behind : numpy.ndarray
        int64: ids of the special tokens around a sequence.
    """

    onward: np.ndarray
    sizes: np.ndarray
    ids: np.ndarray
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
        automaton = _automaton(list(made), _together(made, ranks))
        if around.count(model["vocab"]["A"]) != 1 or automaton is None:
            return None
        at = around.index(model["vocab"]["A"])
        onward, last = _in_steps(*automaton)
        ids = np.array([model["vocab"][word] for word in made], dtype=np.int32)
        return cls(
            onward.ravel() * _WORDS,
            _packed(np.array([*map(len, made)])[last]).ravel(),
            ids[last].reshape(-1, _STEP),
            np.array(around[:at], dtype=np.int64),
            np.array(around[at + 1 :], dtype=np.int64),
        )

    def encode(self, codes: np.ndarray, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Encode sequences of A, C, G and T.

        Parameters
        ----------
        codes : numpy.ndarray
            uint8, shape (sequences, longest): nucleotide codes; beyond a sequence's end, any number.
        widths : numpy.ndarray
            int64, shape (sequences,): letters of each.

        Returns
        -------
        ids : numpy.ndarray
            int64: token ids of all sequences, one after the other, special tokens included.
        counts : numpy.ndarray
            int64, shape (sequences,): tokens of each.
        """
        rows = max(1, _AT_ONCE // max(1, codes.shape[1]))
        ids, counts = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for part in (slice(first, first + rows) for first in range(0, len(codes), rows)):
            own, many = self._own(codes[part], widths[part])
            ids.append(own)
            counts.append(many)
        return surrounded(np.concatenate(ids), np.concatenate(counts), self.before, self.behind)

    def _own(self, codes: np.ndarray, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what `encode` does, without special tokens."""
        at = _words(codes)
        state = np.zeros(len(codes), dtype=np.int64)
        for step in at:
            step += state
            self.onward.take(step, out=state, mode="clip")
        sizes = self.sizes.take(at)
        ragged = bool((widths < len(at) * _STEP).any())
        if ragged:
            # letters beyond an end are tokens by themselves, so that a token ends where the sequence does
            own = np.clip(widths - _STEP * np.arange(len(at))[:, None], 0, _STEP)
            sizes &= (1 << _BITS * own) - 1
        ends = _ends(sizes)
        if ragged:
            ends &= np.arange(ends.shape[1]) < widths[:, None]
        return self.ids.take(at.T, axis=0).reshape(ends.shape)[ends], ends.sum(axis=1)


def surrounded(
    own: np.ndarray, counts: np.ndarray, before: Sequence[int], behind: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Put special tokens around those of each sequence.

    Parameters
    ----------
    own : numpy.ndarray
        int, shape (tokens of all,): one sequence after the other.
    counts : numpy.ndarray
        int64, shape (sequences,): tokens of each.
    before, behind : sequence of int

    Returns
    -------
    ids, counts : numpy.ndarray
        int64, with the special ones.
    """
    more = len(before) + len(behind)
    first = np.cumsum(counts + more) - (counts + more)
    ids = np.empty(len(own) + more * len(counts), dtype=np.int64)
    inner = np.ones(len(ids), dtype=bool)
    places = [first + place for place in range(len(before))]
    places += [first + len(before) + counts + place for place in range(len(behind))]
    for place, token in zip(places, [*before, *behind], strict=True):
        ids[place], inner[place] = token, False
    ids[inner] = own
    return ids, counts + more


def _words(codes: np.ndarray) -> np.ndarray:
    """Return the letters of each step as a number: int64, shape (steps, sequences)."""
    letters = np.pad(codes, ((0, 0), (0, -codes.shape[1] % _STEP))).reshape(len(codes), -1, _STEP) & 3
    word = letters[..., 0]
    for place in range(1, _STEP):
        word = word << 2 | letters[..., place]
    return np.ascontiguousarray(word.T, dtype=np.int64)


def _packed(lengths: np.ndarray) -> np.ndarray:
    """Return the lengths of a step's tokens, less one, as a number: shape (…) of (…, 4)."""
    return (lengths - 1) @ (1 << _BITS * np.arange(_STEP))


def _ends(sizes: np.ndarray) -> np.ndarray:
    """Tell after which letters tokens end, from each sequence's end backwards.

    Parameters
    ----------
    sizes : numpy.ndarray
        int64, shape (steps, sequences): of the last token after each letter, packed. It is used up.

    Returns
    -------
    numpy.ndarray
        bool, shape (sequences, letters).
    """
    back, ends = _backwards()
    left = np.zeros(sizes.shape[1], dtype=np.int64)
    for step in sizes[::-1]:
        step += left
        back.take(step, out=left, mode="clip")
    return ends.take(sizes.T, axis=0).reshape(sizes.shape[1], -1)


@cache
def _backwards() -> tuple[np.ndarray, np.ndarray]:
    """Return the tables of the way back, at 4096 × letters of a token that are still to come + a step's sizes.

    Returns
    -------
    back : numpy.ndarray
        int64: × 4096 the letters that are still to come before the step.
    ends : numpy.ndarray
        bool, shape (…, 4): after which of its letters a token ends.
    """
    left, sizes = np.divmod(np.arange(LONGEST * _SIZES), _SIZES)
    ends = np.empty((len(left), _STEP), dtype=bool)
    for place in reversed(range(_STEP)):
        ends[:, place] = left == 0
        left = np.where(left == 0, sizes >> _BITS * place & (1 << _BITS) - 1, left - 1)
    return left * _SIZES, ends


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


def _together(
    made: dict[str, tuple[list[Piece], list[Piece]]], ranks: dict[tuple[str, str], int]
) -> np.ndarray:
    """Tell which token may stand behind which: bool, shape (tokens, tokens).

    Two tokens stand together unless a merge reaches over their border: one of a piece that ends the first and a piece
    that begins the second, at a time when there are both. Of equal merges the leftmost comes first.
    """
    ending: dict[str, list[tuple[int, float]]] = {}
    beginning: dict[str, list[tuple[int, float]]] = {}
    for number, (ends, begins) in enumerate(made.values()):
        for known, pieces in ((ending, ends), (beginning, begins)):
            for piece, until in pieces:
                known.setdefault(piece, []).append((number, until))
    together = np.ones((len(made), len(made)), dtype=bool)
    for (left, right), rank in ranks.items():
        ends = [number for number, until in ending.get(left, ()) if rank < until]
        begins = [number for number, until in beginning.get(right, ()) if rank <= until]
        together[np.ix_(ends, begins)] = False
    return together


def _automaton(words: list[str], together: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return where letters lead, and which token is the last then.

    A state tells, of 0, 1, 2, … letters at the end of what was read, which tokens may be on their way that begin with
    them: those that may stand behind the last token before. Such a set of tokens is the bits of a number.

    Returns
    -------
    onward : numpy.ndarray
        int64, shape (states, 4): the state after each letter; a text begins in state 0.
    last : numpy.ndarray
        int64, shape (states, 4): of `words`. None where there are too many states.
    """
    places = range(max(map(len, words)))
    behind = [_bits(row) for row in together]
    holds = [[_bits(word[i : i + 1] == letter for word in words) for letter in NUCLEOTIDES] for i in places]
    whole = [_bits(len(word) == i + 1 for word in words) for i in places]
    first = (_bits([True] * len(words)), *[0] * (len(places) - 1))
    numbers, states, onward, last = {first: 0}, [first], [], []
    for state in states:  # which grows
        if len(states) > MOST_STATES:
            return None
        for letter in range(len(NUCLEOTIDES)):
            grown = [ways & holds[i][letter] for i, ways in enumerate(state)]
            (done,) = (ways & whole[i] for i, ways in enumerate(grown) if ways & whole[i])
            token = done.bit_length() - 1
            after = (behind[token], *(ways & ~whole[i] for i, ways in enumerate(grown[:-1])))
            if after not in numbers:
                numbers[after] = len(states)
                states.append(after)
            onward.append(numbers[after])
            last.append(token)
    shape = (len(states), len(NUCLEOTIDES))
    return np.array(onward).reshape(shape), np.array(last).reshape(shape)


def _bits(members: Iterable[bool]) -> int:
    """Return a set as a number: a bit for each that might be in it."""
    return int.from_bytes(
        np.packbits(np.fromiter(members, dtype=bool), bitorder="little").tobytes(), "little"
    )


def _in_steps(onward: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where the letters of a step lead, shape (states, 256), and the last token after each, (…, 4)."""
    word = np.arange(_WORDS)
    state = np.repeat(np.arange(len(onward))[:, None], _WORDS, axis=1)
    tokens = np.empty((*state.shape, _STEP), dtype=np.int64)
    for place in range(_STEP):
        letter = word >> 2 * (_STEP - 1 - place) & 3
        tokens[..., place] = last[state, letter]
        state = onward[state, letter]
    return state, tokens
