"""Shuffles of sequence that keep all dinucleotide counts: what a genome would be without longer patterns.

After Altschul & Erickson, Mol Biol Evol 2:526, 1985.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from zflipon.genome.alphabet import NUCLEOTIDES, UNKNOWN_BASE, base_codes_uint8

SHUFFLE_WINDOW = 1000
"""Bases that are shuffled together; a longer window would spread CpG islands and repeats over their surroundings."""

_LETTERS = np.frombuffer("".join(NUCLEOTIDES).encode("ascii"), dtype=np.uint8)


def shuffle_dinucleotides(codes: Sequence[int] | np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a random sequence with the same dinucleotide counts and the same first and last base.

    All such sequences are equally likely: the last step from each letter is drawn such that these steps lead to the
    last letter of the sequence; all other steps are shuffled.

    Parameters
    ----------
    codes : sequence of int
        Codes of any alphabet, not negative.
    rng : numpy.random.Generator

    Returns
    -------
    numpy.ndarray
        The dtype of `codes`, shape (bases,).

    Examples
    --------
    >>> shuffled = shuffle_dinucleotides([0, 1, 0, 2, 0, 1, 0], np.random.default_rng(1)).tolist()
    >>> sorted(zip(shuffled, shuffled[1:]))
    [(0, 1), (0, 1), (0, 2), (1, 0), (1, 0), (2, 0)]
    """
    codes = np.asarray(codes)
    if len(codes) < 4:
        return codes.copy()
    origins, targets = codes[:-1], codes[1:]
    letters, first = np.unique(origins, return_index=True)
    successors = {int(letter): targets[origins == letter] for letter in letters[np.argsort(first)]}
    last_steps = _draw_last_steps(successors, int(codes[-1]), rng)
    stacks: dict[int, list[int]] = {}  # steps are taken from the end
    for letter, following in successors.items():
        if letter not in last_steps:
            stacks[letter] = rng.permutation(following)[::-1].tolist()
            continue
        last = last_steps[letter]
        others = np.delete(following, np.argmax(following == last))
        stacks[letter] = [last, *rng.permutation(others)[::-1].tolist()]
    letter = int(codes[0])
    walk = [letter]
    for _ in range(len(codes) - 1):
        letter = stacks[letter].pop()
        walk.append(letter)
    return np.array(walk, dtype=codes.dtype)


def shuffle_sequence(sequence: str, rng: np.random.Generator, window: int = SHUFFLE_WINDOW) -> str:
    """Shuffle a sequence in windows, so that its composition stays as it is from place to place.

    Dinucleotide counts of each window, and of the whole sequence, are the same. Unknown bases stay where they are.

    Parameters
    ----------
    sequence : str
        Upper-case.
    rng : numpy.random.Generator
    window : int
        Bases.
    """
    codes = base_codes_uint8(sequence)
    letters = np.frombuffer(sequence.encode("ascii"), dtype=np.uint8).copy()
    for start, end in known_runs(codes):
        for low in range(start, end, window):
            part = slice(low, min(low + window, end))
            letters[part] = _LETTERS[shuffle_dinucleotides(codes[part], rng)]
    return letters.tobytes().decode("ascii")


def known_runs(codes: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield start and end of the runs without an unknown base."""
    known = np.concatenate([[False], codes != UNKNOWN_BASE, [False]])
    edges = np.flatnonzero(known[1:] != known[:-1]).tolist()
    yield from zip(edges[::2], edges[1::2], strict=True)


def _draw_last_steps(
    successors: Mapping[int, np.ndarray], end: int, rng: np.random.Generator
) -> dict[int, int]:
    """Return the letter to which the last step from each letter but the end goes; these steps lead to the end."""
    while True:
        steps = {
            letter: int(following[int(rng.integers(len(following)))])
            for letter, following in successors.items()
            if letter != end
        }
        if all(_leads_to(end, letter, steps) for letter in steps):
            return steps


def _leads_to(end: int, letter: int, steps: Mapping[int, int]) -> bool:
    for _ in range(len(steps) + 1):
        if letter == end:
            return True
        letter = steps.get(letter, letter)
    return False
