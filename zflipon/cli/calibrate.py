"""``zflipon calibrate``: choose the threshold of a track for a stated precision or false-discovery rate."""

from __future__ import annotations

from pathlib import Path

import click

from zflipon.cli.options import (
    InputPath,
    complete_models,
    contig_aliases_option,
    contigs_option,
    default_of,
    device_option,
    force_option,
    limit_threads,
    log_to_stderr,
    print_line,
    quiet_option,
    threads_option,
)
from zflipon.config import CalibrateConfig, InferenceConfig
from zflipon.errors import InputError

EPILOG = """\b
Examples:
  zflipon calibrate zdna.bw --genome hg19.fa --labels kouzine.bed --precision 0.8 -o zdna.calibration.json
  zflipon calibrate zdna.propensity.bw --genome ecoli.fa --fdr 0.05 -o ecoli.calibration.json
  zflipon annotate hg19.fa -o zdna.bed --calibration zdna.calibration.json
"""


@click.command(epilog=EPILOG)
@click.argument("track", type=InputPath())
@click.option(
    "--genome",
    required=True,
    type=InputPath(),
    metavar="FASTA",
    help="Genome of the track: plain, gzip or bgzip.",
)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="JSON",
              help="File to write, for annotate --calibration.")  # fmt: skip
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    metavar="BED",
    help="Known Z-DNA. Without labels, the false-discovery rate is estimated from shuffled sequence.",
)
@click.option(
    "--precision",
    type=click.FloatRange(0, 1, min_open=True),
    help=f"Precision to reach, with --labels.  [default: {default_of(CalibrateConfig, 'precision')}]",
)
@click.option(
    "--fdr",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help=f"False-discovery rate to reach, without --labels.  [default: {default_of(CalibrateConfig, 'fdr')}]",
)
@click.option(
    "--blacklist", type=click.Path(path_type=Path), metavar="BED", help="Regions that do not count."
)
@contigs_option
@click.option("--model", metavar="NAME", shell_complete=complete_models,
              help="Model that predicts shuffled sequence.  [default: that of the track's record]")  # fmt: skip
@click.option(
    "--shuffled-bases",
    type=click.IntRange(1),
    default=default_of(CalibrateConfig, "shuffled_bases"),
    show_default=True,
    help="Bases to shuffle and predict.",
)
@click.option("--seed", type=click.IntRange(0), default=default_of(CalibrateConfig, "seed"), show_default=True,
              help="Random seed of shuffles and intervals.")  # fmt: skip
@contig_aliases_option
@device_option
@threads_option
@force_option
@quiet_option
def calibrate(
    track, genome, output, labels, precision, fdr, blacklist, contigs, model, shuffled_bases, seed, contig_aliases,
    device, threads, force, quiet,
) -> None:  # fmt: skip
    """Choose the threshold of TRACK, a bigWig or bedGraph with scores, for a stated precision or false-discovery rate.

    With --labels, the threshold is the lowest at which the called bases have at least the stated precision. Without,
    dinucleotide-preserving shuffles of the genome are predicted, and the threshold is the lowest at which at most the
    stated share of the calls is expected by chance. `annotate --calibration` uses the result.
    """
    if labels is None and precision is not None:
        raise click.UsageError("--precision needs --labels; without labels, give --fdr")
    if labels is not None and fdr is not None:
        raise click.UsageError(
            "--fdr is for calibration without labels; give --precision, or leave --labels out"
        )
    limit_threads(threads)
    log_to_stderr(quiet)
    from zflipon.progress import progress_bar, progress_callback
    from zflipon.tracks.atomic import check_output_path
    from zflipon.workflows.calibrate import calibrate as run
    from zflipon.workflows.calibration_file import write_calibration

    if any(output == path for path in (track, genome, labels, blacklist)):
        raise InputError(f"{output}: is an input; name another output")
    check_output_path(output, force)
    with progress_bar("b", quiet=quiet) as bar:
        found = run(
            track,
            genome,
            labels,
            precision=precision if precision is not None else default_of(CalibrateConfig, "precision"),
            fdr=fdr if fdr is not None else default_of(CalibrateConfig, "fdr"),
            blacklist=blacklist,
            contigs=contigs,
            model=model,
            shuffled_bases=shuffled_bases,
            settings=InferenceConfig(device=device, threads=threads),
            seed=seed,
            progress=progress_callback(bar),
            contig_aliases=contig_aliases,
        )
    write_calibration(output, found)
    print_line(found.describe())
