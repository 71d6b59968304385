"""Rank tokens by several tables of scores: how far above its table's mean a token lies, on average.

Libina & Skvortsova (2025), section 5.8. The deviation of a token in one table, which is one method, is

    deviation = 100 × (score − mean) / mean,

the mean being that of the table's own tokens. A token's mean deviation for a model is the mean over those of
the model's methods that have the token. Across models it is the mean over the methods of all models, where a
model that lacks the token altogether gives a deviation of 0 for each of its methods.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path

import numpy as np

from zflipon.errors import InputError, format_names
from zflipon.explain.table_files import Table, aligned, read_table

TOKEN_COLUMNS = ("token",)
SCORE_COLUMNS = ("score", "mean_score", "tp_percent")
"""Names, in lower case, under which tokens and their scores are looked for, the first that there is."""

ONE_MODEL = "all tables"
"""The model of all tables where nothing tells one."""

RULE = "100 × (score − mean) / mean in each table; the mean of it over the tables that have the token"


@dataclass(frozen=True)
class Method:
    """One table's scores: one method of interpretation, run on one model.

    Attributes
    ----------
    name : str
    model : str
    scores : dict of str to float
        Token → score.
    """

    name: str
    model: str
    scores: dict[str, float]


@dataclass(frozen=True)
class Ranking:
    """Tokens and their deviations, the highest mean deviation first.

    Attributes
    ----------
    methods : tuple of Method
    tokens : tuple of str
    deviations : numpy.ndarray
        float64, shape (tokens, methods), in percent; NaN where a method lacks a token.
    """

    methods: tuple[Method, ...]
    tokens: tuple[str, ...]
    deviations: np.ndarray

    @property
    def models(self) -> tuple[str, ...]:
        """The models, in the order in which their tables were given."""
        return tuple(dict.fromkeys(method.model for method in self.methods))

    def of_model(self, model: str) -> np.ndarray:
        """Return each token's mean deviation for a model: float64, shape (tokens,); NaN where it lacks the token."""
        return _means(self.deviations[:, self._columns(model)])

    def across(self) -> np.ndarray:
        """Return each token's mean deviation over the methods of all models: float64, shape (tokens,)."""
        filled = self.deviations.copy()
        for model in self.models:
            columns = self._columns(model)
            lacking = np.isnan(filled[:, columns]).all(axis=1)
            filled[np.ix_(lacking, columns)] = 0.0
        return _means(filled)

    def top(self, values: np.ndarray, count: int) -> list[tuple[str, float]]:
        """Return the tokens of the `count` highest values, and these, the highest first; NaN has no place."""
        places = [i for i in _order(self.tokens, values) if not np.isnan(values[i])]
        return [(self.tokens[i], float(values[i])) for i in places[:count]]

    def columns(self) -> list[str]:
        """Return the names of the columns of `rows`."""
        each = [f"mean_deviation {model}" for model in self.models] if len(self.models) > 1 else []
        return ["rank", "token", "mean_deviation", *each, *(f"deviation {one.name}" for one in self.methods)]

    def rows(self) -> list[list[object]]:
        """Return a row for each token: rank, token, mean deviation, that of each of several models, all deviations."""
        each = [self.of_model(model) for model in self.models] if len(self.models) > 1 else []
        values = np.column_stack([self.across(), *each, self.deviations])
        return [
            [place, token, *row]
            for place, (token, row) in enumerate(zip(self.tokens, values.tolist(), strict=True), 1)
        ]

    def about(self) -> dict[str, object]:
        """Return what the CSV file tells of itself."""
        tables = {
            model: ", ".join(one.name for one in self.methods if one.model == model) for model in self.models
        }
        lacking = "; a model without the token counts 0 for each of its tables"
        return {
            "table": "tokens by mean deviation, in percent",
            "model": ", ".join(self.models),
            **{f"data of {model}": names for model, names in tables.items()},
            "mean_deviation": RULE + (lacking if len(self.models) > 1 else ""),
        }

    def told(self, count: int) -> str:
        """Lay the first `count` tokens out for reading: of each model, then across them where there are several."""
        parts = {model: self.top(self.of_model(model), count) for model in self.models}
        if len(parts) > 1:
            parts["across models"] = self.top(self.across(), count)
        lines = []
        for place in range(max(map(len, parts.values()))):
            cells = ([*part[place]] if place < len(part) else ["", None] for part in parts.values())
            lines.append([str(place + 1), *chain(*([token, _decimal(value)] for token, value in cells))])
        heads = ["", *chain(*(["token", name] for name in parts))]
        return "mean deviation from each table's mean, in percent\n" + aligned(heads, lines)

    def _columns(self, model: str) -> list[int]:
        return [column for column, method in enumerate(self.methods) if method.model == model]


def rank(tables: Sequence[str | Path], model_of: Mapping[str, str] | None = None) -> Ranking:
    """Rank the tokens of several CSV files.

    Parameters
    ----------
    tables : sequence of str or Path
        Each with a column of tokens and one of scores, see `TOKEN_COLUMNS` and `SCORE_COLUMNS`.
    model_of : mapping of str to str, optional
        File, or pattern of file names such as ``gena_*`` → model. Of the other tables, those that we wrote tell their
        model themselves. Where no table's model is known, all are taken to be of one.

    Raises
    ------
    InputError
        If a table has no usable columns or scores, is given twice or belongs to several models, only some tables'
        model is known, or a pattern fits no table.
    """
    paths = [Path(table) for table in tables]
    if len(set(paths)) < len(paths):
        twice = dict.fromkeys(str(path) for path in paths if paths.count(path) > 1)
        raise InputError(f"{format_names(twice)}: given twice; each table counts once")
    read = [read_table(path) for path in paths]
    models = _models(read, model_of or {})
    methods = tuple(
        Method(name, model, scores_of(table))
        for name, model, table in zip(_names(paths), models, read, strict=True)
    )
    tokens = tuple(dict.fromkeys(chain(*(method.scores for method in methods))))
    ranking = Ranking(methods, tokens, _lined_up(methods, tokens))
    order = _order(tokens, ranking.across())
    return Ranking(methods, tuple(tokens[i] for i in order), ranking.deviations[order])


