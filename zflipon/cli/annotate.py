"""``zflipon annotate``: write the Z-DNA tracks of a genome."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from zflipon.cli.launch import is_worker, launch
from zflipon.cli.options import (
    InputPath,
    batch_size_option,
    both_strands_option,
    complete_contigs,
    contig_aliases_option,
    contigs_option,
    default_of,
    device_option,
    features_option,
    force_option,
    header_option,
    limit_threads,
    log_to_stderr,
    missing_features_option,
    model_option,
    outputs_option,
    precision_option,
    print_line,
    processes_option,
    quiet_option,
    restart_option,
    split_names,
    threads_option,
    track_line_option,
    verbose_option,
)
from zflipon.config import DEFAULT_MODEL, SCORES, CallConfig, HeaderConfig, InferenceConfig, Selection
from zflipon.errors import format_count
from zflipon.models.files import locate

EPILOG = """\b
Examples:
  zflipon annotate hg38.fa -o zdna.bw -o zdna.bed.gz
  zflipon annotate hg38.fa.gz -o - --region chr1:1,000,001-2,000,000
  zflipon annotate hg38.fa -o zdna.bw --model runs/dnabert2 --precision bfloat16
  zflipon annotate hg19.fa -o zdna.bw --model compact-omics --features tracks.tsv
  zflipon annotate ecoli.fa -o zdna.bw -o zdna.bed --score propensity
  zflipon annotate hg38.fa -o zdna.bw --score probability --score propensity
  zflipon annotate hg38.fa -o part3.zfp --part 3/16
