"""Exceptions for errors that a user can cause; the command line prints each as one line.

Each message says what happened, what was expected and what to do. Any exception that is not a
`ZfliponError` is a bug and keeps its traceback.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class ZfliponError(Exception):
    """Base class of all errors that are printed as one line, with exit status 1."""


class InputError(ZfliponError):
    """An input file or region is missing, malformed or does not match the genome."""


class OutputError(ZfliponError):
    """An output file or folder cannot be written."""


class ModelError(ZfliponError):
    """A checkpoint is incomplete, unknown or unsuitable for the request."""


class NotANumberError(ModelError):
    """A model returned NaN."""


class ConfigError(ZfliponError):
    """A setting of inference, calling, scoring or evaluation is invalid."""


class RecipeError(ZfliponError):
    """A training recipe, or a setting that overrides it, is invalid."""


class Stopped(Exception):
    """A signal stopped the job; finished work is saved and the job can be resumed.

    Parameters
    ----------
    signal_number : int
    message : str
    """

    def __init__(self, signal_number: int, message: str):
        super().__init__(message)
        self.signal_number = signal_number


class MainProcessError(Exception):
    """Another process of the same run, the main process, has failed and reports the error."""


class MissingExtraError(ZfliponError):
    """An optional dependency is needed but not installed.

    Parameters
    ----------
    feature : str
        What needs the dependency, such as ``'a plot'``.
    package : str
    extra : str
        Optional-dependency group of zflipon that installs the package.
    """

    def __init__(self, feature: str, package: str, extra: str):
        super().__init__(f"{feature} needs {package}, which is not installed: pip install 'zflipon[{extra}]'")


def format_names(names: Iterable[str], limit: int = 5) -> str:
    """Return a comma-separated list of names, shortened after `limit`.

    Examples
    --------
    >>> format_names(["chr1", "chr2", "chr3"], limit=2)
    'chr1, chr2 and 1 more'
    >>> format_names([])
    'none'
    """
    names = list(names)
    if not names:
        return "none"
    listed = ", ".join(names[:limit])
    return listed if len(names) <= limit else f"{listed} and {len(names) - limit} more"


def format_count(number: int, noun: str) -> str:
    """Return a number with its noun in singular or plural.

    Examples
    --------
    >>> format_count(1, "contig"), format_count(2000, "window")
    ('1 contig', '2,000 windows')
    """
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def suggest(name: str, valid_names: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` if a valid name is similar, else an empty string.

    Examples
    --------
    >>> suggest("chr11", ["chr1", "chrX"])
    " (did you mean 'chr1'?)"
    """
    matches = get_close_matches(name, list(valid_names), n=1)
    return f" (did you mean '{matches[0]}'?)" if matches else ""


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
