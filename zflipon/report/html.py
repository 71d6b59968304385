"""Jinja2 templates → HTML; the one place where text is escaped for HTML.

Templates are in ``templates/``. What they show is computed by `zflipon.report.page` and `zflipon.report.viewer`.
"""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from zflipon import __version__
from zflipon.errors import printable

MISSING = "–"
"""Text for a number that is not known."""


@cache
def environment() -> Environment:
    """Return the templates' environment: every value is escaped unless it is marked as safe."""
    environment = Environment(
        loader=PackageLoader("zflipon.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    environment.globals["version"] = __version__
    return environment


def _visible(value: object) -> object:
    """Show control characters in text as escapes; markup that is already safe stays as it is."""
    return printable(value, keep="\n\t") if type(value) is str else value


def render(template: str, **context: object) -> str:
    """Return the HTML of a template.

    Parameters
    ----------
    template : str
        File name in ``templates/``.
    context : object
        Variables of the template.
    """
    return environment().get_template(template).render(context)


def plain_text(value: object) -> str:
    """Return a value as text, a whole number with thousands separators."""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def number_text(value: int | None) -> str:
    """Return a count with thousands separators, `MISSING` for None."""
    return MISSING if value is None else f"{value:,}"
