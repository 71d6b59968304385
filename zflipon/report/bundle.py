"""Tracks → a folder for people and browsers: UCSC hub, IGV session, bigBed of the calls, and a report."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from zflipon.errors import InputError
from zflipon.explain.kmers import Composition, enrichment, region_codes
from zflipon.genome.fasta import Genome
from zflipon.genome.interval_files import read_bed
from zflipon.genome.intervals import find_overlapping, merge, merge_by_contig
from zflipon.genome.twobit import write_twobit
from zflipon.report.call_summary import Found, find, spans
from zflipon.report.html import Section, page
from zflipon.report.hub import LABEL_COLOUR, BrowserTrack, hub_text, session_text, start_locus
from zflipon.report.sources import LABELS, Run, assembly_of, contig_lengths, gather
from zflipon.tracks.atomic import atomic_folder, check_output_folder, raise_output_errors, record_path
from zflipon.tracks.bigbed import check_available, write_calls, write_labels

HUB, SESSION, REPORT = "hub.txt", "igv_session.xml", "index.html"
"""What every bundle holds."""

_DRAWN, _SHUFFLES, _SEED, _K = 1000, 20, 42, 6


def bundle(
    tracks: Sequence[Path],
    output: Path,
    genome: Path | None = None,
    assembly: str | None = None,
    labels: Path | None = None,
    email: str = "nobody@example.org",
    force: bool = False,
    progress: Callable[[int], None] = lambda bases: None,
) -> dict:
    """Gather tracks in a folder that browsers open.

    Parameters
    ----------
    tracks : sequence of Path
        bigWig and BED that annotate wrote; what their sidecars tell goes into the report.
    output : Path
        The folder, which appears whole or not at all.
    genome : Path, optional
        FASTA, for k-mers, and for browsers where nobody knows the assembly.
    assembly : str, optional
        Name at UCSC and in IGV; by default it is told by the length of chr1, or is the FASTA's name.
    labels : Path, optional
        BED of known Z-DNA.
    email : str
        Whom to ask about the hub; UCSC wants one.
    force : bool
        Replace a bundle that is there.
    progress : callable
        Called with the bases that were read.

    Returns
    -------
    dict
        The folder's files, the assembly, and the number of calls of each run.

    Raises
    ------
    ZfliponError
        If an input or the folder cannot be used, or pybigtools is missing.
    """
    check_available()
    check_output_folder(output, force, (HUB, REPORT))
    runs = gather(tracks)
    with Genome(genome) if genome else nullcontext() as reference:
        lengths = contig_lengths(runs, reference.lengths if reference else None)
        known = assembly or assembly_of(lengths)
        named = known or _genome_name(runs, genome)
        if not named.isprintable() or set(named) & set(" \t/"):
            raise InputError(f"assembly {named!r}: expected one word, such as hg38; name it by --assembly")
        marked = _read_labels(labels, lengths)
        with atomic_folder(output) as folder, raise_output_errors(output):
            sections, shown = [], []
            for run in runs:
                found = find(run, lengths, progress)
                files, views = _place(run, found, lengths, folder)
                kmers = _kmers(reference, found) if reference else None
                sections.append(Section(run, found, kmers, _labelled(found, marked), files))
                shown += views
            if marked:
                target = folder / f"{LABELS}.bb"
                write_labels(target, lengths, marked)
                about = f"Known Z-DNA: {labels.name}"
                shown.append(BrowserTrack(target.name, "known Z-DNA", about, "3", colour=LABEL_COLOUR))
            first = next((section.found.calls for section in sections if section.found.calls), {})
            locus = start_locus(first, lengths)
            sequence = None
            if reference and known is None:
                sequence = f"{named}.2bit"
                write_twobit(folder / sequence, reference)
            _write(folder / HUB, hub_text(shown, named, email, sequence, locus))
            _write(folder / SESSION, session_text(shown, sequence or named, locus))
            _write(folder / REPORT, page(sections, lengths, named, known is not None, sequence))
            written = sorted(path.name for path in folder.iterdir())
    return {
        "assembly": named,
        "known": known is not None,
        "files": written,
        "calls": {section.run.name: section.found.number for section in sections},
    }


def _genome_name(runs: Sequence[Run], genome: Path | None) -> str:
    """Return a name for an assembly that nobody named: that of the FASTA."""
    path = genome or Path(
        str(next((run.record["genome"] for run in runs if "genome" in run.record), "genome"))
    )
    return path.name.removesuffix(".gz").rsplit(".", 1)[0].replace(" ", "_") or "genome"


def _read_labels(labels: Path | None, lengths: Mapping[str, int]) -> dict[str, np.ndarray]:
    if labels is None:
        return {}
    marked = merge_by_contig(read_bed(labels, lengths, "labels"), lengths)
    if not marked:
        raise InputError(f"{labels}: holds no labels")
    return marked


def _place(
    run: Run, found: Found, lengths: Mapping[str, int], folder: Path
) -> tuple[list[str], list[BrowserTrack]]:
    """Put a run's files into the folder; return their names, and the tracks that browsers show."""
    files, views = [], []
    for path, extension in ((run.signal, ".bw"), (run.calls, None)):
        if path is None:
            continue
        name = run.name + (extension or (".bed.gz" if path.name.lower().endswith(".gz") else ".bed"))
        for source, target in ((path, folder / name), (record_path(path), record_path(folder / name))):
            if source.is_file():
                _link(source, target)
                files.append(target.name)
    if run.signal is not None:
        what = "Probability of Z-DNA" if found.bases_at is not None else "Signal"
        about = f"{what} by {run.model} ({run.name})"
        views.append(BrowserTrack(f"{run.name}.bw", f"{run.name} signal", about, limits=found.limits))
    if found.number:
        target = folder / f"{run.name}.bb"
        write_calls(target, lengths, found.calls, found.scored)
        files += [target.name, target.with_suffix(".as").name]
        columns = "9 +" if found.scored else "9"
        views.append(
            BrowserTrack(
                target.name, f"{run.name} calls", f"Z-DNA called by {run.model} ({run.name})", columns
            )
        )
    return files, views


def _link(source: Path, target: Path) -> None:
    """Give a file a second name where the disk allows it: annotate never writes into a file that is there."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _labelled(found: Found, marked: Mapping[str, np.ndarray]) -> int | None:
    if not marked:
        return None
    return sum(
        len(find_overlapping(marked[contig], start, end)) > 0
        for contig in found.calls
        if contig in marked
        for start, end in spans(found.calls[contig]).tolist()
    )


def _kmers(reference: Genome, found: Found) -> Composition | None:
    """Return the k-mers of the calls, or of a draw where there are many: shuffles take their time."""
    regions = {contig: merge(spans(calls)) for contig, calls in found.calls.items()}
    places = [(contig, row) for contig, rows in regions.items() for row in rows]
    if not places:
        return None
    chosen = np.random.default_rng(_SEED).permutation(len(places))[:_DRAWN]
    drawn: dict[str, list] = {}
    for at in np.sort(chosen):
        drawn.setdefault(places[at][0], []).append(places[at][1])
    codes = region_codes(reference, {contig: np.array(rows) for contig, rows in drawn.items()})
    return Composition(codes, enrichment(codes, _K, _SHUFFLES, _SEED))
