"""``zflipon bundle``: tracks → a folder for browsers, with a report."""

from __future__ import annotations

from pathlib import Path

import click

from zflipon.cli.options import force_option, quiet_option

EPILOG = """\b
Examples:
  zflipon bundle zdna.bw zdna.bed.gz -o zdna_hub --genome hg38.fa
  zflipon bundle a.bw a.bed b.bw b.bed -o compared --assembly hg19 --labels kouzine.bed
"""


@click.command(epilog=EPILOG)
@click.argument("tracks", nargs=-1, required=True, metavar="TRACK...", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder to write."
)
@click.option(
    "--genome",
    type=click.Path(path_type=Path),
    metavar="FASTA",
    help="For the k-mers of the calls, and a 2bit where nobody knows the assembly.",
)
@click.option(
    "--assembly",
    metavar="NAME",
    help="As UCSC and IGV call it.  [default: by the length of chr1, else the FASTA's name]",
)
@click.option("--labels", type=click.Path(path_type=Path), metavar="BED", help="Known Z-DNA, a track beside.")
@click.option(
    "--email",
    default="nobody@example.org",
    show_default=True,
    help="Whom to ask about the hub; UCSC wants one.",
)
@force_option
@quiet_option
def bundle(tracks, output, genome, assembly, labels, email, force, quiet) -> None:
    """Gather TRACKs, bigWig and BED that annotate wrote, in a folder that browsers open.

    The folder holds a hub of the UCSC browser (hub.txt), a session of IGV (igv_session.xml), a bigBed of the calls
    and a report (index.html), which opens from disk and needs no network. A bigWig without its BED is called at
    the threshold that the record beside it tells.
    """
    from zflipon.progress import progress_bar
    from zflipon.report.bundle import REPORT
    from zflipon.report.bundle import bundle as run

    with progress_bar("b", quiet=quiet, name="zflipon") as bar:
        told = run(tracks, output, genome, assembly, labels, email, force, bar.update)
    if not quiet:
        calls = ", ".join(f"{number:,} calls of {name}" for name, number in told["calls"].items())
        click.echo(f"{output / REPORT}: {calls}, on {told['assembly']}")
