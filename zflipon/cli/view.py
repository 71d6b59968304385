"""``zflipon view``: tracks in the web browser, from this machine."""

from __future__ import annotations

import threading
import webbrowser
from pathlib import Path

import click

from zflipon.cli.options import complete_contigs, quiet_option

EPILOG = """\b
Examples:
  zflipon view zdna.bw zdna.bed.gz --genome hg38.fa
  zflipon view zdna.bw --genome hg19.fa --labels kouzine.bed --region chr22:20,000,001-20,100,000
  zflipon view zdna.bw --genome hg38.fa --no-browser --port 8080
"""


@click.command(epilog=EPILOG)
@click.argument("tracks", nargs=-1, required=True, metavar="TRACK...", type=click.Path(path_type=Path))
@click.option(
    "-g",
    "--genome",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FASTA",
    help="Plain, gzip or bgzip.",
)
@click.option("--labels", type=click.Path(path_type=Path), metavar="BED", help="Known Z-DNA, a track beside.")
@click.option(
    "-r",
    "--region",
    metavar="CHR:START-END",
    shell_complete=complete_contigs,
    help="Where to open (1-based).  [default: at the surest call]",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default="any that is free",
    help="Of this machine.",
)
@click.option("--no-browser", is_flag=True, help="Print the address, and open nothing.")
@quiet_option
def view(tracks, genome, labels, region, port, no_browser, quiet) -> None:
    """Show TRACKs, bigWig and BED that annotate wrote, in the web browser, with a list of the surest calls.

    A small server gives the page and these files to this machine alone, until Ctrl-C. No network is needed: igv.js
    comes from the package igv-notebook (pip install 'zflipon[view]'). The list is of the first track that has calls; a
    bigWig without its BED is called at the threshold that the record beside it tells.
    """
    from zflipon.genome.fasta import Genome
    from zflipon.progress import progress_bar, progress_callback
    from zflipon.report.viewer.server import Server
    from zflipon.report.viewer.site import make_site

    def told(words: str) -> None:
        if not quiet:
            click.echo(f"zflipon: {words}", err=True)

    def open_browser(address: str) -> None:
        if not webbrowser.open(address):
            told(f"no web browser was found; open {address} in yours")

    with Server({}, port) as server, Genome(genome) as reference:
        with progress_bar("b", quiet=quiet, name="zflipon") as bar:
            server.contents = make_site(tracks, reference, labels, region, progress_callback(bar)).contents
        try:
            click.echo(server.address)
            told("serving to this machine alone; Ctrl-C ends it")
            if not no_browser:  # beside the server: a browser of the terminal returns when its user leaves it
                threading.Thread(target=open_browser, args=(server.address,), daemon=True).start()
            server.serve_forever()
        except KeyboardInterrupt:
            told("stopped")
