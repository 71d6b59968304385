"""The errors that a user can cause; the command line turns each into one line.

Every message says what was expected, what was found and what to do. Anything
that is not a `ZfliponError` is a bug and keeps its traceback.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class ZfliponError(Exception):
    """Base of every error that is reported as one line with exit status 1."""


class InputError(ZfliponError):
    """An input file or region cannot be used as it is."""


class OutputError(ZfliponError):
    """An output cannot be written where it was asked for."""


class ModelError(ZfliponError):
    """A checkpoint is incomplete, unknown or does not fit the request."""


class NotANumberError(ModelError):
    """A model returned a value that is not a number."""


class RecipeError(ZfliponError):
    """A training recipe, or a setting given for it, is wrong."""


class Stopped(Exception):
    """A signal asked to stop, and what was done is kept.

    Attributes
    ----------
    number : int
        Of the signal.
    """

    def __init__(self, number: int, told: str):
        super().__init__(told)
        self.number = number


class MissingExtraError(ZfliponError):
    """An optional dependency is needed but not installed."""

    def __init__(self, what: str, package: str, extra: str):
        super().__init__(f"{what} needs {package}, which is not installed: pip install 'zflipon[{extra}]'")


def some(names: Iterable[str], limit: int = 5) -> str:
    """Name a few of many: ``'chr1, chr2, chr3 and 20 more'``."""
    names = list(names)
    if not names:
        return "none"
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def suggest(word: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` when a known word is close, else an empty string."""
    close = get_close_matches(word, list(known), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def printable(text: object, keep: str = "") -> str:
    r"""Return text that is safe to print: control characters become escapes such as ``\x1b``.

    Names from input files (contigs, models, tensors) may hold terminal escapes, newlines or characters that reverse
    the reading direction. Every message that reaches a terminal or a line-based format passes through here.

    Parameters
    ----------
    text : object
        Converted by `str`.
    keep : str
        Control characters to leave alone, such as a newline.

    Examples
    --------
    >>> printable("chr1\x1b[31m\n")
    'chr1\\x1b[31m\\n'
    """
    return "".join(
        character
        if character.isprintable() or character in keep
        else character.encode("unicode_escape").decode("ascii")
        for character in str(text)
    )
