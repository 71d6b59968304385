"""``zflipon explain kmers``: enriched k-mers, classes and the motif of called regions."""

from __future__ import annotations

from pathlib import Path

import click

from zflipon.cli.explain.options import (
    check_output,
    genome_option,
    output_option,
    print_and_write,
    top_option,
)
from zflipon.cli.options import contig_aliases_option, force_option

EPILOG = """\b
Examples:
  zflipon explain kmers zdna.bed --genome hg38.fa -o kmers.csv
  zflipon explain kmers zdna.bed --genome hg38.fa -k 8 --logo logo.png --attributions why.bw
"""


@click.command(epilog=EPILOG)
@click.argument("regions", type=click.Path(path_type=Path), metavar="BED")
@genome_option
@click.option("-k", "k", type=int, default=6, show_default=True, help="Bases of a k-mer, 3 to 10.")
@click.option("--shuffles", type=int, default=50, show_default=True, help="Shuffles of each region.")
@click.option(
    "--seed", type=click.IntRange(0), default=42, show_default=True, help="Random seed of the shuffles."
)
@click.option(
    "--logo",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw the motif that the regions have in common: .png, .svg or .pdf.",
)
@click.option(
    "--attributions",
    type=click.Path(path_type=Path),
    metavar="BW",
    help="For the logo: centre each region on its highest attribution, and use those with the highest.",
)
@click.option(
    "--sites", type=click.IntRange(2), default=500, show_default=True, help="Regions that the logo uses."
)
@click.option("--width", type=click.IntRange(2, 60), default=12, show_default=True, help="Bases of the logo.")
@top_option("k-mers")
@output_option("k-mers")
@contig_aliases_option
@force_option
def kmers(
    regions, genome, k, shuffles, seed, logo, attributions, sites, width, top, output, contig_aliases, force
) -> None:  # fmt: skip
    """Find k-mers that are enriched in the regions of a BED file, and count the classes of the regions.

    Each region is compared with shuffles of itself that keep its dinucleotides. A k-mer and its reverse complement
    count as one. q-values are by Benjamini and Hochberg. The class of a region is that of its longest alternating
    purine-pyrimidine run.
    """
    from zflipon.explain.figures import draw_motif_logo
    from zflipon.explain.kmers import COLUMNS, RegionComposition, kmer_enrichment, region_codes
    from zflipon.explain.motif import align_sites, find_sites
    from zflipon.genome.fasta import Genome
    from zflipon.genome.interval_files import read_bed
    from zflipon.genome.intervals import merge
    from zflipon.plots import check_figure_path
    from zflipon.progress import progress_bar

    check_output(output, force)
    check_output(logo, force)
    if logo:
        check_figure_path(logo)
    with Genome(genome, contig_aliases) as source:
        intervals = {name: merge(rows) for name, rows in read_bed(regions, source.lengths, "regions").items()}
        codes = region_codes(source, intervals)
        if logo:
            motif = align_sites(find_sites(source, intervals, sites, width, attributions), width)
            draw_motif_logo(motif, logo)
    with progress_bar("shuffles", shuffles) as bar:
        composition = RegionComposition(codes, kmer_enrichment(codes, k, shuffles, seed, bar.update))
    header = {"regions": regions.name, "genome": genome.name, "k": k, "shuffles": shuffles, "seed": seed}
    header |= composition.header()
    print_and_write(output, composition.to_text(top), header, COLUMNS, composition.rows())
