"""Parts of the HTML report: links, tables and figures with captions, as ``templates/table.html.j2`` renders them.

What the report shows is computed in `zflipon.report.page`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True)
class Link:
    """A link.

    Attributes
    ----------
    text, address : str
    """

    text: str
    address: str


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes
    ----------
    name : str
        Identifier on the page.
    columns : sequence of str
        Column headers.
    rows : sequence
        Cells: text, or a list of `Link`.
    text_columns : int
        Number of leading columns that are aligned left.
    """

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | Sequence[Link]]]
    text_columns: int = 1


@dataclass(frozen=True)
class Plot:
    """A figure with a caption.

    Attributes
    ----------
    svg : Markup
    caption : str
    """

    svg: Markup
    caption: str
