"""Text files that open a bundle in a genome browser: the UCSC track hub and the IGV session.

Both refer to files in the same folder. `hub_value` escapes text for the hub, `xml_value` for the session.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np

from zflipon.errors import printable
from zflipon.tracks.bed import SCORE_COLOURS

SIGNAL_COLOUR = SCORE_COLOURS[1000]
"""Colour of signals: that of calls with score 1000."""

UCSC_ADDRESS = "https://genome.ucsc.edu/cgi-bin/hgTracks?db="
"""Address of the UCSC browser, without the assembly and the position."""

LABEL_COLOUR = "0,120,90"
"""Colour of known Z-DNA."""

GENE_COLOUR = "0,114,178"
"""Colour of genes: the blue of the palette."""

SHORT_LABEL_LENGTH, LONG_LABEL_LENGTH = 17, 76
"""Characters of a label that the UCSC browser shows."""

FLANK = 200
"""Bases shown on each side of a call, in addition to its own length."""


@dataclass(frozen=True)
class BrowserTrack:
    """A track of a hub and a session.

    Attributes
    ----------
    file : str
        File name in the folder.
    label : str
        A few words.
    description : str
        One line.
    bed_columns : str
        Text after ``bigBed`` in the UCSC track type, such as ``9 +``; empty for a bigWig.
    limits : (float, float)
        Axis limits of a bigWig.
    colour : str
        Red, green and blue, ``0,120,90``.
    """

    file: str
    label: str
    description: str
    bed_columns: str = ""
    limits: tuple[float, float] = (0.0, 1.0)
    colour: str = SIGNAL_COLOUR

    @property
    def name(self) -> str:
        """Identifier in the hub; unique because the file name is."""
        return "zflipon_" + re.sub(r"\W", "_", self.file, flags=re.ASCII)

    @property
    def axis(self) -> tuple[str, str]:
        """Axis limits as text."""
        low, high = self.limits
        return f"{low:g}", f"{high:g}"


def hub_value(text: object) -> str:
    """Return text as the value of a setting in ``hub.txt``: one line that does not continue on the next."""
    return printable(text).strip().rstrip("\\")


def xml_value(text: object) -> str:
    """Return text without the characters that XML forbids; `ElementTree` escapes markup."""
    return printable(text)


def hub_text(
    tracks: Sequence[BrowserTrack],
    assembly: str,
    email: str,
    sequence_file: str | None = None,
    start_locus: str = "",
) -> str:
    """Return ``hub.txt``: the hub, its genome and its tracks in one file.

    Parameters
    ----------
    tracks : sequence of BrowserTrack
    assembly : str
    email : str
        Contact address, which UCSC requires.
    sequence_file : str, optional
        2bit file of an assembly that UCSC does not host.
    start_locus : str
        Locus at which such an assembly opens.
    """
    hub = {
        "hub": "zflipon",
        "shortLabel": "Z-DNA by zflipon",
        "longLabel": "Z-DNA found by DNA language models with zflipon",
        "useOneFile": "on",
        "email": email,
    }
    stanzas = [hub, _genome_stanza(assembly, sequence_file, start_locus), *map(_track_stanza, tracks)]
    return "\n".join(
        "".join(f"{key} {hub_value(value)}\n" for key, value in stanza.items()) for stanza in stanzas
    )


def _genome_stanza(assembly: str, sequence_file: str | None, start_locus: str) -> dict[str, str]:
    if sequence_file is None:
        return {"genome": assembly}
    return {
        "genome": assembly,
        "twoBitPath": sequence_file,
        "organism": assembly,
        "scientificName": assembly,
        "description": assembly,
        "defaultPos": start_locus,
    }


def _track_stanza(track: BrowserTrack) -> dict[str, str]:
    stanza = {
        "track": track.name,
        "shortLabel": hub_value(track.label)[:SHORT_LABEL_LENGTH],
        "longLabel": hub_value(track.description)[:LONG_LABEL_LENGTH],
        "bigDataUrl": track.file,
        "color": track.colour,
    }
    if track.bed_columns:
        item_colours = {"itemRgb": "on"} if track.bed_columns.startswith("9") else {}
        return {**stanza, "type": f"bigBed {track.bed_columns}", "visibility": "pack", **item_colours}
    low, high = track.axis
    return {
        **stanza,
        "type": f"bigWig {low} {high}",
        "visibility": "full",
        "viewLimits": f"{low}:{high}",
        "autoScale": "off",
        "alwaysZero": "on",
        "maxHeightPixels": "128:48:16",
        "windowingFunction": "maximum",
    }


def session_text(tracks: Sequence[BrowserTrack], assembly: str, start_locus: str) -> str:
    """Return ``igv_session.xml``.

    Parameters
    ----------
    tracks : sequence of BrowserTrack
    assembly : str
        Name of an assembly that IGV knows, or a 2bit file.
    start_locus : str
        Locus at which IGV opens.
    """
    session = _element(None, "Session", genome=assembly, locus=start_locus, version="8")
    resources = _element(session, "Resources")
    panel = _element(session, "Panel", name="DataPanel", height="400", width="1200")
    for track in tracks:
        is_signal = not track.bed_columns
        _element(resources, "Resource", path=track.file, type="bw" if is_signal else "bb")
        shown = _element(
            panel,
            "Track",
            id=track.file,
            name=track.label,
            color=track.colour,
            visible="true",
            clazz="org.broad.igv.track." + ("DataSourceTrack" if is_signal else "FeatureTrack"),
            **_signal_attributes() if is_signal else {"displayMode": "COLLAPSED"},
        )
        if is_signal:
            low, high = track.axis
            _element(
                shown,
                "DataRange",
                baseline="0",
                drawBaseline="true",
                minimum=low,
                maximum=high,
                type="LINEAR",
            )
    ElementTree.indent(session)
    text = ElementTree.tostring(session, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8" standalone="no"?>\n{text}\n'


def _element(parent: ElementTree.Element | None, tag: str, **attributes: str) -> ElementTree.Element:
    """Append an element whose attributes are escaped; without a parent, create a root."""
    attributes = {name: xml_value(value) for name, value in attributes.items()}
    return (
        ElementTree.Element(tag, attributes)
        if parent is None
        else ElementTree.SubElement(parent, tag, attributes)
    )


def _signal_attributes() -> dict[str, str]:
    # with automatic scaling, IGV fits the axis to the values in view, and noise looks like calls
    return {"autoScale": "false", "renderer": "BAR_CHART", "windowFunction": "max", "height": "80"}


def surrounding_region(start: int, end: int, length: int) -> tuple[int, int]:
    """Return the region to show for a call: the call, its length on each side, and `FLANK` bases more.

    Parameters
    ----------
    start, end : int
        0-based half-open.
    length : int
        Length of the contig, to which the region is clipped.

    Returns
    -------
    (int, int)
        First and last base, 1-based and inclusive.
    """
    flank = FLANK + end - start
    return max(1, start + 1 - flank), min(length, end + flank)


def best_locus(calls: Mapping[str, np.ndarray], lengths: Mapping[str, int]) -> str:
    """Return the region around the call with the highest mean probability; without calls, the first contig."""
    best = None
    for contig, rows in calls.items():
        row = int(np.argmax(np.nan_to_num(rows["mean"])))
        if best is None or rows["mean"][row] > best[0]:
            best = (rows["mean"][row], contig, int(rows["start"][row]), int(rows["end"][row]))
    if best is None:
        return next(iter(lengths))
    _, contig, start, end = best
    first, last = surrounding_region(start, end, lengths[contig])
    return f"{contig}:{first}-{last}"
