"""Content of a bundle's HTML report: tables, figures and links, the calls first and their provenance last.

The markup is in ``templates/report.html.j2``; numbers come from `zflipon.report.sections`, tables and figures from
`zflipon.report.call_blocks` and `zflipon.report.context_blocks`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from zflipon.report.blocks import Link, Note, Part, PlotRow, Table
from zflipon.report.call_blocks import (
    along_plot,
    class_table,
    contig_table,
    density_plot,
    distribution_plots,
    loci_tables,
    probability_plot,
)
from zflipon.report.context_blocks import (
    feature_table,
    gene_plot,
    gene_table,
    kmer_tables,
    shared_calls_table,
    zhunt_table,
)
from zflipon.report.domain import describe_domain, domain_warning
from zflipon.report.html import MISSING, number_text, plain_text, render
from zflipon.report.sections import Section


@dataclass(frozen=True)
class RunContent:
    """What the page shows of one run.

    Attributes
    ----------
    name, model : str
    note : str
        Why there are no calls; empty if there are.
    warning : str
        Why the probabilities may have no meaning; empty without a reason.
    downloads, files : sequence of Link
        Tables of the run; all its files.
    parts : sequence of Part
        Tables and figures, in the order of the page.
    provenance : Table
    """

    name: str
    model: str
    note: str
    warning: str
    downloads: Sequence[Link]
    files: Sequence[Link]
    parts: Sequence[Part]
    provenance: Table


def report_page(
    sections: Sequence[Section],
    lengths: Mapping[str, int],
    assembly: str,
    at_ucsc: bool,
    sequence_file: str | None = None,
) -> str:
    """Return the HTML report of a bundle.

    Parameters
    ----------
    sections : sequence of Section
    lengths : mapping of str to int
        Contigs in the order of the genome.
    assembly : str
    at_ucsc : bool
        Whether the UCSC browser hosts the assembly under this name.
    sequence_file : str, optional
        2bit file in the bundle, if UCSC does not host the assembly.
    """
    ucsc_assembly = assembly if at_ucsc else None
    return render(
        "report.html.j2",
        assembly=assembly,
        at_ucsc=at_ucsc,
        sequence=Link(sequence_file, quote(sequence_file)) if sequence_file else None,
        overview=overview_table(sections),
        shared=shared_part(sections),
        runs=[
            run_content(number, section, lengths, ucsc_assembly) for number, section in enumerate(sections, 1)
        ],
    )


def overview_table(sections: Sequence[Section]) -> Table:
    """Return one row per run: bases, calls, called bases, share and density."""
    rows = []
    for section in sections:
        summary, bases = section.summary, section.assessed_bases
        called = sum(map(summary.called_bases, summary.calls))
        known = summary.has_calls
        row = [
            section.run.name,
            section.run.model,
            number_text(bases),
            number_text(summary.number_of_calls if known else None),
            number_text(called if known else None),
            f"{called / bases:.4%}" if bases and known else MISSING,
            f"{summary.number_of_calls / bases * 1e6:,.1f}" if bases and known else MISSING,
        ]
        if section.labelled_calls is not None:
            row.append(number_text(section.labelled_calls))
        rows.append(row)
    columns = ["run", "model", "bases assessed", "calls", "bases called", "share", "calls per Mb"]
    if any(section.labelled_calls is not None for section in sections):
        columns.append("calls on known Z-DNA")
    return Table("overview", columns, rows, text_columns=2)


def shared_part(sections: Sequence[Section]) -> Part | None:
    """Return the share of calls that runs have in common; None unless two runs have calls."""
    with_calls = [section for section in sections if section.summary.number_of_calls]
    if len(with_calls) < 2:
        return None
    names = [section.run.name for section in with_calls]
    table = shared_calls_table(names, [section.summary for section in with_calls])
    return Part(
        "Calls that runs share",
        [table, Note("Two calls are shared if they have a base in common.")],
    )


def run_content(
    number: int, section: Section, lengths: Mapping[str, int], ucsc_assembly: str | None
) -> RunContent:
    """Return what the page shows of one run.

    Parameters
    ----------
    number : int
        Number of the run on the page, part of the identifiers.
    section : Section
    lengths : mapping of str to int
    ucsc_assembly : str or None
        Name for links to the UCSC browser.
    """
    run, summary = section.run, section.summary
    note, parts = "", []
    if not summary.has_calls:
        note = "The calls are not known: no BED was given, and no run record has a threshold."
    elif not summary.number_of_calls:
        note = "No base was called."
    else:
        parts += call_parts(number, section, lengths, ucsc_assembly)
        parts += context_parts(number, section)
    if plot := probability_plot(number, summary):
        parts.append(Part("Probabilities", [plot]))
    return RunContent(
        run.name,
        run.model,
        note,
        domain_warning(run.record),
        [Link(name, quote(file)) for name, file in section.downloads.items()],
        [Link(file, quote(file)) for file in section.files],
        parts,
        provenance_table(number, section),
    )


def call_parts(
    number: int, section: Section, lengths: Mapping[str, int], ucsc_assembly: str | None
) -> Iterator[Part]:
    """Yield what the page shows of calls; parameters are those of `run_content`."""
    summary, table = section.summary, section.table
    for heading, loci in loci_tables(number, summary, lengths, ucsc_assembly, table):
        yield Part(heading, [loci])
    if table is not None and "class" in table.columns:
        note = "By the longest alternating run of purines and pyrimidines; mixed: no kind of step is three in four."
        yield Part("Classes of the sequence", [class_table(number, table), Note(note)])
    yield Part(
        "Calls along the genome",
        [
            along_plot(number, summary, lengths),
            density_plot(number, summary, lengths),
            contig_table(number, summary, lengths),
        ],
    )
    yield Part("Lengths and scores", [PlotRow(list(distribution_plots(number, summary)))])


def context_parts(number: int, section: Section) -> Iterator[Part]:
    """Yield what an annotation, Z-HUNT and k-mers add to calls."""
    calls, bases = section.summary.number_of_calls, section.assessed_bases
    if section.genes is not None:
        genes = section.genes
        listed = [gene_table(number, genes)] if len(genes.genes) else []
        yield Part("Genes and features", [gene_plot(number, genes), feature_table(number, genes), *listed])
    if section.zhunt is not None:
        table, note = zhunt_table(number, calls / bases * 1e6 if bases else None, calls, section.zhunt)
        yield Part("Comparison with Z-HUNT", [table, Note(note)])
    if section.kmers is not None:
        classes, kmers, note = kmer_tables(number, section.kmers, calls)
        yield Part("k-mers of the calls", [classes, kmers, Note(note)])


def provenance_table(number: int, section: Section) -> Table:
    """Return what the run record says about how the tracks were made."""
    record = section.run.record
    rows = [["track", str(path)] for path in section.run.files]
    if not record:
        rows.append(["record", "none: the model and the genome of these tracks are not known"])
    rows += [
        [name, plain_text(value)]
        for name, value in _recorded_facts(record).items()
        if value not in (None, "")
    ]
    return Table(f"provenance-{number}", ["property", "value"], rows, text_columns=2)


def _recorded_facts(record: Mapping) -> dict[str, object]:
    if not record:
        return {}
    model, call, inference = (record.get(section, {}) for section in ("model", "call", "predict"))
    versions = record.get("versions", {})
    device = [str(inference[name]) for name in ("device", "precision") if inference.get(name)]
    return {
        "command": record.get("command"),
        "started": record.get("started"),
        "genome": record.get("genome"),
        "contigs": len(record.get("contigs", {})),
        "model": model.get("name"),
        "model SHA-256": model.get("sha256"),
        "threshold": call.get("threshold"),
        "minimum length of a call (bp)": call.get("min_length"),
        "calls merged across gaps of (bp)": call.get("merge_gap"),
        "both strands": {True: "yes", False: "no"}.get(inference.get("both_strands")),
        "device, precision": ", ".join(device),
        "screen": "yes" if record.get("screen") else "no",
        "bases in gaps of N": record.get("bases_in_gaps"),
        "windows": record.get("windows"),
        "training data of the model": describe_domain(record),
        "seconds": record.get("seconds"),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items())
        if isinstance(versions, Mapping)
        else str(versions),
    }
