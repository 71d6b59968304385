"""Tables of what runs reached, in Markdown: the paper's tables 5.1 and 5.3, every base of a genome, folds."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from zflipon.errors import format_names

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
EVERY_BASE = {"AP": "average_precision", **_BASES}
_SEQUENCES = {"MCC": "mcc", "F1": "f1", "Accuracy": "accuracy", "Precision": "precision", "Recall": "recall"}
_MASKED = {"Accuracy": "masked_accuracy"}
_DECIMALS = {"threshold": 3}

_ESTIMATED = "† estimated from a weighted sample of windows, each standing for others like it; no contig is kept apart."


class Block(NamedTuple):
    """A table of one kind of figures: its title, where a quality has them, and head of a column → measure."""

    kind: str
    title: str
    path: tuple[str, ...]
    columns: Mapping[str, str]


_TEST = (
    Block(
        "bases",
        "Bases of the test sample{on}: a window with a label to three without, or as the recipe asks for",
        ("test", "sampled"),
        _BASES,
    ),
    Block(
        "bases",
        "Every base of the genome, as a user meets it{on}",
        ("test", "genome"),
        EVERY_BASE,
    ),
    Block("sequence", "Sequences of the test set{on}", ("test", "sampled"), _SEQUENCES),
    Block("mlm", "Hidden tokens of the test set{on}", ("test", "sampled"), _MASKED),
)

VALIDATION_BLOCKS = (
    Block(
        "bases",
        "Validation{on}; bases called from a probability of 0.5",
        ("validation",),
        {
            head: f"base_{name}" if head in ("F1", "MCC", "Precision", "Recall") else name
            for head, name in _BASES.items()
            if name != "threshold"
        },
    ),
    Block("sequence", "Validation{on}", ("validation",), _SEQUENCES),
    Block("mlm", "Validation{on}; hidden tokens", ("validation",), _MASKED),
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
    return grouped_tables(_TEST, [(name, [quality]) for name, quality in results.items()])


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
        on = str(figures_at(quality, ("test",)).get("on") or "")
        rows.append((f"fold {number}" + (f" ({on})" if on and not on.startswith("fold ") else ""), [quality]))
    return grouped_tables(_TEST, [*rows, ("mean ± sd", runs)] if runs else [], located=False)


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
    rows = [[cell_of(column.values(found)) for column in columns] for found in qualities]
    if judged:
        _embolden(rows, [np.mean(judged[0].values(found) or [-np.inf]) for found in qualities])
        title += f"; the highest {judged[0].head} is in bold"
    heads = [*keys.values(), *(column.head for column in columns)]
    chosen = [[spoken(settings.get(key)) for key in keys] for settings, _ in groups.values()]
    table = markdown(heads, [one + other for one, other in zip(chosen, rows, strict=True)], left=len(keys))
    footnote = _ESTIMATED if any("†" in head for head in heads) else ""
    return "\n\n".join(filter(None, [title and f"{title}.", table, footnote]))


class _Column(NamedTuple):
    """A column of a sweep: the first of `names` that a quality has at `path`."""

    head: str
    path: tuple[str, ...]
    names: tuple[str, ...]

    def values(self, qualities: Iterable[Mapping]) -> list[float]:
        """Return the figures there are."""
        found = (figures_at(quality, self.path) for quality in qualities)
        return numbers(next((each[name] for name in self.names if name in each), None) for each in found)


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
        on = _shared(figures_at(quality, ("validation",)).get("on") for quality in every)
        return f"Validation set{on and f' ({on})'}", columns
    # no stage evaluated; in no table do both kinds stand side by side
    after = [_Column(head, (), (_BASES[head],)) for head in ("F1", "MCC", "Precision")]
    columns = [column for column in after if column.values(every)]
    on = _shared(contigs_of(quality) for quality in every)
    title = f"Every base of what validates{on and f' ({on})'}, at each run's best threshold"
    return (title if columns else ""), columns


def _tested(qualities: Sequence[Sequence[Mapping]]) -> list[_Column]:
    every = [quality for found in qualities for quality in found]
    mark = " †" if any(figures_at(quality, ("test", "genome")).get("estimated") for quality in every) else ""
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


def grouped_tables(blocks: Iterable[Block], rows: Sequence[Row], located: bool = True) -> str:
    """Lay out every block that has figures, by default with what they are of, and the footnote if one asks for it."""
    parts = []
    for block in blocks:
        chosen = [(name, qualities) for name, qualities in rows if kind_of(qualities[0]) == block.kind]
        found = [
            (name, [figures_at(quality, block.path) for quality in qualities]) for name, qualities in chosen
        ]
        columns = {
            head: name
            for head, name in block.columns.items()
            if any(numbers(each.get(name) for each in figures) for _, figures in found)
        }
        if columns:
            on = _judged_on(chosen, block.path) if located else ""
            title = block.title.replace("{on}", on and f" ({on})") + _called(block, found)
            cells = [_row(name, figures, columns) for name, figures in found]
            parts.append(f"{title}:\n\n{markdown(['', *columns], cells)}")
    if any("†" in part for part in parts):
        parts.append(_ESTIMATED)
    return "\n\n".join(parts)


def _judged_on(rows: Sequence[Row], path: Sequence[str]) -> str:
    """Name what the figures at a path are of, as the table around them tells it."""
    having = [quality for _, qualities in rows for quality in qualities if path and figures_at(quality, path)]
    return _shared(figures_at(quality, path[:1]).get("on") for quality in having)


def _called(block: Block, rows: Sequence[tuple[str, Sequence[Figures]]]) -> str:
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
            cell_of(numbers(each.get(measure) for each in figures), _DECIMALS.get(measure, 4))
            for measure in columns.values()
        ),
    ]


def cell_of(values: Sequence[float], decimals: int = 4) -> str:
    """Write a figure, or mean ± sample standard deviation of several; nothing where there is none."""
    if not values:
        return ""
    mean = f"{np.mean(values):.{decimals}f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.{decimals}f}"


def numbers(values: Iterable[object]) -> list[float]:
    """Return what is a number: precision, for one, is none where nothing is called."""
    return [float(each) for each in values if isinstance(each, int | float) and math.isfinite(each)]


def figures_at(quality: Mapping, path: Sequence[str]) -> Figures:
    """Return the part of a quality that a path of keys leads to; empty where there is none."""
    for key in path:
        quality = quality.get(key) or {}
    return quality


def kind_of(quality: Mapping) -> str:
    """Tell what was judged, from the measures that only one kind has."""
    measures = {*figures_at(quality, ("test", "sampled")), *figures_at(quality, ("validation",))}
    return "mlm" if "masked_accuracy" in measures else "sequence" if "accuracy" in measures else "bases"


def _shared(told: Iterable[object]) -> str:
    """Name what several were judged on, each once."""
    return "; ".join(dict.fromkeys(str(each) for each in told if each))


def contigs_of(quality: Mapping) -> str:
    """Name what the figures of every base are of: contigs, or words for windows."""
    contigs = quality.get("contigs") or ""
    return contigs if isinstance(contigs, str) else format_names(contigs, 30)


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
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


def spoken(value: object) -> str:
    """Write a setting as a recipe has it; what is not set is empty."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(spoken, value))}]" if value else ""
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
