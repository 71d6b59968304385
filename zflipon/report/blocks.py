"""Parts of the HTML report: links, tables, figures and notes, as ``templates/table.html.j2`` renders them.

What the report shows is computed in `zflipon.report.page`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from markupsafe import Markup

TOP = 15
"""Rows in tables of the best: loci, genes, k-mers."""


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

    kind: ClassVar[str] = "table"
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

    kind: ClassVar[str] = "plot"
    svg: Markup
    caption: str


@dataclass(frozen=True)
class PlotRow:
    """Figures side by side.

    Attributes
    ----------
    plots : sequence of Plot
    """

    kind: ClassVar[str] = "row"
    plots: Sequence[Plot]


@dataclass(frozen=True)
class Note:
    """A paragraph.

    Attributes
    ----------
    text : str
    """

    kind: ClassVar[str] = "note"
    text: str


@dataclass(frozen=True)
class Part:
    """A part of the page under one heading.

    Attributes
    ----------
    heading : str
    blocks : sequence of Table, Plot, PlotRow or Note
        From top to bottom.
    """

    heading: str
    blocks: Sequence[Table | Plot | PlotRow | Note]
