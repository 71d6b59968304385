"""What a checkpoint tells about itself, so that it is used without flags.

Only the standard library is imported here: a story is read in no time.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import NamedTuple

from zflipon.config import ScreenConfig
from zflipon.errors import ModelError, suggest

_LATER = {"screen", "features", "bears_missing", "both_strands"}
"""Fields that the first stories had not."""

OBJECTIVES = ("token", "base", "sequence", "mlm")
"""What a head predicts: a class for each token, base or sequence, or masked tokens."""

ARCHITECTURES = {
    "ForTokenClassification": "token",
    "ForSequenceClassification": "sequence",
    "ForMaskedLM": "mlm",
    "ForPreTraining": "mlm",
}
"""How the class that a config of elsewhere names ends → objective."""


FEATURE_KINDS = ("binary", "signal", "distance")
"""What an omics track says of a base: that it lies in an interval, a height, or how far the next interval is."""


class Feature(NamedTuple):
    """An omics track that a model reads; a value is (x - `mean`) / `scale`.

    Attributes
    ----------
    name : str
    kind : str
        One of `FEATURE_KINDS`; what x is for each, `zflipon.omics.features` says.
    mean, scale : float
        Of x, on the contigs that the model was trained on; 0 and 1 for binary tracks.
    """

    name: str
    kind: str
    mean: float = 0.0
    scale: float = 1.0


class View(NamedTuple):
    """How a model looks at tracks.

    Attributes
    ----------
    step : int
        Bases that share a value, their mean.
    flank : int
        Bases beyond either end of a window that it also looks at; whole steps.
    """

    step: int = 1
    flank: int = 0

    def steps(self, bases: int) -> int:
        """Return how many values a window of so many bases has."""
        return -(-bases // self.step) + 2 * (self.flank // self.step)


class Calibration(NamedTuple):
    """A probability is the sigmoid of `scale` × log-odds + `bias` (Platt scaling), bent where a line does not fit.

    Attributes
    ----------
    scale, bias : float
        1 and 0 leave the model's own probability.
    bend : tuple of (float, float)
        Scaled log-odds, ascending, and what is added to them there; on straight lines between, and as at the
        first and last beyond.
    """

    scale: float = 1.0
    bias: float = 0.0
    bend: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class ModelMetadata:
    """How a checkpoint is run, how it came about and how good it is.

    Attributes
    ----------
    family : str
        A key of `zflipon.models.registry.family_names`.
    objective : str or None
        One of `OBJECTIVES`; None for a bare encoder.
    window, margin : int
        Bases of a window, and of its context at either side where nothing is decided.
    max_token_length : int or None
        Bases of the longest token; None takes the tokenizer as it is.
    label_threshold : float
        Share of a token's bases that makes it a positive, in training.
    label_comparison : str
        ``'>='`` or ``'>'``, as in `zflipon.tokenization.alignment.COMPARISONS`.
    threshold : float
        Probability from which a base is called.
    calibration : Calibration
        Applied to the log-odds.
    training : dict
        How and on what it was trained.
    quality : dict
        Measured figures.
    versions : dict of str to str
        Package → version it was made with.
    screen : ScreenConfig
        What a run that screens reads.
    features : tuple of Feature
        Omics tracks that the model reads beside the sequence, in its order.
    bears_missing : bool
        Whether it was trained to do without some of them.
    both_strands : bool
        Whether both strands are read where nothing else is asked for.
    """

    family: str
    objective: str | None
    window: int
    margin: int
    max_token_length: int | None = None
    label_threshold: float = 0.5
    label_comparison: str = ">="
    threshold: float = 0.5
    calibration: Calibration = field(default_factory=Calibration)
    training: dict = field(default_factory=dict)
    quality: dict = field(default_factory=dict)
    versions: dict = field(default_factory=dict)
    screen: ScreenConfig = field(default_factory=ScreenConfig)
    features: tuple[Feature, ...] = ()
    bears_missing: bool = False
    both_strands: bool = False

    def __post_init__(self) -> None:
        """Refuse what no model can be run with; raise `ModelError`."""
        known = ", ".join(OBJECTIVES)
        _require(self.objective in (None, *OBJECTIVES), "objective", f"one of {known}", self.objective)
        _require(_whole(self.window, 1), "window", "a number of bases", self.window)
        _require(
            _whole(self.margin, 0) and 2 * self.margin < self.window,
            "margin",
            f"a number of bases, less than half of the window ({self.window})",
            self.margin,
        )
        limit = self.max_token_length
        _require(limit is None or _whole(limit, 1), "max_token_length", "a number of bases", limit)
        for name in ("label_threshold", "threshold"):
            value = getattr(self, name)
            _require(_number(value) and 0 <= value <= 1, name, "from 0 to 1", value)
        _require(self.label_comparison in (">=", ">"), "label_comparison", ">= or >", self.label_comparison)
        for name in ("scale", "bias"):
            value = getattr(self.calibration, name)
            _require(_number(value), f"calibration.{name}", "a number", value)
        bend = self.calibration.bend
        _require(_is_bend(bend), "calibration.bend", "pairs of numbers, the first ones ascending", bend)
        for name in ("linking", "strong"):
            value = getattr(self.screen, name)
            _require(_number(value), f"screen.{name}", "a number", value)
        for feature in self.features:
            _require(
                feature.kind in FEATURE_KINDS, "features", f"of kind {', '.join(FEATURE_KINDS)}", feature
            )
            _require(
                _number(feature.mean) and _number(feature.scale), "features", "scaled by numbers", feature
            )
        named = [feature.name for feature in self.features]
        _require(len(set(named)) == len(named), "features", "tracks of different names", named)
        for name in ("training", "quality", "versions"):
            _require(isinstance(getattr(self, name), dict), name, "a table", getattr(self, name))

    @classmethod
    def from_dict(cls, values: dict, **defaults) -> ModelMetadata:
        """Build a story from what `to_dict` gave.

        Parameters
        ----------
        values : dict
            May lack any field.
        **defaults
            Fields that are taken where `values` lacks them.

        Raises
        ------
        ModelError
            If a key is unknown, a value out of range, or a field lacking that has no default.
        """
        _refuse_unknown(values, [each.name for each in fields(cls)], "")
        values = {**defaults, **values}
        calibration = values.get("calibration", {})
        if not isinstance(calibration, Calibration):
            _refuse_unknown(calibration, Calibration._fields, "calibration.")
            bend = calibration.get("bend", ())
            pairs = tuple(map(tuple, bend)) if _is_bend(bend) else bend
            values["calibration"] = Calibration(**{**calibration, "bend": pairs})
        screen = values.get("screen", {})
        if not isinstance(screen, ScreenConfig):
            _refuse_unknown(screen, [each.name for each in fields(ScreenConfig)], "screen.")
            values["screen"] = ScreenConfig(**screen)
        values["features"] = tuple(_feature(feature) for feature in values.get("features", ()))
        lacking = [name for name in ("family", "window", "margin") if name not in values]
        if lacking:
            raise ModelError(f"the checkpoint's story lacks {', '.join(lacking)}")
        return cls(**{"objective": None, **values})

    def to_dict(self) -> dict:
        """Return plain dicts, strings and numbers, fit for JSON."""
        bend = [list(pair) for pair in self.calibration.bend]
        features = [feature._asdict() for feature in self.features]
        calibration = {**self.calibration._asdict(), "bend": bend}
        return {**asdict(self), "calibration": calibration, "features": features}

    @classmethod
    def is_whole(cls, values: dict) -> bool:
        """Tell whether `values` has every field that has no sensible default."""
        return isinstance(values, dict) and {each.name for each in fields(cls)} - _LATER <= set(values)


def told_objective(config: dict) -> str | None:
    """Return the objective that a ``config.json`` names: ours by key, others' by the name of their class."""
    if config.get("objective") is not None:
        return config["objective"]
    for architecture in config.get("architectures") or []:
        for ending, objective in ARCHITECTURES.items():
            if architecture.endswith(ending):
                return objective
    return None


