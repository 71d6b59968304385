"""Writes a bundle: a folder with tracks, bigBed files, a UCSC hub, an IGV session and an HTML report.

Text of the hub and the session is in `zflipon.report.hub`, the report's content in `zflipon.report.page`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zflipon import __version__
from zflipon.errors import InputError, OutputError
from zflipon.genome.assemblies import assembly_name
from zflipon.genome.fasta import Genome
from zflipon.genome.interval_files import read_bed
from zflipon.genome.intervals import merge_by_contig
from zflipon.genome.names import ContigLengths, read_aliases
from zflipon.genome.twobit import write_twobit
from zflipon.json_files import read_json_file
from zflipon.models.structure import Z_DNA
from zflipon.plots import require_matplotlib
from zflipon.report.hub import GENE_COLOUR, LABEL_COLOUR, BrowserTrack, best_locus, hub_text, session_text
from zflipon.report.page import report_page
from zflipon.report.runs import (
    CALL_EXTENSIONS,
    GENES_NAME,
    LABELS_NAME,
    Run,
    base_name,
    contig_lengths,
    group_tracks,
)
from zflipon.report.sections import Section, Sources, describe_run, write_section_tables
from zflipon.tracks.atomic import atomic_folder, check_output_folder, raise_output_errors, record_path
from zflipon.tracks.bigbed import check_available, write_calls, write_genes, write_labels
from zflipon.tracks.description import CALL_PREFIX
from zflipon.workflows.table_files import require_gene_packages

if TYPE_CHECKING:
    from zflipon.workflows.genes.context import GeneContext

HUB_FILE, SESSION_FILE, REPORT_FILE = "hub.txt", "igv_session.xml", "index.html"
"""Files of every bundle that people open."""

MARK_FILE = "zflipon_bundle.json"
"""File that marks a folder as a bundle; only a folder with it may be replaced."""

MARK_FORMAT = "zflipon bundle"
"""Value of ``format`` in `MARK_FILE`."""

DEFAULT_EMAIL = "nobody@example.org"
"""Contact address of a hub, which UCSC requires."""


@dataclass(frozen=True)
class Bundle:
    """What `bundle` wrote.

    Attributes
    ----------
    assembly : str
    at_ucsc : bool
        Whether the assembly was recognised, or named by the caller.
    files : list of str
        Names of all files in the folder.
    calls : dict of str to int
        Run → number of calls.
    """

    assembly: str
    at_ucsc: bool
    files: list[str]
    calls: dict[str, int]


def bundle(
    tracks: Sequence[Path],
    output: Path,
    genome: Path | None = None,
    assembly: str | None = None,
    labels: Path | None = None,
    email: str = DEFAULT_EMAIL,
    force: bool = False,
    progress: Callable[[int], object] = lambda bases: None,
    contig_aliases: Path | None = None,
    gtf: Path | None = None,
) -> Bundle:
    """Write tracks to a folder that genome browsers open.

    Parameters
    ----------
    tracks : sequence of Path
        bigWig and BED files of annotate. The report shows their run records.
    output : Path
        Folder to write; it appears only once it is complete.
    genome : Path, optional
        FASTA: adds sequences, classes, k-mers and the comparison with Z-HUNT to the report, and the sequence to the
        folder if UCSC does not host the assembly.
    assembly : str, optional
        Name of the assembly at UCSC and in IGV. By default it is recognised by the length of chr1; else it is the
        name of the FASTA.
    labels : Path, optional
        BED of known Z-DNA.
    email : str
        Contact address of the hub.
    force : bool
        Replace an existing bundle.
    progress : callable
        Called with the number of bases just read from a bigWig.
    contig_aliases : Path, optional
        Table of other names of contigs; see `zflipon.genome.names.read_aliases`.
    gtf : Path, optional
        Gene annotation, GTF or GFF3: adds genes and features to the report, and a track of genes.

    Returns
    -------
    Bundle

    Raises
    ------
    ZfliponError
        If an input or the folder cannot be used, or a package that is needed is not installed.
    """
    check_available()
    require_matplotlib("the report of a bundle", "bundle")
    if gtf:
        require_gene_packages()
    _check_folder(output, force)
    runs = group_tracks(tracks)
    with Genome(genome) if genome else nullcontext() as reference:
        aliases = read_aliases(contig_aliases) if contig_aliases else ()
        lengths = ContigLengths(contig_lengths(runs, reference.lengths if reference else None), aliases)
        known_assembly = assembly or assembly_name(lengths)
        assembly = _check_assembly(known_assembly or _genome_name(runs, genome))
        known_zdna = _read_labels(labels, lengths)
        genes = _read_genes(gtf, lengths) if gtf else None
        sources = Sources(lengths, reference, genes, known_zdna)
        with atomic_folder(output) as folder, raise_output_errors(output):
            sections, browser_tracks = [], []
            for run in runs:
                section, shown = _write_run(run, sources, folder, progress)
                sections.append(section)
                browser_tracks += shown
            if labels and known_zdna:
                browser_tracks.append(_write_known_zdna(labels, lengths, known_zdna, folder))
            if genes:
                browser_tracks.append(_write_gene_track(genes, lengths, folder))
            sequence_file = None
            if reference and known_assembly is None:
                sequence_file = f"{assembly}.2bit"
                write_twobit(folder / sequence_file, reference)
            first_calls = next((each.summary.calls for each in sections if each.summary.calls), {})
            locus = best_locus(first_calls, lengths)
            texts = {
                HUB_FILE: hub_text(browser_tracks, assembly, email, sequence_file, locus),
                SESSION_FILE: session_text(browser_tracks, sequence_file or assembly, locus),
                REPORT_FILE: report_page(
                    sections, lengths, assembly, known_assembly is not None, sequence_file
                ),
                MARK_FILE: json.dumps({"format": MARK_FORMAT, "zflipon": __version__, "assembly": assembly})
                + "\n",
            }
            for name, text in texts.items():
                (folder / name).write_text(text, encoding="utf-8")
            files = sorted(path.name for path in folder.iterdir())
    calls = {section.run.name: section.summary.number_of_calls for section in sections}
    return Bundle(assembly, known_assembly is not None, files, calls)


def _check_folder(output: Path, force: bool) -> None:
    """Refuse an output that is neither new, nor empty, nor a bundle; raise `OutputError`."""
    check_output_folder(output, force, (MARK_FILE,))
    mark = output / MARK_FILE
    if not mark.exists():
        return
    try:
        content = read_json_file(mark)
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict) or content.get("format") != MARK_FORMAT:
        raise OutputError(
            f"{output}: {MARK_FILE} in it was not written by zflipon bundle, so the folder is not replaced; "
            "name another folder"
        )


def _check_assembly(name: str) -> str:
    if not name.isprintable() or set(name) & set(" \t/\\"):
        raise InputError(f"assembly {name!r}: expected one word, such as hg38; name it with --assembly")
    return name


def _genome_name(runs: Sequence[Run], genome: Path | None) -> str:
    """Return the name of the FASTA without extensions: the given one, else the recorded one, else ``genome``."""
    recorded = next((str(run.record["genome"]) for run in runs if "genome" in run.record), "genome")
    name = (genome or Path(recorded)).name.removesuffix(".gz")
    return name.rsplit(".", 1)[0].replace(" ", "_") or "genome"


def _read_labels(labels: Path | None, lengths: Mapping[str, int]) -> dict[str, np.ndarray]:
    if labels is None:
        return {}
    intervals = merge_by_contig(read_bed(labels, lengths, "labels"), lengths)
    if not intervals:
        raise InputError(f"{labels}: has no labels on the contigs of the tracks; give a BED of known Z-DNA")
    return intervals


def _read_genes(gtf: Path, lengths: Mapping[str, int]) -> GeneContext:
    from zflipon.workflows.genes.context import read_gene_context  # needs packages that bundles do without

    return read_gene_context(gtf, lengths, owner="the tracks")


def _write_run(
    run: Run, sources: Sources, folder: Path, progress: Callable[[int], object]
) -> tuple[Section, list[BrowserTrack]]:
    """Write a run's files; return what the report shows of it, and its browser tracks."""
    section = describe_run(run, sources, progress)
    summary = section.summary
    files = _copy_tracks(run, folder)
    shown = []
    if run.signal is not None:
        is_probability = summary.bases_by_probability is not None
        value = run.record.get("label", Z_DNA.track_label) if is_probability else "Signal"
        description = f"{value} by {run.model} ({run.name})"
        shown.append(BrowserTrack(f"{run.name}.bw", f"{run.name} signal", description, limits=summary.limits))
    if summary.number_of_calls:
        target = folder / f"{run.name}.bb"
        prefix = str(run.record.get("call_prefix", CALL_PREFIX))
        bed_columns = write_calls(target, sources.lengths, summary.calls, summary.scored, prefix)
        files += [target.name, target.with_suffix(".as").name]
        structure = run.record.get("structure", Z_DNA.name)
        description = f"{structure} called by {run.model} ({run.name})"
        shown.append(BrowserTrack(target.name, f"{run.name} calls", description, bed_columns))
    downloads = write_section_tables(section, sources.lengths, folder)
    return replace(section, files=[*files, *downloads.values()], downloads=downloads), shown


