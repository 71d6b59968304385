"""Plots as inline SVG, so that a page needs neither scripts nor a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

_WIDTH, _HEIGHT, _LEFT, _BELOW = 460, 170, 52, 34
_ROW, _NAMES, _LONG = 26, 120, 840


def histogram(name: str, counts: Sequence[int], edges: Sequence[float], axis: str, log: bool = False) -> str:
    """Draw counts between edges as bars; each tells its range and its count.

    Parameters
    ----------
    name : str
        Of the element.
    counts : sequence of int
    edges : sequence of float
        One more than there are counts.
    axis : str
        What the edges measure.
    log : bool
        Heights by the logarithm.
    """
    heights = np.log10(1 + np.asarray(counts, float)) if log else np.asarray(counts, float)
    high, top = max(heights.max(initial=0), 1e-9), 12
    across, down = _WIDTH - _LEFT - 8, _HEIGHT - _BELOW - top
    wide = across / len(counts)
    bars = []
    for number, (count, height) in enumerate(zip(counts, heights, strict=True)):
        tall = down * height / high
        what = f"{edges[number]:g} – {edges[number + 1]:g}: {count:,}"
        bars.append(
            f'<rect class="bar" data-count="{count}" x="{_LEFT + number * wide:.1f}" y="{top + down - tall:.1f}" '
            f'width="{max(wide - 1, 0.5):.1f}" height="{tall:.1f}"><title>{what}</title></rect>'
        )
    base = top + down
    ticks = {0: "start", len(counts) // 2: "middle", len(counts): "end"}
    marks = [_text(_LEFT + tick * wide, base + 14, f"{edges[tick]:g}", how) for tick, how in ticks.items()]
    marks += [
        _text(_LEFT - 6, top + 6, f"{max(counts, default=0):,}", "end"),
        _text(_LEFT - 6, base, "0", "end"),
        _text(_LEFT + across / 2, base + 29, axis + (" (heights: logarithm)" if log else ""), "middle"),
    ]
    line = f'<path class="axis" d="M{_LEFT} {base}H{_LEFT + across}"/>'
    return _svg(name, "histogram", _WIDTH, _HEIGHT, [*bars, line, *marks], axis)


def density(name: str, lengths: Mapping[str, int], counts: Mapping[str, np.ndarray], size: int) -> str:
    """Draw the number of calls along contigs, a row for each, all to one scale.

    Parameters
    ----------
    name : str
        Of the element.
    lengths : mapping of str to int
        The contigs to draw.
    counts : mapping of str to numpy.ndarray
        Calls in each bin of a contig.
    size : int
        Bases of a bin.
    """
    scale = (_LONG - 4) / max(lengths.values())
    high = max(max((int(each.max(initial=0)) for each in counts.values()), default=0), 1)
    rows = []
    for number, (contig, length) in enumerate(lengths.items()):
        base = (number + 1) * _ROW - 4
        path = "".join(
            f"M{_NAMES + at * size * scale:.1f} {base}v-{max((_ROW - 6) * count / high, 1):.1f}"
            f"h{max(size * scale, 0.8):.1f}V{base}z"
            for at, count in enumerate(counts[contig].tolist())
            if count
        )
        total = int(counts[contig].sum())
        rows.append(
            f'<g class="contig" data-contig="{escape(contig)}" data-calls="{total}"><title>{escape(contig)}: '
            f"{total:,} calls</title>{_text(_NAMES - 8, base - 3, contig[:18], 'end')}"
            f'<path class="axis" d="M{_NAMES} {base}h{length * scale:.1f}"/><path class="bar" d="{path}"/></g>'
        )
    return _svg(name, "density", _NAMES + _LONG, len(lengths) * _ROW + 4, rows, "calls along contigs")


def _svg(name: str, kind: str, width: int, height: int, parts: Sequence[str], about: str) -> str:
    return (
        f'<svg id="{escape(name)}" class="plot {kind}" role="img" aria-label="{escape(about)}" '
        f'viewBox="0 0 {width} {height}" width="{width}" height="{height}">{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, what: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(what)}</text>'
