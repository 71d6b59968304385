"""How the verbs of ``zflipon explain`` hand their tables over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

STDOUT = Path("-")


def refuse(output: Path | None, force: bool) -> None:
    """Refuse a file that could not be written at the end, before any work is done for it."""
    from zflipon.tracks.atomic import check_output_path

    if output not in (None, STDOUT):
        check_output_path(output, force)


def give(
    output: Path | None,
    told: str,
    about: Mapping[str, object],
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
) -> None:
    """Print what people read, and write the CSV where it was asked for; on stdout the two are kept apart."""
    from zflipon.explain.table_files import table_text, write_table

    click.echo(told, err=output == STDOUT)
    if output == STDOUT:
        click.echo(table_text(about, columns, rows), nl=False)
    elif output:
        write_table(output, about, columns, rows)