def _copy_tracks(run: Run, folder: Path) -> list[str]:
    """Copy a run's tracks and their records into the folder; return the names of the copies."""
    files = []
    for path in run.files:
        extension = path.name[len(base_name(path)) :]
        name = run.name + (_normal_extension(extension) if path == run.calls else ".bw")
        for source, target in ((path, folder / name), (record_path(path), record_path(folder / name))):
            if source.is_file():
                _link_or_copy(source, target)
                files.append(target.name)
    return files


def _normal_extension(extension: str) -> str:
    """Return the extension of calls in the case in which browsers expect it."""
    extension = extension.lower()
    assert extension in CALL_EXTENSIONS
    return extension.replace(".narrowpeak", ".narrowPeak")


def _link_or_copy(source: Path, target: Path) -> None:
    """Make a hard link, or a copy if the file system has no links. zflipon never writes into an existing track."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def _write_known_zdna(
    labels: Path, lengths: Mapping[str, int], intervals: Mapping[str, np.ndarray], folder: Path
) -> BrowserTrack:
    target = folder / f"{LABELS_NAME}.bb"
    bed_columns = write_labels(target, lengths, intervals)
    description = f"Known Z-DNA: {labels.name}"
    return BrowserTrack(target.name, "known Z-DNA", description, bed_columns, colour=LABEL_COLOUR)


def _write_gene_track(genes: GeneContext, lengths: Mapping[str, int], folder: Path) -> BrowserTrack:
    from zflipon.report.genes import gene_rows

    target = folder / f"{GENES_NAME}.bb"
    rows = [gene.fields() for gene in gene_rows(genes.annotation, lengths)]
    bed_columns = write_genes(target, lengths, rows)
    description = f"Genes: {genes.annotation.path.name}"
    return BrowserTrack(target.name, "genes", description, bed_columns, colour=GENE_COLOUR)
