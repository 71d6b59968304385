"""``zflipon annotate``: a genome → tracks."""

from __future__ import annotations

from pathlib import Path

import click

from zflipon.cli.launch import launch, launched
from zflipon.cli.options import (
    batch_size_option,
    both_strands_option,
    complete_contigs,
    contigs_option,
    default,
    device_option,
    features_option,
    force_option,
    limit_threads,
    log_to_stderr,
    missing_features_option,
    model_option,
    names,
    precision_option,
    processes_option,
    quiet_option,
    restart_option,
    threads_option,
    verbose_option,
)
from zflipon.config import DEFAULT_MODEL, CallConfig, InferenceConfig, Selection
from zflipon.models.hub import locate

EPILOG = """\b
Examples:
  zflipon annotate hg38.fa -o zdna.bw -o zdna.bed.gz
  zflipon annotate hg38.fa.gz -o - --region chr1:1,000,001-2,000,000
  zflipon annotate hg38.fa -o zdna.bw --model runs/dnabert2 --precision bfloat16
  zflipon annotate hg19.fa -o zdna.bw --model compact-omics --features tracks.tsv
"""


def expectation() -> str:
    """Say what the default model's story tells of thresholds, if it does."""
    quality = locate(DEFAULT_MODEL).metadata(None).quality
    told = [
        f"{right:.2f} and {found:.2f} at {at}" if found else f"hardly a base is called at {at}"
        for at, (right, found) in quality.get("by_threshold", {}).items()
    ]
    if not told:
        return ""
    return f" Precision and recall of '{DEFAULT_MODEL}' on every base of held-back human contigs: {', '.join(told)}."


@click.command(epilog=EPILOG)
@click.argument("genome", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "outputs",
    type=click.Path(allow_dash=True),
    multiple=True,
    required=True,
    metavar="FILE",
    help="Track to write, repeatable; the extension picks the format: .bw, .bedgraph[.gz], .bed[.gz]; - is BED on "
    "stdout.",
)
@model_option
@click.option(
    "-r",
    "--region",
    "regions",
    multiple=True,
    metavar="CHR:START-END",
    shell_complete=complete_contigs,
    help="1-based; repeatable.",
)
@click.option("--regions", "regions_bed", type=click.Path(), metavar="BED", help="Regions from a BED file.")
@contigs_option
@click.option("--exclude-contigs", multiple=True, callback=names, metavar="NAMES", help="All but these.")
@click.option(
    "--threshold",
    type=float,
    help=f"Probability from which a base is called.{expectation()}  [default: the model's]",
)
@click.option(
    "--min-length",
    type=click.IntRange(1),
    default=default(CallConfig, "min_length"),
    show_default=True,
    help="Drop shorter calls (bases).",
)
@click.option(
    "--merge-gap",
    type=click.IntRange(0),
    default=default(CallConfig, "merge_gap"),
    show_default=True,
    help="Join calls at most this far apart (bases).",
)
@features_option
@missing_features_option
@both_strands_option
@click.option(
    "--screen",
    is_flag=True,
    help="Read only windows with a stretch that turns readily into Z-DNA (much faster); other bases get 0.",
)
@batch_size_option
@precision_option
@device_option
@threads_option
@processes_option
@restart_option
@force_option
@click.option(
    "--dry-run", is_flag=True, help="Say what would be done and how long it would take; write nothing."
)
@quiet_option
@verbose_option
def annotate(
    genome,
    outputs,
    model,
    regions,
    regions_bed,
    contigs,
    exclude_contigs,
    threshold,
    min_length,
    merge_gap,
    features,
    missing_features,
    both_strands,
    screen,
    batch_size,
    precision,
    device,
    threads,
    num_processes,
    restart,
    force,
    dry_run,
    quiet,
    verbose,
) -> None:
    """Write the Z-DNA track of GENOME, a FASTA file (plain, gzip or bgzip).

    Each base gets the probability of lying in Z-DNA; calls are runs of bases at
    or above the threshold. A run that was stopped goes on by the same command. On several machines, start it under
    `accelerate launch -m zflipon annotate …`.
    """
    if threshold is not None and not 0 < threshold <= 1:
        raise click.BadParameter(
            f"expected a probability above 0 and up to 1, found {threshold}", param_hint="--threshold"
        )
    if num_processes > 1 and not launched():
        raise SystemExit(launch(num_processes, threads))
    limit_threads(threads)
    log_to_stderr(quiet, verbose)
    from zflipon.workflows.annotate import annotate as run

    report = run(
        genome,
        outputs,
        model,
        Selection(regions, regions_bed, contigs, exclude_contigs),
        CallConfig(threshold, min_length, merge_gap),
        InferenceConfig(batch_size, precision, device, threads, both_strands),
        force=force,
        quiet=quiet,
        dry_run=dry_run,
        restart=restart,
        screen=screen,
        features=features,
        missing_features=missing_features,
    )
    if dry_run:
        _tell_estimate(report)
    elif not quiet and "tracks" in report:
        told = report["tracks"]
        click.echo(
            f"zflipon: {told['calls']:,} calls, {told['called_bases']:,} of {told['bases']:,} bases, at "
            f"{report['call']['threshold']} and above, in {report['seconds']:.0f} s",
            err=True,
        )


def _tell_estimate(report: dict) -> None:
    estimate = report["estimate"]
    click.echo(
        f"would write {', '.join(report['outputs'])}: {report['bases']:,} bases on {len(report['contigs'])} contigs, "
        f"{report['windows']:,} windows in {report['shards']:,} shards, {report['processes']} "
        f"process{'es' if report['processes'] > 1 else ''}; about {estimate['seconds']:,.0f} s at "
        f"{estimate['bases_per_second']:,} bases a second here, {_size(estimate['memory'])} of memory a process, "
        f"{_size(estimate['temporary'])} of temporary files and {_size(estimate['written'])} of output"
    )


def _size(count: float) -> str:
    """Return a number of bytes as people say it."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
