"""``zflipon models fit-domain``: add statistics of the training data to a checkpoint."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import click

from zflipon.cli.options import complete_models, log_to_stderr, print_line, split_names
from zflipon.errors import InputError, format_count
from zflipon.models.files import locate

EPILOG = """\b
Examples:
  zflipon models fit-domain runs/mine --genome hg19.fa.gz --exclude-contigs chr21,chr22
  zflipon models fit-domain runs/mine --genome hg19.fa.gz --track hg19.bw
"""


@click.command("fit-domain", epilog=EPILOG, short_help="Add statistics of the training data to a checkpoint.")
@click.argument("checkpoint", metavar="CHECKPOINT", shell_complete=complete_models)
@click.option(
    "--genome",
    "genomes",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    metavar="FASTA",
    help="Genome that the model was trained on, repeatable.",
)
@click.option(
    "--exclude-contigs",
    multiple=True,
    callback=split_names,
    metavar="NAMES",
    help="Contigs that the model was not trained on.",
)
@click.option(
    "--track",
    "tracks",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="BIGWIG",
    help="Track of the model on natural sequence of this genome, repeatable: adds the usual number of calls.",
)
def fit_domain(
    checkpoint: str, genomes: tuple[Path, ...], exclude_contigs: tuple[str, ...], tracks: tuple[Path, ...]
) -> None:
    """Add statistics of the training data to the folder CHECKPOINT, with which annotate compares its input.

    `zflipon train` does this for its models, without the number of calls. Weights do not change.
    """
    log_to_stderr()
    from zflipon.genome.fasta import Genome
    from zflipon.progress import progress_bar
    from zflipon.training.domain import MIN_WINDOWS, read_domain, write_domain

    files = locate(checkpoint)
    metadata = files.metadata()
    with ExitStack() as stack:
        opened = [stack.enter_context(Genome(path)) for path in genomes]
        known = {contig for genome in opened for contig in genome.lengths}
        unknown = [contig for contig in exclude_contigs if contig not in known]
        if unknown:
            raise InputError(f"--exclude-contigs: no contig {unknown[0]!r} in {', '.join(map(str, genomes))}")
        sources = [
            (genome, [contig for contig in genome.lengths if contig not in exclude_contigs])
            for genome in opened
        ]
        total = sum(genome.lengths[contig] for genome, contigs in sources for contig in contigs)
        with progress_bar("b", total) as bar:
            domain = read_domain(sources, tracks, metadata.threshold, bar.update)
    if domain is None:
        raise InputError(f"too little sequence: expected at least {MIN_WINDOWS} windows of 50 kb")
    write_domain(files, domain)
    scores = f", usual scores from {format_count(domain.scores.windows, 'window')}" if domain.scores else ""
    print_line(
        f"{checkpoint}: {format_count(domain.windows, 'window')} of sequence; distances up to "
        f"{domain.max_distance:g} are usual{scores}",
        to_stderr=True,
    )
