"""Sketches of sequence: a small sample of its 32-mers that shows whether two genomes share sequence.

A 32-mer is in the sample if the hash of its first half is low, so that equal sequence gives equal samples, wherever a
contig starts and whatever its name is (FracMinHash; Irber et al., bioRxiv 2022.01.11.475838).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable

import numpy as np

from zflipon.errors import InputError
from zflipon.genome.alphabet import UNKNOWN_BASE, base_codes_uint8

SKETCH_SCALE = 1 << 16
"""Bases for which a sketch has one 32-mer, on average."""

_KMER = 32
_BLOCK = 1 << 20
_HASH_TYPE = np.dtype("<u4")
_CHOICE = np.array([0x3C6EF372, 0x9E3779B1], dtype=np.uint32)


def sketch_sequence(sequence: str) -> np.ndarray:
    """Return the hashes of the sampled 32-mers of an upper-case sequence: uint32, ascending, each once."""
    parts = [
        _sample(base_codes_uint8(sequence[start : start + _BLOCK + _KMER - 1]))
        for start in range(0, max(1, len(sequence) - _KMER + 1), _BLOCK)
    ]
    return merge_sketches(parts)


def merge_sketches(sketches: Iterable[np.ndarray]) -> np.ndarray:
    """Return the sketch of several sequences together."""
    return np.unique(np.concatenate([np.empty(0, dtype=_HASH_TYPE), *sketches]))


def shared_fraction(sketch: np.ndarray, reference: np.ndarray) -> float:
    """Return the estimated fraction of a sequence that another one contains; NaN without any 32-mer."""
    return float(np.isin(sketch, reference).mean()) if len(sketch) else float("nan")


def encode_sketch(sketch: np.ndarray) -> str:
    """Return a sketch as text, for JSON."""
    return base64.b64encode(sketch.astype(_HASH_TYPE).tobytes()).decode("ascii")


def decode_sketch(text: str) -> np.ndarray:
    """Return the sketch of a text by `encode_sketch`.

    Raises
    ------
    InputError
        If the text is not such a one.
    """
    try:
        return np.frombuffer(base64.b64decode(text, validate=True), dtype=_HASH_TYPE)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"a sketch of sequence cannot be read ({error})") from error


def _sample(codes: np.ndarray) -> np.ndarray:
    """Return the hashes of the sampled 32-mers of nucleotide codes."""
    if len(codes) < _KMER:
        return np.empty(0, dtype=_HASH_TYPE)
    known = codes & 3  # windows with an unknown base are dropped below
    two = known[:-1] << 2 | known[1:]
    four = two[:-2] << 4 | two[2:]
    eight = four[:-4].astype(np.uint16) << 8 | four[4:]
    half = eight[:-8].astype(np.uint32) << 16 | eight[8:]  # the code of 16 bases
    choice = (half[: len(codes) - _KMER + 1] ^ _CHOICE[0]) * _CHOICE[1]  # cheaper than a good hash
    starts = np.flatnonzero(choice < (1 << 32) // SKETCH_SCALE)
    unknown = codes[starts[:, None] + np.arange(_KMER)] == UNKNOWN_BASE
    starts = starts[~unknown.any(axis=1)]
    return _mix(_mix(half[starts]) ^ half[starts + 16])


def _mix(codes: np.ndarray) -> np.ndarray:
    """Return well-distributed hashes of uint32 codes (the finalizer of MurmurHash3)."""
    hashed = codes ^ np.uint32(0x9E3779B9)
    hashed ^= hashed >> np.uint32(16)
    hashed *= np.uint32(0x85EBCA6B)
    hashed ^= hashed >> np.uint32(13)
    hashed *= np.uint32(0xC2B2AE35)
    hashed ^= hashed >> np.uint32(16)
    return hashed
