"""Content of a bundle's HTML report: tables, figures and links, the calls first and their provenance last.

The markup is in ``templates/report.html.j2``; numbers come from `zflipon.report.calls`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

import numpy as np
from markupsafe import Markup

from zflipon.explain.kmers import RegionComposition
from zflipon.report.blocks import Link, Plot, Table
from zflipon.report.calls import RunSummary, top_calls
from zflipon.report.domain import describe_domain, domain_warning
from zflipon.report.figures import bin_counts, calls_along_contigs, histogram
from zflipon.report.html import MISSING, number_text, render
from zflipon.report.hub import UCSC_ADDRESS, surrounding_region
from zflipon.report.runs import Run

TOP = 15
"""Rows in the tables of loci and k-mers."""

CONTIGS_LISTED = 50
"""Rows in the table of contigs; the rest are summed in one more row."""

CONTIGS_DRAWN = 30
"""Contigs in the figure of calls along the genome: the longest ones with calls."""

LENGTH_BINS = 40
"""Bins of the histogram of call lengths, at most."""

IGV_ADDRESS = "http://localhost:60151/goto?locus="


@dataclass(frozen=True)
class Section:
    """What the report shows of one run.

    Attributes
    ----------
    run : Run
    summary : RunSummary
    kmers : RegionComposition or None
        k-mers of the calls, or of a random sample of them; None without a genome.
    labelled_calls : int or None
        Number of calls that overlap known Z-DNA; None without labels.
    files : sequence of str
        The run's files in the bundle.
    """

    run: Run
    summary: RunSummary
    kmers: RegionComposition | None
    labelled_calls: int | None
    files: Sequence[str]

    @property
    def assessed_bases(self) -> int | None:
        """Number of bases with a value: counted in the bigWig, else as recorded, else None."""
        if self.summary.assessed is not None:
            return sum(self.summary.assessed.values())
        return self.run.record.get("tracks", {}).get("bases")


@dataclass(frozen=True)
class RunContent:
    """Tables and figures of one run, in the order of the page; None where there is nothing to show.

    Attributes
    ----------
    name, model : str
    note : str
        Why there are no calls; empty if there are.
    warning : str
        Why the probabilities may have no meaning; empty without a reason.
    loci : list of (str, Table)
        Heading and table of the strongest and the longest calls.
    along, contigs, distributions, kmer_classes, kmers, kmer_note, probabilities
        Calls along the genome; calls by contig; lengths and scores; k-mers; bases by probability.
    files : list of Link
    provenance : Table
    """

    name: str
    model: str
    note: str
    files: Sequence[Link]
    provenance: Table
    warning: str = ""
    loci: Sequence[tuple[str, Table]] = ()
    along: Plot | None = None
    contigs: Table | None = None
    distributions: Sequence[Plot] = ()
    kmer_classes: Table | None = None
    kmers: Table | None = None
    kmer_note: str = ""
    probabilities: Plot | None = field(default=None)


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


def run_content(
    number: int, section: Section, lengths: Mapping[str, int], ucsc_assembly: str | None
) -> RunContent:
    """Return the tables and figures of one run.

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
    shared = {
        "name": run.name,
        "model": run.model,
        "files": [Link(file, quote(file)) for file in section.files],
        "provenance": provenance_table(number, section),
        "warning": domain_warning(run.record),
        "probabilities": probability_plot(number, summary),
    }
    if not summary.has_calls:
        note = "The calls are not known: no BED was given, and no run record has a threshold."
        return RunContent(note=note, **shared)
    if not summary.number_of_calls:
        return RunContent(note="No base was called.", **shared)
    kmer_classes, kmers, kmer_note = None, None, ""
    if section.kmers is not None:
        kmer_classes, kmers, kmer_note = kmer_tables(number, section.kmers, summary.number_of_calls)
    return RunContent(
        note="",
        loci=list(loci_tables(number, summary, lengths, ucsc_assembly)),
        along=along_plot(number, summary, lengths),
        contigs=contig_table(number, summary, lengths),
        distributions=list(distribution_plots(number, summary)),
        kmer_classes=kmer_classes,
        kmers=kmers,
        kmer_note=kmer_note,
        **shared,
    )


