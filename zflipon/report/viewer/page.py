"""The viewer's HTML page: igv.js and a table of calls.

The markup is in ``templates/viewer.html.j2``, the page's script in ``templates/viewer.js``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from zflipon.errors import printable
from zflipon.report.html import render

IGV_TEXT = str.maketrans({"<": "‹", ">": "›", "&": "＆", '"': "”", "'": "’"})
"""Characters with a meaning in HTML → similar ones without: igv.js inserts some names as HTML and others as text."""


@dataclass(frozen=True)
class Locus:
    """A call in the table.

    Attributes
    ----------
    contig : str
    start, end : int
        0-based half-open.
    region : str
        Region to show: the call and its surroundings, 1-based and inclusive.
    score : float or None
        Mean probability.
    """

    contig: str
    start: int
    end: int
    region: str
    score: float | None

    @property
    def name(self) -> str:
        """Position of the call, 1-based and inclusive: ``chr1:1,001-1,020``."""
        return f"{self.contig}:{self.start + 1:,}-{self.end:,}"


def igv_text(text: object) -> str:
    """Return a name for igv.js that cannot act as HTML, however igv.js inserts it."""
    return printable(text).translate(IGV_TEXT)


def viewer_page(
    title: str,
    settings: Mapping[str, object],
    loci: Sequence[Locus],
    caption: str,
    genes_address: str = "",
    ucsc_address: str = "",
) -> str:
    """Return the HTML page.

    Parameters
    ----------
    title : str
    settings : mapping
        Settings of ``igv.createBrowser``: reference, tracks and locus.
    loci : sequence of Locus
    caption : str
        What the table lists.
    genes_address : str
        Address of the positions of genes, for the search; empty without genes.
    ucsc_address : str
        Address of the assembly in the UCSC browser, to which a position is added; empty if UCSC does not host it.
    """
    return render(
        "viewer.html.j2", title=title, settings=settings, loci=loci, caption=caption,
        genes_address=genes_address, ucsc_address=ucsc_address,
    )  # fmt: skip


def viewer_script() -> bytes:
    """Return the page's script."""
    return (files("zflipon.report") / "templates" / "viewer.js").read_bytes()
