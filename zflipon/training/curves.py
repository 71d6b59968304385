"""The training curve: loss and validation measures against steps, one stage after the other.

matplotlib is needed where a curve is drawn, and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zflipon.tracks.atomic import atomic_file
from zflipon.training.history import HISTORY, VALIDATION, read_rows
from zflipon.training.result_tables import numbers

CURVES = "training.png"
"""In a checkpoint's folder."""


class _Curve(NamedTuple):
    """How a measure is drawn: colours of Okabe & Ito, which colour-blind readers tell apart, and markers for print."""

    label: str
    colour: str
    line: str
    marker: str


_BLUE, _RED, _GREEN, _PURPLE, _ORANGE = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"

_CURVE = {
    "average_precision": _Curve("AP, bases", "#000000", "-", "o"),
    "best_f1": _Curve("best F1, bases", _BLUE, ":", "P"),
    "base_f1": _Curve("F1, bases", _BLUE, "-", "s"),
    "base_mcc": _Curve("MCC, bases", _RED, "-", "^"),
    "base_precision": _Curve("precision, bases", _GREEN, "-", "D"),
    "base_recall": _Curve("recall, bases", _PURPLE, "-", "v"),
    "token_f1": _Curve("F1, tokens", _BLUE, "--", "s"),
    "token_mcc": _Curve("MCC, tokens", _RED, "--", "^"),
    "f1": _Curve("F1, sequences", _BLUE, "-", "s"),
    "mcc": _Curve("MCC, sequences", _RED, "-", "^"),
    "precision": _Curve("precision, sequences", _GREEN, "-", "D"),
    "recall": _Curve("recall, sequences", _PURPLE, "-", "v"),
    "accuracy": _Curve("accuracy, sequences", _ORANGE, "-", "X"),
    "masked_accuracy": _Curve("accuracy, hidden tokens", _ORANGE, "--", "X"),
}

_CHOOSING = ("token_f1", "mcc", "masked_accuracy", "average_precision")
"""Measures that choose weights where the caller does not say: the first that a stage has."""


class _Stage(NamedTuple):
    """What a stage left, with its place on the common axis of steps."""

    name: str
    start: int
    end: int
    history: list[dict]
    validation: list[dict]
    monitor: str


def plot_curves(stages: Sequence[Path], png: Path, monitors: Sequence[str] = ()) -> bool:
    """Draw the loss and the validation measures of all stages, one after the other.

    Parameters
    ----------
    stages : sequence of Path
        Folders, named ``NUMBER-NAME``, with ``history.jsonl`` and ``validation.jsonl``; either may be missing or empty.
    png : Path
    monitors : sequence of str
        For each stage the measure whose highest value is marked. Where nothing is said: F1 of tokens, MCC of
        sequences, accuracy of hidden tokens, or average precision.

    Returns
    -------
    bool
        Whether there is a picture: not without matplotlib, nor where the stages left no figures.

    Raises
    ------
    OutputError
        If the picture cannot be written.
    """
    read = _read_stages(stages, monitors)
    if find_spec("matplotlib") is None or not read:
        return False
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    judged = any(stage.validation for stage in read)
    with rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(8.4, 6.0 if judged else 3.4), layout="constrained")
        FigureCanvasAgg(figure)  # draws on any machine, and keeps pyplot's state out of it
        panels = figure.subplots(1 + judged, 1, sharex=True, squeeze=False)[:, 0]
        _draw_loss(panels[0], read)
        if judged:
            _draw_validation(panels[1], read)
        _draw_borders(panels, read)
        with atomic_file(png) as part:
            figure.savefig(part, dpi=200)
    return True


