"""What a training run leaves for people to read: tables of figures, the training curve, the checkpoint's card.

No torch is needed here, and matplotlib only where a curve is drawn.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zflipon.errors import some
from zflipon.models.story import Calibration, Story
from zflipon.outputs import whole

CARD, CURVES = "README.md", "training.png"
"""In a checkpoint's folder: the card, and the picture that it shows."""

Figures = Mapping[str, Any]
"""Name of a measure → figure."""

_BASES = {
    "F1": "f1",
    "MCC": "mcc",
    "Precision": "precision",
    "Recall": "recall",
    "token F1": "token_f1",
    "token MCC": "token_mcc",
    "AP": "average_precision",
    "best F1": "best_f1",
    "at": "threshold",
}
_EVERY_BASE = {"AP": "average_precision", **_BASES}
_SEQUENCES = {"MCC": "mcc", "F1": "f1", "Accuracy": "accuracy", "Precision": "precision", "Recall": "recall"}
_MASKED = {"Accuracy": "masked_accuracy"}
_DECIMALS = {"threshold": 3}

_ESTIMATED = "† estimated from a weighted sample of windows, each standing for others like it; no contig is kept apart."


class _Block(NamedTuple):
    """A table of one kind of figures: its title, where a quality has them, and head of a column → measure."""

    kind: str
    title: str
    path: tuple[str, ...]
    columns: Mapping[str, str]


_TEST = (
    _Block(
        "bases",
        "Bases of the test sample{on}: a window with a label to three without, or as the recipe asks for",
        ("test", "sampled"),
        _BASES,
    ),
    _Block(
        "bases",
        "Every base of the genome, as a user meets it{on}",
        ("test", "genome"),
        _EVERY_BASE,
    ),
    _Block("sequence", "Sequences of the test set{on}", ("test", "sampled"), _SEQUENCES),
    _Block("mlm", "Hidden tokens of the test set{on}", ("test", "sampled"), _MASKED),
)

_VALIDATION = (
    _Block(
        "bases",
        "Validation{on}; bases called from a probability of 0.5",
        ("validation",),
        {
            head: f"base_{name}" if head in ("F1", "MCC", "Precision", "Recall") else name
            for head, name in _BASES.items()
            if name != "threshold"
        },
    ),
    _Block("sequence", "Validation{on}", ("validation",), _SEQUENCES),
    _Block("mlm", "Validation{on}; hidden tokens", ("validation",), _MASKED),
)

Row = tuple[str, Sequence[Mapping]]
"""Name of a row, and the qualities that it tells: of several the mean ± standard deviation is told."""


def test_table(results: Mapping[str, Mapping]) -> str:
    """Lay out what models reach on what was kept for the test, as Markdown.

    First the shape of Table 5.3 of Libina & Skvortsova (2025): bases of the sampled windows. Then every base of the
    genome. Sequences and masked tokens have a table of their own.

    Parameters
    ----------
    results : mapping of str to mapping
        Name of a model or run → the quality of its story.

    Returns
    -------
    str
        A missing figure is blank, a column without any is left out; empty where nothing was tested.
    """
    return _tables(_TEST, [(name, [quality]) for name, quality in results.items()])


def folds_table(runs: Sequence[Mapping]) -> str:
    """Lay out the folds of a cross-validation: a row each, and mean ± sample standard deviation.

    Parameters
    ----------
    runs : sequence of mapping
        The quality of each fold's story.

    Returns
    -------
    str
        Markdown with the columns of `test_table`. The mean is of the folds that have a figure; a single one has no
        deviation.
    """
    rows: list[Row] = []
    for number, quality in enumerate(runs, 1):
        on = str(_at(quality, ("test",)).get("on") or "")
        rows.append((f"fold {number}" + (f" ({on})" if on and not on.startswith("fold ") else ""), [quality]))
    return _tables(_TEST, [*rows, ("mean ± sd", runs)] if runs else [], located=False)


