"""Results of `evaluate` for people: a text table for the console and a precision–recall figure.

The results are computed in `zflipon.workflows.evaluate`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zflipon.errors import format_names
from zflipon.metrics import MANTISSA_BITS
from zflipon.plots import (
    GRID_COLOUR,
    NEUTRAL_COLOUR,
    check_figure_path,
    figure_style,
    new_figure,
    require_matplotlib,
    save_figure,
    series_style,
)
from zflipon.report.html import MISSING
from zflipon.workflows.evaluate import EvaluationReport

COLUMNS = {
    "F1": "f1",
    "MCC": "mcc",
    "precision": "precision",
    "recall": "recall",
    "AP": "average_precision",
    "best F1": "best_f1",
    "at": "best_threshold",
}
"""Column header → measure of `EvaluationReport.summary`."""

CURVE_POINTS = 2000
"""Points of a drawn curve; more would enlarge an SVG file and not be visible."""

F1_LINES = (0.2, 0.4, 0.6, 0.8)
"""Values of F1 whose lines are drawn in the background."""


def format_table(report: EvaluationReport) -> str:
    """Return aligned text: a block for each protocol and one for regions, a row for each track."""
    tracks = report.summary()["tracks"]
    blocks = []
    for protocol, bases in report.settings["bases"].items():
        heading = f"{protocol}: {_protocol_text(protocol, report.settings)}"
        rows = [[name, *_measure_cells(summary[protocol])] for name, summary in tracks.items()]
        blocks.append(
            f"{heading}; {bases['evaluated']:,} bases, {bases['labelled']:,} of them labelled\n"
            + _align(["track", *COLUMNS], rows)
        )
    blocks.append(_interval_block(report))
    if len(report.tracks) > 1:
        blocks += _matched_blocks(report)
    blocks.append(_region_block({name: summary["regions"] for name, summary in tracks.items()}))
    rounded = [name for name, result in report.tracks.items() if result.rounded]
    if rounded:
        blocks.append(
            f"note: {format_names(rounded)}: too many distinct scores; AP, best F1 and its threshold are computed from "
            f"scores rounded to {MANTISSA_BITS} bits"
        )
    return "\n\n".join(blocks)


def _interval_block(report: EvaluationReport) -> str:
    """Return the bootstrap intervals and the threshold of each track."""
    protocols = list(report.settings["bases"])
    columns = [f"{label} ({protocol})" for protocol in protocols for label in ("F1", "precision", "recall")]
    rows = []
    for name, result in report.tracks.items():
        cells = [MISSING if result.threshold is None else f"{result.threshold:g}"]
        for protocol in protocols:
            intervals = result.protocols[protocol].intervals(result.seed) or {}
            for measure in ("f1", "precision", "recall"):
                cells.append("{:.3f}-{:.3f}".format(*intervals[measure]) if intervals else MISSING)
        rows.append([name, *cells])
    heading = "threshold of the calls, and 95 % intervals by bootstrap over 1-Mb blocks"
    return f"{heading}\n" + _align(["track", "threshold", *columns], rows)


def _matched_blocks(report: EvaluationReport) -> Iterator[str]:
    """Yield, for each protocol, the precision of scored tracks at the recall of the calls of each track."""
    for protocol, tracks in report.matched_recall().items():
        scored = [name for name, result in report.tracks.items() if result.scored]
        if not scored:
            return
        rows = [
            [name, f"{values['recall']:.3f}"]
            + [
                MISSING if (value := values["precision"][other]) is None else f"{value:.3f}"
                for other in scored
            ]
            for name, values in tracks.items()
        ]
        heading = f"{protocol}: precision of tracks with scores at the recall of each track"
        yield f"{heading}\n" + _align(["recall of", "recall", *scored], rows)


def _region_block(regions: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        [
            name,
            f"{tally['precision']:.3f}",
            f"{tally['called_right']:,} of {tally['called']:,}",
            f"{tally['recall']:.3f}",
            f"{tally['labels_found']:,} of {tally['labels']:,}",
        ]
        for name, tally in regions.items()
    ]
    columns = ["track", "precision", "calls on a label", "recall", "labels with a call"]
    return "regions: called regions compared with labelled regions\n" + _align(columns, rows)


def _protocol_text(protocol: str, settings: Mapping[str, Any]) -> str:
    if protocol == "genome":
        return "every base that is not N" + (" or blacklisted" if settings["blacklist"] else "")
    windows = settings["windows"]
    return f"{settings['window']}-bp windows, {windows['positive']:,} with a label, {windows['negative']:,} without"


def _measure_cells(summary: Mapping[str, float | None]) -> Iterator[str]:
    for measure in COLUMNS.values():
        value = summary[measure]
        if value is None:
            yield MISSING
        else:
            yield f"{value:.4g}" if measure == "best_threshold" else f"{value:.3f}"


def _align(columns: list[str], rows: list[list[str]]) -> str:
    """Return lines with the first column aligned left and the others right."""
    lines = [columns, *rows]
    first, *rest = (max(map(len, column)) for column in zip(*lines, strict=True))
    return "\n".join(
        "  ".join(
            [line[0].ljust(first), *(cell.rjust(width) for cell, width in zip(line[1:], rest, strict=True))]
        )
        for line in lines
    )


def check_plot(path: str | Path) -> None:
    """Check that a figure can be drawn, before the evaluation starts.

    Raises
    ------
    OutputError
        If the extension is not one of `zflipon.plots.FIGURE_FORMATS`.
    MissingExtraError
        If matplotlib is not installed.
    """
    check_figure_path(path)
    require_matplotlib("--plot")


def plot_precision_recall(report: EvaluationReport, path: str | Path) -> None:
    """Draw precision against recall, one panel for each protocol.

    Tracks with scores are curves with a point at the threshold of the evaluation; tracks of calls are single points.

    Parameters
    ----------
    report : EvaluationReport
    path : str or Path
        The extension chooses the format.

    Raises
    ------
    OutputError
        If the extension is unknown or the file cannot be written.
    MissingExtraError
        If matplotlib is not installed.
    """
    check_plot(path)
    protocols = list(report.settings["bases"])
    with figure_style():
        figure = new_figure(4.4 * len(protocols), 4.6 + 0.2 * len(report.tracks))
        panels = np.atleast_1d(figure.subplots(1, len(protocols)))
        for axes, protocol in zip(panels, protocols, strict=True):
            _draw_panel(axes, protocol, report)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=1)
        save_figure(figure, path)


def _draw_panel(axes, protocol: str, report: EvaluationReport) -> None:
    _draw_f1_lines(axes)
    for number, (name, result) in enumerate(report.tracks.items()):
        tally = result.protocols[protocol]
        style = series_style(number)
        if tally.histogram is not None:
            _, precision, recall = tally.histogram.curve()
            shown = _thin(recall)
            axes.plot(recall[shown], precision[shown], color=style["color"], linestyle=style["linestyle"])
        axes.plot(
            [tally.confusion.recall],
            [tally.confusion.precision],
            marker=style["marker"],
            linestyle=style["linestyle"] if result.scored else "none",
            color=style["color"],
            label=_legend_text(name, report),
            clip_on=False,
            zorder=3,
        )
    title = {
        "genome": "genome: every base",
        "sampled": "sampled: windows 1:{}".format(report.settings["negatives"]),
    }
    axes.set_title(title[protocol])
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision", box_aspect=1)


def _legend_text(name: str, report: EvaluationReport) -> str:
    """Return a track's name with its AP, or F1 if it has no scores, in each protocol."""
    result = report.tracks[name]
    values = []
    for protocol, tally in result.protocols.items():
        histogram = tally.histogram
        value = tally.confusion.f1 if histogram is None else histogram.average_precision()
        values.append(f"{value:.3f} {protocol}" if len(result.protocols) > 1 else f"{value:.3f}")
    measure = "AP" if result.scored else "F1"
    marker = f"; marker: threshold {result.threshold:g}" if result.scored else ""
    return f"{name} ({measure} {', '.join(values)}{marker})"


def _draw_f1_lines(axes) -> None:
    for f1 in F1_LINES:
        recall = np.geomspace(f1 / (2 - f1), 1, 400)
        axes.plot(recall, f1 * recall / (2 * recall - f1), color=GRID_COLOUR, linewidth=0.8, zorder=0)
        axes.annotate(
            f"F1 {f1}",
            (1, f1 / (2 - f1)),
            (2, 0),
            textcoords="offset points",
            color=NEUTRAL_COLOUR,
            fontsize=7,
        )


def _thin(recall: np.ndarray) -> np.ndarray:
    """Return the indices of at most `CURVE_POINTS` points, evenly spaced by recall; vertical steps stay vertical."""
    wanted = np.linspace(0, 1, CURVE_POINTS // 2)
    first, last = np.searchsorted(recall, wanted), np.searchsorted(recall, wanted, side="right") - 1
    return np.unique(np.r_[first, last].clip(0, len(recall) - 1))