def loci_tables(
    number: int, summary: RunSummary, lengths: Mapping[str, int], ucsc_assembly: str | None
) -> Iterator[tuple[str, Table]]:
    """Yield heading and table of the strongest calls, if they have probabilities, and of the longest ones."""
    orders = {"strongest": lambda calls: calls["mean"]} if summary.scored else {}
    orders["longest"] = lambda calls: calls["end"] - calls["start"]
    columns = ["locus", "length (bp)", *(["mean", "highest"] if summary.scored else []), "open in"]
    for order, key in orders.items():
        rows = []
        for contig, (start, end, mean, highest) in top_calls(summary.calls, key, TOP):
            first, last = surrounding_region(int(start), int(end), lengths[contig])
            scores = [f"{mean:.3f}", f"{highest:.3f}"] if summary.scored else []
            links = _browser_links(f"{contig}:{first}-{last}", ucsc_assembly)
            rows.append([f"{contig}:{start + 1:,}-{end:,}", f"{end - start:,}", *scores, links])
        yield f"{order.capitalize()} calls", Table(f"{order}-{number}", columns, rows)


def _browser_links(locus: str, ucsc_assembly: str | None) -> list[Link]:
    links = [Link("IGV", IGV_ADDRESS + quote(locus))]
    if ucsc_assembly:
        links.insert(0, Link("UCSC", f"{UCSC_ADDRESS}{quote(ucsc_assembly)}&position={quote(locus)}"))
    return links


def along_plot(number: int, summary: RunSummary, lengths: Mapping[str, int]) -> Plot:
    """Return the figure of calls along the longest contigs with calls."""
    names = [contig for contig in lengths if contig in summary.calls]
    longest = set(sorted(names, key=lengths.__getitem__, reverse=True)[:CONTIGS_DRAWN])
    drawn = {contig: lengths[contig] for contig in names if contig in longest}
    size, counts = bin_counts(drawn, summary.calls)
    highest = max(int(row.max()) for row in counts.values())
    caption = f"Calls in bins of {size:,} bp; the highest bar is {highest:,}."
    if len(names) > len(drawn):
        caption += f" {len(names) - len(drawn):,} shorter contigs with calls are not drawn."
    return Plot(Markup(calls_along_contigs(f"along-{number}", drawn, counts, size)), caption)


def contig_table(number: int, summary: RunSummary, lengths: Mapping[str, int]) -> Table:
    """Return calls by contig: contigs with calls first, each group in the order of the genome."""
    assessed = summary.assessed
    with_calls = [contig for contig in lengths if contig in summary.calls]
    without = [contig for contig in lengths if contig not in summary.calls and (assessed or {}).get(contig)]
    shown = [*with_calls, *without]

    def counts(contig: str) -> tuple[int, int, int, int]:
        bases = lengths[contig] if assessed is None else assessed.get(contig, 0)
        calls = len(summary.calls.get(contig, ()))
        return lengths[contig], bases, calls, summary.called_bases(contig)

    rows = [[contig, *_contig_cells(*counts(contig))] for contig in shown[:CONTIGS_LISTED]]
    if rest := shown[CONTIGS_LISTED:]:
        sums = (sum(column) for column in zip(*map(counts, rest), strict=True))
        rows.append([f"{len(rest):,} more contigs", *_contig_cells(*sums)])
    bases = "bases assessed" if assessed is not None else "bases (not known which were assessed: no bigWig)"
    return Table(
        f"contigs-{number}", ["contig", "length (bp)", bases, "calls", "bases called", "calls per Mb"], rows
    )