def sweep_table(runs: Sequence[tuple[Mapping[str, object], Mapping]]) -> str:
    """Lay out a sweep as Table 5.1 of Libina & Skvortsova (2025): a row for each combination of settings.

    Parameters
    ----------
    runs : sequence of (mapping of str to object, mapping)
        Key, as ``--set`` has it → value, and the quality that the run reached. Runs of the same settings (folds) make
        one row of means ± sample standard deviations.

    Returns
    -------
    str
        Markdown; the highest F1 on the validation set is in bold, all of them where several print alike. Without
        figures of a validation during training, those of every base of the validation contigs are shown.
    """
    groups: dict[str, tuple[Mapping, list[Mapping]]] = {}
    for settings, quality in runs:
        groups.setdefault(json.dumps(settings, default=str), (settings, []))[1].append(quality)
    keys = _short_keys(list(dict.fromkeys(key for settings, _ in runs for key in settings)))
    qualities = [found for _, found in groups.values()]
    title, judged = _judged(qualities)
    columns = [*judged, *_tested(qualities)]
    rows = [[_cell(column.values(found)) for column in columns] for found in qualities]
    if judged:
        _embolden(rows, [np.mean(judged[0].values(found) or [-np.inf]) for found in qualities])
        title += f"; the highest {judged[0].head} is in bold"
    heads = [*keys.values(), *(column.head for column in columns)]
    chosen = [[_value(settings.get(key)) for key in keys] for settings, _ in groups.values()]
    table = _markdown(heads, [one + other for one, other in zip(chosen, rows, strict=True)], left=len(keys))
    footnote = _ESTIMATED if any("†" in head for head in heads) else ""
    return "\n\n".join(filter(None, [title and f"{title}.", table, footnote]))


class _Column(NamedTuple):
    """A column of a sweep: the first of `names` that a quality has at `path`."""

    head: str
    path: tuple[str, ...]
    names: tuple[str, ...]

    def values(self, qualities: Iterable[Mapping]) -> list[float]:
        """Return the figures there are."""
        found = (_at(quality, self.path) for quality in qualities)
        return _numbers(next((each[name] for name in self.names if name in each), None) for each in found)


def _judged(qualities: Sequence[Sequence[Mapping]]) -> tuple[str, list[_Column]]:
    """Return what the figures that choose are, and their columns."""
    every = [quality for found in qualities for quality in found]
    during = [
        _Column("F1", ("validation",), ("base_f1", "f1")),
        _Column("MCC", ("validation",), ("base_mcc", "mcc")),
        _Column("Precision", ("validation",), ("base_precision",)),
        _Column("Accuracy", ("validation",), ("accuracy", "masked_accuracy")),
    ]
    columns = [column for column in during if column.values(every)]
    if columns:
        on = _shared(_at(quality, ("validation",)).get("on") for quality in every)
        return f"Validation set{on and f' ({on})'}", columns
    # no stage evaluated; in no table do both kinds stand side by side
    after = [_Column(head, (), (_BASES[head],)) for head in ("F1", "MCC", "Precision")]
    columns = [column for column in after if column.values(every)]
    on = _shared(_contigs(quality) for quality in every)
    title = f"Every base of what validates{on and f' ({on})'}, at each run's best threshold"
    return (title if columns else ""), columns


def _tested(qualities: Sequence[Sequence[Mapping]]) -> list[_Column]:
    every = [quality for found in qualities for quality in found]
    mark = " †" if any(_at(quality, ("test", "genome")).get("estimated") for quality in every) else ""
    columns = [
        _Column("test F1", ("test", "sampled"), ("f1",)),
        _Column("test MCC", ("test", "sampled"), ("mcc",)),
        _Column("test Precision", ("test", "sampled"), ("precision",)),
        _Column("test Accuracy", ("test", "sampled"), ("accuracy", "masked_accuracy")),
        _Column(f"genome AP{mark}", ("test", "genome"), ("average_precision",)),
        _Column(f"genome F1{mark}", ("test", "genome"), ("f1",)),
    ]
    return [column for column in columns if column.values(every)]