def _read_stages(folders: Sequence[Path], monitors: Sequence[str]) -> list[_Stage]:
    """Read the stages that left something, and set them side by side."""
    read: list[_Stage] = []
    for number, folder in enumerate(map(Path, folders)):
        history = [row for row in read_rows(folder / HISTORY) if numbers([row.get("loss")])]
        validation = [row for row in read_rows(folder / VALIDATION) if numbers(map(row.get, _CURVE))]
        if not history and not validation:
            continue
        start = read[-1].end if read else 0
        end = start + max(row["step"] for row in [*history, *validation])
        present = {name for row in validation for name in row}
        monitor = monitors[number] if number < len(monitors) else ""
        monitor = monitor or next((name for name in _CHOOSING if name in present), "")
        name = re.sub(r"^\d+-", "", folder.name)
        read.append(_Stage(name, start, end, history, validation, monitor))
    return read


def _points(stage: _Stage, rows: Iterable[dict], name: str) -> tuple[list[int], list[float]]:
    """Return steps and figures of a measure, where it is a number."""
    found = [(stage.start + row["step"], row[name]) for row in rows if numbers([row.get(name)])]
    return [step for step, _ in found], [value for _, value in found]


def _draw_loss(axes, stages: Sequence[_Stage]) -> None:
    values = [row["loss"] for stage in stages for row in stage.history]
    # the losses of two stages may be of different things: no line joins them
    for stage in (stage for stage in stages if stage.history):  # an empty line would widen the margins
        marker = "o" if len(stage.history) == 1 else ""
        points = _points(stage, stage.history, "loss")
        axes.plot(*points, color="#000000", linewidth=1.2, marker=marker, markersize=3, clip_on=False)
    if values and min(values) > 0 and max(values) > 10 * min(values):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        # less than a decade may hold no power of ten
        axes.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
    axes.set_ylabel("training loss\n(cross-entropy, nats)")
    axes.grid(axis="y", color="0.9", linewidth=0.6)


def _draw_validation(axes, stages: Sequence[_Stage]) -> None:
    for name, (label, colour, line, marker) in _CURVE.items():
        style = {
            "color": colour,
            "linestyle": line,
            "marker": marker,
            "markersize": 4,
            "linewidth": 1.2,
            "clip_on": False,
        }
        if line == "--":  # told from the full line of the same colour in small print too
            style["markerfacecolor"] = "white"
        for steps, values in (_points(stage, stage.validation, name) for stage in stages):
            if values:
                axes.plot(steps, values, **style, label=label)
                label = None
    _mark_best(axes, stages)
    axes.set_ylabel("validation measure\n(no unit; 1 is perfect)")
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=8, frameon=False)


def _mark_best(axes, stages: Sequence[_Stage]) -> None:
    """Ring the evaluation of each stage whose weights were kept, the first of the highest, and write it above."""
    label = "best evaluation (value above)"
    ring = {"markersize": 11, "markeredgewidth": 1.4, "markerfacecolor": "none", "markeredgecolor": "0.25"}
    for stage in stages:
        steps, values = _points(stage, stage.validation, stage.monitor)
        if not values:
            continue
        at = int(np.argmax(values))
        axes.plot(steps[at], values[at], "o", linestyle="none", label=label, clip_on=False, zorder=4, **ring)
        axes.annotate(
            f"{values[at]:.3f}",
            (steps[at], 1),
            (0, 3),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            rotation=_turned(stages),
            annotation_clip=False,
        )
        label = None


def _draw_borders(panels: Sequence, stages: Sequence[_Stage]) -> None:
    """Draw a line where a stage begins, with its name above."""
    for stage in stages:
        for axes in panels if stage.start else ():
            axes.axvline(stage.start, color="0.55", linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
        panels[0].annotate(
            stage.name,
            (stage.start, 1),
            (3, 3),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            rotation=_turned(stages),
            fontsize=9,
            color="0.25",
            annotation_clip=False,
        )
    panels[-1].set_xlim(0, stages[-1].end)
    panels[-1].set_xlabel("optimizer steps" + (", over all stages" if len(stages) > 1 else ""))


def _turned(stages: Sequence[_Stage]) -> int:
    """Return the degrees by which words are turned: upright where a stage is too short for its name."""
    total = stages[-1].end  # a letter takes about a ninetieth of the width
    return 90 if any(len(stage.name) * total > 90 * (stage.end - stage.start) for stage in stages) else 0
