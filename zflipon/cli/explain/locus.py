"""``zflipon explain locus``: a figure that explains the calls of one region."""

from __future__ import annotations

from pathlib import Path

import click

from zflipon.cli.explain.options import check_output, genome_option, threshold_option
from zflipon.cli.options import (
    complete_contigs,
    contig_aliases_option,
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


def parse_tracks(_context, _parameter, values: tuple[str, ...]) -> list[tuple[str, Path]]:
    """Split NAME=FILE options; without a name, the name of the file is used."""
    pairs = [value.split("=", 1) if "=" in value else (Path(value).stem, value) for value in values]
    return [(name, Path(path)) for name, path in pairs]


@click.command(epilog=EPILOG)
@click.argument("region", metavar="CHR:START-END", shell_complete=complete_contigs)
@genome_option
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Figure: .png, .svg or .pdf.",
)
@model_option
@click.option(
    "--track",
    "tracks",
    multiple=True,
    callback=parse_tracks,
    metavar="NAME=FILE",
    help="BED or bigWig to draw below the other panels; repeatable.",
)
@threshold_option
@click.option(
    "--steps",
    type=click.IntRange(1),
    default=default_of(AttributionConfig, "steps"),
    show_default=True,
    help="Interpolation steps of Integrated Gradients.",
)
@click.option(
    "--baseline",
    type=click.Choice(BASELINES),
    default=default_of(AttributionConfig, "baseline"),
    show_default=True,
    help="Embedding of tokens in the baseline of Integrated Gradients.",
)
@features_option
@missing_features_option
@contig_aliases_option
@device_option
@threads_option
@force_option
def locus(
    region, genome, output, model, tracks, threshold, steps, baseline, features, missing_features,
    contig_aliases, device, threads, force,
) -> None:  # fmt: skip
    """Draw what explains the calls in a region of at most 400 bases (1-based).

    Panels from top to bottom: the probability of each base; its contribution to the log-odds of the call, as letters
    (Integrated Gradients); the tokens; the effect of each substitution on the mean probability of the called bases; the
    additional tracks; and the contribution of omics tracks, for a model that reads them. If no base is called, all
    bases of the region are explained.
    """
    limit_threads(threads)
    from zflipon.explain.figures import draw_locus
    from zflipon.explain.integrated_gradients import IntegratedGradientsExplainer
    from zflipon.explain.locus import explain_locus
    from zflipon.genome.fasta import Genome
    from zflipon.genome.intervals import parse_region
    from zflipon.inference.predictor import Predictor
    from zflipon.models import load
    from zflipon.omics.features import open_model_features
    from zflipon.plots import check_figure_path
    from zflipon.progress import progress_bar, progress_callback

    check_figure_path(output)
    check_output(output, force)
    with Genome(genome, contig_aliases) as source:
        interval = parse_region(region, source.lengths)
        checkpoint = load(model)
        omics = open_model_features(checkpoint, features, source.lengths, missing_features)
        inference = InferenceConfig(device=device, precision="float32", threads=threads)
        predictor = Predictor(checkpoint, inference, features=omics)
        config = AttributionConfig(steps=steps, baseline=baseline)
        explainer = IntegratedGradientsExplainer(checkpoint, config, device, omics)
        with progress_bar("sequences") as bar:
            explanation = explain_locus(
                predictor, explainer, source, interval, threshold, tracks, progress_callback(bar)
            )
    draw_locus(explanation, output)
