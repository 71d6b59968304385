"""``zflipon explain``: which sequence made the call, a module for each of its verbs."""

from __future__ import annotations

import click

from zflipon.cli.groups import CommandGroup

COMMANDS = {
    "tokens": "Share of each token's occurrences that are true positives.",
    "attributions": "Tokens and bases that made the calls, by Integrated Gradients: tables and a track.",
    "rank": "Rank tokens by the mean deviation of several tables.",
    "kmers": "Enriched k-mers, classes and a logo of called regions.",
    "tracks": "What each omics track is worth to a model that reads them.",
    "locus": "One picture of a place: calls, attributions, tokens, substitutions, tracks.",
}
"""Verb → one line of help; the verb's click command has its name in ``zflipon.cli.explain.<verb>``."""

EPILOG = """\b
Examples:
  zflipon explain tokens hg19.fa --labels kouzine.bed --contigs chr22 -o tokens.csv
  zflipon explain rank tokens.csv attributions.csv -o ranking.csv
"""


@click.group(cls=CommandGroup, sections={"Commands": COMMANDS}, package=__name__, epilog=EPILOG)
def explain() -> None:
    """Tell which sequence made a model's calls, as tables and pictures."""
