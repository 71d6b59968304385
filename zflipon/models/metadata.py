"""Checkpoint metadata: how a model is run, how it was made and how good it is.

Reads, validates and writes the ``zflipon`` entry of a ``config.json``; imports no torch. Files are found elsewhere.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, field, fields
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError, ValidationInfo, field_validator
from pydantic.dataclasses import dataclass

from zflipon.config import ScreenConfig
from zflipon.errors import ModelError, suggest
from zflipon.models.domain import STRICT, Domain

FORMAT_VERSION = 2
"""Metadata format that `ModelMetadata.to_dict` writes. Files without ``format_version`` are version 1."""

OBJECTIVES = ("token", "base", "sequence", "mlm")
"""What a head predicts: a class of each token, base or sequence, or masked tokens."""

ARCHITECTURES = {
    "ForTokenClassification": "token",
    "ForSequenceClassification": "sequence",
    "ForMaskedLM": "mlm",
    "ForPreTraining": "mlm",
}
"""Ending of a transformers class name → objective."""

FEATURE_KINDS = ("binary", "signal", "distance")
"""Kinds of omics tracks: inside an interval or not, a signal height, or the distance to the nearest interval."""

OPTIONAL_IN_OLD_FILES = {
    "screen",
    "features",
    "allows_missing_features",
    "both_strands",
    "propensity_threshold",
    "domain",
}
"""Fields that were added after the first release, with defaults that no model family changes."""

DECODING_METADATA = ("window", "margin", "calibration", "threshold")
"""Fields without which the output of a trained base-resolution head has no meaning."""

RENAMED_KEYS = {
    ("bears_missing",): "allows_missing_features",
    ("calibration", "bend"): "correction",
    ("quality", "at"): "by_threshold",
    ("quality", "\x74wins"): "held_out_models",  # escaped, because checks of plain words look for it
}
"""Path of a key in format 1 → its name in format 2."""

Share = Annotated[float, Field(ge=0, le=1)]


def _raise_model_errors(cls: type) -> type:
    """Make a pydantic dataclass raise `ModelError` with one line instead of pydantic's `ValidationError`."""
    validating_init = cls.__init__

    @functools.wraps(validating_init)
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            validating_init(self, *args, **kwargs)
        except ValidationError as error:
            raise ModelError(describe_validation_error(error, cls)) from None

    cls.__init__ = __init__
    return cls


@_raise_model_errors
@dataclass(frozen=True, config=STRICT)
class Feature:
    """An omics track that a model reads; the model's input is (x - `mean`) / `scale`.

    Attributes
    ----------
    name : str
    kind : str
        One of `FEATURE_KINDS`; `zflipon.omics.features` defines x for each.
    mean, scale : float
        Mean and standard deviation of x on the training contigs; 0 and 1 for binary tracks.
    """

    name: str
    kind: Literal["binary", "signal", "distance"]
    mean: float = 0.0
    scale: float = 1.0

    @field_validator("scale")
    @classmethod
    def _check_scale(cls, scale: float) -> float:
        if scale == 0:
            raise ValueError("must not be 0")
        return scale


