"""SHA-256 of files, read in blocks so that memory stays flat.

Which checksum is compared with which is decided by the callers.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

_BLOCK = 1 << 20


def sha256_of(*paths: Path) -> str:
    """Return the SHA-256, as hex, of the concatenated content of files."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()
