"""``zflipon provenance``: where a track came from, and whether it still says the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click

from zflipon.cli.options import device_option, limit_threads, threads_option

EPILOG = """\b
Examples:
  zflipon provenance zdna.bw
  zflipon provenance zdna.bw --genome hg38.fa
  zflipon provenance zdna.bed.gz --verify chr22:1,000,001-1,010,000
"""


@click.command(epilog=EPILOG)
@click.argument("track", type=click.Path(path_type=Path))
@click.option(
    "--genome",
    type=click.Path(path_type=Path),
    metavar="FASTA",
    help="Say whether its contigs are those of the track; read it where --verify asks.  [default: the recorded one]",
)
@click.option(
    "--verify",
    "region",
    metavar="CHR:START-END",
    help="Read this place again (1-based) and compare it with the track.",
)
@click.option("-m", "--model", help="Where the recorded model lies now.  [default: where it was]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@device_option
@threads_option
def provenance(track, genome, region, model, as_json, device, threads) -> None:
    """Tell how TRACK, a bigWig, bedGraph or BED of annotate's, was made: command, model, genome, versions.

    All is read from the record TRACK.json, which annotate writes beside each track. The exit status is 1 if the
    genome is another one or the place that was read again differs.
    """
    limit_threads(threads)
    from zflipon.genome import Genome
    from zflipon.provenance import compare_genome, record_of, verify

    record = record_of(track)
    told = {"track": str(track), "record": record}
    problems = []
    if genome:
        with Genome(genome) as source:
            problems = compare_genome(record, source)
        told["genome"] = {"path": str(genome), "problems": problems}
    verdict = verify(track, region, genome, model, device, threads) if region else None
    if verdict:
        told["verified"] = {**vars(verdict), "agrees": verdict.agrees}
    lines = [*_lines(record), *_genome_lines(genome, problems), *_verdict_lines(verdict)]
    click.echo(json.dumps(told, indent=1) if as_json else "\n".join(lines))
    if problems or (verdict and not verdict.agrees):
        raise SystemExit(1)


def _lines(record: dict) -> Iterator[str]:
    """Lay a record out for reading."""
    model, predict, call, contigs = (record[key] for key in ("model", "predict", "call", "contigs"))
    strands = "both strands" if predict.get("both_strands") else "one strand"
    joined = f"joined at {call.get('merge_gap')} bp"
    screen = ", ".join(f"{key} {value}" for key, value in (record.get("screen") or {}).items())
    facts = {
        "command": record["command"],
        "started": record.get("started"),
        "took": f"{record['seconds']:,} s, {record.get('processes', 1)} processes"
        if "seconds" in record
        else None,
        "genome": record.get("genome"),
        "model": f"{model.get('name')} ({model.get('family')}), SHA-256 {model.get('sha256')}",
        "windows": f"{model.get('window')} bp, margin {model.get('margin')} bp, {strands}",
        "arithmetic": f"{predict.get('precision')} on {predict.get('device')}",
        "calls": f"from {call.get('threshold')}, at least {call.get('min_length')} bp, {joined}",
        "screen": screen or "none",
        "bases": f"{record.get('bases', 0):,}",
        "versions": ", ".join(f"{name} {number}" for name, number in record.get("versions", {}).items()),
    }
    yield from (f"{name:<12}  {text}" for name, text in facts.items() if text)
    for name, file in (record.get("features") or {}).items():
        yield f"{'track':<12}  {name}: {file['path'] + ', SHA-256 ' + file['sha256'] if file else 'not given'}"
    for name, each in contigs.items():
        yield f"{'contig':<12}  {name}: {each['length']:,} bp, MD5 {each['md5']}"


def _genome_lines(genome: Path | None, problems: list[str]) -> Iterator[str]:
    if genome:
        yield f"{'compared':<12}  {genome}: " + (
            "all contigs are those of the track" if not problems else "differs"
        )
        yield from (f"{'':<12}  {problem}" for problem in problems)


def _verdict_lines(verdict) -> Iterator[str]:
    if verdict is None:
        return
    yield from (f"{'note':<12}  {note}" for note in verdict.notes)
    largest = "" if verdict.largest is None else f", the largest difference is {verdict.largest:.4f}"
    what = "agrees" if verdict.agrees else f"{verdict.differing:,} bases differ"
    yield f"{'verified':<12}  {verdict.region}, {verdict.bases:,} bases: {what}{largest}"
