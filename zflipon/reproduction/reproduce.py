"""Reproduction of one table of the paper: run what it needs, then compare printed and measured values.

Every kind of table in ``paper.toml`` has a function here. Training is in `zflipon.reproduction.runs`.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from zflipon.config import ARGMAX, AttributionConfig, InferenceConfig, Recipe, TokenRatioConfig
from zflipon.errors import InputError
from zflipon.explain.ranking import Ranking, rank_tokens
from zflipon.explain.table_files import read_table, write_table
from zflipon.reproduction.catalogue import TABLES, PaperItem, PaperRow, find_item, recipe_path
from zflipon.reproduction.comparison import Comparison, Reproduction
from zflipon.reproduction.runs import Run, RunInputs, train_row
from zflipon.tokenization.alignment import labels_to_tokens
from zflipon.training.model_card import describe_neighbours
from zflipon.training.recipe import load_recipe

MEASURES = {"F1": "f1", "MCC": "mcc", "Precision": "precision"}
"""Heading in the paper → measure of a run; that of bases has the prefix ``base_`` in validation data."""

SETTINGS = {
    "lr": "stage.learning_rate",
    "weight_decay": "stage.weight_decay",
    "warmup_ratio": "stage.warmup",
    "batch_size": "stage.batch_size",
    "epochs": "stage.epochs",
    "window": "stage.window",
    "negatives": "stage.background",
    "threshold": "stage.label_threshold",
    "max_len": "tokenizer.max_token_length",
    "validation": "data.validation_share",
    "test": "data.test_share",
    "r": "model.lora.r",
    "alpha": "model.lora.alpha",
    "dropout": "model.lora.dropout",
}
"""Name of a printed setting → key of a recipe."""

SMALL_LIMIT = 8
"""Labelled windows or sequences that are explained with small models."""

EXAMPLE = ("ACTATCTGT", "000011110", ("ACT", "ATCT", "GT"), 0.6)
"""Section 5.2: sequence, labels, tokens and label threshold. The second token is labelled."""


def reproduce(name: str, inputs: RunInputs | None = None) -> Reproduction:
    """Reproduce a table or section of the paper.

    Parameters
    ----------
    name : str
        Number of the table, such as ``'5.8'``; see `zflipon.reproduction.catalogue.paper_items`.
    inputs : RunInputs, optional
        Data and weights. Tables that need neither do not use them. By default small models with random weights are
        trained on synthetic data, in ``runs/paper``.

    Returns
    -------
    Reproduction

    Raises
    ------
    InputError
        If there is no such table.
    ZfliponError
        As the commands that the table needs.

    Examples
    --------
    >>> made = reproduce("5.7")
    >>> {each.verdict for each in made.comparisons}
    {'equal'}
    """
    item, inputs = find_item(name), inputs or RunInputs(Path("runs/paper"))
    inputs.check_data(item.needs)
    made = KINDS[item.kind](item, inputs)
    made.is_comparable = not inputs.trains_small(item.needs)
    made.notes = [*inputs.notes(item.needs), *made.notes]
    return made


# ---- training --------------------------------------------------------------------------------------------


def _training(item: PaperItem, inputs: RunInputs) -> Reproduction:
    made = Reproduction(item)
    for row in item.rows:
        runs = train_row(row, inputs)
        made.comparisons += _figures(row.name, row.paper, runs, item.figures)
        if item.figures == "test" and any("apart" in run.quality.get("test", {}) for run in runs):
            apart = f"{row.name}, apart"
            made.comparisons += _figures(apart, dict.fromkeys(row.paper), runs, "apart")
            made.notes.append(f"{row.name}: {describe_neighbours(runs[0].quality)}")
    if any(each.row.endswith(", apart") for each in made.comparisons):
        made.notes.append("apart: test windows that border no training window")
    return made


def _figures(
    row: str, paper: Mapping[str, float | None], runs: Sequence[Run], figures: str
) -> list[Comparison]:
    return [Comparison(row, name, value, _mean(runs, name, figures)) for name, value in paper.items()]


def _mean(runs: Sequence[Run], name: str, figures: str) -> float | None:
    """Return the mean of a measure over runs; None if a run lacks it."""
    values = [_figure(run.quality, MEASURES[name], figures) for run in runs]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def _figure(quality: Mapping[str, Any], measure: str, figures: str) -> float | None:
    """Return a measure of validation data, of the test windows, or of those apart from the training data."""
    if figures == "validation":
        table = quality.get("validation", {})
        return table.get(f"base_{measure}", table.get(measure))
    return quality.get("test", {}).get("sampled" if figures == "test" else figures, {}).get(measure)


# ---- tokens ----------------------------------------------------------------------------------------------


def _tokens(item: PaperItem, inputs: RunInputs) -> Reproduction:
    made = Reproduction(item)
    for row in item.rows:
        with note_missing_positives(made, row, inputs):
            _compare_tokens(made, item, row, _token_ratios(item, row, inputs))
    return made


def _token_ratios(item: PaperItem, row: PaperRow, inputs: RunInputs) -> dict[str, float]:
    """Return token → true-positive ratio on the test windows of a run, by descending ratio."""
    from zflipon.explain.token_ratios import COLUMNS, token_ratios

    (genome, labels), (run,) = inputs.genome_files(), train_row(row, inputs)
    config = TokenRatioConfig(threshold=ARGMAX, part="test")
    ratios = token_ratios(
        genome, labels, run.folder, inputs.blacklist, config=config, predict=InferenceConfig()
    )
    rows = ratios.rows()
    _write_own_table(_own_table(item.id, row.name, inputs), ratios.header(), COLUMNS, rows)
    return {token: ratio for token, _, _, ratio in rows}


def _attributions(item: PaperItem, inputs: RunInputs) -> Reproduction:
    made = Reproduction(item)
    for row in item.rows:
        with note_missing_positives(made, row, inputs):
            _compare_tokens(made, item, row, _token_scores(item, row, inputs))
    return made


def _token_scores(item: PaperItem, row: PaperRow, inputs: RunInputs) -> dict[str, float]:
    """Return token → mean attribution over the true positives of the test data, by descending score."""
    from zflipon.explain.integrated_gradients import OBJECTIVES, IntegratedGradientsExplainer
    from zflipon.explain.token_tables import COLUMNS, table_header, table_title, token_table
    from zflipon.models import load

    (run,) = train_row(row, inputs)
    config = AttributionConfig(baseline="pad", scalar="probability")
    explainer = IntegratedGradientsExplainer(load(run.folder, OBJECTIVES), config)
    scores, _ = token_table(explainer, _test_data(item, run, inputs), ARGMAX)
    header = table_header(explainer, {"model": row.name}, {"threshold": ARGMAX}, table_title(explainer))
    _write_own_table(_own_table(item.id, row.name, inputs), header, COLUMNS, scores.rows())
    return {token: score for token, score, _ in scores.rows()}


@contextmanager
def note_missing_positives(made: Reproduction, row: PaperRow, inputs: RunInputs) -> Iterator[None]:
    """Note that a small model has no true positive, which happens after a short training; raise for other models."""
    try:
        yield
    except InputError as error:
        if not inputs.small:
            raise
        made.notes.append(f"{row.name}: {error}")


def _test_data(item: PaperItem, run: Run, inputs: RunInputs):
    """Return the labelled test windows of a run, or the test sequences."""
    from zflipon.explain.labelled_sequences import label_whole_sequences, read_labelled_windows
    from zflipon.genome.fasta import Genome
    from zflipon.training.sequence_files import read_sequences

    limit = SMALL_LIMIT if inputs.small else None
    if "GUE" in item.needs:
        stored = read_sequences(inputs.sequence_files() / "test.csv")
        chosen = np.flatnonzero(stored.positive)[:limit]
        return label_whole_sequences([stored.sequences[i] for i in chosen], [True] * len(chosen))
    genome, labels = inputs.genome_files()
    with Genome(genome) as source:
        return read_labelled_windows(
            source,
            labels,
            run.recipe.stage[-1].window,
            blacklist=inputs.blacklist,
            limit=limit,
            run=(run.folder, "test"),
        )


def _compare_tokens(
    made: Reproduction, item: PaperItem, row: PaperRow, measured: Mapping[str, float]
) -> None:
    """Add the printed tokens with their measured scores, the published file, and the highest measured tokens."""
    made.comparisons += [
        Comparison(row.name, token, score, measured.get(token)) for token, score in row.tokens.items()
    ]
    highest = list(measured)[: len(row.tokens)]
    made.notes.append(f"{row.name}: the highest measured tokens are {', '.join(highest)}")
    if row.name in item.published:
        path = TABLES / item.published[row.name]
        scores = _read_scores(path)
        wrong = [
            token
            for token, score in row.tokens.items()
            if Comparison("", token, score, scores[token]).verdict != "equal"
        ]
        agrees = (
            "is equal to the printed rows" if not wrong else f"differs from the printed {', '.join(wrong)}"
        )
        made.notes.append(f"{row.name}: the published file {path.name} {agrees}")


def _own_table(item: str, row: str, inputs: RunInputs) -> Path:
    folder = inputs.out / ("small" if inputs.small else "runs") / "tables" / inputs.variant
    return folder / f"{item}_{row}.csv"


def _write_own_table(
    path: Path, header: Mapping[str, object], columns: Sequence[str], rows: list[tuple]
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(path, header, columns, rows)


# ---- rankings --------------------------------------------------------------------------------------------


def _ranking(item: PaperItem, inputs: RunInputs) -> Reproduction:
    made = Reproduction(item)
    for row in item.rows:
        ranking = rank_tokens([TABLES / name for name in row.tables], row.models, row.join)
        values = dict(zip(ranking.tokens, ranking.mean_deviations().tolist(), strict=True))
        made.comparisons += [
            Comparison(row.name, token, score, values.get(token)) for token, score in row.tokens.items()
        ]
        published = _read_ranking(TABLES / row.published)
        error = max(abs(values.get(token, np.inf) - value) for token, value in published.items())
        made.notes.append(
            f"{row.name}: {len(published)} tokens of the published ranking, largest difference {error:.1e}"
        )
        own = _own_ranking(row, inputs)
        if own is not None:
            made.notes.append(f"{row.name}: ranking of your own tables: {', '.join(own.tokens[:10])}")
    return made


def _own_ranking(row: PaperRow, inputs: RunInputs) -> Ranking | None:
    """Rank the tables that were measured in this folder in the way of a row; None if there are not all of them."""
    names = list(row.models.values()) or [row.name]
    paths = [_own_table(table, name, inputs) for name in names for table in ("5.5", "5.4")]
    if not all(path.exists() for path in paths):
        return None
    return rank_tokens(paths, {f"*_{name}.csv": name for name in names}, row.join)


def _read_scores(path: Path) -> dict[str, float]:
    from zflipon.explain.ranking import read_scores

    return read_scores(read_table(path))


def _read_ranking(path: Path) -> dict[str, float]:
    with open(path, newline="", encoding="utf-8") as file:
        return {token: float(value) for token, value in list(csv.reader(file))[1:]}


# ---- settings and examples -------------------------------------------------------------------------------


def _settings(item: PaperItem, inputs: RunInputs) -> Reproduction:
    made = Reproduction(item)
    for row in item.rows:
        recipe = load_recipe(recipe_path(row.recipe_of(inputs.variant)))
        made.comparisons += [
            Comparison(row.name, name, value, _setting(recipe, name, row.stage))
            for name, value in row.paper.items()
        ]
    return made


def _setting(recipe: Recipe, name: str, stage: str) -> float:
    """Return the value of a printed setting in a recipe."""
    section, *keys = SETTINGS[name].split(".")
    value: Any = recipe
    if section == "stage":
        value = next(each for each in recipe.stage if stage in ("", each.name))
    else:
        keys = [section, *keys]
    for key in keys:
        value = getattr(value, key)
    return value


def _labels(item: PaperItem, inputs: RunInputs) -> Reproduction:
    sequence, labels, tokens, threshold = EXAMPLE
    bases = np.array(list(labels)) == "1"
    lengths = np.array([len(token) for token in tokens])
    start = len(tokens[0])
    share = float(bases[start : start + len(tokens[1])].mean())
    called = labels_to_tokens(bases, lengths, threshold, ">")
    return Reproduction(
        item,
        [
            Comparison(f"{tokens[1]} in {sequence}", "share", 0.75, share),
            Comparison(f"{tokens[1]} in {sequence}", "label", 1.0, float(called[1])),
        ],
    )


KINDS: dict[str, Callable[[PaperItem, RunInputs], Reproduction]] = {
    "training": _training,
    "tokens": _tokens,
    "attributions": _attributions,
    "ranking": _ranking,
    "settings": _settings,
    "labels": _labels,
}
"""Kind of a table → what reproduces it."""
