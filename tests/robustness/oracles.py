"""What a damaged input means, found without zflipon's parsers: strict readers of FASTA, BED and VCF.

Each check returns the fault in the result of a command, or an empty string.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from robustness.runner import Outcome

LETTERS = frozenset("ACGTUNRYSWKMBDHVacgtunryswkmbdhv")


def parse_fasta(content: bytes) -> dict[str, str] | None:
    """Return the sequences of a strict FASTA file, None if it is not one."""
    try:
        lines = content.decode("ascii").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError:
        return None
    contigs: dict[str, list[str]] = {}
    name = None
    for line in lines:
        if line.startswith(">"):
            words = line[1:].split()
            if not words or words[0] in contigs or not line.isprintable():
                return None
            name = words[0]
            contigs[name] = []
        elif name is None:
            if line:
                return None
        elif set(line) <= LETTERS:
            contigs[name].append(line)
        else:
            return None
    return {name: "".join(parts) for name, parts in contigs.items()} or None


def parse_bed(content: bytes, contigs: dict[str, int]) -> list[tuple[str, int, int]] | None:
    """Return the intervals of a strict BED file on these contigs, None if it is not one."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if "\0" in text:  # a binary file
        return None
    intervals = []
    for line in re.split("\r\n|\r|\n", text):  # splitlines also splits at characters such as U+2028
        if not line.strip() or line.startswith(("#", "track", "browser")):
            continue
        columns = line.split("\t") if "\t" in line else line.split()
        if len(columns) < 3 or columns[0] not in contigs:
            return None
        if not all(re.fullmatch("[0-9]{1,9}", column) for column in columns[1:3]):
            return None
        start, end = int(columns[1]), int(columns[2])
        if not start <= end <= contigs[columns[0]]:
            return None
        if start < end:
            intervals.append((columns[0], start, end))
    return intervals


def union(intervals: list[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """Return the merged intervals in order."""
    merged: list[tuple[str, int, int]] = []
    for contig, start, end in sorted(intervals):
        if merged and merged[-1][0] == contig and start <= merged[-1][2]:
            merged[-1] = (contig, merged[-1][1], max(end, merged[-1][2]))
        else:
            merged.append((contig, start, end))
    return merged


def lengths(folder: Path) -> dict[str, int]:
    """Return the contigs of the genome of a case."""
    contigs = parse_fasta((folder / "g.fa").read_bytes())
    assert contigs is not None
    return {name: len(sequence) for name, sequence in contigs.items()}


def check_fasta(damaged: bytes, folder: Path, outcome: Outcome) -> str:
    """A strict file gives its contigs; anything else is refused, or something is said about it."""
    contigs = parse_fasta(damaged)
    record = json.loads((folder / "out.bed.json").read_text())
    if contigs is None:  # the checksums of the record describe what was read
        is_empty = not (folder / "out.bed").stat().st_size
        return "the result is empty" if is_empty and not outcome.has_warning else ""
    recorded = {name: contig["length"] for name, contig in record["contigs"].items()}
    expected = {name: len(sequence) for name, sequence in contigs.items() if sequence}
    return "" if recorded == expected else f"contigs {recorded}, expected {expected}"


def check_regions(damaged: bytes, folder: Path, outcome: Outcome) -> str:
    """The record has the union of the regions of a strict file; rows of another are mentioned."""
    intervals = parse_bed(damaged, lengths(folder))
    if intervals is None:
        return "" if outcome.has_warning else "invalid rows without a message"
    record = json.loads((folder / "out.bed.json").read_text())
    expected = [f"{contig}:{start + 1}-{end}" for contig, start, end in union(intervals)]
    return (
        "" if record["regions"] in (expected, None) else f"regions {record['regions']}, expected {expected}"
    )


def check_labels(damaged: bytes, folder: Path, outcome: Outcome) -> str:
    """Rows that are not strict BED are mentioned."""
    if parse_bed(damaged, lengths(folder)) is None and not outcome.has_warning:
        return "invalid rows without a message"
    return ""


def check_vcf(damaged: bytes, folder: Path, outcome: Outcome) -> str:
    """All records are there, and their first five columns have not changed."""

    def records(content: bytes) -> list[list[bytes]]:
        rows = [line.rstrip(b"\r") for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n")]
        return [row.split(b"\t")[:5] for row in rows if row and not row.startswith(b"#")]

    written = records((folder / "out.vcf").read_bytes())
    if damaged[:2] == b"\x1f\x8b":
        return ""
    expected = records(damaged)
    if len(written) != len(expected):
        return f"{len(written)} records, expected {len(expected)}"
    for old, new in zip(expected, written, strict=True):
        if [old[0], old[2].upper(), old[3].upper()] != [new[0], new[2].upper(), new[3].upper()] or old[
            1
        ].lstrip(b"+0") != new[1]:
            return f"{new}, expected {old}"
    return ""