def _embolden(rows: list[list[str]], judged: Sequence[float]) -> None:
    """Put the first figure of the best rows in bold."""
    for row, value in zip(rows, judged, strict=True):
        if np.isfinite(value) and round(value, 4) == round(max(judged), 4):
            row[0] = f"**{row[0]}**"


def _short_keys(keys: Sequence[str]) -> dict[str, str]:
    """Name each key by its last part, or in full where others end alike."""
    last = [key.rpartition(".")[2] for key in keys]
    return {key: short if last.count(short) == 1 else key for key, short in zip(keys, last, strict=True)}


def _tables(blocks: Iterable[_Block], rows: Sequence[Row], located: bool = True) -> str:
    """Lay out every block that has figures, by default with what they are of, and the footnote if one asks for it."""
    parts = []
    for block in blocks:
        chosen = [(name, qualities) for name, qualities in rows if _kind(qualities[0]) == block.kind]
        found = [(name, [_at(quality, block.path) for quality in qualities]) for name, qualities in chosen]
        columns = {
            head: name
            for head, name in block.columns.items()
            if any(_numbers(each.get(name) for each in figures) for _, figures in found)
        }
        if columns:
            on = _judged_on(chosen, block.path) if located else ""
            title = block.title.replace("{on}", on and f" ({on})") + _called(block, found)
            cells = [_row(name, figures, columns) for name, figures in found]
            parts.append(f"{title}:\n\n{_markdown(['', *columns], cells)}")
    if any("†" in part for part in parts):
        parts.append(_ESTIMATED)
    return "\n\n".join(parts)


def _judged_on(rows: Sequence[Row], path: Sequence[str]) -> str:
    """Name what the figures at a path are of, as the table around them tells it."""
    having = [quality for _, qualities in rows for quality in qualities if path and _at(quality, path)]
    return _shared(_at(quality, path[:1]).get("on") for quality in having)


def _called(block: _Block, rows: Sequence[tuple[str, Sequence[Figures]]]) -> str:
    """Say from which probability the bases of a table are called."""
    told = ["threshold" in each for _, figures in rows for each in figures if each]
    if any(told):
        return "; called from the probability 'at'" + ("" if all(told) else ", or 0.5 where there is none")
    # the published figures are of bases that are likelier labelled than not
    return (
        "; called from a probability of 0.5"
        if block.path == ("test", "sampled") and block.kind == "bases"
        else ""
    )


def _row(name: str, figures: Sequence[Figures], columns: Mapping[str, str]) -> list[str]:
    mark = " †" if any(each.get("estimated") for each in figures) else ""
    return [
        name + mark,
        *(
            _cell(_numbers(each.get(measure) for each in figures), _DECIMALS.get(measure, 4))
            for measure in columns.values()
        ),
    ]


def _cell(values: Sequence[float], decimals: int = 4) -> str:
    """Write a figure, or mean ± sample standard deviation of several; nothing where there is none."""
    if not values:
        return ""
    mean = f"{np.mean(values):.{decimals}f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.{decimals}f}"


def _numbers(values: Iterable[object]) -> list[float]:
    """Return what is a number: precision, for one, is none where nothing is called."""
    return [float(each) for each in values if isinstance(each, int | float) and math.isfinite(each)]


def _at(quality: Mapping, path: Sequence[str]) -> Figures:
    for key in path:
        quality = quality.get(key) or {}
    return quality


def _kind(quality: Mapping) -> str:
    """Tell what was judged, from the measures that only one kind has."""
    measures = {*_at(quality, ("test", "sampled")), *_at(quality, ("validation",))}
    return "mlm" if "masked_accuracy" in measures else "sequence" if "accuracy" in measures else "bases"


