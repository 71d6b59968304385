"""Options and output of tables that the subcommands of ``zflipon explain`` share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import click

from zflipon.cli.options import InputPath
from zflipon.config import ARGMAX

STDOUT = Path("-")

genome_option = click.option(
    "--genome",
    required=True,
    type=InputPath(),
    metavar="FASTA",
    help="Genome: plain, gzip or bgzip.",
)
labels_option = click.option(
    "--labels", required=True, type=click.Path(path_type=Path), metavar="BED", help="Known Z-DNA."
)
part_option = click.option(
    "--part",
    type=click.Choice(["train", "validation", "test"]),
    help="Read the windows of this part of the training run of the model (splits.bed in its folder).",
)


class ThresholdOrArgmax(click.ParamType):
    """A probability, or the word argmax."""

    name = "probability|argmax"

    def __init__(self, min_open: bool):
        self.range = click.FloatRange(0, 1, min_open=min_open)

    def convert(self, value, param, ctx):
        """Return a number from 0 to 1, or `ARGMAX`."""
        return value if value == ARGMAX else self.range.convert(value, param, ctx)


def table_threshold_option(min_open: bool):
    """Return the option for the threshold of a token table; `min_open` refuses a probability of 0."""
    return click.option(
        "--threshold",
        type=ThresholdOrArgmax(min_open),
        help="Probability from which a base is called; argmax calls the most probable class without calibration, as "
        "the paper does.  [default: that of the model]",
    )


threshold_option = click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True),
    help="Probability from which a base is called.  [default: that of the model]",
)


def top_option(rows: str):
    """Return the option for the number of `rows` (such as tokens) that are printed."""
    return click.option(
        "--top", type=click.IntRange(1), default=10, show_default=True, help=f"Number of {rows} to print."
    )


def output_option(rows: str):
    """Return the option for the CSV file of all `rows` (such as tokens)."""
    return click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path),
        metavar="CSV",
        help=f"Write all {rows} to a CSV file; with - to standard output, and the printed table to standard error.",
    )


def check_output(output: Path | None, force: bool) -> None:
    """Raise `OutputError` if an output cannot be written, before the work begins."""
    from zflipon.tracks.atomic import check_output_path

    if output not in (None, STDOUT):
        check_output_path(output, force)


def print_and_write(
    output: Path | None,
    text: str,
    header: Mapping[str, object],
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
) -> None:
    """Print the text of a table, and write the CSV file if an output is given."""
    from zflipon.cli.options import print_data, print_line
    from zflipon.explain.table_files import table_text, write_table

    print_line(text, to_stderr=output == STDOUT)
    if output == STDOUT:
        print_data(table_text(header, columns, rows))
    elif output:
        write_table(output, header, columns, rows)