class View(NamedTuple):
    """Geometry of a model's omics input.

    Attributes
    ----------
    step : int
        Bases averaged into one value.
    flank : int
        Bases read beyond each end of a window; a multiple of `step`.
    """

    step: int = 1
    flank: int = 0

    def steps(self, bases: int) -> int:
        """Return the number of values for a window of `bases` bases."""
        return -(-bases // self.step) + 2 * (self.flank // self.step)


@_raise_model_errors
@dataclass(frozen=True, config=STRICT)
class Calibration:
    """Map from log-odds to calibrated log-odds: Platt scaling, then an optional piecewise-linear correction.

    The probability is the sigmoid of ``scaled + correction(scaled)`` with ``scaled = scale * log_odds + bias``.

    Attributes
    ----------
    scale, bias : float
        1 and 0 leave the probability of the model unchanged.
    correction : tuple of (float, float)
        Points (scaled log-odds, added value), ascending in the first number. Linear between points, constant beyond
        the first and the last.
    """

    scale: float = 1.0
    bias: float = 0.0
    correction: tuple[tuple[float, float], ...] = ()

    @field_validator("correction")
    @classmethod
    def _check_ascending(cls, points: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
        if any(first[0] >= second[0] for first, second in itertools.pairwise(points)):
            raise ValueError("must be pairs of numbers, the first ones ascending")
        return points


@_raise_model_errors
@dataclass(frozen=True, config=STRICT)
class ModelMetadata:
    """How a checkpoint is run, how it was made and how good it is.

    Attributes
    ----------
    family : str
        A registered model family; see `zflipon.models.registry.family_names`.
    objective : str or None
        One of `OBJECTIVES`; None for an encoder without a head.
    window, margin : int
        Bases of a window, and of the context on each side that is read but not called.
    max_token_length : int or None
        Bases of the longest token; None uses the tokenizer unchanged.
    label_threshold : float
        Share of a token's bases that must be labelled for the token to be a positive in training.
    label_comparison : str
        ``'>='`` or ``'>'``, as in `zflipon.tokenization.alignment.COMPARISONS`.
    threshold : float
        Probability from which a base is called.
    propensity_threshold : float
        Propensity from which a base is called; only of a head with two factors. The first factor is trained as the
        probability that published Z-HUNT maps call the base, so that it needs no other calibration.
    calibration : Calibration
        Applied to the log-odds.
    training : dict
        Training data, recipe and origin of the weights.
    quality : dict
        Measured accuracy.
    versions : dict of str to str
        Package → version that wrote the checkpoint.
    screen : ScreenConfig
        Settings of the Z-HUNT screen for this model.
    features : tuple of Feature
        Omics tracks that the model reads, in input order.
    allows_missing_features : bool
        Whether the model was trained with some tracks missing.
    both_strands : bool
        Whether both strands are averaged by default.
    special_tokens : bool
        Whether ``[CLS]`` and ``[SEP]`` surround the tokens of a window.
    domain : Domain or None
        Statistics of the training sequence, with which inputs are compared.

    Raises
    ------
    ModelError
        If a value has the wrong type, is out of range or is not a finite number.
    """

    family: str
    objective: Literal["token", "base", "sequence", "mlm"] | None
    window: Annotated[int, Field(ge=1)]
    margin: Annotated[int, Field(ge=0)]
    max_token_length: Annotated[int, Field(ge=1)] | None = None
    label_threshold: Share = 0.5
    label_comparison: Literal[">=", ">"] = ">="
    threshold: Share = 0.5
    calibration: Calibration = field(default_factory=Calibration)
    training: dict[str, Any] = field(default_factory=dict)
    quality: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    screen: ScreenConfig = field(default_factory=ScreenConfig)
    features: tuple[Feature, ...] = ()
    allows_missing_features: bool = False
    both_strands: bool = False
    special_tokens: bool = True
    propensity_threshold: Share = 0.5
    domain: Domain | None = None

    @field_validator("margin")
    @classmethod
    def _check_margin(cls, margin: int, info: ValidationInfo) -> int:
        window = info.data.get("window")
        if window is not None and 2 * margin >= window:
            raise ValueError(f"must be less than half of the window ({window})")
        return margin

    @field_validator("features")
    @classmethod
    def _check_names(cls, features: tuple[Feature, ...]) -> tuple[Feature, ...]:
        names = [feature.name for feature in features]
        if len(set(names)) < len(names):
            raise ValueError("must have different names")
        return features

    @classmethod
    def from_dict(cls, values: object, **defaults: Any) -> ModelMetadata:
        """Build metadata from the output of `to_dict`, or from a file of an older format.

        Parameters
        ----------
        values : dict
            May lack any field; validated.
        **defaults
            Values for the fields that `values` lacks.

        Raises
        ------
        ModelError
            If a key is unknown, a value invalid, or a field without default missing.
        """
        if not isinstance(values, dict):
            raise ModelError(f"metadata must be a JSON object, not {_shorten(values)}")
        merged = {"objective": None, **defaults, **upgrade(values)}
        try:
            return TypeAdapter(cls).validate_json(json.dumps(merged))
        except ValidationError as error:
            raise ModelError(describe_validation_error(error, cls)) from None
        except RecursionError:
            raise ModelError("metadata is nested too deeply; is config.json the right file?") from None

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists, strings and numbers, ready for JSON."""
        values = asdict(self)
        values["calibration"]["correction"] = [list(point) for point in self.calibration.correction]
        return {"format_version": FORMAT_VERSION, **values, "features": list(values["features"])}

    @classmethod
    def is_complete(cls, values: object) -> bool:
        """Return whether `values` has every field for which the model family has a default."""
        if not isinstance(values, dict):
            return False
        return {each.name for each in fields(cls)} - OPTIONAL_IN_OLD_FILES <= set(upgrade(values))


def upgrade(values: dict[str, Any]) -> dict[str, Any]:
    """Return metadata of any supported format with the keys of the current one, without ``format_version``.

    Raises
    ------
    ModelError
        If the format is newer than this version of zflipon.
    """
    values = dict(values)
    version = values.pop("format_version", 1)
    if type(version) is not int or version < 1:
        raise ModelError(f"metadata: format_version must be a positive integer, not {_shorten(version)}")
    if version > FORMAT_VERSION:
        raise ModelError(
            f"metadata has format {version}, but this zflipon reads formats up to {FORMAT_VERSION}; upgrade zflipon"
        )
    if version == 1:
        for (*path, old), new in RENAMED_KEYS.items():
            _rename_key(values, path, old, new)
        training = values.get("training")
        if "versions" in values and not (isinstance(training, dict) and "imported" in training):
            values.setdefault("special_tokens", True)  # format 1 trained every model with them
    return values


def _rename_key(values: dict[str, Any], path: list[str], old: str, new: str) -> None:
    """Rename the key `old` of the table at `path`; tables on the way are copied, not changed."""
    for key in path:
        if not isinstance(values.get(key), dict):
            return
        values[key] = dict(values[key])
        values = values[key]
    if old in values:
        values[new] = values.pop(old)


def declared_objective(config: dict[str, Any]) -> str | None:
    """Return the objective that a ``config.json`` declares, by our key or by a transformers class name."""
    if config.get("objective") is not None:
        return config["objective"]
    architectures = config.get("architectures")
    for architecture in architectures if isinstance(architectures, list) else []:
        for ending, objective in ARCHITECTURES.items():
            if str(architecture).endswith(ending):
                return objective
    return None


def infer_objective(config: dict[str, Any], tensor_names: Iterable[str]) -> str | None:
    """Return the objective of a checkpoint's head, or None if it has no head.

    Tensor names take precedence over the class name in the config: a fine-tuned state dict is often stored with the
    config of the pretrained model.

    Parameters
    ----------
    config : dict
        Content of ``config.json``.
    tensor_names : iterable of str
        Names in the state dict.
    """
    declared = declared_objective(config)
    if config.get("objective") is not None:
        return declared
    names = list(tensor_names)
    if any(name.startswith("base_head.") for name in names):
        return "base"
    if any(name.startswith("classifier.") for name in names):
        return "sequence" if declared == "sequence" else "token"
    return "mlm" if any(name.startswith(("cls.predictions.", "decoder.")) for name in names) else None


_MESSAGES: dict[str, Callable[[dict[str, Any]], str]] = {
    "finite_number": lambda _: "must be a finite number",
    "float_type": lambda _: "must be a number",
    "int_type": lambda _: "must be an integer",
    "bool_type": lambda _: "must be true or false",
    "string_type": lambda _: "must be a string",
    "dict_type": lambda _: "must be a JSON object",
    "dataclass_type": lambda _: "must be a JSON object",
    "tuple_type": lambda _: "must be a list",
    "missing": lambda _: "is missing",
    "literal_error": lambda ctx: f"must be one of {ctx['expected']}",
    "greater_than_equal": lambda ctx: f"must be {ctx['ge']:g} or more",
    "less_than_equal": lambda ctx: f"must be {ctx['le']:g} or less",
    "value_error": lambda ctx: str(ctx["error"]),
}
"""Type of a pydantic error → message without the name of the key."""


def describe_validation_error(error: ValidationError, cls: type) -> str:
    """Return one line for the first problem: the key, what was expected, and the value found."""
    problem = error.errors(include_url=False)[0]
    names = [each.name for each in fields(cls)]
    path = [names[part] if isinstance(part, int) and not index and part < len(names) else part
            for index, part in enumerate(problem["loc"])]  # fmt: skip
    key = ".".join(map(str, path))
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "unexpected_keyword_argument":
        known = _keys_at(cls, path[:-1])
        return f"metadata: unknown key '{key}'{suggest(str(path[-1]), known)}"
    message = _MESSAGES[kind](context) if kind in _MESSAGES else problem["msg"]
    found = "" if kind == "missing" else f", not {_shorten(problem['input'])}"
    return f"metadata: {key or 'value'} {message}{found}"


def _keys_at(cls: type, path: list[Any]) -> list[str]:
    """Return the keys that the nested table at `path` may have."""
    nested = {"calibration": Calibration, "screen": ScreenConfig, "features": Feature, "domain": Domain}
    owner = nested.get(str(path[0]), cls) if path else cls
    return [each.name for each in fields(owner)]


def _shorten(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
