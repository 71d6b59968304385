"""Markdown tables of the figures of trained models: test data, validation data, sweeps, folds.

The figures are computed in `zflipon.training.assessment`. The tables of the paper that are named are those of Libina &
Skvortsova (2025).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from zflipon.errors import format_names

Figures = Mapping[str, Any]
"""Name of a measure → value."""

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
"""Decimals of measures; others have `_DEFAULT_DECIMALS`."""

_DEFAULT_DECIMALS = 4

_ESTIMATED = (
    "† estimated from a weighted sample of windows, each of which represents similar ones; windows are split at "
    "random, so that no contig is left for evaluation."
)


class TableLayout(NamedTuple):
    """Layout of a table for one kind of figures.

    Attributes
    ----------
    kind : {'bases', 'sequence', 'mlm'}
    title : str
        ``{on}`` is replaced by the evaluated data.
    path : tuple of str
        Keys that lead to the figures in a model's quality.
    columns : mapping of str to str
        Heading → measure.
    """

    kind: str
    title: str
    path: tuple[str, ...]
    columns: Mapping[str, str]


_TEST = (
    TableLayout(
        "bases",
        "Bases of the sampled test windows{on}: three windows without a label for each one with, unless the recipe "
        "says otherwise",
        ("test", "sampled"),
        _BASES,
    ),
    TableLayout(
        "bases", "The same, of test windows that border no training window", ("test", "apart"), _BASES
    ),
    TableLayout(
        "bases",
        "Every base of the test contigs, as in genome-wide use{on}",
        ("test", "genome"),
        EVERY_BASE,
    ),
    TableLayout("sequence", "Sequences of the test set{on}", ("test", "sampled"), _SEQUENCES),
    TableLayout("mlm", "Masked tokens of the test set{on}", ("test", "sampled"), _MASKED),
)

VALIDATION_TABLES = (
    TableLayout(
        "bases",
        "Validation{on}; bases called at a probability of 0.5",
        ("validation",),
        {
            heading: f"base_{name}" if heading in ("F1", "MCC", "Precision", "Recall") else name
            for heading, name in _BASES.items()
            if name != "threshold"
        },
    ),
    TableLayout("sequence", "Validation{on}", ("validation",), _SEQUENCES),
    TableLayout("mlm", "Validation{on}; masked tokens", ("validation",), _MASKED),
)

Row = tuple[str, Sequence[Mapping]]
"""Name of a row, and one or more qualities. Of several, the mean ± sample standard deviation is shown."""


def test_table(results: Mapping[str, Mapping]) -> str:
    """Return Markdown tables of test figures.

    The first table has the columns of the paper's Table 5.3: bases of sampled windows. The second one is for every base
    of the test contigs. Sequences and masked tokens have separate tables.

    Parameters
    ----------
    results : mapping of str to mapping
        Name of a model or run → quality in its metadata.

    Returns
    -------
    str
        A missing figure is blank, and a column without any figure is omitted. Empty without test figures.
    """
    return grouped_tables(_TEST, [(name, [quality]) for name, quality in results.items()])


def folds_table(runs: Sequence[Mapping]) -> str:
    """Return the test figures of a cross-validation: a row for each fold, and mean ± sample standard deviation.

    Parameters
    ----------
    runs : sequence of mapping
        Quality of each fold.

    Returns
    -------
    str
        Markdown with the columns of `test_table`. The mean is over the folds that have the figure; a single fold has no
        deviation.
    """
    rows: list[Row] = []
    for number, quality in enumerate(runs, 1):
        on = str(figures_at(quality, ("test",)).get("on") or "")
        suffix = f" ({on})" if on and not on.startswith("fold ") else ""
        rows.append((f"fold {number}{suffix}", [quality]))
    return grouped_tables(_TEST, [*rows, ("mean ± sd", runs)] if runs else [], located=False)


def sweep_table(runs: Sequence[tuple[Mapping[str, object], Mapping]]) -> str:
    """Return the figures of a sweep in the shape of the paper's Table 5.1: a row for each combination of settings.

    Parameters
    ----------
    runs : sequence of (mapping of str to object, mapping)
        Settings (key, as in ``--set`` → value) and quality of each run. Runs with the same settings (folds) share a row
        of means ± sample standard deviations.

    Returns
    -------
    str
        Markdown. The highest F1 on the validation data is bold. If no stage was evaluated, the columns are for every
        base of the validation contigs.
    """
    groups: dict[str, tuple[Mapping, list[Mapping]]] = {}
    for settings, quality in runs:
        groups.setdefault(json.dumps(settings, default=str), (settings, []))[1].append(quality)
    keys = _short_keys(list(dict.fromkeys(key for settings, _ in runs for key in settings)))
    qualities = [group for _, group in groups.values()]
    title, selecting = _selecting_columns(qualities)
    columns = [*selecting, *_test_columns(qualities)]
    rows = [[format_mean(column.values(group)) for column in columns] for group in qualities]
    if selecting:
        _embolden_best(rows, [float(np.mean(selecting[0].values(group) or [-np.inf])) for group in qualities])
        title += f"; the highest {selecting[0].heading} is bold"
    headings = [*keys.values(), *(column.heading for column in columns)]
    settings_cells = [[format_value(settings.get(key)) for key in keys] for settings, _ in groups.values()]
    cells = [one + other for one, other in zip(settings_cells, rows, strict=True)]
    table = markdown_table(headings, cells, text_columns=len(keys))
    footnote = _ESTIMATED if any("†" in heading for heading in headings) else ""
    return "\n\n".join(filter(None, [title and f"{title}.", table, footnote]))


class _SweepColumn(NamedTuple):
    """A column of a sweep: the first of `names` that a quality has at `path`."""

    heading: str
    path: tuple[str, ...]
    names: tuple[str, ...]

    def values(self, qualities: Iterable[Mapping]) -> list[float]:
        """Return the figures that exist."""
        figures = (figures_at(quality, self.path) for quality in qualities)
        return finite_numbers(
            next((each[name] for name in self.names if name in each), None) for each in figures
        )


def _selecting_columns(qualities: Sequence[Sequence[Mapping]]) -> tuple[str, list[_SweepColumn]]:
    """Return the title and the columns of the validation figures, by which the best run is selected."""
    every = [quality for group in qualities for quality in group]
    during_training = [
        _SweepColumn("F1", ("validation",), ("base_f1", "f1")),
        _SweepColumn("MCC", ("validation",), ("base_mcc", "mcc")),
        _SweepColumn("Precision", ("validation",), ("base_precision",)),
        _SweepColumn("Accuracy", ("validation",), ("accuracy", "masked_accuracy")),
    ]
    columns = [column for column in during_training if column.values(every)]
    if columns:
        on = _join_unique(figures_at(quality, ("validation",)).get("on") for quality in every)
        return f"Validation set{on and f' ({on})'}", columns
    # no stage was evaluated; the two kinds of figures are not comparable and never share a table
    afterwards = [_SweepColumn(heading, (), (_BASES[heading],)) for heading in ("F1", "MCC", "Precision")]
    columns = [column for column in afterwards if column.values(every)]
    on = _join_unique(evaluated_on(quality) for quality in every)
    title = f"Every base of the validation data{on and f' ({on})'}, at the best threshold of each run"
    return (title if columns else ""), columns


def _test_columns(qualities: Sequence[Sequence[Mapping]]) -> list[_SweepColumn]:
    every = [quality for group in qualities for quality in group]
    estimated = any(figures_at(quality, ("test", "genome")).get("estimated") for quality in every)
    mark = " †" if estimated else ""
    columns = [
        _SweepColumn("test F1", ("test", "sampled"), ("f1",)),
        _SweepColumn("test MCC", ("test", "sampled"), ("mcc",)),
        _SweepColumn("test Precision", ("test", "sampled"), ("precision",)),
        _SweepColumn("test Accuracy", ("test", "sampled"), ("accuracy", "masked_accuracy")),
        _SweepColumn(f"genome AP{mark}", ("test", "genome"), ("average_precision",)),
        _SweepColumn(f"genome F1{mark}", ("test", "genome"), ("f1",)),
    ]
    return [column for column in columns if column.values(every)]


def _embolden_best(rows: list[list[str]], values: Sequence[float]) -> None:
    """Make the first cell of the best row bold; of all best rows, if several have the same rounded value."""
    for row, value in zip(rows, values, strict=True):
        if np.isfinite(value) and round(value, _DEFAULT_DECIMALS) == round(max(values), _DEFAULT_DECIMALS):
            row[0] = f"**{row[0]}**"


def _short_keys(keys: Sequence[str]) -> dict[str, str]:
    """Return the last part of each key as its name, or the full key if that is ambiguous."""
    last = [key.rpartition(".")[2] for key in keys]
    return {key: short if last.count(short) == 1 else key for key, short in zip(keys, last, strict=True)}


def grouped_tables(layouts: Iterable[TableLayout], rows: Sequence[Row], located: bool = True) -> str:
    """Return a table for each layout that has figures, and a footnote if figures are estimated.

    Parameters
    ----------
    layouts : iterable of TableLayout
    rows : sequence of (str, sequence of mapping)
    located : bool
        Whether titles name the evaluated data.
    """
    parts = []
    for layout in layouts:
        chosen = [(name, qualities) for name, qualities in rows if kind_of(qualities[0]) == layout.kind]
        figures = [
            (name, [figures_at(quality, layout.path) for quality in qualities]) for name, qualities in chosen
        ]
        columns = {
            heading: measure
            for heading, measure in layout.columns.items()
            if any(finite_numbers(each.get(measure) for each in group) for _, group in figures)
        }
        if columns:
            on = _evaluated_data(chosen, layout.path) if located else ""
            title = layout.title.replace("{on}", on and f" ({on})") + _describe_calls(layout, figures)
            cells = [_row(name, group, columns) for name, group in figures]
            parts.append(f"{title}:\n\n{markdown_table(['', *columns], cells)}")
    if any("†" in part for part in parts):
        parts.append(_ESTIMATED)
    return "\n\n".join(parts)


def _evaluated_data(rows: Sequence[Row], path: Sequence[str]) -> str:
    """Return the names of the data that the figures at a path are from."""
    qualities = [quality for _, group in rows for quality in group if path and figures_at(quality, path)]
    return _join_unique(figures_at(quality, path[:1]).get("on") for quality in qualities)


def _describe_calls(layout: TableLayout, rows: Sequence[tuple[str, Sequence[Figures]]]) -> str:
    """Return at which probability the bases of a table are called, as the end of its title."""
    has_threshold = ["threshold" in each for _, figures in rows for each in figures if each]
    if any(has_threshold):
        return "; called at the probability 'at'" + (
            "" if all(has_threshold) else ", or 0.5 where it is missing"
        )
    if layout.path in (("test", "sampled"), ("test", "apart")) and layout.kind == "bases":
        return "; called at a probability of 0.5"  # as the published figures are
    return ""


def _row(name: str, figures: Sequence[Figures], columns: Mapping[str, str]) -> list[str]:
    mark = " †" if any(each.get("estimated") for each in figures) else ""
    cells = (
        format_mean(
            finite_numbers(each.get(measure) for each in figures),
            _DECIMALS.get(measure, _DEFAULT_DECIMALS),
        )
        for measure in columns.values()
    )
    return [name + mark, *cells]


def format_mean(values: Sequence[float], decimals: int = _DEFAULT_DECIMALS) -> str:
    """Return a value, or mean ± sample standard deviation of several, as text; empty without values.

    Examples
    --------
    >>> format_mean([0.7, 0.9], decimals=2)
    '0.80 ± 0.14'
    """
    if not values:
        return ""
    mean = f"{np.mean(values):.{decimals}f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.{decimals}f}"


def finite_numbers(values: Iterable[object]) -> list[float]:
    """Return the values that are finite numbers. Precision, for example, is missing if nothing is called."""
    return [float(each) for each in values if isinstance(each, int | float) and math.isfinite(each)]


def figures_at(quality: Mapping, path: Sequence[str]) -> Figures:
    """Return the part of a quality at a path of keys; empty if it does not exist."""
    for key in path:
        quality = quality.get(key) or {}
    return quality


def kind_of(quality: Mapping) -> str:
    """Return the kind of the figures, by measures that only one kind has: ``'bases'``, ``'sequence'`` or ``'mlm'``."""
    measures = {*figures_at(quality, ("test", "sampled")), *figures_at(quality, ("validation",))}
    return "mlm" if "masked_accuracy" in measures else "sequence" if "accuracy" in measures else "bases"


def evaluated_on(quality: Mapping) -> str:
    """Return the names of the validation data: contigs, or a description of windows."""
    contigs = quality.get("contigs") or ""
    return contigs if isinstance(contigs, str) else format_names(contigs, 30)


def _join_unique(values: Iterable[object]) -> str:
    return "; ".join(dict.fromkeys(str(each) for each in values if each))


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int = 1) -> str:
    """Return a Markdown table with padded cells, readable in a terminal.

    Parameters
    ----------
    headings : sequence of str
    rows : iterable of sequence of str
    text_columns : int
        Number of columns at the left that contain text; the others are aligned to the right.
    """
    lines = [[cell.replace("|", r"\|") for cell in line] for line in (headings, *rows)]
    widths = [max(4, *map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * width if i < text_columns else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    lines.insert(1, rule)
    return "\n".join(
        "| "
        + " | ".join(
            cell.ljust(width) if i < text_columns else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        + " |"
        for line in lines
    )


def format_value(value: object) -> str:
    """Return a setting as a recipe writes it; empty for None and for an empty list.

    Examples
    --------
    >>> format_value(True), format_value((1.0, 2.5)), format_value(None)
    ('true', '[1, 2.5]', '')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(format_value, value))}]" if value else ""
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
