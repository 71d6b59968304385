"""Config classes: frozen dataclasses whose values pydantic validates.

The classes and their valid values are in `zflipon.config.inference`.
"""

from __future__ import annotations

import functools
from typing import Any, TypeVar

from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass
from typing_extensions import dataclass_transform

from zflipon.errors import ConfigError

Class = TypeVar("Class", bound=type)


@dataclass_transform(frozen_default=True)
def config_class(cls: Class) -> Class:
    """Make a class a frozen dataclass that raises `ConfigError` if a value is invalid.

    Examples
    --------
    >>> from zflipon.config import InferenceConfig
    >>> InferenceConfig(threads=0)
    Traceback (most recent call last):
    ...
    zflipon.errors.ConfigError: threads: input should be greater than 0, not 0
    """
    validated: Any = dataclass(frozen=True, config=ConfigDict(extra="forbid"))(cls)
    validating_init = validated.__init__

    @functools.wraps(validating_init)
    def __init__(self: Any, *values: Any, **named_values: Any) -> None:
        try:
            validating_init(self, *values, **named_values)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            names = list(validated.__dataclass_fields__)
            name = problem["loc"][0]
            name = names[name] if isinstance(name, int) and name < len(names) else name
            message = problem["msg"][:1].lower() + problem["msg"][1:]
            raise ConfigError(f"{name}: {message}, not {problem['input']!r}") from None

    validated.__init__ = __init__
    return validated
