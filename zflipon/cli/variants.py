"""``zflipon variants``: a VCF → what its alleles do to Z-DNA."""

from __future__ import annotations

from pathlib import Path

import click

from zflipon.cli.launch import launch, launched
from zflipon.cli.options import (
    batch_size_option,
    both_strands_option,
    complete_contigs,
    default,
    device_option,
    features_option,
    force_option,
    limit_threads,
    log_to_stderr,
    missing_features_option,
    model_option,
    precision_option,
    processes_option,
    quiet_option,
    restart_option,
    threads_option,
    verbose_option,
)
from zflipon.config import InferenceConfig, VariantConfig

EPILOG = """\b
Examples:
  zflipon variants calls.vcf.gz --genome hg38.fa -o zdna.vcf.gz
  zflipon variants calls.bcf --genome hg38.fa -o zdna.tsv --min-delta 0.1 --shifts 4
"""


@click.command(epilog=EPILOG)
@click.argument("vcf", type=click.Path(path_type=Path))
@click.option(
    "-g", "--genome", type=click.Path(path_type=Path), required=True, help="FASTA of the VCF's contigs."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="The extension picks the format: .vcf.gz and .bcf (indexed), .vcf, .tsv.",
)
@model_option
@click.option(
    "-r",
    "--region",
    "regions",
    multiple=True,
    metavar="CHR:START-END",
    shell_complete=complete_contigs,
    help="Only records there; repeatable.",
)
@click.option(
    "--min-delta",
    type=click.FloatRange(0, 1),
    default=default(VariantConfig, "min_delta"),
    show_default=True,
    help="Leave out records that change no base by this much; those not scored stay.",
)
@click.option(
    "--shifts",
    type=click.IntRange(1),
    default=default(VariantConfig, "shifts"),
    show_default=True,
    help="Average over so many window offsets and tell the spread.",
)
@click.option(
    "--flank", type=click.IntRange(0), help="Bases compared on either side.  [default: all with context]"
)
@click.option(
    "--max-length", type=click.IntRange(1), help="Longest allele that is scored.  [default: by model]"
)
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
    model,
    regions,
    min_delta,
    shifts,
    flank,
    max_length,
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
    """Tell what each alternative allele of VCF (or BCF) does to the probability of Z-DNA around it.

    A run that was stopped goes on by the same command; till then, what was done lies in FILE.unfinished beside the
    output. FILE.json tells how the output was made, and how many alleles were left out for which reason.
    """
    if num_processes > 1 and not launched():
        raise SystemExit(launch(num_processes, threads))
    limit_threads(threads)
    log_to_stderr(quiet, verbose)
    from zflipon.workflows.variants import REASONS
    from zflipon.workflows.variants import variants as run

    told = run(
        vcf,
        genome,
        output,
        model,
        VariantConfig(flank, max_length, shifts, min_delta, regions),
        InferenceConfig(batch_size, precision, device, threads, both_strands),
        force=force,
        quiet=quiet,
        restart=restart,
        features=features,
        missing_features=missing_features,
    )
    if told["records"] and not quiet:
        reasons = [f"{told[why]:,} {why}" for why in REASONS if told[why]]
        click.echo(
            f"zflipon: {told['alleles']:,} alleles scored, {told['written']:,} of {told['records']:,} records written"
            + (f"; not scored: {', '.join(reasons)}" if reasons else ""),
            err=True,
        )
