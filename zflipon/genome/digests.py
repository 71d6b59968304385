"""Digests of sequences and of sets of contigs by the standards of GA4GH: refget and sequence collections.

MD5 checksums, as in SAM headers, are computed in `zflipon.genome.fasta`.
"""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping

REFGET_PREFIX = "SQ."
"""Namespace of refget identifiers of sequences."""

_BYTES = 24  # of the SHA-512 digest


def sha512t24u(content: bytes) -> str:
    """Return the first 24 bytes of the SHA-512 digest as URL-safe base64.

    Examples
    --------
    >>> sha512t24u(b"ACGT")
    'aKF498dAxcJAqme6QYQ7EZ07-fiw8Kw2'
    """
    return truncate(hashlib.sha512(content).digest())


def truncate(digest: bytes) -> str:
    """Return a SHA-512 digest in the short form of GA4GH."""
    return urlsafe_b64encode(digest[:_BYTES]).decode("ascii")


def sequence_collection(refget: Mapping[str, str]) -> str:
    """Return the digest of a sequence collection (version 1.0 of the standard) from its names and sequences.

    Parameters
    ----------
    refget : mapping of str to str
        Contig → refget identifier, in order.

    Examples
    --------
    >>> sequence_collection({
    ...     "chrX": "SQ.iYtREV555dUFKg2_agSJW6suquUyPpMw",
    ...     "chr1": "SQ.YBbVX0dLKG1ieEDCiMmkrTZFt_Z5Vdaj",
    ...     "chr2": "SQ.AcLxtBuKEPk_7PGE_H4dGElwZHCujwH6",
    ... })
    'XZlrcEGi6mlopZ2uD8ObHkQB1d0oDwKk'
    """
    attributes = {"names": list(refget), "sequences": list(refget.values())}
    return _digest({name: _digest(values) for name, values in attributes.items()})


def _digest(value: object) -> str:
    """Return the digest of canonical JSON (RFC 8785), which this is for text, lists and sorted ASCII keys."""
    return sha512t24u(json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=True).encode())