def _feature(values: object) -> Feature:
    if isinstance(values, Feature):
        return values
    _refuse_unknown(values, Feature._fields, "features.")
    lacking = [name for name in ("name", "kind") if name not in values]
    if lacking:
        raise ModelError(f"the checkpoint's story: a feature lacks {' and '.join(lacking)}")
    return Feature(**values)


def _refuse_unknown(values: dict, known: Sequence[str], prefix: str) -> None:
    if not isinstance(values, dict):
        what = prefix.rstrip(".") or "it"
        raise ModelError(f"the checkpoint's story: {what} must be a table, not {values!r}")
    for key in values:
        if key not in known:
            raise ModelError(f"the checkpoint's story: unknown key '{prefix}{key}'{suggest(key, known)}")


def _require(holds: bool, name: str, expected: str, found: object) -> None:
    if not holds:
        raise ModelError(f"the checkpoint's story: {name} must be {expected}, not {found!r}")


def _is_bend(value: object) -> bool:
    if not isinstance(value, list | tuple):
        return False
    pairs = [
        pair
        for pair in value
        if isinstance(pair, list | tuple) and len(pair) == 2 and all(map(_number, pair))
    ]
    places = [pair[0] for pair in pairs]
    return len(pairs) == len(value) and all(one < other for one, other in itertools.pairwise(places))


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
