"""The one progress bar: on standard error, so that results on standard output stay clean.

Workflows report progress to a callback ``progress(done, total)``: units finished since the last call, and all units.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

LOG_INTERVAL = 10.0
"""Seconds between the lines of a bar in a log file."""


class _BoundedBar(tqdm):
    """A bar that never shows more than its total: windows reach beyond the bases that were asked for."""

    def update(self, n: float | None = 1) -> bool | None:
        """Add units, as far as there are any left."""
        if self.total is not None:
            n = min(n or 0, self.total - self.n)
        return super().update(n)


def progress_bar(
    unit: str,
    total: int | None = None,
    initial: int = 0,
    quiet: bool = False,
    logged: bool = False,
    name: str | None = None,
) -> tqdm:
    """Return a progress bar: a context manager with a method ``update``.

    Parameters
    ----------
    unit : str
        Name of the units. ``'b'`` stands for bases, which are shown in thousands and millions.
    total, initial : int, optional
        Number of units in all, and of those finished already.
    quiet : bool
        Show nothing.
    logged : bool
        For long jobs: the bar stays when it is finished, and a log file gets its first line at once. Otherwise a
        log file gets none before the job has taken `LOG_INTERVAL`.
    name : str, optional
        Text before the bar.
    """
    is_terminal = sys.stderr.isatty()
    return _BoundedBar(
        total=total,
        initial=initial,
        unit=unit if unit == "b" else f" {unit}",
        unit_scale=unit == "b",
        desc=name,
        disable=quiet,
        leave=logged or not is_terminal,
        mininterval=0.5 if is_terminal else LOG_INTERVAL,
        delay=0 if is_terminal or logged else LOG_INTERVAL,
        file=sys.stderr,
    )


def progress_callback(bar: tqdm) -> Callable[[int, int], None]:
    """Return a progress callback that updates a bar, whose total need not be known before."""

    def advance(done: int, total: int) -> None:
        bar.total = total
        bar.update(done)

    return advance


@contextmanager
def job_progress(unit: str, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Yield a progress callback for a long job. The bar appears with the first call."""
    bars: list[tqdm] = []

    def advance(done: int, total: int) -> None:
        if not bars:  # the first report is of an earlier run
            bars.append(progress_bar(unit, total, done, quiet, logged=True, name="zflipon"))
        else:
            bars[0].update(done)

    try:
        yield advance
    finally:
        for bar in bars:
            bar.close()
