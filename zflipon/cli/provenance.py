"""``zflipon provenance``: how a track was made, and whether predicting part of it again gives the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click

from zflipon.cli.options import (
    complete_contigs,
    complete_models,
    device_option,
    limit_threads,
    print_line,
    quiet_option,
    threads_option,
)
from zflipon.tracks.registry import VERIFIABLE, list_names

EPILOG = """\b
Examples:
  zflipon provenance zdna.bw
  zflipon provenance zdna.bw --genome hg38.fa
  zflipon provenance zdna.bed.gz --verify chr22:20,000,001-20,100,000
  zflipon provenance zdna.bw --json | jq .record.model.sha256
"""

HELP = f"""Print how TRACK, an output of zflipon, was made: command, model, genome, versions.

This is read from the record TRACK.json in the same folder. --verify is for a {list_names(VERIFIABLE)} of annotate:
it predicts a region again, in the same windows, with the same model and settings. The exit status is 1 if the track
was changed, the genome is another one, or the new prediction differs.
"""


@click.command(help=HELP, epilog=EPILOG)
@click.argument("track", type=click.Path(path_type=Path))
@click.option(
    "--genome",
    type=click.Path(path_type=Path),
    metavar="FASTA",
    help="Compare its contigs with those of the track, and use it for --verify.  [default: the recorded one]",
)
@click.option(
    "--verify",
    "region",
    metavar="CHR:START-END",
    shell_complete=complete_contigs,
    help="Predict this region (1-based) again, and compare it with the track.",
)
@click.option(
    "-m",
    "--model",
    shell_complete=complete_models,
    help="Model for --verify.  [default: the recorded one]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@device_option
@threads_option
@quiet_option
def provenance(track, genome, region, model, as_json, device, threads, quiet) -> None:
    """Print how TRACK was made, and verify it."""
    limit_threads(threads)
    from zflipon.progress import progress_bar
    from zflipon.workflows.provenance import compare_file, compare_genome, load_track_record

    record = load_track_record(track)
    changed, problems, verification = compare_file(record, track), [], None
    with progress_bar("b", quiet=quiet) as bar:
        if genome and "contigs" in record:
            from zflipon.genome.fasta import Genome

            with Genome(genome) as source:
                problems = compare_genome(record, source, bar.update)
        if region:
            from zflipon.workflows.verification import verify

            verification = verify(track, region, genome, model, device, threads, bar.update)
    if as_json:
        print_line(json.dumps(_plain(track, record, changed, genome, problems, verification), indent=1))
    else:
        lines = [*_lines(record), *_file_lines(record, changed), *_genome_lines(record, genome, problems)]
        print_line("\n".join([*lines, *_verification_lines(verification)]))
    if changed or problems or (verification and not verification.agrees):
        raise SystemExit(1)


def _plain(track: Path, record: dict, changed: list[str], genome, problems: list[str], verification) -> dict:
    result = {"track": str(track), "record": record, "changed": changed}
    if genome:
        result["genome"] = {"path": str(genome), "problems": problems}
    if verification:
        result["verified"] = {**vars(verification), "agrees": verification.agrees}
    return result


def _lines(record: dict) -> Iterator[str]:
    """Yield the lines of a record; records of other commands lack some sections."""
    model, predict, call, contigs = (record.get(key, {}) for key in ("model", "predict", "call", "contigs"))
    facts = {
        "command": record["command"],
        "started": record.get("started"),
        "took": _took(record),
        "model": f"{model.get('name')} ({model.get('family')}) in {model.get('path')}",
        "sha256": model.get("sha256"),
        "windows": f"{model.get('window')} bp, margin {model.get('margin')} bp, "
        + ("both strands" if predict.get("both_strands") else "one strand"),
        "arithmetic": f"{predict.get('precision')} on {predict.get('device')}",
        "calls": call
        and f"from {call.get('threshold')}, at least {call.get('min_length')} bp, "
        f"merged across gaps of {call.get('merge_gap')} bp",
        "screen": ", ".join(f"{key} {value}" for key, value in (record.get("screen") or {}).items()),
        "genome": record.get("genome"),
        "regions": _region_text(record.get("regions")),
        "bases": record.get("bases") and f"{record['bases']:,}",
        "versions": ", ".join(f"{name} {number}" for name, number in record.get("versions", {}).items()),
    }
    yield from (f"{name:<12}  {text}" for name, text in facts.items() if text)
    for name, file in (record.get("features") or {}).items():
        yield f"{'track':<12}  {name}: {file['path'] + ', SHA-256 ' + file['sha256'] if file else 'not given'}"
    for name, each in contigs.items():
        yield f"{'contig':<12}  {name}: {each['length']:,} bp, MD5 {each['md5']}"


def _took(record: dict) -> str:
    count = record.get("processes", 1)
    seconds = f"{record['seconds']:,} s" if "seconds" in record else ""
    return seconds and f"{seconds}, {count} process{'es' if count > 1 else ''}"


def _region_text(regions: list[str] | None) -> str:
    from zflipon.errors import format_names

    return format_names(regions) if regions else ""


def _file_lines(record: dict, changed: list[str]) -> Iterator[str]:
    if "file" not in record:
        yield f"{'file':<12}  its checksum was not recorded"
    else:
        yield f"{'file':<12}  {changed[0] if changed else 'as it was written, SHA-256 ' + record['file']['sha256']}"


def _genome_lines(record: dict, genome: Path | None, problems: list[str]) -> Iterator[str]:
    if genome and "contigs" not in record:
        yield f"{'compared':<12}  the record holds no checksums of contigs to compare {genome} with"
    elif genome:
        verification = "differs" if problems else "all contigs are those of the track"
        yield f"{'compared':<12}  {genome}: {verification}"
        yield from (f"{'':<12}  {problem}" for problem in problems)


def _verification_lines(verification) -> Iterator[str]:
    if verification is None:
        return
    yield from (f"{'note':<12}  {note}" for note in verification.notes)
    calls = "" if verification.calls is None else f", {verification.calls:,} calls"
    what = "agrees" if verification.agrees else f"DIFFERS at {verification.differing:,} bases"
    counts = f"{verification.bases:,} bases{calls}"
    yield (
        f"{'verified':<12}  {verification.region}, {counts}: {what}; the largest difference is "
        f"{verification.largest:.4f}, allowed are {verification.allowed:g}"
    )
