"""The training curve: loss and validation measures against optimizer steps, over all stages.

Reads the log files of the stages. Colours, style and saving of figures are in `zflipon.plots`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from zflipon.plots import (
    BLACK,
    BLUE,
    GREEN,
    GRID_COLOUR,
    NEUTRAL_COLOUR,
    ORANGE,
    PINK,
    VERMILION,
    figure_style,
    new_figure,
    save_figure,
)
from zflipon.training.history import HISTORY, VALIDATION, best_row, read_rows
from zflipon.training.result_tables import finite_numbers

CURVES = "training.png"
"""Name of the figure in a checkpoint's folder."""

_WIDTH, _HEIGHT, _HEIGHT_LOSS_ONLY = 8.4, 6.0, 3.4
_LETTERS_ACROSS = 90
"""Letters of a stage's name that fit the width of the figure."""

_LOG_SCALE_RATIO = 10
"""Losses that span more than this factor are drawn on a logarithmic axis."""


class _Line(NamedTuple):
    """Label and style of a measure. Markers and line styles distinguish measures without colour."""

    label: str
    colour: str
    style: str
    marker: str


_LINES = {
    "average_precision": _Line("AP, bases", BLACK, "-", "o"),
    "best_f1": _Line("best F1, bases", BLUE, ":", "P"),
    "base_f1": _Line("F1, bases", BLUE, "-", "s"),
    "base_mcc": _Line("MCC, bases", VERMILION, "-", "^"),
    "base_precision": _Line("precision, bases", GREEN, "-", "D"),
    "base_recall": _Line("recall, bases", PINK, "-", "v"),
    "token_f1": _Line("F1, tokens", BLUE, "--", "s"),
    "token_mcc": _Line("MCC, tokens", VERMILION, "--", "^"),
    "f1": _Line("F1, sequences", BLUE, "-", "s"),
    "mcc": _Line("MCC, sequences", VERMILION, "-", "^"),
    "precision": _Line("precision, sequences", GREEN, "-", "D"),
    "recall": _Line("recall, sequences", PINK, "-", "v"),
    "accuracy": _Line("accuracy, sequences", ORANGE, "-", "X"),
    "masked_accuracy": _Line("accuracy, masked tokens", ORANGE, "--", "X"),
}
"""Measures that are drawn, in the order of the legend. The validation loss, which has another scale, is not."""

_DEFAULT_MEASURES = ("token_f1", "mcc", "masked_accuracy", "average_precision")
"""If the caller names no measure, the first of these that a stage has is marked."""


class StageCurve(NamedTuple):
    """Log of one stage, with its position on the common axis of steps.

    Attributes
    ----------
    name : str
    start, end : int
        Steps of all stages before, and with this one.
    history, validation : list of dict
        Rows of the log files.
    measure : str
        Measure that chose the weights.
    """

    name: str
    start: int
    end: int
    history: list[dict]
    validation: list[dict]
    measure: str

    def points(self, rows: Iterable[dict], name: str) -> tuple[list[int], list[float]]:
        """Return steps and values of a measure, without missing values."""
        pairs = [(self.start + row["step"], row[name]) for row in rows if finite_numbers([row.get(name)])]
        return [step for step, _ in pairs], [value for _, value in pairs]


def plot_curves(stages: Sequence[Path], png: Path, measures: Sequence[str] = ()) -> bool:
    """Draw the loss and the validation measures of all stages.

    Parameters
    ----------
    stages : sequence of Path
        Folders, named ``NUMBER-NAME``, with `HISTORY` and `VALIDATION`; either file may be missing or empty.
    png : Path
    measures : sequence of str
        Measure of each stage whose best value is marked. Default: F1 of tokens, MCC of sequences, accuracy of masked
        tokens, or average precision.

    Returns
    -------
    bool
        Whether the figure was written. It is not without matplotlib, nor if the stages logged nothing.

    Raises
    ------
    OutputError
        If the figure cannot be written.
    """
    curves = read_curves(stages, measures)
    if find_spec("matplotlib") is None or not curves:
        return False
    validated = any(curve.validation for curve in curves)
    with figure_style():
        figure = new_figure(_WIDTH, _HEIGHT if validated else _HEIGHT_LOSS_ONLY)
        panels = list(figure.subplots(1 + validated, 1, sharex=True, squeeze=False)[:, 0])
        _draw_loss(panels[0], curves)
        if validated:
            _draw_validation(panels[1], curves)
        _draw_stages(panels, curves)
        save_figure(figure, png)
    return True


