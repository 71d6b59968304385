"""What a track file states about its content apart from its rows: names, label, and optional header lines.

The workflows fill it in; every writer gets it.
"""

from __future__ import annotations

from dataclasses import dataclass

from zflipon.errors import printable

CALL_PREFIX = "Z"
"""Prefix of the names of calls whose run is not known."""


@dataclass(frozen=True)
class TrackDescription:
    """Names and label of a track, and which header lines it gets.

    Attributes
    ----------
    name : str
        A few words, for browsers.
    label : str
        What the values are.
    threshold : float or None
        Lowest value of a called base.
    call_prefix : str
        Prefix of the names of calls, different for each model, score and setting of the calls.
    track_line : bool
        Whether text files begin with a ``track`` line, as UCSC custom tracks do.
    header : bool
        Whether text files name their columns in a line that begins with ``#``.
    """

    name: str = "zflipon"
    label: str = "Probability of Z-DNA"
    threshold: float | None = None
    call_prefix: str = CALL_PREFIX
    track_line: bool = False
    header: bool = False

    def track_text(self, calls: bool, **settings: str) -> str:
        r"""Return a ``track`` line.

        Parameters
        ----------
        calls : bool
            Whether the rows are calls.
        **settings : str
            Further settings of the line, in order; those with the value ``""`` are left out.

        Examples
        --------
        >>> TrackDescription("compact", threshold=0.5).track_text(True, visibility="pack")
        'track name="compact calls" description="Probability of Z-DNA >= 0.5 by compact" visibility=pack\n'
        """
        limit = "" if self.threshold is None or not calls else f" >= {self.threshold:g}"
        words = {
            "type": settings.pop("type", ""),
            "name": _quoted(self.name + (" calls" if calls else "")),
            "description": _quoted(f"{self.label}{limit} by {self.name}"),
            **settings,
        }
        return " ".join(["track", *(f"{key}={value}" for key, value in words.items() if value)]) + "\n"


def call_name(prefix: str, contig: str, start: int, end: int) -> str:
    """Return the name of a call: its run and its 1-based position, so that no two calls share one.

    Examples
    --------
    >>> call_name("Z3fa2c1", "chr1", 1692, 1743)
    'Z3fa2c1_chr1:1693-1743'
    """
    return f"{prefix}_{contig}:{start + 1}-{end}"


def _quoted(text: str) -> str:
    """Return text as the value of a ``track`` line, which knows no escapes."""
    return '"' + printable(text).replace('"', "'") + '"'