"""


def describe_thresholds() -> str:
    """Return a sentence on precision and recall of the default model by threshold, if its metadata has them."""
    quality = locate(DEFAULT_MODEL).metadata(None).quality
    parts = [
        f"{precision:.2f} and {recall:.2f} at {threshold}" if recall else f"almost no calls at {threshold}"
        for threshold, (precision, recall) in quality.get("by_threshold", {}).items()
    ]
    if not parts:
        return ""
    return f" Precision and recall of '{DEFAULT_MODEL}' on held-out human contigs: {', '.join(parts)}."


@click.command(epilog=EPILOG)
@click.argument("genome", type=InputPath())
@outputs_option
@model_option
@click.option(
    "--score",
    "scores",
    type=click.Choice(SCORES),
    multiple=True,
    default=SCORES[:1],
    show_default=True,
    help="Score to write, repeatable: the probability of Z-DNA, the propensity of the sequence to form it in any "
    "organism, or the activity of its context in human cells. With several, each file name gets its score.",
)
@click.option(
    "-r",
    "--region",
    "regions",
    multiple=True,
    metavar="CHR:START-END",
    shell_complete=complete_contigs,
    help="Region to annotate, 1-based; repeatable.  [default: everything]",
)
@click.option(
    "--regions", "regions_bed", type=click.Path(), metavar="BED", help="BED file of regions to annotate."
)
@contigs_option
@contig_aliases_option
@click.option(
    "--exclude-contigs", multiple=True, callback=split_names, metavar="NAMES", help="Leave these contigs out."
)
@click.option(
    "--threshold",
    type=float,
    help=f"Lowest score of a called base; only with one --score.{describe_thresholds()}  "
    "[default: the model's for the score]",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Call at the threshold that zflipon calibrate wrote for this model.",
)
@click.option(
    "--min-length",
    type=click.IntRange(1),
    default=default_of(CallConfig, "min_length"),
    show_default=True,
    help="Drop calls of fewer bases.",
)
@click.option(
    "--merge-gap",
    type=click.IntRange(0),
    default=default_of(CallConfig, "merge_gap"),
    show_default=True,
    help="Merge calls that are at most this many bases apart.",
)
@track_line_option
@header_option
@features_option
@missing_features_option
@both_strands_option
@click.option(
    "--screen",
    is_flag=True,
    help="Read only windows with sequence that easily forms Z-DNA (much faster); bases of other windows get 0.",
)
@click.option(
    "--edges",
    type=click.Path(path_type=Path),
    metavar="BED",
    help="Write the bases without full context: nearer than the model's margin to the end of a contig or a gap of N.",
)
@click.option(
    "--part",
    metavar="I/N",
    help="Compute part I of N only and write a .zfp file; `zflipon merge` writes the tracks of all parts.",
)
@batch_size_option
@precision_option
@device_option
@threads_option
@processes_option
@restart_option
@force_option
@click.option("--dry-run", is_flag=True, help="Print what would be done and estimate time and space.")
@quiet_option
@verbose_option
def annotate(
    genome,
    outputs,
    model,
    scores,
    regions,
    regions_bed,
    contigs,
    contig_aliases,
    exclude_contigs,
    threshold,
    calibration,
    min_length,
    merge_gap,
    track_line,
    header,
    features,
    missing_features,
    both_strands,
    screen,
    edges,
    part,
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
    """Write the Z-DNA tracks of GENOME, a FASTA file (plain, gzip or bgzip).

    Each base gets the probability of being in Z-DNA. Calls are runs of bases at or above the threshold. A stopped run
    resumes if the same command is given again. On several computers, use
    `accelerate launch -m zflipon annotate …`.
    """
    if threshold is not None and not 0 < threshold <= 1:
        raise click.BadParameter(
            f"expected a value above 0 and up to 1, found {threshold}", param_hint="--threshold"
        )
    if num_processes > 1 and not is_worker():
        raise SystemExit(launch(num_processes, threads))
    limit_threads(threads)
    log_to_stderr(quiet, verbose)
    from zflipon.genome.shards import Part
    from zflipon.jobs.record import command_line
    from zflipon.jobs.signals import stop_on_signals
    from zflipon.progress import job_progress
    from zflipon.workflows.annotate import annotate as run

    with stop_on_signals() as stop, job_progress("b", quiet) as progress:
        record = run(
            genome,
            outputs,
            model,
            Selection(regions, regions_bed, contigs, exclude_contigs),
            CallConfig(threshold, min_length, merge_gap),
            InferenceConfig(batch_size, precision, device, threads, both_strands),
            scores=scores,
            headers=HeaderConfig(track_line, header),
            force=force,
            dry_run=dry_run,
            restart=restart,
            screen=screen,
            features=features,
            missing_features=missing_features,
            contig_aliases=contig_aliases,
            edges=edges,
            part=Part.parse(part) if part else None,
            calibration=calibration,
            progress=progress,
            stop=stop,
            command=command_line(sys.argv[1:]),
        )
    if not record:  # not the main process
        return
    if dry_run:
        _print_estimate(record)
    elif not quiet:
        _print_totals(record)


def _print_totals(record: dict) -> None:
    if "part" in record:
        print_line(
            f"zflipon: part {record['part']}, in {record['seconds']:.0f} s; wrote {record['outputs'][0]}",
            to_stderr=True,
        )
        return
    tracks, files = record["tracks"], [name for name in record["outputs"] if name != "-"]
    several = [f"{score} in {', '.join(names)}" for score, names in record["scores"].items()]
    score = f"{record['score']}: " if len(several) > 1 or record["score"] != SCORES[0] else ""
    print_line(
        f"zflipon: {score}{format_count(tracks['calls'], 'call')}, {tracks['called_bases']:,} of "
        f"{format_count(tracks['bases'], 'base')} at "
        f"{record['call']['threshold']} or above, in {record['seconds']:.0f} s",
        to_stderr=True,
    )
    if len(several) > 1:
        print_line(f"zflipon: wrote {'; '.join(several)}", to_stderr=True)
        return
    if files:
        print_line(f"zflipon: wrote {', '.join(files)}", to_stderr=True)


def _print_estimate(record: dict) -> None:
    estimate, processes = record["estimate"], record["processes"]
    print_line(
        f"would write {', '.join(record['outputs'])}: {format_count(record['bases'], 'base')} on "
        f"{format_count(len(record['contigs']), 'contig')}, {format_count(record['windows'], 'window')} in "
        f"{format_count(record['shards'], 'shard')}, {processes} "
        f"process{'es' if processes > 1 else ''}; about {estimate['seconds']:,.0f} s at "
        f"{estimate['bases_per_second']:,} bases per second on this computer, {_size(estimate['memory'])} of memory "
        f"per process, {_size(estimate['temporary'])} of temporary files and {_size(estimate['written'])} of output"
    )


def _size(count: float) -> str:
    """Return a number of bytes with a unit."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
