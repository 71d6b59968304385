"""``zflipon view``: show tracks in the web browser, served from this machine."""

from __future__ import annotations

import threading
import webbrowser

import click

from zflipon.cli.options import LocalPath, complete_contigs, print_line, quiet_option
from zflipon.tracks.registry import BROWSABLE, list_names

EPILOG = """\b
Examples:
  zflipon view zdna.bw zdna.bed.gz --genome hg38.fa --gtf gencode.gtf.gz
  zflipon view zdna.bw --genome hg19.fa --labels kouzine.bed --region chr22:20,000,001-20,100,000
  zflipon view zdna.bw --genome hg38.fa --no-browser --port 8080
"""

HELP = f"""Show TRACKs, {list_names(BROWSABLE, "and")} files of annotate, in the web browser.

Below the tracks is a table of the strongest calls.

A small server offers the page and these files to this machine only, until Ctrl-C. No network is needed: igv.js
is in the package igv-notebook (pip install 'zflipon[view]'). The table lists the calls of the first run that has
any; a bigWig without its BED is called with the threshold in its run record.
"""


@click.command(help=HELP, epilog=EPILOG)
@click.argument("tracks", nargs=-1, required=True, metavar="TRACK...", type=LocalPath())
@click.option(
    "-g",
    "--genome",
    required=True,
    type=LocalPath(),
    metavar="FASTA",
    help="Genome of the tracks; plain, gzip or bgzip.",
)
@click.option("--labels", type=LocalPath(), metavar="BED", help="Known Z-DNA, shown as one more track.")
@click.option(
    "--gtf",
    type=LocalPath(),
    metavar="FILE",
    help="Gene annotation, GTF or GFF3: adds a track of genes, and the search finds them by name.",
)
@click.option(
    "-r",
    "--region",
    metavar="CHR:START-END",
    shell_complete=complete_contigs,
    help="Region to open, 1-based.  [default: the call with the highest probability]",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default="a free port",
    help="Port of this machine to serve on.",
)
@click.option("--no-browser", is_flag=True, help="Print the address and open no browser.")
@quiet_option
def view(tracks, genome, labels, gtf, region, port, no_browser, quiet) -> None:
    """Show TRACKs in the web browser, served from this machine."""
    from zflipon.genome.fasta import Genome
    from zflipon.progress import progress_bar, progress_callback
    from zflipon.report.viewer.server import Server
    from zflipon.report.viewer.site import build_site

    def report(message: str) -> None:
        if not quiet:
            print_line(f"zflipon: {message}", to_stderr=True)

    def open_browser(address: str) -> None:
        if not webbrowser.open(address):
            report(f"no web browser was found; open {address} in yours")

    with Server({}, port) as server, Genome(genome) as reference:
        with progress_bar("b", quiet=quiet, name="zflipon") as bar:
            site = build_site(tracks, reference, labels, region, progress_callback(bar), gtf)
            server.contents = site.contents
        try:
            print_line(server.address)
            report("serving to this machine only; press Ctrl-C to stop")
            if not no_browser:  # in a thread: a text-mode browser returns only when its user quits it
                threading.Thread(target=open_browser, args=(server.address,), daemon=True).start()
            server.serve_forever()
        except KeyboardInterrupt:
            report("stopped")
