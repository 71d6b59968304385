"""``zflipon explain locus``: one picture of a place."""

from __future__ import annotations

from pathlib import Path

import click

from zflipon.cli.options import (
    complete_contigs,
    default_of,
    device_option,
    features_option,
    force_option,
    limit_threads,
    missing_features_option,
    model_option,
    threads_option,
)
from zflipon.config import BASELINES, AttributionConfig, InferenceConfig

EPILOG = """\b
Examples:
  zflipon explain locus chr1:1,000,101-1,000,220 --genome hg38.fa -o locus.png
  zflipon explain locus chr1:1000101-1000220 --genome hg19.fa --track Kouzine=kouzine.bed -o locus.svg
"""


def named(_context, _parameter, values: tuple[str, ...]) -> list[tuple[str, Path]]:
    """Split NAME=FILE; a file without a name has its own."""
    pairs = [value.split("=", 1) if "=" in value else (Path(value).stem, value) for value in values]
    return [(name, Path(path)) for name, path in pairs]


@click.command(epilog=EPILOG)
@click.argument("region", metavar="CHR:START-END", shell_complete=complete_contigs)
@click.option(
    "--genome", required=True, type=click.Path(path_type=Path), metavar="FASTA", help="Plain, gzip or bgzip."
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Picture: .png, .svg or .pdf.",
)
@model_option
@click.option(
    "--track",
    "tracks",
    multiple=True,
    callback=named,
    metavar="NAME=FILE",
    help="BED or bigWig to draw beneath; repeatable.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True),
    help="Probability from which a base is called.  [default: the model's]",
)
@click.option(
    "--steps",
    type=click.IntRange(1),
    default=default_of(AttributionConfig, "steps"),
    show_default=True,
    help="Of Integrated Gradients.",
)
@click.option(
    "--baseline",
    type=click.Choice(BASELINES),
    default=default_of(AttributionConfig, "baseline"),
    show_default=True,
    help="Of Integrated Gradients: what stands in the place of tokens.",
)
@features_option
@missing_features_option
@device_option
@threads_option
@force_option
def locus(
    region, genome, output, model, tracks, threshold, steps, baseline, features, missing_features,
    device, threads, force,
) -> None:  # fmt: skip
    """Draw why a region of at most 400 bases (1-based) is called, and what would change that.

    From above: the probability of each base; its share of the call's log-odds, as letters (Integrated
    Gradients); the tokens; by how much each substitution changes the mean probability of the called bases; the
    tracks that are given; and, under a model that reads omics tracks, what it takes from them. Where nothing is called,
    all bases of the region are explained.
    """
    limit_threads(threads)
    from zflipon.cli.explain.options import refuse
    from zflipon.explain.attribution import Attributor
    from zflipon.explain.locus import draw, survey
    from zflipon.explain.logo import check_picture
    from zflipon.genome.fasta import Genome
    from zflipon.genome.intervals import parse_region
    from zflipon.inference.predictor import Predictor
    from zflipon.models import load
    from zflipon.omics.features import open_model_features
    from zflipon.progress import progress_bar

    check_picture(output)
    refuse(output, force)
    with Genome(genome) as reference:
        place = parse_region(region, reference.lengths)
        checkpoint = load(model)
        omics = open_model_features(checkpoint, features, reference.lengths, missing_features)
        predict = InferenceConfig(device=device, precision="float32", threads=threads)
        predictor = Predictor(checkpoint, predict, features=omics)
        attributor = Attributor(checkpoint, AttributionConfig(steps=steps, baseline=baseline), device, omics)
        with progress_bar("sequences", 3 * (place[2] - place[1])) as bar:
            found = survey(predictor, attributor, reference, place, threshold, tracks, bar.update)
    draw(found, output)
