"""``zflipon models``: list models and families; show, pull, import, convert and merge checkpoints; fit domains.

This module lists; the other commands of the group are in `show`, `files` and `domain`.
"""

from __future__ import annotations

from collections.abc import Iterator

import click

from zflipon.cli.models.domain import fit_domain
from zflipon.cli.models.files import convert, import_, merge, pull
from zflipon.cli.models.show import describe, format_megabytes, show
from zflipon.cli.options import print_line
from zflipon.models import family_summaries
from zflipon.models.files import BUNDLED, bundled, locate

__all__ = ["describe", "models"]

EPILOG = """\b
Examples:
  zflipon models list
  zflipon models show compact
  zflipon models show runs/mine --full
  zflipon models pull zhihan1996/DNABERT-2-117M
  zflipon models import gena_best.pt --base AIRI-Institute/gena-lm-bert-base-t2t -o runs/gena
  zflipon models convert runs/old -o runs/new
  zflipon models merge runs/mine-lora -o runs/mine-whole
  zflipon models fit-domain runs/mine --genome hg19.fa.gz
"""


@click.group(invoke_without_command=True, epilog=EPILOG)
@click.pass_context
def models(context: click.Context) -> None:
    """List bundled models and model families; show, pull, import, convert or merge a checkpoint.

    Without a command, lists as `list` does.
    """
    if context.invoked_subcommand is None:
        print_list()


LIST_EPILOG = """\b
Examples:
  zflipon models list
"""


@models.command("list", short_help="List bundled models and model families.", epilog=LIST_EPILOG)
def list_() -> None:
    """List the bundled models and the model families."""
    print_list()


def print_list() -> None:
    """Print the bundled models and the families, one per line."""
    print_line("Bundled models")
    rows = [_summarize(name) for name in bundled()]
    print_line("\n".join(_align(rows)) if rows else "  none")
    print_line("\nFamilies (--model accepts a folder, a file of weights or a hub id of any of these)")
    print_line("\n".join(_align(list(family_summaries().items()))))


def _summarize(name: str) -> tuple[str, str]:
    """Return the name of a bundled model and its main facts."""
    files = locate(BUNDLED / name)
    metadata = files.metadata()
    return name, (
        f"{metadata.family}, calls each {metadata.objective}, {metadata.window} bp windows, "
        f"{format_megabytes(files.size)}"
    )


def _align(rows: list[tuple[str, str]]) -> Iterator[str]:
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        yield f"  {name:<{width}}  {text}"


for _command in (show, pull, import_, convert, merge, fit_domain):
    models.add_command(_command)
