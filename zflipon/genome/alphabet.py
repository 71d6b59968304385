"""Nucleotide letters: the IUPAC alphabet, integer codes of bases and reverse complements.

Nothing here reads files; `zflipon.genome.fasta` does.
"""

from __future__ import annotations

import numpy as np

IUPAC = b"ACGTUNRYSWKMBDHV"
"""Letters that a nucleotide sequence may hold, in upper case."""

NUCLEOTIDES = {letter: code for code, letter in enumerate("ACGT")}
"""Letter → integer code of a base, as models and Z-HUNT read it. Any other letter is `UNKNOWN_BASE`."""

UNKNOWN_BASE = 4
"""Code of N and of every other letter that is not A, C, G or T."""

PADDING_BASE = 5
"""Code of positions beyond the end of a sequence."""

_CODES = bytes(NUCLEOTIDES.get(chr(byte), UNKNOWN_BASE) for byte in range(256))
_COMPLEMENT = str.maketrans("ACGTUNRYSWKMBDHV", "TGCAANYRSWMKVHDB")


def reverse_complement(sequence: str) -> str:
    """Return the reverse complement of an upper-case sequence; IUPAC codes are complemented too.

    Examples
    --------
    >>> reverse_complement("AACGN")
    'NCGTT'
    """
    return sequence.translate(_COMPLEMENT)[::-1]


def base_codes(sequence: str) -> np.ndarray:
    """Return the integer codes of an upper-case sequence.

    Returns
    -------
    numpy.ndarray
        int64, shape (bases,): 0 to 3 for A, C, G and T, else `UNKNOWN_BASE`.

    Examples
    --------
    >>> base_codes("ACGTN").tolist()
    [0, 1, 2, 3, 4]
    """
    return base_codes_uint8(sequence).astype(np.int64)


def base_codes_uint8(sequence: str) -> np.ndarray:
    """Return what `base_codes` returns as uint8, without a copy to int64."""
    return np.frombuffer(sequence.encode("ascii").translate(_CODES), dtype=np.uint8)
