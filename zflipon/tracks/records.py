"""Reading of run records, the JSON files next to tracks, with a check of the types of their values.

Records are written in `zflipon.jobs.record`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from zflipon.errors import InputError
from zflipon.json_files import read_json_file
from zflipon.tracks.atomic import record_path

Count = Annotated[int, Field(ge=0, lt=1 << 62)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Section(BaseModel):
    """Part of a record. Absent keys have the default; keys that no command reads may hold anything."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="ignore", protected_namespaces=())


class _File(_Section):
    bytes: Count
    sha256: str


class _Contig(_Section):
    length: Count
    md5: str


class _FeatureFile(_Section):
    path: str
    sha256: str


class _Call(_Section):
    threshold: Share | None = None
    min_length: Count = 0
    merge_gap: Count = 0


class _Training(_Section):
    contigs: list[str] = []
    validation_contigs: list[str] = []
    test_contigs: list[str] = []


class _ModelDomain(_Section):
    sketch: str = ""


class _Model(_Section):
    name: str | None = None
    path: str | None = None
    family: str | None = None
    sha256: str | None = None
    window: Count = 0
    margin: Count = 0
    domain: _ModelDomain | None = None
    training: _Training = _Training()


class _Predict(_Section):
    precision: str
    device: str | None = None
    both_strands: bool | None = None


class _InputDomain(_Section):
    status: str = ""
    outside: Share | None = None
    windows: Count = 0
    differences: list[str] = []


class _Totals(_Section):
    bases: Count = 0


class _Record(_Section):
    command: str = ""
    started: str = ""
    seconds: Annotated[float, Field(ge=0)] = 0.0
    processes: Count = 1
    model: _Model = _Model()
    predict: _Predict = Field(default=None)  # pyright: ignore[reportAssignmentType]: absent, but not null
    call: _Call = _Call()
    versions: dict[str, str] = {}
    genome: str = ""
    contigs: dict[str, _Contig] = {}
    regions: list[str] | None = None
    features: dict[str, _FeatureFile | None] | None = None
    screen: dict[str, Any] | None = None
    domain: _InputDomain | None = None
    tracks: _Totals = _Totals()
    file: _File | None = None
    bases: Count = 0
    bases_in_gaps: Count = 0
    windows: Count = 0
    score: str = ""
    label: str = ""
    structure: str = ""
    call_prefix: str = ""


def read_record(path: Path) -> dict[str, Any]:
    """Return the record of a track, empty if it has none.

    Raises
    ------
    InputError
        If the file is not a record that zflipon writes.
    """
    record_file = record_path(path)
    if not record_file.is_file():
        return {}
    try:
        record = read_json_file(record_file)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{record_file}: the track's record cannot be read ({error}); delete it to continue without"
        ) from error
    try:
        _Record.model_validate(record)
    except ValidationError as error:
        raise InputError(
            f"{record_file}: not a record that zflipon writes ({_describe(error)}); delete it to continue without"
        ) from None
    return record


def _describe(error: ValidationError) -> str:
    """Return the first problem in a few words."""
    problem = error.errors(include_url=False, include_input=False)[0]
    message = problem["msg"][:1].lower() + problem["msg"][1:]
    if problem["type"] == "model_type":  # pydantic names our class
        message = "input should be a JSON object"
    place = ".".join(map(str, problem["loc"]))
    return f"{place}: {message}" if place else message
