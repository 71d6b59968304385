"""The report: one HTML page with its style and plots inside, which opens from disk without a network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from urllib.parse import quote

import numpy as np

from zflipon import __version__
from zflipon.explain.kmers import Composition
from zflipon.report.call_summary import Found, ranked
from zflipon.report.hub import around
from zflipon.report.sources import Run
from zflipon.report.svg import density, histogram

TOP = 15
"""Rows of the tables of loci and k-mers."""

_CONTIGS_LISTED, _CONTIGS_DRAWN, _BINS = 100, 40, 400

_STYLE = """
:root{color-scheme:light}
body{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:1040px;margin:2em auto;padding:0 1em}
h1,h2{color:#4a1486;line-height:1.2}h2{border-top:2px solid #dacde8;padding-top:.8em;margin-top:2em}
table{border-collapse:collapse;margin:.6em 0 1.2em;font-variant-numeric:tabular-nums}
th,td{padding:.2em .8em;text-align:right;border-bottom:1px solid #eee}th{color:#4a1486;border-bottom-color:#bba5d0}
.left{text-align:left;overflow-wrap:anywhere}a{color:#6a2fb0}.row{display:flex;flex-wrap:wrap;gap:1.5em}
svg{max-width:100%;height:auto}.bar{fill:#6a3d9a}.axis{stroke:#999;fill:none}
text{font:11px system-ui,sans-serif;fill:#444}
figure{margin:0}figcaption,.note{color:#555;font-size:.9em}code{background:#f4f0f8;padding:0 .3em}
"""


@dataclass(frozen=True)
class Section:
    """What the page tells of a run.

    Attributes
    ----------
    run : Run
    found : Found
    kmers : Composition or None
        Of the calls, or of a draw of them.
    labelled : int or None
        Calls that touch a label, where labels were given.
    files : sequence of str
        In the folder.
    """

    run: Run
    found: Found
    kmers: Composition | None
    labelled: int | None
    files: Sequence[str]


def page(
    sections: Sequence[Section],
    lengths: Mapping[str, int],
    assembly: str,
    at_ucsc: bool,
    sequence: str | None = None,
) -> str:
    """Return the HTML document.

    Parameters
    ----------
    sections : sequence of Section
    lengths : mapping of str to int
        Contigs in the genome's order.
    assembly : str
    at_ucsc : bool
        Whether UCSC's browser knows the assembly by this name.
    sequence : str, optional
        2bit file of an assembly that it does not know.
    """
    body = [
        f"<h1>Z-DNA on {escape(assembly)}</h1>",
        '<p><a href="hub.txt">hub.txt</a> is a track hub: put this folder on a web server and give the address of that '
        'file to the UCSC browser (My Data → Track Hubs). <a href="igv_session.xml">igv_session.xml</a> opens in IGV '
        "from disk (File → Open Session). Links to IGV below go to an IGV that runs on this computer.</p>",
    ]
    if not at_ucsc:
        body.append(f'<p class="note">{_unknown_assembly(sequence)}</p>')
    body.append(_overview(sections))
    for number, section in enumerate(sections, 1):
        body += _section(number, section, lengths, assembly if at_ucsc else None)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Z-DNA on {escape(assembly)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + f'\n<p class="note">Written by zflipon {__version__}.</p>\n</body></html>\n'
    )


def _unknown_assembly(sequence: str | None) -> str:
    told = "The assembly is not among those that UCSC is known to have, so there are no links to it; "
    if sequence is None:
        return (
            told
            + "without --genome or --assembly the hub has no sequence to lie on, and IGV needs its genome first."
        )
    return told + f'the hub brings the sequence along (<a href="{quote(sequence)}">{escape(sequence)}</a>).'


def _overview(sections: Sequence[Section]) -> str:
    rows = []
    for section in sections:
        found = section.found
        bases = _assessed(section)
        called = sum(map(found.called_bases, found.calls))
        rows.append(
            [
                escape(section.run.name),
                escape(section.run.model),
                _count(bases),
                _count(found.number if found.called else None),
                _count(called if found.called else None),
                f"{called / bases:.4%}" if bases and found.called else "–",
                f"{found.number / bases * 1e6:,.1f}" if bases and found.called else "–",
            ]
        )
    heads = ["run", "model", "bases assessed", "calls", "bases called", "share", "calls per Mb"]
    return _table("overview", heads, rows, left=2)


def _section(number: int, section: Section, lengths: Mapping[str, int], ucsc: str | None) -> Iterable[str]:
    run, found = section.run, section.found
    yield f"<h2>{escape(run.name)}</h2>"
    files = ", ".join(f'<a href="{quote(file)}">{escape(file)}</a>' for file in section.files)
    yield f"<p>Files: {files}</p>"
    yield _table(f"run-{number}", ["what", "value"], _facts(section), left=2)
    if found.bases_at is not None:
        by = found.bases_at[:1000].reshape(20, 50).sum(axis=1)
        by[-1] += found.bases_at[1000]
        plot = histogram(
            f"probabilities-{number}", by.tolist(), _twentieths(), "probability of a base", log=True
        )
        yield _figure(plot, "Bases by probability")
    if not found.called:
        yield '<p class="note">No calls: no BED was given, and no record tells a threshold.</p>'
        return
    if not found.number:
        yield '<p class="note">No base was called, so there is no bigBed and there are no plots of calls.</p>'
        return
    yield "<h3>Calls along the genome</h3>"
    yield _along(number, section, lengths)
    yield _contigs(number, section, lengths)
    yield "<h3>Lengths and scores</h3>"
    yield _distributions(number, found)
    yield from _loci(number, section, lengths, ucsc)
    if section.kmers is not None:
        yield from _kmers(number, section.kmers, found.number)


def _facts(section: Section) -> list[list[str]]:
    record = section.run.record
    labelled = []
    if section.labelled is not None:
        labelled = [["calls that touch a label", f"{section.labelled:,} of {section.found.number:,}"]]
    if not record:
        return [["record", "none lies beside the tracks: model and genome are not known"], *labelled]
    model, call, predict = (record.get(part, {}) for part in ("model", "call", "predict"))
    facts = {
        "command": record.get("command"),
        "started": record.get("started"),
        "genome": record.get("genome"),
        "contigs": len(record.get("contigs", {})),
        "model": model.get("name"),
        "model SHA-256": model.get("sha256"),
        "threshold": call.get("threshold"),
        "shortest call": call.get("min_length"),
        "calls joined over": call.get("merge_gap"),
        "both strands": {True: "yes", False: "no"}.get(predict.get("both_strands")),
        "device, precision": ", ".join(
            str(predict[part]) for part in ("device", "precision") if predict.get(part)
        ),
        "screen": "yes" if record.get("screen") else "no",
        "bases in gaps of N": record.get("bases_in_gaps"),
        "windows": record.get("windows"),
        "seconds": record.get("seconds"),
        "versions": ", ".join(f"{name} {told}" for name, told in record.get("versions", {}).items()),
    }
    return [[key, _plain(value)] for key, value in facts.items() if value not in (None, "")] + labelled


def _assessed(section: Section) -> int | None:
    """Return the bases with a value: counted in the bigWig, else as recorded."""
    if section.found.assessed is not None:
        return sum(section.found.assessed.values())
    return section.run.record.get("tracks", {}).get("bases")


def _worth_showing(section: Section, lengths: Mapping[str, int]) -> list[str]:
    """Return the contigs with values or calls."""
    assessed = section.found.assessed or {}
    return [name for name in lengths if assessed.get(name) or name in section.found.calls]


def _contigs(number: int, section: Section, lengths: Mapping[str, int]) -> str:
    found = section.found
    shown = _worth_showing(section, lengths)
    rows, rest = [], [0, 0, 0, 0]
    for at, contig in enumerate(shown):
        bases = lengths[contig] if found.assessed is None else found.assessed.get(contig, 0)
        row = [lengths[contig], bases, len(found.calls.get(contig, ())), found.called_bases(contig)]
        if at < _CONTIGS_LISTED:
            rows.append([escape(contig), *_of_contig(row)])
        else:
            rest = [one + other for one, other in zip(rest, row, strict=True)]
    if len(shown) > _CONTIGS_LISTED:
        rows.append([f"{len(shown) - _CONTIGS_LISTED} more", *_of_contig(rest)])
    bases = "bases assessed" if found.assessed is not None else "bases (no bigWig tells which were assessed)"
    heads = ["contig", "length", bases, "calls", "bases called", "calls per Mb"]
    return _table(f"contigs-{number}", heads, rows)


def _of_contig(row: Sequence[int]) -> list[str]:
    return [*(f"{value:,}" for value in row), f"{row[2] / row[1] * 1e6:,.1f}" if row[1] else "–"]


def _along(number: int, section: Section, lengths: Mapping[str, int]) -> str:
    names = _worth_showing(section, lengths)
    # scaffolds by the hundred would hide the chromosomes
    longest = set(sorted(names, key=lengths.__getitem__, reverse=True)[:_CONTIGS_DRAWN])
    drawn = {name: lengths[name] for name in names if name in longest}
    size = _bin_size(max(drawn.values()))
    counts = {}
    for contig, length in drawn.items():
        calls = section.found.calls.get(contig)
        middles = (calls["start"] + calls["end"]) // 2 if calls is not None else np.empty(0, np.int64)
        counts[contig] = np.bincount(middles // size, minlength=-(-length // size))
    high = max(int(each.max()) for each in counts.values())
    told = f"Calls in bins of {size:,} bases; the highest bar is {high:,}"
    left_out = len(names) - len(drawn)
    told += f". {left_out:,} shorter contigs are not drawn." if left_out else "."
    return _figure(density(f"density-{number}", drawn, counts, size), told)


def _bin_size(longest: int) -> int:
    """Return 1, 2 or 5 times a power of ten such that the longest contig has at most `_BINS` bins."""
    size = next(
        step * 10**power for power in range(12) for step in (1, 2, 5) if step * 10**power * _BINS >= longest
    )
    return max(size, 100)


def _distributions(number: int, found: Found) -> str:
    lengths = np.concatenate([calls["end"] - calls["start"] for calls in found.calls.values()])
    step = max(1, -(-(int(lengths.max()) + 1 - int(lengths.min())) // 40))
    edges = np.arange(lengths.min(), lengths.max() + 1 + step, step)
    counts, _ = np.histogram(lengths, edges)
    plots = [
        _figure(
            histogram(f"lengths-{number}", counts.tolist(), edges.tolist(), "bases of a call", log=True),
            f"Lengths: {lengths.min():,} to {lengths.max():,}, median {np.median(lengths):g}",
        )
    ]
    if found.scored:
        means = np.concatenate([calls["mean"] for calls in found.calls.values()])
        counts, _ = np.histogram(means, np.linspace(0, 1, 21))
        plots.append(
            _figure(
                histogram(f"scores-{number}", counts.tolist(), _twentieths(), "mean probability of a call"),
                f"Scores: {means.min():.3f} to {means.max():.3f}, median {np.median(means):.3f}",
            )
        )
    return f'<div class="row">{"".join(plots)}</div>'


def _loci(number: int, section: Section, lengths: Mapping[str, int], ucsc: str | None) -> Iterable[str]:
    scored = section.found.scored
    orders = {"longest": lambda calls: calls["end"] - calls["start"]}
    if scored:
        orders["strongest"] = lambda calls: calls["mean"]
    for order, key in orders.items():
        rows = []
        for contig, (start, end, mean, peak) in ranked(section.found.calls, key, TOP):
            shown = "{}:{}-{}".format(contig, *around(int(start), int(end), lengths[contig]))
            scores = [f"{mean:.3f}", f"{peak:.3f}"] if scored else []
            rows.append(
                [f"{escape(contig)}:{start + 1:,}-{end:,}", f"{end - start:,}", *scores, _links(shown, ucsc)]
            )
        heads = ["locus", "bases", *(["mean", "highest"] if scored else []), "open in"]
        yield f"<h3>The {order} calls</h3>"
        yield _table(f"{order}-{number}", heads, rows)


def _links(locus: str, ucsc: str | None) -> str:
    links = [f'<a href="http://localhost:60151/goto?locus={quote(locus)}">IGV</a>']
    if ucsc:
        address = f"https://genome.ucsc.edu/cgi-bin/hgTracks?db={quote(ucsc)}&position={quote(locus)}"
        links.insert(0, f'<a href="{escape(address)}">UCSC</a>')
    return " ".join(links)


def _kmers(number: int, kmers: Composition, calls: int) -> Iterable[str]:
    yield "<h3>k-mers of the calls</h3>"
    yield _table(
        f"classes-{number}", ["what", "value"], [[k, _plain(v)] for k, v in kmers.about().items()], left=2
    )
    rows = [
        [row.kmer, f"{row.observed:,}", f"{row.expected:,.1f}", f"{row.fold:.2f}", f"{row.q:.2g}"]
        for row in kmers.kmers[:TOP]
    ]
    yield _table(f"kmers-{number}", ["k-mer", "observed", "expected", "fold", "q"], rows)
    drawn = len(kmers.sequences)
    told = f"{drawn:,} drawn at random of {calls:,} calls" if drawn < calls else f"{drawn:,} calls"
    yield (
        f'<p class="note">Of {told}, against shuffles of these that keep their dinucleotides; a k-mer '
        "and its reverse complement count as one. q: Benjamini–Hochberg.</p>"
    )


def _table(name: str, heads: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    def line(cells: Sequence[str], kind: str) -> str:
        return "".join(
            f'<{kind} class="left">{cell}</{kind}>' if at < left else f"<{kind}>{cell}</{kind}>"
            for at, cell in enumerate(cells)
        )

    body = "\n".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return f'<table id="{name}"><thead><tr>{line(heads, "th")}</tr></thead><tbody>\n{body}\n</tbody></table>'


def _figure(plot: str, told: str) -> str:
    return f"<figure>{plot}<figcaption>{escape(told)}</figcaption></figure>"


def _plain(value: object) -> str:
    return escape(f"{value:,}" if isinstance(value, int) else str(value))


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _twentieths() -> list[float]:
    return [number / 20 for number in range(21)]
