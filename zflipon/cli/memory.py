"""How the C library treats memory that is freed."""

from __future__ import annotations

import ctypes
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Options of ``mallopt`` in glibc's ``malloc.h``."""


def keep_freed_memory() -> None:
    """Make the C library keep freed memory for the next batch, if it is glibc.

    By default it returns large blocks to the system, which clears them before they are used again.
    ``benchmarks/context_network.py`` counts the page faults of this, and measures what they cost.
    """
    with suppress(OSError, AttributeError, TypeError):
        set_option = ctypes.CDLL(None).mallopt
        set_option(_MMAP_THRESHOLD, 1 << 25)
        set_option(_TRIM_THRESHOLD, 1 << 30)