def _shared(told: Iterable[object]) -> str:
    """Name what several were judged on, each once."""
    return "; ".join(dict.fromkeys(str(each) for each in told if each))


def _contigs(quality: Mapping) -> str:
    """Name what the figures of every base are of: contigs, or words for windows."""
    contigs = quality.get("contigs") or ""
    return contigs if isinstance(contigs, str) else some(contigs, 30)


def _markdown(heads: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Lay out a Markdown table that also reads well in a console; the first `left` columns are of words."""
    lines = [[cell.replace("|", r"\|") for cell in line] for line in (heads, *rows)]
    widths = [max(4, *map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * width if i < left else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    lines.insert(1, rule)
    return "\n".join(
        "| "
        + " | ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        + " |"
        for line in lines
    )


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
        with whole(png) as part:
            figure.savefig(part, dpi=200)
    return True


def _read_stages(folders: Sequence[Path], monitors: Sequence[str]) -> list[_Stage]:
    """Read the stages that left something, and set them side by side."""
    read: list[_Stage] = []
    for number, folder in enumerate(map(Path, folders)):
        history = [row for row in _rows(folder / "history.jsonl") if _numbers([row.get("loss")])]
        validation = [row for row in _rows(folder / "validation.jsonl") if _numbers(map(row.get, _CURVE))]
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


def _rows(path: Path) -> list[dict]:
    """Read a file of JSON lines up to a line that a kill cut short; a missing file has none."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            break
        if isinstance(row, dict) and "step" in row:
            rows.append(row)
    return rows


def _points(stage: _Stage, rows: Iterable[dict], name: str) -> tuple[list[int], list[float]]:
    """Return steps and figures of a measure, where it is a number."""
    found = [(stage.start + row["step"], row[name]) for row in rows if _numbers([row.get(name)])]
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


_FRONT = """---
library_name: zflipon
tags:
- dna
- genomics
- z-dna
- {family}
---"""

_GIST = {
    "base": "Probability of lying in Z-DNA for each base of a DNA sequence.",
    "token": "Probability of lying in Z-DNA for each token of a DNA sequence, and so for each of the token's bases.",
    "sequence": "Probability that a whole DNA sequence has the label that it was trained for.",
    "mlm": "An encoder of DNA, trained to tell tokens that are hidden from it: a start for other training.",
    None: "A bare encoder of DNA: a start for training.",
}

_ANNOTATE = """```bash
zflipon annotate GENOME.fa -o zdna.bw --model FOLDER
```

FOLDER is the folder that this file lies in. The extension of the output picks its kind (`.bw`, `.bedgraph`, `.bed`);
window, margin, calibration and threshold are taken from the checkpoint."""

_SEQUENCE = """```python
import numpy as np
from zflipon.models import load
from zflipon.predict import Predictor

sequences = ["GCGCGCGCGCGCATATTTGACA", "ATTTACCAGATTTACAGATTTA"]  # upper case
predictor = Predictor(load("FOLDER", ("sequence",)), objectives=("sequence",))
for index, _, logits in predictor.logits(sequences):
    print(sequences[index], 1 / (1 + np.exp(logits[0] - logits[1])))  # the probability of label 1
```

FOLDER is the folder that this file lies in. It calls no bases, so `zflipon annotate` does not take it; its encoder may
start another training."""

_CONTINUE = """A recipe of `zflipon train` starts from it with

```toml
[model]
checkpoint = "FOLDER"
```"""


def write_card(folder: Path, name: str, story: Story, parameters: int, curves: bool) -> None:
    """Write the model card of a checkpoint: Markdown under the front matter that the Hugging Face Hub reads.

    Parameters
    ----------
    folder : Path
        Of the checkpoint; gets a `CARD`.
    name : str
    story : Story
        All figures are from here; what it does not tell is left out.
    parameters : int
        Number of weights.
    curves : bool
        Whether `CURVES` lies in the folder.

    Raises
    ------
    OutputError
        If the card cannot be written.
    """
    sections = {
        "What it is": _what(story, parameters),
        "How to use it": _use(story),
        "How and on what it was trained": _training(story, curves),
        "How good it is": _goodness(name, story),
        "Limits": _limits(story),
        "Versions": "\n".join(
            f"- {package} {version}" for package, version in story.versions.items() if version
        ),
    }
    told = [f"## {head}\n\n{text}" for head, text in sections.items() if text]
    lead = [_FRONT.format(family=story.family), f"# {name}", _GIST[story.objective]]
    if story.training.get("description"):
        lead.append(story.training["description"])
    with whole(Path(folder) / CARD) as part:
        part.write_text("\n\n".join([*lead, *told]) + "\n", encoding="utf-8")


def _what(story: Story, parameters: int) -> str:
    facts = {
        "family": story.family,
        "objective": story.objective,
        "parameters": f"{parameters:,}",
        "window": f"{story.window:,} bases",
        "tokens": story.max_token_length and f"at most {story.max_token_length} bases",
    }
    if story.objective in ("base", "token"):
        core = story.window - 2 * story.margin
        facts["window"] += f", of which the middle {core:,} are decided (margin {story.margin:,})"
        facts["called"] = f"bases of a probability of at least {story.threshold:g}"
        facts["calibration"] = _calibration(story.calibration)
    if story.objective == "token":
        least = {">=": "at least", ">": "more than"}[story.label_comparison]
        facts["label of a token"] = (
            f"Z-DNA where {least} {story.label_threshold:g} of its bases are labelled "
            f"(`{story.label_comparison}`)"
        )
    return _bullets(facts)


def _bullets(facts: Mapping[str, object]) -> str:
    return "\n".join(f"- {name}: {text}" for name, text in facts.items() if text)


def _calibration(calibration: Calibration) -> str:
    if calibration == Calibration():
        return ""
    line = f"log-odds × {calibration.scale:.4g} {'−' if calibration.bias < 0 else '+'} {abs(calibration.bias):.4g}"
    return line + (", bent" if calibration.bend else "")


def _use(story: Story) -> str:
    if story.objective in ("base", "token"):
        return _ANNOTATE
    return f"{_SEQUENCE}\n\n{_CONTINUE}" if story.objective == "sequence" else _CONTINUE


def _training(story: Story, curves: bool) -> str:
    told = story.training
    facts = {
        "recipe": told.get("recipe"),
        "trained on": _trained_on(told),
        "validated on": some(told.get("validation_contigs") or (), 30),
        "tested on": some(told.get("test_contigs") or (), 30),
        "kept apart": told.get("split") == "stratified" and "windows at random, alike in labels and contigs",
    }
    facts = {name: text for name, text in facts.items() if text != "none"}
    stages = list(_stages(told.get("stages") or ()))
    parts = [_bullets(facts)]
    if stages:
        changes = ", each with what differs from the one before" if len(stages) > 1 else ""
        parts.append(f"Stages{changes}:\n\n" + "\n".join(stages))
    if curves:
        parts.append(f"![Training loss and validation measures against steps]({CURVES})")
    return "\n\n".join(filter(None, parts))


def _trained_on(told: Mapping) -> str:
    if told.get("sequences"):
        count = told.get("labels")
        return some(told["sequences"], 30) + (f"; {count:,} training sequences of label 1" if count else "")
    counts = [
        f"{told[name]:,} {what}"
        for name, what in (("bases", "bases"), ("labels", "labelled regions"))
        if told.get(name)
    ]
    return "; ".join(filter(None, [told.get("contigs") and some(told["contigs"], 30), ", ".join(counts)]))


def _stages(stages: Iterable[Mapping]) -> Iterator[str]:
    """Tell the first stage in full, but for what it leaves unset, and what each later one has otherwise."""
    before: dict[str, str] = {}
    for number, stage in enumerate(stages, 1):
        idle = {"name", *_idle(stage)}
        now = dict(_settings({key: value for key, value in stage.items() if key not in idle}))
        now = {key: value for key, value in now.items() if value}
        told = [
            f"`{key}` {now.get(key, 'unset')}" + (f" (was {before[key]})" if key in before else "")
            for key in dict.fromkeys([*now, *before])
            if now.get(key) != before.get(key) and key not in idle
        ]
        yield f"{number}. **{stage.get('name', f'stage {number}')}**: {', '.join(told) or 'as before'}"
        before = now


def _idle(stage: Mapping) -> Iterator[str]:
    """Yield settings that a stage has but does not use: a reader would take them for what was done."""
    if stage.get("epochs"):
        yield "steps"
    if stage.get("objective") != "mlm":
        yield "masked"
    if stage.get("objective") != "token":
        yield from ("label_threshold", "label_comparison")


def _settings(table: Mapping, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield each setting and its value in words; those of a table within under its name."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{prefix}{key}.")
        else:
            yield prefix + key, _value(value)


def _value(value: object) -> str:
    """Write a setting as a recipe has it; what is not set is empty."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]" if value else ""
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _goodness(name: str, story: Story) -> str:
    quality = story.quality
    tested = test_table({name: quality})
    sampled = _kind(quality) == "bases" and _at(quality, ("test", "sampled"))
    parts = [
        tested,
        "**The sample flatters every model**: windows drawn at random hardly ever hold Z-forming sequence that is not "
        "labelled, and genomes are full of it. What a user meets is every base of the genome (see zflipon's README)."
        if sampled
        else "",
        _tables(_VALIDATION, [(name, [quality])]),
        _validated(name, quality),
        _expected(story),
    ]
    return "\n\n".join(filter(None, parts))


def _validated(name: str, quality: Mapping) -> str:
    """Tell what every base of the validation contigs gave, where calibration and threshold were chosen."""
    on = _contigs(quality)
    figures = {**quality, "estimated": _is_estimated(quality)}
    title = f"Every base of what validates{on and f' ({on})'}, at the threshold of the highest F1"
    table = _tables([_Block(_kind(quality), title, (), _EVERY_BASE)], [(name, [figures])])
    note = quality.get("note")
    return table and table + (f"\n\nNote: {note}." if note else "")


def _is_estimated(quality: Mapping) -> bool:
    """Tell whether no contig was kept apart, so that words stand where their names would."""
    return bool(quality.get("estimated") or isinstance(quality.get("contigs"), str))


def _expected(story: Story) -> str:
    """Tell precision and recall at the thresholds that a user may ask for."""
    at = story.quality.get("at") or {}
    rows = [[threshold, *(_cell(_numbers([each]), 3) for each in pair)] for threshold, pair in at.items()]
    if not rows:
        return ""
    on = _contigs(story.quality)
    estimated = ", estimated from a sample of windows" if _is_estimated(story.quality) else ""
    where = f"On every base of what validates{on and f' ({on})'}{estimated}"
    table = _markdown(["called from", "Precision", "Recall"], rows)
    return (
        f"{where}, by the threshold that a base is called from (by default {story.threshold:g}):\n\n{table}"
    )


def _limits(story: Story) -> str:
    judged = [
        "It is as good as its labels: what they lack counts as absent, though it may form elsewhere or under other "
        "conditions, and what one assay or cell line shows is not the whole truth.",
        "Whether a sequence flips in a given cell depends on transcription and chromatin; it knows sequence alone."
        if story.objective in ("base", "token")
        else "",
    ]
    anyone = "Other organisms and assemblies than the one that it was trained on are untested."
    parts = [*(judged if story.objective in ("base", "token", "sequence") else []), anyone]
    return "\n".join(f"- {text}" for text in parts if text)
