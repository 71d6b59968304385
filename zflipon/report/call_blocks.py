"""Tables and figures of a run's calls: loci, contigs, lengths, scores, classes of the sequence.

What genes, Z-HUNT and k-mers add is in `zflipon.report.context_blocks`; `zflipon.report.page` puts all in order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from urllib.parse import quote

import numpy as np
from markupsafe import Markup

from zflipon.genome.alternation import CLASSES
from zflipon.report.blocks import TOP, Link, Plot, Table
from zflipon.report.calls import RunSummary, top_calls
from zflipon.report.figures import bin_counts, calls_along_contigs, density_by_contig, histogram
from zflipon.report.html import MISSING, number_text
from zflipon.report.hub import UCSC_ADDRESS, surrounding_region
from zflipon.report.tables import CallTable

CONTIGS_LISTED = 50
"""Rows in the table of contigs; the rest are summed in one more row."""

CONTIGS_DRAWN = 30
"""Contigs in the figures by contig: the longest ones with calls."""

LENGTH_BINS = 40
"""Bins of the histogram of call lengths, at most."""

BASES_SHOWN = 40
"""Bases of a sequence that a table of the page shows; the downloadable table has all."""

CONTIG_COLUMNS = ("contig", "length", "bases", "calls", "called_bases", "calls_per_mb")
"""Columns of the table of contigs for download."""

IGV_ADDRESS = "http://localhost:60151/goto?locus="


def loci_tables(
    number: int,
    summary: RunSummary,
    lengths: Mapping[str, int],
    ucsc_assembly: str | None,
    table: CallTable | None = None,
) -> Iterator[tuple[str, Table]]:
    """Yield heading and table of the strongest calls, if they have probabilities, and of the longest ones.

    Parameters
    ----------
    number : int
        Number of the run on the page, part of the identifiers.
    summary : RunSummary
    lengths : mapping of str to int
    ucsc_assembly : str or None
        Name for links to the UCSC browser.
    table : CallTable, optional
        All calls; the sequence, class, feature and gene of each are shown, as far as they are known.
    """
    orders = {"strongest": lambda calls: calls["mean"]} if summary.scored else {}
    orders["longest"] = lambda calls: calls["end"] - calls["start"]
    shown = table.columns if table is not None else {}
    further = [
        *(["gene", "from TSS (bp)", "feature"] if "feature" in shown else []),
        *(["class", "sequence"] if "sequence" in shown else []),
    ]
    columns = ["locus", "length (bp)", *(["mean", "highest"] if summary.scored else []), *further, "open in"]
    for order, key in orders.items():
        rows = []
        for contig, (start, end, mean, highest) in top_calls(summary.calls, key, TOP):
            first, last = surrounding_region(int(start), int(end), lengths[contig])
            scores = [f"{mean:.3f}", f"{highest:.3f}"] if summary.scored else []
            known = _known_cells(table.row_of(contig, int(start), int(end))) if table is not None else []
            links = _browser_links(f"{contig}:{first}-{last}", ucsc_assembly)
            rows.append([f"{contig}:{start + 1:,}-{end:,}", f"{end - start:,}", *scores, *known, links])
        yield f"{order.capitalize()} calls", Table(f"{order}-{number}", columns, rows)


def _known_cells(row: Mapping) -> list[str]:
    """Return the cells of gene, feature, class and sequence, as far as they are known."""
    cells = []
    if "feature" in row:
        distance = row["tss_distance"]
        gene = [row["gene"], f"{distance:+,}"] if row["gene"] else [MISSING, MISSING]
        cells += [*gene, row["feature"]]
    if "sequence" in row:
        sequence = row["sequence"]
        short = sequence if len(sequence) <= BASES_SHOWN else f"{sequence[:BASES_SHOWN]}…"
        cells += [row["class"], Markup('<code class="bases">{}</code>').format(short)]
    return cells


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


def density_plot(number: int, summary: RunSummary, lengths: Mapping[str, int]) -> Plot:
    """Return the figure of calls per Mb of the longest contigs with calls."""
    assessed = summary.assessed
    names = [contig for contig in lengths if contig in summary.calls]
    longest = set(sorted(names, key=lengths.__getitem__, reverse=True)[:CONTIGS_DRAWN])
    drawn = [contig for contig in names if contig in longest]
    bases = np.array([(lengths if assessed is None else assessed).get(contig, 0) for contig in drawn])
    calls = np.array([len(summary.calls[contig]) for contig in drawn])
    all_bases = sum(lengths.values() if assessed is None else assessed.values())
    mean = summary.number_of_calls / all_bases * 1e6 if all_bases else 0.0
    svg = density_by_contig(f"density-{number}", drawn, calls, bases, mean)
    caption = (
        f"Calls per Mb with 95 % Poisson intervals; the dashed line is the mean of all contigs, {mean:,.1f}."
    )
    return Plot(Markup(svg), caption)


def contig_columns(summary: RunSummary, lengths: Mapping[str, int]) -> dict[str, list]:
    """Return `CONTIG_COLUMNS`, for the download: all contigs with calls or with assessed bases."""
    assessed = lengths if summary.assessed is None else summary.assessed
    names = [contig for contig in lengths if contig in summary.calls or assessed.get(contig)]
    bases = [assessed.get(contig, 0) for contig in names]
    calls = [len(summary.calls.get(contig, ())) for contig in names]
    called = [summary.called_bases(contig) for contig in names]
    density = [count / size * 1e6 if size else None for count, size in zip(calls, bases, strict=True)]
    columns = (names, [lengths[contig] for contig in names], bases, calls, called, density)
    return dict(zip(CONTIG_COLUMNS, columns, strict=True))


def class_table(number: int, table: CallTable) -> Table:
    """Return the classes of the sequences of all calls: calls, share, median length and share of G and C."""
    classes, lengths, shares = (np.array(table.columns[name]) for name in ("class", "length", "gc"))
    counts = Counter(classes.tolist())
    rows = [
        [
            name,
            f"{counts[name]:,}",
            f"{counts[name] / len(table):.1%}",
            f"{np.median(lengths[classes == name]):g}",
            f"{np.nanmean(shares[classes == name]):.2f}",
        ]
        for name in CLASSES
        if counts[name]
    ]
    return Table(f"sequence-{number}", ["class", "calls", "share", "median length (bp)", "mean GC"], rows)


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
