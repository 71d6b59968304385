"""The scores that a user requests, and the outputs of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from zflipon.config import SCORES, HeaderConfig
from zflipon.errors import InputError, OutputError
from zflipon.tracks.base import STDOUT
from zflipon.tracks.registry import BED, FORMATS, find_format, list_names


def resolve_scores(scores: Sequence[str]) -> tuple[str, ...]:
    """Return the requested scores, each once, in the order of `zflipon.config.SCORES`.

    Raises
    ------
    InputError
        If a score is unknown, or none is requested.

    Examples
    --------
    >>> resolve_scores(["activity", "probability", "activity"])
    ('probability', 'activity')
    """
    for score in scores:
        if score not in SCORES:
            raise InputError(f"unknown score {score!r}; expected one of {', '.join(SCORES)}")
    if not scores:
        raise InputError(f"no score is requested; name at least one of {', '.join(SCORES)}")
    return tuple(score for score in SCORES if score in scores)


def outputs_of_scores(outputs: Sequence[str | Path], scores: Sequence[str]) -> dict[str, list[str | Path]]:
    """Return the outputs of each score. With several scores, each name gets the score before its extension.

    Raises
    ------
    OutputError
        If several scores would go to standard output.

    Examples
    --------
    >>> outputs_of_scores(["zdna.bw"], ["propensity"])
    {'propensity': ['zdna.bw']}
    >>> outputs_of_scores(["zdna.bed.gz"], ["probability", "propensity"])
    {'probability': ['zdna.probability.bed.gz'], 'propensity': ['zdna.propensity.bed.gz']}
    """
    if len(scores) == 1:
        return {scores[0]: list(outputs)}
    if any(str(output) == STDOUT for output in outputs):
        raise OutputError("-: standard output takes one score; name files, or request one score")
    return {score: [_insert(output, score) for output in outputs] for score in scores}


def require_header_lines(outputs: Sequence[str | Path], headers: HeaderConfig) -> None:
    """Raise `OutputError` if a header line is requested that no output can have.

    Examples
    --------
    >>> require_header_lines(["zdna.bw", "zdna.bed"], HeaderConfig(track_line=True))
    """
    formats = [BED if str(output) == STDOUT else find_format(output) for output in outputs]
    for name, requested in asdict(headers).items():
        if requested and not any(name in each.header_lines for each in formats if each):
            suitable = [each for each in FORMATS if name in each.header_lines]
            raise OutputError(
                f"{', '.join(map(str, outputs))}: a {name.replace('_', ' ')} is for {list_names(suitable)} only; "
                "add such an output or leave the line out"
            )


def _insert(output: str | Path, score: str) -> str:
    """Return the name of an output with a score before its extension."""
    path, track_format = Path(output), find_format(output)
    assert track_format is not None  # checked by find_writer
    stem = track_format.strip_extension(path)
    return str(path.with_name(f"{stem}.{score}{path.name[len(stem) :]}"))
