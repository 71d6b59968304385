"""``zflipon explain``: a module for each of its subcommands."""

from __future__ import annotations

import click

from zflipon.cli.groups import CommandGroup

COMMANDS = {
    "tokens": "True-positive ratio of each token.",
    "attributions": "Attribute calls to tokens and bases by Integrated Gradients: tables and a track.",
    "rank": "Rank tokens by their mean deviation over several tables.",
    "kmers": "Enriched k-mers, classes and a motif logo of called regions.",
    "tracks": "Importance of each omics track for a model that reads them.",
    "locus": "Draw one region: calls, attributions, tokens, substitutions, tracks.",
}
"""Subcommand → one line of help; its click command has its name, in ``zflipon.cli.explain.<subcommand>``."""

EPILOG = """\b
Examples:
  zflipon explain tokens hg19.fa --labels kouzine.bed --contigs chr22 -o tokens.csv
  zflipon explain rank tokens.csv attributions.csv -o ranking.csv
"""


@click.group(cls=CommandGroup, sections={"Commands": COMMANDS}, package=__name__, epilog=EPILOG)
def explain() -> None:
    """Find the sequence features behind the calls of a model, as tables and figures."""
