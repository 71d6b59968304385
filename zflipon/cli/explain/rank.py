"""``zflipon explain rank``: tables of token scores → one ranking."""

from __future__ import annotations

from pathlib import Path

import click

from zflipon.cli.options import force_option

EPILOG = """\b
Examples:
  zflipon explain rank tokens.csv attributions.csv -o ranking.csv
  zflipon explain rank gena_*.csv dnabert2_*.csv --model-of 'gena_*=GENA-LM' --model-of 'dnabert2_*=DNABERT-2'
"""


@click.command(epilog=EPILOG)
@click.argument("tables", nargs=-1, required=True, metavar="TABLE...", type=click.Path(path_type=Path))
@click.option(
    "--model-of",
    "model_of",
    multiple=True,
    metavar="FILE=MODEL",
    help="Model that a table is of, repeatable; FILE may be a pattern such as 'gena_*'.  [default: what the "
    "table tells; else all tables are of one model]",
)
@click.option(
    "--top", type=click.IntRange(1), default=10, show_default=True, help="Tokens of the table on the console."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="CSV",
    help="Write all tokens; - is stdout, and the table goes to stderr.",
)
@force_option
def rank(tables, model_of, top, output, force) -> None:
    """Rank tokens by TABLEs, CSV files with a column token and one of score, mean_score or tp_percent.

    A table is one method, run on one model. A token's deviation is by how many
    percent its score lies above the mean of its table. For a model, it is
    averaged over those of the model's tables that have the token; across models,
    over all of these, and a model that lacks the token altogether counts 0 for each
    of its tables (Libina & Skvortsova 2025, section 5.8).
    """
    from zflipon.cli.explain.options import give, refuse
    from zflipon.explain.ranking import parse_model_of
    from zflipon.explain.ranking import rank as run

    refuse(output, force)
    ranking = run(tables, parse_model_of(model_of))
    give(output, ranking.told(top), ranking.about(), ranking.columns(), ranking.rows())
