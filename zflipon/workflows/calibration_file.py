"""Calibration files: the threshold that `calibrate` chose for a model and a score, as JSON for `annotate`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from zflipon import __version__
from zflipon.config import SCORES, CallConfig
from zflipon.errors import InputError
from zflipon.json_files import read_json_file
from zflipon.tracks.atomic import atomic_file

if TYPE_CHECKING:
    from zflipon.models import Checkpoint

FORMAT = "zflipon calibration 1"
"""Value of ``format`` in the file."""

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Interval = tuple[float, float]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class CalibratedThreshold:
    """A threshold with a stated precision or false-discovery rate.

    Attributes
    ----------
    method : str
        ``'precision'``, of called bases by labels; or ``'fdr'``, of calls by shuffled sequence.
    target : float
        Requested precision (at least) or false-discovery rate (at most).
    threshold : float
        Lowest score of a called base that reaches the target.
    estimate : float
        Precision or false-discovery rate at the threshold.
    interval, threshold_interval : (float, float) or None
        95 % intervals of estimate and threshold, by bootstrap over blocks of 1 Mb; None for a single block.
    score : str
        One of `zflipon.config.SCORES`.
    model, model_sha256 : str or None
        The model of the track; None if the track has no record. Such a calibration cannot be used by `annotate`.
    min_length, merge_gap : int
        Of the calls, as in `zflipon.config.CallConfig`.
    calls, called_bases : int
        At the threshold.
    recall : float or None
        Share of labelled bases that are called; None for ``'fdr'``.
    expected_calls : float or None
        Calls expected by chance; None for ``'precision'``.
    data : dict
        Files, sizes and settings.
    """

    method: Literal["precision", "fdr"]
    target: Share
    threshold: Share
    estimate: Share
    interval: Interval | None
    threshold_interval: Interval | None
    score: str
    model: str | None
    model_sha256: str | None
    min_length: Count
    merge_gap: Count
    calls: Count
    called_bases: Count
    recall: float | None = None
    expected_calls: float | None = None
    data: dict[str, Any] = field(default_factory=dict)

    def describe(self) -> str:
        """Return the threshold and what it means in one sentence."""
        if self.method == "precision":
            meaning = f"precision {self.estimate:.3f}"
            rest = f"{self.calls:,} calls, recall {self.recall:.3f}"
        else:
            meaning = f"false-discovery rate {self.estimate:.3f}"
            rest = f"{self.calls:,} calls, {self.expected_calls:,.1f} of them expected by chance"
        interval = "" if self.interval is None else " (95 % interval {:.3f}-{:.3f})".format(*self.interval)
        return f"{self.score} from {self.threshold:g} on: {meaning}{interval}; {rest}"

    def to_record(self, path: Path) -> dict[str, Any]:
        """Return the section of a run record."""
        names = ("method", "target", "estimate", "interval", "threshold_interval")
        return {"file": str(path.resolve()), **{name: getattr(self, name) for name in names}}


def write_calibration(path: Path, calibration: CalibratedThreshold) -> None:
    """Write a calibration file."""
    content = {"format": FORMAT, "version": __version__, **asdict(calibration)}
    with atomic_file(path) as part:
        part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_calibration(path: Path) -> CalibratedThreshold:
    """Read a calibration file.

    Raises
    ------
    InputError
        If the file is missing, damaged or of another kind.
    """
    try:
        values = read_json_file(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: a calibration file cannot be read ({error})") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise InputError(f"{path}: not a calibration file; make one with zflipon calibrate")
    values = {key: value for key, value in values.items() if key not in ("format", "version")}
    try:
        return TypeAdapter(CalibratedThreshold).validate_json(json.dumps(values))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"]))
        raise InputError(f"{path}: a damaged calibration file: {place}: {problem['msg']}") from None


def apply_calibration(
    path: Path, calls: dict[str, CallConfig], requested: CallConfig, checkpoint: Checkpoint
) -> tuple[dict[str, CallConfig], CalibratedThreshold]:
    """Return how the bases of each score are called with a calibrated threshold.

    Parameters
    ----------
    path : Path
        Calibration file.
    calls : dict of str to CallConfig
        Score → how its bases would be called without calibration.
    requested : CallConfig
        What the user asks for.
    checkpoint : Checkpoint
        The model of the run.

    Raises
    ------
    InputError
        If the calibration is for another model, another score or other calls, or a threshold is given too.
    """
    calibration = read_calibration(path)
    score = calibration.score
    if score not in calls:
        raise InputError(
            f"{path}: is for the score {score}, but the run has {_list(calls)}; add --score {score}"
        )
    if calibration.model_sha256 is None:
        raise InputError(f"{path}: the calibrated track had no record, so that its model is unknown; calibrate a track "
                         "of zflipon annotate")  # fmt: skip
    if calibration.model_sha256 != checkpoint.sha256:
        raise InputError(
            f"{path}: was made for the model {calibration.model} with other weights (SHA-256 "
            f"{calibration.model_sha256[:12]}…) than those of {checkpoint.name} "
            f"({(checkpoint.sha256 or 'none')[:12]}…); calibrate a track of this model"
        )
    if requested.threshold is not None:
        raise InputError(f"{path}: has a threshold, and another one is given; leave one of them out")
    for name in ("min_length", "merge_gap"):
        given, calibrated = getattr(requested, name), getattr(calibration, name)
        if given not in (calibrated, getattr(CallConfig(), name)):
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"{path}: was made with {option} {calibrated}, not {given}; leave {option} out")
    call = CallConfig(calibration.threshold, calibration.min_length, calibration.merge_gap)
    return calls | {score: call}, calibration


def _list(scores: Sequence[str] | dict[str, CallConfig]) -> str:
    return ", ".join(score for score in SCORES if score in scores)
