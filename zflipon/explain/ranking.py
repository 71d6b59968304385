"""Rank tokens over several tables of scores, by their mean percent deviation from the mean of each table.

Libina & Skvortsova (2025), section 5.8. A table holds the scores of one method of interpretation for one model. The
deviation of a token in a table is 100 × (score − mean) / mean, where the mean is over the tokens of the table.
How tokens that a table lacks count is decided by one of `JOINS`.
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
from zflipon.explain.table_files import Table, align_columns, read_table

TOKEN_COLUMNS = ("token",)
"""Accepted names of the column of tokens, in lower case."""

SCORE_COLUMNS = ("score", "mean_score", "tp_percent")
"""Accepted names of the column of scores, in lower case; the first that a table has is used."""

SINGLE_MODEL = "all tables"
"""Name of the model if no table names one."""

JOINS = {
    "outer": "all tokens; the mean is over the tables that have the token, and a model without the token counts 0 for "
    "each of its tables",
    "left": "tokens of the first table; of the other tables, those of a model count where the first table of this "
    "model has the token; a missing score is 0",
}
"""How tables are joined → which tokens are ranked and what a missing score counts.

``left`` is how Table 5.8 was computed. Table 5.7, which ranks the tokens of one model, follows from ``outer``.
"""

_RULE = "100 × (score − mean) / mean in each table, averaged over tables; "


@dataclass(frozen=True)
class Method:
    """The scores of one table: one method of interpretation for one model.

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
    """Tokens and their deviations, by descending mean deviation.

    Attributes
    ----------
    methods : tuple of Method
    tokens : tuple of str
    deviations : numpy.ndarray
        float64, shape (tokens, methods), in percent; NaN if a method lacks a token.
    join : str
        One of `JOINS`.
    """

    methods: tuple[Method, ...]
    tokens: tuple[str, ...]
    deviations: np.ndarray
    join: str = "outer"

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models, in the order of their tables."""
        return tuple(dict.fromkeys(method.model for method in self.methods))

    def model_deviations(self, model: str) -> np.ndarray:
        """Return the mean deviation of each token over the tables of one model: float64, shape (tokens,).

        NaN if the model lacks the token.
        """
        return _row_means(self.deviations[:, self._columns_of(model)])

    def mean_deviations(self) -> np.ndarray:
        """Return the mean deviation of each token over the tables of all models: float64, shape (tokens,)."""
        filled = self.deviations.copy()
        for model in self.models:
            columns = self._columns_of(model)
            absent = np.isnan(filled[:, columns]).all(axis=1)
            filled[np.ix_(absent, columns)] = 0.0
        return _row_means(filled)

    def top(self, values: np.ndarray, count: int) -> list[tuple[str, float]]:
        """Return the `count` tokens of the highest values, with these, in descending order; NaN is left out."""
        order = [i for i in _descending_order(self.tokens, values) if not np.isnan(values[i])]
        return [(self.tokens[i], float(values[i])) for i in order[:count]]

    def columns(self) -> list[str]:
        """Return the column names of `rows`."""
        models = [f"mean_deviation {model}" for model in self.models] if len(self.models) > 1 else []
        methods = [f"deviation {method.name}" for method in self.methods]
        return ["rank", "token", "mean_deviation", *models, *methods]

    def rows(self) -> list[list[object]]:
        """Return a row for each token: rank, token, mean deviation, that of each of several models, all deviations."""
        models = [self.model_deviations(model) for model in self.models] if len(self.models) > 1 else []
        values = np.column_stack([self.mean_deviations(), *models, self.deviations])
        return [
            [number, token, *row]
            for number, (token, row) in enumerate(zip(self.tokens, values.tolist(), strict=True), 1)
        ]

    def header(self) -> dict[str, object]:
        """Return the header of the CSV file."""
        names = {
            model: ", ".join(method.name for method in self.methods if method.model == model)
            for model in self.models
        }
        return {
            "table": "tokens by mean deviation, in percent",
            "model": ", ".join(self.models),
            **{f"data of {model}": tables for model, tables in names.items()},
            "mean_deviation": _RULE + JOINS[self.join],
        }

    def to_text(self, count: int) -> str:
        """Return the first `count` tokens of each model, and over all models, as aligned columns."""
        parts = {model: self.top(self.model_deviations(model), count) for model in self.models}
        if len(parts) > 1:
            parts["across models"] = self.top(self.mean_deviations(), count)
        lines = []
        for index in range(max(map(len, parts.values()))):
            cells = (part[index] if index < len(part) else ("", None) for part in parts.values())
            lines.append([str(index + 1), *chain(*([token, _decimal(value)] for token, value in cells))])
        heads = ["", *chain(*(["token", name] for name in parts))]
        return "mean deviation from the mean of each table, in percent\n" + align_columns(heads, lines)

    def _columns_of(self, model: str) -> list[int]:
        return [column for column, method in enumerate(self.methods) if method.model == model]


def rank_tokens(
    tables: Sequence[str | Path], model_of: Mapping[str, str] | None = None, join: str = "outer"
) -> Ranking:
    """Rank the tokens of several CSV files.

    Parameters
    ----------
    tables : sequence of str or Path
        Each with a column of tokens and one of scores; see `TOKEN_COLUMNS` and `SCORE_COLUMNS`.
    model_of : mapping of str to str, optional
        File name, or pattern such as ``gena_*`` → model. Tables written by zflipon name their model in the header.
        If no model is known, all tables count as one model.
    join : str
        One of `JOINS`.

    Raises
    ------
    InputError
        If a table has no usable columns or scores, is given twice or belongs to several models, if the model of only
        some tables is known, or if a pattern matches no table.
    """
    paths = [Path(table) for table in tables]
    if len(set(paths)) < len(paths):
        repeated = dict.fromkeys(str(path) for path in paths if paths.count(path) > 1)
        raise InputError(f"{format_names(repeated)}: given twice; name each table once")
    if join not in JOINS:
        raise InputError(f"unknown join {join!r}; expected one of {', '.join(JOINS)}")
    contents = [read_table(path) for path in paths]
    models = _resolve_models(contents, model_of or {})
    methods = tuple(
        Method(name, model, read_scores(table))
        for name, model, table in zip(_method_names(paths), models, contents, strict=True)
    )
    if join == "left":
        methods, tokens = _left_join(methods)
    else:
        tokens = tuple(dict.fromkeys(chain(*(method.scores for method in methods))))
    ranking = Ranking(methods, tokens, _deviation_matrix(methods, tokens), join)
    order = _descending_order(tokens, ranking.mean_deviations())
    return Ranking(methods, tuple(tokens[i] for i in order), ranking.deviations[order], join)


def read_scores(table: Table) -> dict[str, float]:
    """Return the score of each token of a table.

    Raises
    ------
    InputError
        If it has no column of tokens or scores or no rows, if a token occurs twice, if a score is not a finite
        number, or if the mean of the scores is not greater than 0.
    """
    token_column, score_column = table.column_index(TOKEN_COLUMNS), table.column_index(SCORE_COLUMNS)
    if token_column is None or score_column is None:
        raise InputError(
            f"{table.path}: no usable columns; expected {' or '.join(TOKEN_COLUMNS)}, and one of "
            f"{', '.join(SCORE_COLUMNS)} (in any case), found {', '.join(table.columns)}"
        )
    scores: dict[str, float] = {}
    for number, row in table.rows:
        token = row[token_column].strip()
        if not token or token in scores:
            fault = f"token {token!r} occurs again; expected one row for each" if token else "no token"
            raise InputError(f"{table.path}, line {number}: {fault}")
        scores[token] = _parse_number(row[score_column], table, number, score_column)
    if not scores:
        raise InputError(f"{table.path}: no tokens, only column names")
    if math.fsum(scores.values()) <= 0:
        raise InputError(
            f"{table.path}: the mean of {table.columns[score_column]} must be greater than 0, since deviations are in "
            f"percent of it; it is {math.fsum(scores.values()) / len(scores):g}"
        )
    return scores


def percent_deviations(scores: Mapping[str, float]) -> dict[str, float]:
    """Return the deviation of each score from the mean of all, in percent of the mean."""
    mean = math.fsum(scores.values()) / len(scores)
    return {token: 100 * (score - mean) / mean for token, score in scores.items()}


def parse_model_of(options: Iterable[str]) -> dict[str, str]:
    """Parse ``FILE=MODEL`` options into a mapping for `rank_tokens`.

    Raises
    ------
    InputError
        If an option has another form, or a file is given two models.
    """
    models: dict[str, str] = {}
    for option in options:
        pattern, equals, model = (part.strip() for part in option.rpartition("="))
        if not (pattern and equals and model):
            raise InputError(f"--model-of {option}: expected FILE=MODEL, such as 'gena_*=GENA-LM'")
        if models.setdefault(pattern, model) != model:
            raise InputError(
                f"--model-of {option}: {pattern} was given the model {models[pattern]} just before"
            )
    return models


def _left_join(methods: Sequence[Method]) -> tuple[tuple[Method, ...], tuple[str, ...]]:
    """Join tables on the first table of each model, and these on the first table; a missing score becomes 0.0."""
    tokens = tuple(methods[0].scores)
    first_of_model: dict[str, Method] = {}
    for method in methods:
        first_of_model.setdefault(method.model, method)
    joined = []
    for method in methods:
        known = first_of_model[method.model].scores
        scores = {token: method.scores.get(token, 0.0) if token in known else 0.0 for token in tokens}
        if not any(scores.values()):
            raise InputError(
                f"{method.name}: no token in common with {methods[0].name}, the first table; "
                "choose tables of models with the same kind of tokens"
            )
        joined.append(Method(method.name, method.model, scores))
    return tuple(joined), tokens


def _deviation_matrix(methods: Sequence[Method], tokens: Sequence[str]) -> np.ndarray:
    columns = [percent_deviations(method.scores) for method in methods]
    return np.array([[column.get(token, np.nan) for column in columns] for token in tokens])


def _row_means(values: np.ndarray) -> np.ndarray:
    """Return the mean of each row without its NaN; NaN for a row of NaN."""
    known = ~np.isnan(values)
    total, count = np.where(known, values, 0.0).sum(axis=1), known.sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _descending_order(tokens: Sequence[str], values: np.ndarray) -> list[int]:
    """Return indices by descending value, then by token, so that the order of the tables does not matter."""
    return sorted(range(len(tokens)), key=lambda i: (-np.nan_to_num(values[i], nan=-np.inf), tokens[i]))


def _resolve_models(tables: Sequence[Table], model_of: Mapping[str, str]) -> list[str]:
    """Return the model of each table."""
    models = [_resolve_model(table, model_of) for table in tables]
    for pattern in model_of:
        if not any(_matches(table.path, pattern) for table in tables):
            names = format_names(table.path.name for table in tables)
            raise InputError(f"--model-of {pattern}: no table has this name; the tables are {names}")
    if not any(models):
        return [SINGLE_MODEL] * len(tables)
    unknown = [str(table.path) for table, model in zip(tables, models, strict=True) if not model]
    if unknown:
        raise InputError(
            f"{format_names(unknown)}: model unknown; give --model-of FILE=MODEL for every table, or for none"
        )
    return [model for model in models if model]


def _resolve_model(table: Table, model_of: Mapping[str, str]) -> str | None:
    """Return the model that the caller names, else the one in the header, else None."""
    named = dict.fromkeys(model for pattern, model in model_of.items() if _matches(table.path, pattern))
    if len(named) > 1:
        raise InputError(
            f"{table.path}: --model-of names several models, {format_names(named)}; expected one"
        )
    return next(iter(named), None) or table.header.get("model")


def _matches(path: Path, pattern: str) -> bool:
    return str(path) == pattern or fnmatchcase(path.name, pattern) or fnmatchcase(str(path), pattern)


def _method_names(paths: Sequence[Path]) -> list[str]:
    """Name methods by their file without extension, or by their path if file names are equal."""
    stems = [path.stem for path in paths]
    return [stem if stems.count(stem) == 1 else str(path) for stem, path in zip(stems, paths, strict=True)]


def _parse_number(text: str, table: Table, line: int, column: int) -> float:
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
