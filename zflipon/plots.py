"""Figures: one palette, one style, one way to create and to save them, and the panels that several figures share.

Computes nothing: callers pass arrays. matplotlib and logomaker are imported when a figure is created, not before.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from html import escape
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from zflipon.errors import MissingExtraError, OutputError
from zflipon.tracks.atomic import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIGURE_FORMATS = (".png", ".svg", ".pdf")
"""Extensions that `save_figure` accepts."""

DPI = 200
"""Resolution of PNG figures."""

BLACK, ORANGE, SKY_BLUE, GREEN, BLUE, VERMILION, PINK = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip

PALETTE = (BLUE, VERMILION, GREEN, PINK, ORANGE, SKY_BLUE, BLACK)
"""Categorical colours, in the order of use: those of Okabe & Ito, which colour-blind readers can distinguish."""

SIGNAL_COLOUR = "#4a1486"
"""Z-DNA probability and calls, the same dark purple as in browser tracks."""

LABEL_COLOUR = "#00785a"
"""Known Z-DNA."""

NEUTRAL_COLOUR, GRID_COLOUR = "#737373", "#e0e0e0"
"""Reference lines and other tracks; grid lines."""

DIVERGING_COLOURS = "RdBu_r"
"""Colour map of signed values: red is an increase, blue a decrease."""

BASE_COLOURS = {"A": GREEN, "C": BLUE, "G": ORANGE, "T": VERMILION}
"""Colours of the letters in sequence logos."""

MARKERS = "osD^vPX"
LINE_STYLES = ("-", "--", ":", "-.")

STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "Helvetica"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "lines.linewidth": 1.4,
    "grid.color": GRID_COLOUR,
    "grid.linewidth": 0.6,
    "svg.hashsalt": "zflipon",
    "pdf.fonttype": 42,
}
"""matplotlib settings of every figure. The salt makes repeated SVG output identical."""


def require_matplotlib(purpose: str = "a figure", extra: str = "plot") -> None:
    """Raise `MissingExtraError` if matplotlib is not installed.

    Parameters
    ----------
    purpose : str
        What needs it, as the message names it.
    extra : str
        Extra of this package that installs it.
    """
    if find_spec("matplotlib") is None:
        raise MissingExtraError(purpose, "matplotlib", extra)


def check_figure_path(path: str | Path) -> None:
    """Raise `OutputError` if the extension of a figure is not in `FIGURE_FORMATS`."""
    if Path(path).suffix.lower() not in FIGURE_FORMATS:
        raise OutputError(
            f"{path}: unknown figure format; expected a name that ends in {', '.join(FIGURE_FORMATS)}"
        )


@contextmanager
def figure_style() -> Iterator[None]:
    """Apply `STYLE` to everything that is drawn and saved inside the block."""
    require_matplotlib()
    with _settings():
        yield


def _settings(**settings: Any) -> AbstractContextManager[None]:
    """Return matplotlib's context of `STYLE` and further settings, whose names have ``_`` for the ``.``."""
    from matplotlib import rc_context

    further = {name.replace("_", ".", 1): value for name, value in settings.items()}
    return rc_context(cast(Any, {**STYLE, **further}))


def new_figure(
    width: float, height: float, layout: Literal["constrained", "compressed", "tight"] | None = "constrained"
) -> Figure:
    """Create an empty figure that needs no screen and does not touch pyplot's state.

    Parameters
    ----------
    width, height : float
        Inches.
    layout : str, optional
        Layout engine of matplotlib; None if the caller places the axes.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.

    Examples
    --------
    >>> with figure_style():
    ...     figure = new_figure(4, 3)
    ...     axes = figure.subplots()
    ...     _ = axes.plot([0, 1], [0, 1], color=PALETTE[0])
    ...     save_figure(figure, "line.png")
    """
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: str | Path, dpi: int = DPI) -> None:
    """Save a figure in the format of its extension; the file appears only once it is complete.

    Raises
    ------
    OutputError
        If the extension is not in `FIGURE_FORMATS`, or the file cannot be written.
    """
    check_figure_path(path)
    dated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}  # the same data give the same bytes
    with _settings(), atomic_file(path) as part:
        figure.savefig(part, dpi=dpi, metadata=dated.get(Path(path).suffix.lower()))