def scores_of(table: Table) -> dict[str, float]:
    """Return a table's score of each token.

    Raises
    ------
    InputError
        If it has no column of tokens or scores or no rows, names a token twice, has a score that is no finite number,
        or scores whose mean is not above 0.
    """
    token_at, score_at = table.column(TOKEN_COLUMNS), table.column(SCORE_COLUMNS)
    if token_at is None or score_at is None:
        raise InputError(
            f"{table.path}: no usable columns; expected {' or '.join(TOKEN_COLUMNS)}, and one of "
            f"{', '.join(SCORE_COLUMNS)} (in any case), found {', '.join(table.columns)}"
        )
    scores: dict[str, float] = {}
    for number, row in table.rows:
        token = row[token_at].strip()
        if not token or token in scores:
            fault = f"token {token!r} again; each has one row" if token else "no token"
            raise InputError(f"{table.path}, line {number}: {fault}")
        scores[token] = _number(row[score_at], table, number, score_at)
    if not scores:
        raise InputError(f"{table.path}: holds no tokens, only column names")
    if math.fsum(scores.values()) <= 0:
        raise InputError(
            f"{table.path}: the mean of {table.columns[score_at]} must be above 0, as deviations are told in percent "
            f"of it; it is {math.fsum(scores.values()) / len(scores):g}"
        )
    return scores


def deviations(scores: Mapping[str, float]) -> dict[str, float]:
    """Return by how many percent of the mean score each token lies above it."""
    mean = math.fsum(scores.values()) / len(scores)
    return {token: 100 * (score - mean) / mean for token, score in scores.items()}


def _lined_up(methods: Sequence[Method], tokens: Sequence[str]) -> np.ndarray:
    columns = [deviations(method.scores) for method in methods]
    return np.array([[column.get(token, np.nan) for column in columns] for token in tokens])


def _means(values: np.ndarray) -> np.ndarray:
    """Return the mean of each row's numbers, leaving out NaN; NaN for a row that has none."""
    known = ~np.isnan(values)
    total, count = np.where(known, values, 0.0).sum(axis=1), known.sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _order(tokens: Sequence[str], values: np.ndarray) -> list[int]:
    """Return places by falling value, equal ones by token, so that no order hangs on that of the tables."""
    return sorted(range(len(tokens)), key=lambda i: (-np.nan_to_num(values[i], nan=-np.inf), tokens[i]))


def _models(tables: Sequence[Table], model_of: Mapping[str, str]) -> list[str]:
    """Return the model of each table."""
    found = [_model(table, model_of) for table in tables]
    for pattern in model_of:
        if not any(_fits(table.path, pattern) for table in tables):
            raise InputError(
                f"{pattern}: no table is called so; there are {format_names(t.path.name for t in tables)}"
            )
    if not any(found):
        return [ONE_MODEL] * len(tables)
    unknown = [str(table.path) for table, model in zip(tables, found, strict=True) if not model]
    if unknown:
        raise InputError(
            f"{format_names(unknown)}: of which model? say --model-of FILE=MODEL for every table or none"
        )
    return found


def _model(table: Table, model_of: Mapping[str, str]) -> str | None:
    """Return a table's model: as told by the caller, else by the table; None where neither tells."""
    told = dict.fromkeys(model for pattern, model in model_of.items() if _fits(table.path, pattern))
    if len(told) > 1:
        raise InputError(f"{table.path}: told to be of several models, {format_names(told)}")
    return next(iter(told), None) or table.about.get("model")


def _fits(path: Path, pattern: str) -> bool:
    return str(path) == pattern or fnmatchcase(path.name, pattern) or fnmatchcase(str(path), pattern)


def _names(paths: Sequence[Path]) -> list[str]:
    """Name methods by their files, without the extension; by their paths where that is not enough."""
    stems = [path.stem for path in paths]
    return [stem if stems.count(stem) == 1 else str(path) for stem, path in zip(stems, paths, strict=True)]


def _number(text: str, table: Table, line: int, column: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(
            f"{table.path}, line {line}: {table.columns[column]} must be a number, found {text!r}"
        )
    return value


def _decimal(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def parse_model_of(options: Iterable[str]) -> dict[str, str]:
    """Turn ``FILE=MODEL`` options into a mapping for `rank`.

    Raises
    ------
    InputError
        If one is not of this form, or a file is told two models.
    """
    found: dict[str, str] = {}
    for option in options:
        pattern, equals, model = (part.strip() for part in option.rpartition("="))
        if not (pattern and equals and model):
            raise InputError(f"--model-of {option}: expected FILE=MODEL, such as 'gena_*=GENA-LM'")
        if found.setdefault(pattern, model) != model:
            raise InputError(f"--model-of {option}: {pattern} was told to be of {found[pattern]} just before")
    return found
