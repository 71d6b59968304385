"""Synthetic genomes with the base and dinucleotide frequencies of organisms; shared by tests and benchmarks."""

from __future__ import annotations

import numpy as np

DINUCLEOTIDES = ("AA", "AC", "AG", "AT", "CA", "CC", "CG", "GA", "GC", "TA")

RATIOS = {
    "human": (1.11, 0.84, 1.17, 0.88, 1.22, 1.23, 0.22, 0.99, 1.00, 0.73),
    "bacterial": (1.21, 0.88, 0.82, 1.10, 1.10, 0.91, 1.16, 0.92, 1.28, 0.75),
    "plant": (1.13, 0.90, 1.01, 0.93, 1.10, 1.06, 0.72, 1.08, 0.92, 0.75),
    "independent": (1.0,) * 10,
}
"""Observed / expected frequency of `DINUCLEOTIDES`, rounded from published genomes (Karlin et al., 1997)."""

_CHAINS = 2000


def chain_dna(length: int, gc: float, ratios: str = "independent", seed: int = 0) -> str:
    """Return a first-order Markov chain with a GC fraction and the dinucleotide ratios of `RATIOS`."""
    rng = np.random.default_rng(seed)
    base = np.array([1 - gc, gc, gc, 1 - gc]) / 2
    steps = np.outer(base, base) * _ratio_matrix(ratios)
    for _ in range(200):  # until both margins are the frequencies of the bases
        steps *= (base / steps.sum(axis=1))[:, None]
        steps *= base / steps.sum(axis=0)
    thresholds = np.cumsum(steps / steps.sum(axis=1, keepdims=True), axis=1)[:, :3]
    columns = -(-length // _CHAINS)
    codes = np.empty((_CHAINS, columns), dtype=np.uint8)
    codes[:, 0] = rng.choice(4, _CHAINS, p=base)
    for column in range(1, columns):
        draws = rng.random(_CHAINS)[:, None]
        codes[:, column] = (draws > thresholds[codes[:, column - 1]]).sum(axis=1)
    return np.frombuffer(b"ACGT", dtype=np.uint8)[codes.ravel()[:length]].tobytes().decode()


def human_like_dna(length: int, seed: int = 0) -> str:
    """Return chains of varying GC with human dinucleotide ratios, a tenth of it copies of one repeat."""
    rng = np.random.default_rng(seed)
    parts, element = [], np.frombuffer(chain_dna(300, 0.55, "human", 1).encode(), dtype=np.uint8)
    for number, start in enumerate(range(0, length, 1_000_000)):
        gc = 0.36 + 0.04 * (number % 5)
        part = chain_dna(min(1_000_000, length - start), gc, "human", int(rng.integers(1e9)))
        letters = np.frombuffer(part.encode(), dtype=np.uint8).copy()
        for place in rng.integers(0, max(1, len(letters) - len(element)), len(letters) // 3000):
            copy = element.copy()
            copy[rng.random(len(copy)) < 0.1] = ord("A")
            letters[place : place + len(copy)] = copy[: len(letters) - place]
        parts.append(letters.tobytes().decode())
    return "".join(parts)


def _ratio_matrix(name: str) -> np.ndarray:
    matrix = np.empty((4, 4))
    for pair, ratio in zip(DINUCLEOTIDES, RATIOS[name], strict=True):
        one, other = "ACGT".index(pair[0]), "ACGT".index(pair[1])
        matrix[one, other] = matrix[3 - other, 3 - one] = ratio
    return matrix
