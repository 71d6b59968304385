"""``zflipon bundle``: write tracks to a folder that genome browsers open, with an HTML report."""

from __future__ import annotations

from pathlib import Path

import click

from zflipon.cli.options import (
    LocalPath,
    contig_aliases_option,
    force_option,
    log_to_stderr,
    print_line,
    quiet_option,
)
from zflipon.tracks.registry import BROWSABLE, list_names

EPILOG = """\b
Examples:
  zflipon bundle zdna.bw zdna.bed.gz -o zdna_hub --genome hg38.fa --gtf gencode.gtf.gz
  zflipon bundle a.bw a.bed b.bw b.bed -o compared --assembly hg19 --labels kouzine.bed
"""

HELP = f"""Write TRACKs, {list_names(BROWSABLE, "and")} files of annotate, to a folder that genome browsers open.

The folder has a track hub for the UCSC browser (hub.txt), a session for IGV (igv_session.xml), a bigBed of the
calls and a report (index.html) that opens without a network. A bigWig without its BED is called with the
threshold in its run record.
"""


@click.command(help=HELP, epilog=EPILOG)
@click.argument("tracks", nargs=-1, required=True, metavar="TRACK...", type=LocalPath())
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder to write."
)
@click.option(
    "--genome",
    type=LocalPath(),
    metavar="FASTA",
    help="Genome of the tracks: adds sequences, classes, k-mers and the comparison with Z-HUNT to the report, and the "
    "sequence to the hub if UCSC does not host the assembly.",
)
@click.option(
    "--gtf",
    type=LocalPath(),
    metavar="FILE",
    help="Gene annotation, GTF or GFF3: adds genes and features of the calls to the report, and a track of genes.",
)
@click.option(
    "--assembly",
    metavar="NAME",
    help="Name of the assembly at UCSC and in IGV.  [default: recognised by the length of chr1, else the name of the "
    "FASTA]",
)
@click.option("--labels", type=LocalPath(), metavar="BED", help="Known Z-DNA, shown as one more track.")
@click.option(
    "--email",
    default="nobody@example.org",
    show_default=True,
    help="Contact address of the hub; UCSC requires one.",
)
@contig_aliases_option
@force_option
@quiet_option
def bundle(tracks, output, genome, gtf, assembly, labels, email, contig_aliases, force, quiet) -> None:
    """Write TRACKs to a folder that genome browsers open."""
    log_to_stderr(quiet)
    from zflipon.progress import progress_bar
    from zflipon.report.bundle import REPORT_FILE
    from zflipon.report.bundle import bundle as write_bundle

    with progress_bar("b", quiet=quiet, name="zflipon") as bar:
        written = write_bundle(
            tracks, output, genome, assembly, labels, email, force, bar.update, contig_aliases, gtf
        )
    if not quiet:
        calls = ", ".join(
            f"{number:,} {'call' if number == 1 else 'calls'} of {name}"
            for name, number in written.calls.items()
        )
        print_line(f"{output / REPORT_FILE}: {calls}, on {written.assembly}")