def read_curves(folders: Sequence[Path], measures: Sequence[str] = ()) -> list[StageCurve]:
    """Read the logs of the stages that logged anything; parameters are those of `plot_curves`."""
    curves: list[StageCurve] = []
    for number, folder in enumerate(map(Path, folders)):
        history = [row for row in read_rows(folder / HISTORY) if finite_numbers([row.get("loss")])]
        validation = [row for row in read_rows(folder / VALIDATION) if finite_numbers(map(row.get, _LINES))]
        if not history and not validation:
            continue
        start = curves[-1].end if curves else 0
        end = start + max(row["step"] for row in [*history, *validation])
        present = {name for row in validation for name in row}
        measure = measures[number] if number < len(measures) else ""
        measure = measure or next((name for name in _DEFAULT_MEASURES if name in present), "")
        name = re.sub(r"^\d+-", "", folder.name)
        curves.append(StageCurve(name, start, end, history, validation, measure))
    return curves


def _draw_loss(axes: Any, curves: Sequence[StageCurve]) -> None:
    losses = [row["loss"] for curve in curves for row in curve.history]
    # stages can have different losses, so that no line connects them
    for curve in (curve for curve in curves if curve.history):  # an empty line would widen the margins
        marker = "o" if len(curve.history) == 1 else ""
        steps, values = curve.points(curve.history, "loss")
        axes.plot(steps, values, color=BLACK, linewidth=1.2, marker=marker, markersize=3, clip_on=False)
    if losses and min(losses) > 0 and max(losses) > _LOG_SCALE_RATIO * min(losses):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        # a range of less than a decade may contain no power of ten
        axes.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
    axes.set_ylabel("training loss\n(cross-entropy, nats)")
    axes.grid(axis="y", color=GRID_COLOUR, linewidth=0.6)


def _draw_validation(axes: Any, curves: Sequence[StageCurve]) -> None:
    for name, line in _LINES.items():
        # open markers distinguish a dashed line from a full line of the same colour in small print
        face = "white" if line.style == "--" else line.colour
        label = line.label
        for curve in curves:
            steps, values = curve.points(curve.validation, name)
            if values:
                axes.plot(
                    steps, values, color=line.colour, linestyle=line.style, marker=line.marker, markersize=4,
                    markerfacecolor=face, linewidth=1.2, clip_on=False, label=label,
                )  # fmt: skip
                label = None
    _mark_best(axes, curves)
    axes.set_ylabel("validation measure\n(no unit; 1 is perfect)")
    axes.grid(axis="y", color=GRID_COLOUR, linewidth=0.6)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=8, frameon=False)


def _mark_best(axes: Any, curves: Sequence[StageCurve]) -> None:
    """Draw a circle around the evaluation that chose the weights of each stage, and write its value above."""
    label = "best evaluation (value above)"
    for curve in curves:
        rows = [row for row in curve.validation if finite_numbers([row.get(curve.measure)])]
        best = best_row(rows, curve.measure) if curve.measure in _LINES else None
        if best is None:
            continue
        step, value = curve.start + best["step"], best[curve.measure]
        axes.plot(
            step, value, "o", linestyle="none", label=label, clip_on=False, zorder=4, markersize=11,
            markeredgewidth=1.4, markerfacecolor="none", markeredgecolor=NEUTRAL_COLOUR,
        )  # fmt: skip
        axes.annotate(
            f"{value:.3f}", (step, 1), (0, 3), xycoords=("data", "axes fraction"), textcoords="offset points",
            ha="center", fontsize=8, rotation=_text_rotation(curves), annotation_clip=False,
        )  # fmt: skip
        label = None


def _draw_stages(panels: Sequence[Any], curves: Sequence[StageCurve]) -> None:
    """Draw a vertical line at the start of each stage, with its name above."""
    for curve in curves:
        for axes in panels if curve.start else ():
            axes.axvline(curve.start, color=NEUTRAL_COLOUR, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
        panels[0].annotate(
            curve.name, (curve.start, 1), (3, 3), xycoords=("data", "axes fraction"), fontsize=9,
            textcoords="offset points", rotation=_text_rotation(curves), color=BLACK, annotation_clip=False,
        )  # fmt: skip
    panels[-1].set_xlim(0, curves[-1].end)
    panels[-1].set_xlabel("optimizer steps" + (", over all stages" if len(curves) > 1 else ""))


def _text_rotation(curves: Sequence[StageCurve]) -> int:
    """Return 90 degrees if a stage is too short for its name, else 0."""
    total = curves[-1].end
    too_short = any(len(curve.name) * total > _LETTERS_ACROSS * (curve.end - curve.start) for curve in curves)
    return 90 if too_short else 0
