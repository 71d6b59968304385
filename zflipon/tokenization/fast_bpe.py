"""Byte-pair encoding of many DNA sequences at once, by a finite automaton instead of merges.

It applies to vocabularies of short tokens; others use the tokenizers library. ``benchmarks/tokenizer_speed.py``
measures it against that library and is the reason for this code.

How it works: BPE splits a text into the only token sequence in which every two neighbours are *compatible*, that is,
BPE of their two texts alone returns the same two tokens. So the last token of a prefix of the text follows from the
last tokens of shorter prefixes: it is the token that is compatible with its predecessor. The state after each letter
is the set of tokens that may be incomplete there. With tokens of a few letters there are about as many states as
tokens. A forward pass over the letters gives the last token of every prefix, and a backward pass from the end selects
the tokens that are used. All sequences advance together, four letters per step.
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
from zflipon.tokenization.bpe import split_merge

MAX_TOKEN_LENGTH, MAX_TOKENS, MAX_STATES = 8, 2000, 1 << 13
"""Letters of the longest token, number of tokens, and number of states; larger vocabularies need too large tables."""

LETTERS_PER_CHUNK = 1 << 20
"""Letters of the sequences that advance together: enough to amortise a numpy call, few enough for the CPU caches."""

_STEP = 4
"""Letters per step."""

_LENGTH_BITS = (MAX_TOKEN_LENGTH - 1).bit_length()
"""Bits that store a token's length minus one."""

_WORDS, _PACKED_LENGTHS = len(NUCLEOTIDES) ** _STEP, 1 << _LENGTH_BITS * _STEP
"""Number of words of `_STEP` letters, and number of values of `_STEP` packed lengths."""

Part = tuple[str, float]
"""A part that exists while BPE builds a token, and the rank of the merge that consumes it; infinite for the token."""


