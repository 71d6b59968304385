"""Tracks in the user's own browser: igv.js on a page that a small server on this machine gives, without a network."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zflipon.errors import MissingExtraError
from zflipon.genome.fasta import Genome
from zflipon.genome.interval_files import read_bed
from zflipon.genome.intervals import parse_region
from zflipon.report.call_summary import Signal, ranked, read_calls
from zflipon.report.hub import LABEL_COLOUR, around
from zflipon.report.sources import Run, contig_lengths, gather
from zflipon.report.viewer.page import Locus, page
from zflipon.report.viewer.server import Served
from zflipon.tracks.atomic import INDEX_SUFFIXES
from zflipon.tracks.bed import SCORE_COLOURS

MOST = 200
"""Calls in the list, the surest of all."""

_SIGNAL, _LABELS = f"rgb({SCORE_COLOURS[1000]})", f"rgb({LABEL_COLOUR})"


@dataclass(frozen=True)
class Site:
    """What is served.

    Attributes
    ----------
    contents : dict of str to Served
        Address → content; ``/`` is the page.
    loci : list of Locus
    """

    contents: dict[str, Served]
    loci: list[Locus]


def make_site(
    tracks: Sequence[Path],
    genome: Genome,
    labels: Path | None = None,
    region: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Site:
    """Lay out a page of tracks, and the files that it needs.

    Parameters
    ----------
    tracks : sequence of Path
        bigWig and BED, as annotate writes them.
    genome : Genome
        Open for as long as the site is served: its indices may lie in a temporary folder.
    labels : Path, optional
        BED of known Z-DNA.
    region : str, optional
        Where the page opens (1-based); by default at the surest call.
    progress : callable
        Called with the bases that were read of a bigWig without its BED, and how many there are.

    Raises
    ------
    InputError
        If a file cannot be used or is of another assembly, or there is no such region.
    MissingExtraError
        If no package carries igv.js.
    """
    script = igv_script()
    runs = gather(tracks)
    lengths = contig_lengths(runs, genome.lengths)
    place = _place(region, genome.lengths) if region else None
    files = _Files()
    shown = [track for run in runs for track in _tracks(run, files)]
    if labels is not None:
        read_bed(labels, genome.lengths, "labels")
        shown.append({**files.bed(labels), "name": "known Z-DNA", "color": _LABELS})
    told, calls = _first_calls(runs, lengths, progress)
    loci = surest(calls, lengths)
    settings = {
        "reference": _reference(genome, files),
        "loadDefaultGenomes": False,
        "locus": place or (loci[0].shown if loci else next(iter(lengths))),
        "tracks": shown,
    }
    title = ", ".join(run.name for run in runs)
    html = page(title, settings, loci, told)
    contents = {
        "/": Served(html.encode(), "text/html; charset=utf-8"),
        "/igv.js": Served(script, "text/javascript"),
        "/favicon.ico": Served(b"", "image/x-icon"),
        **files.contents,
    }
    return Site(contents, loci)


def igv_script() -> Path:
    """Return igv.js of the package that carries it; raise `MissingExtraError` if it is not installed."""
    found = importlib.util.find_spec("igv_notebook")  # which is not imported: it wants a notebook
    if found is not None:
        for folder in found.submodule_search_locations or ():
            script = Path(folder) / "js" / "igv.min.js"
            if script.is_file():
                return script
    raise MissingExtraError("view", "igv-notebook", "view")


def surest(calls: Mapping[str, np.ndarray], lengths: Mapping[str, int], most: int = MOST) -> list[Locus]:
    """Return the calls of the highest mean probability; the longer, then the earlier, of those that are alike."""
    best = ranked(calls, lambda found: np.nan_to_num(found["mean"]), most)
    return [_locus(contig, call, lengths[contig]) for contig, call in best]


def _locus(contig: str, call: np.void, length: int) -> Locus:
    start, end, mean = int(call["start"]), int(call["end"]), float(call["mean"])
    low, high = around(start, end, length)
    score = None if np.isnan(mean) else mean
    return Locus(f"{contig}:{start + 1:,}-{end:,}", f"{contig}:{low}-{high}", score)


class _Files:
    """The files of a site, each at an address that tells a browser's code what it is."""

    def __init__(self):
        self.contents: dict[str, Served] = {}

    def add(self, path: Path, extension: str) -> str:
        """Give a file an address."""
        address = f"/data/{len(self.contents)}{extension}"
        self.contents[address] = Served(path)
        return address

    def bed(self, path: Path) -> dict[str, object]:
        """Return what igv.js needs to know of a BED file: read piecewise where it is indexed."""
        packed = path.name.lower().endswith(".gz")
        told: dict[str, object] = {
            "type": "annotation",
            "format": "bed",
            "url": self.add(path, ".bed.gz" if packed else ".bed"),
            "displayMode": "EXPANDED",
        }
        index = next((found for end in INDEX_SUFFIXES if (found := Path(f"{path}{end}")).is_file()), None)
        if packed and index is not None:
            return {**told, "indexURL": self.add(index, f".bed.gz{index.suffix}")}
        return {**told, "indexed": False}


def _reference(genome: Genome, files: _Files) -> dict[str, object]:
    text, index, blocks = genome.files
    told = {
        "id": genome.path.name,
        "name": genome.path.name,
        "fastaURL": files.add(text, ".fa.gz" if blocks else ".fa"),
        "indexURL": files.add(index, ".fai"),
        "wholeGenomeView": False,
    }
    return {**told, "compressedIndexURL": files.add(blocks, ".gzi")} if blocks else told


def _place(region: str, lengths: Mapping[str, int]) -> str:
    contig, start, end = parse_region(region, lengths)
    return f"{contig}:{start + 1}-{end}"


def _first_calls(
    runs: Sequence[Run], lengths: Mapping[str, int], progress: Callable[[int, int], None]
) -> tuple[str, dict[str, np.ndarray]]:
    """Return what the list is, in words, and its calls: those of the first run that has any."""
    # all BEDs are read: a wrong one should fail before a browser opens
    written = [read_calls(run.calls, lengths) if run.calls else None for run in runs]
    for run, known in zip(runs, written, strict=True):
        calls = _called(run, lengths, progress) if known is None else known
        if count := sum(map(len, calls.values())):
            of = f" of {run.name}" if len(runs) > 1 else ""
            return f"{count:,} calls{of}" + (f", the {MOST} surest" if count > MOST else ""), calls
    return "no calls are known", {}


def _called(
    run: Run, lengths: Mapping[str, int], progress: Callable[[int, int], None]
) -> dict[str, np.ndarray]:
    """Return the calls that annotate would make of a run's bigWig, where a record tells its threshold."""
    signal, how = Signal(run.signal), run.record.get("call", {})
    if not signal.probable or how.get("threshold") is None:
        return {}
    total = sum(lengths.values())
    return signal.call(lengths, how, lambda bases: progress(bases, total))


def _tracks(run: Run, files: _Files) -> list[dict[str, object]]:
    """Return what igv.js needs to know of a run's tracks."""
    found: list[dict[str, object]] = []
    if run.signal is not None:
        low, high = Signal(run.signal).limits
        found.append({
            "name": f"{run.name} ({run.model})", "type": "wig", "format": "bigwig", "url": files.add(run.signal, ".bw"),
            "min": low, "max": high, "autoscale": False, "color": _SIGNAL, "height": 100, "windowFunction": "max",
        })  # fmt: skip
    if run.calls is not None:
        found.append({**files.bed(run.calls), "name": f"{run.name} calls", "color": _SIGNAL})
    return found
