"""The one progress bar: on standard error, so that results on standard output stay clean."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tqdm import tqdm


def progress_bar(
    unit: str,
    total: int | None = None,
    initial: int = 0,
    quiet: bool = False,
    logged: bool = False,
    name: str | None = None,
) -> tqdm:
    """Return a progress bar; a context manager, whose ``update`` counts on.

    Parameters
    ----------
    unit : str
        What is counted; ``b``: bases, which are told in thousands and millions.
    total, initial : int, optional
        How many there are, and how many of them are done.
    quiet : bool
        Show nothing.
    logged : bool
        For hours of work: stay when it is done, and tell a log file every ten seconds. Others show on a terminal alone.
    name : str, optional
        What stands before the bar.
    """
    terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        initial=initial,
        unit=unit if unit == "b" else f" {unit}",
        unit_scale=unit == "b",
        desc=name,
        disable=quiet or not (terminal or logged),
        leave=logged,
        mininterval=10 if logged and not terminal else 0.5,
        file=sys.stderr,
    )


def progress_callback(bar: tqdm) -> Callable[[int, int], None]:
    """Return what counts on by so many of so many, where the whole comes to light on the way."""

    def count(done: int, total: int) -> None:
        bar.total = total
        bar.update(done)

    return count
