"""The folder as a track hub of the UCSC browser and as a session of IGV; both name files beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np

from zflipon.tracks.bed import SCORE_COLOURS

DARK = SCORE_COLOURS[1000]
"""Colour of the signal: that of the surest calls."""

LABEL_COLOUR = "0,120,90"


@dataclass(frozen=True)
class BrowserTrack:
    """A track as a browser shows it.

    Attributes
    ----------
    file : str
        Name in the folder.
    label, about : str
        A few words, and a line.
    columns : str
        After ``bigBed`` in UCSC's track type, such as ``9 +``; empty for a signal.
    limits : (float, float)
        Of a signal.
    colour : str
        Red, green and blue.
    """

    file: str
    label: str
    about: str
    columns: str = ""
    limits: tuple[float, float] = (0.0, 1.0)
    colour: str = DARK

    @property
    def name(self) -> str:
        """An identifier, unique in the folder since the file is."""
        return "zflipon_" + re.sub(r"\W", "_", self.file, flags=re.ASCII)


def hub_text(
    tracks: Sequence[BrowserTrack], assembly: str, email: str, sequence: str | None = None, locus: str = ""
) -> str:
    """Return ``hub.txt``, which holds the hub, its genome and its tracks in one file.

    Parameters
    ----------
    tracks : sequence of BrowserTrack
    assembly : str
    email : str
    sequence : str, optional
        2bit file of an assembly that UCSC does not have.
    locus : str
        Where such an assembly opens.
    """
    hub = {
        "hub": "zflipon",
        "shortLabel": "Z-DNA by zflipon",
        "longLabel": "Z-DNA found by DNA language models with zflipon",
        "useOneFile": "on",
        "email": email,
    }
    return "\n".join(map(_stanza, [hub, _genome(assembly, sequence, locus), *map(_settings, tracks)]))


def _genome(assembly: str, sequence: str | None, locus: str) -> dict[str, str]:
    if sequence is None:
        return {"genome": assembly}
    return {
        "genome": assembly,
        "twoBitPath": sequence,
        "organism": assembly,
        "scientificName": assembly,
        "description": assembly,
        "defaultPos": locus,
    }


def session_text(tracks: Sequence[BrowserTrack], assembly: str, locus: str) -> str:
    """Return a session of IGV: an XML document."""
    session = ElementTree.Element("Session", genome=assembly, locus=locus, version="8")
    resources = ElementTree.SubElement(session, "Resources")
    panel = ElementTree.SubElement(session, "Panel", name="DataPanel", height="400", width="1200")
    for track in tracks:
        signal = not track.columns
        ElementTree.SubElement(resources, "Resource", path=track.file, type="bw" if signal else "bb")
        shown = ElementTree.SubElement(
            panel,
            "Track",
            id=track.file,
            name=track.label,
            color=track.colour,
            visible="true",
            clazz="org.broad.igv.track." + ("DataSourceTrack" if signal else "FeatureTrack"),
        )
        if signal:
            # IGV fits the axis to what is in view unless it is told not to: noise would look like calls
            shown.attrib |= {
                "autoScale": "false",
                "renderer": "BAR_CHART",
                "windowFunction": "max",
                "height": "80",
            }
            low, high = (f"{limit:g}" for limit in track.limits)
            ElementTree.SubElement(
                shown,
                "DataRange",
                baseline="0",
                drawBaseline="true",
                minimum=low,
                maximum=high,
                type="LINEAR",
            )
        else:
            shown.attrib |= {"displayMode": "COLLAPSED"}
    ElementTree.indent(session)
    text = ElementTree.tostring(session, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8" standalone="no"?>\n{text}\n'


def around(start: int, end: int, length: int) -> tuple[int, int]:
    """Return what to show of a locus, counted from 1 and closed: with its length and 200 bases at each side."""
    beside = 200 + end - start
    return max(1, start + 1 - beside), min(length, end + beside)


def start_locus(calls: Mapping[str, np.ndarray], lengths: Mapping[str, int]) -> str:
    """Return where a browser opens: at the strongest call, or at the first contig."""
    best = None
    for contig, rows in calls.items():
        at = int(np.argmax(np.nan_to_num(rows["mean"])))
        if best is None or rows["mean"][at] > best[0]:
            best = (rows["mean"][at], contig, int(rows["start"][at]), int(rows["end"][at]))
    if best is None:
        return next(iter(lengths))
    low, high = around(best[2], best[3], lengths[best[1]])
    return f"{best[1]}:{low}-{high}"


def _settings(track: BrowserTrack) -> dict[str, str]:
    settings = {
        "track": track.name,
        "shortLabel": track.label[:17],  # the browser cuts it there
        "longLabel": track.about[:76],
        "bigDataUrl": track.file,
        "color": track.colour,
    }
    if track.columns:
        coloured = {"itemRgb": "on"} if track.columns.startswith("9") else {}
        return {**settings, "type": f"bigBed {track.columns}", "visibility": "pack", **coloured}
    low, high = (f"{limit:g}" for limit in track.limits)
    return {
        **settings,
        "type": f"bigWig {low} {high}",
        "visibility": "full",
        "viewLimits": f"{low}:{high}",
        "autoScale": "off",
        "alwaysZero": "on",
        "maxHeightPixels": "128:48:16",
        "windowingFunction": "maximum",
    }


def _stanza(settings: Mapping[str, str]) -> str:
    return "".join(f"{key} {value}\n" for key, value in settings.items())
