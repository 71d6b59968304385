"""How the C library and Python treat memory that is freed or unreachable; the command line sets it for its process."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Options of ``mallopt`` in glibc's ``malloc.h``."""

GARBAGE_THRESHOLDS = 100_000, 50, 100
"""New objects after which Python looks for unreachable ones, and how often among older objects. Its default starts at
700 or 2,000."""


def keep_freed_memory() -> None:
    """Make the C library keep freed memory for the next batch, if it is glibc.

    By default it returns large blocks to the system, which clears them before they are used again.
    ``benchmarks/context_network.py`` counts the page faults of this, and measures what they cost.
    """
    with suppress(OSError, AttributeError, TypeError):
        set_option = ctypes.CDLL(None).mallopt
        set_option(_MMAP_THRESHOLD, 1 << 25)
        set_option(_TRIM_THRESHOLD, 1 << 30)


def collect_garbage_rarely() -> None:
    """Make Python look for unreachable objects less often.

    The imports of torch and transformers create a million objects that stay, and each search visits many of them.
    ``benchmarks/start_up.py`` measures what this saves.
    """
    gc.set_threshold(*GARBAGE_THRESHOLDS)


def end_without_collection() -> None:
    """Make Python end without a last search for unreachable objects; the system takes all memory back anyway.

    The search takes about a second (``benchmarks/start_up.py``).
    """
    gc.freeze()
