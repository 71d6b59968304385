"""``zflipon explain rank``: rank tokens over several tables of scores."""

from __future__ import annotations

from pathlib import Path

import click

from zflipon.cli.explain.options import check_output, output_option, print_and_write, top_option
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
    help="Model of a table; repeatable. FILE may be a pattern such as 'gena_*'.  [default: the model in the header "
    "of the table; one model if no table names one]",
)
@click.option(
    "--join",
    type=click.Choice(["outer", "left"]),
    default="outer",
    show_default=True,
    help="outer: rank all tokens; left: rank the tokens of the first TABLE, and count a missing score as 0 (Table 5.8 "
    "of the paper).",
)
@top_option("tokens")
@output_option("tokens")
@force_option
def rank(tables, model_of, join, top, output, force) -> None:
    """Rank tokens by TABLEs, CSV files with a column token and a column score, mean_score or tp_percent.

    A table holds the scores of one method for one model. The deviation of a token is the difference of its score from
    the mean of the table, in percent of the mean. For one model it is averaged over the tables of the model that have
    the token; over several models, over the same tables, and a model without the token counts 0 for each of its tables
    (Libina & Skvortsova 2025, section 5.8).

    With --join left, the first table of each model selects the tokens that count in its other tables, so give that
    table first.
    """
    from zflipon.explain.ranking import parse_model_of, rank_tokens

    check_output(output, force)
    ranking = rank_tokens(tables, parse_model_of(model_of), join)
    print_and_write(output, ranking.to_text(top), ranking.header(), ranking.columns(), ranking.rows())