def figure_svg(figure: Figure, name: str, description: str) -> str:
    """Return a figure as an ``<svg>`` element for an HTML page.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    name : str
        Value of the element's ``id``; unique on the page. Identifiers inside the element start with it.
    description : str
        Text for screen readers.
    """
    text = io.StringIO()
    # letters stay text: smaller, searchable, and in the font of the page
    with _settings(svg_fonttype="none", svg_hashsalt=name):
        figure.savefig(text, format="svg", metadata={"Date": None}, transparent=True)
    element = text.getvalue().partition("<svg ")[2]
    element = re.sub(r"\s*<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = _unique_identifiers(element, name)
    return f'<svg id="{escape(name)}" role="img" aria-label="{escape(description)}" {element}'


def _unique_identifiers(element: str, name: str) -> str:
    """Prefix the identifiers of an SVG, which are shared by all elements of one page."""
    prefix = re.sub(r"\W", "_", name)
    element = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', element)
    return re.sub(r'(href="#|url\(#)([^")]+)', rf"\1{prefix}-\2", element)


def series_style(number: int) -> dict[str, Any]:
    """Return colour, line style and marker of the n-th series; the first 28 differ without colour too."""
    return {
        "color": PALETTE[number % len(PALETTE)],
        "linestyle": LINE_STYLES[number // len(PALETTE) % len(LINE_STYLES)],
        "marker": MARKERS[number % len(MARKERS)],
    }


def draw_letters(axes: Axes, heights: np.ndarray, start: float = 0.0) -> None:
    """Draw a sequence logo with logomaker: letters stacked by height, negative ones upside down below 0.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Its limits are set to the extent of the letters.
    heights : numpy.ndarray
        float, shape (4, positions): heights of A, C, G and T.
    start : float
        Left edge of the first position on the x axis; a position is 1 wide.

    Raises
    ------
    MissingExtraError
        If logomaker is not installed.
    """
    if find_spec("logomaker") is None:
        raise MissingExtraError("a sequence logo", "logomaker", "plot")
    from logomaker import Glyph

    letters = list(BASE_COLOURS)
    for position, column in enumerate(np.asarray(heights, dtype=float).T):
        for sign in (1, -1):
            top = 0.0
            for index in np.argsort(sign * column):  # the highest letter comes last, on top
                if (height := sign * column[index]) <= 0:
                    continue
                low, high = sorted((sign * top, sign * (top + height)))
                Glyph(
                    start + position + 0.5, letters[index], ax=axes, floor=low, ceiling=high, width=0.9,
                    color=BASE_COLOURS[letters[index]], font_name="DejaVu Sans", flip=sign < 0,
                )  # fmt: skip
                top += height
    axes.axhline(0, color=BLACK, linewidth=0.6)
    low, high = np.minimum(heights, 0).sum(axis=0).min(), np.maximum(heights, 0).sum(axis=0).max()
    axes.set_xlim(start, start + heights.shape[1])
    if low < high:
        axes.set_ylim(low, high)
    hide_spines(axes)


def draw_signal(axes: Axes, values: np.ndarray, start: int = 0, colour: str = SIGNAL_COLOUR) -> None:
    """Draw per-base values as filled steps.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    values : numpy.ndarray
        float, shape (bases,); NaN is drawn as 0.
    start : int
        0-based position of the first base.
    colour : str
    """
    edges = np.arange(start, start + len(values) + 1)
    axes.stairs(np.nan_to_num(values), edges, fill=True, color=colour)


def draw_intervals(axes: Axes, intervals: np.ndarray, colour: str = NEUTRAL_COLOUR) -> None:
    """Draw half-open intervals as bars that fill the middle of the axes; the y axis goes away.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    intervals : numpy.ndarray
        int64, shape (n, 2).
    colour : str
    """
    for start, end in np.asarray(intervals).tolist():
        axes.axvspan(start, end, 0.15, 0.85, color=colour, linewidth=0)
    axes.set_yticks([])
    hide_spines(axes, left=True)


def hide_spines(axes: Axes, left: bool = False) -> None:
    """Hide the lines above and to the right of the axes, and the one to the left if `left` is true."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines["left"].set_visible(not left)


def position_axis(axes: Axes, contig: str, start: int, end: int, ticks: int = 6) -> None:
    """Label the x axis with 1-based positions of a region, a round number of bases apart.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    contig : str
    start, end : int
        0-based half-open region, the limits of the axis. The tick of a base is at its middle.
    ticks : int
        Highest number of ticks.
    """
    step = round_step(end - start, ticks)
    first = -(-(start + 1) // step) * step
    positions: Sequence[int] = range(first, end + 1, step)
    axes.set_xlim(start, end)
    axes.set_xticks([position - 0.5 for position in positions], [f"{position:,}" for position in positions])
    axes.set_xlabel(f"{contig} (position, bp)", parse_math=False)


def round_step(length: int, steps: int) -> int:
    """Return the smallest of 1, 2, 5, 10, 20, 50, … that divides a length into at most `steps` parts.

    Examples
    --------
    >>> round_step(1000, 6)
    200
    """
    sizes = (factor * 10**power for power in count() for factor in (1, 2, 5))
    return next(size for size in sizes if size * steps >= length)


def base_pairs(length: float) -> str:
    """Return a length with a unit: ``'1.5 Mb'``.

    Examples
    --------
    >>> base_pairs(950), base_pairs(1_500_000)
    ('950 bp', '1.5 Mb')
    """
    for unit, size in (("Gb", 1e9), ("Mb", 1e6), ("kb", 1e3)):
        if length >= size:
            return f"{length / size:g} {unit}"
    return f"{length:g} bp"
