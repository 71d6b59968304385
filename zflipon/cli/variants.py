"""``zflipon variants``: score how the alleles of a VCF, or all alleles of some regions, change Z-DNA."""

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
    default_of,
    device_option,
    features_option,
    force_option,
    limit_threads,
    log_to_stderr,
    missing_features_option,
    model_option,
    precision_option,
    print_line,
    processes_option,
    quiet_option,
    restart_option,
    threads_option,
    verbose_option,
)
from zflipon.config import InferenceConfig, VariantConfig
from zflipon.errors import format_count

EPILOG = """\b
Examples:
  zflipon variants calls.vcf.gz --genome hg38.fa -o zdna.vcf.gz
  zflipon variants calls.bcf --genome hg38.fa -o zdna.tsv --min-delta 0.1 --shifts 4
  zflipon variants --saturate chr1:1,000,001-1,002,000 --genome hg38.fa -o every.tsv.gz --figure every.png
  zflipon variants calls.vcf.gz --genome hg38.fa -o zdna.vcf.gz --table every.tsv.gz
"""


@click.command(epilog=EPILOG)
@click.argument("vcf", type=InputPath(), required=False)
@click.option(
    "-g",
    "--genome",
    type=InputPath(),
    required=True,
    help="FASTA with the contigs of the VCF or of the regions.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="Output. The extension chooses the format: .vcf.gz, .bcf and .tsv.gz (with an index), .vcf, .tsv, .parquet.",
)
@click.option(
    "--saturate",
    multiple=True,
    metavar="CHR:START-END|BED",
    shell_complete=complete_contigs,
    help="Score every substitution in this region, or in the intervals of a BED file, instead of a VCF; repeatable.",
)
@click.option(
    "--indels",
    is_flag=True,
    help="With --saturate: also score every insertion and deletion of one base.",
)
@click.option(
    "--figure",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="With --saturate: write a heat map of each region (.png, .svg, .pdf).",
)
@click.option(
    "--table",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Look alleles up in this output of an earlier run (.tsv.gz, .vcf.gz, .parquet) before computing them.",
)
@model_option
@click.option(
    "-r",
    "--region",
    "regions",
    multiple=True,
    metavar="CHR:START-END",
    shell_complete=complete_contigs,
    help="Write records in this region only, 1-based; repeatable.  [default: all records]",
)
@click.option(
    "--min-delta",
    type=click.FloatRange(0, 1),
    default=default_of(VariantConfig, "min_delta"),
    show_default=True,
    help="Leave out records that change no base by at least this; records that are not scored are written.",
)
@click.option(
    "--shifts",
    type=click.IntRange(1),
    default=default_of(VariantConfig, "shifts"),
    show_default=True,
    help="Number of window offsets to average over; with more than one, the spread is written too.",
)
@click.option(
    "--flank",
    type=click.IntRange(0),
    help="Bases compared on either side of an allele.  [default: all with full context]",
)
@click.option(
    "--max-length",
    type=click.IntRange(1),
    help="Longest allele that is scored, in bases.  [default: 1/8 of the window's core]",
)
@click.option(
    "--gtf",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Gene annotation, GTF or GFF3: adds feature, genes and distance to the TSS of each allele.",
)
@contig_aliases_option
@features_option
@missing_features_option
@both_strands_option
@batch_size_option
@precision_option
@device_option
@threads_option
@processes_option
@restart_option
@force_option
@quiet_option
@verbose_option
def variants(
    vcf,
    genome,
    output,
    saturate,
    indels,
    figure,
    table,
    model,
    regions,
    min_delta,
    shifts,
    flank,
    max_length,
    gtf,
    contig_aliases,
    features,
    missing_features,
    both_strands,
    batch_size,
    precision,
    device,
    threads,
    num_processes,
    restart,
    force,
    quiet,
    verbose,
) -> None:
    """Score how each alternative allele of VCF (or BCF) changes the Z-DNA probability around it.

    Without VCF, --saturate scores every allele in some regions.

    A stopped run resumes if the same command is given again; until then, finished work is in FILE.unfinished beside
    the output. FILE.json records how the output was made, and how many alleles were not scored, by reason.
    """
    _check_arguments(vcf, saturate, indels, figure, table, regions)
    if num_processes > 1 and not is_worker():
        raise SystemExit(launch(num_processes, threads))
    limit_threads(threads)
    log_to_stderr(quiet, verbose)
    from zflipon.jobs.record import command_line
    from zflipon.jobs.signals import stop_on_signals
    from zflipon.progress import job_progress
    from zflipon.workflows import variants as workflow

    with stop_on_signals() as stop, job_progress("records", quiet) as progress:
        common = {
            "model": model,
            "config": VariantConfig(flank, max_length, shifts, min_delta, regions),
            "settings": InferenceConfig(batch_size, precision, device, threads, both_strands),
            "force": force,
            "restart": restart,
            "features": features,
            "missing_features": missing_features,
            "contig_aliases": contig_aliases,
            "gtf": gtf,
            "progress": progress,
            "stop": stop,
            "command": command_line(sys.argv[1:]),
        }
        if saturate:
            counts = workflow.saturate(saturate, genome, output, indels=indels, figure=figure, **common)
        else:
            counts = workflow.score_variants(vcf, genome, output, table=table, **common)
    if counts["records"] and not quiet:
        reasons = [f"{counts[why]:,} {why}" for why in workflow.SKIP_REASONS if counts[why]]
        skipped = f"; not scored: {', '.join(reasons)}" if reasons else ""
        print_line(
            f"zflipon: {format_count(counts['alleles'], 'allele')} scored, {counts['written']:,} of "
            f"{format_count(counts['records'], 'record')} written to {output}{skipped}",
            to_stderr=True,
        )


def _check_arguments(vcf, saturate, indels, figure, table, regions) -> None:
    """Refuse options that do not go together."""
    if saturate:
        given = {"a VCF": vcf, "--table": table, "--region": regions}
        if name := next((name for name, value in given.items() if value), None):
            raise click.UsageError(f"--saturate and {name} exclude each other; leave out one of them")
        return
    if vcf is None:
        raise click.UsageError("missing VCF; name a file, or regions with --saturate")
    if indels or figure:
        raise click.UsageError(f"{'--indels' if indels else '--figure'} needs --saturate")
