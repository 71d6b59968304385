"""What the viewer serves: the page, igv.js, the tracks and the genome, each at an address.

The page's markup is in `zflipon.report.viewer.page`; requests are answered by `zflipon.report.viewer.server`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zflipon.errors import MissingExtraError
from zflipon.genome.assemblies import assembly_name
from zflipon.genome.fasta import Genome
from zflipon.genome.interval_files import read_bed
from zflipon.genome.intervals import parse_region
from zflipon.report.calls import top_calls
from zflipon.report.hub import GENE_COLOUR, LABEL_COLOUR, SIGNAL_COLOUR, UCSC_ADDRESS, surrounding_region
from zflipon.report.runs import Run, contig_lengths, group_tracks
from zflipon.report.viewer.page import Locus, igv_text, viewer_page, viewer_script
from zflipon.report.viewer.server import ServedFile
from zflipon.tracks.atomic import INDEX_SUFFIXES
from zflipon.tracks.call_files import read_calls
from zflipon.tracks.signal import SignalFile

CALLS_LISTED = 200
"""Rows in the table of calls: those with the highest mean probability."""


@dataclass(frozen=True)
class Site:
    """Everything that the viewer serves.

    Attributes
    ----------
    contents : dict of str to ServedFile
        Address → content; ``/`` is the page.
    loci : list of Locus
        Calls in the page's table.
    """

    contents: dict[str, ServedFile]
    loci: list[Locus]


def build_site(
    tracks: Sequence[Path],
    genome: Genome,
    labels: Path | None = None,
    region: str | None = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
    gtf: Path | None = None,
) -> Site:
    """Check the inputs and collect what the viewer serves.

    Parameters
    ----------
    tracks : sequence of Path
        bigWig and BED files of annotate.
    genome : Genome
        Must stay open while the site is served, because its files may be in a temporary folder.
    labels : Path, optional
        BED of known Z-DNA.
    region : str, optional
        Region at which the viewer opens, 1-based; by default around the call with the highest mean probability.
    progress : callable
        Called with the number of bases just read from a bigWig without BED, and the total.
    gtf : Path, optional
        Gene annotation, GTF or GFF3: adds a track of genes, which the page can search.

    Raises
    ------
    InputError
        If a file cannot be used or does not match the genome, or the region is unknown.
    MissingExtraError
        If the package with igv.js is not installed.
    """
    igv_file = igv_script()
    runs = group_tracks(tracks)
    lengths = contig_lengths(runs, genome.lengths)
    locus = _region_text(region, genome.lengths) if region else None
    files = _FileAddresses()
    signals = {run.name: SignalFile(run.signal) for run in runs if run.signal is not None}
    igv_tracks = [track for run in runs for track in _run_tracks(run, signals.get(run.name), files)]
    if labels is not None:
        read_bed(labels, genome.lengths, "labels")  # fails here rather than in the browser
        igv_tracks.append(
            {**_bed_track(labels, files), "name": "known Z-DNA", "color": f"rgb({LABEL_COLOUR})"}
        )
    genes_address = ""
    if gtf is not None:
        gene_track, genes_address = _gene_track(gtf, genome.lengths, files)
        igv_tracks.append(gene_track)
    caption, calls = _listed_calls(runs, signals, lengths, progress)
    loci = strongest_loci(calls, lengths)
    settings = {
        "reference": _reference(genome, files),
        "loadDefaultGenomes": False,
        "locus": locus or (loci[0].region if loci else next(iter(lengths))),
        "tracks": igv_tracks,
    }
    assembly = assembly_name(genome.lengths)
    ucsc_address = f"{UCSC_ADDRESS}{assembly}" if assembly else ""
    title = ", ".join(run.name for run in runs)
    html = viewer_page(title, settings, loci, caption, genes_address, ucsc_address)
    contents = {
        "/": ServedFile(html.encode(), "text/html; charset=utf-8"),
        "/igv.js": ServedFile(igv_file, "text/javascript"),
        "/viewer.js": ServedFile(viewer_script(), "text/javascript"),
        "/favicon.ico": ServedFile(b"", "image/x-icon"),
        **files.contents,
    }
    return Site(contents, loci)


def igv_script() -> Path:
    """Return the path of igv.js in the package igv-notebook; raise `MissingExtraError` if it is not installed."""
    package = importlib.util.find_spec("igv_notebook")  # importing it would require a notebook
    if package is not None:
        for folder in package.submodule_search_locations or ():
            script = Path(folder) / "js" / "igv.min.js"
            if script.is_file():
                return script
    raise MissingExtraError("view", "igv-notebook", "view")


def strongest_loci(
    calls: Mapping[str, np.ndarray], lengths: Mapping[str, int], limit: int = CALLS_LISTED
) -> list[Locus]:
    """Return the calls with the highest mean probability; ties are broken by length, then by position."""
    best = top_calls(calls, lambda rows: np.nan_to_num(rows["mean"]), limit)
    return [_locus(contig, call, lengths[contig]) for contig, call in best]


def _locus(contig: str, call: np.void, length: int) -> Locus:
    start, end, mean = int(call["start"]), int(call["end"]), float(call["mean"])
    first, last = surrounding_region(start, end, length)
    return Locus(contig, start, end, f"{contig}:{first}-{last}", None if np.isnan(mean) else mean)


class _FileAddresses:
    """Gives each file an address that igv.js recognises by its extension."""

    def __init__(self):
        self.contents: dict[str, ServedFile] = {}

    def add(self, source: Path | bytes, extension: str) -> str:
        """Return a new address for a file or its content."""
        address = f"/data/{len(self.contents)}{extension}"
        self.contents[address] = ServedFile(source)
        return address


def _bed_track(path: Path, files: _FileAddresses) -> dict[str, object]:
    """Return the igv.js settings of a BED file; a bgzip file with an index is read region by region."""
    name = path.name.lower()
    kind = "narrowPeak" if ".narrowpeak" in name else "bed"
    extension = f".{kind}.gz" if name.endswith(".gz") else f".{kind}"
    index = next((each for end in INDEX_SUFFIXES if (each := Path(f"{path}{end}")).is_file()), None)
    settings: dict[str, object] = {
        "type": "annotation",
        "format": kind,
        "url": files.add(path, extension),
        "displayMode": "EXPANDED",
    }
    if extension.endswith(".gz") and index is not None:
        return {**settings, "indexURL": files.add(index, f"{extension}{index.suffix}")}
    return {**settings, "indexed": False}


def _gene_track(
    gtf: Path, lengths: Mapping[str, int], files: _FileAddresses
) -> tuple[dict[str, object], str]:
    """Return the igv.js settings of the genes of an annotation, and the address of their positions."""
    from zflipon.report.viewer.genes import read_gene_track  # needs packages that other tracks do without

    track = read_gene_track(gtf, lengths)
    settings: dict[str, object] = {
        "name": igv_text(gtf.name), "type": "annotation", "format": "bed", "url": files.add(track.bed, ".bed"),
        "indexed": False, "displayMode": "EXPANDED", "color": f"rgb({GENE_COLOUR})",
    }  # fmt: skip
    return settings, files.add(track.regions, ".json")


def _reference(genome: Genome, files: _FileAddresses) -> dict[str, object]:
    """Return the igv.js settings of the genome."""
    fasta, index, block_index = genome.files
    name = igv_text(genome.path.name)
    settings = {
        "id": name,
        "name": name,
        "fastaURL": files.add(fasta, ".fa.gz" if block_index else ".fa"),
        "indexURL": files.add(index, ".fai"),
        "wholeGenomeView": False,
    }
    if block_index:
        settings["compressedIndexURL"] = files.add(block_index, ".gzi")
    return settings


def _region_text(region: str, lengths: Mapping[str, int]) -> str:
    contig, start, end = parse_region(region, lengths)
    return f"{contig}:{start + 1}-{end}"


def _listed_calls(
    runs: Sequence[Run],
    signals: Mapping[str, SignalFile],
    lengths: Mapping[str, int],
    progress: Callable[[int, int], object],
) -> tuple[str, dict[str, np.ndarray]]:
    """Return a caption for the table, and the calls of the first run that has any."""
    # read every BED first: an invalid one must fail before the browser opens
    from_bed = [read_calls(run.calls, lengths) if run.calls else None for run in runs]
    for run, calls in zip(runs, from_bed, strict=True):
        if calls is None:
            calls = _calls_of_signal(signals[run.name], run.record.get("call", {}), lengths, progress)
        if number := sum(map(len, calls.values())):
            of_run = f" of {run.name}" if len(runs) > 1 else ""
            listed = f"; the {CALLS_LISTED} with the highest probability" if number > CALLS_LISTED else ""
            plural = "" if number == 1 else "s"
            return f"{number:,} call{plural}{of_run}{listed}", calls
    return "no calls are known", {}


def _calls_of_signal(
    signal: SignalFile, settings: Mapping, lengths: Mapping[str, int], progress: Callable[[int, int], object]
) -> dict[str, np.ndarray]:
    """Return the calls that annotate makes of a bigWig with recorded settings; none without a threshold."""
    if settings.get("threshold") is None or not signal.is_probability:
        return {}
    total = sum(lengths.values())
    return signal.call(lengths, settings, lambda bases: progress(bases, total))


def _run_tracks(run: Run, signal: SignalFile | None, files: _FileAddresses) -> list[dict[str, object]]:
    """Return the igv.js settings of a run's tracks."""
    tracks: list[dict[str, object]] = []
    colour = f"rgb({SIGNAL_COLOUR})"
    if signal is not None:
        low, high = signal.limits
        tracks.append({
            "name": igv_text(f"{run.name} ({run.model})"), "type": "wig", "format": "bigwig",
            "url": files.add(signal.path, ".bw"), "min": low, "max": high, "autoscale": False, "color": colour,
            "height": 100, "windowFunction": "max",
        })  # fmt: skip
    if run.calls is not None:
        tracks.append(
            {**_bed_track(run.calls, files), "name": igv_text(f"{run.name} calls"), "color": colour}
        )
    return tracks
