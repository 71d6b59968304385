"""Types of the values in recipe sections, with their limits, and the error of values that do not fit together.

The sections are in `zflipon.config.training` and `zflipon.config.stage`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import ConfigDict, Field, FiniteFloat

SECTION = ConfigDict(extra="forbid", strict=True)
"""Settings of pydantic for every section: unknown keys and values of another type are errors."""

PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[FiniteFloat, Field(gt=0)]
NonNegativeFloat = Annotated[FiniteFloat, Field(ge=0)]
NonNegativeOrInfinite = Annotated[float, Field(ge=0)]
Probability = Annotated[FiniteFloat, Field(ge=0, lt=1)]
"""From 0 to less than 1."""

# TOML has lists where these classes have tuples
Names = Annotated[tuple[str, ...], Field(strict=False)]
NameLists = Annotated[tuple[Names, ...], Field(strict=False)]
ClassWeights = Annotated[tuple[PositiveFloat, PositiveFloat], Field(strict=False)]


class InvalidSection(ValueError):
    """Values of a section do not fit together.

    Attributes
    ----------
    problems : list of str
        One sentence each, which starts with a key of the section.
    """

    def __init__(self, problems: list[str]):
        super().__init__("; ".join(problems))
        self.problems = problems


def raise_problems(problems: Iterable[str]) -> None:
    """Report all problems of a section as one validation error."""
    problems = list(problems)
    if problems:
        raise InvalidSection(problems)
