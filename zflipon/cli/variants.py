"""``zflipon variants``: a VCF → what its alleles do to Z-DNA."""

from __future__ import annotations

from pathlib import Path

import click

from zflipon.cli.launch import launch, launched
from zflipon.cli.options import (
    default,
    force_option,
    limit_threads,
    log_to_stderr,
    quiet_option,
    threads_option,
    verbose_option,
)
from zflipon.config import DEFAULT_MODEL, PredictConfig, VariantConfig

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
@click.option(
    "-m", "--model", default=DEFAULT_MODEL, show_default=True, help="Bundled name, folder, file or hub id."
)
@click.option(
    "-r",
    "--region",
    "regions",
    multiple=True,
    metavar="CHR:START-END",
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
@click.option("--both-strands", is_flag=True, help="Average with the reverse complement (half the speed).")
@click.option("--batch-size", type=click.IntRange(1), help="Windows a forward pass.  [default: by device]")
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default=default(PredictConfig, "precision"),
    show_default=True,
    help="auto: bfloat16 on a GPU that has it, else float32.",
)
@click.option(
    "--device",
    default=default(PredictConfig, "device"),
    show_default=True,
    help="auto: CUDA, then MPS, then CPU; or a torch device.",
)
@threads_option
@click.option(
    "-n", "--num-processes", type=click.IntRange(1), default=1, show_default=True, help="On this machine."
)
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
    both_strands,
    batch_size,
    precision,
    device,
    threads,
    num_processes,
    force,
    quiet,
    verbose,
) -> None:
    """Tell what each alternative allele of VCF (or BCF) does to the probability of Z-DNA around it."""
    if num_processes > 1 and not launched():
        raise SystemExit(launch(num_processes, threads))
    limit_threads(threads)
    log_to_stderr(quiet, verbose)
    from zflipon.variants import REASONS
    from zflipon.variants import variants as run

    told = run(
        vcf,
        genome,
        output,
        model,
        VariantConfig(flank, max_length, shifts, min_delta, regions),
        PredictConfig(batch_size, precision, device, threads, both_strands),
        force=force,
        quiet=quiet,
    )
    if told["records"] and not quiet:
        reasons = [f"{told[why]:,} {why}" for why in REASONS if told[why]]
        click.echo(
            f"zflipon: {told['alleles']:,} alleles scored, {told['written']:,} of {told['records']:,} records written"
            + (f"; not scored: {', '.join(reasons)}" if reasons else ""),
            err=True,
        )
