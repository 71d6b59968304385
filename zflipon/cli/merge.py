"""``zflipon merge``: tracks from the parts of an annotation."""

from __future__ import annotations

import sys

import click

from zflipon.cli.options import (
    force_option,
    header_option,
    limit_threads,
    log_to_stderr,
    outputs_option,
    print_line,
    quiet_option,
    track_line_option,
    verbose_option,
)
from zflipon.config import HeaderConfig
from zflipon.errors import format_count

EPILOG = """\b
Examples:
  zflipon annotate hg38.fa -o part3.zfp --part 3/16
  zflipon merge part*.zfp -o zdna.bw -o zdna.bed.gz
"""


@click.command(epilog=EPILOG)
@click.argument("parts", type=click.Path(), nargs=-1, required=True)
@outputs_option
@track_line_option
@header_option
@force_option
@quiet_option
@verbose_option
def merge(parts, outputs, track_line, header, force, quiet, verbose) -> None:
    """Write the tracks of an annotation from all its PARTS, the .zfp files of `zflipon annotate --part`.

    The tracks have the bytes of one run. Parts of different runs, missing parts and damaged files are refused.
    """
    limit_threads(1)
    log_to_stderr(quiet, verbose)
    from zflipon.jobs.record import command_line
    from zflipon.progress import job_progress
    from zflipon.workflows.merge import merge as run

    with job_progress("b", quiet) as progress:
        record = run(
            parts,
            outputs,
            headers=HeaderConfig(track_line, header),
            force=force,
            progress=progress,
            command=command_line(sys.argv[1:]),
        )
    if quiet:
        return
    tracks, files = record["tracks"], [name for name in record["outputs"] if name != "-"]
    print_line(
        f"zflipon: {format_count(tracks['calls'], 'call')}, {tracks['called_bases']:,} of "
        f"{format_count(tracks['bases'], 'base')}, from {format_count(len(record['parts']), 'part')}",
        to_stderr=True,
    )
    if files:
        print_line(f"zflipon: wrote {', '.join(files)}", to_stderr=True)