@dataclass(frozen=True)
class FastBpe:
    """The automaton of a vocabulary, as lookup tables.

    Attributes
    ----------
    transitions : numpy.ndarray
        int64, shape (states × 256,): next state × 256, at index state × 256 + word. State 0 is the start.
    packed_lengths : numpy.ndarray
        int64, same shape: lengths of the last token after each letter of the word, packed by `_pack_lengths`.
    ids : numpy.ndarray
        int32, shape (states × 256, 4): id of the last token after each letter of the word.
    prefix_ids, suffix_ids : numpy.ndarray
        int64: ids of the special tokens before and after a sequence.
    """

    transitions: np.ndarray
    packed_lengths: np.ndarray
    ids: np.ndarray
    prefix_ids: np.ndarray
    suffix_ids: np.ndarray

    @classmethod
    def compile(cls, tokenizer: Tokenizer, max_states: int = MAX_STATES) -> FastBpe | None:
        """Build the tables of a tokenizer.

        Returns None if its vocabulary is too large, its tokens are too long, or it has rules other than BPE that
        affect A, C, G and T.
        """
        content = json.loads(tokenizer.to_str())
        model = content["model"]
        if not _is_plain_bpe(content):
            return None
        ranks = {split_merge(merge): rank for rank, merge in enumerate(model["merges"])}
        words = [word for word in model["vocab"] if word and set(word) <= set(NUCLEOTIDES)]
        if not set(NUCLEOTIDES) <= set(words) or len(words) > MAX_TOKENS:
            return None
        if max(map(len, words)) > MAX_TOKEN_LENGTH:
            return None
        edges = {word: _edge_parts(word, ranks) for word in words}
        edges = {word: parts for word, parts in edges.items() if parts is not None}
        automaton = _build_automaton(list(edges), _compatible_pairs(edges, ranks), max_states)
        template = tokenizer.encode("A").ids
        base_id = model["vocab"]["A"]
        if template.count(base_id) != 1 or automaton is None:
            return None
        split = template.index(base_id)
        transitions, last_tokens = _combine_letters(*automaton)
        ids = np.array([model["vocab"][word] for word in edges], dtype=np.int32)
        lengths = np.array([*map(len, edges)])
        return cls(
            transitions.ravel() * _WORDS,
            _pack_lengths(lengths[last_tokens]).ravel(),
            ids[last_tokens].reshape(-1, _STEP),
            np.array(template[:split], dtype=np.int64),
            np.array(template[split + 1 :], dtype=np.int64),
        )

    def encode(
        self, codes: np.ndarray, widths: np.ndarray, letters_per_chunk: int = LETTERS_PER_CHUNK
    ) -> tuple[np.ndarray, np.ndarray]:
        """Encode sequences of A, C, G and T.

        Parameters
        ----------
        codes : numpy.ndarray
            uint8, shape (sequences, longest): nucleotide codes. Codes after the end of a sequence are ignored.
        widths : numpy.ndarray
            int64, shape (sequences,): letters of each sequence.
        letters_per_chunk : int
            Letters of the sequences that advance together. The result does not depend on it.

        Returns
        -------
        ids : numpy.ndarray
            int64, shape (total tokens,): token ids of all sequences, concatenated, special tokens included.
        counts : numpy.ndarray
            int64, shape (sequences,): tokens of each sequence.
        """
        rows = max(1, letters_per_chunk // max(1, codes.shape[1]))
        ids, counts = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for chunk in (slice(first, first + rows) for first in range(0, len(codes), rows)):
            chunk_ids, chunk_counts = self._encode_chunk(codes[chunk], widths[chunk])
            ids.append(chunk_ids)
            counts.append(chunk_counts)
        return add_special_tokens(
            np.concatenate(ids), np.concatenate(counts), self.prefix_ids, self.suffix_ids
        )

    def _encode_chunk(self, codes: np.ndarray, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what `encode` returns, without special tokens."""
        index = _words_of_steps(codes)
        state = np.zeros(len(codes), dtype=np.int64)
        for step in index:
            step += state
            self.transitions.take(step, out=state, mode="clip")
        packed_lengths = self.packed_lengths.take(index)
        is_ragged = bool((widths < len(index) * _STEP).any())
        if is_ragged:
            # letters after the end become tokens of length one, so that a token ends where the sequence ends
            letters = np.clip(widths - _STEP * np.arange(len(index))[:, None], 0, _STEP)
            packed_lengths &= (1 << _LENGTH_BITS * letters) - 1
        ends = _token_ends(packed_lengths)
        if is_ragged:
            ends &= np.arange(ends.shape[1]) < widths[:, None]
        return self.ids.take(index.T, axis=0).reshape(ends.shape)[ends], ends.sum(axis=1)


def add_special_tokens(
    ids: np.ndarray,
    counts: np.ndarray,
    prefix_ids: Sequence[int] | np.ndarray,
    suffix_ids: Sequence[int] | np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Put special tokens before and after the tokens of each sequence.

    Parameters
    ----------
    ids : numpy.ndarray
        int, shape (total tokens,): token ids of all sequences, concatenated.
    counts : numpy.ndarray
        int64, shape (sequences,): tokens of each sequence.
    prefix_ids, suffix_ids : sequence of int, or numpy.ndarray

    Returns
    -------
    ids, counts : numpy.ndarray
        int64, with the special tokens.

    Examples
    --------
    >>> ids, counts = add_special_tokens(np.array([7, 8, 9]), np.array([2, 1]), [1], [2])
    >>> ids.tolist(), counts.tolist()
    ([1, 7, 8, 2, 1, 9, 2], [4, 3])
    """
    added = len(prefix_ids) + len(suffix_ids)
    starts = np.cumsum(counts + added) - (counts + added)
    result = np.empty(len(ids) + added * len(counts), dtype=np.int64)
    is_own = np.ones(len(result), dtype=bool)
    positions = [starts + offset for offset in range(len(prefix_ids))]
    positions += [starts + len(prefix_ids) + counts + offset for offset in range(len(suffix_ids))]
    for position, token_id in zip(positions, [*prefix_ids, *suffix_ids], strict=True):
        result[position], is_own[position] = token_id, False
    result[is_own] = ids
    return result, counts + added


def _words_of_steps(codes: np.ndarray) -> np.ndarray:
    """Return the letters of each step as one number: int64, shape (steps, sequences)."""
    letters = np.pad(codes, ((0, 0), (0, -codes.shape[1] % _STEP))).reshape(len(codes), -1, _STEP) & 3
    word = letters[..., 0]
    for offset in range(1, _STEP):
        word = word << 2 | letters[..., offset]
    return np.ascontiguousarray(word.T, dtype=np.int64)


def _pack_lengths(lengths: np.ndarray) -> np.ndarray:
    """Pack the four token lengths of a step, each minus one, into one number: shape (…) from (…, 4)."""
    return (lengths - 1) @ (1 << _LENGTH_BITS * np.arange(_STEP))


def _token_ends(packed_lengths: np.ndarray) -> np.ndarray:
    """Return after which letters a token ends, by a backward pass from the end of each sequence.

    Parameters
    ----------
    packed_lengths : numpy.ndarray
        int64, shape (steps, sequences): of the last token after each letter. Overwritten.

    Returns
    -------
    numpy.ndarray
        bool, shape (sequences, letters).
    """
    previous, ends = _backward_tables()
    remaining = np.zeros(packed_lengths.shape[1], dtype=np.int64)
    for step in packed_lengths[::-1]:
        step += remaining
        previous.take(step, out=remaining, mode="clip")
    return ends.take(packed_lengths.T, axis=0).reshape(packed_lengths.shape[1], -1)


@cache
def _backward_tables() -> tuple[np.ndarray, np.ndarray]:
    """Return the tables of the backward pass, at index 4096 × remaining letters of a token + packed lengths.

    Returns
    -------
    previous : numpy.ndarray
        int64: 4096 × the letters of a token that remain before the step.
    ends : numpy.ndarray
        bool, shape (…, 4): after which letters of the step a token ends.
    """
    remaining, packed = np.divmod(np.arange(MAX_TOKEN_LENGTH * _PACKED_LENGTHS), _PACKED_LENGTHS)
    ends = np.empty((len(remaining), _STEP), dtype=bool)
    for offset in reversed(range(_STEP)):
        ends[:, offset] = remaining == 0
        length = packed >> _LENGTH_BITS * offset & (1 << _LENGTH_BITS) - 1
        remaining = np.where(remaining == 0, length, remaining - 1)
    return remaining * _PACKED_LENGTHS, ends


def _is_plain_bpe(content: dict) -> bool:
    """Return whether a ``tokenizer.json`` applies BPE to A, C, G and T, and no other rule."""
    model = content["model"]
    other_rules = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges")
    return (
        model.get("type") == "BPE"
        and not any(model.get(name) for name in other_rules)
        and _merges_are_ordered(model)
        and all(_keeps_nucleotides(content.get(step)) for step in ("normalizer", "pre_tokenizer"))
        and not any(set(token["content"]) <= set(NUCLEOTIDES) for token in content["added_tokens"])
    )


def _merges_are_ordered(model: dict) -> bool:
    """Return whether each token has exactly one merge, of parts that earlier merges built. Trained BPE has this."""
    known = {word for word in model["vocab"] if len(word) == 1}
    for left, right in map(split_merge, model["merges"]):
        if not {left, right} <= known or left + right in known:
            return False
        known.add(left + right)
    return True


def _keeps_nucleotides(rule: dict | None) -> bool:
    """Return whether a normalizer or pre-tokenizer is sure to leave text of A, C, G and T unchanged and unsplit."""
    if rule is None or rule["type"] in ("Strip", "Whitespace", "WhitespaceSplit"):
        return True
    if rule["type"] == "Sequence":
        return all(map(_keeps_nucleotides, rule.get("normalizers") or rule.get("pretokenizers") or ()))
    if rule["type"] not in ("Replace", "Split"):
        return False
    ((kind, pattern),) = rule["pattern"].items()
    # only regular expressions of literal letters and counts, such as N{10,}, are understood
    is_literal = kind == "String" or not set(pattern) & set(".[]()\\|^$*?")
    return is_literal and not set(pattern) & set(NUCLEOTIDES)


def _edge_parts(word: str, ranks: dict[tuple[str, str], int]) -> tuple[list[Part], list[Part]] | None:
    """Build a token by BPE and return the parts at its edges.

    Returns
    -------
    right_parts, left_parts : list of Part
        The parts that were at the right and at the left edge, in order; the last one is the token itself. None if BPE
        splits the letters into several tokens, so that no text ever contains this one.
    """
    parts = list(word)
    right_parts, left_parts = [], []
    while len(parts) > 1:
        rank, index = min((ranks.get(pair, inf), i) for i, pair in enumerate(pairwise(parts)))
        if rank == inf:
            return None
        if index + 2 == len(parts):
            right_parts.append((parts[-1], rank))
        if index == 0:
            left_parts.append((parts[0], rank))
        parts[index : index + 2] = [parts[index] + parts[index + 1]]
    return [*right_parts, (word, inf)], [*left_parts, (word, inf)]


def _compatible_pairs(
    edges: dict[str, tuple[list[Part], list[Part]]], ranks: dict[tuple[str, str], int]
) -> np.ndarray:
    """Return which token may follow which: bool, shape (tokens, tokens).

    Two neighbours are compatible unless a merge joins a part at the right edge of the first and a part at the left
    edge of the second while both exist. Of merges of equal rank BPE applies the leftmost first.
    """
    by_right_part: dict[str, list[tuple[int, float]]] = {}
    by_left_part: dict[str, list[tuple[int, float]]] = {}
    for token, (right_parts, left_parts) in enumerate(edges.values()):
        for tokens_by_part, parts in ((by_right_part, right_parts), (by_left_part, left_parts)):
            for part, consumed_at in parts:
                tokens_by_part.setdefault(part, []).append((token, consumed_at))
    compatible = np.ones((len(edges), len(edges)), dtype=bool)
    for (left, right), rank in ranks.items():
        first = [token for token, consumed_at in by_right_part.get(left, ()) if rank < consumed_at]
        second = [token for token, consumed_at in by_left_part.get(right, ()) if rank <= consumed_at]
        compatible[np.ix_(first, second)] = False
    return compatible


def _build_automaton(
    words: list[str], compatible: np.ndarray, max_states: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the state after each letter, and the last token there.

    A state is a tuple: item i is the set of tokens, as the bits of an integer, of which the last i letters are the
    beginning and which may follow the token before them.

    Returns
    -------
    transitions : numpy.ndarray
        int64, shape (states, 4): the state after each letter. State 0 is the start of a text.
    last_tokens : numpy.ndarray
        int64, shape (states, 4): index in `words` of the last token after each letter. None if there are more than
        `max_states` states.
    """
    offsets = range(max(map(len, words)))
    followers = [_to_bits(row) for row in compatible]
    with_letter = [
        [_to_bits(word[i : i + 1] == letter for word in words) for letter in NUCLEOTIDES] for i in offsets
    ]
    of_length = [_to_bits(len(word) == i + 1 for word in words) for i in offsets]
    start = (_to_bits([True] * len(words)), *[0] * (len(offsets) - 1))
    numbers, states, transitions, last_tokens = {start: 0}, [start], [], []
    for state in states:  # states are appended in this loop
        if len(states) > max_states:
            return None
        for letter in range(len(NUCLEOTIDES)):
            extended = [tokens & with_letter[i][letter] for i, tokens in enumerate(state)]
            (complete,) = (
                tokens & of_length[i] for i, tokens in enumerate(extended) if tokens & of_length[i]
            )
            token = complete.bit_length() - 1
            incomplete = (tokens & ~of_length[i] for i, tokens in enumerate(extended[:-1]))
            following = (followers[token], *incomplete)
            if following not in numbers:
                numbers[following] = len(states)
                states.append(following)
            transitions.append(numbers[following])
            last_tokens.append(token)
    shape = (len(states), len(NUCLEOTIDES))
    return np.array(transitions).reshape(shape), np.array(last_tokens).reshape(shape)


def _to_bits(members: Iterable[bool]) -> int:
    """Return a set as an integer with one bit per possible member."""
    flags = np.fromiter(members, dtype=bool)
    return int.from_bytes(np.packbits(flags, bitorder="little").tobytes(), "little")


def _combine_letters(transitions: np.ndarray, last_tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the state after each word of four letters, shape (states, 256), and the last tokens, (states, 256, 4)."""
    word = np.arange(_WORDS)
    state = np.repeat(np.arange(len(transitions))[:, None], _WORDS, axis=1)
    tokens = np.empty((*state.shape, _STEP), dtype=np.int64)
    for offset in range(_STEP):
        letter = word >> 2 * (_STEP - 1 - offset) & 3
        tokens[..., offset] = last_tokens[state, letter]
        state = transitions[state, letter]
    return state, tokens
