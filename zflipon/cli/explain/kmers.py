"""``zflipon explain kmers``: what called regions are made of."""

from __future__ import annotations

from pathlib import Path

import click

from zflipon.cli.options import force_option

EPILOG = """\b
Examples:
  zflipon explain kmers zdna.bed --genome hg38.fa -o kmers.csv
  zflipon explain kmers zdna.bed --genome hg38.fa -k 8 --logo logo.png --attributions why.bw
"""


@click.command(epilog=EPILOG)
@click.argument("regions", type=click.Path(path_type=Path), metavar="BED")
@click.option(
    "--genome", required=True, type=click.Path(path_type=Path), metavar="FASTA", help="Plain, gzip or bgzip."
)
@click.option("-k", "k", type=int, default=6, show_default=True, help="Bases of a k-mer, 3 to 10.")
@click.option(
    "--shuffles", type=int, default=50, show_default=True, help="Of each region, that keep its dinucleotides."
)
@click.option("--seed", type=click.IntRange(0), default=42, show_default=True, help="Of the shuffles.")
@click.option(
    "--logo",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw what the sites have in common: .png, .svg or .pdf.",
)
@click.option(
    "--attributions",
    type=click.Path(path_type=Path),
    metavar="BW",
    help="For the logo: take each region around its highest attribution, the highest first.",
)
@click.option("--sites", type=click.IntRange(2), default=500, show_default=True, help="Sites of the logo.")
@click.option("--width", type=click.IntRange(2, 60), default=12, show_default=True, help="Bases of the logo.")
@click.option(
    "--top", type=click.IntRange(1), default=10, show_default=True, help="k-mers of the table on the console."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="CSV",
    help="Write all k-mers; - is stdout, and the table goes to stderr.",
)
@force_option
def kmers(
    regions, genome, k, shuffles, seed, logo, attributions, sites, width, top, output, force
) -> None:  # fmt: skip
    """Tell which k-mers are enriched in the regions of a BED file, and of which class the regions are.

    A region is held against shuffles of itself with the same dinucleotides, so that a k-mer stands out by
    its order alone; a k-mer and its reverse complement count as one. q is by Benjamini and Hochberg. A region's
    class is that of its longest alternating purine–pyrimidine stretch.
    """
    from zflipon.cli.explain.options import give, refuse
    from zflipon.explain.kmers import COLUMNS, Composition, enrichment, region_codes
    from zflipon.explain.logo import align, check_picture, draw_logo, find_sites
    from zflipon.genome.fasta import Genome
    from zflipon.genome.interval_files import read_bed
    from zflipon.genome.intervals import merge
    from zflipon.progress import progress_bar

    refuse(output, force)
    refuse(logo, force)
    if logo:
        check_picture(logo)
    with Genome(genome) as reference:
        places = {name: merge(rows) for name, rows in read_bed(regions, reference.lengths, "regions").items()}
        codes = region_codes(reference, places)
        if logo:
            matrix = align(find_sites(reference, places, sites, width, attributions), width)
            draw_logo(matrix, logo)
    with progress_bar("shuffles", shuffles) as bar:
        found = Composition(codes, enrichment(codes, k, shuffles, seed, bar.update))
    about = {"regions": regions.name, "genome": genome.name, "k": k, "shuffles": shuffles, "seed": seed}
    give(output, found.told(top), {**about, **found.about()}, COLUMNS, found.rows())
