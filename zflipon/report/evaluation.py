"""Show a report of `evaluate`: a table for the console, precision against recall as a plot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from zflipon.errors import MissingExtraError, OutputError, format_names
from zflipon.metrics import MANTISSA_BITS
from zflipon.workflows.evaluate import Report

PLOT_FORMATS = (".png", ".svg", ".pdf")
"""Extensions that a plot may have."""

_COLUMNS = {
    "F1": "f1",
    "MCC": "mcc",
    "precision": "precision",
    "recall": "recall",
    "AP": "average_precision",
    "best F1": "best_f1",
    "at": "best_threshold",
}


def table(report: Report) -> str:
    """Lay out a report as aligned text: a block per protocol and one for regions, a row per track."""
    tracks = report.summary()["tracks"]
    blocks = []
    for protocol, bases in report.settings["bases"].items():
        about = f"{protocol}: {_scope(protocol, report.settings)}"
        rows = [[name, *_cells(summary[protocol])] for name, summary in tracks.items()]
        blocks.append(
            f"{about}; {bases['evaluated']:,} bases, {bases['labelled']:,} of them labelled\n"
            + _aligned(["track", *_COLUMNS], rows)
        )
    rows = [
        [
            name,
            f"{regions['precision']:.3f}",
            f"{regions['called_right']:,} of {regions['called']:,}",
            f"{regions['recall']:.3f}",
            f"{regions['labels_found']:,} of {regions['labels']:,}",
        ]
        for name, regions in ((name, summary["regions"]) for name, summary in tracks.items())
    ]
    heads = ["track", "precision", "calls on a label", "recall", "labels with a call"]
    blocks.append("regions: runs of called bases against labelled runs\n" + _aligned(heads, rows))
    rounded = [name for name, result in report.tracks.items() if result.rounded]
    if rounded:
        blocks.append(
            f"note: {format_names(rounded)}: too many distinct scores to keep apart; AP, best F1 and its threshold are of "
            f"scores cut to {MANTISSA_BITS} bits"
        )
    return "\n\n".join(blocks)


def _scope(protocol: str, settings: Mapping[str, Any]) -> str:
    if protocol == "genome":
        return "every base that is not N" + (" or blacklisted" if settings["blacklist"] else "")
    windows = settings["windows"]
    return f"{settings['window']}-bp windows, {windows['positive']:,} with a label, {windows['negative']:,} without"


def _cells(summary: Mapping[str, float | None]) -> Iterator[str]:
    for key in _COLUMNS.values():
        value = summary[key]
        yield "–" if value is None else f"{value:.4g}" if key == "best_threshold" else f"{value:.3f}"


def _aligned(heads: list[str], rows: list[list[str]]) -> str:
    """Align the first column left and the others right."""
    lines = [heads, *rows]
    first, *rest = (max(map(len, column)) for column in zip(*lines, strict=True))
    return "\n".join(
        "  ".join(
            [line[0].ljust(first), *(cell.rjust(width) for cell, width in zip(line[1:], rest, strict=True))]
        )
        for line in lines
    )


def check_plot(path: str | Path) -> None:
    """Refuse a plot that could not be drawn, before any work is done for it.

    Raises
    ------
    OutputError
        If the extension is none of `PLOT_FORMATS`.
    MissingExtraError
        If matplotlib is not installed.
    """
    if Path(path).suffix.lower() not in PLOT_FORMATS:
        raise OutputError(
            f"{path}: unknown kind of plot; expected a name that ends in {', '.join(PLOT_FORMATS)}"
        )
    if find_spec("matplotlib") is None:
        raise MissingExtraError("--plot", "matplotlib", "plot")


def plot(report: Report, path: str | Path) -> None:
    """Draw precision against recall: curves of scored tracks, points of called ones, a panel per protocol.

    Parameters
    ----------
    report : Report
    path : str or Path
        Its extension, one of `PLOT_FORMATS`, says what is drawn.
    """
    check_plot(path)
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    protocols = list(report.settings["bases"])
    with rc_context({"font.size": 10, "svg.hashsalt": "zflipon"}):
        figure = Figure(figsize=(4.8 * len(protocols), 4.8), layout="constrained")
        for axes, protocol in zip(np.atleast_1d(figure.subplots(1, len(protocols))), protocols, strict=True):
            _panel(axes, protocol, report)
        figure.savefig(path, dpi=200)


def _panel(axes, protocol: str, report: Report) -> None:
    for f1 in (0.2, 0.4, 0.6, 0.8):
        recall = np.geomspace(f1 / (2 - f1), 1, 400)
        axes.plot(recall, f1 * recall / (2 * recall - f1), color="0.85", linewidth=0.8, zorder=0)
        axes.annotate(
            f"F1 {f1}", (1, f1 / (2 - f1)), (2, 0), textcoords="offset points", color="0.5", fontsize=7
        )
    for number, (name, result) in enumerate(report.tracks.items()):
        tally = result.protocols[protocol]
        counts, colour = tally.confusion, f"C{number % 10}"
        point = ([counts.recall], [counts.precision])
        if result.scored:
            _, precision, recall = tally.histogram.curve()
            some_points = _thin(recall)
            label = f"{name} (AP {tally.histogram.average_precision():.3f}; dot: at {report.settings['threshold']:g})"
            axes.plot(recall[some_points], precision[some_points], color=colour, linewidth=1.5, label=label)
            axes.plot(*point, marker=".", markersize=9, color=colour, clip_on=False, zorder=3)
        else:
            marker = "osD^vP*X"[number % 8]
            label = f"{name} (F1 {counts.f1:.3f})"
            axes.plot(*point, marker, color=colour, label=label, clip_on=False, zorder=3)
    title = {
        "genome": "genome: every base",
        "sampled": "sampled: windows 1:{}".format(report.settings["negatives"]),
    }
    axes.set(
        xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision", title=title[protocol], box_aspect=1
    )
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), fontsize=8, frameon=False)


def _thin(recall: np.ndarray, points: int = 2000) -> np.ndarray:
    """Choose points of a curve, evenly by recall: a million would swell an SVG and show nothing more."""
    return np.unique(np.searchsorted(recall, np.linspace(0, 1, points)).clip(0, len(recall) - 1))