def _contig_cells(length: int, bases: int, calls: int, called: int) -> list[str]:
    density = f"{calls / bases * 1e6:,.1f}" if bases else MISSING
    return [*map(number_text, (length, bases, calls, called)), density]


def distribution_plots(number: int, summary: RunSummary) -> Iterator[Plot]:
    """Yield histograms of the calls' lengths and, if they have them, of their mean probabilities."""
    lengths = np.concatenate([calls["end"] - calls["start"] for calls in summary.calls.values()])
    low, high = int(lengths.min()), int(lengths.max())
    step = max(1, -(-(high + 1 - low) // LENGTH_BINS))
    edges = np.arange(low, high + 1 + step, step)
    counts, _ = np.histogram(lengths, edges)
    svg = histogram(
        f"lengths-{number}", counts.tolist(), edges.tolist(), "length of a call (bp)", "calls", log=True
    )
    yield Plot(Markup(svg), f"Lengths: {low:,} to {high:,} bp, median {np.median(lengths):g} bp.")
    if summary.scored:
        means = np.concatenate([calls["mean"] for calls in summary.calls.values()])
        edges = np.linspace(0, 1, 21)
        counts, _ = np.histogram(means, edges)
        svg = histogram(
            f"scores-{number}", counts.tolist(), edges.tolist(), "mean probability of a call", "calls"
        )
        caption = f"Scores: {means.min():.3f} to {means.max():.3f}, median {np.median(means):.3f}."
        yield Plot(Markup(svg), caption)


def probability_plot(number: int, summary: RunSummary) -> Plot | None:
    """Return the histogram of base probabilities in 20 bins; None if the values are not probabilities."""
    if summary.bases_by_probability is None:
        return None
    counts = summary.bases_by_probability[:1000].reshape(20, 50).sum(axis=1)
    counts[-1] += summary.bases_by_probability[1000]  # probability 1 belongs to the last bin
    svg = histogram(
        f"probabilities-{number}",
        counts.tolist(),
        np.linspace(0, 1, 21).tolist(),
        "probability of a base",
        "bases",
        log=True,
    )
    return Plot(Markup(svg), "Bases by probability, on a logarithmic axis.")


def kmer_tables(number: int, kmers: RegionComposition, calls: int) -> tuple[Table, Table, str]:
    """Return the table of sequence classes, the table of k-mers, and a note on how they were counted."""
    classes = Table(
        f"classes-{number}",
        ["property", "value"],
        [[name, _plain(value)] for name, value in kmers.header().items()],
        text_columns=2,
    )
    rows = [
        [row.kmer, f"{row.observed:,}", f"{row.expected:,.1f}", f"{row.fold:.2f}", f"{row.q:.2g}"]
        for row in kmers.kmers[:TOP]
    ]
    table = Table(f"kmers-{number}", ["k-mer", "observed", "expected", "fold", "q"], rows)
    sampled = len(kmers.sequences)
    regions = (
        f"{sampled:,} calls, drawn at random from {calls:,}," if sampled < calls else f"all {calls:,} calls"
    )
    note = (
        f"k-mers in {regions} compared with shuffles that keep the dinucleotide counts of each call. A k-mer and its "
        "reverse complement are counted as one. q is adjusted by Benjamini–Hochberg."
    )
    return classes, table, note


def provenance_table(number: int, section: Section) -> Table:
    """Return what the run record says about how the tracks were made."""
    record = section.run.record
    rows = [["track", str(path)] for path in section.run.files]
    if not record:
        rows.append(["record", "none: the model and the genome of these tracks are not known"])
    rows += [
        [name, _plain(value)] for name, value in _recorded_facts(record).items() if value not in (None, "")
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
        "energy prefilter": "yes" if record.get("screen") else "no",
        "bases in gaps of N": record.get("bases_in_gaps"),
        "windows": record.get("windows"),
        "training data of the model": describe_domain(record),
        "seconds": record.get("seconds"),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items())
        if isinstance(versions, Mapping)
        else str(versions),
    }


def _plain(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
